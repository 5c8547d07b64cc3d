//! Reports conflicts between parts of a policy that are valid on their own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::calendar::Calendar;
use super::draft::{Draft, ProjectIdentity};
use crate::rotation::key::SECONDS_PER_DAY;
use crate::support::duration::duration_text;
use crate::yaml::decode::Decoder;
use crate::yaml::source::Span;
use crate::yaml::wording::quoted;

/// The request rate that KMS documents for one user; it answers more with 429.
const CLOUD_REQUESTS_PER_SECOND: f64 = 20.0;

/// Reports every conflict. `rate` is the request rate, if the policy sets it.
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
        never_rotating(decoder, drafts, calendar);
    }
    if let Some((rate, span)) = rate {
        request_rate(decoder, drafts, rate, span);
    }
}

fn names(decoder: &mut Decoder<'_>, drafts: &[Draft]) {
    let mut first = HashMap::new();
    for (name, span) in drafts.iter().filter_map(|draft| draft.name.as_ref()) {
        if let Some(first) = first.get(name) {
            let message = format!("duplicate project name {}", quoted(name));
            decoder.error(*span, message).related("first used", *first).help("rename one of the projects");
        } else {
            first.insert(name, *span);
        }
    }
}

/// A key id is unique in a region, so it must be listed once in all projects of the same identity.
fn keys(decoder: &mut Decoder<'_>, drafts: &[Draft]) {
    let identities = same_projects(drafts, |_| true);
    repeated(decoder, drafts, &identities, |draft| &draft.key_ids, |key_id| format!("key {key_id}"));
}

/// An alias is unique in a project. Projects identified only by a name may belong to different accounts.
fn aliases(decoder: &mut Decoder<'_>, drafts: &[Draft]) {
    let identities = same_projects(drafts, |identity| matches!(identity, ProjectIdentity::Id(_)));
    repeated(decoder, drafts, &identities, |draft| &draft.aliases, |alias| format!("alias {}", quoted(alias)));
}

/// For each project the index of the first project with the same identity. Only identities with `counts` are compared.
fn same_projects(drafts: &[Draft], counts: impl Fn(&ProjectIdentity) -> bool) -> Vec<usize> {
    let mut first = HashMap::new();
    let of = |(at, draft): (usize, &'_ Draft)| match &draft.identity {
        Some((cloud, region, identity)) if counts(identity) => {
            *first.entry((cloud.as_str(), Arc::clone(region), identity.clone())).or_insert(at)
        }
        _ => at,
    };
    drafts.iter().enumerate().map(of).collect()
}

/// Reports what is listed twice in projects of the same identity.
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
    // Sorted instead of hashed: this needs a tenth of the memory and keeps the order of the file.
    listed.sort_unstable();
    for same in listed.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let Some(((_, named, first_project, first), repeated)) = same.split_first() else { continue };
        for (_, _, project, span) in repeated {
            let what = what(named);
            let message = if project == first_project {
                format!("{what} is listed twice in this project")
            } else {
                let identity = drafts[*project].identity.as_ref().map_or("name", |(_, _, identity)| identity.what());
                format!("{what} is also in another project with the same cloud, region and {identity}")
            };
            decoder.error(*span, message).related("first listed", *first).help("remove one of the entries");
        }
    }
}

/// Of selectors with the same conditions only the first applies, unless it is an exemption with an end.
fn selectors(decoder: &mut Decoder<'_>, drafts: &[Draft]) {
    for draft in drafts {
        let mut applying: HashMap<_, Span> = HashMap::new();
        for selected in &draft.selectors {
            if let Some(first) = applying.get(&selected.selector) {
                let message = "this selector never applies: an earlier one has the same conditions";
                decoder.error(selected.span, message).related("earlier selector", *first).help("remove one of them");
            } else if !selected.ends {
                applying.insert(&selected.selector, selected.span);
            }
        }
    }
}

