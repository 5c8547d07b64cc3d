//! Writes the proposed policy as YAML with comments.

use std::fmt::Write as _;

use super::proposal::{Entry, Proposal};
use crate::policy::PolicyHead;
use crate::rotation::key::Bound;
use crate::rotation::rule::{Matcher, Selector};
use crate::yaml::write::{comment, list_item, scalar};

/// Blanks before an entry of `keys`.
const INDENT: usize = 6;

/// The text of a policy with these projects: the head of the file, and for each of its projects the proposal. `notes`
/// are comments at the top.
pub(super) fn policy(head: &PolicyHead, proposals: &[Proposal], notes: &[String]) -> String {
    let mut out = String::new();
    comment(
        &mut out,
        0,
        "Proposed by `kms-rotationd init`. With `mode: monitor` nothing is written. Read the comments, correct the entries, and run \
         `kms-rotationd check` and `kms-rotationd plan`: under \"would change if enforced\", `plan` lists what this policy would \
         change. Then remove the line `mode: monitor`.",
    );
    for note in notes {
        out.push_str("#\n");
        comment(&mut out, 0, note);
    }
    out.push_str("mode: monitor\n\n");
    if !head.top.lines().any(|line| line.starts_with("schedule:")) {
        out.push_str("# When the daemon checks every key; this is the default.\n");
        out.push_str("# schedule: {cron: \"*/30 * * * *\", timezone: UTC}\n\n");
    }
    out.push_str(&head.top);
    out.push_str("projects:\n");
    for (project, Proposal { entries, notes }) in head.projects.iter().zip(proposals) {
        out.push_str(project);
        out.push_str("    keys:\n");
        for (at, entry) in entries.iter().enumerate() {
            if at > 0 {
                out.push('\n');
            }
            self::entry(&mut out, entry);
        }
        if !notes.is_empty() {
            out.push('\n');
        }
        for note in notes {
            comment(&mut out, INDENT, note);
        }
    }
    out
}

fn entry(out: &mut String, Entry { matcher, desired, comments }: &Entry) {
    for text in comments {
        comment(out, INDENT, text);
    }
    let begin = out.len();
    let mut field = |name: &str, value: &str| {
        let _ = writeln!(out, "{:INDENT$}  {name}: {value}", "");
    };
    match matcher {
        Matcher::Key(key_id) => field("key_id", &scalar(key_id.as_str())),
        Matcher::Alias(alias) => field("alias", &scalar(alias)),
        Matcher::Select(selector) => field("select", &conditions(selector)),
    }
    let days = desired.interval.days().to_string();
    match desired.bound {
        Bound::Exact => field("rotation_interval", &days),
        Bound::Longest => field("max_rotation_interval", &days),
    }
    list_item(out, begin, INDENT);
}

/// The conditions of a selector on one line.
fn conditions(Selector { alias, tags, enterprise_project_id, key_spec }: &Selector) -> String {
    let mut conditions = Vec::new();
    conditions.extend(alias.as_ref().map(|glob| format!("alias: {}", in_flow(glob.as_str()))));
    let tag = |value: &Option<Box<str>>| in_flow(value.as_deref().unwrap_or("*"));
    let tags: Vec<_> =
        tags.iter().map(|condition| format!("{}: {}", in_flow(&condition.key), tag(&condition.value))).collect();
    if !tags.is_empty() {
        conditions.push(format!("tags: {{{}}}", tags.join(", ")));
    }
    conditions.extend(enterprise_project_id.as_ref().map(|id| format!("enterprise_project_id: {}", in_flow(id))));
    conditions.extend(key_spec.as_ref().map(|spec| format!("key_spec: {}", in_flow(spec))));
    format!("{{{}}}", conditions.join(", "))
}

