//! The documented ways to log in: each example is a valid policy, and logs in through the real binary, as each of the
//! clouds.
//!
//! An example is used as in docs/credentials.md. Only its files are in a folder of the test, its proxy and its metadata
//! service are the test's, and the policy around it has the addresses of a simulated cloud.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use kms_rotationd::kms::endpoint::Endpoints;
use kms_rotationd::rotation::project::Cloud;
use kms_simulator::{Dialect, Handle, Key, Operation, ProjectSetup, Setup, Simulator};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use super::{PASSWORD, TOKEN, blocks, text, valid};
use crate::{KEY, PROJECT};

const DOCUMENT: &str = "docs/credentials.md";
const KINDS: [&str; 6] = ["token_file", "password", "access_key", "ecs_agency", "id_token", "environment"];

/// The other secrets of the examples, in files or in the environment.
const SECRET_ACCESS_KEY: &str = "aSecretAccessKey0123456789";
const ID_TOKEN: &str = "aaaa.bbbb.cccc";
const PROXY_PASSWORD: &str = "a-password-of-a-proxy";

/// An example: the lines of `credentials`.
#[derive(Clone)]
struct Way(String);

/// The examples, in the document's order.
fn ways() -> Vec<Way> {
    let blocks = blocks(DOCUMENT, "yaml");
    let examples = blocks.iter().find(|yaml| yaml.starts_with("credentials:")).unwrap();
    examples.split("\n\n").map(|example| Way(example.to_owned())).collect()
}

/// The plain example of a kind.
fn way(kind: &str) -> Way {
    ways().into_iter().find(|way| way.kind() == kind && way.on_top().is_none()).unwrap()
}

/// The cloud's address in a policy.
#[derive(Clone, Copy)]
enum At<'a> {
    /// At this address.
    Url(&'a str),
    /// The cloud's own, with certificates of the authority in this file.
    Home(&'a Path),
}

impl Way {
    /// The fields of `credentials` with their values.
    fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        assert!(self.0.starts_with("credentials:\n"), "{}", self.0);
        self.0.lines().skip(1).map(|line| line.strip_prefix("  ").unwrap().split_once(": ").unwrap())
    }

    fn kind(&self) -> &str {
        self.fields().next().unwrap().0
    }

    fn on_top(&self) -> Option<(&str, &str)> {
        self.fields().nth(1)
    }

    /// A policy with one key that logs in like this.
    fn policy(&self, cloud: Cloud, project_id: Option<&str>, at: At<'_>) -> String {
        let at = match at {
            At::Url(url) => format!("kms_endpoint: {url}\n    iam_endpoint: {url}"),
            At::Home(ca_file) => format!("ca_file: {}", ca_file.display()),
        };
        let project_id = project_id.map(|id| format!("project_id: {id}\n    ")).unwrap_or_default();
        format!(
            "projects:\n  - name: payments\n    cloud: {}\n    region: {}\n    {project_id}{at}\n    {}\n    keys:\n    \
             - {{key_id: {KEY}, rotation_interval: 90}}\n",
            cloud.as_str(),
            region(cloud),
            self.0.replace('\n', "\n    ")
        )
    }
}

fn region(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::HuaweiCloud => "eu-west-101",
        Cloud::OpenTelekomCloud => "eu-de",
        Cloud::FlexibleEngine => "eu-west-0",
    }
}

/// A simulated cloud with one key, whose rotation is off, and all users of the examples.
async fn simulated(cloud: Cloud, way: &Way) -> Simulator {
    let dialect = match cloud {
        Cloud::HuaweiCloud => Dialect::Huawei,
        Cloud::OpenTelekomCloud | Cloud::FlexibleEngine => Dialect::OpenTelekomCloud,
    };
    let delegated = way.on_top().is_some_and(|(name, _)| name == "assume_agency");
    let account = if delegated { "their-account" } else { "my-account" };
    let project = ProjectSetup::new(PROJECT, region(cloud)).domain(account).dialect(dialect).key(Key::new(KEY));
    let setup = Setup::new()
        .project(project.token(TOKEN))
        .login("kms-rotation", "my-account", PASSWORD)
        .access_key("EXAMPLEACCESSKEY0001", SECRET_ACCESS_KEY)
        .identity_provider("my-cluster", ID_TOKEN)
        .oidc_agency("iam::d:oidcProvider:my-cluster", "iam::d:agency:kms-rotation", ID_TOKEN)
        .pod_identity(ID_TOKEN);
    // Only the agency can use the delegated project.
    let setup = if delegated { setup.agency(account, "their-id", "kms-rotation", [PROJECT]) } else { setup };
    Simulator::start(setup).await.unwrap()
}