/// Precedence is defined between the entries of one project only: entries of two projects would change a key in turn.
fn overlaps(decoder: &mut Decoder<'_>, drafts: &[Draft]) {
    let selects = |draft: &Draft| !draft.selectors.is_empty() || !draft.aliases.is_empty();
    let identities = same_projects(drafts, |identity| matches!(identity, ProjectIdentity::Id(_)));
    for (at, first) in identities.into_iter().enumerate().filter(|(at, first)| at != first) {
        let (draft, first) = (&drafts[at], &drafts[first]);
        let (Some((_, span)), Some((_, first_span))) = (&draft.name, &first.name) else { continue };
        if selects(draft) || selects(first) {
            let message =
                "another project has the same cloud, region and project_id: entries of both may match the same keys";
            let finding = decoder.warning(*span, message);
            finding.related("other project", *first_span).help("move all entries into one project");
        }
    }
}

/// Each write of the interval restarts the cloud's rotation period, so the key rotates only if two runs are further
/// apart than its interval.
fn never_rotating(decoder: &mut Decoder<'_>, drafts: &[Draft], calendar: &Calendar) {
    let mut always = drafts.iter().flat_map(|draft| &draft.always).peekable();
    if always.peek().is_none() {
        return;
    }
    let gap = calendar.longest_gap();
    for (interval, span) in always.filter(|(interval, _)| gap.as_secs() < interval.as_seconds()) {
        let message = format!(
            "`reapply: always` restarts the {interval} in every run, and runs are at most {} apart: the key would \
             never rotate",
            in_words(gap)
        );
        decoder.warning(*span, message).help("use `on_drift`");
    }
}

fn request_rate(decoder: &mut Decoder<'_>, drafts: &[Draft], rate: f64, span: Span) {
    let in_the_cloud = drafts.iter().any(|draft| !draft.loopback);
    if rate > CLOUD_REQUESTS_PER_SECOND && in_the_cloud {
        let message = format!(
            "`requests_per_second` is {rate}, expected at most {CLOUD_REQUESTS_PER_SECOND}: the cloud allows no more for one user"
        );
        decoder.warning(span, message);
    }
}

fn in_words(gap: Duration) -> String {
    let days = gap.as_secs() / SECONDS_PER_DAY;
    if days >= 2 { format!("{days} days") } else { duration_text(gap) }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use crate::policy;

    const KEY: &str = "{key_id: 0d0466b0-e727-4d9c-b35d-f84bb474a37f, rotation_interval: 90, reapply: REAPPLY}";

    /// The problems of a policy with one key in each project; `projects` has the cloud and region of each.
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
        assert_eq!(problems("", &[otc, otc, otc], "on_drift").len(), 2, "each repetition is reported");
    }

    #[test]
    fn a_pause_longer_than_the_interval_lets_a_key_rotate() {
        let otc = ["cloud: open-telekom-cloud, region: eu-de"];
        let never_rotating = |cron| problems(&format!("schedule: {{cron: '{cron}'}}"), &otc, "always").len();
        assert_eq!(never_rotating("0 3 1 1,7 *"), 0);
        assert_eq!(never_rotating("0 3 1 */2 *"), 1, "62 days are not 90");
        assert_eq!(never_rotating("0 3 * 1-9 *"), 0, "three months without a run");
        assert!(problems("", &["cloud: flexible-engine, region: eu-west-0, mode: monitor"], "always").is_empty());
    }

    #[test]
    fn any_rate_is_accepted_for_a_simulator_on_this_machine() {
        let head = "limits: {requests_per_second: 5000}";
        let here = "cloud: huawei-cloud, region: eu-de, kms_endpoint: 'http://127.0.0.1:8080'";
        let there = "cloud: huawei-cloud, region: eu-west-101";
        assert!(problems(head, &[here], "on_drift").is_empty());
        let warned = ["`requests_per_second` is 5000, expected at most 20: the cloud allows no more for one user"];
        assert_eq!(problems(head, &[here, there], "on_drift"), warned);
    }
}
