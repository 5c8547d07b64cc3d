//! A proxy that refuses, fails or is unreachable: the error names it, and what follows.

use std::net::TcpListener;

use super::front::{Authority, Front, HOST};
use super::networks::{BY_PASSWORD, BY_TOKEN, Behind};
use super::site::{Policy, Site};
use super::{KEY, key_id};

/// The settings of a proxy: a field of the policy or a variable, and its name in an error.
const WAYS: [(Option<&str>, &str); 3] =
    [(None, "proxy.url of the policy"), (Some("HTTPS_PROXY"), "HTTPS_PROXY"), (Some("https_proxy"), "https_proxy")];

/// A site with this number of keys that uses the proxy at this address.
fn site(behind: &Behind, keys: usize, credentials: &str, variable: Option<&str>, proxy: &str) -> Site {
    let field = variable.is_none().then(|| format!("proxy: {{url: \"{proxy}\"}}"));
    let mut site = behind.site_of(keys, credentials, field.as_deref());
    if let Some(variable) = variable {
        site.set(variable, proxy);
    }
    site
}

#[test]
fn a_refusing_proxy_is_named_with_its_status_and_its_source() {
    for (answer, is_final) in [
        ("403 Forbidden", true),
        ("404 Not Found", true),
        ("502 Bad Gateway", false),
        ("503 Service Unavailable", false),
        ("302 Found", false),
    ] {
        for (variable, place) in WAYS {
            let behind = Behind::with(|_| Front::refusing(answer));
            let site = site(&behind, 30, BY_TOKEN, variable, &behind.proxy.http());
            let applied = site.apply();
            assert_eq!((applied.code, applied.report().count("unknown")), (Some(1), 30), "{answer}");
            assert_eq!(applied.key(&key_id(29)), "unknown: read_failed", "{answer}");
            let error = applied.report().error();
            let said =
                format!("no connection to {HOST}: the proxy {} answers HTTP {}", behind.proxy.address(), &answer[..3]);
            assert!(error.contains(&said) && error.contains(place), "{error}");
            // One for the request, and one for the status of the answer.
            let connections = behind.proxy.connections();
            assert_eq!(connections == 2, is_final, "{answer}: {connections} connections");
            assert_eq!(behind.cloud.all_requests(), 0);
        }
    }
}

#[test]
fn a_tls_proxy_is_named_too_also_for_its_certificate() {
    let behind = Behind::with(|_| Front::refusing("403 Forbidden"));
    // With its authority in the ca_file, and then without.
    for (authority, what) in [
        (&behind.authority, "answers HTTP 403"),
        (&Authority::issuing("another", |_| {}), "cannot be used: its certificate is not trusted"),
    ] {
        let by_tls = Front::tls(&behind.proxy.http(), authority);
        let applied = site(&behind, 30, BY_TOKEN, None, &by_tls.https()).apply();
        assert_eq!((applied.code, applied.report().count("unknown")), (Some(1), 30));
        let error = applied.report().error();
        assert!(error.contains(&format!("the proxy {} {what}", by_tls.address())), "{error}");
        assert!(by_tls.connections() <= 2, "{what}");
    }
    let behind = Behind::new(None);
    let by_tls = Front::tls(&behind.proxy.http(), &behind.authority);
    let applied = site(&behind, 30, BY_TOKEN, None, &by_tls.https()).apply();
    assert_eq!((applied.code, applied.report().count("compliant")), (Some(0), 30), "{applied:#?}");
}

#[test]
fn a_login_refused_by_a_proxy_is_tried_once_and_names_the_proxy() {
    let behind = Behind::with(|_| Front::refusing("403 Forbidden"));
    let applied = site(&behind, 30, BY_PASSWORD, None, &behind.proxy.http()).apply();
    assert_eq!((applied.code, applied.report().count("unknown")), (Some(1), 30));
    let error = applied.report().error();
    assert!(error.contains("the proxy") && error.contains("HTTP 403"), "{error}");
    assert!(!error.contains("user rotator"), "who logs in to the cloud is not to blame: {error}");
    assert_eq!(behind.proxy.connections(), 2);
}

