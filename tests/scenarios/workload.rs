//! `environment: {}` for workloads with a cluster's token: STS with an `OpenID` Connect provider, and pod identity.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kms_simulator::{Fault, Operation, Rule};
use serde_json::{Value, json};

use super::access_keys::temporary_key;
use super::cloud::{Cloud, slow_clock};
use super::environment::{assert_found, cloud, everybody, no_source, site};
use super::front::{Authority, Front};
use super::secrets::JWT;
use super::site::Policy;
use super::stand_in::{StandIn, answer};
use super::{KEY, eventually};

pub(crate) const PROVIDER_URN: &str = "iam::d1:oidcProvider:cluster";
pub(crate) const AGENCY_URN: &str = "iam::d1:agency:rotation";
pub(crate) const POD_TOKEN: &str = "pOd-tOkEn-55aa66bb";

type Variables = &'static [(&'static str, &'static str)];

/// The variables for STS, and for a pod; `{url}` is the cloud's.
pub(crate) const STS: Variables = &[
    ("HUAWEICLOUD_OIDC_PROVIDER_URN", PROVIDER_URN),
    ("HUAWEICLOUD_OIDC_AGENCY_URN", AGENCY_URN),
    ("HUAWEICLOUD_OIDC_TOKEN_FILE", "jwt"),
    ("HUAWEICLOUD_SDK_STS_ENDPOINT", "{url}"),
];
pub(crate) const POD: Variables = &[
    ("HC_CONTAINER_CREDENTIALS_FULL_URI", "{url}/v1/credentials"),
    ("HC_CONTAINER_AUTHORIZATION_TOKEN_FILE", "pod-token"),
];
/// Each with its call, and the file that holds the token.
const BOTH: [(Variables, Operation, &str); 2] =
    [(STS, Operation::AssumeWithOidc, "jwt"), (POD, Operation::PodKeys, "pod-token")];
const REFUSED: &str = "unknown: authentication_failed";

#[test]
fn the_cluster_token_comes_from_a_file_or_a_variable() {
    let cloud = assert_found(STS, "HUAWEICLOUD_OIDC_AGENCY_URN and HUAWEICLOUD_OIDC_TOKEN_FILE");
    assert_eq!((cloud.requests(Operation::AssumeWithOidc), cloud.requests(Operation::TemporaryKeys)), (1, 0));
    // The variable takes precedence over the file.
    let in_variable = [STS, &[("HUAWEICLOUD_OIDC_ID_TOKEN", JWT), ("HUAWEICLOUD_OIDC_TOKEN_FILE", "nowhere")]].concat();
    assert_found(&in_variable, "HUAWEICLOUD_OIDC_AGENCY_URN and HUAWEICLOUD_OIDC_ID_TOKEN");
    let both = "HC_CONTAINER_CREDENTIALS_FULL_URI and HC_CONTAINER_AUTHORIZATION_TOKEN_FILE";
    let cloud = assert_found(POD, both);
    let asked = [Operation::PodKeys, Operation::InstanceKeys].map(|operation| cloud.requests(operation));
    assert_eq!(asked, [1, 0], "no metadata service");
}

