//! `probe`: what a cloud answers on one key, which is restored whatever happens; nothing is written without a
//! confirmation, and no other key is written.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::SystemTime;

use kms_simulator::{
    Dialect, Fault, Hold, Key, KeyState, LargestPage, NeverRotated, Operation, OperationSet, Rule, Setup, SuccessBody,
};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use super::cloud::{Cloud, many, off, rotating, setup};
use super::program::{Finished, Program};
use super::site::{Policy, Site};
use super::stand_in::{StandIn, answer};
use super::{ACCOUNT, KEY, PASSWORD, PROJECT, TOKEN, USER, key_id};

/// A policy whose entries do not apply to the key.
pub(crate) fn policy(cloud: &Cloud) -> Policy {
    Policy { max_elapsed: "2s", ..Policy::at(cloud.url()).key(&key_id(7), 90) }
}

pub(crate) fn start(site: &Site, key: &str, more: &[&str]) -> Program {
    let arguments = ["probe", "--policy", "policy.yaml", "--project", "payments", "--key", key];
    Program::start(site.command(&[&arguments, more].concat()))
}

pub(crate) fn probe(site: &Site, more: &[&str]) -> Finished {
    start(site, KEY, &[&["--yes"], more].concat()).finish()
}

/// A probe of a cloud that restores the key, with this exit code.
#[track_caller]
fn restoring(code: i32, setup: Setup) -> (Finished, Cloud) {
    let cloud = Cloud::start(setup);
    let found = cloud.key(PROJECT, KEY).unwrap().rotation;
    let done = probe(&Site::new(&policy(&cloud)), &[]);
    let left = cloud.key(PROJECT, KEY).unwrap().rotation;
    assert_eq!((done.code, left.enabled), (Some(code), found.enabled), "{done:#?}");
    assert!(!found.enabled || left == found, "{left:?} {done:#?}");
    assert!(done.stdout.contains("\nThe key is restored: "), "{done:#?}");
    (done, cloud)
}

/// The rows of the output with this mark.
pub(crate) fn rows<'d>(done: &'d Finished, mark: &str) -> Vec<&'d str> {
    let numbered = |line: &'d str| line.split_once(". ").filter(|(at, _)| at.trim().parse::<u32>().is_ok());
    let rows = done.stdout.lines().filter_map(numbered);
    rows.filter_map(|(_, row)| row.strip_suffix(mark)?.strip_suffix(": ")).collect()
}

#[test]
fn a_documented_cloud_is_as_documented_and_prints_what_the_golden_file_has() {
    let (done, cloud) = restoring(0, setup([off()]));
    assert_eq!((rows(&done, "as documented").len(), rows(&done, "DIFFERS").len()), (18, 0), "{}", done.stdout);
    assert_eq!(done.stderr, "");
    assert_eq!((cloud.sent(KEY), cloud.write_requests()), (vec![90, 90, 29, 366, 90], 11));
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/probe.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &done.stdout).unwrap();
    }
    assert_eq!(done.stdout, std::fs::read_to_string(golden).unwrap());
}

#[test]
fn a_key_with_rotation_on_gets_its_interval_back() {
    for (days, requests) in [(30, 13), (90, 13), (365, 12)] {
        let (done, cloud) = restoring(0, setup([rotating(days)]));
        assert_eq!((cloud.rotation(KEY), cloud.write_requests()), ((true, days), requests));
        assert!(done.stdout.contains("Warning: rotation is on, and its rotation period starts anew\n"), "{done:?}");
        assert!(rows(&done, "DIFFERS").is_empty(), "{}", done.stdout);
        // What a user without permission for it would be refused is sent before rotation is switched off.
        let calls = cloud.calls(PROJECT, KEY);
        let writes: Vec<_> =
            calls.iter().map(|call| call.operation).filter(|call| OperationSet::WRITES.contains(*call)).collect();
        assert_eq!(writes[..3], [Operation::EnableRotation, Operation::UpdateInterval, Operation::DisableRotation]);
    }
}

