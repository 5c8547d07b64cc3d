//! The program as its users meet it: the real binary, a policy file, and a cloud that answers or does not.
//!
//! Each test has its own simulated cloud, its own folder and its own port. Nothing waits for a time to pass: tests wait
//! for a line of the log, for a request to arrive or for the end of the process, and fail after [`DEADLINE`].

#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests fail as tests do")]

mod access_keys;
mod account;
mod agencies;
mod alerting;
mod authentication;
mod browser;
mod cloud;
#[cfg(feature = "kubernetes")]
mod cluster;
mod commands;
mod dashboard;
mod environment;
mod environment_agencies;
mod environment_files;
mod environment_projects;
mod errors;
mod faults;
mod front;
mod generate;
mod guest;
mod healthcheck;
#[path = "../installed/mod.rs"]
mod installed;
mod lifecycle;
mod listening;
mod machine;
mod memory;
mod networks;
mod program;
mod projects;
mod prometheus;
mod rehearsal;
mod reload;
#[cfg(feature = "kubernetes")]
mod replicas;
mod rules;
mod schedule;
mod secrets;
mod secrets_on_the_way;
mod service_manager;
mod site;
mod stalled_log;
mod stand_in;
mod status_page;
mod unclear;
mod web;
mod workload;
mod write_only;

use std::time::{Duration, Instant};

/// So long a test waits for what has to happen. Far more than it takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

const PROJECT: &str = "0123456789abcdef0123456789abcdef";
const KEY: &str = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";
const TOKEN: &str = "tOkEn-7f3a9c5e1b2d4f60-of-a-file";
const USER: &str = "rotator";
const ACCOUNT: &str = "ACCOUNT";
const PASSWORD: &str = "pAsSwOrD-c8e1d2b7a4f35960";

/// The id of the n-th of many keys.
fn key_id(n: usize) -> String {
    format!("{n:08x}-e727-4d9c-b35d-f84bb474a37f")
}

/// Waits until it is so.
#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < DEADLINE, "it never came to this: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
