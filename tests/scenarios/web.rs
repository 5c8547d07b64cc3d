//! The web configuration: TLS and logins of the daemon's server, and changes while it runs.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;

use super::cloud::{Cloud, rotating};
use super::eventually;
use super::guest::{Answer, Authority, Guest, Papers, basic, connect, exchange, hash, is_of, shown};
use super::program::{Daemon, Program};
use super::site::{Policy, Site};

const WEB_PASSWORD: &str = "wEb-PaSsWoRd-5d3a9f";
const TLS: &str = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n";

/// A folder with a policy of one key that is on policy, and a web configuration.
fn site(cloud: &Cloud, web: &str) -> Site {
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    site.write("web.yaml", web);
    site
}

fn set_up(site: &Site, papers: &Papers) {
    site.write("server.key", &papers.key);
    site.write("server.crt", &papers.certificate);
}

fn serve(site: &Site) -> Daemon<'_> {
    let daemon = site.run_with(&["--web-config", "web.yaml"]);
    daemon.await_message("run finished");
    daemon
}

fn plain(daemon: &Daemon<'_>, path: &str, authorization: &str) -> Answer {
    exchange(connect(&daemon.address), path, authorization).unwrap()
}

#[test]
fn tls_and_a_password_protect_everything_but_the_probes() {
    let cloud = Cloud::of([rotating(90)]);
    let (authority, hash) = (Authority::new(), hash(WEB_PASSWORD, 4));
    let site = site(&cloud, &format!("{TLS}basic_auth_users: {{prometheus: {hash}}}\n"));
    let papers = authority.sign();
    set_up(&site, &papers);
    site.set_mode("server.key", 0o644);
    let daemon = site.run_with(&["--web-config", "web.yaml", "--log-level", "trace"]);
    daemon.await_message("run finished");
    let guest = Guest::new(&authority);
    let get = |path: &str, sent: &str| guest.get(&daemon.address, path, sent).unwrap();
    let right = basic("prometheus", WEB_PASSWORD);
    for path in ["/", "/metrics", "/api/v1/status", "/nothing", "/healthz/", "//healthz"] {
        let refused = get(path, "");
        assert_eq!(refused.status, 401, "{path}");
        assert!(refused.head.contains("\r\nwww-authenticate: basic realm=\"kms-rotationd\""), "{}", refused.head);
        assert!(refused.head.contains("\r\nconnection: close"), "{}", refused.head);
        assert_eq!(refused.body, "authentication required\n");
    }
    assert!(get("/metrics", &right).body.contains("kms_rotation_keys{project=\"payments\",status=\"compliant\"} 1\n"));
    assert_eq!(get("/nothing", &right).status, 404);
    for wrong in [basic("prometheus", "wrong"), basic("nobody", WEB_PASSWORD), format!("Bearer {WEB_PASSWORD}")] {
        assert_eq!(get("/metrics", &wrong).status, 401);
    }
    assert_eq!((get("/healthz", "").status, get("/readyz", "").body), (200, "ok\n".to_owned()));
    let plain = exchange(connect(&daemon.address), "/healthz", "");
    assert!(plain.is_err(), "nothing is said without TLS: {plain:?}");
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0));
    let exposed = ended.messages("secret file is world-readable; run: chmod o-r FILE");
    assert_eq!(exposed.iter().map(|line| &line["file"]).collect::<Vec<_>>(), ["server.key"]);
    for secret in [WEB_PASSWORD, &hash, papers.key.lines().nth(1).unwrap(), &right] {
        assert!(!ended.stderr.contains(secret), "{}", ended.stderr);
    }
}

#[test]
fn a_token_is_accepted_and_its_file_is_reloaded() {
    let cloud = Cloud::of([rotating(90)]);
    let mut site = site(&cloud, "bearer_token_file: web-token\n");
    site.write("web-token", "first-t0ken\n");
    site.set("KMS_ROTATIOND_WEB_CONFIG", "web.yaml");
    let daemon = site.run();
    let status = |sent: &str| plain(&daemon, "/metrics", sent).status;
    let refused = plain(&daemon, "/metrics", "");
    assert!(refused.head.contains("\r\nwww-authenticate: bearer realm="), "{}", refused.head);
    assert_eq!((status("Bearer first-t0ken"), status("Bearer second-t0ken")), (200, 401));
    site.write("web-token", "second-t0ken\n");
    assert_eq!((status("Bearer first-t0ken"), status("Bearer second-t0ken")), (401, 200));
    daemon.await_message("web configuration reloaded");
    site.write("web-token", "");
    assert_eq!(status("Bearer second-t0ken"), 200, "an empty file lets nobody else in");
    let line = daemon.await_message("web configuration reload failed; still using the previous one");
    assert!(line["problem"].as_str().unwrap().ends_with("web-token is empty or has more than one line"), "{line}");
}

