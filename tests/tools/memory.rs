//! Copies of a secret in the memory of the daemon after a login.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use kms_simulator::{ProjectSetup, Setup};

use super::cloud::{Cloud, off};
use super::program::Program;
use super::site::{Policy, Site};
use super::stand_in::{StandIn, answer};
use super::{ACCOUNT, KEY, PROJECT, USER};

const ACCESS: &str = "AKOFTHESETESTS000001";
const PROVIDER_URN: &str = "iam::d1:oidcProvider:cluster";
const AGENCY_URN: &str = "iam::d1:agency:rotation";
const STS: &[(&str, &str)] = &[
    ("HUAWEICLOUD_OIDC_PROVIDER_URN", PROVIDER_URN),
    ("HUAWEICLOUD_OIDC_AGENCY_URN", AGENCY_URN),
    ("HUAWEICLOUD_OIDC_TOKEN_FILE", "jwt"),
    ("HUAWEICLOUD_SDK_STS_ENDPOINT", "{url}"),
];

/// Part of each piece of the secret, after the number of the piece.
const MARK: &str = "-of-the-secret-";

/// A secret in pieces, each of which can be found: freed memory may be overwritten in part.
fn secret() -> String {
    (0..20).map(|piece| format!("{piece:05}{MARK}")).collect::<Vec<_>>().concat()
}

/// Number of copies of the secret, or of any piece of it, in the memory of the process; `None` if the memory cannot be
/// read.
fn copies(program: &Program) -> Option<usize> {
    let process = format!("/proc/{}", program.id());
    let memory = File::open(format!("{process}/mem")).ok()?;
    let mut pieces = BTreeMap::new();
    for line in fs::read_to_string(format!("{process}/maps")).ok()?.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        if !rest.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|address| u64::from_str_radix(address, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        memory.read_exact_at(&mut bytes, from).ok()?;
        for piece in bytes.windows(5 + MARK.len()).filter(|bytes| bytes.ends_with(MARK.as_bytes())) {
            *pieces.entry(piece.to_vec()).or_default() += 1;
        }
    }
    Some(pieces.into_values().max().unwrap_or_default())
}

/// Whether the memory of the program can be read.
pub(crate) fn readable() -> Result<(), String> {
    let site = Site::new(&Policy::of_one_key("http://127.0.0.1:9"));
    let daemon = site.run();
    copies(&daemon.program).map(drop).ok_or_else(|| "the memory of processes cannot be read here".to_owned())
}

/// Logs in with the secret in every file of credentials, and finds at most this number of copies in memory.
#[track_caller]
fn assert_copies(most: usize, credentials: &str, variables: &[(&str, &str)]) {
    let secret = secret();
    let project = ProjectSetup::new(PROJECT, "eu-de").domain(ACCOUNT).key(off());
    let setup = Setup::new().project(project).login(USER, ACCOUNT, &*secret).access_key(ACCESS, &*secret);
    let cloud =
        Cloud::start(setup.identity_provider("cluster", &secret).oidc_agency(PROVIDER_URN, AGENCY_URN, &secret));
    let temporary = format!(r#"{{"credential":{{"access":"{ACCESS}","secret":"{secret}"}}}}"#);
    let machine = StandIn::start(move |asked| match asked.call() {
        "token" => answer("404 Not Found", "", ""),
        _ => answer("200 OK", "", &temporary),
    });
    let policy = Policy::of_one_key(cloud.url());
    let credentials = if credentials.is_empty() {
        policy.clone().password(None).credentials
    } else {
        credentials.replace("{machine}", &machine.url())
    };
    let mut site = Site::new(&policy.with(&credentials));
    for (name, value) in variables {
        site.set(name, &value.replace("{url}", cloud.url()));
    }
    site.write("password", &format!("{secret}\n"));
    site.write("jwt", &secret);
    site.write("profile", &format!("[basic]\nak = {ACCESS}\nsk = {secret}\n"));
    let profile = format!(r#"{{"name": "default", "accessKeyId": "{ACCESS}", "secretAccessKey": "{secret}"}}"#);
    site.write("hcloud.json", &format!(r#"{{"profiles": [{profile}]}}"#));
    let user = format!("username: {USER}, user_domain_name: {ACCOUNT}");
    site.write("clouds.yaml", &format!("clouds: {{otc: {{auth: {{{user}, password: {secret}}}}}}}"));
    let daemon = site.run();
    daemon.await_runs(1);
    assert_eq!(daemon.status().key(KEY), "compliant", "{credentials} {variables:?}");
    let copies = copies(&daemon.program).unwrap();
    assert!(copies <= most, "{copies} with {credentials} {variables:?}");
}

pub(crate) fn a_secret_for_logins_is_wiped_after_the_login() {
    assert_copies(0, "", &[]);
    assert_copies(0, "{id_token: {provider_id: cluster, token_file: jwt}}", &[]);
    assert_copies(0, "{environment: {}}", STS);
    assert_copies(0, "{environment: {}}", &[("OS_CLOUD", "otc")]);
}

pub(crate) fn a_secret_for_signing_is_in_memory_once() {
    assert_copies(1, "{access_key: {access_key_id: AKOFTHESETESTS000001, secret_access_key_file: password}}", &[]);
    assert_copies(1, "{environment: {}}", &[("HUAWEICLOUD_SDK_CREDENTIALS_FILE", "profile")]);
    assert_copies(1, "{environment: {}}", &[("HW_SHARED_CONFIG_FILE", "hcloud.json")]);
    // Once more in the HTTP client's buffer for the answer.
    assert_copies(2, "{ecs_agency: {metadata_endpoint: \"{machine}\"}}", &[]);
}
