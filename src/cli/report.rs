//! `report`: the audit report from evidence logs, its destination, its exit code.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::arguments::{AuditFormat, AuditOptions, SAMPLE, SEED};
use super::evidence::read_anchors;
use super::output_file::{OutputFile, is_standard_output};
use super::{Exit, fail, print};
use crate::audit::model::Report;
use crate::audit::{ReportError, Request, cbom, csv, html, json, make, ocsf, oscal};
use crate::evidence::folder::ReadError;
use crate::evidence::pack;
use crate::support::error_chain::ErrorChain;

/// A function that writes a report in one file.
type Writer = fn(&Report, &mut dyn Write) -> io::Result<()>;

pub(super) fn report(options: &AuditOptions) -> Exit {
    let destination = match destination(options) {
        Ok(destination) => destination,
        Err(why) => return fail(Exit::Invalid, &why),
    };
    let anchors = match options.anchors.iter().map(|file| read_anchors(file)).collect::<Result<Vec<_>, _>>() {
        Ok(anchors) => anchors.concat(),
        Err(why) => return fail(Exit::Invalid, &why),
    };
    let request = Request {
        folders: options.evidence.clone(),
        from: options.from,
        to: options.to,
        projects: options.projects.clone(),
        sample: options.sample,
        seed: options.seed,
        anchors,
    };
    let report = match make(&request) {
        Ok(report) => report,
        Err(error) => {
            let exit =
                if matches!(error, ReportError::Log(ReadError::File { .. })) { Exit::Failed } else { Exit::Invalid };
            return fail(exit, &ErrorChain(&error));
        }
    };
    let exit = exit(&report);
    tell_problems(&report);
    match destination {
        Destination::Standard(write) => print(exit, |out| write(&report, out)),
        Destination::File(path, write) => {
            written(&report, exit, path, OutputFile::new(path).write(|out| write(&report, out)))
        }
        Destination::Folder(path) => written(&report, exit, path, write_folder(&report, path)),
    }
}

/// Writes the report on a rehearsal as HTML. It is no failure if keys were off policy in it.
pub(super) fn of_rehearsal(folder: &Path, file: &Path) -> Exit {
    let request = Request { folders: vec![folder.to_owned()], sample: SAMPLE, seed: SEED, ..Request::default() };
    match make(&request) {
        Ok(report) => {
            let result = OutputFile::new(file).write(|out| html::write(&report, out));
            written(&report, Exit::Success, file, result)
        }
        Err(error) => fail(Exit::Failed, &ErrorChain(&error)),
    }
}

/// The report over the period of a pack, as HTML; or why there is none.
pub(super) fn packed(folders: &[PathBuf], period: &pack::Period) -> Result<Vec<u8>, String> {
    let day = |day: &Option<pack::Day>| day.as_ref().and_then(|day| day.to_string().parse().ok());
    let request = Request {
        folders: folders.to_vec(),
        from: day(&period.from),
        to: day(&period.to),
        sample: SAMPLE,
        seed: SEED,
        ..Request::default()
    };
    let report = make(&request).map_err(|error| ErrorChain(&error).to_string())?;
    let mut html = Vec::new();
    html::write(&report, &mut html).map_err(|error| error.to_string())?;
    Ok(html)
}

/// Where the report goes, and what writes it there.
enum Destination<'a> {
    Standard(Writer),
    File(&'a Path, Writer),
    Folder(&'a Path),
}

fn destination(options: &AuditOptions) -> Result<Destination<'_>, &'static str> {
    let file = options.output_file.as_deref().filter(|path| !is_standard_output(path));
    let write: Writer = match options.format {
        AuditFormat::Html => html::write,
        AuditFormat::Json => json::write,
        AuditFormat::Ocsf => ocsf::write,
        AuditFormat::Oscal => oscal::write,
        AuditFormat::Cbom => cbom::write,
        AuditFormat::Csv => {
            return file.map(Destination::Folder).ok_or("--format csv writes a folder: add --output-file FOLDER");
        }
    };
    Ok(file.map_or(Destination::Standard(write), |path| Destination::File(path, write)))
}

fn exit(report: &Report) -> Exit {
    if !report.verified {
        Exit::Unverified
    } else if report.totals.not_met + report.totals.not_shown > 0 {
        Exit::Failed
    } else {
        Exit::Success
    }
}

/// Problems of the logs go to standard error too: the report may be for a program.
fn tell_problems(report: &Report) {
    for log in report.observers.iter().flat_map(|observer| &observer.logs) {
        for problem in &log.problems {
            let _ = fail(Exit::Unverified, &format_args!("{}: {problem}", log.origin));
        }
    }
}

fn write_folder(report: &Report, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (name, write) in csv::FILES {
        let mut out = io::BufWriter::new(File::create(folder.join(name))?);
        write(report, &mut out)?;
        out.flush()?;
    }
    Ok(())
}

/// Prints what was written where; or why it was not.
fn written(report: &Report, exit: Exit, path: &Path, result: io::Result<()>) -> Exit {
    if let Err(error) = result {
        return fail(Exit::Failed, &format_args!("cannot write {}: {error}", path.display()));
    }
    let totals = &report.totals;
    print(exit, |out| {
        let simulated = if report.simulated { "SIMULATED: " } else { "" };
        writeln!(
            out,
            "{simulated}{}: {} to {}: {} met, {} not met, {} not shown, {} not applicable",
            path.display(),
            report.period.from,
            report.period.to,
            totals.met,
            totals.not_met,
            totals.not_shown,
            totals.not_applicable
        )
    })
}
