//! `healthcheck`: of a daemon that is healthy, unhealthy, unreachable, or uses TLS.

use std::io::Read;
use std::net::TcpListener;

use kms_simulator::{Fault, Rule};

use super::cloud::{Cloud, off, rotating, setup};
use super::eventually;
use super::guest::Authority;
use super::program::{Daemon, Finished, Program};
use super::site::{Policy, Site};
use super::stand_in::{StandIn, answer};

fn check_once(site: &Site, more: &[&str]) -> Finished {
    Program::start(site.command(&[&["healthcheck"], more].concat())).finish()
}

/// On a busy machine an answer can take longer than the timeout: then try again.
fn check(site: &Site, more: &[&str]) -> Finished {
    let mut ended = check_once(site, more);
    eventually("an answer in time", || {
        if ended.stderr.contains(" within 4 s") {
            ended = check_once(site, more);
            return false;
        }
        true
    });
    ended
}

#[track_caller]
fn assert_is_well(finished: &Finished) {
    assert_eq!((finished.code, &*finished.stdout, &*finished.stderr), (Some(0), "", ""));
}

/// Exit code 1, and one line with the reason.
#[track_caller]
fn assert_says(finished: &Finished, why: &str) {
    assert_eq!((finished.code, finished.stderr.lines().count()), (Some(1), 1), "{finished:?}");
    assert!(finished.stderr.starts_with("kms-rotationd: ") && finished.stderr.contains(why), "{finished:?}");
}

#[test]
fn a_daemon_is_alive_before_it_is_ready() {
    let cloud = Cloud::start(setup([off()]).fault(Rule::always(Fault::hang())));
    let site = Site::new(&Policy { request_timeout: "4m", ..Policy::of_one_key(cloud.url()) });
    let daemon = site.run();
    assert_is_well(&check(&site, &["--listen", &daemon.address]));
    assert_is_well(&check(&site, &["--url", &format!("http://{}", daemon.address)]));
    assert_says(
        &check(&site, &["--listen", &daemon.address, "--ready"]),
        "HTTP 503 Service Unavailable: the first run",
    );
}

#[test]
fn the_same_variable_sets_the_daemons_address() {
    let cloud = Cloud::of([rotating(90)]);
    let mut site = Site::new(&Policy::of_one_key(cloud.url()));
    let arguments = ["run", "--policy", "policy.yaml", "--listen", "0.0.0.0:0", "--log-format", "json"];
    let daemon: Daemon<'_> = Daemon::start(site.command(&arguments));
    let port = daemon.address.strip_prefix("0.0.0.0:").unwrap();
    daemon.await_message("run finished");
    site.set("KMS_ROTATIOND_LISTEN", &format!("0.0.0.0:{port}"));
    assert_is_well(&check(&site, &["--ready"]));
    // A closed port.
    assert_says(&check(&site, &["--listen", "127.0.0.1:1"]), "cannot connect to 127.0.0.1:1: Connection refused");
}

#[test]
fn healthcheck_works_with_tls_and_logins_on_the_loopback() {
    let cloud = Cloud::of([rotating(90)]);
    let (authority, other_authority) = (Authority::new(), Authority::new());
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let (server_pair, own) = (authority.sign(), authority.sign());
    for (name, text) in [
        ("server.crt", &server_pair.certificate),
        ("server.key", &server_pair.key),
        ("own.crt", &own.certificate),
        ("own.key", &own.key),
        ("ca.crt", &authority.pem()),
        ("other.crt", &other_authority.pem()),
        ("token-of-web", &"t0ken".to_owned()),
    ] {
        site.write(name, text);
    }
    let tls = "cert_file: server.crt, key_file: server.key";
    site.write("web.yaml", &format!("tls_server_config: {{{tls}}}\nbearer_token_file: token-of-web\n"));
    let daemon = site.run_with(&["--web-config", "web.yaml"]);
    let url = format!("https://{}", daemon.address);
    assert_is_well(&check(&site, &["--listen", &daemon.address]));
    assert_is_well(&check(&site, &["--url", &url]));
    assert_is_well(&check(&site, &["--url", &url, "--ca-file", "ca.crt"]));
    assert_says(&check(&site, &["--url", &url, "--ca-file", "other.crt"]), "TLS with 127.0.0.1:");
    assert_says(&check(&site, &["--url", &url, "--ca-file", "no.crt"]), "read no.crt: No such file");
    let clients = "client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt";
    site.write("web.yaml", &format!("tls_server_config: {{{tls}, {clients}}}\n"));
    let listen = ["--listen", &daemon.address];
    assert_eq!(check(&site, &listen).code, Some(1));
    assert_is_well(&check(&site, &[&listen[..], &["--cert-file", "own.crt", "--key-file", "own.key"]].concat()));
}

#[test]
fn a_silent_server_or_another_program_is_unhealthy() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let other = StandIn::start(|_| answer("404 Not Found", "", "what?\u{1b}[31m"));
    assert_says(&check(&site, &["--url", &other.url()]), "HTTP 404 Not Found: what?\u{fffd}[31m");
    // The system accepts the connection, but nothing reads from it.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    assert_says(&check_once(&site, &["--listen", &address]), &format!("no response from {address} within 4 s"));
}

#[test]
fn a_server_that_ends_a_tls_handshake_is_no_failed_connection() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let closing = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", closing.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in closing.incoming() {
            let mut hello = [0; 16 * 1024];
            let _ = connection.and_then(|mut connection| connection.read(&mut hello));
        }
    });
    let ended = check(&site, &["--url", &url]);
    assert_says(&ended, "TLS with 127.0.0.1:");
    assert_eq!(ended.code, Some(1));
}

#[test]
fn an_invalid_url_is_a_usage_error() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    for more in [&["--url", "127.0.0.1:9847"][..], &["--cert-file", "own.crt"]] {
        assert_eq!(check(&site, more).code, Some(2), "{more:?}");
    }
}
