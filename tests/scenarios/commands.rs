//! `check`, `plan` and `apply`: what they print, what they write, and how they end.

use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use kms_simulator::{Fault, Hold, Key, KeyState, Operation, Rule};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use super::cloud::{Cloud, many, off, rotating};
use super::help::{example, in_a_shell};
use super::program::{Daemon, Finished, Program, binary};
use super::site::{Policy, Site};
use super::{KEY, key_id};

fn end(command: Command) -> Finished {
    Program::start(command).finish()
}

/// A command on the policy, with text output.
fn in_text(site: &Site, command: &str) -> Finished {
    end(site.command(&[command, "--policy", "policy.yaml"]))
}

#[test]
fn check_accepts_a_valid_policy_without_a_request() {
    let cloud = Cloud::of([off()]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let text = in_text(&site, "check");
    assert_eq!((text.code, &*text.stderr), (Some(0), ""));
    assert!(text.stdout.starts_with("policy.yaml: valid, 1 entry in 1 project"), "{}", text.stdout);
    let machine = site.once("check");
    assert_eq!((machine.code, serde_json::from_str(&machine.stdout).ok()), (Some(0), Some(json!([]))));
    assert_eq!(cloud.all_requests(), 0);
}

#[cfg(not(feature = "kubernetes"))]
#[test]
fn a_program_without_the_feature_refuses_a_lease() {
    let mut site = Site::new(&Policy::of_one_key("http://127.0.0.1:9"));
    site.set("KMS_ROTATIOND_LEASE", "kms/rotation");
    let ended = end(site.command(&["run", "--policy", "policy.yaml"]));
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("this program was built without the feature `kubernetes`"), "{ended:?}");
}

#[test]
fn check_reports_every_problem_with_its_position() {
    let site = Site::new(&Policy::at("http://127.0.0.1:1").key(KEY, 29).key("not-a-key", 90).key(KEY, 90));
    let text = in_text(&site, "check");
    assert_eq!(text.code, Some(2));
    let places: Vec<_> = text.stdout.lines().map(|line| line.splitn(4, ':').collect::<Vec<_>>()).collect();
    assert_eq!(places.len(), 3, "{}", text.stdout);
    for (place, line) in places.iter().zip(["14", "15", "16"]) {
        assert_eq!((place[0], place[1]), ("policy.yaml", line), "{}", text.stdout);
        assert!(place[2].parse::<u32>().is_ok(), "{}", text.stdout);
    }
    let machine = site.once("check");
    let problems: Value = serde_json::from_str(&machine.stdout).unwrap();
    assert_eq!((machine.code, problems.as_array().map(Vec::len)), (Some(2), Some(3)));
    assert_eq!(problems[0]["line"], 14);
}