#[test]
fn a_renewed_certificate_is_in_use_from_the_next_connection_on() {
    let cloud = Cloud::of([rotating(90)]);
    let (authority, site) = (Authority::new(), site(&cloud, TLS));
    let (old, new) = (authority.sign(), authority.sign());
    set_up(&site, &old);
    let daemon = serve(&site);
    let guest = Guest::new(&authority);
    let mut kept = guest.connect(&daemon.address).unwrap();
    assert!(is_of(&shown(&kept), &old));
    // The key first, like a copy of two files: until the second is copied, they do not match.
    site.write("server.key", &new.key);
    assert!(is_of(&shown(&guest.connect(&daemon.address).unwrap()), &old));
    let line = daemon.await_message("web configuration reload failed; still using the previous one");
    let problem = line["problem"].as_str().unwrap();
    assert!(problem.contains("certificate server.crt and key server.key cannot be used together"), "{problem}");
    site.write("server.crt", &new.certificate);
    assert!(is_of(&shown(&guest.connect(&daemon.address).unwrap()), &new));
    daemon.await_message("web configuration reloaded");
    let mut rest = Vec::new();
    kept.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "what was connected before is let go");
}

#[test]
fn a_bad_new_file_is_reported_once_and_the_old_one_is_kept() {
    let cloud = Cloud::of([rotating(90)]);
    let good = format!("basic_auth_users: {{alice: {}}}\n", hash(WEB_PASSWORD, 4));
    let site = site(&cloud, &good);
    let daemon = serve(&site);
    let alice = basic("alice", WEB_PASSWORD);
    let statuses = || (plain(&daemon, "/metrics", "").status, plain(&daemon, "/metrics", &alice).status);
    assert_eq!(statuses(), (401, 200));
    site.write("web.yaml", "basic_auth_users: {alice: hunter2}\nrate_limit: {}\n");
    assert_eq!(statuses(), (401, 200));
    std::fs::remove_file(site.path("web.yaml")).unwrap();
    assert_eq!(statuses(), (401, 200));
    // A user who was removed is refused.
    site.write("web.yaml", &good.replace("alice", "bob"));
    assert_eq!(statuses(), (401, 401));
    let ended = daemon.stop();
    let refused = ended.messages("web configuration reload failed; still using the previous one");
    let problems: Vec<_> = refused.iter().map(|line| line["problem"].as_str().unwrap()).collect();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems[0].starts_with("web.yaml:1:20: user `alice` has no bcrypt hash"), "{problems:?}");
    assert!(problems[1].starts_with("web.yaml:2:1: `rate_limit` is not supported"), "{problems:?}");
    assert!(problems[2].starts_with("read web configuration web.yaml: No such file"), "{problems:?}");
    assert!(!ended.stderr.contains("hunter2"));
}

#[test]
fn client_certificates_are_required_if_configured() {
    let cloud = Cloud::of([rotating(90)]);
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (known, unknown) = (authority.sign(), stranger.sign());
    for (kind, without) in [("RequireAndVerifyClientCert", false), ("VerifyClientCertIfGiven", true)] {
        let asked = format!("key_file: server.key, client_auth_type: {kind}, client_ca_file: clients.crt");
        let site = site(&cloud, &TLS.replace("key_file: server.key", &asked));
        set_up(&site, &authority.sign());
        site.write("clients.crt", &authority.pem());
        let daemon = serve(&site);
        let is_let_in = |papers| {
            let answer = Guest::with(&authority, papers, rustls::ALL_VERSIONS).get(&daemon.address, "/metrics", "");
            answer.is_ok_and(|answer| answer.status == 200)
        };
        assert_eq!(
            (is_let_in(Some(&known)), is_let_in(Some(&unknown)), is_let_in(None)),
            (true, false, without),
            "{kind}"
        );
    }
}

