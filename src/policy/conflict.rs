//! What is wrong between parts of a policy that are right one by one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::calendar::Calendar;
use super::project::{Draft, Identity};
use crate::rotation::key::SECONDS_PER_DAY;
use crate::yaml::decode::Decoder;
use crate::yaml::problem::quoted;
use crate::yaml::scalar::short;
use crate::yaml::source::Span;

/// What KMS allows one user in a second, as its documentation has it; more is answered with 429.
const CLOUD_REQUESTS_PER_SECOND: f64 = 20.0;

/// Notes every conflict. `rate` is the request rate, where the policy gives one.
pub(super) fn check(
    decoder: &mut Decoder<'_>,
    drafts: &[Draft],
    calendar: Option<&Calendar>,
    rate: Option<(f64, Span)>,
) {
    names(decoder, drafts);
    keys(decoder, drafts);
    aliases(decoder, drafts);
    selectors(decoder, drafts);
    overlaps(decoder, drafts);
    if let Some(calendar) = calendar {
        held_off(decoder, drafts, calendar);
    }
    if let Some((rate, span)) = rate {
        request_rate(decoder, drafts, rate, span);
    }
}

fn names(decoder: &mut Decoder<'_>, drafts: &[Draft]) {
    let mut first = HashMap::new();
    for (name, span) in drafts.iter().filter_map(|draft| draft.name.as_ref()) {
        if let Some(first) = first.get(name) {
            let message = format!("a second project is named {}, expected a name of its own", quoted(name));
            decoder.error(*span, message).related("first named so", *first);
        } else {
            first.insert(name, *span);
        }
    }
}

/// A key id names one key of one account in one region, under however many project names that is listed.
fn keys(decoder: &mut Decoder<'_>, drafts: &[Draft]) {
    let identities = same_projects(drafts, |_| true);
    repeated(decoder, drafts, &identities, |draft| &draft.key_ids, |key_id| format!("key {key_id}"));
}

/// A name is one key's within a project. Where that is known by name only, another account may have both.
fn aliases(decoder: &mut Decoder<'_>, drafts: &[Draft]) {
    let identities = same_projects(drafts, |identity| matches!(identity, Identity::Id(_)));
    repeated(decoder, drafts, &identities, |draft| &draft.aliases, |alias| format!("the key named {}", quoted(alias)));
}

/// For each project the first one of the same identity, where it is one of these, or else itself.
fn same_projects(drafts: &[Draft], tells: impl Fn(&Identity) -> bool) -> Vec<usize> {
    let mut first = HashMap::new();
    let of = |(at, draft): (usize, &'_ Draft)| match &draft.identity {
        Some((cloud, region, identity)) if tells(identity) => {
            *first.entry((cloud.as_str(), Arc::clone(region), identity.clone())).or_insert(at)
        }
        _ => at,
    };
    drafts.iter().enumerate().map(of).collect()
}

/// Notes what is listed twice in a project, under whatever names that goes.
fn repeated<T: Ord>(
    decoder: &mut Decoder<'_>,
    drafts: &[Draft],
    identities: &[usize],
    of: impl Fn(&Draft) -> &[(T, Span)],
    what: impl Fn(&T) -> String,
) {
    let mut listed: Vec<(usize, &T, usize, Span)> =
        Vec::with_capacity(drafts.iter().map(|draft| of(draft).len()).sum());
    for (at, (draft, identity)) in drafts.iter().zip(identities).enumerate() {
        listed.extend(of(draft).iter().map(|(named, span)| (*identity, named, at, *span)));
    }
    // Sorted rather than hashed: a tenth of the memory, and the first of equals is the first in the file.
    listed.sort_unstable();
    for same in listed.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let Some(((_, named, first_project, first), repeated)) = same.split_first() else { continue };
        for (_, _, project, span) in repeated {
            let what = what(named);
            let message = if project == first_project {
                format!("{what} is listed twice in this project, expected once")
            } else {
                let identity = drafts[*project].identity.as_ref().map_or("name", |(_, _, identity)| identity.what());
                format!("{what} is in another project of the same cloud, region and {identity}, expected in one")
            };
            decoder.error(*span, message).related("first listed", *first);
        }
    }
}

/// Of selectors with the same conditions the first one decides, and the second only where that holds for a while.
fn selectors(decoder: &mut Decoder<'_>, drafts: &[Draft]) {
    for draft in drafts {
        let mut deciding: HashMap<_, Span> = HashMap::new();
        for selected in &draft.selectors {
            if let Some(first) = deciding.get(&selected.selector) {
                let message =
                    "an earlier selector has the same conditions, so that this one never decides, expected others";
                decoder.error(selected.span, message).related("the earlier one", *first);
            } else if !selected.ends {
                deciding.insert(&selected.selector, selected.span);
            }
        }
    }
}