/// A folder in which the examples find their files.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        for (path, secret) in [
            ("run/secrets/token", TOKEN),
            ("run/secrets/password", PASSWORD),
            ("run/secrets/secret-access-key", SECRET_ACCESS_KEY),
            ("run/secrets/proxy-password", PROXY_PASSWORD),
            ("var/run/secrets/tokens/kms-rotationd", ID_TOKEN),
        ] {
            site.write(path, secret);
        }
        site
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A command of the program on this policy: its exit code and all that it says.
    async fn run(&self, command: &str, policy: &str, environment: &[(&str, String)]) -> (Option<i32>, String) {
        let here = self.0.path().display();
        let policy = policy.replace("_file: /run/", &format!("_file: {here}/run/"));
        let policy = policy.replace("_file: /var/", &format!("_file: {here}/var/"));
        // Without a request limit: nothing else uses this cloud.
        let policy = self.write("policy.yaml", &format!("limits: {{requests_per_second: 10000}}\n{policy}"));
        let mut program = Command::new(env!("CARGO_BIN_EXE_kms-rotationd"));
        program.args([command, "--policy"]).arg(policy).current_dir(self.0.path()).env_clear();
        program.envs(environment.iter().map(|(name, value)| (name, value)));
        // The simulated cloud lives on this thread, so another one waits.
        let output = tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap();
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
        (output.status.code(), said)
    }
}

/// The number of requests for each call of a login.
fn logins(handle: &Handle) -> BTreeMap<&'static str, u64> {
    [
        Operation::Authenticate,
        Operation::AgencyToken,
        Operation::TemporaryKeys,
        Operation::IdToken,
        Operation::ListProjects,
        Operation::MetadataToken,
        Operation::InstanceKeys,
    ]
    .into_iter()
    .map(|operation| (operation.as_str(), handle.requests(operation)))
    .filter(|(_, count)| *count > 0)
    .collect()
}

/// The calls that a way should lead to, each once.
fn expected(way: &Way, by_name: bool) -> BTreeMap<&'static str, u64> {
    let mut calls = match way.kind() {
        "token_file" | "access_key" => vec![],
        "password" => vec![Operation::Authenticate],
        "ecs_agency" => vec![Operation::MetadataToken, Operation::InstanceKeys],
        "id_token" => vec![Operation::IdToken, Operation::TemporaryKeys],
        kind => panic!("{kind}"),
    };
    let by_token = way.kind() == "password";
    if way.on_top().is_some_and(|(name, _)| name == "assume_agency") {
        calls.push(if by_token { Operation::AgencyToken } else { Operation::TemporaryKeys });
    }
    // A token for a project by name contains the id.
    if by_name && !by_token {
        calls.push(Operation::ListProjects);
    }
    calls.into_iter().map(|operation| (operation.as_str(), 1)).collect()
}

/// The key is on policy in the cloud, and the program reports it.
#[track_caller]
fn assert_applied((code, said): &(Option<i32>, String), handle: &Handle, what: &str) {
    assert_eq!(*code, Some(0), "{what}: {said}");
    assert!(said.contains("1 of 1 key on policy"), "{what}: {said}");
    assert_eq!(handle.intervals_sent(PROJECT, KEY), [90], "{what}");
    assert_eq!(handle.authentication_failures(), 0, "{what}");
}