#[test]
fn versions_of_tls_outside_the_range_are_refused() {
    let cloud = Cloud::of([rotating(90)]);
    let authority = Authority::new();
    let [old, new] =
        [&rustls::version::TLS12, &rustls::version::TLS13].map(|version| Guest::with(&authority, None, &[version]));
    for (range, expected) in
        [("", (true, true)), (", min_version: TLS13", (false, true)), (", max_version: TLS12", (true, false))]
    {
        let site = site(&cloud, &TLS.replace("server.key", &format!("server.key{range}")));
        set_up(&site, &authority.sign());
        let daemon = serve(&site);
        let spoken = |guest: &Guest| guest.connect(&daemon.address).is_ok();
        assert_eq!((spoken(&old), spoken(&new)), expected, "{range}");
    }
}

#[test]
fn many_wrong_passwords_do_not_block_other_requests() {
    let cloud = Cloud::of([rotating(90)]);
    let site = site(&cloud, &format!("basic_auth_users: {{alice: {}}}\n", hash(WEB_PASSWORD, 10)));
    let daemon = serve(&site);
    let alice = basic("alice", WEB_PASSWORD);
    assert_eq!(plain(&daemon, "/metrics", &alice).status, 200);
    let runs = || daemon.metric_with("kms_rotation_runs_total{result=\"success\",trigger=\"signal\"}", &alice).unwrap();
    let before = runs();
    let ebb = Arc::<AtomicBool>::default();
    let flood: Vec<_> = (0..40)
        .map(|n| {
            let (address, ebb) = (daemon.address.clone(), Arc::clone(&ebb));
            thread::spawn(move || {
                let wrong = |m| exchange(connect(&address), "/metrics", &basic("alice", &format!("{n} {m}")));
                let tries = (0..).take_while(|m| *m < 4 || !ebb.load(Ordering::Relaxed));
                tries.map(|m| wrong(m).unwrap().status).collect::<Vec<_>>()
            })
        })
        .collect();
    daemon.signal(Signal::HUP);
    // Known users do not wait for checks, and the loop does not wait at any time: the flood continues meanwhile.
    eventually("a run in the flood", || {
        assert_eq!(plain(&daemon, "/healthz", "").status, 200);
        runs() > before
    });
    ebb.store(true, Ordering::Relaxed);
    let statuses: Vec<_> = flood.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert!(statuses.iter().all(|status| matches!(status, 401 | 503)) && statuses.contains(&401), "{statuses:?}");
}

#[test]
fn an_unusable_web_configuration_exits_with_2_and_every_reason() {
    let cloud = Cloud::of([rotating(90)]);
    let authority = Authority::new();
    for (web, reasons) in [
        (
            "basic_auth_users: {alice: hunter2}\ntls_server_config: {cert: abc, cert_file: a, key_file: b}\n",
            &["web.yaml:1:20: user `alice` has no bcrypt hash", "web.yaml:2:21: `cert` is not supported"][..],
        ),
        (&TLS.replace("server.crt", "no.crt"), &["kms-rotationd: read no.crt: No such file"]),
        (&TLS.replace("server.crt", "other.crt"), &["kms-rotationd: certificate other.crt and key server.key cannot"]),
        (&TLS.replace("server.key", "server.crt"), &["kms-rotationd: server.crt contains no private key"]),
        ("bearer_token_file: no-token\n", &["kms-rotationd: read bearer token file no-token: No such file"]),
    ] {
        let site = site(&cloud, web);
        set_up(&site, &authority.sign());
        site.write("other.crt", &authority.sign().certificate);
        for log in ["text", "json"] {
            let arguments = [
                "run",
                "--policy",
                "policy.yaml",
                "--listen",
                "127.0.0.1:0",
                "--web-config",
                "web.yaml",
                "--log-format",
            ];
            let ended = Program::start(site.command(&[&arguments[..], &[log]].concat())).finish();
            assert_eq!(ended.code, Some(2), "{ended:#?}");
            for reason in reasons {
                let told = ended.stderr.contains(reason.trim_start_matches("kms-rotationd: "));
                let whole = log == "json" || ended.stderr.lines().any(|line| line.starts_with(reason));
                assert!(told && whole, "{reason}: {ended:#?}");
            }
            assert!(log == "text" || ended.messages("web configuration refused").len() == reasons.len(), "{ended:#?}");
            assert!(!ended.stderr.contains("hunter2"), "{ended:#?}");
        }
    }
    assert_eq!(cloud.all_requests(), 0);
}
