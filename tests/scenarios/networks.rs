//! Proxies: what goes through them, what never does, and what they get to see.

use std::net::TcpListener;

use kms_rotationd::simulator::Operation;

use super::access_keys::{ACCESS, BY_VALUE, SECRET, keyed, site};
use super::cloud::{Cloud, off};
use super::front::{Authority, Front, HOST};
use super::secrets::{GATE, GATE_PASSWORD};
use super::site::{Policy, Site};
use super::{KEY, PASSWORD, TOKEN};

/// A cloud behind TLS, which has a name that only the proxy knows.
struct Behind {
    cloud: Cloud,
    front: Front,
    proxy: Front,
    authority: Authority,
}

impl Behind {
    fn new(authorization: Option<&'static str>) -> Self {
        let authority = Authority::new();
        let cloud = Cloud::start(keyed([off()]));
        let front = Front::tls(cloud.url(), &authority);
        let proxy = Front::proxy(&front.https(), authorization);
        Self { cloud, front, proxy, authority }
    }

    fn site(&self, credentials: &str, field: Option<&str>) -> Site {
        let policy = Policy::of_one_key(&format!("https://{HOST}")).with(credentials).field("ca_file: ca.pem");
        let policy = Policy { max_elapsed: "300ms", ..field.into_iter().fold(policy, Policy::field) };
        let site = site(&policy);
        site.write("ca.pem", &self.authority.pem);
        site.write("gate", &format!("{GATE_PASSWORD}\n"));
        site
    }

    fn open(&self) -> String {
        format!("proxy: {{url: \"{}\"}}", self.proxy.http())
    }

    fn with_password(&self) -> String {
        format!("proxy: {{url: \"{}\", user_name: gate, password_file: gate}}", self.proxy.http())
    }

    /// The proxy got a `CONNECT` and nothing that it could read after it.
    #[track_caller]
    fn assert_nothing_in_the_clear(&self) {
        let heard = self.proxy.heard();
        assert!(heard.contains(&format!("connect {HOST}:443 http/1.1")), "{heard}");
        for secret in [TOKEN, PASSWORD, SECRET, ACCESS, "x-auth-token", "authorization: sdk-hmac", "key_id"] {
            assert!(!heard.contains(&secret.to_ascii_lowercase()), "{secret}: {heard}");
        }
    }
}

const BY_TOKEN: &str = "{token_file: token}";
const BY_PASSWORD: &str = "{password: {user_name: rotator, domain_name: ACCOUNT, password_file: password}}";

#[test]
fn a_proxy_of_the_policy_is_used_and_sees_nothing_in_the_clear() {
    for credentials in [BY_TOKEN, BY_PASSWORD, BY_VALUE] {
        let behind = Behind::new(None);
        let applied = behind.site(credentials, Some(&behind.open())).apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"), "{applied:#?}");
        behind.assert_nothing_in_the_clear();
    }
}

#[test]
fn a_proxy_may_ask_for_a_password_which_never_reaches_the_cloud() {
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
fn a_proxy_that_refuses_the_password_is_named_and_the_cloud_is_not_blamed() {
    let behind = Behind::new(Some(GATE));
    for field in [behind.open(), behind.with_password()] {
        let site = behind.site(BY_TOKEN, Some(&field));
        site.write("gate", "not it");
        let applied = site.apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "unknown: read_failed"));
        assert!(applied.stdout.contains("proxy"), "{}", applied.stdout);
        assert!(!applied.stdout.contains("not it"), "{}", applied.stdout);
    }
    assert_eq!((behind.cloud.all_requests(), behind.front.connections()), (0, 0));
}

#[test]
fn a_missing_password_file_of_the_proxy_stops_its_project_alone() {
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
fn the_environments_proxy_may_have_its_password_in_its_address() {
    let behind = Behind::new(Some(GATE));
    let mut site = behind.site(BY_TOKEN, None);
    site.set("HTTPS_PROXY", &format!("http://gate:{GATE_PASSWORD}@{}", behind.proxy.address()));
    let applied = site.apply();
    assert_eq!(applied.key(KEY), "compliant");
    assert!(!(applied.stdout + &applied.stderr).contains(GATE_PASSWORD));
}

#[test]
fn the_policys_proxy_wins_over_the_environments() {
    let behind = Behind::new(None);
    let trap = Front::proxy(behind.cloud.url(), None);
    let mut site = behind.site(BY_TOKEN, Some(&behind.open()));
    site.set("HTTPS_PROXY", &trap.http());
    // NO_PROXY belongs to the environment's proxy.
    site.set("NO_PROXY", "*");
    assert_eq!(site.apply().key(KEY), "compliant");
    assert_eq!(trap.connections(), 0);
}

#[test]
fn hosts_that_no_proxy_lists_are_reached_without_it() {
    for except in ["127.0.0.1", "*", "example.com,127.0.0.0/8", " 127.0.0.1 , x"] {
        let behind = Behind::new(None);
        let policy = Policy::of_one_key(&behind.front.https()).field("ca_file: ca.pem");
        let mut site = site(&policy);
        site.write("ca.pem", &behind.authority.pem);
        site.set("HTTPS_PROXY", &behind.proxy.http());
        site.set("NO_PROXY", except);
        assert_eq!(site.apply().key(KEY), "compliant", "{except}");
        assert_eq!(behind.proxy.connections(), 0, "{except}");
    }
    let behind = Behind::new(None);
    let mut site = behind.site(BY_TOKEN, None);
    site.set("HTTPS_PROXY", &behind.proxy.http());
    site.set("NO_PROXY", "localhost,127.0.0.1,.example.com");
    assert_eq!(site.apply().key(KEY), "compliant");
    behind.assert_nothing_in_the_clear();
    assert!(behind.cloud.requests(Operation::ReadStatus) > 0);
}

#[test]
fn a_certificate_is_judged_behind_a_proxy_as_well() {
    let behind = Behind::new(None);
    let site = behind.site(BY_TOKEN, Some(&behind.open()));
    site.write("ca.pem", &Authority::new().pem);
    let applied = site.apply();
    assert_eq!(applied.code, Some(1));
    assert!(applied.stdout.contains("is not trusted"), "{}", applied.stdout);
    assert_eq!(behind.cloud.all_requests(), 0);
}

#[test]
fn connections_that_the_cloud_has_closed_cost_no_key() {
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

#[test]
fn a_cloud_that_answers_on_ipv6_is_a_cloud_like_any() {
    // A machine may be without it, as some containers are.
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let cloud = Cloud::start(keyed([off()]).address("[::1]:0".parse().unwrap()));
    assert!(cloud.url().starts_with("http://[::1]:"), "{}", cloud.url());
    for credentials in ["{token_file: token}", BY_VALUE] {
        let applied = site(&Policy::of_one_key(cloud.url()).with(credentials)).apply();
        assert_eq!(applied.key(KEY), "compliant", "{credentials}");
    }
}
