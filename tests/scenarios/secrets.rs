//! Also at log level trace, no output of the program contains a secret.

use std::fs;

use kms_simulator::{Fault, Operation, Preset, Rule, Setup};

use super::access_keys::{BY_VALUE, SECRET};
use super::cloud::{Cloud, many, off, setup};
use super::program::{Daemon, Finished};
use super::site::{Policy, Site};
use super::stand_in::{StandIn, answer};
use super::workload::POD_TOKEN;
use super::{KEY, PASSWORD, TOKEN, key_id};

/// The beginning of IAM tokens, simulated or real.
const ISSUED: &str = "MIIF";

/// The beginning of the simulated security tokens.
const SECURITY_TOKEN: &str = "gQpldS13ZXN0";
/// The text before a signature.
const SIGNATURE: &str = "Signature=";
/// A token of an identity provider, one of a metadata service, and a proxy's password.
pub(crate) const JWT: &str = "eYjWt-of-the-cluster-4f3e2d1c";
pub(crate) const METADATA_TOKEN: &str = "mEtAdAtA-tOkEn-77aa88bb";
pub(crate) const GATE_PASSWORD: &str = "pRoXyPaSsWoRd-9d8c7b";
/// `gate` and the password above, as sent to the proxy.
pub(crate) const GATE: &str = "Basic Z2F0ZTpwUm9YeVBhU3NXb1JkLTlkOGM3Yg==";

/// The beginnings of all secrets: every output of a secret or its start contains one.
fn beginnings() -> [&'static str; 11] {
    let own = [TOKEN, PASSWORD, SECRET, JWT, METADATA_TOKEN, GATE_PASSWORD, &GATE[6..], SECURITY_TOKEN, POD_TOKEN];
    let mut beginnings = [""; 11];
    for (beginning, secret) in beginnings.iter_mut().zip(own.map(|secret| &secret[..8])) {
        *beginning = secret;
    }
    beginnings[9..].copy_from_slice(&[ISSUED, SIGNATURE]);
    beginnings
}

#[track_caller]
pub(crate) fn assert_clean(place: &str, text: &str) {
    for secret in beginnings() {
        assert!(!text.contains(secret), "{place} has {secret}:\n{text}");
    }
}

/// Runs once, searches all outputs, and returns the log.
#[track_caller]
fn assert_nothing_leaks(policy: &Policy) -> Finished {
    let site = Site::new(policy);
    look_everywhere(&site)
}

#[track_caller]
pub(crate) fn look_everywhere(site: &Site) -> Finished {
    let more = ["--log-level", "trace,hyper=trace,hyper_util=trace,reqwest=trace,rustls=trace"];
    let daemon: Daemon<'_> = site.run_with(&more);
    daemon.await_runs(1);
    for path in ["/", "/metrics", "/api/v1/status", "/healthz", "/readyz", "/nothing"] {
        assert_clean(path, &daemon.get(path).1);
    }
    let process = format!("/proc/{}", daemon.program.id());
    // Its environment may contain secrets of the user.
    let files = if site.has_variables() { &["cmdline", "comm"][..] } else { &["cmdline", "comm", "environ"] };
    for file in files {
        let text = fs::read(format!("{process}/{file}")).unwrap();
        assert_clean(file, &String::from_utf8_lossy(&text));
    }
    let ended = daemon.stop();
    assert_clean("standard error", &ended.stderr);
    assert_clean("standard output", &ended.stdout);
    assert!(ended.stderr.contains("\"level\":\"DEBUG\""), "the log is not at its finest");

    let applied = site.apply();
    assert_clean("the report", &applied.stdout);
    let text = ["apply", "--policy", "policy.yaml", "--log-level", "trace"];
    let applied = super::program::Program::start(site.command(&text)).finish();
    assert_clean("the text report", &applied.stdout);
    assert_clean("the text log", &applied.stderr);
    ended
}

/// With the token of the file, then with the password.
#[track_caller]
fn assert_nothing_leaks_with(setup: impl Fn() -> Setup) {
    for with_password in [false, true] {
        let cloud = Cloud::start(setup());
        let policy = Policy { max_elapsed: "300ms", ..Policy::of_keys(cloud.url(), (0..3).map(key_id)) };
        assert_nothing_leaks(&if with_password { policy.password(None) } else { policy });
    }
}

#[test]
fn the_secrets_of_these_tests_would_be_found() {
    for secret in
        [TOKEN, PASSWORD, "MIIFabc", SECRET, JWT, METADATA_TOKEN, GATE_PASSWORD, GATE, "gQpldS13ZXN0abc", POD_TOKEN]
    {
        assert!(beginnings().iter().any(|beginning| format!("token={secret}").contains(beginning)));
    }
}

#[test]
fn no_secret_shows_after_success() {
    assert_nothing_leaks_with(|| setup(many(3)));
}

#[test]
fn no_secret_shows_when_credentials_are_refused() {
    assert_nothing_leaks_with(|| setup(many(3)).fault(Rule::always(Fault::unauthorized())));
    assert_nothing_leaks_with(|| setup(many(3)).fault(Rule::always(Fault::kms(403, "KMS.0303"))));
}

#[test]
fn no_secret_shows_when_the_password_is_wrong() {
    let cloud = Cloud::of([off()]);
    let site = Site::new(&Policy::of_one_key(cloud.url()).password(None));
    site.write("password", &format!("{PASSWORD}-of-yesterday"));
    look_everywhere(&site);
}

