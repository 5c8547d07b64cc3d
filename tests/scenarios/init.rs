//! `init`: a policy for an existing account, which passes `check`, changes nothing by itself, and whose `plan` lists what
//! adopting it would change.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::Stdio;
use std::time::SystemTime;

use kms_simulator::seed::{self, Kind};
use kms_simulator::{BadListing, Dialect, Fault, Key, KeyState, Operation, OperationSet, ProjectSetup, Rule, Setup};
use rcgen::CertificateParams;
use serde_json::{Value, json};

use super::cloud::{Cloud, many, off, rotating, setup};
use super::front::{Authority, Front};
use super::program::{Finished, Program};
use super::site::{Policy, Site};
use super::{ACCOUNT, KEY, PASSWORD, PROJECT, TOKEN, USER, key_id};

/// A folder with `projects.yaml`, a policy without `keys`.
fn site(policy: &Policy) -> Site {
    let site = Site::new(policy);
    let text = policy.text();
    let heads: Vec<_> = text.lines().filter(|line| *line != "  keys:" && !line.starts_with("  - ")).collect();
    site.write("projects.yaml", &(heads.join("\n") + "\n"));
    site
}

fn run(site: &Site, arguments: &[&str]) -> Finished {
    Program::start(site.command(&[&["init"], arguments].concat())).finish()
}

/// Makes `policy.yaml` of `projects.yaml`, and returns its text.
#[track_caller]
fn init(site: &Site, more: &[&str]) -> String {
    let arguments = ["--policy", "projects.yaml", "--output-file", "policy.yaml"];
    std::fs::remove_file(site.path("policy.yaml")).unwrap();
    let made = run(site, &[&arguments, more].concat());
    assert_eq!((made.code, &*made.stderr), (Some(0), ""), "{made:?}");
    assert!(made.stdout.starts_with("policy.yaml: proposed for "), "{made:?}");
    let text = std::fs::read_to_string(site.path("policy.yaml")).unwrap();
    let checked = site.once("check");
    assert_eq!((checked.code, checked.stdout.trim()), (Some(0), "[]"), "{checked:?}\n{text}");
    text
}

/// The lines of a policy without comments and blank lines.
fn entries(text: &str) -> Vec<&str> {
    let keys = text.lines().skip_while(|line| line.trim() != "keys:").skip(1);
    keys.filter(|line| !line.is_empty() && !line.trim_start().starts_with('#')).collect()
}