/// A text within braces. Some YAML readers end a text without quotes at a colon there.
fn in_flow(text: &str) -> String {
    let scalar = scalar(text);
    if scalar.contains(':') && !scalar.starts_with('"') { format!("\"{scalar}\"") } else { scalar }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::super::account::{Account, Today};
    use super::super::code_match::{MatchedKey, PolicyProject, match_keys};
    use super::super::heads::environment_project;
    use super::super::proposal::{Bounds, propose};
    use super::super::terraform::{CodeKey, CodeRotation};
    use super::super::tests::{account, days, key};
    use super::*;
    use crate::policy::{self, Policy};
    use crate::rotation::assignment::{Listing, assign_rules};
    use crate::rotation::key::{RotationBlocker, RotationInterval};
    use crate::rotation::project::Cloud;
    use crate::rotation::rule::Requirement;

    fn head() -> PolicyHead {
        let project = environment_project("a: b", Cloud::HuaweiCloud, "cn-north-4", None);
        let text = format!("projects:\n{project}");
        policy::read_head(text.as_bytes(), "p", |_| None, SystemTime::UNIX_EPOCH).unwrap().0
    }

    fn read(text: &str) -> Policy {
        match policy::read(text.as_bytes(), "p", |_| None, SystemTime::UNIX_EPOCH) {
            Ok((policy, warnings)) if warnings.is_empty() => policy,
            Ok((_, problems)) | Err(problems) => panic!("{problems}\n{text}"),
        }
    }

    #[test]
    fn a_policy_reads_as_a_person_would_have_written_it() {
        let at = |name: &str, tags: &[(&str, &str)], days| key(name, tags, Today::On(Some(days)));
        let keys = [
            at("a", &[("pci", "true")], 90),
            at("b", &[("pci", "true")], 90),
            at("c", &[("pci", "true")], 90),
            at("web", &[], 365),
        ];
        let code = MatchedKey {
            address: "k.web".to_owned(),
            matcher: Matcher::Key(keys[3].listed.key_id),
            rotation: CodeRotation::Interval(days(180)),
        };
        let id = keys[3].listed.key_id;
        let all = [keys.to_vec(), vec![key("old", &[], Today::Off)]].concat();
        let proposal = propose(&account(all), &[code], Bounds { ceiling: days(365), max_changes_per_run: 50 });
        let text = policy(&head(), &[proposal], &[]);
        let begin = text.find("projects:").unwrap();
        assert_eq!(
            &text[begin..],
            format!(
                "projects:
  - name: \"a: b\"
    cloud: huawei-cloud
    region: cn-north-4
    credentials:
      environment: {{}}
    keys:
      # Every key that no other entry matches: at most 365 days.
      # Today: 1 key (off: 1).
      # If enforced, it switches rotation on for 1 key: old.
      - select: {{}}
        max_rotation_interval: 365

      # All keys with the tag pci=true that can rotate do so every 90 days, except those with an
      # entry below.
      # Today: 3 keys (on, 90 days: 3).
      - select: {{tags: {{pci: \"true\"}}}}
        max_rotation_interval: 90

      # k.web (web): the code asks for 180 days.
      # Today: on, 365 days. If enforced, it is set to 180 days.
      - key_id: {id}
        rotation_interval: 180
"
            )
        );
        assert!(text.contains("\nmode: monitor\n"), "{text}");
    }

    fn today() -> impl Strategy<Value = Today> {
        prop_oneof![
            5 => Just(Today::On(Some(90))),
            1 => Just(Today::On(Some(30))),
            1 => any::<Option<u32>>().prop_map(Today::On),
            1 => Just(Today::Off),
            1 => "\\PC{0,9}".prop_map(Today::Unread),
            1 => Just(Today::Blocked(RotationBlocker::Disabled)),
            1 => Just(Today::Blocked(RotationBlocker::DefaultKey)),
        ]
    }

    /// Mostly few different names and tags, so that they are shared, and some of any characters.
    fn name() -> impl Strategy<Value = String> {
        prop_oneof![4 => "(pay|a: b|é|t:)[-/](x|true|\\*)", 1 => any::<String>()]
    }

    fn word() -> impl Strategy<Value = String> {
        prop_oneof![4 => "(true|1|pci|a: b|'|\"|#x|é|\\{)", 1 => any::<String>()]
    }

    fn rotation() -> impl Strategy<Value = CodeRotation> {
        prop_oneof![
            (30_u16..=365).prop_map(|days| CodeRotation::Interval(RotationInterval::from_days(days).unwrap())),
            Just(CodeRotation::Off),
            Just(CodeRotation::Invalid(7)),
        ]
    }

    /// Every key for which a group decides has its interval today, if it can rotate.
    fn assert_groups_change_nothing(policy: &Policy, account: &Account) {
        let listed: Vec<_> = account.keys.iter().map(|key| key.listed.clone()).collect();
        let rules = &policy.projects[0].keys;
        let all = assign_rules(rules, Listing::Complete(&listed), SystemTime::UNIX_EPOCH).all;
        for rule in rules.iter().filter(|rule| matches!(&rule.matcher, Matcher::Select(all) if all.conditions() > 0)) {
            let Requirement::Rotation(desired) = rule.requirement else { panic!("{rule:?}") };
            let decided = all.iter().filter(|assignment| assignment.rule == Some(rule));
            let ids: Vec<_> = decided.filter_map(|assignment| assignment.subject.key_id()).collect();
            let keys = account.keys.iter().filter(|key| ids.contains(&key.listed.key_id));
            for key in keys.filter(|key| !matches!(key.today, Today::Blocked(_))) {
                assert_eq!(key.today, Today::On(Some(u32::from(desired.interval.days()))), "{rule:?} {key:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_policy_is_read_back_with_the_same_entries_and_without_a_warning(
            keys in vec((name(), vec((word(), word()), 0..3), today(), option::weighted(0.2, rotation())), 0..20),
            ceiling in 30_u16..=365,
        ) {
            let mut code = Vec::new();
            let keys: Vec<_> = keys.iter().map(|(name, tags, today, rotation)| {
                let tags: Vec<_> = tags.iter().map(|(key, value)| (&**key, &**value)).collect();
                let key = key(name, &tags, today.clone());
                let matcher = Matcher::Key(key.listed.key_id);
                code.extend(rotation.map(|rotation| MatchedKey { address: name.clone(), matcher, rotation }));
                key
            }).collect();
            let account = account(keys);
            let proposal = propose(&account, &code, Bounds { ceiling: days(ceiling), max_changes_per_run: 1 });
            let expected: Vec<_> = proposal.entries.iter().map(|entry| (entry.matcher.clone(), entry.desired)).collect();
            let read = read(&policy(&head(), &[proposal], &[String::from("x")]));
            let entries: Vec<_> = read.projects[0].keys.iter().map(|rule| match rule.requirement {
                Requirement::Rotation(desired) => (rule.matcher.clone(), desired),
                Requirement::Exempt(_) => panic!("{rule:?}"),
            }).collect();
            prop_assert_eq!(entries, expected);
            assert_groups_change_nothing(&read, &account);
        }

        #[test]
        fn every_name_in_the_code_is_an_entry_or_is_left_out(names in vec(name(), 0..9), rotation in rotation()) {
            let code: Vec<_> = names.iter().map(|name| CodeKey {
                address: name.clone(),
                cloud: Cloud::HuaweiCloud,
                region: None,
                key_id: None,
                alias: Some(name.clone()),
                rotation,
            }).collect();
            let account = Account::default();
            let project = PolicyProject { cloud: Cloud::HuaweiCloud, region: "cn-north-4", account: &account };
            let (matched, others) = match_keys(&code, &[project]);
            prop_assert_eq!(matched[0].len() + others.len(), code.len());
            let proposal = propose(&account, &matched[0], Bounds { ceiling: days(365), max_changes_per_run: 1 });
            let expected = proposal.entries.len();
            prop_assert_eq!(read(&policy(&head(), &[proposal], &others)).projects[0].keys.len(), expected);
        }
    }
}
