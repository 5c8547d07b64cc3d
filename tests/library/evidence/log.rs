//! Writing a log: what is on the disk after it is closed, continued, cut, damaged and moved.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kms_rotationd::evidence::folder::{Identity, identity, segments};
use kms_rotationd::evidence::key::{SigningKey, VerifyingKey};
use kms_rotationd::evidence::log::{Log, LogError, LogOptions, Opened};
use kms_rotationd::evidence::note::Checkpoint;
use kms_rotationd::evidence::record::RecordType;
use kms_rotationd::evidence::tree::{Frontier, leaf_hash};
use kms_rotationd::evidence::verify::verify;
use proptest::prelude::*;
use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;

#[derive(Serialize)]
struct Note<'a> {
    text: &'a str,
}

impl RecordType for Note<'_> {
    const NAME: &'static str = "note";
}

pub(super) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_000_000 + seconds)
}

pub(super) fn options() -> LogOptions {
    LogOptions {
        name: "payments".to_owned(),
        origin_suffix: None,
        signing_key: None,
        simulated: false,
        sync: true,
        replaced: None,
    }
}

pub(super) fn open(folder: &Path) -> (Log, Opened) {
    Log::open(folder, &options(), at(0)).unwrap()
}

/// Appends a record and makes it durable, without a checkpoint.
pub(super) fn record(log: &mut Log, text: &str) {
    log.append(at(1), &Note { text });
    log.commit(at(1)).unwrap();
}

/// A closed log with this number of signed and unsigned records beside the first one.
pub(super) fn written(signed: usize, unsigned: usize) -> TempDir {
    let folder = TempDir::new().unwrap();
    let (mut log, _) = open(folder.path());
    (0..signed).for_each(|number| record(&mut log, &format!("signed {number}")));
    log.checkpoint(at(2)).unwrap();
    (0..unsigned).for_each(|number| record(&mut log, &format!("unsigned {number}")));
    folder
}

/// The records on the disk.
fn records(folder: &Path) -> Vec<Value> {
    let texts =
        segments(folder).unwrap().into_iter().map(|segment| String::from_utf8(segment.read().unwrap()).unwrap());
    texts.collect::<String>().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The checkpoint on the disk, verified with the key in `log.json`.
pub(super) fn checkpoint(folder: &Path) -> Checkpoint {
    let key: VerifyingKey = identity(folder).unwrap().unwrap().public_key.parse().unwrap();
    Checkpoint::parse(&fs::read_to_string(folder.join("checkpoint")).unwrap(), &key).unwrap()
}

/// The tree of the lines on the disk.
fn tree(folder: &Path) -> Frontier {
    let mut tree = Frontier::new();
    for segment in segments(folder).unwrap() {
        let content = segment.read().unwrap();
        content.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n').for_each(|line| tree.append(leaf_hash(line)));
    }
    tree
}

pub(super) fn first_segment(folder: &Path) -> PathBuf {
    folder.join("00000000000000000000.jsonl")
}

#[test]
fn a_new_log_has_its_identity_its_key_and_a_first_segment() {
    let outer = TempDir::new().unwrap();
    let folder = outer.path().join("evidence");
    let (mut log, opened) = open(&folder);
    assert_eq!(opened, Opened::New);
    record(&mut log, "one");
    let signed = log.checkpoint(at(2)).unwrap();
    let Identity { version, origin, created_at, public_key, continues } = identity(&folder).unwrap().unwrap();
    let random = origin.strip_prefix("kms-rotationd/payments/").unwrap();
    assert!(random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit()), "{origin}");
    assert_eq!((version, &*created_at, continues), (1, "2026-11-18T11:06:40.000Z", None));
    assert!(public_key.starts_with(&format!("{origin}+")), "{public_key}");
    let records = records(&folder);
    let heads: Vec<_> =
        records.iter().map(|record| (record["v"].as_u64(), record["seq"].as_u64(), &record["type"])).collect();
    assert_eq!(heads, [(Some(1), Some(0), &"segment".into()), (Some(1), Some(1), &"note".into())]);
    assert_eq!(records[1]["text"], "one");
    assert_eq!(checkpoint(&folder), signed);
    assert_eq!((signed.size, signed.root), (2, tree(&folder).root()));
    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
    let file = "00000000000000000000.jsonl";
    assert_eq!(["", "signing-key", file, "lock", "checkpoint"].map(mode), [0o700, 0o600, 0o600, 0o600, 0o644]);
    let notes = fs::read_to_string(folder.join("checkpoints.jsonl")).unwrap();
    assert_eq!(notes.lines().count(), 1);
}

