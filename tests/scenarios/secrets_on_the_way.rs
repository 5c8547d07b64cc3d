//! The same for every login: keys, tokens and passwords from files, variables and services.

use kms_simulator::{Fault, MetadataTokens, Operation, OperationSet, Rule, Setup};

use super::access_keys::{ACCESS, BY_FILE, BY_VALUE, SECRET, keyed, site, temporary_key};
use super::cloud::{Cloud, many};
use super::front::{Authority, Front, HOST};
use super::machine::of_the_machine;
use super::secrets::{GATE, GATE_PASSWORD, JWT, METADATA_TOKEN, assert_clean, look_everywhere};
use super::site::{Policy, Site};
use super::stand_in::{Asked, StandIn, answer};
use super::workload::{AGENCY_URN, POD, POD_TOKEN, PROVIDER_URN, STS};
use super::{ACCOUNT, KEY, PASSWORD, PROJECT, TOKEN, USER, key_id};

const BY_ID_TOKEN: &str = "{id_token: {provider_id: cluster, token_file: jwt}}";
const BY_TEMPORARY: &str = "{access_key: {access_key_id_file: access, secret_access_key_file: secret, \
                            security_token_file: security_token}}";
const AGENCY: &str = "assume_agency: {domain_name: DELEGATING, agency_name: rotation}";

fn known() -> Setup {
    let setup = keyed(many(3)).identity_provider("cluster", JWT);
    setup.oidc_agency(PROVIDER_URN, AGENCY_URN, JWT).pod_identity(POD_TOKEN)
}

fn folder(policy: &Policy) -> Site {
    let site = site(policy);
    site.write("jwt", &format!("{JWT}\n"));
    site.write("gate", GATE_PASSWORD);
    site.write("pod-token", POD_TOKEN);
    site
}

/// No login leaks its secret or its signature.
#[track_caller]
fn assert_no_way_leaks(trouble: impl Fn(&Cloud)) {
    for credentials in [BY_VALUE, BY_FILE, BY_TEMPORARY, BY_ID_TOKEN, "", AGENCY] {
        let agency = credentials == AGENCY;
        let setup = if agency { known().agency("DELEGATING", "d", "rotation", [PROJECT]) } else { known() };
        let cloud = Cloud::start(setup);
        let front = Front::plain(cloud.url());
        let policy = Policy { max_elapsed: "200ms", ..Policy::of_keys(&front.http(), (0..3).map(key_id)) };
        let site = folder(&match credentials {
            AGENCY => policy.with(BY_VALUE).field(AGENCY),
            "" => policy.with(&of_the_machine(&cloud).replace(cloud.url(), &front.http())),
            credentials => policy.with(credentials),
        });
        if credentials == BY_TEMPORARY {
            let [access, secret, token] = temporary_key(&cloud);
            site.write("access", &access);
            site.write("secret", &secret);
            site.write("security_token", &token);
        }
        trouble(&cloud);
        let ended = look_everywhere(&site);
        let signed = front.header("authorization");
        for signature in signed.iter().filter_map(|header| header.split("signature=").nth(1)) {
            assert!(!ended.stderr.contains(signature), "a signature: {}", ended.stderr);
        }
        for token in front.header("x-metadata-token") {
            assert!(!ended.stderr.to_ascii_lowercase().contains(&token), "a metadata token: {}", ended.stderr);
        }
    }
}

#[test]
fn no_login_shows_its_secret_after_success() {
    assert_no_way_leaks(|cloud| cloud.behave(|cloud| cloud.metadata_tokens = MetadataTokens::Required));
}

#[test]
fn no_login_shows_its_secret_when_the_cloud_refuses_it() {
    for refusing in [OperationSet::KMS, OperationSet::IAM] {
        assert_no_way_leaks(|cloud| {
            cloud.fault(Rule::always(Fault::unauthorized()).on(refusing));
            cloud.behave(|cloud| cloud.instance_agency = refusing == OperationSet::KMS);
        });
    }
}

#[test]
fn no_login_shows_its_secret_when_services_fail() {
    for fault in [Fault::html(503), Fault::cut_off(), Fault::reset()] {
        assert_no_way_leaks(|cloud| {
            for services in [OperationSet::IAM, OperationSet::METADATA] {
                cloud.fault(Rule::always(fault.clone()).on(services));
            }
        });
    }
}