/// Entries of one project know of each other, and those of two do not: what both bring in would be set to and fro.
fn overlaps(decoder: &mut Decoder<'_>, drafts: &[Draft]) {
    let selects = |draft: &Draft| !draft.selectors.is_empty() || !draft.aliases.is_empty();
    let identities = same_projects(drafts, |identity| matches!(identity, Identity::Id(_)));
    for (at, first) in identities.into_iter().enumerate().filter(|(at, first)| at != first) {
        let (draft, first) = (&drafts[at], &drafts[first]);
        let (Some((_, span)), Some((_, first_span))) = (&draft.name, &first.name) else { continue };
        if selects(draft) || selects(first) {
            let message = "another project has the same cloud, region and project_id, and entries without a key id may \
                           speak of the same keys, expected all entries in one of them";
            decoder.warning(*span, message).related("the other one", *first_span);
        }
    }
}

/// Each interval write starts the cloud's period anew, so a key is only rotated in a pause of the schedule that is
/// longer than its interval.
fn held_off(decoder: &mut Decoder<'_>, drafts: &[Draft], calendar: &Calendar) {
    let mut always = drafts.iter().flat_map(|draft| &draft.always).peekable();
    if always.peek().is_none() {
        return;
    }
    let gap = calendar.longest_gap();
    for (interval, span) in always.filter(|(interval, _)| gap.as_secs() < interval.as_seconds()) {
        let message = format!(
            "`reapply: always` begins the {interval} anew at every run, and runs are at most {} apart: the key would \
             never rotate, expected `on_drift`",
            in_words(gap)
        );
        decoder.warning(*span, message);
    }
}

fn request_rate(decoder: &mut Decoder<'_>, drafts: &[Draft], rate: f64, span: Span) {
    let in_the_cloud = drafts.iter().any(|draft| !draft.loopback);
    if rate > CLOUD_REQUESTS_PER_SECOND && in_the_cloud {
        let message = format!("{rate} requests a second, expected at most 20: the cloud allows no more to one user");
        decoder.warning(span, message);
    }
}

fn in_words(gap: Duration) -> String {
    let days = gap.as_secs() / SECONDS_PER_DAY;
    if days >= 2 { format!("{days} days") } else { short(gap) }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use crate::policy;

    const KEY: &str = "{key_id: 0d0466b0-e727-4d9c-b35d-f84bb474a37f, rotation_interval: 90, reapply: REAPPLY}";

    /// The problems of a policy with one key in each project, which `projects` says the cloud and region of.
    fn problems(head: &str, projects: &[&str], reapply: &str) -> Vec<String> {
        let project = |(at, cloud): (usize, &&str)| {
            let keys = KEY.replace("REAPPLY", reapply);
            format!(
                "  - {{name: p{at}, {cloud}, project_id: 0123456789abcdef0123456789abcdef, credentials: {{token_file: /t}}, \
                 keys: [{keys}]}}\n"
            )
        };
        let projects: String = projects.iter().enumerate().map(project).collect();
        let text = format!("{head}\nprojects:\n{projects}");
        let found = policy::read(text.as_bytes(), "p", |_| None, SystemTime::UNIX_EPOCH)
            .map_or_else(|problems| problems, |(_, warnings)| warnings);
        found.iter().map(|problem| problem.message.clone()).collect()
    }

    #[test]
    fn a_key_id_in_another_cloud_or_region_is_another_key() {
        let otc = "cloud: open-telekom-cloud, region: eu-de";
        let others = [
            "cloud: open-telekom-cloud, region: eu-nl",
            "cloud: flexible-engine, region: eu-de, kms_endpoint: 'https://kms.example.com'",
        ];
        assert!(problems("", &[otc, others[0], others[1]], "on_drift").is_empty());
        assert_eq!(problems("", &[otc, otc, otc], "on_drift").len(), 2, "each repetition is told");
    }

    #[test]
    fn a_pause_longer_than_the_interval_lets_a_key_rotate() {
        let otc = ["cloud: open-telekom-cloud, region: eu-de"];
        let held_off = |cron| problems(&format!("schedule: {{cron: '{cron}'}}"), &otc, "always").len();
        assert_eq!(held_off("0 3 1 1,7 *"), 0);
        assert_eq!(held_off("0 3 1 */2 *"), 1, "62 days are not 90");
        assert_eq!(held_off("0 3 * 1-9 *"), 0, "three months without a run");
        assert!(problems("", &["cloud: flexible-engine, region: eu-west-0, mode: monitor"], "always").is_empty());
    }

    #[test]
    fn a_simulator_on_this_machine_takes_any_rate() {
        let head = "limits: {requests_per_second: 5000}";
        let here = "cloud: huawei-cloud, region: eu-de, kms_endpoint: 'http://127.0.0.1:8080'";
        let there = "cloud: huawei-cloud, region: eu-west-101";
        assert!(problems(head, &[here], "on_drift").is_empty());
        let warned = ["5000 requests a second, expected at most 20: the cloud allows no more to one user"];
        assert_eq!(problems(head, &[here, there], "on_drift"), warned);
    }
}
