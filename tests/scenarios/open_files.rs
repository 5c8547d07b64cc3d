//! The limit of open files: hundreds of projects within it, and the error when it is reached.

use std::process::Command;
use std::time::Duration;

use kms_simulator::{Fault, Key, OperationSet, ProjectSetup, Rule, Setup};
use rustix::process::{Resource, Rlimit, Signal, getrlimit};

use super::cloud::{Cloud, many, setup};
use super::networks::{BY_PASSWORD, BY_TOKEN};
use super::program::Daemon;
use super::site::{Policy, Site};
use super::{ACCOUNT, PASSWORD, USER, eventually, key_id};

/// The program in this folder with these limits, as `ulimit` takes them.
fn limited(site: &Site, limits: &str, arguments: &[&str]) -> Command {
    let program = site.command(arguments);
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("ulimit {limits} && exec \"$0\" \"$@\"")]).arg(program.get_program());
    shell.args(program.get_args()).env_clear().current_dir(site.folder());
    shell
}

const RUN: [&str; 7] = ["run", "--policy", "policy.yaml", "--listen", "127.0.0.1:0", "--log-format", "json"];

#[test]
fn the_soft_limit_is_raised_to_the_hard_one() {
    let cloud = Cloud::of(many(1));
    let site = Site::new(&Policy::of_keys(cloud.url(), [key_id(0)]));
    let daemon = Daemon::start(limited(&site, "-Sn 64 && ulimit -Hn 700", &RUN));
    assert_eq!(daemon.metric("process_max_fds"), Some(700.0));
}

#[test]
fn hundreds_of_projects_and_a_reload_work_with_a_low_limit() {
    const PROJECTS: usize = 200;
    const KEYS: usize = 2;
    let id = |n: usize| format!("{n:032x}");
    let keys = |n: usize| (0..KEYS).map(move |key| Key::new(key_id(KEYS * n + key)));
    // Answers take a while, so that all projects wait for one at the same time.
    let slow = Rule::always(Fault::delay(Duration::from_millis(20))).on(OperationSet::READS);
    let setup = Setup::new().login(USER, ACCOUNT, PASSWORD).fault(slow);
    let cloud = Cloud::start(
        (0..PROJECTS)
            .fold(setup, |setup, n| setup.project(ProjectSetup::new(id(n), "eu-de").domain(ACCOUNT).keys(keys(n)))),
    );
    let policy = Policy::at(cloud.url()).with(BY_PASSWORD);
    let mut text = policy.text();
    text.truncate(text.find("- name:").unwrap());
    for n in 0..PROJECTS {
        let project = Policy { name: "NAME", project_id: "ID", ..policy.clone() };
        let project = keys(n).fold(project, |project, key| project.key(&key.id, 90)).project();
        text.push_str(&project.replace("NAME", &format!("p{n}")).replace(": ID\n", &format!(": {}\n", id(n))));
    }
    let site = Site::new(&policy);
    site.write("policy.yaml", &text);
    // Without a limit they would use four hundred connections.
    let daemon = Daemon::start(limited(&site, "-n 256", &RUN));
    let mut most = 0;
    let all = (PROJECTS * KEYS) as u64;
    let open = || std::fs::read_dir(format!("/proc/{}/fd", daemon.program.id())).unwrap().count();
    eventually("all keys were written", || {
        most = most.max(open());
        cloud.write_requests() == 2 * all
    });
    daemon.await_runs(1);
    assert_eq!(daemon.status().count("compliant"), all);
    text.push_str("# changed\n");
    site.write("policy.yaml", &text);
    daemon.signal(Signal::HUP);
    daemon.await_message("policy reloaded");
    daemon.await_runs(2);
    assert_eq!(daemon.status().count("compliant"), all);
    assert!(most < 256, "{most} descriptors");
    let (_, metrics) = daemon.get("/metrics");
    let lost: Vec<_> =
        metrics.lines().filter(|line| line.contains("code=\"connect\"") && !line.ends_with(" 0")).collect();
    assert!(lost.is_empty(), "{lost:#?}");
}

#[test]
fn running_out_of_open_files_is_reported_as_local_and_temporary() {
    for credentials in [BY_TOKEN, BY_PASSWORD] {
        // Connections are closed after a run, and tokens expire soon.
        let setup = setup(many(3)).idle_timeout(Duration::from_millis(500));
        let cloud = Cloud::start(setup.behave(|cloud| cloud.token_lifetime = Duration::from_secs(1)));
        let policy = Policy::of_keys(cloud.url(), (0..3).map(key_id)).with(credentials).every_second();
        let site = Site::new(&Policy { max_elapsed: "100ms", ..policy });
        let daemon = site.run();
        eventually("all is well", || daemon.status().count("compliant") == 3);
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let before = daemon.program.limit_files(Rlimit { current: Some(0), maximum });
        let failed = daemon.await_message("cannot reach the cloud; the project's keys cannot be checked");
        daemon.program.limit_files(before);
        let error = failed["error"].as_str().unwrap();
        assert!(error.contains("this process has reached its limit of open files and connections"), "{error}");
        assert!(!error.contains("user rotator"), "who logs in to the cloud is not to blame: {error}");
        eventually("all is well again", || daemon.status().count("compliant") == 3);
        assert_eq!(daemon.metric("kms_rotation_policy_reload_successful"), Some(1.0));
    }
}