#[test]
fn a_machines_keys_never_show() {
    for security_token in ["", r#","securitytoken":"gQpldS13ZXN0-abc""#] {
        let service = StandIn::start(move |asked| match asked.call() {
            "token" => answer("200 OK", "", METADATA_TOKEN),
            _ => answer(
                "200 OK",
                "",
                &format!(r#"{{"credential":{{"access":"{ACCESS}","secret":"{SECRET}"{security_token}}}}}"#),
            ),
        });
        let cloud = Cloud::start(keyed(many(3)));
        let credentials = format!("{{ecs_agency: {{metadata_endpoint: \"{}\"}}}}", service.url());
        look_everywhere(&folder(&Policy::of_keys(cloud.url(), (0..3).map(key_id)).with(&credentials)));
        assert!(cloud.access_key_requests(ACCESS) > 0);
        let sent = service
            .asked()
            .iter()
            .any(|asked| asked.headers.contains(&format!("x-metadata-token: {}", METADATA_TOKEN.to_ascii_lowercase())));
        assert!(sent, "{:?}", service.asked());
    }
}

/// The value of a header, as the server received it.
fn said<'a>(asked: &'a Asked, name: &str) -> &'a str {
    let start = format!("{name}: ");
    asked.headers.lines().find_map(|line| line.strip_prefix(&*start)).unwrap_or_default()
}