#[test]
fn an_interval_that_a_key_without_rotation_shows_is_given_back_too() {
    let mut key = off();
    key.rotation.interval_days = 120;
    let (done, cloud) = restoring(0, setup([key]));
    assert_eq!(cloud.rotation(KEY), (false, 120), "{done:?}");
}

#[test]
fn each_dialect_is_understood_and_what_no_document_has_is_shown() {
    for dialect in [Dialect::Huawei, Dialect::OpenTelekomCloud, Dialect::AllText] {
        for (never, form) in [
            (NeverRotated::Absent, "`last_rotation_time` is absent"),
            (NeverRotated::Empty, "`last_rotation_time` is `\"\"`"),
            (NeverRotated::Null, "`last_rotation_time` is `null`"),
            (NeverRotated::Zero, "`last_rotation_time` is `0`"),
        ] {
            for body in [SuccessBody::Empty, SuccessBody::Object] {
                let unusual =
                    setup([off(), Key::new(key_id(1)).default_of("evs"), Key::new(key_id(2)).spec("RSA_2048")]);
                let (done, _) = restoring(
                    0,
                    unusual.behave(|behaviour| {
                        behaviour.dialect = dialect;
                        behaviour.never_rotated = never;
                        behaviour.success_body = Some(body);
                        behaviour.status_refused_where_unrotatable = never == NeverRotated::Null;
                    }),
                );
                assert!(rows(&done, "DIFFERS").is_empty(), "{dialect:?}: {}", done.stdout);
                assert!(done.stdout.contains(form), "{}", done.stdout);
                let unrotatable = match never {
                    NeverRotated::Null => {
                        "refused with HTTP 400 KMS.0211; for an asymmetric or HMAC key it is refused \
                                           with HTTP 400 KMS.0324"
                    }
                    _ => "accepted; for an asymmetric or HMAC key it is accepted",
                };
                assert!(
                    done.stdout.contains(&format!("    for a default key it is {unrotatable}\n")),
                    "{}",
                    done.stdout
                );
            }
        }
    }
}

#[test]
fn a_change_that_becomes_visible_late_is_waited_for() {
    let (done, _) = restoring(0, setup([off()]).behave(|behaviour| behaviour.visibility_lag = 2));
    assert!(done.stdout.contains("(attempt 3)"), "{}", done.stdout);
    assert!(rows(&done, "DIFFERS").is_empty(), "{}", done.stdout);
}

#[test]
fn small_pages_are_measured_and_a_limit_that_is_refused_is_shown() {
    let keys = [off()].into_iter().chain(many(5));
    let (done, _) = restoring(0, setup(keys).behave(|behaviour| behaviour.largest_page = LargestPage::Refusing(4)));
    assert_eq!(rows(&done, "DIFFERS"), ["list-keys, limit of 2000"], "{}", done.stdout);
    let answer = "    a page without `limit` has 4 keys; a limit of 2000 is refused with HTTP 400 KMS.1601\n";
    assert!(done.stdout.contains(answer), "{}", done.stdout);
}

#[test]
fn a_write_without_a_clear_answer_is_followed_by_a_reading_and_the_key_is_restored() {
    for fault in [
        Fault::html(502),
        Fault::html(502).after_applying(),
        Fault::html(504).after_applying(),
        Fault::kms(500, "KMS.0100"),
        Fault::reset(),
        Fault::reset().after_applying(),
        Fault::throttled().retry_after("0"),
        Fault::cut_off(),
    ] {
        for operation in
            [Operation::EnableRotation, Operation::UpdateInterval, Operation::DisableRotation, Operation::ReadStatus]
        {
            for skipped in [0, 2] {
                for key in [off(), rotating(180)] {
                    let rule = Rule::next(1, fault.clone()).on(operation).after(skipped);
                    let (done, _) = restoring(0, setup([key]).fault(rule));
                    assert!(rows(&done, "DIFFERS").is_empty(), "{fault:?} {operation:?} {skipped}: {}", done.stdout);
                }
            }
        }
    }
}