#[test]
fn each_way_to_log_in_has_a_valid_example() {
    let ways = ways();
    let plain: Vec<_> = ways.iter().filter(|way| way.on_top().is_none()).map(Way::kind).collect();
    assert_eq!(plain, KINDS);
    let on_top: Vec<_> = ways.iter().filter_map(|way| way.on_top()).map(|(name, _)| name).collect();
    assert_eq!(on_top, ["assume_agency", "proxy"]);
    let document = text(DOCUMENT);
    let table = document.lines().filter(|line| KINDS.iter().any(|kind| line.starts_with(&format!("| `{kind}` | "))));
    assert_eq!(table.count(), KINDS.len(), "one line of the table for each kind");
    for way in &ways {
        let policy = way.policy(Cloud::HuaweiCloud, Some(PROJECT), At::Url("https://kms.example.com"));
        assert_eq!(valid(&policy, DOCUMENT).projects.len(), 1, "{policy}");
    }
}

#[tokio::test]
async fn each_way_to_log_in_works_with_each_cloud() {
    // With each kind of login that can assume an agency; the document shows one.
    let agency = ways().into_iter().find(|way| way.on_top().is_some_and(|(name, _)| name == "assume_agency")).unwrap();
    let (name, assumed) = agency.on_top().unwrap();
    let agents = ["access_key", "ecs_agency"].map(|kind| Way(format!("{}\n  {name}: {assumed}", way(kind).0)));
    let site = Site::new();
    for cloud in Cloud::ALL {
        for way in ways().iter().chain(&agents) {
            // One needs variables, the other a proxy: see below.
            if way.kind() == "environment" || way.on_top().is_some_and(|(name, _)| name == "proxy") {
                continue;
            }
            for project_id in [Some(PROJECT), None] {
                let simulator = simulated(cloud, way).await;
                let policy = way.policy(cloud, project_id, At::Url(&simulator.url()));
                let metadata = format!("ecs_agency: {{metadata_endpoint: \"{}\"}}", simulator.url());
                let policy = policy.replace("ecs_agency: {}", &metadata);
                let ended = site.run("apply", &policy, &[]).await;
                assert_applied(&ended, simulator.handle(), &policy);
                assert_eq!(logins(simulator.handle()), expected(way, project_id.is_none()), "{policy}");
                let signs = !matches!(way.kind(), "token_file" | "password");
                assert_eq!(!simulator.handle().access_keys_seen().is_empty(), signs, "{policy}");
            }
        }
    }
}