#[test]
fn check_warns_about_a_schedule_that_postpones_rotation_and_accepts_it() {
    let policy = Policy { schedule: r#"{cron: "*/30 * * * *"}"#, ..Policy::at("http://127.0.0.1:1") };
    let checked = in_text(&Site::new(&policy.always(KEY, 90)), "check");
    assert_eq!(checked.code, Some(0));
    assert!(
        checked.stdout.contains("warning: ") && checked.stdout.contains("would never rotate"),
        "{}",
        checked.stdout
    );
}

#[test]
fn check_warns_once_about_missing_files_and_accepts_the_policy() {
    let proxy = "proxy: {url: 'http://127.0.0.1:1', user_name: me, password_file: /nowhere/Sesame0pen}";
    let policy = Policy::of_one_key("http://127.0.0.1:1")
        .with("{access_key: {access_key_id_file: id, secret_access_key_file: ., security_token_file: '~/token'}}")
        .field("ca_file: password")
        .field(proxy);
    let site = Site::new(&policy);
    let other = Policy { name: "other", ..Policy::at("http://127.0.0.1:1") }.key(&key_id(0), 90).field(proxy);
    site.write("policy.yaml", &(policy.text() + &other.project()));
    let checked = in_text(&site, "check");
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let told: Vec<_> = checked.stdout.lines().filter_map(|line| line.split_once(": warning: ")).collect();
    assert_eq!(
        told.iter().map(|(_, what)| *what).collect::<Vec<_>>(),
        [
            "the file that `access_key_id_file` names does not exist in the current folder",
            "the file that `secret_access_key_file` names is not a regular file",
            "`security_token_file` starts with `~`, which is not expanded; write `${HOME}` or the full path",
            "the file that `password_file` names does not exist on this machine",
        ],
        "{}",
        checked.stdout
    );
    assert!(told.iter().all(|(place, _)| place.starts_with("policy.yaml:1")), "{told:?}");
    assert!(!checked.stdout.contains("Sesame0pen"), "it may be the secret itself: {}", checked.stdout);
    let machine: Value = serde_json::from_str(&site.once("check").stdout).unwrap();
    assert_eq!(machine.as_array().map(Vec::len), Some(4), "{machine}");
}

#[test]
fn check_reports_an_unset_variable_only_once() {
    let mut site = Site::new(&Policy::of_one_key("http://127.0.0.1:1").with("{token_file: '${CREDENTIALS}/token'}"));
    let unset = in_text(&site, "check");
    assert_eq!((unset.code, unset.stdout.lines().count()), (Some(2), 1), "{unset:?}");
    assert!(unset.stdout.contains("environment variable `CREDENTIALS` in `token_file` is unset"), "{unset:?}");
    site.set("CREDENTIALS", ".");
    let set = in_text(&site, "check");
    assert_eq!((set.code, set.stdout.lines().count()), (Some(0), 1), "{set:?}");
}

#[test]
fn a_missing_policy_or_a_folder_is_a_usage_error() {
    for policy in ["nowhere.yaml", "."] {
        let site = Site::new(&Policy::of_one_key("http://127.0.0.1:1"));
        for command in ["check", "plan", "apply", "run", "rehearse"] {
            let ended = end(site.command(&[command, "--policy", policy]));
            assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{command} {policy}");
            assert!(ended.stderr.contains(policy), "{}", ended.stderr);
        }
    }
}

#[test]
fn every_command_refuses_an_invalid_policy_before_any_request() {
    let cloud = Cloud::of([off()]);
    let site = Site::new(&Policy::of_one_key(cloud.url()).key(KEY, 90));
    for command in ["plan", "apply", "run", "rehearse"] {
        let ended = end(site.command(&[command, "--policy", "policy.yaml"]));
        assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{command}");
        assert!(ended.stderr.starts_with("policy.yaml:15:"), "{}", ended.stderr);
    }
    assert_eq!(cloud.all_requests(), 0);
}

#[test]
fn plan_shows_the_steps_of_a_run_exits_with_3_and_writes_nothing() {
    let cloud = Cloud::of([Key::new(key_id(0)), Key::new(key_id(1)).rotating(365), Key::new(key_id(2)).rotating(90)]);
    let site = Site::new(&Policy::of_keys(cloud.url(), (0..3).map(key_id)));
    let planned = site.once("plan");
    assert_eq!(planned.code, Some(3));
    let report = planned.report();
    let steps: Vec<_> = report.keys().map(|key| key["planned"].clone()).collect();
    let update = json!({"step": "update_interval", "interval_days": 90});
    assert_eq!(
        steps,
        [json!([{"step": "enable_rotation", "interval_days": null}, update]), json!([update]), json!([])]
    );
    let text = in_text(&site, "plan");
    assert_eq!(text.code, Some(3));
    let first = text.stdout.find(&format!("~ {}  ", key_id(0))).unwrap();
    let second = text.stdout.find(&format!("~ {}  ", key_id(1))).unwrap();
    assert!(text.stdout[first..second].contains("off → 90 days  policy.yaml:14  rotation is off"), "{}", text.stdout);
    assert!(text.stdout[second..].contains("365 → 90 days  policy.yaml:15  interval differs"), "{}", text.stdout);
    assert!(!text.stdout.contains(&key_id(2)), "it is as it should be: {}", text.stdout);
    let all = end(site.command(&["plan", "--policy", "policy.yaml", "--all"]));
    assert!(all.stdout.contains(&format!("✓ {}  key-00000002  90 days", key_id(2))), "{}", all.stdout);
    assert!(text.stdout.ends_with("A run would change 2 keys with 3 writes.\n"), "{}", text.stdout);
    assert_eq!(cloud.write_requests(), 0);
}

#[test]
fn plan_after_apply_has_nothing_to_change() {
    let cloud = Cloud::of(many(3));
    let site = Site::new(&Policy::of_keys(cloud.url(), (0..3).map(key_id)));
    assert_eq!((site.once("plan").code, site.apply().code, site.once("plan").code), (Some(3), Some(0), Some(0)));
    assert!(in_text(&site, "plan").stdout.ends_with("A run would change nothing.\n"));
}

#[test]
fn plan_exits_with_1_if_keys_off_policy_cannot_be_changed() {
    let cloud = Cloud::of([Key::new(key_id(0)).state(KeyState::Disabled)]);
    let site = Site::new(&Policy::of_keys(cloud.url(), (0..2).map(key_id)));
    let planned = site.once("plan");
    assert_eq!(planned.code, Some(1));
    assert_eq!(planned.key(&key_id(0)), "non_compliant: key_disabled");
    assert_eq!(planned.key(&key_id(1)), "unknown: not_found");
}

#[test]
fn plan_exits_with_1_if_a_key_could_not_be_read() {
    let cloud = Cloud::of([Key::new(key_id(0)), Key::new(key_id(1)).rotating(90)]);
    let site = Site::new(&Policy::of_keys(cloud.url(), (0..2).map(key_id)));
    assert_eq!(in_text(&site, "plan").code, Some(3));
    let unreadable = |key| Rule::next(1, Fault::kms(403, "KMS.0307")).on(Operation::ReadStatus).key(key_id(key));
    cloud.fault(unreadable(1));
    let planned = in_text(&site, "plan");
    assert_eq!(planned.code, Some(1), "{planned:?}");
    let end = ". A run would change 1 key with 2 writes, but 1 key could not be read.\n";
    assert!(planned.stdout.ends_with(end), "{}", planned.stdout);
    for key in 0..2 {
        cloud.fault(unreadable(key));
    }
    let planned = in_text(&site, "plan");
    assert_eq!(planned.code, Some(1), "{planned:?}");
    assert!(planned.stdout.ends_with(". No changes found, but 2 keys could not be read.\n"), "{}", planned.stdout);

    // Uncovered keys are unknown, which is a failure if coverage is required.
    let site = Site::new(&Policy::of_keys(cloud.url(), (0..2).map(key_id)).field("coverage: required"));
    assert_eq!(in_text(&site, "plan").code, Some(3));
    cloud.fault(Rule::next(1, Fault::kms(403, "KMS.0307")).on(Operation::ListKeys));
    let planned = in_text(&site, "plan");
    assert_eq!(planned.code, Some(1), "{planned:?}");
    assert!(planned.stdout.contains("key list unavailable"), "{}", planned.stdout);
}

#[test]
fn plan_lists_the_changes_that_monitor_mode_prevents() {
    let cloud = Cloud::of([off(), Key::new(key_id(0)), Key::new(key_id(1)).rotating(90)]);
    let other = |mode, key| Policy { name: "other", mode, ..Policy::at(cloud.url()) }.key(&key_id(key), 90);
    let planned = |other: &Policy| {
        let site = Site::new(&Policy { mode: "monitor", ..Policy::of_one_key(cloud.url()) });
        let text = std::fs::read_to_string(site.path("policy.yaml")).unwrap();
        site.write("policy.yaml", &(text + &other.project()));
        in_text(&site, "plan")
    };
    let held_back = format!("  would change if enforced: 1\n    ~ {KEY}  key-0d0466b0  off → 90 days  policy.yaml:14");
    for (other, code, end) in [
        (other("enforce", 0), Some(3), "A run would change 1 key with 2 writes. "),
        (other("enforce", 1), Some(0), "A run would change nothing. "),
        (other("enforce", 2), Some(1), "No changes found, but 1 key could not be read. "),
    ] {
        let planned = planned(&other);
        assert_eq!(planned.code, code, "{planned:?}");
        assert!(planned.stdout.contains(&held_back), "{}", planned.stdout);
        let end = format!("{end}Would change if enforced: 1 key with 2 writes.\n");
        assert!(planned.stdout.ends_with(&end), "{}", planned.stdout);
    }
    assert_eq!(cloud.write_requests(), 0);
}

#[test]
fn json_output_is_a_document_also_for_an_invalid_policy() {
    let site = Site::new(&Policy::at("http://127.0.0.1:1").key(KEY, 29).key("not-a-key", 90));
    for command in ["plan", "apply"] {
        let ended = site.once(command);
        let document = ended.report().0;
        assert_eq!((ended.code, &document["run"], &document["projects"]), (Some(2), &Value::Null, &json!([])));
        let policy = &document["policy"];
        let places: Vec<_> = policy["problems"].as_array().unwrap().iter().map(|at| at["line"].clone()).collect();
        assert_eq!((&policy["file"], places), (&json!("policy.yaml"), vec![json!(14), json!(15)]));
        assert!(policy["error"].as_str().unwrap().starts_with("policy.yaml:14:"), "{policy}");
        assert_eq!(ended.messages("policy refused").len(), 2, "they are told on standard error as well");
    }
    std::fs::remove_file(site.path("policy.yaml")).unwrap();
    for command in ["plan", "apply", "check"] {
        let ended = site.once(command);
        assert_eq!(ended.code, Some(2), "{command}");
        let document: Value = serde_json::from_str(&ended.stdout).unwrap();
        let problems = if command == "check" { &document } else { &document["policy"]["problems"] };
        let problem = &problems[0];
        assert_eq!(
            (&problem["file"], &problem["line"], &problem["severity"]),
            (&json!("policy.yaml"), &Value::Null, &json!("error")),
            "{document}"
        );
        assert!(problem["message"].as_str().unwrap().ends_with("No such file or directory (os error 2)"), "{problem}");
    }
}

#[test]
fn the_pipeline_in_the_help_of_plan_continues_with_changes_and_fails_on_errors() {
    let cloud = Cloud::of([Key::new(key_id(0)), Key::new(key_id(1)).rotating(90)]);
    let line = example("plan", "In a pipeline");
    assert!(line.contains("kms-rotationd plan --policy policy.yaml"), "{line}");
    let goes_on = |policy: Policy| in_a_shell(&Site::new(&policy), &line).stdout.ends_with("went on\n");
    let at = || Policy::at(cloud.url());
    assert!(goes_on(at().key(&key_id(0), 90)), "changes to make");
    assert!(goes_on(at().key(&key_id(1), 90)), "nothing to change");
    assert!(!goes_on(at().key(&key_id(0), 90).key(&key_id(2), 90)), "a key that is not there");
    assert!(!goes_on(at().key(&key_id(0), 9)), "an invalid policy");
}

#[test]
fn monitor_mode_reads_and_never_writes() {
    let cloud = Cloud::of([off()]);
    let site = Site::new(&Policy { mode: "monitor", ..Policy::of_one_key(cloud.url()) });
    let applied = site.apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "non_compliant: rotation_disabled"));
    let daemon = site.run();
    daemon.await_runs(1);
    assert_eq!(daemon.status().key(KEY), "non_compliant: rotation_disabled");
    assert_eq!(daemon.metric("kms_rotation_keys{project=\"payments\",status=\"non_compliant\"}"), Some(1.0));
    assert_eq!((cloud.write_requests(), cloud.rotation(KEY)), (0, (false, 0)));
}