#[test]
fn a_call_that_is_never_answered_ends_the_script_and_the_key_is_restored() {
    // The enabling at its end.
    let (done, _) =
        restoring(1, setup([off()]).fault(Rule::next(2, Fault::html(503)).on(Operation::EnableRotation).after(2)));
    assert!(done.stderr.contains("enable-key-rotation has no clear answer"), "{done:?}");
    assert_eq!(rows(&done, "NO CLEAR ANSWER").len(), 2, "{}", done.stdout);
    let (done, _) =
        restoring(1, setup([rotating(90)]).fault(Rule::next(5, Fault::reset()).on(Operation::ReadStatus).after(3)));
    assert!(done.stderr.contains("get-key-rotation-status has no clear answer"), "{done:?}");
}

/// A probe that logs in with a password. `change` is made to the cloud while the first interval is on its way.
fn changed_meanwhile(change: impl FnOnce(&Cloud)) -> (Finished, Cloud) {
    let hold = Hold::new();
    let rule = Rule::next(1, Fault::held(&hold)).on(Operation::UpdateInterval);
    let cloud = Cloud::start(setup([off()]).fault(rule));
    let site = Site::new(&policy(&cloud).password(None));
    let program = start(&site, KEY, &["--yes"]);
    cloud.await_requests(Operation::UpdateInterval, 1);
    change(&cloud);
    hold.release();
    (program.finish(), cloud)
}

#[test]
fn an_expired_token_is_renewed() {
    let (done, cloud) = changed_meanwhile(|cloud| cloud.revoke_tokens());
    assert_eq!((done.code, cloud.rotation(KEY).0), (Some(0), false), "{done:?}");
    assert_eq!(cloud.requests(Operation::Authenticate), 2);
}

#[test]
fn a_login_that_is_refused_in_the_middle_leaves_the_commands_that_restore_the_key() {
    let (done, cloud) = changed_meanwhile(|cloud| {
        cloud.set_password(USER, ACCOUNT, "another");
        cloud.revoke_tokens();
    });
    assert_not_restored(&done, "rotation off", "not known");
    let failures = cloud.authentication_failures();
    assert!(failures <= 3, "{failures} would lock the user: {done:?}");
}

#[track_caller]
fn assert_not_restored(done: &Finished, had: &str, has: &str) {
    let last = format!(
        "\n  key {KEY}\n  it had:  {had}\n  it has:  {has}\nTo restore it, run this with a token of the project in TOKEN:\n  curl "
    );
    assert!(
        done.code == Some(1) && done.stderr.contains("THE KEY IS NOT RESTORED: ") && done.stderr.contains(&last),
        "{done:#?}"
    );
}

#[test]
fn a_signal_ends_the_script_and_the_key_is_restored() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        for key in [off(), rotating(200)] {
            let found = key.rotation;
            let hold = Hold::new();
            let rule = Rule::next(1, Fault::held(&hold)).on(Operation::DisableRotation).after(1);
            let cloud = Cloud::start(setup([key]).fault(rule));
            let site = Site::new(&policy(&cloud));
            let program = start(&site, KEY, &["--yes", "--record", "cassette.json", "--log-format", "json"]);
            cloud.await_requests(Operation::DisableRotation, 2);
            program.signal(signal);
            program.await_message("shutting down; waiting for requests in flight");
            hold.release();
            let done = program.finish();
            assert_eq!(done.code, Some(1), "{done:?}");
            assert!(done.stdout.contains("\nThe key is restored: "), "{done:?}");
            assert!(done.stderr.contains("stopped by a signal"), "{done:?}");
            assert_eq!(cloud.rotation(KEY).0, found.enabled);
            assert!(!found.enabled || cloud.rotation(KEY).1 == 200);
            assert!(site.path("cassette.json").is_file(), "what was answered is recorded");
        }
    }
}

