//! `evidence checkpoint` and `prove`: what they print and how they end.

use std::fs;

use kms_rotationd::evidence::folder::{identity, segments};
use kms_rotationd::evidence::key::VerifyingKey;
use kms_rotationd::evidence::proof::Proof;
use tempfile::TempDir;

use super::evidence::evidence;
use super::evidence_log::{of_days, open, record, written};

#[test]
fn the_checkpoint_is_printed_byte_for_byte_and_a_missing_or_wrong_one_is_an_error() {
    let folder = written();
    let note = fs::read_to_string(folder.path().join("checkpoint")).unwrap();
    let printed = evidence("checkpoint", folder.path(), &[]);
    assert_eq!((printed.code, &*printed.stdout), (Some(0), &*note));
    fs::write(folder.path().join("checkpoint"), note.replace("\n3\n", "\n2\n")).unwrap();
    let wrong = evidence("checkpoint", folder.path(), &[]);
    assert!(wrong.code == Some(1) && wrong.stderr.contains("does not fit the checkpoint"), "{wrong:?}");
    let unsigned = TempDir::new().unwrap();
    record(&mut open(unsigned.path(), false, 0), "one", 1);
    let missing = evidence("checkpoint", unsigned.path(), &[]);
    assert!(missing.code == Some(1) && missing.stderr.contains("has no checkpoint yet"), "{missing:?}");
}

#[test]
fn the_proof_of_each_record_in_each_segment_verifies() {
    let folder = of_days(4);
    let key: VerifyingKey = identity(folder.path()).unwrap().unwrap().public_key.parse().unwrap();
    let lines: Vec<_> = segments(folder.path()).unwrap();
    let lines: Vec<u8> = lines.iter().flat_map(|segment| segment.read().unwrap()).collect();
    let outer = TempDir::new().unwrap();
    let file = outer.path().join("proof");
    for (seq, line) in lines.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n').enumerate() {
        let printed = evidence("prove", folder.path(), &["--seq", &seq.to_string()]);
        let proof: Proof = printed.stdout.parse().unwrap();
        assert_eq!(proof.verify(line, &key).unwrap().size, 8, "{seq}");
        let written =
            evidence("prove", folder.path(), &["--seq", &seq.to_string(), "--output-file", file.to_str().unwrap()]);
        assert_eq!((written.code, &*written.stdout), (Some(0), ""));
        assert_eq!(fs::read_to_string(&file).unwrap(), printed.stdout);
    }
}

#[test]
fn a_proof_that_cannot_be_made_names_the_reason() {
    let folder = of_days(3);
    record(&mut open(folder.path(), false, 9), "unsigned", 9);
    let refused = |folder: &TempDir, seq: &str| {
        let ended = evidence("prove", folder.path(), &["--seq", seq]);
        assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{ended:?}");
        ended.stderr
    };
    assert!(
        refused(&folder, "6")
            .contains("record number 6 is not signed yet: the newest checkpoint covers numbers 0 to 5")
    );
    let beyond = refused(&folder, "7");
    assert!(beyond.contains("has no record number 7: its newest checkpoint covers numbers 0 to 5"), "{beyond}");
    let inside = folder.path().join("proof");
    let inside = evidence("prove", folder.path(), &["--seq", "1", "--output-file", inside.to_str().unwrap()]);
    assert!(inside.code == Some(2) && inside.stderr.contains("in the directory of the log"), "{inside:?}");
    fs::remove_file(folder.path().join("00000000000000000000.jsonl.gz")).unwrap();
    let pruned = refused(&folder, "1");
    assert!(pruned.contains("its segment was moved or pruned, and the first record here is number 2"), "{pruned}");
    assert_eq!(evidence("prove", folder.path(), &["--seq", "3"]).code, Some(0));
    let text = fs::read_to_string(folder.path().join("00000000000000000004.jsonl")).unwrap();
    fs::write(folder.path().join("00000000000000000004.jsonl"), text.replace("day 2", "day X")).unwrap();
    let changed = refused(&folder, "3");
    assert!(changed.contains("are not those of their checkpoint; `evidence verify` shows what is wrong"), "{changed}");
}
