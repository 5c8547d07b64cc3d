//! `evidence pack`: what is in it, what never is, and that it is complete in itself.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kms_rotationd::evidence::conclusion::CLAIM;
use tempfile::TempDir;

use super::evidence_log::{DAY, Kept, Note, ReadOnly, at, begin_segment, of_days, open, signed, written};
use super::program::{Finished, Program, binary};

/// A pack in a folder of its own, and what the command printed.
struct Pack {
    folder: TempDir,
    ended: Finished,
}

impl Pack {
    fn of(logs: &[&Path], options: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("pack.tar");
        let read_only: Vec<_> = logs.iter().map(|log| ReadOnly::new(log)).collect();
        let logs: Vec<_> = logs.iter().map(|log| log.to_str().unwrap()).collect();
        let arguments =
            [&["evidence", "pack"], &logs[..], options, &["--output-file", file.to_str().unwrap()]].concat();
        let ended = Program::start(binary(&arguments)).finish();
        read_only.iter().for_each(ReadOnly::assert_unchanged);
        Self { folder, ended }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("pack.tar")
    }

    /// Unpacks it, and returns the folders of its logs.
    fn unpack(&self) -> Vec<PathBuf> {
        tar::Archive::new(File::open(self.file()).unwrap()).unpack(self.folder.path()).unwrap();
        let root = self.folder.path().join("kms-rotationd-evidence");
        let mut logs: Vec<_> =
            root.read_dir().unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
        logs.sort();
        logs
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join("kms-rotationd-evidence").join(name)).unwrap()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn verify(logs: &[PathBuf], kept: &Kept) -> Finished {
    let logs: Vec<_> = logs.iter().map(|log| log.to_str().unwrap()).collect();
    Program::start(binary(&[&["evidence", "verify"], &logs[..], &["--anchor", &kept.file()]].concat())).finish()
}

#[test]
fn a_pack_has_all_that_an_auditor_needs_and_verifies() {
    let folder = of_days(3);
    let pack = Pack::of(&[folder.path()], &[]);
    assert_eq!((pack.ended.code, &*pack.ended.stderr), (Some(0), ""), "{:?}", pack.ended);
    let printed = "3 segments from record number 0 on; checkpoint over 6 records, signed 2026-11-20T11:06:41.000Z\n";
    assert!(pack.ended.stdout.ends_with(printed), "{}", pack.ended.stdout);
    let logs = pack.unpack();
    assert_eq!(
        names(&logs[0]),
        [
            "00000000000000000000.jsonl.gz",
            "00000000000000000002.jsonl.gz",
            "00000000000000000004.jsonl",
            "checkpoint",
            "checkpoints.jsonl",
            "log.json",
            "public-key"
        ]
    );
    for name in names(&logs[0]).iter().filter(|name| *name != "public-key") {
        assert_eq!(fs::read(logs[0].join(name)).unwrap(), fs::read(folder.path().join(name)).unwrap(), "{name}");
    }
    let log = fs::read_to_string(logs[0].join("log.json")).unwrap();
    assert!(log.contains(fs::read_to_string(logs[0].join("public-key")).unwrap().trim_end()));
    let ended = verify(&logs, &Kept::of(folder.path()));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let (guide, name) = (pack.read("README.md"), logs[0].file_name().unwrap().to_str().unwrap().to_owned());
    let listed = format!("* `{name}`: 3 segments from record number 0 on; checkpoint over 6 records, signed 2026-");
    assert!(guide.contains(&listed) && guide.contains(CLAIM) && !guide.contains("<!--"), "{guide}");
    assert!(pack.read("verify.py").starts_with("#!/usr/bin/env python3\n"));
    let mode = fs::metadata(pack.file()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[test]
fn a_pack_never_has_the_private_key() {
    // Not compressed by the pack, so that the bytes of a key would be found.
    let folder = written();
    let pem = fs::read_to_string(folder.path().join("signing-key")).unwrap();
    let base64 = pem.lines().nth(1).unwrap();
    let key = BASE64_STANDARD.decode(base64).unwrap();
    let seed = &key[key.len() - 32..];
    let pack = Pack::of(&[folder.path()], &[]);
    let tar = fs::read(pack.file()).unwrap();
    let has = |bytes: &[u8]| tar.windows(bytes.len()).any(|window| window == bytes);
    assert!(has(b"log.json"));
    for secret in [seed, &seed[..16], base64.as_bytes(), BASE64_STANDARD.encode(seed).as_bytes()] {
        assert!(!has(secret));
    }
    // Base64 of the seed at any offset from a group of three bytes.
    assert!((0..3).all(|skip| !has(&BASE64_STANDARD.encode(&seed[skip..skip + 27]).as_bytes()[..36])));
    assert!(!has(b"signing-key") && !has(b"PRIVATE KEY"));
}

#[test]
fn the_same_log_gives_the_same_bytes() {
    let folder = of_days(2);
    let packs = [(); 2].map(|()| Pack::of(&[folder.path()], &[]));
    let [one, other] = packs.map(|pack| fs::read(pack.file()).unwrap());
    assert!(one == other);
    let mut archive = tar::Archive::new(&*one);
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        let owner = (header.uid().unwrap(), header.gid().unwrap(), header.mode().unwrap());
        assert_eq!((owner, header.mtime().unwrap()), ((0, 0, 0o644), 1_795_000_000 + DAY + 1));
    }
}

#[test]
fn days_select_whole_segments_and_the_pack_ends_with_a_checkpoint_that_covers_them() {
    let folder = of_days(5);
    let kept: Vec<_> =
        fs::read_to_string(folder.path().join("checkpoints.jsonl")).unwrap().lines().map(str::to_owned).collect();
    for (from, to, segments, checkpoint) in [
        (None, None, 0..5, 5),
        (Some("2026-11-20"), None, 2..5, 5),
        (None, Some("2026-11-19"), 0..2, 2),
        (Some("2026-11-19"), Some("2026-11-20"), 1..3, 3),
        (Some("2026-11-18"), Some("2026-11-18"), 0..1, 1),
        (Some("2020-01-01"), Some("2030-01-01"), 0..5, 5),
    ] {
        let days = [from.map(|from| ["--from", from]), to.map(|to| ["--to", to])];
        let options: Vec<_> = days.into_iter().flatten().flatten().collect();
        let pack = Pack::of(&[folder.path()], &options);
        assert_eq!(pack.ended.code, Some(0), "{:?}", pack.ended);
        let logs = pack.unpack();
        let packed = names(&logs[0]).iter().filter_map(|name| name.get(..20)?.parse::<u64>().ok()).collect::<Vec<_>>();
        assert_eq!(packed, segments.map(|segment| segment * 2).collect::<Vec<_>>(), "{options:?}");
        // The pack is a log in itself, and an anchor of its last checkpoint agrees with it.
        let ended = verify(&logs, &Kept::text(&kept[checkpoint - 1]));
        assert_eq!(ended.code, Some(0), "{options:?}: {ended:?}");
        assert!(ended.stdout.contains(&format!("up to record number {} of", checkpoint * 2 - 1)), "{}", ended.stdout);
        assert_eq!(pack.read("README.md").contains("Newer segments are not in this pack"), checkpoint < 5);
    }
}

#[test]
fn a_segment_that_no_checkpoint_covers_to_its_end_is_packed_with_the_next_one() {
    let folder = TempDir::new().unwrap();
    let mut log = open(folder.path(), false, 0);
    signed(&mut log, "signed", 1);
    log.append(at(2), &Note { text: "signed on the next day".to_owned() });
    begin_segment(&mut log, DAY);
    signed(&mut log, "next day", DAY + 1);
    begin_segment(&mut log, 2 * DAY);
    signed(&mut log, "the day after", 2 * DAY + 1);
    drop(log);
    let pack = Pack::of(&[folder.path()], &["--to", "2026-11-18"]);
    assert!(
        pack.ended.stdout.contains("2 segments from record number 0 on; checkpoint over 5 records"),
        "{:?}",
        pack.ended
    );
}

#[test]
fn logs_of_replicas_and_continued_ones_have_a_folder_each() {
    let (one, other, simulated) = (written(), written(), TempDir::new().unwrap());
    fs::remove_file(other.path().join("signing-key")).unwrap();
    let mut log = open(other.path(), false, 9);
    signed(&mut log, "after", 10);
    drop(log);
    signed(&mut open(simulated.path(), true, 0), "one", 1);
    let pack = Pack::of(&[one.path(), other.path(), one.path()], &[]);
    let logs = pack.unpack();
    assert_eq!(logs.len(), 4, "the first one twice: {}", pack.ended.stdout);
    assert!(!pack.read("README.md").contains("SIMULATED"));
    let pack = Pack::of(&[one.path(), simulated.path()], &[]);
    pack.unpack();
    assert!(pack.read("README.md").starts_with("**SIMULATED"));
    assert!(pack.ended.stdout.contains("  SIMULATED: simulated-payments-"), "{}", pack.ended.stdout);
}

#[test]
fn a_pack_without_records_and_wrong_days_and_places_are_refused_and_leave_no_file() {
    let folder = written();
    let none = Pack::of(&[folder.path()], &["--from", "2026-11-19"]);
    assert_eq!((none.ended.code, &*none.ended.stderr), (Some(1), "kms-rotationd: no log has records of these days\n"));
    assert_eq!(names(none.folder.path()), Vec::<String>::new());
    for (days, why) in [
        (["--from", "2026-11-19", "--to", "2026-11-18"], "--from is after --to"),
        (["--from", "2026-11-31", "--to", "2026-11-18"], "expected a day such as 2026-01-31"),
    ] {
        let refused = Pack::of(&[folder.path()], &days);
        assert!(refused.ended.code == Some(2) && refused.ended.stderr.contains(why), "{:?}", refused.ended);
    }
    let log = folder.path().to_str().unwrap();
    let write = |file: &Path| {
        Program::start(binary(&["evidence", "pack", log, "--output-file", file.to_str().unwrap()])).finish()
    };
    let inside = write(&folder.path().join("pack.tar"));
    assert!(inside.code == Some(2) && inside.stderr.contains("in the directory of the log"), "{inside:?}");
    let nowhere = write(Path::new("/nowhere/pack.tar"));
    assert!(nowhere.code == Some(1) && nowhere.stderr.contains("cannot write /nowhere/pack.tar"), "{nowhere:?}");
    // An existing file is replaced.
    let outer = TempDir::new().unwrap();
    let file = outer.path().join("pack.tar");
    fs::write(&file, "old").unwrap();
    assert_eq!(write(&file).code, Some(0));
    assert!(fs::metadata(&file).unwrap().len() > 1000);
    assert_eq!(names(outer.path()), ["pack.tar"]);
}

#[test]
fn each_file_is_in_a_pack_once() {
    let pack = Pack::of(&[written().path()], &[]);
    let mut archive = tar::Archive::new(File::open(pack.file()).unwrap());
    let mut count = BTreeMap::<_, usize>::new();
    for entry in archive.entries().unwrap() {
        *count.entry(entry.unwrap().path().unwrap().into_owned()).or_default() += 1;
    }
    assert!(count.values().all(|count| *count == 1), "{count:?}");
}
