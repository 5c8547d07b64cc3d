//! Proxies: which requests use them, and what they can see.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::thread;

use kms_simulator::Operation;
use rustix::process::Signal;
use serde_json::Value;

use super::access_keys::{ACCESS, BY_VALUE, SECRET, keyed, site};
use super::cloud::{Cloud, many, off};
use super::front::{Authority, Front, HOST};
use super::secrets::{GATE, GATE_PASSWORD};
use super::site::{Policy, Site};
use super::{KEY, PASSWORD, TOKEN, eventually, key_id};

/// A cloud with TLS and a host name that only the proxy can resolve.
pub(crate) struct Behind {
    pub(crate) cloud: Cloud,
    front: Front,
    pub(crate) proxy: Front,
    pub(crate) authority: Authority,
}

impl Behind {
    pub(crate) fn new(authorization: Option<&'static str>) -> Self {
        Self::with(|front| Front::proxy(&front.https(), authorization))
    }

    /// Behind this proxy.
    pub(crate) fn with(proxy: impl FnOnce(&Front) -> Front) -> Self {
        let authority = Authority::new();
        let cloud = Cloud::start(keyed(many(30).into_iter().chain([off()])));
        let front = Front::tls(cloud.url(), &authority);
        let proxy = proxy(&front);
        Self { cloud, front, proxy, authority }
    }

    pub(crate) fn site(&self, credentials: &str, field: Option<&str>) -> Site {
        self.site_for(Policy::of_one_key(&format!("https://{HOST}")), credentials, field)
    }

    /// The same with this number of keys and a high concurrency.
    pub(crate) fn site_of(&self, keys: usize, credentials: &str, field: Option<&str>) -> Site {
        let policy = Policy::of_keys(&format!("https://{HOST}"), (0..keys).map(key_id));
        self.site_for(Policy { concurrency: 16, ..policy }, credentials, field)
    }

    pub(crate) fn site_for(&self, policy: Policy, credentials: &str, field: Option<&str>) -> Site {
        let policy = policy.with(credentials).field("ca_file: ca.pem");
        let policy = Policy { max_elapsed: "300ms", ..field.into_iter().fold(policy, Policy::field) };
        let site = site(&policy);
        site.write("ca.pem", &self.authority.pem);
        site.write("gate", &format!("{GATE_PASSWORD}\n"));
        site
    }

    pub(crate) fn open(&self) -> String {
        format!("proxy: {{url: \"{}\"}}", self.proxy.http())
    }

    fn with_password(&self) -> String {
        format!("proxy: {{url: \"{}\", user_name: gate, password_file: gate}}", self.proxy.http())
    }

    /// The proxy received a `CONNECT` and only encrypted data after it.
    #[track_caller]
    fn assert_nothing_in_the_clear(&self) {
        let heard = self.proxy.heard();
        assert!(heard.contains(&format!("connect {HOST}:443 http/1.1")), "{heard}");
        for secret in [TOKEN, PASSWORD, SECRET, ACCESS, "x-auth-token", "authorization: sdk-hmac", "key_id"] {
            assert!(!heard.contains(&secret.to_ascii_lowercase()), "{secret}: {heard}");
        }
    }
}

/// The extension of a `ClientHello` with the versions (RFC 8446, section 4.2.1).
const SUPPORTED_VERSIONS: u16 = 43;

pub(crate) const BY_TOKEN: &str = "{token_file: token}";
pub(crate) const BY_PASSWORD: &str = "{password: {user_name: rotator, domain_name: ACCOUNT, password_file: password}}";

