//! The result of a verification, as text for people and as JSON.
//!
//! It states what was proven and up to when, never only that all is well.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::anchor::Anchor;
use super::folder::ReadError;
use super::problem::records;
use super::verify::{Verification, verify};
use crate::support::printable::printable;

/// What a log that is consistent and anchored shows. The documents, `verify.py` and every report use these words.
pub const CLAIM: &str = "It shows that nothing older than the newest checkpoint kept elsewhere was changed or removed. \
                         What this machine writes after that, and whether it told the truth in the first place, rests \
                         on the machine.";

/// The result in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Consistent, and compared with an anchor.
    Anchored,
    /// Consistent, but there was no anchor to compare it with.
    NotAnchored,
    /// Something is wrong.
    Inconsistent,
}

/// What was found of some logs.
#[derive(Clone, Debug)]
pub struct Conclusion {
    pub logs: Vec<Verification>,
    /// The origins that are of none of these logs, with the number of their anchors.
    pub foreign: BTreeMap<String, usize>,
}

impl Conclusion {
    /// Verifies the logs in these folders and the logs that continue them.
    ///
    /// # Errors
    ///
    /// A folder has no log, or a file of one cannot be read.
    pub fn of(folders: &[PathBuf], anchors: &[Anchor]) -> Result<Self, ReadError> {
        let mut logs = Vec::new();
        for folder in folders {
            logs.extend(verify(folder, anchors)?);
        }
        let known: BTreeSet<_> = logs.iter().filter_map(|log| log.origin.as_deref()).collect();
        let mut foreign = BTreeMap::new();
        for anchor in anchors.iter().filter(|anchor| !known.contains(&*anchor.checkpoint.origin)) {
            *foreign.entry(anchor.checkpoint.origin.clone()).or_default() += 1;
        }
        Ok(Self { logs, foreign })
    }

    /// The worst outcome of all logs: each needs an anchor of its own.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.logs.iter().map(outcome).max().unwrap_or(Outcome::NotAnchored)
    }

    /// The document for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let logs: Vec<_> = self.logs.iter().map(log_json).collect();
        let foreign: Vec<_> =
            self.foreign.iter().map(|(origin, anchors)| json!({"origin": origin, "anchors": anchors})).collect();
        json!({"outcome": self.outcome().as_str(), "logs": logs, "anchors_of_other_logs": foreign, "claim": CLAIM})
    }
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Anchored => "consistent_and_anchored",
            Self::NotAnchored => "consistent_but_not_anchored",
            Self::Inconsistent => "inconsistent",
        }
    }
}

/// The text for people.
impl fmt::Display for Conclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for log in &self.logs {
            writeln!(f, "{}", LogText(log))?;
        }
        for (origin, anchors) in &self.foreign {
            let (anchors, are) =
                if *anchors == 1 { ("1 anchor".to_owned(), "is") } else { (format!("{anchors} anchors"), "are") };
            writeln!(f, "{anchors} of the log {} {are} not used: this log was not given.\n", printable(origin))?;
        }
        if self.outcome() != Outcome::Anchored {
            writeln!(f, "What a log that is consistent and anchored shows:")?;
        }
        writeln!(f, "{CLAIM}")
    }
}

fn outcome(log: &Verification) -> Outcome {
    match (log.is_consistent(), log.anchored.is_empty()) {
        (false, _) => Outcome::Inconsistent,
        (true, true) => Outcome::NotAnchored,
        (true, false) => Outcome::Anchored,
    }
}

/// The text about one log.
struct LogText<'a>(&'a Verification);

