//! Measures the evidence log: appending the changes of a run, opening a log, verifying one, proving a record, packing all
//! of it, and reporting from it.
//!
//! `cargo bench --bench evidence` writes a log of two years with 360 000 records below the temporary folder: each run
//! changes some keys, and one changes 10 000 at once. Linux only: memory is read from /proc.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a failed measurement should end with a message")]

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kms_rotationd::audit::{Request, html, json, make};
use kms_rotationd::evidence::anchor::anchors;
use kms_rotationd::evidence::folder::segments;
use kms_rotationd::evidence::log::{Log, LogOptions};
use kms_rotationd::evidence::pack::{Period, pack};
use kms_rotationd::evidence::prove::prove;
use kms_rotationd::evidence::record::{Cause, Counts, Event, KeyRecord, KeyState, RunRecord};
use kms_rotationd::evidence::tree::Hash;
use kms_rotationd::evidence::verify::verify;

const RECORDS: u64 = 360_000;
/// Changes in one run of the log.
const USUAL: usize = 10;
const LARGE: usize = 10_000;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        name: "bench".to_owned(),
        origin_suffix: None,
        signing_key: None,
        simulated: false,
        sync: true,
        replaced: None,
    };
    let began = UNIX_EPOCH + Duration::from_secs(1_730_000_000);
    let (mut log, _) = Log::open(folder.path(), &options, began).unwrap();
    let (mut at, mut longest) = (began, Duration::ZERO);
    let start = Instant::now();
    while log.size() < RECORDS {
        let run = Instant::now();
        append(&mut log, USUAL, at);
        longest = longest.max(run.elapsed());
        if log.is_segment_due(at) {
            log.begin_segment(at, 0, |_| ()).unwrap();
            log.compress_closed().unwrap();
        }
        at += Duration::from_secs(1_800);
    }
    println!(
        "{RECORDS} records, {USUAL} a run: {:.1} s, longest run {:.0} ms",
        start.elapsed().as_secs_f64(),
        millis(longest)
    );
    println!("resident memory of the writer: {:.1} MiB", resident_mib());
    let large = Instant::now();
    append(&mut log, LARGE, at);
    println!("{LARGE} changed keys in one run: {:.0} ms", millis(large.elapsed()));
    drop(log);
    println!("on the disk: {:.1} MB in {} segments", disk_mb(folder.path()), segments(folder.path()).unwrap().len());

    let opening = Instant::now();
    let (log, _) = Log::open(folder.path(), &options, at).unwrap();
    println!("opening it again: {:.0} ms", millis(opening.elapsed()));
    drop(log);

    let anchored = anchors(&std::fs::read_to_string(folder.path().join("checkpoint")).unwrap());
    let verifying = Instant::now();
    let found = verify(folder.path(), &anchored).unwrap();
    println!("verifying {} records: {:.2} s", found[0].size, verifying.elapsed().as_secs_f64());
    assert!(found[0].is_consistent() && found[0].anchored.len() == 1, "{:?}", found[0].problems);
    for seq in [0, RECORDS / 2, RECORDS] {
        let proving = Instant::now();
        prove(folder.path(), seq).unwrap();
        println!("proving record {seq}: {:.2} s", proving.elapsed().as_secs_f64());
    }
    for from in [None, Some("2025-06-01")] {
        let period = Period { from: from.map(|day| day.parse().unwrap()), to: None };
        let packing = Instant::now();
        let packed = pack(&[folder.path().to_owned()], &period, &[], std::io::sink()).unwrap();
        println!("packing {} segments: {:.2} s", packed[0].segments, packing.elapsed().as_secs_f64());
    }
    println!("peak memory: {:.1} MiB", peak_mib());

    let reporting = Instant::now();
    let request = Request { folders: vec![folder.path().to_owned()], sample: 25, seed: 1, ..Request::default() };
    let report = make(&request).unwrap();
    println!("report, with verification: {:.2} s", reporting.elapsed().as_secs_f64());
    assert!(report.verified && report.observers[0].keys.len() == LARGE);
    println!("peak memory: {:.1} MiB", peak_mib());
    for (name, write) in [("json", json::write as Format), ("html", html::write)] {
        let (writing, mut out) = (Instant::now(), Vec::new());
        write(&report, &mut out).unwrap();
        println!("{name}: {:.1} MB in {:.2} s", megabytes(out.len()), writing.elapsed().as_secs_f64());
    }
}

type Format = fn(&kms_rotationd::audit::model::Report, &mut dyn std::io::Write) -> std::io::Result<()>;

fn megabytes(bytes: usize) -> f64 {
    f64::from(u32::try_from(bytes / 1_000).unwrap()) / 1_000.0
}

/// Writes what a run writes that has found `changes` changes.
fn append(log: &mut Log, changes: usize, at: SystemTime) {
    for number in 0..changes {
        log.append(at, &change(number));
    }
    log.append(at, &run(at));
    log.commit(at).unwrap();
    log.checkpoint(at).unwrap();
}

fn run(at: SystemTime) -> RunRecord {
    let text = |at: SystemTime| format!("{:.3}", jiff::Timestamp::try_from(at).unwrap());
    RunRecord {
        trigger: "schedule".to_owned(),
        result: "success".to_owned(),
        acting: true,
        started_at: text(at),
        duration_seconds: 12.5,
        keys: Counts { compliant: LARGE, ..Counts::default() },
        listed: true,
        changes: 0,
        clock_skew_seconds: Some(0),
        states_sha256: Hash([0; 32]),
        next_run_at: Some(text(at + Duration::from_secs(1_800))),
        gap_after: Some(text(at + Duration::from_secs(86_400))),
    }
}

fn change(number: usize) -> KeyRecord {
    let state = |days| KeyState {
        alias: Some(format!("payments-database-{number}")),
        status: "compliant".to_owned(),
        reasons: Vec::new(),
        enabled: Some(true),
        interval_days: Some(days),
        policy_interval_days: Some(90),
        policy_max_interval_days: None,
        exemption: None,
        created_at: Some("2024-03-02T10:00:00.000Z".to_owned()),
        last_rotation_at: Some("2026-08-01T02:13:00.000Z".to_owned()),
        rotations: Some(7),
        material_since: Some("2026-08-01T02:13:00.000Z".to_owned()),
        rotation_due_at: Some("2026-10-30T02:13:00.000Z".to_owned()),
    };
    KeyRecord {
        project: "payments-prod".to_owned(),
        key_id: format!("{number:08x}-0000-4000-8000-{number:012x}"),
        event: Event::Drift,
        by: Some(Cause::Other),
        before: Some(state(90)),
        after: Some(state(365)),
        seen_after: Some("2026-11-29T09:30:00.000Z".to_owned()),
        seen_by: Some("2026-11-29T10:00:00.000Z".to_owned()),
        material_age_seconds: None,
        error: None,
        memory: None,
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn disk_mb(folder: &Path) -> f64 {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    f64::from(u32::try_from(files.sum::<u64>() / 1_000).unwrap()) / 1_000.0
}

fn resident_mib() -> f64 {
    memory("VmRSS:")
}

fn peak_mib() -> f64 {
    memory("VmHWM:")
}

fn memory(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|found| found.starts_with(line)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