#[test]
fn the_policys_proxy_is_used_and_sees_no_clear_text() {
    for credentials in [BY_TOKEN, BY_PASSWORD, BY_VALUE] {
        let behind = Behind::new(None);
        let applied = behind.site(credentials, Some(&behind.open())).apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"), "{applied:#?}");
        behind.assert_nothing_in_the_clear();
    }
}

#[test]
fn a_proxys_password_never_reaches_the_cloud() {
    let behind = Behind::new(Some(GATE));
    let applied = behind.site(BY_PASSWORD, Some(&behind.with_password())).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"), "{applied:#?}");
    behind.assert_nothing_in_the_clear();
    assert!(behind.proxy.heard().contains("proxy-authorization: basic"));
    let heard = behind.front.heard();
    assert!(heard.contains("x-auth-token: "), "the front hears what the cloud does");
    assert!(!heard.contains("proxy-authorization") && !heard.contains(&GATE[6..].to_ascii_lowercase()), "{heard}");
}

#[test]
fn a_proxy_that_refuses_the_password_is_tried_once_in_a_run_and_named() {
    let behind = Behind::new(Some(GATE));
    for (credentials, reason) in [(BY_TOKEN, "read_failed"), (BY_VALUE, "read_failed"), (BY_PASSWORD, "read_failed")] {
        for field in [behind.open(), behind.with_password()] {
            let site = behind.site_of(30, credentials, Some(&field));
            site.write("gate", "not it");
            let before = behind.proxy.connections();
            let applied = site.apply();
            assert_eq!((applied.code, applied.report().count("unknown")), (Some(1), 30), "{credentials}");
            assert_eq!(applied.key(&key_id(29)), format!("unknown: {reason}"), "{credentials}");
            let error = applied.report().error();
            let said = format!("the proxy {} answers HTTP 407", behind.proxy.address());
            assert!(error.contains(&said) && error.contains("password_file of proxy"), "{error}");
            assert!(!error.contains("user rotator"), "who logs in to the cloud is not to blame: {error}");
            assert!(!(applied.stdout + &applied.stderr).contains("not it"));
            assert_eq!(behind.proxy.connections() - before, 1, "{credentials}");
        }
    }
    assert_eq!((behind.cloud.all_requests(), behind.front.connections()), (0, 0));
}

#[test]
fn a_changed_password_of_the_proxy_is_used_by_the_next_run() {
    let behind = Behind::new(Some(GATE));
    let site = behind.site_of(30, BY_PASSWORD, Some(&behind.with_password()));
    let daemon = site.run();
    daemon.await_runs(1);
    let run = |asked: usize, status: &str| {
        let (seen, before) = (daemon.runs(), behind.proxy.connections());
        daemon.signal(Signal::HUP);
        daemon.await_runs(seen + 1);
        // The cloud has one more key than the policy.
        let keys = if status == "unknown" { 31 } else { 30 };
        eventually(status, || daemon.status().count(status) == keys);
        assert!(behind.proxy.connections() - before <= asked, "{} connections", behind.proxy.connections() - before);
    };
    run(32, "compliant");
    // The token is still valid and was accepted, so that only the new run makes its first request alone.
    site.write("gate", "not it");
    run(1, "unknown");
    let error = daemon.status().error();
    assert!(error.contains("the proxy") && error.contains("HTTP 407"), "{error}");
    let requests = |code: &str| {
        let of = "kms_rotation_requests_total{project=\"payments\",operation=\"list_keys\"";
        daemon.metric(&format!("{of},code=\"{code}\"}}"))
    };
    assert_eq!(requests("407"), Some(1.0));
    std::fs::remove_file(site.path("gate")).unwrap();
    run(0, "unknown");
    assert!(requests("connect").is_none_or(|count| count < 1.0), "nothing was sent");
    assert!(daemon.status().error().contains("no password for the proxy: cannot read"), "{}", daemon.status().error());
    site.write("gate", GATE_PASSWORD);
    run(32, "compliant");
    assert_eq!(behind.cloud.requests(Operation::Authenticate), 1);
}

#[test]
fn a_refused_password_of_the_proxy_is_not_sent_again_until_it_changes() {
    let behind = Behind::new(Some(GATE));
    let policy = Policy::of_one_key(&format!("https://{HOST}")).every_second();
    let site = behind.site_for(policy.clone(), BY_PASSWORD, Some(&behind.with_password()));
    site.write("gate", "not it");
    let daemon = site.run();
    daemon.await_runs(5);
    assert_eq!((&*daemon.status().key(KEY), behind.proxy.connections()), ("unknown: read_failed", 1));
    let error = daemon.status().error();
    assert!(error.contains("refused the password (HTTP 407)") && error.contains("30 minutes"), "{error}");
    daemon.signal(Signal::HUP);
    let seen = daemon.runs();
    daemon.await_runs(seen + 3);
    assert_eq!(behind.proxy.connections(), 2);
    site.write("gate", GATE_PASSWORD);
    eventually("the right password is picked up", || daemon.status().key(KEY) == "compliant");
    drop(daemon);

    // A password in the environment, which cannot change; and none, which no proxy locks.
    for (user, refused) in [("gate:no@", 1..=1), ("", 2..=usize::MAX)] {
        let before = behind.proxy.connections();
        let mut site = behind.site_for(policy.clone(), BY_PASSWORD, None);
        site.set("HTTPS_PROXY", &format!("http://{user}{}", behind.proxy.address()));
        let daemon = site.run();
        daemon.await_runs(3);
        assert!(refused.contains(&(behind.proxy.connections() - before)), "{user}");
        assert_eq!(daemon.status().key(KEY), "unknown: read_failed");
    }
}

#[test]
fn a_missing_password_file_of_the_proxy_affects_only_its_project() {
    let behind = Behind::new(Some(GATE));
    let site = behind.site(BY_TOKEN, Some(&behind.with_password()));
    std::fs::remove_file(site.path("gate")).unwrap();
    let applied = site.apply();
    assert_eq!(applied.code, Some(1));
    assert!(applied.report().error().contains("gate"), "{}", applied.report().error());
    assert_eq!(behind.proxy.connections(), 0);
}

#[test]
fn the_proxy_of_the_environment_is_used_in_either_spelling() {
    for name in ["HTTPS_PROXY", "https_proxy"] {
        let behind = Behind::new(None);
        let mut site = behind.site(BY_VALUE, None);
        site.set(name, &behind.proxy.http());
        assert_eq!(site.apply().key(KEY), "compliant", "{name}");
        behind.assert_nothing_in_the_clear();
    }
}

#[test]
fn the_environments_proxy_can_have_a_password_in_its_url() {
    let behind = Behind::new(Some(GATE));
    let mut site = behind.site(BY_TOKEN, None);
    site.set("HTTPS_PROXY", &format!("http://gate:{GATE_PASSWORD}@{}", behind.proxy.address()));
    let applied = site.apply();
    assert_eq!(applied.key(KEY), "compliant");
    assert!(!(applied.stdout + &applied.stderr).contains(GATE_PASSWORD));
}

#[test]
fn the_policys_proxy_takes_precedence_over_the_environments() {
    let behind = Behind::new(None);
    let trap = Front::proxy(behind.cloud.url(), None);
    let mut site = behind.site(BY_TOKEN, Some(&behind.open()));
    site.set("HTTPS_PROXY", &trap.http());
    // NO_PROXY applies to the environment's proxy only.
    site.set("NO_PROXY", "*");
    assert_eq!(site.apply().key(KEY), "compliant");
    assert_eq!(trap.connections(), 0);
}

#[test]
fn hosts_in_no_proxy_are_reached_directly() {
    for except in ["127.0.0.1", "*", "example.com,127.0.0.0/8", " 127.0.0.1 , x", "x 127.0.0.1:PORT"] {
        let behind = Behind::new(None);
        let policy = Policy::of_one_key(&behind.front.https()).field("ca_file: ca.pem");
        let mut site = site(&policy);
        site.write("ca.pem", &behind.authority.pem);
        site.set("HTTPS_PROXY", &behind.proxy.http());
        let port = behind.front.address().port().to_string();
        site.set("NO_PROXY", &except.replace("PORT", &port));
        assert_eq!(site.apply().key(KEY), "compliant", "{except}");
        assert_eq!(behind.proxy.connections(), 0, "{except}");
    }
    let behind = Behind::new(None);
    let mut site = behind.site(BY_TOKEN, None);
    site.set("HTTPS_PROXY", &behind.proxy.http());
    site.set("NO_PROXY", "localhost,127.0.0.1,.example.com,[::1],kms.cloud.test:8443,*.kms.cloud.test");
    assert_eq!(site.apply().key(KEY), "compliant");
    behind.assert_nothing_in_the_clear();
    assert!(behind.cloud.requests(Operation::ReadStatus) > 0);
}

#[test]
fn an_untrusted_certificate_is_tried_once_in_a_run() {
    let cloud = Cloud::start(keyed(many(30)));
    for (credentials, iam, reason) in [
        (BY_VALUE, None, "read_failed"),
        (BY_TOKEN, None, "read_failed"),
        (BY_PASSWORD, Some(cloud.url()), "read_failed"),
        (BY_PASSWORD, None, "read_failed"),
    ] {
        let front = Front::tls(cloud.url(), &Authority::new());
        let policy = Policy::of_keys(&front.https(), (0..30).map(key_id)).with(credentials).field("ca_file: ca.pem");
        let iam = iam.map_or_else(|| front.https(), ToOwned::to_owned);
        let site = site(&Policy { concurrency: 16, iam, ..policy });
        // Another authority with the same name is trusted.
        site.write("ca.pem", &Authority::new().pem);
        let applied = site.apply();
        assert_eq!((applied.code, applied.report().count("unknown")), (Some(1), 30), "{credentials}");
        for n in [0, 29] {
            assert_eq!(applied.key(&key_id(n)), format!("unknown: {reason}"), "{credentials}");
        }
        let error = applied.report().error();
        assert!(error.contains("is not trusted") && error.contains("ca_file"), "{error}");
        let errors: Vec<_> = applied.log().into_iter().filter(|line| line["level"] == "ERROR").collect();
        assert_eq!((errors.len(), &errors[0]["error"]), (1, &Value::from(error)), "{errors:#?}");
        assert_eq!(front.connections(), 1, "{credentials}");
        assert_eq!(cloud.requests(Operation::ReadStatus), 0);
    }
}

#[test]
fn a_corrected_certificate_authority_is_used_by_the_next_run() {
    let (cloud, authority) = (Cloud::start(keyed(many(5))), Authority::new());
    let front = Front::tls(cloud.url(), &authority);
    let policy = Policy::of_keys(&front.https(), (0..5).map(key_id)).with(BY_PASSWORD).field("ca_file: ca.pem");
    // IAM has other certificates.
    let site = site(&Policy { iam: cloud.url().to_owned(), ..policy });
    let daemon = site.run();
    for (pem, says) in [
        (None, "cannot read ca_file"),
        (Some("nothing"), "no certificate"),
        (Some(&*Authority::new().pem), "not trusted"),
    ] {
        match pem {
            Some(pem) => site.write("ca.pem", pem),
            None => assert!(!site.path("ca.pem").exists()),
        }
        let seen = daemon.runs();
        daemon.signal(Signal::HUP);
        daemon.await_runs(seen + 1);
        eventually(says, || daemon.status().error().contains(says));
    }
    assert_eq!(daemon.status().count("unknown"), 5);
    site.write("ca.pem", &authority.pem);
    daemon.signal(Signal::HUP);
    eventually("they are compliant", || daemon.status().count("compliant") == 5);
    assert_eq!(daemon.status().error(), "");
}

#[test]
fn certificates_are_checked_through_a_proxy_too() {
    let behind = Behind::new(None);
    let site = behind.site(BY_TOKEN, Some(&behind.open()));
    site.write("ca.pem", &Authority::new().pem);
    let applied = site.apply();
    assert_eq!(applied.code, Some(1));
    assert!(applied.stdout.contains("is not trusted"), "{}", applied.stdout);
    assert_eq!(behind.cloud.all_requests(), 0);
}

#[test]
fn only_tls_1_3_and_1_2_are_offered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let policy = Policy::of_one_key(&format!("https://{}", listener.local_addr().unwrap())).field("ca_file: ca.pem");
    let site = Site::new(&Policy { max_elapsed: "300ms", ..policy });
    site.write("ca.pem", &Authority::new().pem);
    let ear = thread::spawn(move || client_hello(&mut listener.accept().unwrap().0));
    assert_eq!(site.apply().key(KEY), "unknown: read_failed");
    let hello = ear.join().unwrap();
    let mut offered: Vec<u16> = extension(&hello, SUPPORTED_VERSIONS).vector(1).numbers();
    offered.sort_unstable();
    assert_eq!(offered, [0x0303, 0x0304]);
}

/// The body of a `ClientHello` (RFC 8446, section 4.1.2).
fn client_hello(stream: &mut TcpStream) -> Vec<u8> {
    let mut read = |count: usize| {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).unwrap();
        bytes
    };
    let record = read(5);
    assert_eq!(record[0], 22, "a handshake");
    let message = read(usize::from(u16::from_be_bytes([record[3], record[4]])));
    assert_eq!(message[0], 1, "the greeting of a client");
    message[4..].to_vec()
}

