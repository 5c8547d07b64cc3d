//! Several projects, and projects without an id.

use kms_simulator::{Fault, Hold, Key, Operation, ProjectSetup, Rule, Setup};

use super::access_keys::{ACCESS, BY_VALUE, SECRET, keyed, site};
use super::cloud::{Cloud, many, off, setup};
use super::program::Program;
use super::site::Policy;
use super::{ACCOUNT, KEY, PASSWORD, PROJECT, TOKEN, USER, eventually, key_id};

const REFUSED: &str = "unknown: authentication_failed";
const BY_PASSWORD: &str = "{password: {user_name: rotator, domain_name: ACCOUNT, password_file: password}}";
const BY_TOKEN: &str = "{token_file: token}";
const OTHER: &str = "fedcba9876543210fedcba9876543210";

#[test]
fn projects_without_a_login_use_the_one_in_the_defaults() {
    let other = ProjectSetup::new(OTHER, "eu-de_team").domain(ACCOUNT).key(Key::new(key_id(0)));
    let cloud = Cloud::start(keyed([off()]).project(other));
    let mut site = site(&Policy::of_one_key(cloud.url()));
    site.set("HW_ACCESS_KEY", "of-nobody");
    let project = |name: &str, id: &str, key: &str| {
        format!(
            "  - {{name: {name}, project_id: {id}, kms_endpoint: '{url}', iam_endpoint: '{url}', keys: [{{key_id: {key}, \
             rotation_interval: 90}}]}}\n",
            url = cloud.url()
        )
    };
    let projects = project("one", PROJECT, KEY) + &project("two", OTHER, &key_id(0));
    let defaults = "{cloud: open-telekom-cloud, region: eu-de, credentials: CREDENTIALS}";
    let write = |credentials: &str| {
        let defaults = defaults.replace("CREDENTIALS", credentials);
        site.write("policy.yaml", &format!("defaults: {defaults}\nprojects:\n{projects}"));
    };
    write(BY_VALUE);
    let applied = site.apply();
    assert_eq!(applied.code, Some(0), "{applied:?}");
    assert_eq!((applied.key(KEY), applied.key(&key_id(0))), ("compliant".to_owned(), "compliant".to_owned()));
    write("{environment: {}}");
    let checked = site.once("check");
    let problems: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!((checked.code, problems.as_array().map(Vec::len), &problems[0]["line"]), (Some(2), Some(1), &1.into()));
    let message = problems[0]["message"].as_str().unwrap();
    assert!(message.starts_with("projects `one`, `two` have no credentials: "), "{message}");
}

#[test]
fn a_project_without_an_id_is_found_by_its_regions_name() {
    for (credentials, listed) in [(BY_PASSWORD, 0), (BY_VALUE, 1)] {
        // The name of a sub-project has it as prefix.
        let sub = ProjectSetup::new(OTHER, "eu-de_team").domain(ACCOUNT);
        let cloud = Cloud::start(keyed([off()]).project(sub));
        let applied = site(&Policy::of_one_key(cloud.url()).with(credentials).without_id()).apply();
        assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"), "{credentials}: {applied:#?}");
        assert_eq!(cloud.requests(Operation::ListProjects), listed, "{credentials}");
    }
}

#[test]
fn a_sub_project_is_found_by_the_name_in_the_credentials() {
    let sub = ProjectSetup::new(OTHER, "eu-de_team").domain(ACCOUNT).key(off());
    let cloud = Cloud::start(setup([]).project(sub));
    let credentials = BY_PASSWORD.replace("}}", ", project_name: eu-de_team}}");
    let applied = site(&Policy::of_one_key(cloud.url()).with(&credentials).without_id()).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"), "{applied:#?}");
    assert_eq!(cloud.intervals_sent(OTHER, KEY), [90]);
}

#[test]
fn an_unknown_project_name_is_looked_up_once() {
    for credentials in [BY_PASSWORD, BY_VALUE] {
        let elsewhere = ProjectSetup::new(OTHER, "eu-nl").domain(ACCOUNT);
        let cloud =
            Cloud::start(Setup::new().project(elsewhere).login(USER, ACCOUNT, PASSWORD).access_key(ACCESS, SECRET));
        let policy = Policy::of_keys(cloud.url(), (0..5).map(key_id)).with(credentials).without_id();
        let applied = site(&policy).apply();
        assert_eq!((applied.code, applied.report().count("unknown")), (Some(1), 5), "{credentials}");
        assert!((0..5).all(|n| applied.key(&key_id(n)) == REFUSED), "{credentials}: {applied:#?}");
        assert_eq!(cloud.all_requests(), 1, "{credentials}");
    }
}

#[test]
fn an_ambiguous_project_name_is_reported_with_the_ids() {
    let twin = ProjectSetup::new(OTHER, "eu-de").domain("ANOTHER");
    let cloud = Cloud::start(keyed([off()]).project(twin));
    let applied = site(&Policy::of_one_key(cloud.url()).with(BY_VALUE).without_id()).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), REFUSED));
    let error = applied.report().error();
    assert!(error.contains("project_id") && error.contains(PROJECT) && error.contains(OTHER), "{error}");
    assert_eq!(cloud.all_requests(), 1);
}

