//! Reads policy files: the examples, one file for every kind of problem, and random bytes.
//!
//! The problems of `tests/golden/policy/NAME.yaml` are in `NAME.expected`, as on a terminal. After an intended change,
//! `UPDATE_GOLDEN=1 cargo test --test library` updates them; read the difference before you commit it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kms_rotationd::policy::types::{AccessKeyId, AgencyDomain, AssumeAgency, Credentials, Project, Proxy};
use kms_rotationd::policy::{self, Accepted, Policy};
use kms_rotationd::rotation::rule::Requirement;
use kms_rotationd::yaml::{self, Problems, Severity};
use proptest::prelude::*;

fn environment(name: &str) -> Option<String> {
    (name == "CREDENTIALS_DIRECTORY").then(|| "/run/credentials/kms-rotationd.service".to_owned())
}

/// The first of November 2026.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_793_491_200)
}

pub(crate) fn read(bytes: &[u8]) -> Result<Accepted, Problems> {
    policy::read(bytes, "policy.yaml", environment, now())
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

#[test]
fn every_kind_of_problem_has_its_text() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let policies = files("tests/golden/policy", "yaml");
    assert!(policies.len() >= 170, "{} golden files", policies.len());
    let mut differing = Vec::new();
    for path in &policies {
        let problems = match read(&fs::read(path).unwrap()) {
            Ok((_, warnings)) => warnings,
            Err(problems) => {
                assert!(problems.count(Severity::Error) > 0, "{} is refused without an error", path.display());
                problems
            }
        };
        assert!(!problems.is_empty(), "{} has no problem", path.display());
        let drawn = problems.render_snippets(false);
        for line in problems.render_plain().lines() {
            assert!(drawn.lines().any(|drawn| drawn == line), "{}: {line}", path.display());
        }
        let expected = path.with_extension("expected");
        if update {
            fs::write(&expected, &drawn).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != drawn {
            differing.push(format!("{}:\n{drawn}", path.display()));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn every_golden_text_has_its_policy() {
    let stems = |extension| -> BTreeSet<_> {
        files("tests/golden/policy", extension).iter().map(|path| path.with_extension("")).collect()
    };
    assert_eq!(stems("yaml"), stems("expected"));
}

#[test]
fn every_example_is_accepted_without_a_warning() {
    let examples: Vec<_> =
        files("config", "yaml").into_iter().filter(|path| path.display().to_string().contains("policy")).collect();
    assert_eq!(examples.len(), 4, "{examples:?}");
    for path in examples {
        // The exemptions of the story end one after the other.
        let now = if path.ends_with("policy.story.yaml") { SystemTime::UNIX_EPOCH } else { now() };
        // Without any variable, as in a clean clone.
        match policy::load(&path, |_| None, now) {
            Ok((_, warnings)) => assert!(warnings.is_empty(), "{warnings}"),
            Err(refused) => panic!("{refused}"),
        }
    }
}

#[test]
fn an_exemption_of_the_policy_for_the_story_ends_each_year() {
    let policy = example("policy.story.yaml");
    let requirements = policy.projects.iter().flat_map(|project| &project.keys).map(|rule| &rule.requirement);
    let days: Vec<_> = requirements
        .filter_map(|requirement| match requirement {
            Requirement::Exempt(exemption) => exemption.until.as_ref().map(|until| until.date.to_string()),
            Requirement::Rotation(_) => None,
        })
        .collect();
    assert_eq!(days, ["2026-06-30", "2027-06-30", "2028-06-30"]);
}

fn example(name: &str) -> Policy {
    policy::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name), |_| None, now()).unwrap().0
}

#[test]
fn the_complete_example_shows_the_defaults() {
    let (complete, minimal) = (example("policy.yaml"), example("policy.minimal.yaml"));
    assert_eq!(complete.schedule, minimal.schedule);
    assert_eq!(complete.retry, minimal.retry);
    assert_eq!(complete.limits, minimal.limits);
    assert_eq!(complete.guards, minimal.guards);
    assert_eq!(complete.projects[0].coverage, minimal.projects[0].coverage);
    assert_eq!(complete.projects[0].keys[0].requirement, minimal.projects[0].keys[0].requirement);
    assert_eq!(complete.projects[0].mode, minimal.projects[0].mode);
}

#[test]
fn the_comments_of_the_complete_example_are_valid_fields() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/policy.yaml")).unwrap();
    let mut kinds = BTreeSet::new();
    for (at, comment) in text.match_indices("      # ") {
        let line = text[at..].lines().next().unwrap();
        let Some((kind, _)) = line[comment.len()..].split_once(": {").filter(|(kind, _)| !kind.contains(' ')) else {
            continue;
        };
        let mut with = format!("{}      {}", &text[..at], &text[at + comment.len()..]);
        if kind != "assume_agency" && kind != "proxy" {
            with = with.replace("      token_file: /run/secrets/archive-token\n", "");
        }
        match read(with.as_bytes()) {
            Ok((_, warnings)) => assert!(warnings.is_empty(), "{warnings}"),
            Err(problems) => panic!("{problems}"),
        }
        kinds.insert(kind.to_owned());
    }
    let expected = ["access_key", "assume_agency", "ecs_agency", "environment", "id_token", "proxy"];
    assert_eq!(kinds, expected.map(str::to_owned).into());
}

/// The first project of a policy with these lines of credentials.
fn project_with(lines: &str) -> Project {
    let text = format!(
        "projects:\n  - name: a\n    cloud: huawei-cloud\n    region: eu-west-101\n    \
         project_id: 0123456789abcdef0123456789abcdef\n{lines}\n    \
         keys: [{{key_id: 0d0466b0-e727-4d9c-b35d-f84bb474a37f, rotation_interval: 30}}]\n"
    );
    match read(text.as_bytes()) {
        Ok((mut policy, warnings)) if warnings.is_empty() => policy.projects.remove(0),
        Ok((_, problems)) | Err(problems) => panic!("{problems}"),
    }
}

#[test]
fn every_kind_of_credentials_is_decoded() {
    let credentials = |kind: &str| project_with(&format!("    credentials: {{{kind}}}")).credentials;
    let access_key = |access_key_id, token: Option<&str>| Credentials::AccessKey {
        access_key_id,
        secret_access_key_file: "/sk".into(),
        security_token_file: token.map(PathBuf::from),
    };
    assert_eq!(
        credentials("access_key: {access_key_id: 12345E10, secret_access_key_file: /sk}"),
        access_key(AccessKeyId::Value("12345E10".to_owned()), None),
        "digits as written"
    );
    assert_eq!(
        credentials(
            "access_key: {access_key_id_file: '${CREDENTIALS_DIRECTORY}/ak', secret_access_key_file: /sk, \
             security_token_file: /st}"
        ),
        access_key(AccessKeyId::File("/run/credentials/kms-rotationd.service/ak".into()), Some("/st"))
    );
    assert_eq!(credentials("ecs_agency: {}"), Credentials::EcsAgency { metadata_endpoint: None });
    assert_eq!(
        credentials("ecs_agency: {metadata_endpoint: 'http://[fe80::a9fe:a9fe]/'}"),
        Credentials::EcsAgency { metadata_endpoint: Some("http://[fe80::a9fe:a9fe]".to_owned()) }
    );
    assert_eq!(
        credentials("id_token: {provider_id: my-cluster, token_file: /t}"),
        Credentials::IdToken { provider_id: "my-cluster".to_owned(), token_file: "/t".into() }
    );
    assert_eq!(credentials("environment: {}"), Credentials::Environment);
}

#[test]
fn an_agency_and_a_proxy_are_accepted_in_the_credentials_and_in_the_project() {
    let agency = "assume_agency: {domain_id: 0123, agency_name: rotation, duration: 15m}";
    let proxy = "proxy: {url: 'http://10.0.0.1:3128/', user_name: me, password_file: /pw}";
    let inside = project_with(&format!("    credentials:\n      ecs_agency: {{}}\n      {agency}\n      {proxy}"));
    let outside = project_with(&format!("    {proxy}\n    credentials:\n      ecs_agency: {{}}\n    {agency}"));
    assert_eq!((inside.credentials_at.line, outside.credentials_at.line), (7, 8));
    assert_eq!(inside, Project { credentials_at: inside.credentials_at, ..outside });
    let domain = AgencyDomain::Id("0123".to_owned());
    let duration = Some(Duration::from_secs(900));
    assert_eq!(inside.assume_agency, Some(AssumeAgency { domain, agency_name: "rotation".to_owned(), duration }));
    let (user_name, password_file) = (Some("me".to_owned()), Some(PathBuf::from("/pw")));
    assert_eq!(inside.proxy, Some(Proxy { url: "http://10.0.0.1:3128".to_owned(), user_name, password_file }));
    let neither = project_with("    credentials: {token_file: /t}");
    assert_eq!((neither.assume_agency, neither.proxy), (None, None));
}

#[test]
fn a_secret_in_the_policy_is_in_no_problem() {
    const SECRET: &str = "Sesame0pen";
    for lines in [
        "credentials: Sesame0pen",
        "credentials: {password: Sesame0pen}",
        "credentials: {password: {password: \"Sesame0pen\"}}",
        "credentials: {password: {user_name: a}, password: Sesame0pen}",
        "credentials: {password: {user_name: a, passwrod: 'Sesame0pen', regoin: b}}",
        "credentials: {token: Sesame0pen, region: eu-de}",
        "credentials: {token_file: \"Sesame0pen\\t\"}",
        "credentials:\n      token_file: |\n        Sesame0pen\n        Sesame0pen",
        "credentials: {token_file: ~Sesame0pen}",
        "credentials: {token_file: a$Sesame0pen}",
        "credentials: {token_file: \"\\u200bSesame0pen\"}",
        "credentials: {secret_access_key: Sesame0pen}",
        "credentials: {access_key: Sesame0pen}",
        "credentials: {access_key: {access_key_id: a b Sesame0pen, secret_access_key: Sesame0pen}}",
        "credentials: {access_key: {access_key: a, security_token: Sesame0pen}}",
        "credentials: {id_token: Sesame0pen}",
        "credentials: {id_token: {id_token: Sesame0pen}}",
        "credentials: {&x token: &s Sesame0pen, password: {password: *s}}",
        "proxy: 'http://me:Sesame0pen@proxy.example.com'",
        "proxy: {url: 'http://me:Sesame0pen@proxy.example.com'}",
        "proxy: {user_name: 'me:Sesame0pen', password: Sesame0pen}",
        "iam_endpoint: https://me:Sesame0pen@iam.example.com",
        "password: Sesame0pen",
        "client-secret: Sesame0pen",
    ] {
        let text = format!("projects:\n  - name: a\n    {lines}\n");
        assert!(text.contains(SECRET), "{text}");
        let problems = read(text.as_bytes()).unwrap_err();
        for shown in [problems.render_plain(), problems.render_snippets(false), problems.render_snippets(true)] {
            assert!(!shown.contains(SECRET), "{shown}");
        }
        assert!(!serde_json::to_string(&problems).unwrap().contains(SECRET), "{problems}");
    }
}

#[test]
fn a_policy_and_its_problems_can_be_sent_to_another_task() {
    fn sendable<T: Send + Sync + 'static>() {}
    sendable::<Accepted>();
    sendable::<policy::PolicyRefused>();
}

#[test]
fn an_entry_has_its_line() {
    let policy = example("policy.minimal.yaml");
    let project = &policy.projects[0];
    assert_eq!((&*project.name, project.keys[0].line), ("payments", 11));
}

#[test]
fn variables_are_expanded_in_the_paths_of_secrets() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/policy.minimal.yaml");
    let text = fs::read_to_string(path).unwrap().replace("/run/secrets", "${CREDENTIALS_DIRECTORY}");
    let (policy, _) = read(text.as_bytes()).unwrap();
    let token = Path::new("/run/credentials/kms-rotationd.service/token");
    assert_eq!(policy.projects[0].credentials, Credentials::TokenFile(token.to_owned()));
}

