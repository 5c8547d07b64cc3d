//! `verify.py` and the guide of a pack: Python, openssl and jq find what the program finds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kms_rotationd::evidence::record::RecordType;
use tempfile::TempDir;

use crate::evidence_log::{
    DAY, Kept, at, begin_segment, continued, copy_of, first_segment, of_days, open, record, signed, written,
};
use crate::on_path;
use crate::program::{Program, binary};
use crate::repository::{root, text};

const VERIFIER: &str = "src/evidence/pack/verify.py";
/// The finding of a log in which nothing is wrong.
const GOOD: &str = "CONSISTENT AND ANCHORED";
const GUIDE: &str = "src/evidence/pack/README.md";

/// A Python that has this package: the one of the machine, or the one that `.ci/run` installs.
pub(crate) fn python_with(package: &str) -> Result<PathBuf, String> {
    let candidates = ["python3", "python3-ed25519"].into_iter().filter_map(on_path);
    let has_package = |python: &PathBuf| {
        Command::new(python).args(["-c", &format!("import {package}")]).output().is_ok_and(|ran| ran.status.success())
    };
    candidates.into_iter().find(has_package).ok_or_else(|| format!("no Python has the package {package}"))
}

/// What a verification ended with.
struct Verified {
    code: Option<i32>,
    text: String,
}

impl Verified {
    fn of(ran: Output) -> Self {
        assert!(ran.stderr.is_empty(), "{}", String::from_utf8_lossy(&ran.stderr));
        Self { code: ran.status.code(), text: String::from_utf8(ran.stdout).unwrap() }
    }

    #[track_caller]
    fn assert(&self, code: i32, texts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.text);
        for text in texts {
            assert!(self.text.contains(text), "no {text:?} in\n{}", self.text);
        }
    }
}

/// The arguments after the script: folders and anchors.
fn arguments(folders: &[&Path], anchors: &[&Kept]) -> Vec<String> {
    let folders = folders.iter().map(|folder| folder.to_str().unwrap().to_owned());
    folders.chain(anchors.iter().flat_map(|kept| ["--anchor".to_owned(), kept.file()])).collect()
}

/// By Python without any package.
fn bare(folders: &[&Path], anchors: &[&Kept]) -> Verified {
    let mut python = Command::new("python3");
    python.args(["-S", VERIFIER]).args(arguments(folders, anchors)).current_dir(root());
    Verified::of(python.env_remove("PYTHONPATH").output().unwrap())
}

/// By Python with one package, and without the other one.
fn with_package(package: &str, other: &str, folders: &[&Path], anchors: &[&Kept]) -> Verified {
    let script = format!(
        "import runpy, sys; sys.modules['{other}'] = None; sys.argv[0] = '{VERIFIER}'; \
         runpy.run_path('{VERIFIER}', run_name='__main__')"
    );
    let mut python = Command::new(python_with(package).unwrap());
    python.args(["-c", &script]).args(arguments(folders, anchors)).current_dir(root());
    Verified::of(python.output().unwrap())
}