#[test]
fn a_wrong_key_is_tried_once_for_the_project_lookup() {
    let cloud = Cloud::start(keyed(many(30)));
    let site = site(&Policy::of_keys(cloud.url(), (0..30).map(key_id)).with(BY_VALUE).without_id());
    site.write("secret", "not-it");
    let applied = site.apply();
    assert_eq!((applied.code, applied.report().count("unknown")), (Some(1), 30));
    assert_eq!(applied.key(&key_id(29)), REFUSED);
    assert_eq!((cloud.access_key_refusals(ACCESS), cloud.all_requests()), (1, 1));
}

#[test]
fn a_refused_project_lookup_names_the_project_and_the_action() {
    for (credentials, status) in [(BY_VALUE, 403), (BY_TOKEN, 403), (BY_VALUE, 401)] {
        let cloud = Cloud::start(keyed(many(3)));
        match status {
            403 => cloud.behave(|cloud| cloud.forbidden = Operation::ListProjects.into()),
            _ => cloud.fault(Rule::always(Fault::unauthorized()).on(Operation::ListProjects)),
        }
        let applied = site(&Policy::of_keys(cloud.url(), (0..3).map(key_id)).with(credentials).without_id()).apply();
        assert_eq!((applied.code, &*applied.key(&key_id(2))), (Some(1), REFUSED), "{credentials}");
        let error = applied.report().error();
        let expected = format!("looking up the id of project eu-de: HTTP {status} ");
        assert!(error.contains(&expected) && error.matches(&status.to_string()).count() == 1, "{error}");
        let advised = error.contains("set project_id, or grant iam:projects:listProjects");
        assert_eq!(advised, status == 403, "{error}");
        assert_eq!(cloud.all_requests(), 1, "{credentials}");
    }
}

