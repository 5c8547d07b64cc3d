//! `evidence verify`: what it prints and how it ends, on logs written with the library.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use kms_rotationd::evidence::conclusion::CLAIM;
use kms_rotationd::evidence::log::{Log, LogOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::documents::repository::{all_blocks, text};
use super::evidence_log::{
    Kept, ReadOnly, at, begin_segment, continued, copy_of, first_segment, of_days, open, record, signed, written,
};
use super::program::{Finished, Program, binary};

/// Runs a command on a folder, which it leaves as it is.
pub(crate) fn evidence(command: &str, folder: &Path, options: &[&str]) -> Finished {
    let read_only = ReadOnly::new(folder);
    let arguments = [&["evidence", command, folder.to_str().unwrap()], options].concat();
    let ended = Program::start(binary(&arguments)).finish();
    read_only.assert_unchanged();
    ended
}

/// Verifies a log with anchors in files.
fn verify(folder: &Path, anchors: &[&Kept]) -> Finished {
    let files: Vec<_> = anchors.iter().map(|kept| kept.file()).collect();
    let options: Vec<_> = files.iter().flat_map(|file| ["--anchor", file]).collect();
    evidence("verify", folder, &options)
}

/// The text without what differs from log to log: folder, random part of the origin, roots.
fn steady(ended: &Finished, folder: &Path) -> String {
    let text = ended.stdout.replace(folder.to_str().unwrap(), "DIR");
    let lines = text.lines().map(|line| {
        let words = line.split(' ').map(|word| match word.rsplit_once('/') {
            Some((name, random)) if name.starts_with("kms-rotationd/") && random.len() == 16 => {
                format!("{name}/RANDOM")
            }
            _ if word.len() == 44 && word.ends_with('=') => "ROOT".to_owned(),
            _ => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ") + "\n"
    });
    lines.collect()
}

#[track_caller]
fn assert_found(ended: &Finished, code: i32, texts: &[&str]) {
    assert_eq!((ended.code, &*ended.stderr), (Some(code), ""), "{}", ended.stdout);
    for text in texts {
        assert!(ended.stdout.contains(text), "no {text:?} in\n{}", ended.stdout);
    }
    assert!(ended.stdout.ends_with(&format!("{CLAIM}\n")), "{}", ended.stdout);
}

#[test]
fn a_log_that_agrees_with_an_anchor_ends_with_0_and_states_what_is_proven() {
    let folder = written();
    let kept = Kept::of(folder.path());
    continued(folder.path(), "three", 10);
    record(&mut open(folder.path(), false, 11), "four", 11);
    let ended = verify(folder.path(), &[&kept]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(
        steady(&ended, folder.path()),
        format!(
            "kms-rotationd/payments/RANDOM in DIR
  records     5, of which numbers 0 to 4 are here
  root        ROOT
  checkpoint  over 4 records, signed 2026-11-18T11:06:50.000Z
  unsigned    1 record not yet signed
  anchors     1 agrees with it, the newest over 3 records
  CONSISTENT AND ANCHORED: up to record number 2 of 2026-11-18T11:06:42.000Z, no record was changed or removed.

{CLAIM}
"
        )
    );
}

#[test]
fn the_output_in_the_documents_is_that_of_the_program() {
    let folder = written();
    let kept = Kept::of(folder.path());
    continued(folder.path(), "three", 10);
    record(&mut open(folder.path(), false, 11), "four", 11);
    let ended = verify(folder.path(), &[&kept]);
    let blocks = all_blocks("docs/evidence.md");
    let shown = &blocks.iter().find(|block| block.mark == "verified").unwrap().text;
    let shown = Finished { code: Some(0), stdout: format!("{shown}\n"), stderr: String::new() };
    let shown = steady(&shown, Path::new("/var/lib/kms-rotationd/evidence"));
    assert_eq!(shown, steady(&ended, folder.path()));
}

#[test]
fn the_documents_state_what_a_log_shows_in_the_same_words() {
    for document in ["docs/evidence.md", "src/evidence/pack/verify.py"] {
        let words = text(document).replace("\"\n         \"", "");
        assert!(words.contains(CLAIM), "{document}");
    }
}

#[test]
fn a_log_without_an_anchor_ends_with_3_and_is_not_called_unchanged() {
    let folder = written();
    let other = written();
    let ended = verify(folder.path(), &[&Kept::of(other.path())]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert_eq!(
        steady(&ended, folder.path()),
        format!(
            "kms-rotationd/payments/RANDOM in DIR
  records     3, of which numbers 0 to 2 are here
  root        ROOT
  checkpoint  over 3 records, signed 2026-11-18T11:06:42.000Z
  anchors     none that agrees with it
  CONSISTENT, NOT ANCHORED: the records are those that the log's key has signed. A holder of that key can have changed \
             all of them: only an anchor that is kept elsewhere shows that they are unchanged.

1 anchor of the log kms-rotationd/payments/RANDOM is not used: this log was not given.

What a log that is consistent and anchored shows:
{CLAIM}
"
        )
    );
    let unsigned = TempDir::new().unwrap();
    record(&mut open(unsigned.path(), false, 0), "one", 1);
    let texts = ["checkpoint  none yet", "2 records not yet signed", "no record is signed yet"];
    assert_found(&verify(unsigned.path(), &[]), 3, &texts);
}

#[test]
fn an_anchor_older_than_the_first_record_here_is_not_checked() {
    let folder = of_days(1);
    let old = Kept::of(folder.path());
    let mut log = open(folder.path(), false, 5);
    begin_segment(&mut log, 6);
    signed(&mut log, "newer", 7);
    begin_segment(&mut log, 8);
    signed(&mut log, "newest", 9);
    drop(log);
    assert_found(&verify(folder.path(), &[&old]), 0, &["up to record number 1 of "]);
    fs::remove_file(folder.path().join("00000000000000000000.jsonl.gz")).unwrap();
    fs::remove_file(folder.path().join("00000000000000000002.jsonl.gz")).unwrap();
    let texts = [
        "pruned      numbers 0 to 3 are not here: they were moved or pruned",
        "none that agrees with it; 1 older than the first record here, not checked",
        "CONSISTENT, NOT ANCHORED",
    ];
    assert_found(&verify(folder.path(), &[&old]), 3, &texts);
    assert_found(&verify(folder.path(), &[&old, &Kept::of(folder.path())]), 0, &["up to record number 5 of "]);
}

#[test]
fn a_truncated_log_ends_with_1_and_what_is_missing_is_named() {
    let folder = written();
    let older = copy_of(folder.path());
    continued(folder.path(), "three", 10);
    let kept = Kept::of(folder.path());
    // An older copy, of which nothing in the folder shows that it is one.
    let restored = [
        "TRUNCATED: 3 records found, the last one of 2026-11-18T11:06:42.000Z; missing records are stated by the anchor \
         over 4 records",
        "INCONSISTENT.",
    ];
    assert_found(&verify(older.path(), &[&kept]), 1, &restored);
    // Cut within a line, and with the log's own checkpoint.
    let content = fs::read(first_segment(folder.path())).unwrap();
    fs::write(first_segment(folder.path()), &content[..content.len() - 5]).unwrap();
    let cut = [
        "TRUNCATED: 3 records found",
        "missing records are stated by the checkpoint over 4 records, signed 2026-11-18T11:06:50.000Z",
        "  incomplete  ",
    ];
    assert_found(&verify(folder.path(), &[]), 1, &cut);
}

#[test]
fn a_rewritten_log_ends_with_1_and_the_checkpoints_around_the_change_are_named() {
    let folder = written();
    let kept = Kept::of(folder.path());
    continued(folder.path(), "three", 10);
    let text = fs::read_to_string(first_segment(folder.path())).unwrap();
    fs::write(first_segment(folder.path()), text.replace("\"two\"", "\"2.0\"")).unwrap();
    let texts = [
        "REWRITTEN: record number 2 differs from what was stated by the checkpoint over 3 records, signed \
         2026-11-18T11:06:42.000Z; the checkpoint over 2 records, signed 2026-11-18T11:06:41.000Z, still matches",
        "none that agrees with it",
    ];
    let ended = verify(folder.path(), &[&kept]);
    assert_found(&ended, 1, &texts);
    assert_eq!(ended.stdout.matches("REWRITTEN").count(), 1, "once, and not for each later checkpoint");
    fs::write(first_segment(folder.path()), text.replace("{\"v\":1,\"seq\":2", "{\"v\":1,\"seq\":7")).unwrap();
    assert_found(&verify(folder.path(), &[]), 1, &["REWRITTEN: the line of record number 2 is not that record"]);
}

#[test]
fn an_older_copy_that_was_continued_is_rewritten_or_forked() {
    let folder = written();
    let older = copy_of(folder.path());
    let oldest = Kept::of(folder.path());
    continued(folder.path(), "three", 10);
    let kept = Kept::of(folder.path());
    continued(older.path(), "another story", 10);
    let texts = [
        "FORKED: the log's key has signed two different logs of 4 records: the checkpoint over 4 records, signed \
         2026-11-18T11:06:50.000Z, and the anchor over 4 records",
        "REWRITTEN: record number 3 differs from what was stated by the anchor over 4 records",
        "INCONSISTENT. Up to record number 2 of 2026-11-18T11:06:42.000Z, the records are those of an anchor.",
    ];
    assert_found(&verify(older.path(), &[&oldest, &kept]), 1, &texts);
}

#[test]
fn a_segment_that_cannot_be_decompressed_a_wrong_signature_and_a_missing_identity_are_found() {
    let folder = of_days(3);
    let kept = Kept::of(folder.path());
    let damaged = copy_of(folder.path());
    let segment = damaged.path().join("00000000000000000002.jsonl.gz");
    let mut content = fs::read(&segment).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&segment, content).unwrap();
    assert_found(&verify(damaged.path(), &[&kept]), 1, &["the segment of record number 2"]);

    let forged = copy_of(folder.path());
    let note = fs::read_to_string(forged.path().join("checkpoint")).unwrap();
    fs::write(forged.path().join("checkpoint"), note.replace("\n6\n", "\n5\n")).unwrap();
    let texts = ["NOT SIGNED: the checkpoint has no valid signature by the log's key"];
    assert_found(&verify(forged.path(), &[]), 1, &texts);

    let nameless = copy_of(folder.path());
    fs::remove_file(nameless.path().join("log.json")).unwrap();
    assert_found(
        &verify(nameless.path(), &[&kept]),
        1,
        &["UNKNOWN KEY: log.json is missing", "kms-rotationd/payments/"],
    );
    fs::write(nameless.path().join("log.json"), "{").unwrap();
    assert_found(&verify(nameless.path(), &[]), 1, &["UNKNOWN KEY: log.json is damaged"]);
}

#[test]
fn a_log_in_a_sub_folder_is_verified_with_the_one_it_continues_and_each_needs_an_anchor() {
    let folder = written();
    let first = Kept::of(folder.path());
    // The signing key was lost: the log is whole, and another one continues it.
    fs::remove_file(folder.path().join("signing-key")).unwrap();
    let mut log = open(folder.path(), false, 20);
    signed(&mut log, "after", 21);
    let successor = log.folder().to_owned();
    drop(log);
    let second = Kept::of(&successor);
    let alone = verify(folder.path(), &[&first]);
    assert_found(
        &alone,
        3,
        &["CONSISTENT AND ANCHORED: up to record number 2", "CONSISTENT, NOT ANCHORED", "  continues   "],
    );
    assert_found(&verify(folder.path(), &[&second]), 3, &["up to record number 1 of 2026-11-18T11:07:01.000Z"]);
    assert_found(&verify(folder.path(), &[&first, &second]), 0, &[]);
    assert_found(&verify(&successor, &[&second]), 0, &["which could not be continued itself"]);
    // The newest checkpoint is that of the log that is written now.
    let printed = evidence("checkpoint", folder.path(), &[]);
    assert_eq!((printed.code, printed.stdout), (Some(0), fs::read_to_string(successor.join("checkpoint")).unwrap()));
}

#[test]
fn no_sub_folder_hides_another_and_links_are_not_followed() {
    let folder = written();
    fs::remove_file(folder.path().join("signing-key")).unwrap();
    let mut log = open(folder.path(), false, 20);
    signed(&mut log, "after", 21);
    let damaged = log.folder().to_owned();
    drop(log);
    // One that was begun later, and one that was damaged.
    let other = copy_of(written().path());
    fs::rename(other.path(), folder.path().join("after-zzz")).unwrap();
    let text = fs::read_to_string(first_segment(&damaged)).unwrap();
    fs::write(first_segment(&damaged), text.replace("after", "AFTER")).unwrap();
    std::os::unix::fs::symlink(".", folder.path().join("after-link")).unwrap();
    // Empty, or not of this program.
    fs::create_dir(folder.path().join("after-all")).unwrap();
    fs::create_dir(folder.path().join("lost+found")).unwrap();
    let ended = verify(folder.path(), &[]);
    assert_found(&ended, 1, &["REWRITTEN", "/after-zzz\n", damaged.to_str().unwrap()]);
    assert_eq!(ended.stdout.matches("\n  root  ").count(), 3, "{}", ended.stdout);
}

#[test]
fn a_simulated_log_is_called_simulated_first() {
    let folder = TempDir::new().unwrap();
    signed(&mut open(folder.path(), true, 0), "one", 1);
    let ended = verify(folder.path(), &[&Kept::of(folder.path())]);
    assert_found(&ended, 0, &["kms-rotationd/simulated/payments/"]);
    assert!(ended.stdout.starts_with("SIMULATED: this log is of a simulated cloud"), "{}", ended.stdout);
    let machine = evidence("verify", folder.path(), &["--output", "json"]);
    let document: Value = serde_json::from_str(&machine.stdout).unwrap();
    assert_eq!(document["logs"][0]["simulated"], json!(true));
}

#[test]
fn of_several_logs_the_worst_decides() {
    let (good, unanchored, bad) = (written(), written(), written());
    fs::write(first_segment(bad.path()), "").unwrap();
    let kept = Kept::of(good.path());
    let code = |logs: &[&TempDir]| {
        let folders: Vec<_> = logs.iter().map(|log| log.path().to_str().unwrap()).collect();
        let ended =
            Program::start(binary(&[&["evidence", "verify"], &folders[..], &["--anchor", &kept.file()]].concat()));
        ended.finish().code
    };
    assert_eq!(code(&[&good]), Some(0));
    assert_eq!(code(&[&good, &unanchored]), Some(3));
    assert_eq!(code(&[&bad, &good, &unanchored]), Some(1));
}

#[test]
fn anchors_come_from_standard_input_journals_and_copies_of_the_checkpoints() {
    let folder = written();
    let note = fs::read_to_string(folder.path().join("checkpoint")).unwrap();
    let lines: Vec<_> = note.lines().collect();
    let journal =
        format!("x INFO evidence checkpoint origin=\"{}\" size={} root=\"{}\"\n", lines[0], lines[1], lines[2]);
    let all = fs::read_to_string(folder.path().join("checkpoints.jsonl")).unwrap();
    let first: Value = serde_json::from_str(all.lines().next().unwrap()).unwrap();
    let notes = format!("{}\n{note}", first["note"].as_str().unwrap());
    let proof = evidence("prove", folder.path(), &["--seq", "1"]).stdout;
    for (text, number) in
        [(&note, "1 agrees"), (&journal, "1 agrees"), (&all, "2 agree"), (&notes, "2 agree"), (&proof, "1 agrees")]
    {
        let kept = Kept::text(text);
        assert_found(&verify(folder.path(), &[&kept]), 0, &[number, "up to record number 2 of"]);
        let input = File::open(kept.file()).unwrap();
        let command = binary(&["evidence", "verify", folder.path().to_str().unwrap(), "--anchor", "-"]);
        assert_found(&Program::fed(command, Stdio::from(input)).finish(), 0, &[number]);
    }
}

#[test]
fn the_json_has_all_that_the_text_has() {
    let folder = written();
    let kept = Kept::of(folder.path());
    continued(folder.path(), "three", 10);
    let file = kept.file();
    let document = |ended: &Finished| serde_json::from_str::<Value>(&ended.stdout).unwrap();
    let ended = evidence("verify", folder.path(), &["--output", "json", "--anchor", &file]);
    let found = document(&ended);
    assert_eq!((ended.code, &found["outcome"]), (Some(0), &json!("consistent_and_anchored")));
    assert_eq!(found["claim"], CLAIM);
    let log = &found["logs"][0];
    let summary = ["first_record", "records", "unsigned_records", "incomplete_bytes"].map(|field| log[field].as_u64());
    assert_eq!(summary, [Some(0), Some(4), Some(0), Some(0)]);
    assert_eq!(log["checkpoint"]["at"], "2026-11-18T11:06:50.000Z");
    assert_eq!(
        (&log["anchors"][0]["size"], &log["anchors"][0]["until"]),
        (&json!(3), &json!("2026-11-18T11:06:42.000Z"))
    );
    fs::write(first_segment(folder.path()), "").unwrap();
    let ended = evidence("verify", folder.path(), &["--output", "json"]);
    let found = document(&ended);
    assert_eq!((ended.code, &found["outcome"]), (Some(1), &json!("inconsistent")));
    let problem = &found["logs"][0]["problems"][0];
    assert_eq!((&problem["kind"], &problem["stated"]["size"]), (&json!("truncated"), &json!(4)));
    assert!(problem["text"].as_str().unwrap().starts_with("TRUNCATED: 0 records found"), "{problem}");
}

#[test]
fn no_log_and_no_anchor_are_usage_errors_that_name_what_was_expected() {
    let (folder, empty) = (written(), TempDir::new().unwrap());
    let nowhere = empty.path().join("nowhere");
    for command in [&["verify"][..], &["checkpoint"], &["prove", "--seq", "0"], &["pack", "--output-file", "x.tar"]] {
        for no_log in [empty.path(), &nowhere] {
            let ended =
                Program::start(binary(&[&["evidence"], command, &[no_log.to_str().unwrap()]].concat())).finish();
            assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended:?}");
            assert!(ended.stderr.contains("has no evidence log; expected a folder with log.json"), "{ended:?}");
        }
    }
    assert!(!Path::new("x.tar").exists());
    for anchor in [&Kept::text(""), &Kept::text("no anchor"), &Kept::text("{\"origin\":\"a\"}")] {
        let ended = verify(folder.path(), &[anchor]);
        assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended:?}");
        let texts = ["found no anchor in ", &anchor.file(), "expected a signed checkpoint (as `evidence checkpoint`"];
        assert!(texts.iter().all(|text| ended.stderr.contains(text)), "{ended:?}");
    }
    let ended = evidence("verify", folder.path(), &["--anchor", "/nowhere"]);
    assert!(ended.code == Some(2) && ended.stderr.contains("cannot read the anchor in /nowhere"), "{ended:?}");
}

#[test]
fn a_log_is_verified_while_it_is_written() {
    let folder = written();
    let kept = Kept::of(folder.path());
    let mut log = open(folder.path(), false, 5);
    for round in 0..5 {
        signed(&mut log, &format!("round {round}"), 6 + round);
        begin_segment(&mut log, 6 + round);
        let ended =
            Program::start(binary(&["evidence", "verify", folder.path().to_str().unwrap(), "--anchor", &kept.file()]));
        assert_found(&ended.finish(), 0, &["1 record not yet signed"]);
    }
}

#[test]
fn a_signing_key_kept_elsewhere_makes_no_difference() {
    let folder = TempDir::new().unwrap();
    let pem = kms_rotationd::evidence::key::SigningKey::generate_pem().unwrap();
    let options = LogOptions {
        name: "elsewhere".to_owned(),
        origin_suffix: None,
        signing_key: Some(pem),
        simulated: false,
        sync: true,
        replaced: None,
    };
    let (mut log, _) = Log::open(folder.path(), &options, at(0)).unwrap();
    signed(&mut log, "one", 1);
    drop(log);
    assert_found(&verify(folder.path(), &[&Kept::of(folder.path())]), 0, &["kms-rotationd/elsewhere/"]);
}