#[test]
fn sts_gets_the_values_of_the_variables_or_the_defaults() {
    let cloud = cloud();
    let [access, secret, token] = temporary_key(&cloud);
    let key = json!({"credentials": {"access_key_id": access, "secret_access_key": secret, "security_token": token}});
    let sts = StandIn::start(move |_| answer("200 OK", "", &key.to_string()));
    let sent = |more: Variables| {
        let mut site = site(&cloud, &[STS, more].concat());
        site.set("HUAWEICLOUD_SDK_STS_ENDPOINT", &sts.url());
        assert_eq!(site.apply().key(KEY), "compliant", "{more:?}");
        serde_json::from_str::<Value>(sts.bodies("assume-with-oidc").last().unwrap()).unwrap()
    };
    let plain = json!({
        "provider_urn": PROVIDER_URN,
        "agency_urn": AGENCY_URN,
        "agency_session_name": "oidc-sts-session",
        "id_token": JWT,
        "duration_seconds": 3600,
    });
    assert_eq!(sent(&[]), plain);
    let mut full = plain.clone();
    full["agency_session_name"] = json!("rotation");
    full["duration_seconds"] = json!(900);
    full["policy"] = json!(r#"{"Version":"5.0"}"#);
    full["policy_ids"] = json!(["p1", "p2"]);
    let said = sent(&[
        ("HUAWEICLOUD_OIDC_SESSION_NAME", "rotation"),
        ("HUAWEICLOUD_OIDC_DURATION_SECONDS", "900"),
        ("HUAWEICLOUD_OIDC_POLICY", r#"{"Version":"5.0"}"#),
        ("HUAWEICLOUD_OIDC_POLICY_IDS", "p1, p2"),
    ]);
    assert_eq!(said, full);
    let asked = sts.asked();
    assert!(asked.iter().all(|asked| asked.path == "/v5/agencies/assume-with-oidc"), "{asked:?}");
    assert!(asked.iter().all(|asked| !asked.headers.contains("authorization")), "it is not signed: {asked:?}");
}

#[test]
fn keys_are_read_in_every_shape_of_the_services() {
    let cloud = cloud();
    let [access, secret, token] = temporary_key(&cloud);
    for names in [
        ["access", "secret", "securitytoken", "expires_at"],
        ["accessKeyId", "secretAccessKey", "securityToken", "expiration"],
        ["access_key_id", "secret_access_key", "security_token", "expiration"],
    ] {
        for wrapper in [None, Some("credential"), Some("credentials")] {
            let values = [&*access, &secret, &token, "2099-01-08T02:56:19.587000Z"];
            let key: Value =
                names.into_iter().zip(values).map(|(name, value)| (name.to_owned(), json!(value))).collect();
            let body = wrapper.map_or_else(|| key.clone(), |wrapper| json!({ wrapper: key }));
            let agent = StandIn::start(move |_| answer("200 OK", "", &body.to_string()));
            let mut site = site(&cloud, POD);
            site.set("HC_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/keys?of=pod", agent.url()));
            let daemon = site.run();
            daemon.await_runs(1);
            assert_eq!(daemon.status().key(KEY), "compliant", "{names:?} in {wrapper:?}");
            let series = "kms_rotation_credentials_expiry_timestamp_seconds{project=\"payments\"}";
            assert_eq!(daemon.metric(series).map(f64::floor), Some(4_071_524_179.0), "{names:?} in {wrapper:?}");
            let asked = agent.asked();
            assert_eq!((asked.len(), &*asked[0].path, &*asked[0].body), (1, "/keys?of=pod", "{}"));
            let sent = format!("authorization: {}", POD_TOKEN.to_ascii_lowercase());
            assert!(asked[0].headers.lines().any(|line| line == sent), "{asked:?}");
        }
    }
}

#[test]
fn keys_are_renewed_before_they_expire() {
    for (variables, operation, _) in BOTH {
        let lifetime = Some(Duration::from_secs(1));
        let setup = everybody().clock(slow_clock()).behave(|cloud| cloud.temporary_key_lifetime = lifetime);
        let cloud = Cloud::start(setup);
        let site = site(&cloud, variables);
        let policy = Policy::of_one_key(cloud.url()).with("{environment: {}}").every_second();
        site.write("policy.yaml", &policy.text());
        let daemon = site.run();
        cloud.await_requests(operation, 3);
        daemon.await_runs(2);
        assert_eq!(daemon.status().key(KEY), "compliant", "{operation:?}");
        assert_eq!(cloud.authentication_failures(), 0, "none was used to its bitter end");
    }
}

#[test]
fn the_expiry_of_the_keys_is_a_metric() {
    for (variables, seconds) in
        [([STS, &[("HUAWEICLOUD_OIDC_DURATION_SECONDS", "900")]].concat(), 900.0), (POD.to_vec(), 3600.0)]
    {
        let cloud = cloud();
        let site = site(&cloud, &variables);
        let daemon = site.run();
        daemon.await_runs(1);
        let expiry = daemon.metric("kms_rotation_credentials_expiry_timestamp_seconds{project=\"payments\"}").unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((expiry - now - seconds).abs() < 300.0, "{expiry}");
    }
}

#[test]
fn a_changed_token_file_is_read_at_the_next_login() {
    for (variables, operation, file) in BOTH {
        let cloud = cloud();
        let site = site(&cloud, variables);
        let policy = Policy::of_one_key(cloud.url()).with("{environment: {}}").every_second();
        site.write("policy.yaml", &policy.text());
        let daemon = site.run();
        daemon.await_runs(2);
        assert_eq!((&*daemon.status().key(KEY), cloud.requests(operation)), ("compliant", 1));
        cloud.set_oidc_token(PROVIDER_URN, "of-today");
        cloud.set_pod_token("of-today");
        site.write(file, "of-today\n");
        cloud.revoke_temporary_keys();
        cloud.await_requests(operation, 2);
        let seen = daemon.runs();
        daemon.await_runs(seen + 1);
        eventually("the new token is used", || daemon.status().key(KEY) == "compliant");
        assert_eq!(cloud.requests(operation), 2, "the keys were refused, never the token");
    }
}

#[test]
fn a_wrong_token_is_tried_once_in_a_run_and_named_by_its_file() {
    for (variables, operation, file) in BOTH {
        let cloud = cloud();
        let site = site(&cloud, variables);
        site.write(file, "of-yesterday");
        let applied = site.apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), REFUSED));
        let error = applied.report().error();
        assert!(error.contains("HTTP 401") && error.contains(file) && !error.contains("of-yesterday"), "{error}");
        assert_eq!((cloud.requests(operation), cloud.all_requests()), (1, 1));
    }
}