/// The values of the official clients' variables, and what `check` finds; `{here}` is the test's folder,
/// `{url}` the cloud's.
const ENVIRONMENTS: &[(&[(&str, &str)], &str)] = &[
    (
        &[
            ("HUAWEICLOUD_OIDC_PROVIDER_URN", "iam::d:oidcProvider:my-cluster"),
            ("HUAWEICLOUD_OIDC_AGENCY_URN", "iam::d:agency:kms-rotation"),
            ("HUAWEICLOUD_OIDC_TOKEN_FILE", "{here}/id-token"),
            ("HUAWEICLOUD_SDK_STS_ENDPOINT", "{url}"),
        ],
        "HUAWEICLOUD_OIDC_AGENCY_URN and HUAWEICLOUD_OIDC_TOKEN_FILE",
    ),
    (
        &[("HUAWEICLOUD_SDK_IDP_ID", "my-cluster"), ("HUAWEICLOUD_SDK_ID_TOKEN_FILE", "{here}/id-token")],
        "HUAWEICLOUD_SDK_IDP_ID and HUAWEICLOUD_SDK_ID_TOKEN_FILE",
    ),
    (
        &[("HUAWEICLOUD_SDK_AK", "EXAMPLEACCESSKEY0001"), ("HUAWEICLOUD_SDK_SK", SECRET_ACCESS_KEY)],
        "HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK",
    ),
    (&[("HOME", "{here}")], "section [basic] of {here}/.huaweicloud/credentials"),
    (&[("HW_AUTH_TOKEN", TOKEN)], "HW_AUTH_TOKEN"),
    (
        &[("HW_ACCESS_KEY", "EXAMPLEACCESSKEY0001"), ("HW_SECRET_KEY", SECRET_ACCESS_KEY)],
        "HW_ACCESS_KEY and HW_SECRET_KEY",
    ),
    (
        &[("HW_USER_NAME", "kms-rotation"), ("HW_USER_PASSWORD", PASSWORD), ("HW_DOMAIN_NAME", "my-account")],
        "HW_USER_NAME and HW_USER_PASSWORD",
    ),
    (
        &[("OS_CLOUD", "mine"), ("OS_CLIENT_CONFIG_FILE", "{here}/clouds.yaml"), ("OS_TOKEN", "not this one")],
        "cloud mine of {here}/clouds.yaml",
    ),
    (&[("OS_TOKEN", TOKEN)], "OS_TOKEN"),
    (
        &[("OS_ACCESS_KEY", "EXAMPLEACCESSKEY0001"), ("OS_SECRET_KEY", SECRET_ACCESS_KEY)],
        "OS_ACCESS_KEY and OS_SECRET_KEY",
    ),
    (
        &[("OS_USERNAME", "kms-rotation"), ("OS_PASSWORD", PASSWORD), ("OS_USER_DOMAIN_NAME", "my-account")],
        "OS_USERNAME and OS_PASSWORD",
    ),
    (&[("HW_SHARED_CONFIG_FILE", "{here}/config.json")], "the current profile of {here}/config.json"),
    (
        &[
            ("HC_CONTAINER_CREDENTIALS_FULL_URI", "{url}/v1/credentials"),
            ("HC_CONTAINER_AUTHORIZATION_TOKEN_FILE", "{here}/id-token"),
        ],
        "HC_CONTAINER_CREDENTIALS_FULL_URI and HC_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    ),
];

#[tokio::test]
async fn logins_by_environment_work_with_each_cloud_and_check_names_the_variables() {
    let site = Site::new();
    site.write("id-token", ID_TOKEN);
    let profile = format!("[basic]\nak = EXAMPLEACCESSKEY0001\nsk = {SECRET_ACCESS_KEY}\n");
    site.write(".huaweicloud/credentials", &profile);
    let key = format!(r#""accessKeyId": "EXAMPLEACCESSKEY0001", "secretAccessKey": "{SECRET_ACCESS_KEY}""#);
    site.write("config.json", &format!(r#"{{"current": "mine", "profiles": [{{"name": "mine", {key}}}]}}"#));
    let auth = "username: kms-rotation, user_domain_name: my-account, project_name: ";
    let way = way("environment");
    for cloud in Cloud::ALL {
        site.write("clouds.yaml", &format!("clouds: {{mine: {{auth: {{{auth}{}}}}}}}\n", region(cloud)));
        site.write("secure.yaml", &format!("clouds: {{mine: {{auth: {{password: {PASSWORD}}}}}}}\n"));
        for (variables, found) in ENVIRONMENTS {
            let simulator = simulated(cloud, &way).await;
            let here = |text: &str| {
                let text = text.replace("{here}", &site.0.path().display().to_string());
                text.replace("{url}", &simulator.url())
            };
            let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, here(value))).collect();
            let policy = way.policy(cloud, Some(PROJECT), At::Url(&simulator.url()));
            let (code, said) = site.run("check", &policy, &variables).await;
            assert_eq!(code, Some(0), "{said}");
            assert!(said.contains(&format!("payments: environment: {}\n", here(found))), "{said}");
            let secrets = [TOKEN, PASSWORD, SECRET_ACCESS_KEY, ID_TOKEN];
            assert!(!secrets.iter().any(|secret| said.contains(secret)), "{said}");
            assert_eq!(simulator.handle().all_requests(), 0, "check asks nobody");
            let ended = site.run("apply", &policy, &variables).await;
            assert_applied(&ended, simulator.handle(), &format!("{variables:?}"));
        }
    }
}

/// `kms-rotation` and [`PROXY_PASSWORD`] as HTTP carries them.
const PROXY_LOGIN: &str = "a21zLXJvdGF0aW9uOmEtcGFzc3dvcmQtb2YtYS1wcm94eQ==";

/// A proxy that accepts one user. It forwards every request to the simulated cloud, which has the certificate of the
/// requested server.
struct Proxy {
    listener: TcpListener,
    tls: TlsAcceptor,
    cloud: SocketAddr,
    /// The requested servers.
    asked: Arc<Mutex<BTreeSet<String>>>,
}

impl Proxy {
    async fn serve(self) {
        loop {
            let (client, _) = self.listener.accept().await.unwrap();
            let (tls, cloud, asked) = (self.tls.clone(), self.cloud, Arc::clone(&self.asked));
            tokio::spawn(async move {
                let mut client = BufStream::new(client);
                let mut head = Vec::new();
                loop {
                    let mut line = String::new();
                    if client.read_line(&mut line).await.unwrap() <= 2 {
                        break;
                    }
                    head.push(line.trim_end().to_owned());
                }
                let server = head[0].strip_prefix("CONNECT ").unwrap().strip_suffix(" HTTP/1.1").unwrap().to_owned();
                let login = head.iter().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("proxy-authorization").then(|| value.to_owned())
                });
                if login != Some(format!("Basic {PROXY_LOGIN}")) {
                    client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.unwrap();
                    return client.flush().await.unwrap();
                }
                asked.lock().unwrap().insert(server);
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                client.flush().await.unwrap();
                let mut client = tls.accept(client).await.unwrap();
                let mut cloud = TcpStream::connect(cloud).await.unwrap();
                // The program closes the connection without a TLS close.
                let _ = copy_bidirectional(&mut client, &mut cloud).await;
            });
        }
    }
}