#[test]
fn an_alias_repeats_credentials() {
    let text = r"
projects:
  - {name: a, cloud: huawei-cloud, region: eu-west-101, project_id: 0123456789abcdef0123456789abcdef,
     credentials: &shared {token_file: /t}, keys: [{key_id: 0d0466b0-e727-4d9c-b35d-f84bb474a37f, rotation_interval: 30}]}
  - {name: b, cloud: huawei-cloud, region: eu-west-101, project_id: 1123456789abcdef0123456789abcdef,
     credentials: *shared, keys: [{key_id: 0d0466b0-e727-4d9c-b35d-f84bb474a37f, rotation_interval: 30}]}
";
    let (policy, warnings) = read(text.as_bytes()).unwrap();
    assert!(warnings.is_empty(), "{warnings}");
    assert_eq!(policy.projects[0].credentials, policy.projects[1].credentials);
}

#[test]
fn invalid_utf8_is_reported_with_its_offset() {
    let problems = read(b"# \xc3\xbc\nschedule: \xff\n").unwrap_err();
    assert_eq!(problems.to_string(), "policy.yaml:2:11: invalid UTF-8 at byte 15; save the file as UTF-8");
    let problems = read(b"\xff\xfea\0:\0").unwrap_err();
    assert!(problems.to_string().ends_with("the file seems to be UTF-16: save it as UTF-8"), "{problems}");
}