#[test]
fn a_second_signal_ends_it_at_once_with_the_commands_that_restore_the_key() {
    let hold = Hold::new();
    let rule = Rule::next(1, Fault::held(&hold)).on(Operation::DisableRotation).after(1);
    let cloud = Cloud::start(setup([rotating(200)]).fault(rule));
    let site = Site::new(&policy(&cloud));
    let program = start(&site, KEY, &["--yes", "--log-format", "json"]);
    cloud.await_requests(Operation::DisableRotation, 2);
    program.signal_until(Signal::INT, "exiting immediately");
    let done = program.finish();
    assert_not_restored(&done, "rotation on, 200 days", "not known");
    assert!(done.stderr.contains("stopped by a second signal"), "{done:?}");
    // A person runs the commands.
    for command in done.stderr.lines().filter(|line| line.starts_with("  curl ")) {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-ec", command]).env("TOKEN", TOKEN).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(shell.status().unwrap().success(), "{command}");
    }
    assert_eq!(cloud.rotation(KEY), (true, 200));
}

#[test]
fn a_key_that_cannot_be_restored_is_reported_with_what_it_has_and_the_commands() {
    let refused = || Rule::always(Fault::kms(403, "KMS.0307")).on(Operation::DisableRotation).after(2);
    let cloud = Cloud::start(setup([off()]).fault(refused()));
    let site = Site::new(&policy(&cloud));
    let done = probe(&site, &[]);
    assert_not_restored(&done, "rotation off", "rotation on, 365 days");
    assert!(done.stderr.contains("disable-key-rotation is answered with HTTP 403 KMS.0307"), "{done:?}");
    let command = format!("'{{\"key_id\":\"{KEY}\"}}' {}/v1.0/{PROJECT}/kms/disable-key-rotation\n", cloud.url());
    assert!(done.stderr.ends_with(&command), "{done:?}");
    assert!(!done.stdout.contains("The key is restored"), "{done:?}");
    assert_eq!(cloud.asked(Operation::DisableRotation), 5, "it is tried again before it is given up");
}

#[test]
fn without_the_permission_to_disable_rotation_nothing_changes() {
    for (operation, permission, key) in [
        (Operation::DisableRotation, "kms:cmk:disableRotation", off()),
        (Operation::EnableRotation, "kms:cmk:enableRotation", rotating(90)),
        (Operation::UpdateInterval, "kms:cmk:updateRotation", rotating(90)),
        (Operation::DisableRotation, "kms:cmk:disableRotation", rotating(90)),
    ] {
        let forbidding = setup([key]).behave(|behaviour| behaviour.forbidden = operation.into());
        let (done, cloud) = restoring(1, forbidding);
        assert!(done.stderr.contains(&format!("(the user needs the permission {permission})")), "{done:?}");
        assert!(cloud.calls(PROJECT, KEY).iter().all(|call| call.interval == Some(90.into()) || !call.applied));
    }
}

#[test]
fn a_key_that_could_not_be_switched_on_again_is_not_switched_off() {
    for operation in [Operation::EnableRotation, Operation::UpdateInterval] {
        let refusing = Rule::always(Fault::kms(400, "KMS.5022")).on(operation);
        let (done, cloud) = restoring(1, setup([rotating(90)]).fault(refusing));
        assert!(done.stderr.contains("is refused, and without it the key could not be restored\n"), "{done:?}");
        assert_eq!(cloud.asked(Operation::DisableRotation), 0);
    }
}

#[test]
fn nothing_is_written_without_a_confirmation() {
    let cloud = Cloud::of([off().alias("throw-away")]);
    let site = Site::new(&policy(&cloud));
    let done = start(&site, KEY, &[]).finish();
    assert_eq!((done.code, cloud.all_requests()), (Some(2), 0), "{done:?}");
    assert!(done.stderr.contains("standard input is no terminal: add --yes"), "{done:?}");
    for (typed, writes) in [("yes", false), ("", false), ("throw-away", true), (KEY, true)] {
        cloud.forget_requests();
        let (code, shown) = typed_on_a_terminal(&site, "throw-away", typed);
        assert_eq!((code, cloud.write_requests() > 0), (Some(if writes { 0 } else { 2 }), writes), "{typed}: {shown}");
        assert!(shown.contains("type its id or its alias throw-away: "), "{shown}");
        assert_eq!(shown.contains("not confirmed; nothing was written"), !writes, "{shown}");
    }
}