/// By the program.
fn ours(folders: &[&Path], anchors: &[&Kept]) -> Verified {
    let arguments = arguments(folders, anchors);
    let arguments: Vec<_> = ["evidence", "verify"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    let ended = Program::start(binary(&arguments)).finish();
    Verified { code: ended.code, text: ended.stdout }
}

pub(crate) fn without_a_package_for_signatures_the_tree_is_verified_and_the_gap_is_named() {
    let folder = written();
    let kept = Kept::of(folder.path());
    record(&mut open(folder.path(), false, 9), "unsigned", 9);
    bare(&[folder.path()], &[&kept]).assert(
        4,
        &[
            "1 records not yet signed",
            "CONSISTENT AND ANCHORED: up to record number 2 of 2026-11-18T11:06:42.000Z, no record was changed or removed.",
            "THE SIGNATURES WERE NOT CHECKED",
            "pip install cryptography",
        ],
    );
    bare(&[folder.path()], &[]).assert(4, &["CONSISTENT, NOT ANCHORED"]);
}

pub(crate) fn each_flipped_bit_and_each_cut_in_the_records_is_found() {
    let folder = written();
    let kept = Kept::of(folder.path());
    let content = fs::read(first_segment(folder.path())).unwrap();
    let outer = TempDir::new().unwrap();
    let mut copies = Vec::new();
    let mut add = |changed: &[u8]| {
        let copy = outer.path().join(copies.len().to_string());
        fs::create_dir(&copy).unwrap();
        for file in ["log.json", "checkpoint", "checkpoints.jsonl"] {
            fs::copy(folder.path().join(file), copy.join(file)).unwrap();
        }
        fs::write(first_segment(&copy), changed).unwrap();
        copies.push(copy);
    };
    for at in 0..content.len() {
        let mut changed = content.clone();
        changed[at] ^= 1 << (at % 8);
        add(&changed);
        if at % 5 == 0 {
            add(&content[..at]);
        }
    }
    // Zeros as after a power cut, two lines swapped, and a line twice.
    let lines: Vec<_> = content.split_inclusive(|byte| *byte == b'\n').collect();
    add(&[&content[..content.len() - 9], &[0; 9]].concat());
    add(&[lines[0], lines[2], lines[1]].concat());
    add(&[lines[0], lines[1], lines[1], lines[2]].concat());
    let folders: Vec<_> = copies.iter().map(PathBuf::as_path).collect();
    let found = bare(&folders, &[&kept]);
    found.assert(1, &["TRUNCATED", "REWRITTEN"]);
    for block in found.text.split("\n\n").take(folders.len()) {
        assert!(block.ends_with("  INCONSISTENT."), "{block}");
    }
    assert_eq!(found.text.matches("  INCONSISTENT.\n").count(), folders.len());
}

/// The findings in a text, by their names.
fn findings(verified: &Verified) -> Vec<&str> {
    let names = [
        "TRUNCATED",
        "REWRITTEN",
        "FORKED",
        "NOT SIGNED",
        "UNKNOWN KEY",
        "CONSISTENT AND ANCHORED",
        "CONSISTENT, NOT ANCHORED",
        "INCONSISTENT",
        "SIMULATED",
    ];
    names.into_iter().filter(|name| verified.text.lines().any(|line| line.trim_start().starts_with(name))).collect()
}

pub(crate) fn every_log_gets_the_findings_of_the_program() {
    let check = |folder: &Path, anchors: &[&Kept], expected: &[&str]| {
        let [ours, theirs] = [ours(&[folder], anchors), bare(&[folder], anchors)];
        assert_eq!(findings(&ours), expected, "{}", ours.text);
        assert_eq!(findings(&theirs), expected, "{}", theirs.text);
        // Only the signatures are missing.
        let code = if ours.code == Some(1) { 1 } else { 4 };
        assert_eq!(theirs.code, Some(code), "{}", theirs.text);
    };
    let folder = written();
    let older = copy_of(folder.path());
    let oldest = Kept::of(folder.path());
    continued(folder.path(), "three", 10);
    let kept = Kept::of(folder.path());
    check(folder.path(), &[&oldest, &kept], &[GOOD]);
    check(folder.path(), &[], &["CONSISTENT, NOT ANCHORED"]);
    check(older.path(), &[&kept], &["TRUNCATED", "INCONSISTENT"]);
    continued(older.path(), "another story", 10);
    check(older.path(), &[&oldest, &kept], &["REWRITTEN", "FORKED", "INCONSISTENT"]);
    let text = fs::read_to_string(first_segment(folder.path())).unwrap();
    fs::write(first_segment(folder.path()), format!("{text}{{\"v\":1,\"seq\":4,")).unwrap();
    check(folder.path(), &[&kept], &[GOOD]);
    fs::write(first_segment(folder.path()), text.replace("\"two\"", "\"2.0\"")).unwrap();
    check(folder.path(), &[], &["REWRITTEN", "INCONSISTENT"]);
    fs::write(folder.path().join("log.json"), "{").unwrap();
    check(folder.path(), &[], &["UNKNOWN KEY", "INCONSISTENT"]);

    let days = of_days(3);
    let newest = Kept::of(days.path());
    check(days.path(), &[&newest], &[GOOD]);
    let middle = days.path().join("00000000000000000002.jsonl.gz");
    let missing = copy_of(days.path());
    fs::remove_file(missing.path().join(middle.file_name().unwrap())).unwrap();
    check(missing.path(), &[&newest], &["REWRITTEN", "INCONSISTENT"]);
    let damaged = copy_of(days.path());
    let compressed = fs::read(&middle).unwrap();
    fs::write(damaged.path().join(middle.file_name().unwrap()), &compressed[..compressed.len() - 3]).unwrap();
    check(damaged.path(), &[&newest], &["REWRITTEN", "INCONSISTENT"]);
    fs::remove_file(days.path().join("00000000000000000000.jsonl.gz")).unwrap();
    check(days.path(), &[&newest], &[GOOD]);

    let simulated = TempDir::new().unwrap();
    signed(&mut open(simulated.path(), true, 0), "one", 1);
    check(simulated.path(), &[&Kept::of(simulated.path())], &[GOOD, "SIMULATED"]);
}

/// The signatures of a pack's checkpoints and of anchors, with a package.
fn assert_signatures(package: &str, other: &str) {
    let folder = of_days(2);
    let kept = Kept::of(folder.path());
    let verify = |folder: &Path, anchors: &[&Kept]| with_package(package, other, &[folder], anchors);
    verify(folder.path(), &[&kept]).assert(0, &["CONSISTENT AND ANCHORED: up to record number 3"]);
    verify(folder.path(), &[]).assert(3, &["CONSISTENT, NOT ANCHORED"]);
    // Every bit of the checkpoint counts.
    let note = fs::read(folder.path().join("checkpoint")).unwrap();
    let outer = TempDir::new().unwrap();
    let mut copies = Vec::new();
    for at in 0..note.len() {
        let copy = outer.path().join(at.to_string());
        fs::create_dir(&copy).unwrap();
        for file in fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()) {
            fs::copy(&file, copy.join(file.file_name().unwrap())).unwrap();
        }
        let mut changed = note.clone();
        changed[at] ^= 1;
        fs::write(copy.join("checkpoint"), changed).unwrap();
        copies.push(copy);
    }
    let folders: Vec<_> = copies.iter().map(PathBuf::as_path).collect();
    let found = with_package(package, other, &folders, &[]);
    assert_eq!(
        (found.code, found.text.matches("  INCONSISTENT.\n").count()),
        (Some(1), folders.len()),
        "{}",
        found.text
    );
    // An anchor of another key.
    let forged = String::from_utf8(note).unwrap().replace("\n4\n", "\n3\n");
    verify(folder.path(), &[&Kept::text(&forged)]).assert(1, &["NOT SIGNED: an anchor"]);
}