#[test]
fn an_unusable_token_file_is_named_and_causes_no_request() {
    for (variables, _, file) in BOTH {
        let cloud = cloud();
        let site = site(&cloud, variables);
        std::fs::remove_file(site.path(file)).unwrap();
        let applied = site.apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), REFUSED));
        let error = applied.report().error();
        assert!(error.contains(&format!("cannot read {file}")), "{error}");
        assert_eq!(cloud.all_requests(), 0);
    }
}

#[test]
fn an_agency_without_trust_in_the_provider_is_reported_with_the_clouds_message() {
    let cloud = cloud();
    let mut site = site(&cloud, STS);
    site.set("HUAWEICLOUD_OIDC_AGENCY_URN", "iam::d1:agency:retired");
    let error = site.apply().report().error();
    assert!(error.contains("does not trust the provider") && error.contains("iam::d1:agency:retired"), "{error}");
    assert_eq!(cloud.all_requests(), 1);
}

#[test]
fn an_unavailable_service_is_retried_and_another_service_is_named() {
    for (variables, operation, _) in BOTH {
        let cloud = cloud();
        cloud.fault(Rule::next(3, Fault::html(503)).on(operation));
        assert_eq!(site(&cloud, variables).apply().key(KEY), "compliant");
        assert_eq!(cloud.requests(operation), 4);
        cloud.fault(Rule::next(1, Fault::html(200)).on(operation));
        let error = site(&cloud, variables).apply().report().error();
        assert!(error.contains("without a temporary access key") || error.contains("without an access key"), "{error}");
    }
}

#[test]
fn a_token_is_sent_in_clear_text_only_where_permitted() {
    for (name, address, expected) in [
        ("HUAWEICLOUD_SDK_STS_ENDPOINT", "http://sts.example.com", "HUAWEICLOUD_SDK_STS_ENDPOINT is not https://"),
        ("HUAWEICLOUD_SDK_STS_ENDPOINT", "http://169.254.169.254", "HUAWEICLOUD_SDK_STS_ENDPOINT is not https://"),
        ("HUAWEICLOUD_SDK_STS_ENDPOINT", "sts", "HUAWEICLOUD_SDK_STS_ENDPOINT is not an address such as"),
        // Open Telekom Cloud has no STS.
        (
            "HUAWEICLOUD_SDK_STS_ENDPOINT",
            "",
            "HUAWEICLOUD_OIDC_AGENCY_URN is set, but not HUAWEICLOUD_SDK_STS_ENDPOINT",
        ),
        (
            "HC_CONTAINER_CREDENTIALS_FULL_URI",
            "http://10.0.0.1/v1",
            "HC_CONTAINER_CREDENTIALS_FULL_URI is not https://",
        ),
        (
            "HC_CONTAINER_CREDENTIALS_FULL_URI",
            "ftp://127.0.0.1/",
            "HC_CONTAINER_CREDENTIALS_FULL_URI is not an address",
        ),
        (
            "HC_CONTAINER_CREDENTIALS_FULL_URI",
            "http://127.0.0.1@example.com/",
            "HC_CONTAINER_CREDENTIALS_FULL_URI is not",
        ),
    ] {
        let cloud = cloud();
        let mut site = site(&cloud, if name.starts_with("HC") { POD } else { STS });
        site.set(name, address);
        let why = no_source(&site);
        assert!(why.starts_with(expected), "{why}");
        let applied = site.apply();
        assert_eq!((applied.code, &*applied.key(KEY), cloud.all_requests()), (Some(1), REFUSED, 0));
    }
    // A link-local address is permitted; `check` sends no request.
    let cloud = cloud();
    let mut site = site(&cloud, POD);
    site.set("HC_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials");
    assert_eq!(site.once("check").code, Some(0));
}

#[test]
fn sts_uses_tls_with_the_projects_authority() {
    let authority = Authority::new();
    let cloud = cloud();
    let front = Front::tls(cloud.url(), &authority);
    let mut site = site(&cloud, STS);
    site.set("HUAWEICLOUD_SDK_STS_ENDPOINT", &front.https());
    let policy = Policy::of_one_key(cloud.url()).with("{environment: {}}").field("ca_file: ca.pem");
    site.write("policy.yaml", &policy.text());
    site.write("ca.pem", &authority.pem);
    let applied = site.apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"), "{applied:#?}");
    assert_eq!((front.connections(), cloud.requests(Operation::AssumeWithOidc)), (1, 1));
}

#[test]
fn no_proxy_sees_a_pods_token() {
    let cloud = cloud();
    let trap = Front::proxy(cloud.url(), None);
    let mut site = site(&cloud, POD);
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        site.set(name, &trap.http());
    }
    // TLS is refused there too, and the proxy is not used for it.
    assert_eq!(site.apply().key(KEY), "compliant");
    site.set("HC_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/", cloud.url().replace("http:", "https:")));
    let policy = Policy { max_elapsed: "100ms", ..Policy::of_one_key(cloud.url()).with("{environment: {}}") };
    site.write("policy.yaml", &policy.text());
    assert_eq!(site.apply().key(KEY), "unknown: login_unavailable");
    assert_eq!(trap.connections(), 0, "{}", trap.heard());
}