#[test]
fn nothing_is_signed_before_it_is_durable_and_nothing_twice() {
    let folder = TempDir::new().unwrap();
    let (mut log, _) = open(folder.path());
    log.commit(at(1)).unwrap();
    log.append(at(1), &Note { text: "waits" });
    assert_eq!((log.checkpoint(at(2)).unwrap().size, log.size()), (1, 2));
    log.commit(at(3)).unwrap();
    for _ in 0..2 {
        assert_eq!(log.checkpoint(at(4)).unwrap().size, 2);
    }
    let notes = fs::read_to_string(folder.path().join("checkpoints.jsonl")).unwrap();
    assert_eq!(notes.lines().count(), 2);
}

#[test]
fn a_closed_log_goes_on_where_it_ended_also_past_its_checkpoint() {
    for unsigned in [0, 3] {
        let folder = written(5, unsigned);
        let before = tree(folder.path());
        let (mut log, opened) = open(folder.path());
        assert_eq!((opened, log.size()), (Opened::Continued, before.size()));
        record(&mut log, "after");
        let signed = log.checkpoint(at(9)).unwrap();
        assert_eq!((signed.size, signed.root), (before.size() + 1, tree(folder.path()).root()));
    }
}

#[test]
fn one_process_writes_a_log_at_a_time() {
    let folder = TempDir::new().unwrap();
    let (log, _) = open(folder.path());
    assert!(matches!(Log::open(folder.path(), &options(), at(0)), Err(LogError::Locked(_))));
    drop(log);
    open(folder.path());
}

#[test]
fn a_log_that_was_cut_goes_on_after_its_last_record_or_is_left_if_signed_ones_are_missing() {
    let folder = written(2, 2);
    let content = fs::read(first_segment(folder.path())).unwrap();
    let line_ends: Vec<_> = (0..content.len()).filter(|at| content[*at] == b'\n').map(|at| at + 1).collect();
    let signed = line_ends[2];
    for length in 0..content.len() {
        // A power cut can leave zeros where the end of the file was already moved.
        let tail = [&b""[..], &[0; 5]][length % 2];
        let copy = copy_of(folder.path());
        let cut = [&content[..length], tail].concat();
        fs::write(first_segment(copy.path()), &cut).unwrap();
        let (mut log, opened) = open(copy.path());
        log.commit(at(3)).unwrap();
        if length < signed {
            let Opened::Left(why) = opened else { panic!("{length}: {opened:?}") };
            assert!(why.contains("its checkpoint states 3") || why.contains("does not begin"), "{length}: {why}");
            assert_eq!(fs::read(first_segment(copy.path())).unwrap(), cut, "what is there stays");
            assert_eq!(log.identity().continues, Some(identity(copy.path()).unwrap().unwrap().origin));
            assert_eq!(log.folder().parent(), Some(copy.path()));
            // It goes on in the sub-folder from now on.
            drop(log);
            assert_eq!(open(copy.path()).1, Opened::Continued);
            continue;
        }
        let whole: Vec<_> = line_ends.iter().filter(|end| **end <= length).collect();
        let is_torn = !tail.is_empty() || length > *whole[whole.len() - 1];
        assert_eq!(matches!(opened, Opened::Recovered(_)), is_torn, "{length}: {opened:?}");
        assert_eq!(log.size(), whole.len() as u64 + u64::from(is_torn), "{length}");
        let records = records(copy.path());
        assert_eq!(records.len() as u64, log.size(), "every line is a record");
        if let (Opened::Recovered(tail), Some(last)) = (opened, records.last()) {
            assert_eq!((&last["type"], &last["bytes"]), (&"recovered".into(), &tail.bytes.into()));
        }
    }
}