#[test]
fn no_secret_shows_when_a_server_repeats_it_or_the_signature_in_an_error() {
    let echo = StandIn::start(|asked| {
        let signature = said(asked, "authorization").rsplit('=').next().unwrap_or_default().to_owned();
        let text = match asked.call() {
            "token" => return answer("200 OK", "", METADATA_TOKEN),
            "securitykey" => METADATA_TOKEN.to_owned(),
            "tokens" if asked.body.contains("id_token") => JWT.to_owned(),
            "assume-with-oidc" => JWT.to_owned(),
            "credentials" => POD_TOKEN.to_owned(),
            _ => format!("signature not match: {signature}"),
        };
        answer("401 Unauthorized", "", &format!(r#"{{"error_code":"APIGW.0301","error_msg":"{text}"}}"#))
    });
    let of_the_machine = format!("{{ecs_agency: {{metadata_endpoint: \"{}\"}}}}", echo.url());
    let none = [].as_slice();
    let ways = [(BY_VALUE, none), (BY_ID_TOKEN, none), (&*of_the_machine, none)];
    let ways = ways.into_iter().chain([STS, POD].map(|variables| ("{environment: {}}", variables)));
    for (credentials, variables) in ways {
        let mut site = folder(&Policy::of_one_key(&echo.url()).with(credentials));
        for (name, value) in variables {
            site.set(name, &value.replace("{url}", &echo.url()));
        }
        let before = echo.asked().len();
        let ended = look_everywhere(&site);
        assert!(echo.asked().len() > before, "{credentials}");
        for asked in echo.asked() {
            let signature = said(&asked, "authorization").rsplit('=').next().unwrap_or_default().to_owned();
            let shown = !signature.is_empty() && ended.stderr.contains(&signature);
            assert!(!shown, "{signature} in {}", ended.stderr);
        }
    }
}

#[test]
fn no_secret_of_a_proxy_shows_accepted_or_refused() {
    for wanted in [GATE, "Basic c29tZWJvZHk6ZWxzZQ=="] {
        let authority = Authority::new();
        let cloud = Cloud::start(keyed(many(3)));
        let front = Front::tls(cloud.url(), &authority);
        let proxy = Front::proxy(&front.https(), Some(wanted));
        let of_policy = format!("proxy: {{url: \"{}\", user_name: gate, password_file: gate}}", proxy.http());
        for field in [Some(of_policy), None] {
            let policy = Policy::of_keys(&format!("https://{HOST}"), (0..3).map(key_id)).with(BY_VALUE);
            let policy = Policy { max_elapsed: "200ms", ..policy.field("ca_file: ca.pem") };
            let mut site = folder(&field.iter().fold(policy, |policy, field| policy.field(field)));
            site.write("ca.pem", &authority.pem);
            if field.is_none() {
                site.set("HTTPS_PROXY", &format!("http://gate:{GATE_PASSWORD}@{}", proxy.address()));
            }
            look_everywhere(&site);
        }
        assert!(proxy.heard().contains(&GATE.to_ascii_lowercase()), "the proxy was told");
    }
}

#[test]
fn an_invalid_proxy_address_is_not_repeated() {
    for address in [format!("http://gate:{GATE_PASSWORD}@:0:0"), format!("gate:{GATE_PASSWORD}"), GATE_PASSWORD.into()]
    {
        let mut site = folder(&Policy::of_one_key(&format!("https://{HOST}")).with(BY_VALUE));
        site.set("HTTPS_PROXY", &address);
        let policy = Policy { max_elapsed: "100ms", ..Policy::of_one_key("https://127.0.0.1:1").with(BY_VALUE) };
        site.write("policy.yaml", &policy.text());
        assert_eq!(look_everywhere(&site).code, Some(0), "the daemon goes on: {address}");
    }
}

#[test]
fn no_secret_of_the_environment_shows_accepted_or_refused() {
    let sources: [&[(&str, &str)]; 10] = [
        &[("HUAWEICLOUD_SDK_AK", ACCESS), ("HUAWEICLOUD_SDK_SK", SECRET)],
        &[("HW_ACCESS_KEY", ACCESS), ("HW_SECRET_KEY", SECRET), ("HW_SECURITY_TOKEN", "gQpldS13ZXN0-abc")],
        &[("OS_TOKEN", TOKEN)],
        &[("OS_USERNAME", USER), ("OS_PASSWORD", PASSWORD), ("OS_USER_DOMAIN_NAME", ACCOUNT)],
        &[("OS_PASSWORD", PASSWORD)],
        &[("OS_SK", SECRET)],
        STS,
        &[&STS[..2], &STS[3..], &[("HUAWEICLOUD_OIDC_ID_TOKEN", JWT)]].concat(),
        POD,
        &[("HUAWEICLOUD_OIDC_ID_TOKEN", JWT)],
    ];
    for variables in sources {
        for refused in [false, true] {
            let refuse = |operations| Rule::always(Fault::unauthorized()).on(operations);
            let refusing = known().fault(refuse(OperationSet::ALL)).fault(refuse(OperationSet::METADATA));
            let cloud = Cloud::start(if refused { refusing } else { known() });
            let mut site = folder(&Policy::of_keys(cloud.url(), (0..3).map(key_id)).with("{environment: {}}"));
            for (name, value) in variables {
                site.set(name, &value.replace("{url}", cloud.url()));
            }
            look_everywhere(&site);
            let checked = site.once("check");
            assert_clean("check", &format!("{checked:?}"));
        }
    }
}

#[test]
fn no_secret_of_a_profile_or_clouds_yaml_shows_also_if_the_file_is_broken() {
    let clouds = |text: &str| format!("clouds:\n  otc:\n    auth:\n      {text}\n");
    let broken = [
        ("clouds.yaml", clouds(&format!("{{password: {PASSWORD}"))),
        ("clouds.yaml", clouds(&format!("password: [{PASSWORD}]"))),
        ("clouds.yaml", clouds(&format!("token: {TOKEN}\n      token: {TOKEN}"))),
        ("clouds.yaml", format!("{PASSWORD}: *{TOKEN}")),
        (".huaweicloud/credentials", format!("[basic]\nsk = {SECRET}\n{SECRET}\n")),
        (".huaweicloud/credentials", format!("[{SECRET}]\nak = {SECRET}\nsk = {SECRET}")),
        (".huaweicloud/credentials", format!("[basic]\nak = {ACCESS}\nsk = {SECRET}\nsecurity_token = gQpldS13ZXN0")),
        (
            ".hcloud/config.json",
            format!(r#"{{"profiles": [{{"name": "default", "secretAccessKey": "{SECRET}"}}, {SECRET}"#),
        ),
        (".hcloud/config.json", format!(r#"{{"profiles": [{{"name": "{ACCESS}", "secretAccessKey": "{SECRET}"}}]}}"#)),
        (
            ".hcloud/config.json",
            format!(
                r#"{{"profiles": [{{"name": "default", "accessKeyId": "AKOFNOBODY", "secretAccessKey": "{SECRET}"}}]}}"#
            ),
        ),
    ];
    for (file, text) in broken {
        let cloud = Cloud::start(known());
        let mut site = folder(&Policy::of_one_key(cloud.url()).with("{environment: {}}"));
        std::fs::create_dir(site.path(".huaweicloud")).unwrap();
        std::fs::create_dir(site.path(".hcloud")).unwrap();
        site.write(file, &text);
        let home = site.folder().to_str().unwrap().to_owned();
        site.set("HOME", &home);
        if file == "clouds.yaml" {
            site.set("OS_CLOUD", "otc");
        }
        let ended = look_everywhere(&site);
        assert_eq!(ended.code, Some(0));
        let checked = site.once("check");
        assert_clean("check", &format!("{checked:?}"));
        assert_eq!(cloud.requests(Operation::EnableRotation), 0, "{file}: {text}");
        assert_eq!(site.apply().report().count("compliant"), 0, "{KEY}");
    }
}