/// Probes the key with standard input and standard error on a terminal, where this line is typed.
fn typed_on_a_terminal(site: &Site, key: &str, line: &str) -> (Option<i32>, String) {
    let (mut terminal, mut child) = on_a_terminal(site, key);
    terminal.write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut shown = Vec::new();
    // Ends with an error once the program has closed the terminal.
    let _ = terminal.read_to_end(&mut shown);
    (child.wait().unwrap().code(), String::from_utf8_lossy(&shown).into_owned())
}

fn on_a_terminal(site: &Site, key: &str) -> (File, Child) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let other = File::options().read(true).write(true).open(name).unwrap();
    let mut command = site.command(&["probe", "--policy", "policy.yaml", "--project", "payments", "--key", key]);
    command.stdin(other.try_clone().unwrap()).stdout(Stdio::null()).stderr(other);
    let child = command.spawn().unwrap();
    // Only the program has the other other of the terminal.
    drop(command);
    (master.into(), child)
}

#[test]
fn a_signal_ends_the_wait_for_the_confirmation() {
    let cloud = Cloud::of([off().alias("throw-away")]);
    let site = Site::new(&policy(&cloud));
    let (mut terminal, mut child) = on_a_terminal(&site, "throw-away");
    let mut shown = String::new();
    let mut piece = [0; 4096];
    while !shown.contains("type its id or its alias throw-away: ") {
        let length = terminal.read(&mut piece).unwrap();
        shown.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let mut rest = Vec::new();
    let _ = terminal.read_to_end(&mut rest);
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.contains("stopped by a signal before the end of the script"), "{rest}");
    assert_eq!((child.wait().unwrap().code(), cloud.write_requests()), (Some(1), 0));
}

#[test]
fn a_signal_before_the_confirmation_ends_it() {
    let hold = Hold::new();
    let cloud = Cloud::start(setup([off()]).fault(Rule::next(1, Fault::held(&hold)).on(Operation::DescribeKey)));
    let site = Site::new(&policy(&cloud));
    let program = start(&site, KEY, &["--yes", "--log-format", "json"]);
    cloud.await_requests(Operation::DescribeKey, 1);
    program.signal(Signal::INT);
    program.await_message("shutting down; waiting for requests in flight");
    hold.release();
    let done = program.finish();
    assert_eq!((done.code, cloud.write_requests()), (Some(1), 0), "{done:?}");
}

#[test]
fn a_key_that_cannot_rotate_or_be_read_is_not_written() {
    for (key, why) in [
        (off().default_of("evs"), "default key of a cloud service"),
        (off().imported(), "imported key material"),
        (off().spec("RSA_2048"), "asymmetric or HMAC key"),
        (off().keystore("9a3"), "key in a custom keystore"),
        (off().replica(), "replica of a multi-region key"),
        (off().state(KeyState::Disabled), "the key is disabled"),
        (rotating(90).state(KeyState::PendingDeletion), "the key is scheduled for deletion"),
        (rotating(0), "rotation is on with an interval that cannot be set"),
    ] {
        let cloud = Cloud::of([key]);
        let done = probe(&Site::new(&policy(&cloud)), &[]);
        assert_eq!((done.code, cloud.write_requests()), (Some(1), 0), "{done:?}");
        assert!(done.stderr.contains(&format!("this key cannot be probed: {why}")), "{done:?}");
    }
    let unread = setup([off()]).behave(|behaviour| behaviour.unknown = Operation::ReadStatus.into());
    let cloud = Cloud::start(unread);
    let site = Site::new(&Policy { region: "eu-ch2", ..policy(&cloud) });
    let done = probe(&site, &["--record", "cassette.json"]);
    assert_eq!((done.code, cloud.write_requests()), (Some(1), 0), "{done:?}");
    assert!(done.stderr.contains("its rotation setting cannot be read"), "{done:?}");
    assert!(done.stdout.contains("    the status call is refused with HTTP 404 APIGW.0101\n"), "{done:?}");
    assert!(std::fs::read_to_string(site.path("cassette.json")).unwrap().contains("APIGW.0101"));
}

