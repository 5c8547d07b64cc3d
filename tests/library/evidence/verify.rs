//! Verification of logs: each way to change one is found and named, and nothing else is.

use std::fs;
use std::path::Path;

use kms_rotationd::evidence::anchor::{Anchor, anchors};
use kms_rotationd::evidence::folder::{identity, segments};
use kms_rotationd::evidence::key::SigningKey;
use kms_rotationd::evidence::note::Checkpoint;
use kms_rotationd::evidence::problem::{Problem, Stated};
use kms_rotationd::evidence::tree::leaf_hash;
use kms_rotationd::evidence::verify::{Anchored, Verification, verify};

use super::log::{at, checkpoint, copy_of, first_segment, open, record, written};

fn only(folder: &Path, anchors: &[Anchor]) -> Verification {
    let [one] = verify(folder, anchors).unwrap().try_into().unwrap();
    one
}

/// The newest note of a log as an anchor.
fn anchor(folder: &Path) -> Anchor {
    let [one] = anchors(&fs::read_to_string(folder.join("checkpoint")).unwrap()).try_into().unwrap();
    one
}

/// The time of checkpoints that are signed at this second.
fn time(seconds: u64) -> String {
    format!("2026-11-18T11:06:{}.000Z", 40 + seconds)
}

/// What a checkpoint in the folder, or an anchor, states.
fn stated(size: u64, at: Option<String>, is_anchor: bool) -> Stated {
    Stated { size, at, is_anchor }
}

#[test]
fn an_unchanged_log_is_consistent_and_its_unsigned_records_are_counted() {
    let folder = written(4, 2);
    let found = only(folder.path(), &[anchor(folder.path())]);
    assert_eq!(found.problems, []);
    assert_eq!((found.first, found.size, found.unsigned(), found.incomplete), (0, 7, 2, 0));
    assert_eq!(found.signed, Some(checkpoint(folder.path())));
    assert_eq!(found.signed_at, Some(time(2)));
    assert_eq!(found.anchored, [Anchored { checkpoint: checkpoint(folder.path()), until: Some(time(1)) }]);
    assert!(!found.simulated);
    // Also while it is written, in the middle of a line.
    let mut content = fs::read(first_segment(folder.path())).unwrap();
    content.extend_from_slice(b"{\"v\":1,\"seq\":7,");
    fs::write(first_segment(folder.path()), content).unwrap();
    let found = only(folder.path(), &[]);
    assert_eq!((found.problems, found.size, found.incomplete, found.anchored), (vec![], 7, 15, vec![]));
}

#[test]
fn every_flipped_bit_in_what_is_signed_is_found() {
    let folder = written(3, 0);
    let content = fs::read(first_segment(folder.path())).unwrap();
    for at in 0..content.len() {
        for bit in [1, 0x20] {
            let copy = copy_of(folder.path());
            let mut changed = content.clone();
            changed[at] ^= bit;
            fs::write(first_segment(copy.path()), changed).unwrap();
            assert!(!only(copy.path(), &[]).is_consistent(), "byte {at}");
        }
    }
}

#[test]
fn every_cut_in_what_is_signed_is_called_truncated() {
    let folder = written(3, 0);
    let content = fs::read(first_segment(folder.path())).unwrap();
    let first_line = content.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for length in 0..content.len() {
        let copy = copy_of(folder.path());
        fs::write(first_segment(copy.path()), &content[..length]).unwrap();
        let problems = only(copy.path(), &[]).problems;
        let is_truncated =
            problems.iter().any(|problem| matches!(problem, Problem::Truncated { stated: Stated { size: 4, .. }, .. }));
        assert!(is_truncated, "{length}: {problems:?}");
        assert!(length < first_line || problems[0].to_string().starts_with("REWRITTEN") || problems.len() == 1);
    }
}