#[test]
fn an_unreachable_or_silent_proxy_is_named_and_retried() {
    // A closed port, a silent server, and a server that closes the connection.
    let down = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let leaving = Front::refusing("");
    for (proxy, request_timeout, [what, why]) in [
        (down, "20s", ["cannot be reached", ": Connection refused"]),
        (hanging.local_addr().unwrap(), "200ms", ["within", "the request timeout"]),
        (leaving.address(), "20s", ["has closed", "the connection"]),
    ] {
        for (variable, place) in WAYS {
            let behind = Behind::new(None);
            let field = variable.is_none().then(|| format!("proxy: {{url: \"http://{proxy}\"}}"));
            let policy = Policy { request_timeout, ..Policy::of_one_key(&format!("https://{HOST}")) };
            let mut site = behind.site_for(policy, BY_TOKEN, field.as_deref());
            if let Some(variable) = variable {
                site.set(variable, &proxy.to_string());
            }
            let applied = site.apply();
            assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "unknown: read_failed"));
            let error = applied.report().error();
            let named = format!("the proxy {proxy}");
            assert!([HOST, &*named, what, why, place].iter().all(|part| error.contains(part)), "{error}");
        }
    }
    assert!(leaving.connections() > WAYS.len(), "it is tried again");
}

#[test]
fn a_variable_with_an_invalid_proxy_is_named_and_not_ignored() {
    for address in ["socks5://gate:sEcReT@127.0.0.1:1080", "ftp://127.0.0.1", "http://gate:sEcReT@", "a b"] {
        let behind = Behind::new(None);
        let applied = site(&behind, 1, BY_TOKEN, Some("https_proxy"), address).apply();
        assert_eq!((applied.code, &*applied.key(&key_id(0))), (Some(1), "unknown: read_failed"), "{address}");
        let error = applied.report().error();
        assert!(error.contains("proxy address in https_proxy is not valid"), "{error}");
        assert!(!(applied.stdout + &applied.stderr).contains("sEcReT"), "{address}");
    }
}

#[test]
fn a_variable_that_is_empty_does_not_hide_its_other_spelling() {
    let behind = Behind::new(None);
    let mut site = behind.site(BY_TOKEN, None);
    site.set("HTTPS_PROXY", "");
    site.set("https_proxy", &behind.proxy.http());
    site.set("NO_PROXY", " ");
    site.set("no_proxy", "example.com");
    assert_eq!(site.apply().key(KEY), "compliant");
    assert!(behind.proxy.connections() > 0);
    // Only the proxy can resolve this name.
    site.set("no_proxy", HOST);
    let asked = behind.proxy.connections();
    assert_eq!(site.apply().key(KEY), "unknown: read_failed");
    assert_eq!(behind.proxy.connections(), asked);
}

#[test]
fn a_proxy_setting_without_effect_causes_one_warning() {
    let behind = Behind::new(None);
    let policy = Policy::of_one_key(&format!("https://{HOST}"));
    let mut site = behind.site_for(policy.clone(), BY_TOKEN, None);
    let second = Policy { keys: Vec::new(), name: "second", ..policy }.key(&key_id(0), 90).field("ca_file: ca.pem");
    let text = std::fs::read_to_string(site.path("policy.yaml")).unwrap();
    site.write("policy.yaml", &(text + &second.project()));
    site.set("HTTPS_PROXY", &behind.proxy.http());
    site.set("no_proxy", "https://example.com, 10.0.0.0/8 ,kms*, gate:sEcReT@example.com, *.example.com");
    let applied = site.apply();
    assert_eq!((applied.code, applied.report().count("compliant")), (Some(0), 2), "{applied:#?}");
    let warned: Vec<_> = applied.log().into_iter().filter(|line| line["variable"] == "no_proxy").collect();
    let entries: Vec<_> = warned.iter().map(|line| line["entry"].as_str().unwrap()).collect();
    assert_eq!(entries, ["https://example.com", "kms*", "(not shown)"]);
    assert!(!applied.stderr.contains("sEcReT"));
}