#[test]
fn a_byte_order_mark_does_not_move_the_columns() {
    assert_eq!(read("\u{feff}x: 1".as_bytes()).unwrap_err().iter().next().unwrap().position.column, 1);
}

#[test]
fn ten_thousand_keys_and_as_many_problems_are_read() {
    let mut text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/policy.minimal.yaml")).unwrap();
    for n in 0..10_000 {
        writeln!(text, "      - key_id: {n:08x}-0000-4000-8000-000000000000\n        rotation_interval: 90").unwrap();
    }
    let (policy, _) = read(text.as_bytes()).unwrap();
    assert_eq!(policy.projects[0].keys.len(), 10_001);
    let line = format!("{{projects: [{{keys: [{}]}}]}}", "{key_id: x, key_id: y},".repeat(1_000));
    let problems = read(line.as_bytes()).unwrap_err();
    assert!(
        problems.render_snippets(true).len() < 1_000 * problems.iter().len(),
        "only a part of a long line is drawn"
    );
    let broken = text.replace("rotation_interval: 90", "rotation_interval: 9");
    let problems = read(broken.as_bytes()).unwrap_err();
    assert_eq!(problems.iter().len(), 10_001);
    assert_eq!(problems.render_snippets(true).matches("policy.yaml:").count(), 10_001);
}