#[test]
fn a_bit_that_is_flipped_in_a_signed_record_is_found_when_the_log_goes_on() {
    let folder = written(3, 1);
    let content = fs::read(first_segment(folder.path())).unwrap();
    let signed =
        content.len() - content.strip_suffix(b"\n").unwrap().rsplit(|byte| *byte == b'\n').next().unwrap().len() - 1;
    for at in 0..signed {
        let copy = copy_of(folder.path());
        let mut changed = content.clone();
        changed[at] ^= 1;
        fs::write(first_segment(copy.path()), changed).unwrap();
        assert!(matches!(open(copy.path()).1, Opened::Left(_)), "byte {at}");
    }
}

#[test]
fn a_checkpoint_of_a_longer_log_or_by_another_key_is_not_continued() {
    let folder = written(3, 0);
    let older = copy_of(folder.path());
    let (mut log, _) = open(folder.path());
    record(&mut log, "newer");
    log.checkpoint(at(5)).unwrap();
    // The segment of an older copy, and the newest checkpoint.
    fs::copy(folder.path().join("checkpoint"), older.path().join("checkpoint")).unwrap();
    assert!(matches!(open(older.path()).1, Opened::Left(why) if why.contains("states 5")));

    let folder = written(3, 0);
    fs::write(folder.path().join("signing-key"), SigningKey::generate_pem().unwrap().as_bytes()).unwrap();
    assert!(matches!(open(folder.path()).1, Opened::Left(why) if why.contains("key is another one")));
}

#[test]
fn records_without_their_identity_are_left_as_they_are() {
    let folder = written(3, 0);
    let content = fs::read(first_segment(folder.path())).unwrap();
    fs::remove_file(folder.path().join("log.json")).unwrap();
    assert!(matches!(open(folder.path()).1, Opened::Left(why) if why.contains("log.json is missing")));
    assert_eq!(fs::read(first_segment(folder.path())).unwrap(), content);
    let damaged = written(3, 0);
    fs::write(damaged.path().join("log.json"), "{").unwrap();
    assert!(matches!(open(damaged.path()).1, Opened::Left(why) if why.contains("log.json is damaged")));
    // The program was killed while it began a log.
    let begun = TempDir::new().unwrap();
    fs::write(first_segment(begun.path()), "").unwrap();
    assert_eq!(open(begun.path()).1, Opened::New);
}

#[test]
fn a_segment_that_was_cut_in_its_first_record_is_begun_again() {
    let folder = written(3, 0);
    let half = br#"{"v":1,"seq":4,"at":"#;
    fs::write(folder.path().join("00000000000000000004.jsonl"), half).unwrap();
    let (mut log, opened) = open(folder.path());
    assert!(matches!(opened, Opened::Recovered(tail) if tail.bytes == half.len() as u64));
    assert_eq!(log.size(), 5, "four records, and that of the torn one");
    log.begin_segment(at(5), 0, |_| ()).unwrap();
    assert_eq!(log.checkpoint(at(6)).unwrap().root, tree(folder.path()).root());
}

#[test]
fn a_key_that_is_kept_elsewhere_is_not_written_to_the_folder() {
    let folder = TempDir::new().unwrap();
    let options = LogOptions { signing_key: Some(SigningKey::generate_pem().unwrap()), ..options() };
    for expected in [Opened::New, Opened::Continued] {
        let (mut log, opened) = Log::open(folder.path(), &options, at(0)).unwrap();
        assert_eq!(opened, expected);
        record(&mut log, "x");
        log.checkpoint(at(1)).unwrap();
    }
    assert!(!folder.path().join("signing-key").exists());
}

