//! The page of one key: what is wrong and what to do, its setting, its entry of the policy, and its history.

use askama::Template;

use super::rows::{Interval, KeyRow, LastRotation};
use super::{SCRIPT, STYLE, Shown, append, day_and_time, minute, prose};
use crate::rotation::assignment::Subject;
use crate::rotation::decide::Reason;
use crate::rotation::remedies;
use crate::rotation::report::{KeyReport, ProjectReport};
use crate::support::version::VERSION;
use crate::views::history::{HistorySource, KeyHistory};
use crate::views::query::PageQuery;
use crate::views::snapshot::Snapshot;
use crate::views::wording;

/// The page of a key that the last run reports, or that the first run has already read; `None` for each other key.
pub(crate) fn key_page(snapshot: &Snapshot, project: &str, key: &str, history: &KeyHistory) -> Option<Vec<u8>> {
    let shown = Shown::of(snapshot)?;
    let project = shown.report.projects.iter().find(|known| *known.name == *project)?;
    let key = project.keys.iter().find(|known| known.subject.as_str() == key)?;
    let row = KeyRow { project, key, opens_remedy: true };
    let mut page = Vec::with_capacity(32 * 1024);
    append(&KeyPage { snapshot, project, key, row, history }, &mut page);
    Some(page)
}

#[derive(Template)]
#[template(path = "views/page/key.html")]
struct KeyPage<'a> {
    snapshot: &'a Snapshot,
    project: &'a ProjectReport,
    key: &'a KeyReport,
    row: KeyRow<'a>,
    history: &'a KeyHistory,
}

impl KeyPage<'_> {
    /// What the key is called.
    fn name(&self) -> &str {
        self.key.alias.as_deref().unwrap_or(self.key.subject.as_str())
    }

    fn project_address(&self) -> String {
        PageQuery::default().with_project(&self.project.name).address()
    }

    /// The lines of the entry of the policy that decides for the key.
    fn entry(&self) -> Vec<&str> {
        let entry = || entry(self.snapshot.policy_text.as_deref()?, self.key.entry_line?);
        let lines: Vec<_> = entry().into_iter().flat_map(str::lines).collect();
        let indentation = lines.first().map_or(0, |line| line.len() - line.trim_start().len());
        lines.into_iter().map(|line| line.get(indentation..).unwrap_or(line)).collect()
    }

    /// How often the cloud has rotated it, if it ever did.
    fn rotations(&self) -> Option<u64> {
        self.key.rotation.and_then(|rotation| rotation.rotations).filter(|rotations| *rotations > 0)
    }

    fn reasons(&self) -> impl Iterator<Item = Reason> {
        remedies::actionable(self.key.reasons)
    }
}

/// The item of a list that begins in this line of a YAML document, counted from 1.
fn entry(text: &str, line: u32) -> Option<&str> {
    let start = match usize::try_from(line).ok()?.checked_sub(1)? {
        0 => 0,
        before => text.match_indices('\n').nth(before - 1)?.0 + 1,
    };
    let rest = text.get(start..)?;
    let indentation = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let own = indentation(rest);
    let mut end = 0;
    for (at, line) in rest.split_inclusive('\n').enumerate() {
        let is_inside = at == 0 || (indentation(line) > own && !line.trim().is_empty());
        if !is_inside {
            break;
        }
        end += line.len();
    }
    rest.get(..end).map(str::trim_end).filter(|entry| !entry.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_cut_out_of_the_policy() {
        let text = "projects:\n  - name: p\n    keys:\n      - alias: a\n        # why\n        rotation_interval: 90\n      - \
                    {alias: b, rotation_interval: 30}\n\n  - name: q\n";
        assert_eq!(entry(text, 4), Some("      - alias: a\n        # why\n        rotation_interval: 90"));
        assert_eq!(entry(text, 7), Some("      - {alias: b, rotation_interval: 30}"));
        assert_eq!(entry("- a: 1\n  b: 2\n- c: 3", 1), Some("- a: 1\n  b: 2"));
        for line in [0, 11, 12, 99] {
            assert_eq!(entry(text, line), None, "{line}");
        }
    }
}
