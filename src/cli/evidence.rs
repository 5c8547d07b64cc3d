//! `evidence`: verifies logs, prints checkpoints and proofs, and makes packs for auditors.
//!
//! These commands use no network. They never lock a log, and create and change nothing in its folder.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::arguments::OutputFormat;
use super::evidence_arguments::EvidenceCommand;
use super::output_file::{OutputFile, is_standard_output};
use super::report;
use super::{Exit, fail, print};
use crate::evidence::anchor::{Anchor, EXPECTED, anchors};
use crate::evidence::conclusion::{Conclusion, Outcome};
use crate::evidence::folder::ReadError;
use crate::evidence::pack::{self, PackError, Period};
use crate::evidence::prove::{ProveError, newest_note, prove};
use crate::support::error_chain::ErrorChain;

/// Runs a command.
pub(super) fn evidence(command: EvidenceCommand) -> Exit {
    match command {
        EvidenceCommand::Verify { logs, anchors, output } => verify(&logs.folders, &anchors, output.format),
        EvidenceCommand::Checkpoint { log } => match newest_note(&log.folder) {
            Ok(note) => print(Exit::Success, |out| out.write_all(note.as_bytes())),
            Err(error) => fail_to_prove(&error),
        },
        EvidenceCommand::Prove { log, seq, output_file } => {
            let proof = match prove(&log.folder, seq) {
                Ok(proof) => proof.to_string(),
                Err(error) => return fail_to_prove(&error),
            };
            match output_file {
                Some(file) if !is_standard_output(&file) && is_in(&file, &[log.folder]) => fail_inside(&file),
                Some(file) if !is_standard_output(&file) => {
                    match OutputFile::new(&file).write(|out| out.write_all(proof.as_bytes())) {
                        Ok(()) => Exit::Success,
                        Err(error) => fail_to_write(&file, &error),
                    }
                }
                _ => print(Exit::Success, |out| out.write_all(proof.as_bytes())),
            }
        }
        EvidenceCommand::Pack { logs, from, to, output_file } => {
            if from.as_ref().zip(to.as_ref()).is_some_and(|(from, to)| from > to) {
                return fail(Exit::Invalid, &"--from is after --to");
            }
            pack(&logs.folders, &Period { from, to }, &output_file)
        }
    }
}

fn verify(folders: &[PathBuf], files: &[PathBuf], format: OutputFormat) -> Exit {
    let mut all = Vec::new();
    for file in files {
        match read_anchors(file) {
            Ok(anchors) => all.extend(anchors),
            Err(why) => return fail(Exit::Invalid, &why),
        }
    }
    let conclusion = match Conclusion::of(folders, &all) {
        Ok(conclusion) => conclusion,
        Err(error) => return fail(Exit::Invalid, &ErrorChain(&error)),
    };
    let exit = match conclusion.outcome() {
        Outcome::Anchored => Exit::Success,
        Outcome::NotAnchored => Exit::Unfinished,
        Outcome::Inconsistent => Exit::Failed,
    };
    print(exit, |out| match format {
        OutputFormat::Text => write!(out, "{conclusion}"),
        OutputFormat::Json => {
            serde_json::to_writer_pretty(&mut *out, &conclusion.json())?;
            writeln!(out)
        }
    })
}

/// The anchors in a file; `-` is standard input.
pub(super) fn read_anchors(file: &Path) -> Result<Vec<Anchor>, String> {
    let is_input = file == Path::new("-");
    let name = if is_input { "standard input".to_owned() } else { file.display().to_string() };
    let content = if is_input { read_input() } else { fs::read(file) };
    let content = content.map_err(|error| format!("cannot read the anchor in {name}: {error}; {EXPECTED}"))?;
    // A journal can have bytes that are no text.
    let found = anchors(&String::from_utf8_lossy(&content));
    if found.is_empty() { Err(format!("found no anchor in {name}; {EXPECTED}")) } else { Ok(found) }
}

fn read_input() -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    io::stdin().lock().read_to_end(&mut content)?;
    Ok(content)
}

fn fail_to_prove(error: &ProveError) -> Exit {
    let exit = if matches!(error, ProveError::Read(ReadError::NoLog(_))) { Exit::Invalid } else { Exit::Failed };
    fail(exit, &ErrorChain(error))
}

fn pack(folders: &[PathBuf], period: &Period, file: &Path) -> Exit {
    let is_output = is_standard_output(file);
    if !is_output && is_in(file, folders) {
        return fail_inside(file);
    }
    // Whatever is wrong with the log, it is packed.
    let (extra, without_report) = match report::packed(folders, period) {
        Ok(html) => (vec![("report.html".to_owned(), html)], None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let mut packed = Ok(Vec::new());
    let written = OutputFile::new(file).write(|out| {
        packed = pack::pack(folders, period, &extra, out);
        // Without a pack, the temporary file is removed.
        packed.as_ref().map(drop).map_err(|_| io::ErrorKind::Other.into())
    });
    match (packed, written) {
        (Err(PackError::Write(error)), _) | (Ok(_), Err(error)) => fail_to_write(file, &error),
        (Err(error), _) => {
            let is_usage = matches!(error, PackError::Read(ReadError::NoLog(_)));
            fail(if is_usage { Exit::Invalid } else { Exit::Failed }, &ErrorChain(&error))
        }
        (Ok(packed), Ok(())) => {
            let summary = |out: &mut dyn Write| {
                writeln!(out, "{}:", file.display())?;
                packed.iter().try_for_each(|log| writeln!(out, "  {}", log.summary()))?;
                without_report.iter().try_for_each(|why| writeln!(out, "  without report.html: {why}"))
            };
            if is_output {
                // The pack itself is on standard output.
                let _ = summary(&mut io::stderr().lock());
                return Exit::Success;
            }
            print(Exit::Success, summary)
        }
    }
}

/// Whether a file would be in the folder of a log, where these commands create nothing.
fn is_in(file: &Path, folders: &[PathBuf]) -> bool {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(parent) = parent.canonicalize() else { return false };
    folders.iter().any(|folder| folder.canonicalize().is_ok_and(|folder| parent.starts_with(folder)))
}

fn fail_inside(file: &Path) -> Exit {
    let why = format!("{} would be in the directory of the log; choose a file elsewhere", file.display());
    fail(Exit::Invalid, &why)
}

fn fail_to_write(file: &Path, error: &io::Error) -> Exit {
    if is_standard_output(file) {
        return fail(Exit::Failed, &format_args!("cannot write to standard output: {error}"));
    }
    fail(Exit::Failed, &format_args!("cannot write {}: {error}", file.display()))
}