/// The keys that `plan` would change.
#[track_caller]
fn planned(site: &Site, code: i32) -> BTreeSet<String> {
    let plan = site.once("plan");
    assert_eq!(plan.code, Some(code), "{plan:?}");
    let changes = |key: &&Value| !key["planned"].as_array().unwrap().is_empty();
    plan.report().keys().filter(changes).map(|key| key["key_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_account_gets_a_ceiling_and_entries_for_what_its_keys_have_in_common() {
    let at = |number, alias: &str, days| Key::new(key_id(number)).alias(alias).rotating(days);
    let cloud = Cloud::of([
        at(0, "a", 90).tag("pci", "true"),
        at(1, "b", 90).tag("pci", "true"),
        at(2, "c", 90).tag("pci", "true"),
        at(3, "web-1", 180).tag("pci", "false"),
        at(4, "web-2", 180),
        at(5, "web-3", 180),
        at(6, "ledger", 365),
        Key::new(key_id(7)).alias("old").tag("owner", "me: \"too\""),
        Key::new(key_id(8)).alias("gone").state(KeyState::PendingDeletion),
        Key::new(key_id(9)).alias("web-sleeps").state(KeyState::Disabled),
        Key::new(key_id(10)).default_of("evs"),
        Key::new(key_id(11)).alias("byok").imported(),
        Key::new(key_id(12)).alias("sign").spec("RSA_2048"),
    ]);
    let site = site(&Policy::at(cloud.url()));
    let text = init(&site, &[]);
    assert_eq!(
        entries(&text),
        [
            "      - select: {}",
            "        max_rotation_interval: 365",
            "      - select: {tags: {pci: \"true\"}}",
            "        max_rotation_interval: 90",
            "      - select: {alias: \"web-*\"}",
            "        max_rotation_interval: 180",
        ],
        "{text}"
    );
    for comment in [
        "# Every key that no other entry matches: at most 365 days.\n",
        "# Today: 3 keys (on, 365 days: 1; off: 1; pending deletion: 1).\n",
        "# If enforced, it switches rotation on for 1 key: old.\n",
        "# All keys with the tag pci=true that can rotate do so every 90 days.\n",
        "# Today: 4 keys (on, 180 days: 3; disabled: 1).\n",
        "# Decide: disabled, so rotation cannot be changed: 1 key: web-sleeps. ",
        "# Decide: pending deletion: 1 key: gone. ",
        "# Cannot rotate, so no exemption is needed (default keys: 1): evs/default.\n",
        "# Cannot rotate, so no exemption is needed (imported key material: 1): byok.\n",
        "# Cannot rotate, so no exemption is needed (asymmetric or HMAC: 1): sign.\n",
    ] {
        assert!(text.contains(comment), "{comment}\n{text}");
    }
    assert!(text.contains("\nmode: monitor\n") && !text.contains("exempt:") && !text.contains("enforce\n"), "{text}");
    // The disabled key makes the exit code 1.
    assert_eq!(planned(&site, 1), [key_id(7)].into());
    let in_text = Program::start(site.command(&["plan", "--policy", "policy.yaml"])).finish().stdout;
    assert!(in_text.contains("would change if enforced"), "{in_text}");
    assert_eq!(cloud.write_requests(), 0);
}

#[test]
fn the_plan_of_a_large_account_lists_what_adopting_the_policy_changes() {
    let (project, census) = seed::account(PROJECT, "eu-de", Dialect::Huawei, 1_000, SystemTime::now());
    let cloud = Cloud::start(Setup::new().project(project.token(TOKEN)));
    let policy = Policy { concurrency: 32, cloud: "huawei-cloud", region: "eu-west-101", ..Policy::at(cloud.url()) };
    let site = site(&policy);
    let text = init(&site, &[]);
    let off = census.of(Kind::Off);
    assert!(text.contains(&format!("switches rotation on for {off} keys: ")), "{text}");
    assert!(text.contains("changes take "), "more than one run may change: {text}");
    assert!(text.lines().all(|line| line.chars().count() <= 200) && text.lines().count() < 120, "{text}");
    let expected: BTreeSet<_> = cloud
        .keys(PROJECT)
        .into_iter()
        .filter(|key| key.can_rotate() && key.state == KeyState::Enabled && !key.rotation.enabled)
        .map(|key| key.id.clone())
        .collect();
    assert_eq!(planned(&site, 1), expected);
    assert_eq!((expected.len(), cloud.write_requests()), (off, 0));
    // The same account gives the same policy.
    let again = run(&site, &["--policy", "projects.yaml"]);
    assert_eq!((again.code, again.stdout), (Some(0), text));
}

#[test]
fn a_lower_ceiling_is_what_the_user_chooses() {
    let cloud = Cloud::of([Key::new(key_id(0)).rotating(365), Key::new(key_id(1)).rotating(90)]);
    let site = site(&Policy::at(cloud.url()));
    let text = init(&site, &["--max-interval", "180"]);
    assert!(text.contains("        max_rotation_interval: 180\n"), "{text}");
    assert_eq!(planned(&site, 0), [key_id(0)].into());
    let refused = run(&site, &["--policy", "projects.yaml", "--max-interval", "366"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("expected a whole number of days from 30 to 365"), "{refused:?}");
}

#[test]
fn an_empty_account_has_a_policy_for_keys_to_come() {
    let cloud = Cloud::of([]);
    let site = site(&Policy::at(cloud.url()));
    let text = init(&site, &[]);
    assert!(text.contains("# Every key: at most 365 days.\n      # Today: no key.\n"), "{text}");
    assert_eq!(planned(&site, 0), BTreeSet::new());
}

#[test]
fn names_and_tags_of_any_characters_are_quoted() {
    let odd = ["a: b-1", "a: b-2", "a: b-3"];
    let mut keys: Vec<_> = (0..)
        .zip(odd)
        .map(|(number, alias)| Key::new(key_id(number)).alias(alias).rotating(90).tag("Größe \"x\"", "{1}: #2"))
        .collect();
    keys.extend((3..6).map(|number| Key::new(key_id(number)).alias(format!("'{{-{number}")).rotating(60)));
    keys.push(Key::new(key_id(6)).alias("line\nbreak\u{202e}").tag("x", "*"));
    keys.push(Key::new(key_id(7)).alias("# - x: y"));
    let cloud = Cloud::of(keys);
    let site = site(&Policy::at(cloud.url()));
    let text = init(&site, &[]);
    let lines = entries(&text);
    assert!(lines.contains(&r#"      - select: {tags: {"Größe \"x\"": "{1}: #2"}}"#), "{text}");
    assert!(lines.contains(&r#"      - select: {alias: "'{-*"}"#), "{text}");
    assert_eq!(lines.len(), 6, "{text}");
    assert!(text.contains("2 keys: # - x: y, line\u{fffd}break\u{fffd}."), "{text}");
    assert_eq!(planned(&site, 0), [key_id(6), key_id(7)].into());
    let plan = site.once("plan");
    assert!((0..6).all(|number| plan.key(&key_id(number)) == "compliant"), "{plan:?}");
}

#[test]
fn all_projects_of_a_policy_are_read_and_its_other_fields_are_kept() {
    let other = "abcdefabcdefabcdefabcdefabcdefab";
    let cloud = Cloud::start(
        setup([off()]).project(ProjectSetup::new(other, "eu-de_other").key(rotating(90)).token("another-token")),
    );
    let policy = Policy { guards: "{flap_repairs: 7}", ..Policy::at(cloud.url()) }.password(None).field("grace: 3d");
    let second = Policy { name: "se: cond", project_id: other, ..Policy::at(cloud.url()) };
    let second = second.with("{token_file: '${HERE}/other'}").key(KEY, 45);
    let mut site = site(&policy);
    site.set("HERE", ".");
    site.write("other", "another-token");
    let first = std::fs::read_to_string(site.path("projects.yaml")).unwrap();
    let second = second.project().replace("name: se: cond", "name: 'se: cond'");
    site.write("projects.yaml", &format!("{first}{second}"));
    let text = init(&site, &[]);
    for kept in [
        "guards:\n  flap_repairs: 7\n",
        "schedule:\n  cron: \"0 0 1 1 *\"\n",
        &format!("    credentials:\n      password:\n        user_name: {USER}\n"),
        "        password_file: password\n",
        "    grace: 3d\n",
        "  - name: \"se: cond\"\n",
        "      token_file: \"${HERE}/other\"\n",
    ] {
        assert!(text.contains(kept), "{kept}\n{text}");
    }
    assert!(!text.contains("enforce\n") && !text.contains(": 45"), "neither its mode nor its keys: {text}");
    assert!(!text.contains(PASSWORD) && !text.contains("another-token"));
    assert_eq!(text.matches("- select: {}\n").count(), 2);
    assert_eq!(planned(&site, 0), [KEY.to_owned()].into());
    assert!(Site::new(&Policy::at(cloud.url())).once("check").code == Some(2), "others still need keys");
}

#[test]
fn an_account_that_cannot_be_read_prints_nothing_and_names_what_is_missing() {
    let keys = || many(2);
    for (operation, fault, expected) in [
        (Operation::ListKeys, Fault::kms(403, "KMS.0307"), "kms:cmk:list"),
        (Operation::ListKeys, Fault::listing(BadListing::NoDetails), "list_keys"),
        (Operation::ReadStatus, Fault::kms(403, "KMS.0307"), "kms:cmk:getRotation"),
        (Operation::ReadStatus, Fault::unauthorized(), "HTTP 401"),
        (Operation::ReadStatus, Fault::kms(500, "KMS.0100"), "HTTP 500"),
        (Operation::QueryByTag, Fault::kms(500, "KMS.0100"), "HTTP 500"),
    ] {
        let cloud = Cloud::of(keys().into_iter().map(|key| key.tag("a", "b")));
        cloud.fault(Rule::always(fault.clone()).on(operation));
        let site = site(&Policy { max_elapsed: "100ms", ..Policy::at(cloud.url()) });
        std::fs::remove_file(site.path("policy.yaml")).unwrap();
        let failed = run(&site, &["--policy", "projects.yaml", "--output-file", "policy.yaml"]);
        assert_eq!((failed.code, &*failed.stdout), (Some(1), ""), "{fault:?} {failed:?}");
        let line = failed.stderr.lines().find(|line| line.starts_with("kms-rotationd: ")).unwrap_or_default();
        assert!(line.contains("cannot read the account of project payments: "), "{fault:?} {failed:?}");
        assert!(line.contains(expected), "{fault:?} {failed:?}");
        assert!(!site.path("policy.yaml").exists());
        assert_eq!(cloud.write_requests(), 0);
    }
}

#[test]
fn temporary_failures_are_retried_and_a_key_that_cannot_be_read_is_a_comment() {
    let cloud = Cloud::of([Key::new(key_id(0)).alias("a").rotating(90), Key::new(key_id(1)).alias("dark"), off()]);
    let reads = OperationSet::of(&[Operation::ListKeys, Operation::ReadStatus]);
    cloud.fault(Rule::next(3, Fault::kms(500, "KMS.0100")).on(reads));
    cloud.fault(Rule::always(Fault::kms(403, "KMS.0307")).on(Operation::ReadStatus).key(key_id(1)));
    let site = site(&Policy::at(cloud.url()));
    let text = init(&site, &[]);
    assert!(text.contains("(on, 90 days: 1; off: 1; not readable: 1)"), "{text}");
    let comments: Vec<_> = text.lines().filter_map(|line| line.trim_start().strip_prefix("# ")).collect();
    let comments = comments.join(" ");
    assert!(comments.contains("The rotation of 1 key cannot be read: dark (read_status: HTTP 403"), "{text}");
    assert!(comments.contains("kms:cmk:getRotation"), "{text}");
    assert!(!comments.contains("(request "), "the same account gives the same policy: {text}");
    assert_eq!(planned(&site, 1), [KEY.to_owned()].into());
}

#[test]
fn without_the_permission_for_tags_or_with_a_doubtful_list_the_policy_says_so() {
    let keys = (0..3).map(|number| Key::new(key_id(number)).alias(format!("k{number}")).rotating(90).tag("a", "b"));
    let cloud =
        Cloud::start(setup(keys.chain([off()])).behave(|behaviour| behaviour.forbidden = Operation::QueryByTag.into()));
    let site = site(&Policy::at(cloud.url()));
    let text = init(&site, &[]);
    assert!(
        text.contains("# Tags are not used, because they cannot be read: ") && text.contains("kms:cmkTag:"),
        "{text}"
    );
    assert_eq!(entries(&text).len(), 2, "{text}");
    cloud.behave(|behaviour| behaviour.forbidden = OperationSet::NONE);
    assert_eq!(entries(&init(&site, &[])).len(), 4);
    cloud.fault(Rule::always(Fault::listing(BadListing::LargerTotal)).on(Operation::ListKeys));
    let doubtful = run(&site, &["--policy", "projects.yaml"]);
    assert_eq!(doubtful.code, Some(0), "{doubtful:?}");
    assert!(doubtful.stdout.contains("# The list of keys may be incomplete: "), "{doubtful:?}");
}

#[test]
fn tags_that_identify_keys_are_not_searched_for() {
    let keys = (0..30).map(|number| Key::new(key_id(number)).tag("name", number.to_string()).tag("pci", "true"));
    let cloud = Cloud::of(keys);
    let text = init(&site(&Policy::at(cloud.url())), &[]);
    assert!(text.contains("# Not used to group keys, because they have too many values: the tags name.\n"), "{text}");
    assert_eq!(cloud.requests(Operation::QueryByTag), 1);
}

/// A key in the state of Terraform.
fn in_state(name: &str, values: &Value) -> Value {
    let kind = "opentelekomcloud_kms_key_v1";
    json!({"address": format!("{kind}.{name}"), "mode": "managed", "type": kind, "name": name, "values": values})
}

fn state(resources: &[Value]) -> String {
    json!({"format_version": "1.0", "values": {"root_module": {"resources": resources}}}).to_string()
}

#[test]
fn keys_in_the_code_get_its_intervals_and_the_rest_of_the_account_the_ceiling() {
    let cloud = Cloud::of([
        Key::new(key_id(0)).alias("cards").rotating(365),
        Key::new(key_id(1)).alias("cash").rotating(60),
        Key::new(key_id(2)).alias("off-in-code"),
        Key::new(key_id(3)).alias("elsewhere"),
    ]);
    let site = site(&Policy::at(cloud.url()));
    let on = |id: Option<String>, alias: &str, days: u16| json!({"id": id, "key_alias": alias, "rotation_enabled": true, "rotation_interval": days});
    site.write(
        "state.json",
        &state(&[
            in_state("cards", &on(Some(key_id(0)), "cards", 90)),
            in_state("cash", &on(None, "cash", 60)),
            in_state("off", &json!({"id": key_id(2), "key_alias": "off-in-code", "rotation_enabled": false})),
            in_state("gone", &on(Some(key_id(9)), "gone", 60)),
        ]),
    );
    let text = init(&site, &["--from-terraform", "state.json"]);
    assert_eq!(
        entries(&text),
        [
            "      - select: {}",
            "        max_rotation_interval: 365",
            &format!("      - key_id: {}", key_id(0)),
            "        rotation_interval: 90",
            &format!("      - key_id: {}", key_id(1)),
            "        rotation_interval: 60",
        ],
        "{text}"
    );
    for comment in [
        "# opentelekomcloud_kms_key_v1.cards (cards): the code asks for 90 days.\n      # Today: on, 365 days. If enforced",
        "# Decide: in the code rotation is off (`rotation_enabled = false`, also the default) for\n",
        "# In the code, but not matched to exactly one key of these projects:\n# opentelekomcloud_kms_key_v1.gone.\n",
    ] {
        assert!(text.contains(comment), "{comment}\n{text}");
    }
    assert_eq!(planned(&site, 0), [key_id(0), key_id(2), key_id(3)].into());
    assert_eq!(cloud.write_requests(), 0);
}

#[test]
fn the_code_alone_needs_no_network() {
    let mut site = Site::new(&Policy::at("http://127.0.0.1:9"));
    let planned = json!({"key_alias": "new: key", "rotation_enabled": true, "rotation_interval": 120});
    let known =
        json!({"id": KEY, "key_alias": "old", "region": "eu-nl", "rotation_enabled": true, "rotation_interval": 30});
    let module =
        json!({"root_module": {"child_modules": [{"resources": [in_state("a", &planned), in_state("b", &known)]}]}});
    site.write("plan.json", &json!({"format_version": "1.2", "planned_values": module}).to_string());
    let from_stdin = |arguments: &[&str]| {
        let arguments = [&["init", "--from-terraform", "-"], arguments].concat();
        let input = File::open(site.path("plan.json")).unwrap();
        Program::fed(site.command(&arguments), Stdio::from(input)).finish()
    };
    let refused = from_stdin(&[]);
    assert_eq!((refused.code, &*refused.stdout), (Some(2), ""), "{refused:?}");
    assert!(refused.stderr.contains("opentelekomcloud_kms_key_v1.a reports no region: add --region"), "{refused:?}");
    let unknown = from_stdin(&["--region", "eu-xx"]);
    assert_eq!((unknown.code, unknown.stderr.lines().count()), (Some(0), 1), "a warning: {unknown:?}");
    assert!(unknown.stderr.contains("unknown open-telekom-cloud region `eu-xx`"), "{unknown:?}");
    let made = from_stdin(&["--region", "eu-de"]);
    assert_eq!((made.code, &*made.stderr), (Some(0), ""), "{made:?}");
    let text = made.stdout;
    for part in [
        "  - name: eu-de\n    cloud: open-telekom-cloud\n    region: eu-de\n    credentials:\n      environment: {}\n",
        "      - alias: \"new: key\"\n        rotation_interval: 120\n",
        "  - name: eu-nl\n",
        &format!("      - key_id: {KEY}\n        rotation_interval: 30\n"),
        "      # Every other key of the project. The account was not read.\n      - select: {}\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    site.write("policy.yaml", &text);
    site.set("OS_TOKEN", "a-token");
    let checked = site.once("check");
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(!checked.stdout.contains("warning"), "{checked:?}");
}

#[test]
fn an_account_by_cloud_and_region_uses_the_credentials_and_the_project_of_the_environment() {
    let authority = Authority::issuing("authority", |certificate| {
        let names = ["kms", "iam"].map(|service| format!("{service}.eu-de.otc.t-systems.com"));
        certificate.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
    });
    let cloud = Cloud::of([Key::new(key_id(0)).alias("a").rotating(90), off()]);
    let front = Front::tls(cloud.url(), &authority);
    let proxy = Front::proxy(&front.https(), None);
    let mut site = Site::new(&Policy::at("http://127.0.0.1:9"));
    site.write("ca.pem", &authority.pem);
    for (name, value) in [
        ("HTTPS_PROXY", &*proxy.http()),
        ("SSL_CERT_FILE", "ca.pem"),
        ("OS_USERNAME", USER),
        ("OS_USER_DOMAIN_NAME", ACCOUNT),
        ("OS_PASSWORD", PASSWORD),
    ] {
        site.set(name, value);
    }
    let place = ["--cloud", "open-telekom-cloud", "--region", "eu-de"];
    std::fs::remove_file(site.path("policy.yaml")).unwrap();
    let made = run(&site, &[&place, &["--output-file", "policy.yaml"][..]].concat());
    assert_eq!((made.code, &*made.stderr), (Some(0), ""), "{made:?}");
    let text = std::fs::read_to_string(site.path("policy.yaml")).unwrap();
    let head = format!(
        "projects:\n  - name: eu-de\n    cloud: open-telekom-cloud\n    region: eu-de\n    project_id: {PROJECT}\n    \
         credentials:\n      environment: {{}}\n    keys:\n"
    );
    assert!(text.contains(&head), "{text}");
    assert!(!text.contains(PASSWORD) && !text.contains(USER), "{text}");
    assert_eq!(planned(&site, 0), [KEY.to_owned()].into());
    let checked = site.once("check");
    assert!(checked.code == Some(0) && !checked.stdout.contains("warning"), "{checked:?}");
    // The same project by its name.
    site.set("OS_PROJECT_NAME", "eu-de");
    assert_eq!(run(&site, &place).stdout, text);
    site.set("OS_PASSWORD", "another");
    let refused = run(&site, &place);
    assert_eq!((refused.code, &*refused.stdout), (Some(1), ""), "{refused:?}");
    assert!(refused.stderr.contains("cannot read the account of project eu-de: authenticate: HTTP 401"), "{refused:?}");
    let origin = "; credentials of the environment: OS_USERNAME and OS_PASSWORD";
    assert!(refused.stderr.contains(origin), "{refused:?}");
    assert_eq!(cloud.write_requests(), 0);
}

#[test]
fn a_usage_error_says_what_to_add() {
    let mut site = site(&Policy::at("http://127.0.0.1:9"));
    // Incomplete, so that no login is attempted.
    site.set("OS_ACCESS_KEY", "only-the-id");
    site.write("state.json", "Sesame0pen");
    for (arguments, expected) in [
        (&[][..], "<--cloud <CLOUD>|--policy <FILE>|--from-terraform <FILE>>"),
        (&["--region", "eu-de"], "<--cloud <CLOUD>|--policy <FILE>|--from-terraform <FILE>>"),
        (&["--cloud", "open-telekom-cloud"], "--region <REGION>"),
        (&["--cloud", "otc", "--region", "eu-de"], "open-telekom-cloud"),
        (&["--cloud", "open-telekom-cloud", "--region", "EU"], "expected a region such as eu-de"),
        (&["--from-terraform", "state.json", "--project-id", "7"], "expected a project id"),
        (&["--policy", "projects.yaml", "--cloud", "open-telekom-cloud", "--region", "eu-de"], "cannot be used with"),
        (
            &["--from-terraform", "state.json"],
            "state.json: not JSON at line 1, column 1; expected the output of `terraform",
        ),
        (&["--from-terraform", "nowhere.json"], "cannot read nowhere.json: "),
        (&["--policy", "nowhere.yaml"], "cannot read policy file nowhere.yaml"),
        (
            &["--policy", "projects.yaml", "--output-file", "./projects.yaml"],
            "./projects.yaml exists, and init replaces no policy",
        ),
    ] {
        let refused = run(&site, arguments);
        assert_eq!((refused.code, &*refused.stdout), (Some(2), ""), "{arguments:?} {refused:?}");
        assert!(refused.stderr.contains(expected), "{arguments:?} {refused:?}");
        assert!(!refused.stderr.contains("Sesame0pen"), "{refused:?}");
    }
    site.write("projects.yaml", "projects: [{name: a, cloud: open-telekom-cloud, regoin: eu-de}]\n");
    let refused = run(&site, &["--policy", "projects.yaml"]);
    assert_eq!((refused.code, refused.stderr.lines().count()), (Some(2), 2), "{refused:?}");
    let without = run(&site, &["--cloud", "open-telekom-cloud", "--region", "eu-de"]);
    assert_eq!((without.code, &*without.stdout), (Some(1), ""), "{without:?}");
    assert!(
        without.stderr.contains("cannot read the account of project eu-de: cannot use the credentials"),
        "{without:?}"
    );
}