pub(crate) fn the_signatures_are_checked_with_cryptography() {
    assert_signatures("cryptography", "nacl");
}

pub(crate) fn the_signatures_are_checked_with_pynacl() {
    assert_signatures("nacl", "cryptography");
}

/// The commands of the guide that begin with this text, run in the folder of a log. A pack adds the public key.
fn run_guide(begin: &str, folder: &Path) -> Output {
    let guide = text(GUIDE);
    let blocks = guide.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let block = blocks.into_iter().find(|block| block.starts_with(begin)).unwrap();
    Command::new("sh").args(["-ec", block]).current_dir(folder).output().unwrap()
}

pub(crate) fn the_commands_in_the_guide_check_a_signature_with_openssl() {
    let folder = written();
    let outer = TempDir::new().unwrap();
    let file = outer.path().join("pack.tar");
    let log = folder.path().to_str().unwrap();
    let packed = Program::start(binary(&["evidence", "pack", log, "--output-file", file.to_str().unwrap()])).finish();
    assert_eq!(packed.code, Some(0), "{packed:?}");
    tar::Archive::new(fs::File::open(file).unwrap()).unpack(outer.path()).unwrap();
    let entries = outer.path().join("kms-rotationd-evidence").read_dir().unwrap().map(|entry| entry.unwrap().path());
    let log = entries.into_iter().find(|path| path.is_dir()).unwrap();
    let begin = "# the public key in the form that openssl reads";
    let verified = run_guide(begin, &log);
    assert_eq!(String::from_utf8_lossy(&verified.stdout), "Signature Verified Successfully\n", "{verified:?}");
    let note = fs::read_to_string(log.join("checkpoint")).unwrap();
    fs::write(log.join("checkpoint"), note.replace("\n3\n", "\n2\n")).unwrap();
    assert!(!run_guide(begin, &log).status.success());
}

/// As much of a key's record as the guide uses.
#[derive(serde::Serialize)]
struct Rotated {
    project: &'static str,
    key_id: &'static str,
    event: &'static str,
    by: &'static str,
}

impl RecordType for Rotated {
    const NAME: &'static str = "key";
}

pub(crate) fn the_command_in_the_guide_lists_what_happened_to_keys() {
    let folder = of_days(1);
    let mut log = open(folder.path(), false, 5);
    let key = Rotated { project: "payments", key_id: "0d0466b0", event: "rotated", by: "cloud" };
    log.append(at(6), &key);
    begin_segment(&mut log, DAY);
    log.append(at(DAY + 1), &key);
    log.commit(at(DAY + 1)).unwrap();
    let listed = run_guide("gzip -cdf 0*.jsonl*", folder.path());
    let row = |time: &str| format!("{time}\tpayments\t0d0466b0\trotated\tcloud\n");
    assert_eq!(
        String::from_utf8(listed.stdout).unwrap(),
        row("2026-11-18T11:06:46.000Z") + &row("2026-11-19T11:06:41.000Z")
    );
}