#[test]
fn an_older_copy_is_found_by_an_anchor_alone_and_named_after_what_was_done_with_it() {
    let folder = written(3, 0);
    let older = copy_of(folder.path());
    let (mut log, _) = open(folder.path());
    record(&mut log, "newer");
    log.checkpoint(at(5)).unwrap();
    drop(log);
    let anchored = [anchor(folder.path())];
    assert!(only(folder.path(), &anchored).is_consistent());
    assert!(only(older.path(), &[]).is_consistent(), "nothing in the folder shows it");
    assert_eq!(
        only(older.path(), &anchored).problems,
        [Problem::Truncated { stated: stated(5, None, true), found: 4, until: Some(time(1)) }]
    );
    // And continued, as if nothing had been lost.
    let (mut log, _) = open(older.path());
    record(&mut log, "another story");
    record(&mut log, "of two records");
    log.checkpoint(at(6)).unwrap();
    drop(log);
    assert_eq!(
        only(older.path(), &anchored).problems,
        [Problem::Rewritten { stated: stated(5, None, true), unchanged: Some(stated(4, Some(time(2)), false)) }]
    );
    // A second checkpoint of the same size.
    let forked = copy_of(folder.path());
    let (mut log, _) = open(forked.path());
    record(&mut log, "a");
    log.checkpoint(at(7)).unwrap();
    drop(log);
    let (mut log, _) = open(folder.path());
    record(&mut log, "b");
    log.checkpoint(at(7)).unwrap();
    drop(log);
    let problems = only(folder.path(), &[anchor(forked.path())]).problems;
    let forked = Problem::Forked { one: stated(6, Some(time(7)), false), other: stated(6, None, true) };
    assert!(problems.contains(&forked), "{problems:?}");
}

#[test]
fn two_lines_that_are_swapped_are_found() {
    let folder = written(3, 0);
    let content = fs::read_to_string(first_segment(folder.path())).unwrap();
    let lines: Vec<_> = content.lines().collect();
    let swapped = [lines[0], lines[2], lines[1], lines[3]].map(|line| format!("{line}\n")).concat();
    fs::write(first_segment(folder.path()), &swapped).unwrap();
    assert_eq!(only(folder.path(), &[]).problems[0], Problem::NotARecord { record: 1 });
    // With the numbers as they should be.
    let renumbered =
        swapped.replace("\"seq\":2", "\"seq\":9").replace("\"seq\":1,", "\"seq\":2,").replace("\"seq\":9", "\"seq\":1");
    fs::write(first_segment(folder.path()), renumbered).unwrap();
    assert_eq!(
        only(folder.path(), &[]).problems,
        [Problem::Rewritten { stated: stated(4, Some(time(2)), false), unchanged: None }]
    );
}

#[test]
fn a_log_that_was_written_anew_with_another_key_is_not_the_one_of_the_anchor() {
    let folder = written(3, 0);
    let anchored = [anchor(folder.path())];
    let mut identity = identity(folder.path()).unwrap().unwrap();
    let forger = SigningKey::from_pem(&identity.origin, &SigningKey::generate_pem().unwrap()).unwrap();
    identity.public_key = forger.verifying_key().to_string();
    fs::write(folder.path().join("log.json"), serde_json::to_vec(&identity).unwrap()).unwrap();
    let note = checkpoint_of(&anchored[0]).sign(&forger).unwrap();
    fs::write(folder.path().join("checkpoint"), note).unwrap();
    fs::remove_file(folder.path().join("checkpoints.jsonl")).unwrap();
    assert!(only(folder.path(), &[]).is_consistent(), "nothing in the folder shows it");
    assert_eq!(only(folder.path(), &anchored).problems, [Problem::NotSigned { what: "an anchor".to_owned() }]);
}

fn checkpoint_of(anchor: &Anchor) -> Checkpoint {
    anchor.checkpoint.clone()
}