/// A server's certificate for these names, and its authority.
fn certified(names: [String; 2]) -> (TlsAcceptor, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &Issuer::new(authority, authority_key));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let certificates = vec![certificate.unwrap().der().clone()];
    let config = config.with_no_client_auth().with_single_cert(certificates, key).unwrap();
    (TlsAcceptor::from(Arc::new(config)), pem)
}

#[tokio::test]
async fn the_proxy_is_used_for_the_addresses_of_each_cloud() {
    const URL: &str = "http://proxy.example.com:3128";
    let shown = ways().into_iter().find(|way| way.on_top().is_some_and(|(name, _)| name == "proxy")).unwrap();
    let (name, value) = shown.on_top().unwrap();
    // IAM is reached through it, too, and the cloud's host name is signed.
    let others = ["password", "access_key", "id_token"].map(|kind| Way(format!("{}\n  {name}: {value}", way(kind).0)));
    let site = Site::new();
    for cloud in Cloud::ALL {
        let own = Endpoints::of(cloud, region(cloud));
        let (kms, iam) = (own.kms.replace("https://", ""), own.iam.replace("https://", ""));
        let (tls, authority) = certified([kms.clone(), iam.clone()]);
        let ca_file = site.write("ca.pem", &authority);
        for way in [&shown].into_iter().chain(&others) {
            let simulator = simulated(cloud, way).await;
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let asked = Arc::default();
            let proxy = Proxy { listener, tls: tls.clone(), cloud: simulator.address(), asked: Arc::clone(&asked) };
            let serving = tokio::spawn(proxy.serve());
            let policy = way.policy(cloud, Some(PROJECT), At::Home(&ca_file));
            assert!(policy.contains(URL), "{policy}");
            let ended = site.run("apply", &policy.replace(URL, &url), &[]).await;
            assert_applied(&ended, simulator.handle(), &policy);
            let needs_iam = matches!(way.kind(), "password" | "id_token");
            let servers = [Some(&kms), Some(&iam).filter(|_| needs_iam)];
            let servers: BTreeSet<_> = servers.into_iter().flatten().map(|name| format!("{name}:443")).collect();
            assert_eq!(*asked.lock().unwrap(), servers, "{policy}");
            serving.abort();
        }
    }
}