#[test]
fn no_other_key_is_written() {
    let keys =
        many(6).into_iter().chain([off(), Key::new(key_id(8)).default_of("evs"), Key::new(key_id(9)).spec("EC_P256")]);
    let cloud = Cloud::of(keys);
    let done = probe(&Site::new(&policy(&cloud)), &[]);
    assert_eq!(done.code, Some(0), "{done:?}");
    for key in cloud.keys(PROJECT).iter().filter(|key| key.id != KEY) {
        let calls = cloud.calls(PROJECT, &key.id);
        assert!(calls.iter().all(|call| call.operation == Operation::ReadStatus), "{}: {calls:?}", key.id);
    }
}

#[test]
fn what_a_user_should_know_before_confirming_is_printed() {
    let rotated = rotating(90).rotated(3, SystemTime::UNIX_EPOCH).tag("pci", "true");
    let cloud = Cloud::of([rotated]);
    let warnings = |policy: Policy| {
        let done = probe(&Site::new(&policy), &[]);
        assert_eq!(done.code, Some(0), "{done:?}");
        let warnings = done.stdout.lines().filter_map(|line| line.strip_prefix("Warning: ").map(ToOwned::to_owned));
        warnings.collect::<Vec<_>>()
    };
    let usual = [
        "this key has rotated 3 times, so something probably uses it",
        "rotation is on, and its rotation period starts anew",
    ];
    assert_eq!(warnings(policy(&cloud)), usual);
    for entry in ["{key_id: KEY, rotation_interval: 90}", "{select: {tags: {pci: \"true\"}}, rotation_interval: 90}"] {
        let governed = warnings(policy(&cloud).entry(&entry.replace("KEY", KEY)));
        let text =
            "the entry at policy.yaml:15 applies to this key; a daemon that runs with it changes the key meanwhile";
        assert_eq!(governed, [&usual[..], &[text]].concat());
    }
    let exempt = format!("{{key_id: {KEY}, exempt: {{reason: a trial, until: \"2099-01-01\"}}}}");
    assert_eq!(warnings(policy(&cloud).entry(&exempt)), usual, "the daemon leaves it alone");
    let monitored = warnings(Policy { mode: "monitor", ..policy(&cloud).key(KEY, 90) });
    let text = "the project is in monitor mode, in which the daemon never writes; probe does";
    assert_eq!(monitored, [&usual[..], &[text]].concat());
}