#[test]
fn no_secret_shows_when_iam_fails() {
    for fault in [Fault::html(500), Fault::reset(), Fault::cut_off()] {
        assert_nothing_leaks_with(|| setup(many(3)).fault(Rule::always(fault.clone()).on(Operation::Authenticate)));
    }
}

#[test]
fn no_secret_shows_when_the_cloud_fails_in_every_way() {
    for preset in [Preset::Flaky, Preset::Lossy, Preset::Garbage, Preset::Auth] {
        assert_nothing_leaks_with(|| setup(many(3)).preset(preset));
    }
}

#[test]
fn no_secret_shows_without_an_answer_or_with_a_redirect() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let redirecting = StandIn::start(|_| answer("302 Found", "location: http://127.0.0.1:1/\r\n", ""));
    for url in [format!("http://{closed}"), redirecting.url()] {
        let policy = Policy { max_elapsed: "300ms", ..Policy::of_one_key(&url) };
        assert_nothing_leaks(&policy);
        assert_nothing_leaks(&policy.password(None));
    }
}

#[test]
fn no_secret_shows_when_a_secret_file_has_another_content() {
    let cloud = Cloud::of([off()]);
    for content in [format!("{TOKEN} {PASSWORD}"), format!("{TOKEN}\n{PASSWORD}\n"), format!("{PASSWORD}\u{1b}[2J")] {
        for policy in [Policy::of_one_key(cloud.url()), Policy::of_one_key(cloud.url()).password(None)] {
            let site = Site::new(&policy);
            site.write("token", &content);
            site.write("password", &content);
            look_everywhere(&site);
        }
    }
}

#[test]
fn no_secret_shows_when_a_server_repeats_it_in_an_error() {
    // The error's text contains the token or the password of the request.
    let echo = StandIn::start(|asked| {
        let heard = if asked.call() == "tokens" { PASSWORD } else { TOKEN };
        let (status, error) = match asked.call() {
            "tokens" => {
                ("400 Bad Request", format!(r#"{{"error":{{"code":400,"message":"not the password: {heard}"}}}}"#))
            }
            _ => (
                "400 Bad Request",
                format!(r#"{{"error_code":"APIGW.0301","error_msg":"decrypt token fail: {heard}"}}"#),
            ),
        };
        answer(status, "", &error)
    });
    assert_nothing_leaks(&Policy::of_one_key(&echo.url()));
    assert_nothing_leaks(&Policy::of_one_key(&echo.url()).password(None));
}

#[test]
fn no_secret_shows_when_it_is_in_the_policy_by_mistake() {
    let cloud = Cloud::of([off()]);
    let policy = Policy::of_one_key(cloud.url());
    for credentials in [
        format!("{{token: {TOKEN}}}"),
        format!("{{password: {{user_name: u, domain_name: d, password: {PASSWORD}}}}}"),
        format!("{{password: {PASSWORD}}}"),
    ] {
        let site = Site::new(&Policy { credentials, ..policy.clone() });
        for command in ["check", "apply"] {
            let ended = site.once(command);
            assert_eq!(ended.code, Some(2));
            assert_clean("standard error", &ended.stderr);
            assert_clean("standard output", &ended.stdout);
        }
    }
    assert_eq!(cloud.asked(Operation::ReadStatus), 0);
    assert_eq!(cloud.rotation(KEY), (false, 0));
}

#[test]
fn a_world_readable_secret_file_is_warned_of() {
    let cloud = Cloud::of([off()]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    site.set_mode("token", 0o644);
    let warning = "secret file is world-readable; run: chmod o-r FILE";
    for command in ["check", "plan", "apply"] {
        let warnings = site.once(command).messages(warning);
        assert_eq!(warnings.iter().map(|line| &line["file"]).collect::<Vec<_>>(), ["token"], "{command}");
    }
    site.set_mode("token", 0o640);
    for command in ["check", "plan", "apply"] {
        assert!(site.once(command).messages(warning).is_empty(), "{command}");
    }
}

#[test]
fn core_dumps_are_disabled() {
    let cloud = Cloud::of([off()]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let daemon = site.run();
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.program.id())).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    // The soft and the hard limit.
    assert_eq!(core.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"], "{limits}");
}

#[test]
fn no_secret_shows_when_a_server_repeats_it_as_the_request_id() {
    let echo = StandIn::start(|asked| {
        let secret = match asked.headers.split("signature=").nth(1) {
            Some(rest) => rest.lines().next().unwrap_or_default(),
            None if asked.body.contains(PASSWORD) => PASSWORD,
            None => TOKEN,
        };
        let body = match asked.call() {
            "list-keys" => r#"{"keys": [], "key_details": []}"#,
            "get-key-rotation-status" => r#"{"key_rotation_enabled": false, "rotation_interval": 365}"#,
            "enable-key-rotation" => "",
            _ => {
                let id = if asked.call() == "tokens" { "X-IAM-Trace-Id" } else { "x-request-id" };
                return answer("403 Forbidden", &format!("{id}: id-{secret}\r\n"), "");
            }
        };
        answer("200 OK", &format!("X-Request-Id: id-{secret}\r\n"), body)
    });
    let policy = Policy::of_one_key(&echo.url());
    for policy in [policy.clone(), policy.clone().password(None), policy.with(BY_VALUE)] {
        let site = Site::new(&policy);
        site.write("secret", SECRET);
        let ended = look_everywhere(&site);
        for signature in echo.asked().iter().filter_map(|asked| asked.headers.split("signature=").nth(1)) {
            assert!(!ended.stderr.contains(&signature[..16]), "a signature: {}", ended.stderr);
        }
        assert!(ended.stderr.contains("(text not shown: it repeats a secret)"), "{}", ended.stderr);
    }
}
