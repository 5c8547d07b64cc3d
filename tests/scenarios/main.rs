//! The real binary with a policy file and a simulated cloud.
//!
//! Each test has its own simulated cloud, folder and port. No test waits for a time to pass: tests wait for a line of the
//! log, a request or the end of the process, and report a hang after [`DEADLINE`].

#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests fail as tests do")]

mod access_keys;
mod account;
mod agencies;
#[expect(dead_code, reason = "the tests of the library need more of it")]
#[path = "../library/audit/audit_log.rs"]
mod audit_log;
#[path = "../library/audit/story.rs"]
mod audit_story;
mod authentication;
mod basics;
mod cassette;
mod certificates;
mod cloud;
#[cfg(feature = "kubernetes")]
mod cluster;
mod commands;
mod documents;
mod environment;
mod environment_agencies;
mod environment_files;
mod environment_projects;
mod errors;
mod evidence;
mod evidence_log;
mod evidence_pack;
mod evidence_proof;
mod faults;
mod front;
mod generate;
mod guest;
mod healthcheck;
mod help;
mod init;
mod key_history;
mod lifecycle;
mod listening;
mod machine;
mod networks;
mod one_key;
mod open_files;
mod probe;
mod program;
mod projects;
mod proof;
mod proxy_faults;
mod recording;
mod rehearsal;
mod reload;
#[cfg(feature = "kubernetes")]
mod replicas;
mod report;
mod rules;
mod schedule;
mod secrets;
mod secrets_on_the_way;
mod service_manager;
mod site;
mod stalled_log;
mod stand_in;
mod standard_streams;
mod story;
mod story_report;
mod strict;
mod unclear;
mod web;
mod workload;
mod write_only;

use basics::{ACCOUNT, DEADLINE, KEY, PASSWORD, PROJECT, TOKEN, USER, eventually, key_id};