#[test]
fn a_real_run_continues_no_simulated_log_and_the_other_way_round() {
    for simulated in [false, true] {
        let folder = TempDir::new().unwrap();
        let options = LogOptions { simulated, ..options() };
        let (mut log, _) = Log::open(folder.path(), &options, at(0)).unwrap();
        assert_eq!(log.identity().origin.starts_with("kms-rotationd/simulated/"), simulated);
        record(&mut log, "x");
        drop(log);
        let other = LogOptions { simulated: !simulated, ..options };
        let refused = Log::open(folder.path(), &other, at(0)).unwrap_err();
        assert!(matches!(refused, LogError::OtherKind { simulated: is, .. } if is == simulated), "{refused}");
    }
}

#[test]
fn a_segment_stands_alone_and_the_tree_goes_on_through_it() {
    let folder = TempDir::new().unwrap();
    let (mut log, _) = open(folder.path());
    for segment in 0..3 {
        (0..=segment).for_each(|number| record(&mut log, &format!("{segment} {number}")));
        log.begin_segment(at(3), 2, |log| (0..2).for_each(|_| log.append(at(3), &Note { text: "opening" }))).unwrap();
        log.compress_closed().unwrap();
        assert!(!log.is_segment_due(at(4)));
    }
    record(&mut log, "last");
    let signed = log.checkpoint(at(4)).unwrap();
    assert_eq!((signed.size, signed.root), (log.size(), tree(folder.path()).root()));
    drop(log);
    let all = segments(folder.path()).unwrap();
    assert_eq!(all.iter().map(|segment| segment.is_compressed).collect::<Vec<_>>(), [true, true, true, false]);
    let openings: Vec<_> = records(folder.path()).into_iter().filter(|record| record["type"] == "segment").collect();
    assert_eq!(
        openings.iter().map(|record| record["tree_size"].as_u64().unwrap()).collect::<Vec<_>>(),
        all.iter().map(|segment| segment.first).collect::<Vec<_>>()
    );
    assert_eq!(openings[1]["previous"]["file"], "00000000000000000000.jsonl");
    // Older segments can be moved elsewhere.
    all[..3].iter().for_each(|segment| fs::remove_file(&segment.path).unwrap());
    let (log, opened) = open(folder.path());
    assert_eq!((opened, log.size()), (Opened::Continued, signed.size));
}

#[test]
fn records_that_cannot_be_written_wait_and_are_given_up_as_a_gap_beyond_a_mebibyte() {
    let folder = TempDir::new().unwrap();
    let (mut log, _) = open(folder.path());
    record(&mut log, "before");
    let (path, aside) = (first_segment(folder.path()), folder.path().join("aside"));
    fs::rename(&path, &aside).unwrap();
    log.append(at(10), &Note { text: "waits" });
    assert!(log.commit(at(10)).is_err());
    fs::rename(&aside, &path).unwrap();
    log.commit(at(11)).unwrap();
    assert_eq!(records(folder.path()).last().unwrap()["text"], "waits", "late, and not lost");

    fs::rename(&path, &aside).unwrap();
    let text = "x".repeat(600 * 1024);
    for seconds in 20..25 {
        log.append(at(seconds), &Note { text: &text });
        assert!(log.commit(at(seconds)).is_err());
    }
    fs::rename(&aside, &path).unwrap();
    assert!(log.has_gap());
    log.commit(at(1)).unwrap();
    assert!(!log.has_gap());
    record(&mut log, "after");
    let records = records(folder.path());
    let [.., gap, after] = &records[..] else { panic!("{records:?}") };
    assert_eq!((&gap["type"], &gap["records"], &after["text"]), (&"gap".into(), &5.into(), &"after".into()));
    assert_eq!((&gap["from"], &gap["to"]), (&"2026-11-18T11:07:00.000Z".into(), &"2026-11-18T11:06:41.000Z".into()));
    let signed = log.checkpoint(at(30)).unwrap();
    assert_eq!((signed.size, signed.root), (records.len() as u64, tree(folder.path()).root()));
}

