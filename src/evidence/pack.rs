//! The pack for an auditor: one tar file with logs, their public keys, a guide and a verifier in Python.
//!
//! The files of a log are packed by name, so a pack never has a private key. The same logs give the same bytes. It reads
//! folders of logs that may be written meanwhile, and changes and locks nothing.

use std::fmt;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use tar::{Builder, EntryType, Header};

use super::conclusion::CLAIM;
use super::folder::{self, CHECKPOINT, CHECKPOINTS, IDENTITY, ReadError, Segment};
use super::line;
use super::log::{SignedAt, is_simulated};
use super::marks::optional;
use super::note::Checkpoint;
use super::problem::records;
use crate::support::printable::printable;

/// The folder in the pack.
const ROOT: &str = "kms-rotationd-evidence";
const PUBLIC_KEY: &str = "public-key";
const README: &str = include_str!("pack/README.md");
const VERIFIER: &str = include_str!("pack/verify.py");

/// A UTC day, such as 2026-01-31. Its text is the beginning of the times of that day.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(String);

/// The text is not a day.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a day such as 2026-01-31")]
pub struct NotADay;

impl FromStr for Day {
    type Err = NotADay;

    fn from_str(text: &str) -> Result<Self, NotADay> {
        let date: Date = text.parse().map_err(|_| NotADay)?;
        if date.to_string() == text { Ok(Self(text.to_owned())) } else { Err(NotADay) }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The days whose records are wanted, both inclusive. Whole segments are packed.
#[derive(Clone, Debug, Default)]
pub struct Period {
    pub from: Option<Day>,
    pub to: Option<Day>,
}

impl Period {
    fn is_everything(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    fn contains(&self, at: &str) -> bool {
        let day = at.get(..10).unwrap_or(at);
        self.from.as_ref().is_none_or(|from| *from.0 <= *day) && self.to.as_ref().is_none_or(|to| day <= &*to.0)
    }
}

/// Why there is no pack.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No log has records of these days.
    #[error("no log has records of these days")]
    NoRecords,
    /// The pack cannot be written.
    #[error("cannot write the pack")]
    Write(#[source] io::Error),
}

/// What a pack has of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The folder it was read from.
    pub folder: PathBuf,
    /// The name of its folder in the pack.
    pub name: String,
    pub simulated: bool,
    /// The number of segments.
    pub segments: usize,
    /// The number of its first record.
    pub first: u64,
    /// The checkpoint in the pack.
    pub signed: Option<Checkpoint>,
    pub signed_at: Option<String>,
    /// Newer segments were left out, and with them newer checkpoints.
    pub ends_early: bool,
}

/// A log that is about to be packed.
struct Selected {
    about: Packed,
    /// Name and content.
    files: Vec<(&'static str, Vec<u8>)>,
    segments: Vec<Segment>,
    created_at: Option<String>,
}

/// Writes a pack with the logs in these folders, the logs that continue them, and further files.
///
/// # Errors
///
/// A log cannot be read, none has records of these days, or the pack cannot be written.
pub fn pack(
    folders: &[PathBuf],
    period: &Period,
    extra: &[(String, Vec<u8>)],
    out: impl Write,
) -> Result<Vec<Packed>, PackError> {
    let mut logs = Vec::new();
    for folder in folders {
        folder::expect_log(folder)?;
        for folder in folder::with_successors(folder)? {
            // A log without records of these days is left out.
            if let Some(mut log) = select(&folder, period)? {
                log.about.name = free_name(log.about.name, &logs);
                logs.push(log);
            }
        }
    }
    if logs.is_empty() {
        return Err(PackError::NoRecords);
    }
    let times = logs.iter().filter_map(|log| log.about.signed_at.as_ref().max(log.created_at.as_ref()));
    let modified = times.max().and_then(|at| at.parse::<Timestamp>().ok()).map_or(0, Timestamp::as_second);
    let mut archive = TarFile { builder: Builder::new(out), modified: u64::try_from(modified).unwrap_or(0) };
    archive.add("README.md", guide(&logs).as_bytes())?;
    archive.add("verify.py", VERIFIER.as_bytes())?;
    for (name, content) in extra {
        archive.add(name, content)?;
    }
    for log in &logs {
        for (name, content) in &log.files {
            archive.add(&format!("{}/{name}", log.about.name), content)?;
        }
        for segment in &log.segments {
            let (mut file, is_compressed) = segment.open().map_err(ReadError::at(&segment.path))?;
            let mut content = Vec::new();
            file.read_to_end(&mut content).map_err(ReadError::at(&segment.path))?;
            let suffix = if is_compressed { ".gz" } else { "" };
            archive.add(&format!("{}/{}{suffix}", log.about.name, folder::segment_name(segment.first)), &content)?;
        }
    }
    archive.builder.into_inner().and_then(|mut out| out.flush()).map_err(PackError::Write)?;
    Ok(logs.into_iter().map(|log| log.about).collect())
}

/// The tar file. All entries have the same owner, mode and time.
struct TarFile<W: Write> {
    builder: Builder<W>,
    modified: u64,
}

impl<W: Write> TarFile<W> {
    fn add(&mut self, name: &str, content: &[u8]) -> Result<(), PackError> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.modified);
        header.set_size(content.len() as u64);
        self.builder.append_data(&mut header, format!("{ROOT}/{name}"), content).map_err(PackError::Write)
    }
}

fn select(folder: &Path, period: &Period) -> Result<Option<Selected>, PackError> {
    // The checkpoints are read before the segments, which the writer may extend meanwhile.
    let mut note = optional(&folder.join(CHECKPOINT))?;
    let notes = optional(&folder.join(CHECKPOINTS))?;
    let identity = optional(&folder.join(IDENTITY))?;
    let mut checkpoints: Vec<_> = notes.as_deref().map(checkpoints).unwrap_or_default();
    let mut segments = folder::segments(folder).map_err(ReadError::at(folder))?;
    if segments.is_empty() && identity.is_none() {
        return Ok(None);
    }
    let mut ends_early = false;
    if !period.is_everything() {
        let Some(Wanted { from, to, records }) = wanted(&segments, period)? else { return Ok(None) };
        let to = covered(&segments, to, records, &checkpoints);
        if let Some(next) = segments.get(to + 1) {
            let size = next.first;
            ends_early = true;
            checkpoints.retain(|known| known.checkpoint.size <= size);
            note = checkpoints.last().map(|known| known.note.clone().into_bytes());
        }
        segments.truncate(to + 1);
        segments.drain(..from);
    }
    let signed = note.as_ref().and_then(|note| Checkpoint::parse_unverified(&String::from_utf8_lossy(note)).ok());
    let newest = checkpoints.iter().rfind(|known| Some(&known.checkpoint) == signed.as_ref());
    let known = folder::identity(folder).ok().flatten();
    let origin = known.as_ref().map(|known| known.origin.clone());
    let origin = origin.or_else(|| Some(signed.as_ref()?.origin.clone())).unwrap_or_default();
    let about = Packed {
        folder: folder.to_owned(),
        name: folder_name(&origin),
        simulated: is_simulated(&origin),
        segments: segments.len(),
        first: segments.first().map_or(0, |segment| segment.first),
        signed_at: newest.map(|known| known.at.clone()),
        signed,
        ends_early,
    };
    let notes =
        if ends_early { Some(checkpoints.iter().flat_map(|known| known.line.clone()).collect()) } else { notes };
    let public_key = known.as_ref().map(|known| format!("{}\n", known.public_key).into_bytes());
    let files = [(IDENTITY, identity), (PUBLIC_KEY, public_key), (CHECKPOINT, note), (CHECKPOINTS, notes)];
    let files = files.into_iter().filter_map(|(name, content)| Some((name, content?))).collect();
    Ok(Some(Selected { about, files, segments, created_at: known.map(|known| known.created_at) }))
}

/// A line of `checkpoints.jsonl`.
struct SignedLine {
    checkpoint: Checkpoint,
    at: String,
    note: String,
    /// With its line break.
    line: Vec<u8>,
}

fn checkpoints(lines: &[u8]) -> Vec<SignedLine> {
    let known = line::lines(lines).filter_map(|(text, is_complete)| {
        let SignedAt { at, note } = serde_json::from_slice(text).ok().filter(|_| is_complete)?;
        let checkpoint = Checkpoint::parse_unverified(&note).ok()?;
        Some(SignedLine { checkpoint, at, note, line: [text, b"\n"].concat() })
    });
    known.collect()
}

/// The segments with records of the wanted days.
struct Wanted {
    /// The first one.
    from: usize,
    /// The last one.
    to: usize,
    /// The number of records up to the last wanted one.
    records: u64,
}

fn wanted(segments: &[Segment], period: &Period) -> Result<Option<Wanted>, PackError> {
    let mut wanted: Option<Wanted> = None;
    for (at, segment) in segments.iter().enumerate() {
        let content = segment.read().map_err(ReadError::at(&segment.path))?;
        for (number, (text, _)) in (segment.first..).zip(line::lines(&content)) {
            if line::head(text, number).is_some_and(|head| period.contains(head.at)) {
                let from = wanted.as_ref().map_or(at, |wanted| wanted.from);
                wanted = Some(Wanted { from, to: at, records: number + 1 });
            }
        }
    }
    Ok(wanted)
}

/// The last segment to pack, so that a checkpoint covers all wanted records and states no more than what is packed.
fn covered(segments: &[Segment], to: usize, wanted: u64, checkpoints: &[SignedLine]) -> usize {
    let covers = |to: &usize| match segments.get(to + 1) {
        Some(next) => checkpoints.iter().any(|known| (wanted..=next.first).contains(&known.checkpoint.size)),
        None => true,
    };
    (to..segments.len()).find(covers).unwrap_or(to)
}

/// The name of a log's folder in the pack. The origin may be that of a damaged log.
fn folder_name(origin: &str) -> String {
    let origin = origin.strip_prefix("kms-rotationd/").unwrap_or(origin);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let name: String = origin.chars().take(150).map(|c| if is_plain(c) { c } else { '-' }).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() { "log".to_owned() } else { name.to_owned() }
}

/// This name, with a number if another log of the pack has it.
fn free_name(name: String, logs: &[Selected]) -> String {
    let is_taken = |name: &String| logs.iter().any(|log| log.about.name == *name);
    if !is_taken(&name) {
        return name;
    }
    let mut numbered = (2_u64..).map(|number| format!("{name}-{number}"));
    numbered.find(|name| !is_taken(name)).unwrap_or(name)
}

/// The guide with the list of logs.
fn guide(logs: &[Selected]) -> String {
    let mut list = String::new();
    for Selected { about, .. } in logs {
        let _ = write!(list, "* `{}`: {} from record number {} on", about.name, segments(about.segments), about.first);
        match &about.signed {
            Some(signed) => {
                let at = about.signed_at.as_ref().map_or(String::new(), |at| format!(", signed {}", printable(at)));
                let (size, root) = (records(signed.size), signed.root);
                let _ = writeln!(list, "; checkpoint over {size}{at}, root `{root}`.");
            }
            None => list.push_str("; no checkpoint.\n"),
        }
        if about.ends_early {
            list.push_str(
                "  Newer segments are not in this pack. An anchor over more records cannot be compared with it.\n",
            );
        }
    }
    let simulated = "**SIMULATED: this pack has a log of a simulated cloud, which is no evidence of real keys.**\n\n";
    let simulated = if logs.iter().any(|log| log.about.simulated) { simulated } else { "" };
    let guide = README.replace("<!-- logs -->\n", &list).replace("<!-- claim -->", CLAIM);
    format!("{simulated}{guide}")
}

/// A number of segments in words.
fn segments(number: usize) -> String {
    if number == 1 { "1 segment".to_owned() } else { format!("{number} segments") }
}

impl Packed {
    /// One line about it.
    #[must_use]
    pub fn summary(&self) -> String {
        let simulated = if self.simulated { "SIMULATED: " } else { "" };
        let signed = self.signed.as_ref().map_or("no checkpoint".to_owned(), |signed| {
            let at = self.signed_at.as_ref().map_or(String::new(), |at| format!(", signed {}", printable(at)));
            format!("checkpoint over {}{at}", records(signed.size))
        });
        let end = if self.ends_early { "; newer segments are left out" } else { "" };
        format!(
            "{simulated}{}: {} from record number {} on; {signed}{end}",
            self.name,
            segments(self.segments),
            self.first
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_one_notation_and_a_period_includes_both_days() {
        for wrong in ["", "2026-1-1", "2026-02-29", "20260101", "2026-01-01T00:00", "+002026-01-01", " 2026-01-01"] {
            assert_eq!(wrong.parse::<Day>(), Err(NotADay), "{wrong}");
        }
        let period = Period { from: "2026-01-31".parse().ok(), to: "2026-02-28".parse().ok() };
        let contained =
            ["2026-01-30T23:59:59.999Z", "2026-01-31T00:00:00.000Z", "2026-02-28T23:59:59.999Z", "2026-03-01"];
        assert_eq!(contained.map(|at| period.contains(at)), [false, true, true, false]);
    }

    #[test]
    fn no_origin_leads_out_of_the_pack() {
        for (origin, name) in [
            ("kms-rotationd/payments/5f0c", "payments-5f0c"),
            ("kms-rotationd/simulated/a.b/1", "simulated-a.b-1"),
            ("../../etc/passwd", "-..-etc-passwd"),
            ("/", "-"),
            ("..", "log"),
            ("", "log"),
        ] {
            assert_eq!(folder_name(origin), name);
        }
    }
}
