//! The evidence log on a disk that is full for a while.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use kms_rotationd::evidence::reader::read;
use kms_rotationd::evidence::record::Record;
use kms_rotationd::evidence::verify::verify;
use rustix::process::Signal;

use crate::cloud::{Cloud, off};
use crate::program::{Daemon, Program};
use crate::site::{Policy, Site};
use crate::{KEY, PROJECT};

/// Mounts a small file system over `evidence` that is nearly full, in a namespace of its own, and starts the daemon.
const START: &str = "mount -t tmpfs -o size=96k,mode=0700 tmpfs evidence && \
                     head -c 60000 /dev/zero > evidence/ballast && \
                     exec \"$PROGRAM\" run --policy policy.yaml --listen 127.0.0.1:0 --log-format json";

/// Whether this machine lets the test mount a file system.
pub(crate) fn can_be_mounted() -> Result<(), String> {
    let mounts = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]).output();
    match mounts {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("cannot mount a tmpfs: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("cannot run unshare: {error}")),
    }
}

fn successful(daemon: &Daemon<'_>) -> bool {
    let (_, text) = daemon.get("/metrics");
    let line = text.lines().find(|line| line.starts_with("kms_rotation_evidence_write_successful{")).unwrap();
    line.ends_with(" 1")
}

#[track_caller]
fn run_again(daemon: &Daemon<'_>) {
    let runs = daemon.runs();
    daemon.signal(Signal::HUP);
    daemon.await_runs(runs + 1);
}

pub(crate) fn records_wait_while_the_disk_is_full_and_none_is_lost() {
    let cloud = Cloud::of([off()]);
    let evidence = "{directory: evidence, name: payments}".to_owned();
    let site = Site::new(&Policy { evidence, ..Policy::of_one_key(cloud.url()) });
    fs::create_dir(site.path("evidence")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-ec", START]).current_dir(site.folder());
    command.env("PROGRAM", env!("CARGO_BIN_EXE_kms-rotationd"));
    let daemon = Daemon::serving(Program::start(command));
    daemon.await_runs(1);
    assert!(successful(&daemon));
    // The mount is visible to the daemon alone.
    let folder: PathBuf =
        [format!("/proc/{}/root", daemon.program.id()), site.path("evidence").display().to_string()].concat().into();
    let mut runs = 1;
    while successful(&daemon) {
        assert!(runs < 200, "the disk does not become full");
        run_again(&daemon);
        runs += 1;
    }
    // Keys are kept on policy all the same.
    cloud.change_key(PROJECT, KEY, |key| key.rotation.enabled = false);
    run_again(&daemon);
    assert_eq!(cloud.rotation(KEY), (true, 90));
    fs::remove_file(folder.join("ballast")).unwrap();
    run_again(&daemon);
    runs += 2;
    assert!(successful(&daemon));
    let [verified] = verify(&folder, &[]).unwrap().try_into().unwrap();
    assert!(verified.is_consistent(), "{verified:?}");
    let (mut recorded, mut gaps) = (0, 0);
    read(&folder, |entry| match entry.record {
        Record::Run(_) => recorded += 1,
        Record::Gap(_) => gaps += 1,
        _ => {}
    })
    .unwrap();
    assert_eq!((recorded, gaps), (runs, 0));
    daemon.stop();
}