#[test]
fn three_broken_projects_do_not_delay_the_seven_others() {
    let id = |n: usize| -> &'static str { Box::leak(format!("{n:032x}").into_boxed_str()) };
    let project = |n: usize| ProjectSetup::new(id(n), "eu-de").domain(ACCOUNT).token(TOKEN);
    // The seven; a token is valid for one project, so they log in by password.
    let fast = (0..7).fold(Setup::new().login(USER, ACCOUNT, PASSWORD), |setup, n| {
        setup.project(project(n).keys((0..5).map(|key| Key::new(key_id(10 * n + key)))))
    });
    let cloud = Cloud::start(fast);
    // The wrong password is another user's, at another IAM.
    let strict = Cloud::start(Setup::new().project(project(7).key(off())).login(USER, ACCOUNT, "another"));
    // These two get no answer before the seven are done.
    let lost = Cloud::start(Setup::new().project(project(8).key(off())).fault(Rule::always(Fault::reset())));
    let hold = Hold::new();
    let late = Rule::always(Fault::held(&hold)).on(Operation::ReadStatus);
    let slow = Cloud::start(Setup::new().project(project(9).key(Key::new(KEY).rotating(90))).fault(late));

    let names: [&'static str; 10] = ["a", "b", "c", "d", "e", "f", "g", "wrong", "lost", "slow"];
    let policy = |n: usize| {
        let at =
            |url: &str, keys: Vec<String>| Policy { name: names[n], project_id: id(n), ..Policy::of_keys(url, keys) };
        match n {
            7 => at(strict.url(), vec![KEY.to_owned()]).with(BY_PASSWORD),
            8 => at(lost.url(), vec![KEY.to_owned()]),
            9 => at(slow.url(), vec![KEY.to_owned()]),
            n => at(cloud.url(), (0..5).map(|key| key_id(10 * n + key)).collect()).with(BY_PASSWORD),
        }
    };
    let site = site(&policy(0));
    let others: String = (1..10).map(|n| policy(n).project()).collect();
    site.write("policy.yaml", &(policy(0).text() + &others));

    let arguments = ["apply", "--policy", "policy.yaml", "--output", "json", "--log-format", "json"];
    let apply = Program::start(site.command(&arguments));
    eventually("the seven are on policy, though others are not answered", || {
        let keys = (0..7).flat_map(|n| cloud.keys(id(n)));
        keys.filter(|key| key.rotation.enabled && key.rotation.interval_days == 90).count() == 7 * 5
    });
    slow.await_requests(Operation::ReadStatus, 1);
    lost.clear_faults();
    lost.fault(Rule::always(Fault::kms(400, "KMS.0308")));
    hold.release();
    let applied = apply.finish();
    assert_eq!(applied.code, Some(1));
    let report = applied.report();
    assert_eq!((report.count("compliant"), report.count("unknown")), (7 * 5 + 1, 2), "{}", applied.stdout);
    let reasons = |at: usize| report.0["projects"][at]["keys"][0]["reasons"][0].as_str().unwrap().to_owned();
    assert_eq!((&*reasons(7), &*reasons(8)), ("authentication_failed", "read_failed"));
    assert_eq!(strict.all_requests(), 1);
}

#[test]
fn projects_of_one_access_key_share_its_request_budget() {
    let with_keys = |id: &str, name: &str| ProjectSetup::new(id, name).key(Key::new(KEY).rotating(90)).token(TOKEN);
    let third = "00112233445566778899aabbccddeeff";
    let cloud = Cloud::start(
        keyed([Key::new(KEY).rotating(90)]).project(with_keys(OTHER, "eu-de_team")).project(with_keys(third, "eu-nl")),
    );
    let first = Policy::of_one_key(cloud.url()).with(BY_VALUE);
    let second = Policy { name: "archive", project_id: OTHER, ..first.clone() };
    let by_token = Policy { name: "ledger", project_id: third, ..first.clone() }.with(BY_TOKEN);
    let site = site(&first);
    // One slot of the request limit is longer than this test.
    let text = first.text().replace("requests_per_second: 10000", "requests_per_second: 0.01");
    site.write("policy.yaml", &(text + &second.project() + &by_token.project()));
    site.write("token", TOKEN);
    let daemon = site.run();
    // The first slots, of the key and of the token.
    cloud.await_requests(Operation::ListKeys, 2);
    let ended = daemon.stop();
    assert_eq!((ended.code, cloud.all_requests()), (Some(0), 2));
}

#[test]
fn keys_of_a_project_with_an_ended_run_do_not_use_the_request_limit() {
    // At four requests a second they would wait longer than a test does.
    const KEYS: usize = 2_000;
    // The valid token expires after the list: one is requested, and more if the answer takes seconds.
    for (credentials, secret, most_reads) in
        [(BY_TOKEN, "not-it", 0), (BY_PASSWORD, "not it", 0), (BY_VALUE, "not it", 0), (BY_TOKEN, TOKEN, 10)]
    {
        let keys = || (0..KEYS).map(key_id);
        let ended = Rule::always(Fault::unauthorized()).on(Operation::ReadStatus);
        let cloud = Cloud::start(keyed(keys().map(Key::new)).fault(ended));
        let policy = Policy::of_keys(cloud.url(), keys()).with(credentials);
        let site = site(&policy);
        site.write("policy.yaml", &policy.text().replace("requests_per_second: 10000", "requests_per_second: 4"));
        for file in ["token", "password", "secret"] {
            site.write(file, secret);
        }
        let applied = site.apply();
        assert_eq!((applied.code, applied.report().count("unknown")), (Some(1), KEYS as u64), "{credentials}");
        assert_eq!(applied.stdout.matches("\"authentication_failed\"").count(), KEYS, "{credentials}");
        assert!(cloud.requests(Operation::ReadStatus) <= most_reads, "{credentials}");
    }
}