impl fmt::Display for LogText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = self.0;
        if log.simulated {
            writeln!(f, "SIMULATED: this log is of a simulated cloud and is no evidence of real keys.")?;
        }
        let origin = log.origin.as_deref().unwrap_or("a log of unknown origin");
        writeln!(f, "{} in {}", printable(origin), printable(&log.folder.display().to_string()))?;
        if let Some(continues) = &log.continues {
            writeln!(f, "  continues   {}, which could not be continued itself", printable(continues))?;
        }
        let numbers = match log.size.checked_sub(1) {
            Some(last) if last >= log.first => format!(", of which numbers {} to {last} are here", log.first),
            _ => String::new(),
        };
        writeln!(f, "  records     {}{numbers}", log.size)?;
        if log.first > 0 {
            let before = log.first - 1;
            writeln!(f, "  pruned      numbers 0 to {before} are not here: they were moved or pruned")?;
        }
        writeln!(f, "  root        {}", log.root)?;
        match &log.signed {
            Some(signed) => {
                let at = log.signed_at.as_ref().map_or(String::new(), |at| format!(", signed {}", printable(at)));
                writeln!(f, "  checkpoint  over {}{at}", records(signed.size))?;
            }
            None => writeln!(f, "  checkpoint  none yet")?,
        }
        if log.unsigned() > 0 {
            writeln!(f, "  unsigned    {} not yet signed", records(log.unsigned()))?;
        }
        if log.incomplete > 0 {
            writeln!(
                f,
                "  incomplete  {} bytes after the last record: a write was cut or is under way",
                log.incomplete
            )?;
        }
        writeln!(f, "  anchors     {}", anchors(log))?;
        for problem in &log.problems {
            writeln!(f, "  {}", printable(&problem.to_string()))?;
        }
        writeln!(f, "  {}", statement(log))
    }
}

/// Which anchors were checked.
fn anchors(log: &Verification) -> String {
    let mut text = match log.anchored.len() {
        0 => "none that agrees with it".to_owned(),
        1 => "1 agrees with it".to_owned(),
        number => format!("{number} agree with it"),
    };
    if let Some(newest) = log.anchored.last() {
        let _ = write!(text, ", the newest over {}", records(newest.checkpoint.size));
    }
    if !log.too_old.is_empty() {
        let _ = write!(text, "; {} older than the first record here, not checked", log.too_old.len());
    }
    text
}

/// What is proven, and up to when.
fn statement(log: &Verification) -> String {
    let proven = log.anchored.last().map(|newest| {
        let last = newest.checkpoint.size.saturating_sub(1);
        let until = newest.until.as_ref().map_or(String::new(), |until| format!(" of {}", printable(until)));
        format!("up to record number {last}{until}")
    });
    match (outcome(log), proven) {
        (Outcome::Anchored, Some(proven)) => {
            format!("CONSISTENT AND ANCHORED: {proven}, no record was changed or removed.")
        }
        (Outcome::Inconsistent, Some(proven)) => {
            format!("INCONSISTENT. {}, the records are those of an anchor.", capitalised(&proven))
        }
        (Outcome::Inconsistent, None) => "INCONSISTENT.".to_owned(),
        (_, _) if log.signed.is_none() => {
            "CONSISTENT, NOT ANCHORED: no record is signed yet, so nothing shows that they are unchanged.".to_owned()
        }
        (Outcome::NotAnchored | Outcome::Anchored, _) => "CONSISTENT, NOT ANCHORED: the records are those that the \
             log's key has signed. A holder of that key can have changed all of them: only an anchor that is kept \
             elsewhere shows that they are unchanged."
            .to_owned(),
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

fn log_json(log: &Verification) -> Value {
    let anchored = log.anchored.iter().map(|anchored| {
        let checkpoint = &anchored.checkpoint;
        json!({"size": checkpoint.size, "root": checkpoint.root, "until": anchored.until})
    });
    let too_old = log.too_old.iter().map(|checkpoint| json!({"size": checkpoint.size, "root": checkpoint.root}));
    let signed =
        log.signed.as_ref().map(|signed| json!({"size": signed.size, "root": signed.root, "at": log.signed_at}));
    json!({
        "simulated": log.simulated,
        "folder": log.folder.display().to_string(),
        "origin": log.origin,
        "continues": log.continues,
        "outcome": outcome(log).as_str(),
        "first_record": log.first,
        "records": log.size,
        "root": log.root,
        "checkpoint": signed,
        "unsigned_records": log.unsigned(),
        "incomplete_bytes": log.incomplete,
        "anchors": anchored.collect::<Vec<_>>(),
        "anchors_too_old": too_old.collect::<Vec<_>>(),
        "problems": log.problems.iter().map(super::problem::Problem::json).collect::<Vec<_>>(),
    })
}