#[test]
fn a_closed_standard_output_does_not_keep_the_key_from_being_restored() {
    let cloud = Cloud::of([off()]);
    let site = Site::new(&policy(&cloud));
    let mut command =
        site.command(&["probe", "--policy", "policy.yaml", "--project", "payments", "--key", KEY, "--yes"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!((cloud.rotation(KEY).0, cloud.asked(Operation::DisableRotation)), (false, 3));
}

#[test]
fn signed_calls_answer_the_questions_about_signatures() {
    let (access, secret) = ("EXAMPLEAK0123456789A", "ExampleSecretKey0123456789abcdefghijKLMN");
    let cloud = Cloud::start(setup([off()]).access_key(access, secret));
    let login = format!("{{access_key: {{access_key_id: {access}, secret_access_key_file: secret}}}}");
    let answers = |policy: Policy| {
        let site = Site::new(&policy.with(&login));
        site.write("secret", secret);
        let done = probe(&site, &["--record", "cassette.json"]);
        assert_eq!(done.code, Some(0), "{done:?}");
        let cassette = std::fs::read_to_string(site.path("cassette.json")).unwrap();
        assert!(!cassette.contains(access) && !cassette.contains(secret), "{cassette}");
        let answer = |question: &str| {
            let lines = done.stdout.split_once(question).unwrap().1.lines();
            lines.clone().nth(1).unwrap().trim().to_owned()
        };
        (answer("the plain form of the signature"), answer("without X-Domain-Id?"))
    };
    let accepted = "open-telekom-cloud accepts it".to_owned();
    let not_asked = "not answered: no signed call asked IAM for the project's id".to_owned();
    assert_eq!(answers(policy(&cloud)), (accepted.clone(), not_asked.clone()));
    assert_eq!(answers(policy(&cloud).without_id()), (accepted, "yes".to_owned()));
    let huawei = Policy { cloud: "huawei-cloud", region: "eu-west-101", ..policy(&cloud) };
    assert_eq!(answers(huawei), ("not answered: the project is on Huawei Cloud".to_owned(), not_asked));
}

#[test]
fn a_project_a_key_and_a_recording_are_named_right() {
    let cloud =
        Cloud::of([off().alias("twin"), Key::new(key_id(1)).alias("twin"), Key::new(key_id(2)).alias("throw-away")]);
    let site = Site::new(&policy(&cloud));
    let ended = |key, more: &[&str]| start(&site, key, &[&["--yes"], more].concat()).finish();
    for (done, code, text) in [
        (ended("throw-awya", &[]), 1, "no key `throw-awya` in this project; did you mean `throw-away`?"),
        (ended("twin", &[]), 1, "several keys have the alias `twin`; name one of them by its id: 00000001-"),
        (ended(KEY, &["--record", "policy.yaml"]), 2, "policy.yaml exists, and probe replaces no recording"),
        (ended(KEY, &["--record", "-"]), 2, "expected a file"),
        (ended(KEY, &["--record", "nowhere/cassette.json"]), 2, "there is no folder nowhere for the recording"),
    ] {
        assert_eq!(done.code, Some(code), "{done:?}");
        assert!(done.stderr.contains(text), "{done:?}");
    }
    let arguments = ["probe", "--policy", "policy.yaml", "--project", "payment", "--key", KEY, "--yes"];
    let done = Program::start(site.command(&arguments)).finish();
    assert_eq!(
        (done.code, &*done.stderr),
        (Some(2), "kms-rotationd: no project `payment` in the policy; did you mean `payments`?\n")
    );
    assert_eq!(cloud.write_requests(), 0);
}

#[test]
fn a_cassette_has_nothing_of_the_account() {
    let keys = [
        off().alias("throw-away"),
        Key::new(key_id(1)).alias("pay-cards"),
        Key::new(key_id(2)).alias("ledger").rotating(77),
    ];
    let cloud = Cloud::of(keys);
    let site = Site::new(&policy(&cloud).password(None));
    let done = probe(&site, &["--record", "cassette.json"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let file = site.path("cassette.json");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    for part in [
        KEY,
        PROJECT,
        TOKEN,
        USER,
        ACCOUNT,
        PASSWORD,
        "throw-away",
        "pay-cards",
        "ledger",
        "e727-4d9c",
        "payments",
        "b168fe00",
    ] {
        assert!(!text.contains(part), "{part} in {text}");
    }
    let cassette: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&cassette["version"], &cassette["cloud"]), (&1.into(), &"open-telekom-cloud".into()));
    assert_eq!(cassette["calls"].as_array().unwrap().len(), 20);
}

/// A KMS that repeats the token and the key's name in names of fields, values, messages and HTML.
fn indiscreet() -> StandIn {
    let setting = Mutex::new((false, 0));
    StandIn::start(move |asked| {
        let mut setting = setting.lock().unwrap();
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        let refused = |code| {
            let message = format!("token {TOKEN} of {USER} must not change the key throw-away");
            (400, json!({"error": {"error_code": code, "error_msg": message, TOKEN: message}}).to_string())
        };
        let details =
            json!({"key_id": KEY, "key_alias": "throw-away", "key_state": "2", TOKEN: [TOKEN], "origin": "kms"});
        let (status, body) = match (asked.call(), *setting, body["rotation_interval"].as_u64()) {
            ("describe-key", ..) => (200, json!({"key_info": details}).to_string()),
            ("list-keys", ..) => {
                (200, json!({"keys": [KEY], "key_details": [details], TOKEN: {USER: TOKEN}}).to_string())
            }
            ("get-key-rotation-status", (enabled, days), _) => {
                let status = json!({"key_rotation_enabled": enabled, "rotation_interval": days, "throw-away": TOKEN});
                (200, status.to_string())
            }
            ("enable-key-rotation", (true, _), _) => refused("KMS.2901"),
            ("disable-key-rotation", (false, _), _) => refused(TOKEN),
            ("update-key-rotation-interval", (false, _), _) => refused("KMS.0313"),
            ("update-key-rotation-interval", _, Some(..30 | 366..)) => {
                (400, format!("<html>{TOKEN} throw-away</html>"))
            }
            (call, (_, days), interval) => {
                *setting = match (call, interval) {
                    ("disable-key-rotation", _) => (false, days),
                    (_, Some(days)) => (true, days),
                    (_, None) => (true, 365),
                };
                (200, format!("\"{TOKEN}\""))
            }
        };
        let head =
            format!("content-type: text/html; charset={TOKEN}\r\nx-request-id: {TOKEN}\r\nretry-after: {TOKEN}\r\n");
        answer(&format!("{status} Answer"), &head, &body)
    })
}

#[test]
fn an_answer_that_repeats_a_secret_is_neither_printed_nor_logged_nor_recorded() {
    let kms = indiscreet();
    let site = Site::new(&Policy { max_elapsed: "2s", ..Policy::at(&kms.url()).key(&key_id(7), 90) });
    let done = probe(&site, &["--record", "cassette.json", "--log-level", "trace"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("the body is not shown: it repeats a secret of the request"), "{done:?}");
    let cassette = std::fs::read_to_string(site.path("cassette.json")).unwrap();
    for secret in [TOKEN, &TOKEN[..12], &TOKEN.to_ascii_lowercase()] {
        assert!(!done.stdout.contains(secret) && !done.stderr.contains(secret), "{done:?}");
        assert!(!cassette.contains(secret), "{cassette}");
    }
    assert!(
        !cassette.contains("throw-away") && !cassette.contains(USER) && cassette.contains("KMS.2901"),
        "{cassette}"
    );
}

/// A document of the repository.
fn document(name: &str) -> String {
    std::fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The rows of the tables of a text, as their cells.
fn table(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.map(|row| row.split(" | ").collect()).collect()
}

#[test]
fn each_open_question_of_the_document_is_answered_or_says_why_not() {
    let (done, _) = restoring(0, setup([off()]));
    let asked = done.stdout.split_once("as far as this account answers them:\n").unwrap().1;
    let asked: Vec<_> = asked.lines().filter(|line| !line.starts_with("    ")).map(str::trim).collect();
    let document = document("docs/kms-api.md");
    let open = table(document.split_once("\n## 9. ").unwrap().1);
    let open: Vec<_> = open.iter().skip(1).map(|row| row[0]).collect();
    assert_eq!(asked, open);
}

#[test]
fn the_document_has_each_step_and_shows_what_is_printed() {
    let document = document("docs/probe.md");
    let steps = table(&document);
    let golden = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/probe.txt")).unwrap();
    let shown = document.split_once("```text\n").unwrap().1.split_once("```").unwrap().0;
    assert!(golden.contains(shown), "{shown}");
    let unrotatable = [Key::new(key_id(8)).default_of("evs"), Key::new(key_id(9)).spec("RSA_2048")];
    for key in [off(), rotating(120)] {
        let cloud = Cloud::of([key].into_iter().chain(unrotatable.clone()));
        let site = Site::new(&policy(&cloud));
        assert_eq!(probe(&site, &["--record", "cassette.json"]).code, Some(0));
        let cassette: Value = serde_json::from_slice(&std::fs::read(site.path("cassette.json")).unwrap()).unwrap();
        let mut left = steps.iter().filter(|row| row.len() == 4 && row[0] != "step");
        for call in cassette["calls"].as_array().unwrap() {
            let [call, situation] = ["call", "situation"].map(|name| format!("`{}`", call[name].as_str().unwrap()));
            assert!(
                left.any(|row| row[1].starts_with(&call) && row[2].contains(&situation)),
                "{call} | {situation} is missing, or in another place"
            );
        }
    }
}