pub(super) fn copy_of(folder: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

/// What a process does to a log before it is killed.
#[derive(Clone, Debug)]
enum Act {
    Append(usize),
    Commit,
    Checkpoint,
    Segment,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..200usize).prop_map(Act::Append),
        3 => Just(Act::Commit),
        2 => Just(Act::Checkpoint),
        1 => Just(Act::Segment),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..crate::properties::config() })]

    /// Each life ends without closing the log: what was not committed is lost, and the rest goes on.
    #[test]
    fn a_log_goes_on_through_many_lives_and_has_all_that_was_ever_committed(
        lives in proptest::collection::vec(proptest::collection::vec(act(), 0..12), 1..6)
    ) {
        let folder = TempDir::new().unwrap();
        let mut committed = 0;
        for acts in lives {
            let (mut log, opened) = open(folder.path());
            assert!(!matches!(opened, Opened::Left(_)), "{opened:?}");
            assert!(log.size() >= committed);
            for act in acts {
                match act {
                    Act::Append(length) => log.append(at(1), &Note { text: &"x".repeat(length) }),
                    Act::Commit => {
                        log.commit(at(2)).unwrap();
                        committed = log.size();
                    }
                    Act::Checkpoint => {
                        log.checkpoint(at(3)).unwrap();
                    }
                    Act::Segment => {
                        log.begin_segment(at(4), 1, |log| log.append(at(4), &Note { text: "opening" })).unwrap();
                        committed = log.size();
                    }
                }
            }
        }
        let (mut log, _) = open(folder.path());
        log.commit(at(5)).unwrap();
        let signed = log.checkpoint(at(6)).unwrap();
        assert_eq!((signed.size, signed.root), (log.size(), tree(folder.path()).root()));
    }
}

#[test]
fn a_segment_ends_with_its_quarter_and_old_ones_are_removed_by_the_retention() {
    const DAY: u64 = 86_400;
    let folder = TempDir::new().unwrap();
    // 2026-11-18.
    let (mut log, _) = open(folder.path());
    record(&mut log, "in November");
    log.checkpoint(at(2)).unwrap();
    assert!(!log.is_segment_due(at(43 * DAY)));
    let quarters = [at(45 * DAY), at(45 * DAY + 90 * DAY)];
    for quarter in quarters {
        assert!(log.is_segment_due(quarter));
        log.begin_segment(quarter, 0, |_| ()).unwrap();
        log.compress_closed().unwrap();
        assert!(!log.is_segment_due(quarter));
        log.checkpoint(quarter).unwrap();
    }
    let before = log.size();
    assert_eq!(log.prune(quarters[0], quarters[1]).unwrap(), 0, "its last record is not older");
    assert_eq!(log.size(), before);
    assert_eq!(log.prune(quarters[0] + Duration::from_secs(1), quarters[1]).unwrap(), 1);
    let signed = log.checkpoint(quarters[1]).unwrap();
    drop(log);
    let kept = records(folder.path());
    let (first, last) = (&kept[0], &kept[kept.len() - 1]);
    assert_eq!((&first["seq"], &first["type"]), (&2.into(), &"segment".into()));
    assert_eq!(
        (&last["type"], &last["first"], &last["files"][0]),
        (&"prune".into(), &2.into(), &"00000000000000000000.jsonl".into())
    );
    let notes = fs::read_to_string(folder.path().join("checkpoints.jsonl")).unwrap();
    // That of two records covers all that was removed, so the kept ones are compared with it.
    assert_eq!(notes.lines().count(), 4, "{notes}");
    let [verified] = verify(folder.path(), &[]).unwrap().try_into().unwrap();
    assert!(verified.is_consistent(), "{verified:?}");
    assert_eq!((verified.first, verified.size, verified.root), (2, signed.size, signed.root));
    let (log, opened) = open(folder.path());
    assert_eq!((opened, log.size()), (Opened::Continued, signed.size));
}