/// The content of an extension of a `ClientHello`.
#[track_caller]
fn extension(hello: &[u8], wanted: u16) -> Bytes<'_> {
    // Before the extensions: version and random, the session's id, ciphers, compressions.
    let mut rest = Bytes(&hello[2 + 32..]);
    for length in [1, 2, 1] {
        rest.vector(length);
    }
    let mut extensions = rest.vector(2);
    loop {
        let kind = extensions.number(2);
        let said = extensions.vector(2);
        if kind == usize::from(wanted) {
            return said;
        }
    }
}

/// A reader of TLS structures.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn number(&mut self, bytes: usize) -> usize {
        self.take(bytes).iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
    }

    /// A vector with its length before it.
    fn vector(&mut self, bytes: usize) -> Self {
        let count = self.number(bytes);
        Self(self.take(count))
    }

    fn numbers(&self) -> Vec<u16> {
        self.0.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
    }
}

#[test]
fn connections_closed_by_the_cloud_fail_no_key() {
    let idle = std::time::Duration::from_millis(300);
    let cloud = Cloud::start(keyed([off()]).idle_timeout(idle));
    let site = site(&Policy::of_one_key(cloud.url()).with(BY_VALUE).every_second());
    let daemon = site.run();
    daemon.await_runs(3);
    assert_eq!(daemon.status().key(KEY), "compliant");
    assert_eq!(cloud.requests(Operation::ReadStatus), cloud.asked(Operation::ReadStatus));
    let failed = "kms_rotation_operations_total{project=\"payments\",operation=\"read_status\",result=\"failure\"}";
    assert_eq!(daemon.metric(failed), Some(0.0));
}