/// Every position is in the text, every message is one line, and both drawings work.
fn assert_well_formed(text: &[u8], problems: &Problems) {
    let text = String::from_utf8_lossy(text);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines: Vec<&str> = text.split('\n').collect();
    let inside = |position: yaml::Position| {
        let line = lines.get(position.line as usize - 1).unwrap_or_else(|| panic!("{position:?} in {text:?}"));
        assert!((1..=line.chars().count() + 1).contains(&(position.column as usize)), "{position:?} in {text:?}");
    };
    for problem in problems.iter() {
        inside(problem.position);
        problem.related.iter().for_each(|related| inside(related.position));
        assert!(!problem.to_string().contains(char::is_control), "{problem:?}");
    }
    assert_eq!(problems.render_plain().lines().count(), problems.iter().len());
    assert!(problems.render_snippets(false).len() >= problems.render_plain().len());
    assert!(problems.render_snippets(true).len() >= problems.render_plain().len());
}

fn assert_readable(bytes: &[u8]) {
    match read(bytes) {
        Ok((_, warnings)) => {
            assert_eq!(warnings.count(Severity::Error), 0);
            assert_well_formed(bytes, &warnings);
        }
        Err(problems) => {
            assert!(problems.count(Severity::Error) > 0, "{problems}");
            assert_well_formed(bytes, &problems);
        }
    }
}

/// Texts with a meaning in YAML or in a policy.
const PIECES: &[&str] = &[
    "\n",
    "  ",
    "\t",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "&a ",
    "*a",
    "!!int ",
    "|\n",
    ">-\n",
    "# ",
    "---\n",
    "...\n",
    "? ",
    "<<: *a",
    "~",
    "90",
    "1_0",
    "0x5A",
    ".inf",
    "yes",
    "true",
    "ü",
    "\u{1f511}",
    "\u{feff}",
    "\r\n",
    "\r",
    "\0",
    "${",
    "${HOME}",
    "30s",
    "-5m",
    "always",
    "monitor",
    "key_id: ",
    "rotation_interval: ",
    "select: {alias: \"*\"}",
    "tags: {a: \"*\"}",
    "exempt: {reason: a, until: 2026-02-29}",
    "9999-12-31",
    "http://x",
    "@",
    "%",
    "\\u12",
    "\u{85}",
    "\u{2028}",
];

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let valid: Vec<String> = files("config", "yaml")
        .into_iter()
        .chain(files("tests/golden/policy", "yaml"))
        .map(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned())
        .filter(|text| text.len() < 5_000)
        .collect();
    let piece = prop_oneof![prop::sample::select(PIECES).prop_map(str::to_owned), any::<char>().prop_map(String::from)];
    let edit = (any::<prop::sample::Index>(), 0..12_usize, piece);
    (prop::sample::select(valid), prop::collection::vec(edit, 1..6)).prop_map(|(text, edits)| {
        let mut bytes = text.into_bytes();
        for (at, removed, inserted) in edits {
            let at = at.index(bytes.len() + 1);
            let end = (at + removed).min(bytes.len());
            bytes.splice(at..end, inserted.into_bytes());
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..super::properties::config() })]

    #[test]
    fn any_bytes_are_accepted_or_have_problems(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        assert_readable(&bytes);
    }

    #[test]
    fn any_text_is_accepted_or_has_problems(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
        assert_readable(pieces.concat().as_bytes());
    }

    #[test]
    fn a_changed_policy_is_accepted_or_has_problems(bytes in mutated()) {
        assert_readable(&bytes);
    }
}