#[test]
fn a_changed_or_missing_segment_is_found_and_pruned_ones_are_not_missed() {
    let folder = written(0, 0);
    let (mut log, _) = open(folder.path());
    let mut notes = Vec::new();
    for segment in 0..3 {
        record(&mut log, &format!("of segment {segment}"));
        log.checkpoint(at(2)).unwrap();
        notes.push(anchor(folder.path()));
        log.begin_segment(at(3), 0, |_| ()).unwrap();
    }
    record(&mut log, "last");
    log.checkpoint(at(4)).unwrap();
    drop(log);
    let whole = only(folder.path(), &notes);
    assert_eq!((whole.problems.len(), whole.first, whole.anchored.len()), (0, 0, 3));
    let all = segments(folder.path()).unwrap();

    let missing = copy_of(folder.path());
    fs::remove_file(missing.path().join(all[1].path.file_name().unwrap())).unwrap();
    let problems = only(missing.path(), &[]).problems;
    let second = all[2].first;
    assert!(
        problems.contains(&Problem::Segment { first: second, why: "does not follow the one before it" }),
        "{problems:?}"
    );

    all[..2].iter().for_each(|segment| fs::remove_file(&segment.path).unwrap());
    let pruned = only(folder.path(), &notes);
    assert_eq!((&pruned.problems, pruned.first, pruned.size), (&vec![], second, whole.size));
    // The second anchor states exactly what comes before the first record that is kept.
    assert_eq!((pruned.anchored.len(), pruned.too_old.len()), (2, 1));
    assert_eq!(pruned.root, whole.root);
}

#[test]
fn a_log_that_continues_a_damaged_one_is_verified_with_it() {
    let folder = written(3, 0);
    let mut content = fs::read(first_segment(folder.path())).unwrap();
    content.truncate(40);
    fs::write(first_segment(folder.path()), content).unwrap();
    let (mut log, _) = open(folder.path());
    record(&mut log, "after");
    log.checkpoint(at(3)).unwrap();
    drop(log);
    let found = verify(folder.path(), &[]).unwrap();
    assert_eq!(found.iter().map(Verification::is_consistent).collect::<Vec<_>>(), [false, true]);
    assert_eq!(found[1].continues, found[0].origin);
}

#[test]
fn anchors_are_read_from_notes_journals_and_prometheus() {
    let folder = written(1, 0);
    let Checkpoint { origin, size, root } = checkpoint(folder.path());
    let text = format!(
        "2026-11-29T10:00:00Z  INFO evidence checkpoint origin=\"{origin}\" size={size} root=\"{root}\"\nother\n"
    );
    let json = format!(
        "{{\"message\":\"evidence checkpoint\",\"origin\":\"{origin}\",\"size\":{size},\"root\":\"{root}\"}}\n"
    );
    let journal = format!("{}\n", serde_json::json!({"MESSAGE": text, "_PID": "1"}));
    let query = serde_json::json!({"status": "success", "data": {"resultType": "vector", "result": [
        {"metric": {"__name__": "kms_rotation_evidence_checkpoint_info", "origin": origin, "size": size.to_string(),
                    "root": root.to_string()}, "value": [1_795_000_000, "1"]}]}});
    for file in [text, format!("{json}{json}"), journal, query.to_string()] {
        let found = anchors(&file);
        assert!(!found.is_empty(), "{file}");
        assert!(found.iter().all(|anchor| anchor.checkpoint == checkpoint(folder.path()) && anchor.note.is_none()));
        assert!(only(folder.path(), &found).is_consistent());
        let mut wrong = found[0].clone();
        wrong.checkpoint.root = leaf_hash(b"another");
        assert!(!only(folder.path(), &[wrong]).is_consistent());
    }
    for none in ["", "no anchor", "{\"origin\":\"a\"}", "[1,2,{\"root\":7}]", "origin=a size=x root=b"] {
        assert_eq!(anchors(none), []);
    }
    // Those of other logs do not count.
    let other = written(1, 0);
    let found = only(folder.path(), &[anchor(other.path())]);
    assert!(found.is_consistent() && found.anchored.is_empty());
}