#[test]
fn monitor_mode_writes_nothing_if_the_setting_cannot_be_read() {
    let cloud = Cloud::start(super::cloud::setup([off()]).behave(|cloud| cloud.unknown = Operation::ReadStatus.into()));
    let applied = Site::new(&Policy { mode: "monitor", ..Policy::of_one_key(cloud.url()) }).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "unknown: status_unreadable"));
    assert_eq!(cloud.write_requests(), 0);
}

#[test]
fn apply_reports_its_changes_in_text_and_in_json() {
    let cloud = Cloud::of([off()]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let machine = site.apply();
    let report = machine.report().0;
    let key = &report["projects"][0]["keys"][0];
    assert_eq!(
        (&key["enabled"], &key["interval_days"], &key["policy_interval_days"]),
        (&json!(true), &json!(90), &json!(90))
    );
    let steps: Vec<_> = key["changes"].as_array().unwrap().iter().map(|change| change["step"].clone()).collect();
    assert_eq!(steps, ["enable_rotation", "update_interval"]);
    assert!(key["changes"][0]["request_id"].as_str().is_some_and(|id| id.len() == 32));
    assert_eq!((&report["run"]["trigger"], &report["run"]["result"]), (&json!("start"), &json!("success")));

    let text = in_text(&site, "apply");
    assert_eq!(text.code, Some(0));
    assert!(text.stdout.contains("1 of 1 key on policy. 0 changes made"), "{}", text.stdout);
    assert_eq!(text.stderr, "", "nothing changed, so there is nothing to log");
}

#[test]
fn mistakes_on_the_command_line_exit_with_2() {
    let mistakes: [&[&str]; 12] = [
        &[],
        &["frobnicate"],
        &["apply", "--frobnicate"],
        &["apply", "surplus"],
        &["apply", "--policy"],
        &["apply", "--output", "xml"],
        &["apply", "--listen", "127.0.0.1:0"],
        &["run", "--listen", "nowhere"],
        &["run", "--output", "json"],
        &["rehearse", "--faults", "flakey"],
        &["check", "--log-level", "loud"],
        &["check", "--log-format", "xml"],
    ];
    for arguments in mistakes {
        let ended = end(binary(arguments));
        assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{arguments:?}");
        assert!(!ended.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_and_version_exit_with_0_and_list_every_command() {
    let help = end(binary(&["--help"]));
    assert_eq!((help.code, &*help.stderr), (Some(0), ""));
    for command in ["run", "apply", "plan", "check", "rehearse", "Exit codes"] {
        assert!(help.stdout.contains(command), "{command}");
    }
    let version = end(binary(&["--version"]));
    let revision = option_env!("KMS_ROTATIOND_REVISION").unwrap_or("unknown");
    let expected = format!("kms-rotationd {} (revision {revision})\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((version.code, version.stdout), (Some(0), expected));
}

#[test]
fn options_override_the_variables_for_policy_and_address() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let mut command = site.command(&["apply"]);
    command.env("KMS_ROTATIOND_POLICY", site.path("policy.yaml"));
    assert_eq!(end(command).code, Some(0));
    let mut command = site.command(&["apply", "--policy", "policy.yaml"]);
    command.env("KMS_ROTATIOND_POLICY", "nowhere.yaml");
    assert_eq!(end(command).code, Some(0));

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let mut command = site.command(&["run", "--policy", "policy.yaml"]);
    command.env("KMS_ROTATIOND_LISTEN", "127.0.0.1");
    assert_eq!(end(command).code, Some(2), "an address without a port");
    let mut command = site.command(&["run", "--policy", "policy.yaml", "--log-format", "json"]);
    command.env("KMS_ROTATIOND_LISTEN", "127.0.0.1:0");
    Daemon::start(command).await_runs(1);
    let arguments = ["run", "--policy", "policy.yaml", "--listen", "127.0.0.1:0", "--log-format", "json"];
    let mut command = site.command(&arguments);
    command.env("KMS_ROTATIOND_LISTEN", taken);
    Daemon::start(command).await_runs(1);
}

#[test]
fn a_port_in_use_ends_the_daemon_with_1_before_any_request() {
    let cloud = Cloud::of([off()]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for command in ["run", "rehearse"] {
        let ended = end(site.command(&[command, "--policy", "policy.yaml", "--listen", &address]));
        assert_eq!(ended.code, Some(1));
        assert!(ended.stderr.contains(&format!("cannot listen on {address}")), "{}", ended.stderr);
    }
    assert_eq!(cloud.all_requests(), 0);
}

#[test]
fn a_closed_output_pipe_is_not_a_failure() {
    let cloud = Cloud::of((0..100).map(|n| Key::new(key_id(n)).rotating(90)));
    let site = Site::new(&Policy::of_keys(cloud.url(), (0..100).map(key_id)));
    for arguments in [
        &["apply", "--policy", "policy.yaml"][..],
        &["plan", "--policy", "policy.yaml", "--output", "json"],
        &["check", "--policy", "policy.yaml"],
        &["--help"],
    ] {
        let mut child = site.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{arguments:?}");
        assert_eq!(String::from_utf8(ended.stderr).unwrap(), "", "{arguments:?}");
    }
}

#[test]
fn an_unwritable_output_is_a_failure() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    for command in ["apply", "check"] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ended = site
            .command(&[command, "--policy", "policy.yaml"])
            .stdout(full)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(1), "{command}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains("cannot write to standard output"));
    }
}

/// The output of a command on a terminal, both streams together.
fn on_a_terminal(command: Command) -> String {
    watched(command, |_| {})
}

/// The same; the observer is called with the output so far.
fn watched(mut command: Command, watch: impl Fn(&str)) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let side = File::options().read(true).write(true).open(name).unwrap();
    let mut child = command.stdout(side.try_clone().unwrap()).stderr(side).spawn().unwrap();
    // Only the command has the other side of the terminal: reading ends when it is closed.
    drop(command);
    let mut shown = Vec::new();
    let mut terminal = File::from(terminal);
    let mut piece = [0; 4096];
    while let Ok(length) = terminal.read(&mut piece)
        && length > 0
    {
        shown.extend_from_slice(&piece[..length]);
        watch(&String::from_utf8_lossy(&shown));
    }
    assert!(child.wait().unwrap().code().is_some());
    String::from_utf8(shown).unwrap()
}

#[test]
fn colour_is_only_for_terminals_without_no_color() {
    let cloud = Cloud::of([off().state(KeyState::Disabled)]);
    let good = Site::new(&Policy::of_one_key(cloud.url()));
    let bad = Site::new(&Policy::of_one_key(cloud.url()).key(KEY, 90));
    for (site, command) in [(&good, "apply"), (&bad, "check"), (&bad, "apply")] {
        let arguments = [command, "--policy", "policy.yaml", "--log-level", "debug"];
        assert!(on_a_terminal(site.command(&arguments)).contains('\x1b'), "{command}");
        let mut dumb = site.command(&arguments);
        dumb.env("TERM", "dumb");
        assert!(!on_a_terminal(dumb).contains('\x1b'), "{command}");
        let mut plain = site.command(&arguments);
        plain.env("NO_COLOR", "1");
        // The progress line uses sequences as well; those for colour end with an `m`.
        let letter = |sequence: &str| sequence.chars().find(char::is_ascii_alphabetic);
        let said = on_a_terminal(plain);
        assert!(said.split('\x1b').skip(1).all(|sequence| letter(sequence) != Some('m')), "{command}: {said:?}");
        let piped = end(site.command(&arguments));
        assert!(!(piped.stdout + &piped.stderr).contains('\x1b'), "{command}");
    }
}

#[test]
fn changes_above_the_limit_are_postponed_and_the_option_is_named() {
    let cloud = Cloud::of(many(53));
    let site = Site::new(&Policy::at(cloud.url()).entry("{select: {}, max_rotation_interval: 90}"));
    let way = "kms-rotationd apply --allow-many\n";
    let planned = in_text(&site, "plan");
    assert_eq!(planned.code, Some(3));
    assert_eq!(planned.stdout.matches("off → ≤ 90 days  policy.yaml:14  rotation is off").count(), 53, "{planned:?}");
    for told in
        ["to change: 50\n", "postponed by max_changes_per_run: 3\n", "3 changes postponed: the limit is 50 a run", way]
    {
        assert!(planned.stdout.contains(told), "{told}: {}", planned.stdout);
    }
    let daemon = site.run();
    daemon.await_runs(1);
    assert_eq!(cloud.write_requests(), 100);
    let log = daemon.stop().stderr;
    let warning = log.lines().find(|line| line.contains("changes postponed")).unwrap_or_else(|| panic!("{log}"));
    assert!(warning.contains("\"WARN\"") && warning.contains("\"keys\":3"), "{warning}");

    let cloud = Cloud::of(many(53));
    let site = Site::new(&Policy::at(cloud.url()).entry("{select: {}, max_rotation_interval: 90}"));
    let held = in_text(&site, "apply");
    assert_eq!((held.code, held.stdout.matches("off → 90 days").count()), (Some(1), 50), "{}", held.stdout);
    assert!(
        held.stdout.contains("3 changes postponed: the limit is 50 a run") && held.stdout.contains(way),
        "{}",
        held.stdout
    );
    let all = end(site.command(&["apply", "--policy", "policy.yaml", "--allow-many"]));
    assert_eq!((all.code, all.stdout.matches("off → 90 days").count()), (Some(0), 3), "{}", all.stdout);
    assert!(all.stdout.contains("  changed: 3\n") && !all.stdout.contains("postponed"), "{}", all.stdout);
    assert!(all.stdout.contains("\n53 of 53 keys on policy. 6 changes made in "), "{}", all.stdout);
}

#[test]
fn plan_names_selectors_without_keys_and_uncovered_keys() {
    let cloud = Cloud::of([Key::new(key_id(0)).alias("pay-1").rotating(60), Key::new(key_id(1)).alias("web")]);
    let policy = Policy::at(cloud.url())
        .entry("{select: {alias: 'pay-*'}, max_rotation_interval: 90}")
        .entry("{select: {alias: 'ledger-*'}, rotation_interval: 90}")
        .entry("{alias: gone, rotation_interval: 90}");
    let planned = in_text(&Site::new(&policy), "plan");
    assert_eq!(planned.code, Some(1));
    let lines: Vec<_> = planned.stdout.lines().map(str::trim_end).collect();
    let missing = format!("    ? {:36}            policy.yaml:16  no key of this project has this alias", "alias/gone");
    let expected = [
        "payments  open-telekom-cloud eu-de, enforce",
        "  warning: policy.yaml:15: the selector matches no key",
        "  unknown: 1",
        &missing,
        "  uncovered, not matched by any policy entry: 1",
        &format!("    ○ {}  web  off", key_id(1)),
        "",
        "1 of 3 keys on policy; 1 unknown; 1 uncovered; 1 policy entry counts as one unknown key. No changes found, but \
         1 key could not be read.",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn progress_is_shown_on_a_terminal_only_and_removed_at_the_end() {
    // The last key is held until the progress line is visible, or for a second.
    let on_the_last = |fault| Rule::next(1, fault).on(Operation::ReadStatus).key(key_id(2));
    let cloud = Cloud::of((0..3).map(|n| Key::new(key_id(n)).rotating(90)));
    let policy = Policy::of_keys(cloud.url(), (0..3).map(key_id));
    let site = Site::new(&policy);
    let command = |more: &[&str]| site.command(&[&["plan", "--policy", "policy.yaml"], more].concat());
    let (erase, line) = ("\r\x1b[2K", "payments: 2 of 3 keys");

    let hold = Hold::new();
    cloud.fault(on_the_last(Fault::held(&hold)));
    let shown = watched(command(&[]), |shown| {
        if shown.contains(line) {
            hold.release();
        }
    });
    assert!(shown.contains(line), "{shown:?}");
    let (before, report) = shown.rsplit_once(erase).unwrap();
    assert!(before.starts_with(erase) && report.contains("3 of 3 keys on policy"), "{shown:?}");
    assert!(!report.contains(line), "{shown:?}");

    site.write("policy.yaml", &Policy { request_timeout: "1s", ..policy }.text());
    cloud.fault(on_the_last(Fault::hang()));
    let machine = on_a_terminal(command(&["--log-format", "json"]));
    assert!(!machine.contains(line) && machine.contains("3 of 3 keys on policy"), "{machine:?}");

    cloud.fault(on_the_last(Fault::hang()));
    let piped = end(command(&[]));
    assert_eq!((piped.code, &*piped.stderr), (Some(0), ""));
    assert_eq!(cloud.faults_injected(), 2);
}
