//! Reads a policy without the entries of its projects, for `init`, which proposes these entries.
//!
//! The fields are checked as in every policy; only `keys` may be missing, and is not decoded if it is there. The other
//! fields are returned as text in the order of the file, so that nothing of them is lost. Their comments are not kept.

use std::path::Path;
use std::time::SystemTime;

use super::document;
use super::types::Policy;
use super::{PolicyRefused, read_file};
use crate::rotation::project::Mode;
use crate::yaml::decode::Decoder;
use crate::yaml::tree::{Node, Value};
use crate::yaml::{self, Problems, write};

/// The field of a project that `init` writes.
pub(super) const KEYS: &str = "keys";
/// `init` writes `mode: monitor` at the top of the file, which no other mode may contradict.
const MODE: &str = "mode";
const PROJECTS: &str = "projects";
/// Its mapping has fields of projects.
const DEFAULTS: &str = "defaults";

/// Blanks before the fields of a project.
const PROJECT_INDENT: usize = 4;

/// A policy without entries, and its text.
pub(crate) struct PolicyHead {
    /// Its projects have no entries.
    pub(crate) policy: Policy,
    /// The fields at the top level but `mode` and `projects`; empty if there are none. No mode in it enforces.
    pub(crate) top: String,
    /// The fields of each project but `keys` and a mode that enforces, as an item of the list `projects`.
    pub(crate) projects: Vec<String>,
}

/// Reads the head of the policy file at `path`; the result has the warnings as well.
///
/// # Errors
///
/// The file cannot be read, or is not valid.
pub(crate) fn load_head(
    path: &Path,
    environment: impl Fn(&str) -> Option<String>,
    now: SystemTime,
) -> Result<(PolicyHead, Problems), PolicyRefused> {
    let bytes = read_file(path)?;
    read_head(&bytes, &path.display().to_string(), environment, now).map_err(PolicyRefused::Invalid)
}

/// The same from the bytes of a file; `file` is its name in problems.
///
/// # Errors
///
/// The bytes are not a valid policy.
pub(crate) fn read_head(
    bytes: &[u8],
    file: &str,
    environment: impl Fn(&str) -> Option<String>,
    now: SystemTime,
) -> Result<(PolicyHead, Problems), Problems> {
    yaml::read(bytes, file, &environment, now, "a policy with `projects`", |decoder, root| {
        decoder.ignored = Some(KEYS);
        let policy = document::policy(decoder, root)?;
        Some(with_text(decoder, root, policy))
    })
}

fn with_text(decoder: &Decoder<'_>, root: &Node<'_>, policy: Policy) -> PolicyHead {
    let mut head = PolicyHead { policy, top: String::new(), projects: Vec::new() };
    for pair in pairs(root) {
        match pair.0.text() {
            Some(MODE) => {}
            Some(PROJECTS) => {
                let Value::List(projects) = &pair.1.value else { continue };
                head.projects.extend(projects.iter().map(|project| item(decoder, project)));
            }
            Some(DEFAULTS) => {
                let mut fields = String::new();
                write::fields(&mut fields, decoder.source, monitored(&pair.1), 2);
                if !fields.is_empty() {
                    head.top.extend([DEFAULTS, ":\n", &fields]);
                }
            }
            _ => write::fields(&mut head.top, decoder.source, [pair], 0),
        }
    }
    head
}

/// A project as an item of a list.
fn item(decoder: &Decoder<'_>, project: &Node<'_>) -> String {
    let mut text = String::new();
    let fields = monitored(project).filter(|(key, _)| key.text() != Some(KEYS));
    write::fields(&mut text, decoder.source, fields, PROJECT_INDENT);
    write::list_item(&mut text, 0, PROJECT_INDENT - 2);
    text
}

/// The fields of a mapping.
fn pairs<'n, 't>(node: &'n Node<'t>) -> &'n [(Node<'t>, Node<'t>)] {
    match &node.value {
        Value::Mapping(pairs) => pairs,
        _ => &[],
    }
}

/// The fields of a mapping without a mode that enforces. `mode: monitor` stays: it holds when the one at the top of the
/// file has been removed.
fn monitored<'n, 't>(node: &'n Node<'t>) -> impl Iterator<Item = &'n (Node<'t>, Node<'t>)> {
    pairs(node).iter().filter(|(key, value)| key.text() != Some(MODE) || value.text() == Some(Mode::Monitor.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy;

    fn head(text: &str) -> Result<PolicyHead, String> {
        read_head(text.as_bytes(), "p", |_| Some("/run".to_owned()), SystemTime::UNIX_EPOCH)
            .map(|(head, _)| head)
            .map_err(|problems| problems.to_string())
    }

    const TEXT: &str = "mode: enforce\nschedule: {cron: \"*/5 * * * *\"} # often\nprojects:\n- &p\n  name: 'a: b'\n  cloud: \
                        huawei-cloud\n  region: cn-north-4\n  mode: monitor\n  keys: [nonsense]\n  credentials: {password: \
                        {user_name: ü, domain_name: \"true\", password_file: \"${SECRETS}/p\"}}\n- name: c\n  cloud: \
                        huawei-cloud\n  region: cn-north-4\n  mode: enforce\n  project_id: 1234567890123456789012345678e100\n  \
                        credentials: {environment: {}}\n";

    #[test]
    fn projects_need_no_keys_and_those_that_are_there_are_ignored() {
        let head = head(TEXT).unwrap();
        assert!(head.policy.projects.iter().all(|project| project.keys.is_empty()));
        assert_eq!(head.top, "schedule:\n  cron: \"*/5 * * * *\"\n");
        assert_eq!(
            head.projects,
            [
                "  - name: \"a: b\"\n    cloud: huawei-cloud\n    region: cn-north-4\n    mode: monitor\n    credentials:\n      password:\n        \
                 user_name: \"ü\"\n        domain_name: \"true\"\n        password_file: \"${SECRETS}/p\"\n",
                "  - name: c\n    cloud: huawei-cloud\n    region: cn-north-4\n    project_id: \
                 1234567890123456789012345678e100\n    credentials:\n      environment: {}\n",
            ]
        );
    }

    #[test]
    fn the_text_with_entries_is_the_same_policy() {
        let head = head(TEXT).unwrap();
        let keys = "    keys:\n      - select: {}\n        rotation_interval: 90\n";
        let projects: String = head.projects.iter().flat_map(|project| [project, keys]).collect();
        let whole = format!("{}projects:\n{projects}", head.top);
        let (policy, _) =
            policy::read(whole.as_bytes(), "p", |_| Some("/run".to_owned()), SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(policy.schedule, head.policy.schedule);
        for (read, expected) in policy.projects.iter().zip(&head.policy.projects) {
            assert_eq!((&read.name, &read.credentials), (&expected.name, &expected.credentials));
            assert_eq!((&read.project_id, read.keys.len()), (&expected.project_id, 1));
        }
    }

    #[test]
    fn all_other_fields_are_checked() {
        let text = TEXT.replace("region: cn-north-4", "regoin: cn-north-4");
        let problems = head(&text).err().unwrap();
        assert!(problems.contains("unknown field `regoin`"), "{problems}");
        assert!(!problems.contains("missing field"), "{problems}");
        assert!(
            policy::read(TEXT.as_bytes(), "p", |_| None, SystemTime::UNIX_EPOCH).is_err(),
            "for others it is required"
        );
    }
}
