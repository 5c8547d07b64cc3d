//! Policies for a whole account: selectors, exemptions, coverage and guards, with lists that change and fail.

use std::time::SystemTime;

use kms_simulator::seed::{self, Kind};
use kms_simulator::{
    BadListing, Dialect, Fault, Garbage, Hold, Key, KeyState, Operation, OperationSet, ProjectSetup, Rule, Setup,
};
use rustix::process::Signal;

use super::cloud::{Cloud, off, rotating, setup};
use super::program::{Finished, Program};
use super::site::{Policy, Site};
use super::stand_in::{Asked, StandIn, answer};
use super::{KEY, PROJECT, TOKEN, key_id};

pub(crate) const EVERY_KEY: &str = "{select: {}, rotation_interval: 90}";

/// Keys by their aliases, with rotation off.
fn named<'a>(aliases: impl IntoIterator<Item = &'a str>) -> Vec<Key> {
    aliases.into_iter().enumerate().map(|(at, alias)| Key::new(key_id(at)).alias(alias)).collect()
}

fn apply_many(site: &Site) -> Finished {
    let arguments = ["apply", "--allow-many", "--policy", "policy.yaml", "--output", "json", "--log-format", "json"];
    Program::start(site.command(&arguments)).finish()
}

#[test]
fn a_policy_of_ten_lines_is_applied_to_5_000_keys_with_the_fewest_requests() {
    let (project, census) = seed::account(PROJECT, "eu-de", Dialect::Huawei, 5_000, SystemTime::now());
    let cloud = Cloud::start(Setup::new().project(project.token(TOKEN)));
    let policy = Policy { concurrency: 32, cloud: "huawei-cloud", region: "eu-west-101", ..Policy::at(cloud.url()) }
        .entry("{select: {}, rotation_interval: 90}")
        .entry("{select: {tags: {pci: 'true'}}, rotation_interval: 90}");
    let site = Site::new(&policy);
    let applied = apply_many(&site);
    let report = applied.report();
    let (of, stuck) = (|kind| census.of(kind) as u64, census.of(Kind::Disabled) + census.of(Kind::PendingDeletion));
    assert_eq!(report.count("compliant"), census.rotatable() as u64, "{}", applied.stderr);
    assert_eq!(report.count("non_compliant"), stuck as u64);
    assert_eq!(report.count("exempt"), 5_000 - report.count("compliant") - stuck as u64);
    assert_eq!(applied.code, Some(1), "for the keys that are disabled or to be deleted");
    for key in report.keys() {
        let line = key["entry_line"].as_u64().unwrap();
        assert!(line > 0 && (key["status"] == "compliant" || key["reasons"][0].is_string()), "{key}");
    }
    // Three pages, one page of a search by tag, and for each key that could rotate one read, and one more after its
    // writes.
    let changed = of(Kind::DefaultInterval) + of(Kind::OtherInterval);
    assert_eq!(cloud.requests(Operation::ListKeys), 3);
    assert_eq!(cloud.requests(Operation::QueryByTag), 1);
    assert_eq!(cloud.requests(Operation::EnableRotation), of(Kind::Off));
    assert_eq!(cloud.requests(Operation::UpdateInterval), of(Kind::Off) + changed);
    let could_rotate = census.rotatable() as u64 + stuck as u64;
    let looks = could_rotate + of(Kind::Off) + changed;
    assert_eq!(cloud.requests(Operation::ReadStatus), looks);
    assert_eq!(cloud.all_requests(), 4 + looks + cloud.write_requests());
    cloud.assert_only_sent(90);
    // Without drift, one read each.
    cloud.forget_requests();
    assert_eq!(site.apply().report().count("compliant"), census.rotatable() as u64);
    assert_eq!(cloud.all_requests(), 4 + could_rotate);
}

#[test]
fn tags_and_names_select_and_the_most_specific_entry_decides() {
    let cloud = Cloud::of([
        Key::new(key_id(0)).alias("pay-cards").tag("pci", "true"),
        Key::new(key_id(1)).alias("pay-cash").tag("pci", "false"),
        Key::new(key_id(2)).alias("pay-gold").spec("SM4"),
        Key::new(key_id(3)).alias("web").tag("pci", "true").enterprise_project("5a1f6c1e-7d3b-4b52-9c58-0c2f4f1d9a01"),
        Key::new(key_id(4)).alias("pay-old").rotating(45),
    ]);
    let policy = Policy { cloud: "huawei-cloud", region: "eu-west-101", ..Policy::at(cloud.url()) }
        .entry("{select: {alias: 'pay-*'}, max_rotation_interval: 180}")
        .entry("{select: {alias: 'pay-*', tags: {pci: '*'}}, rotation_interval: 120}")
        .entry("{select: {tags: {pci: 'true'}, alias: 'pay-*'}, rotation_interval: 365}")
        .entry("{select: {key_spec: SM4, alias: 'pay-*'}, rotation_interval: 60}")
        .entry("{select: {enterprise_project_id: 5a1f6c1e-7d3b-4b52-9c58-0c2f4f1d9a01}, rotation_interval: 90}")
        .entry("{alias: pay-cash, rotation_interval: 30}");
    let applied = Site::new(&policy).apply();
    assert_eq!((applied.code, applied.report().count("compliant")), (Some(0), 5), "{applied:#?}");
    let intervals: Vec<_> = (0..5).map(|number| cloud.rotation(&key_id(number)).1).collect();
    assert_eq!(intervals, [120, 30, 60, 90, 45]);
}

#[test]
fn a_maximum_interval_is_written_only_to_keys_with_a_longer_one() {
    let at = |number, days| Key::new(key_id(number)).rotating(days);
    let cloud = Cloud::of([at(0, 30), at(1, 90), at(2, 91), Key::new(key_id(3))]);
    let site = Site::new(&Policy::at(cloud.url()).entry("{select: {}, max_rotation_interval: 90}"));
    let planned = site.once("plan");
    assert_eq!((planned.code, &*planned.key(&key_id(2))), (Some(3), "non_compliant: interval_too_long"));
    assert_eq!(site.apply().report().count("compliant"), 4);
    let intervals: Vec<_> = (0..4).map(|number| cloud.rotation(&key_id(number)).1).collect();
    assert_eq!(intervals, [30, 90, 90, 90]);
    assert_eq!(cloud.write_requests(), 3);
}

#[test]
fn an_alias_without_exactly_one_key_is_reported_and_nothing_is_written() {
    let cloud = Cloud::of(named(["twice", "twice", "once"]));
    let policy = Policy::at(cloud.url())
        .entry("{alias: twice, rotation_interval: 90}")
        .entry("{alias: never, rotation_interval: 90}")
        .entry("{alias: once, rotation_interval: 90}")
        .key(&key_id(9), 90);
    let applied = Site::new(&policy).apply();
    assert_eq!(applied.code, Some(1));
    let status = [key_id(0), key_id(1), "alias/never".to_owned(), key_id(2), key_id(9)].map(|id| applied.key(&id));
    let ambiguous = "unknown: ambiguous_entry";
    assert_eq!(status, [ambiguous, ambiguous, "unknown: not_found", "compliant", "unknown: not_found"]);
    assert_eq!((cloud.rotation(&key_id(0)), cloud.rotation(&key_id(1))), ((false, 0), (false, 0)));
}

#[test]
fn an_exempted_key_is_not_written_until_its_last_day_is_over() {
    let cloud = Cloud::of(named(["a", "b", "c"]));
    let in_a_week = jiff::Zoned::now().date().saturating_add(jiff::Span::new().days(7));
    let policy = Policy::at(cloud.url())
        .entry("{alias: a, exempt: {reason: 'retired, SEC-112'}}")
        .entry(&format!("{{alias: b, exempt: {{reason: soon, until: {in_a_week}}}}}"))
        .entry("{alias: c, exempt: {reason: was, until: 2024-02-29}}")
        .entry(EVERY_KEY);
    let applied = Site::new(&policy).apply();
    let status = [0, 1, 2].map(|number| applied.key(&key_id(number)));
    assert_eq!(status, ["exempt: exempted", "exempt: exempted, exemption_ends_soon", "compliant"]);
    assert_eq!((applied.code, cloud.write_requests()), (Some(0), 2));
    // The others are read for the inventory, once.
    let reads = [0, 1, 2].map(|number| cloud.key_requests(PROJECT, &key_id(number), Operation::ReadStatus));
    assert_eq!(reads, [1, 1, 2]);
    let exemption = applied.report().keys().next().unwrap()["exemption"].clone();
    assert_eq!(exemption["reason"], "retired, SEC-112");
}

#[test]
fn uncovered_keys_are_shown_and_fail_the_run_if_coverage_is_required() {
    let cloud = Cloud::of([off(), Key::new(key_id(1)), Key::new(key_id(2)).spec("RSA_2048")]);
    let policy = Policy::of_one_key(cloud.url());
    let reported = Site::new(&policy.clone()).apply();
    assert_eq!((reported.code, &*reported.key(&key_id(1))), (Some(0), "uncovered: uncovered"));
    assert_eq!(reported.key(&key_id(2)), "exempt: unsupported_key_type");
    let required = policy.field("coverage: required");
    let site = Site::new(&required);
    let failed = site.apply();
    assert_eq!((failed.code, failed.report().count("uncovered"), failed.report().count("compliant")), (Some(1), 1, 1));
    let reads = [1, 2].map(|number| cloud.key_requests(PROJECT, &key_id(number), Operation::ReadStatus));
    assert_eq!(reads, [2, 0], "at each start the key that could rotate, and never the other one");
    let daemon = site.run();
    daemon.await_runs(1);
    let keys = |status: &str| daemon.metric(&format!("kms_rotation_keys{{project=\"payments\",status=\"{status}\"}}"));
    assert_eq!([keys("uncovered"), keys("compliant"), keys("exempt")], [Some(1.0); 3]);
    assert_eq!(daemon.metric("kms_rotation_runs_total{result=\"failure\",trigger=\"start\"}"), Some(1.0));
}

#[test]
fn keys_created_and_deleted_between_runs_are_noticed() {
    let cloud = Cloud::of(named(["pay-1"]));
    let site = Site::new(&Policy::at(cloud.url()).entry("{select: {alias: 'pay-*'}, rotation_interval: 90}"));
    let daemon = site.run();
    daemon.await_runs(1);
    cloud.set_key(PROJECT, Key::new(key_id(1)).alias("pay-2"));
    cloud.remove_key(PROJECT, &key_id(0));
    daemon.signal(Signal::HUP);
    daemon.await_runs(2);
    assert_eq!(daemon.status().key(&key_id(1)), "compliant");
    let (_, metrics) = daemon.get("/metrics");
    assert!(metrics.contains(&key_id(1)) && !metrics.contains(&key_id(0)));
}

#[test]
fn a_failed_listing_makes_every_key_unknown_and_writes_none() {
    let faults = [
        Fault::html(502),
        Fault::kms(500, "KMS.0100"),
        Fault::kms(403, "KMS.0307"),
        Fault::gateway(404, "APIGW.0101"),
        Fault::throttled(),
        Fault::cut_off(),
        Fault::reset(),
        Fault::garbage(Garbage::NotJson),
        Fault::garbage(Garbage::WrongShape),
        Fault::garbage(Garbage::Empty),
    ];
    let misleading = [BadListing::Empty, BadListing::NoDetails, BadListing::Endless].map(Fault::listing);
    for fault in faults.into_iter().chain(misleading) {
        let cloud = Cloud::of(named(["a", "b", "c"]));
        let policy = Policy { max_elapsed: "100ms", ..Policy::at(cloud.url()).entry(EVERY_KEY) };
        let site = Site::new(&policy);
        let strike = Rule::always(fault.clone()).on(Operation::ListKeys);
        cloud.fault(strike.clone());
        // The keys are unknown, but the result is not "0 keys, success".
        let first = site.apply();
        assert_eq!((first.code, first.report().count("unknown")), (Some(1), 1), "{fault:?} {first:#?}");
        assert_ne!(first.report().error(), "", "{fault:?}");
        assert_eq!(site.once("plan").code, Some(1), "{fault:?}");
        cloud.clear_faults();
        let daemon = site.run();
        daemon.await_runs(1);
        assert_eq!(daemon.status().count("compliant"), 3);
        let written = cloud.write_requests();
        cloud.change_key(PROJECT, &key_id(0), |key| key.rotation.enabled = false);
        cloud.fault(strike);
        daemon.signal(Signal::HUP);
        daemon.await_runs(2);
        assert_eq!((daemon.status().count("unknown"), daemon.status().keys().count()), (3, 3), "{fault:?}");
        assert_eq!(cloud.write_requests(), written, "{fault:?}");
    }
}

#[test]
fn a_failed_search_by_tag_makes_every_key_unknown() {
    let cloud = Cloud::start(
        setup(named(["a", "b"])).fault(Rule::always(Fault::kms(400, "KMS.0401")).on(Operation::QueryByTag)),
    );
    let policy =
        Policy::at(cloud.url()).entry("{select: {tags: {pci: 'true'}}, rotation_interval: 90}").entry(EVERY_KEY);
    let applied = Site::new(&policy).apply();
    assert_eq!((applied.code, applied.report().count("unknown"), cloud.write_requests()), (Some(1), 2, 0));
}

#[test]
fn without_permission_to_list_keys_entries_by_id_still_work() {
    let listless = || setup([off()]).behave(|behaviour| behaviour.forbidden = Operation::ListKeys.into());
    let cloud = Cloud::start(listless());
    let applied = Site::new(&Policy::of_one_key(cloud.url())).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(0), "compliant"));
    // But then uncovered keys cannot be detected.
    let applied = Site::new(&Policy::of_one_key(cloud.url()).field("coverage: required")).apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "compliant"));
    assert!(applied.report().error().contains("403"), "{}", applied.report().error());
}

#[test]
fn monitor_mode_never_sends_a_write_with_any_policy_and_fault() {
    let policies: [&[&str]; 3] = [
        &[EVERY_KEY],
        &["{select: {}, max_rotation_interval: 30, reapply: always}"],
        &["{alias: a, rotation_interval: 30, reapply: always}", "{select: {tags: {x: '*'}}, rotation_interval: 60}"],
    ];
    let faults = [
        None,
        Some(Rule::rate(0.3, [Fault::html(502)]).on(OperationSet::READS)),
        Some(Rule::always(Fault::kms(403, "KMS.0307")).on(Operation::ReadStatus)),
        Some(Rule::always(Fault::gateway(404, "APIGW.0101")).on(Operation::ReadStatus)),
        Some(Rule::always(Fault::garbage(Garbage::Empty)).on(Operation::ReadStatus)),
        Some(Rule::always(Fault::throttled()).on(Operation::ListKeys)),
    ];
    for entries in policies {
        for fault in &faults {
            let keys =
                [named(["a", "b"]), vec![rotating(365).alias("c"), Key::new(key_id(7)).rotating(30).tag("x", "1")]];
            let cloud = Cloud::start(fault.iter().cloned().fold(setup(keys.concat()), Setup::fault));
            let policy = Policy { mode: "monitor", max_elapsed: "200ms", ..Policy::at(cloud.url()) };
            let policy = entries.iter().fold(policy, |policy, entry| policy.entry(entry));
            let site = Site::new(&policy);
            site.apply();
            apply_many(&site);
            let daemon = site.run();
            daemon.await_runs(1);
            daemon.signal(Signal::HUP);
            daemon.await_runs(2);
            assert_eq!(cloud.write_requests(), 0, "{entries:?} {fault:?}");
        }
    }
}

#[test]
fn a_file_can_be_monitored_as_a_whole() {
    let cloud = Cloud::of(named(["a", "b"]));
    let policy = Policy { mode: "monitor", ..Policy::at(cloud.url()).entry(EVERY_KEY) };
    let site = Site::new(&policy);
    let whole = policy.text().replace("  mode: monitor\n", "");
    site.write("policy.yaml", &format!("mode: monitor\n{whole}"));
    let applied = apply_many(&site);
    assert_eq!((applied.code, applied.report().count("non_compliant"), cloud.write_requests()), (Some(1), 2, 0));
    site.write("policy.yaml", &whole);
    assert_eq!((site.apply().code, cloud.write_requests()), (Some(0), 4));
}

#[test]
fn a_run_changes_at_most_the_limit_of_selected_keys() {
    let cloud = Cloud::of((0..12).map(|number| Key::new(key_id(number))));
    let policy = Policy { guards: "{max_changes_per_run: 5}", ..Policy::at(cloud.url()) }
        .entry(EVERY_KEY)
        .key(&key_id(0), 90)
        .key(&key_id(1), 90);
    let site = Site::new(&policy);
    let planned = site.once("plan");
    assert_eq!((planned.code, cloud.write_requests()), (Some(3), 0));
    let held = |report: &super::program::Report| {
        report.keys().filter(|key| key["reasons"].as_array().unwrap().contains(&"change_limit".into())).count()
    };
    assert_eq!(held(&planned.report()), 5);
    let first = site.apply();
    // The two entries by id do not count.
    assert_eq!((first.code, first.report().count("compliant"), held(&first.report())), (Some(1), 7, 5));
    assert!(first.report().keys().all(|key| key["status"] == "compliant" || key["reasons"][0] == "rotation_disabled"));
    let many = apply_many(&site);
    assert_eq!((many.code, many.report().count("compliant")), (Some(0), 12));
    cloud.assert_only_sent(90);
}

#[test]
fn a_flapping_key_is_not_written_until_an_operator_acts() {
    let cloud = Cloud::of([rotating(90)]);
    let policy = Policy { guards: "{flap_repairs: 3, flap_window: 24h}", ..Policy::of_one_key(cloud.url()) };
    let site = Site::new(&policy.every_second());
    let daemon = site.run();
    daemon.await_runs(1);
    for repaired in 1..=3 {
        cloud.change_key(PROJECT, KEY, |key| key.rotation.interval_days = 365);
        super::eventually("repaired", || cloud.sent(KEY).len() == repaired);
    }
    super::eventually("compliant", || daemon.status().key(KEY) == "compliant");
    cloud.change_key(PROJECT, KEY, |key| key.rotation.interval_days = 365);
    super::eventually("left alone", || daemon.status().key(KEY) == "non_compliant: interval_mismatch, flapping");
    let seen = daemon.runs();
    daemon.await_runs(seen + 2);
    assert_eq!(cloud.sent(KEY).len(), 3);
    daemon.signal(Signal::HUP);
    super::eventually("repaired again", || daemon.status().key(KEY) == "compliant");
    assert_eq!(cloud.sent(KEY).len(), 4);
}

#[test]
fn a_key_with_a_new_name_or_state_gets_another_entry() {
    let cloud = Cloud::of(named(["pay-1"]));
    let policy = Policy::at(cloud.url())
        .entry("{select: {alias: 'pay-*'}, rotation_interval: 90}")
        .entry("{select: {}, rotation_interval: 180}");
    let site = Site::new(&policy);
    site.apply();
    cloud.change_key(PROJECT, &key_id(0), |key| key.alias = "web-1".into());
    assert_eq!(site.apply().key(&key_id(0)), "compliant");
    assert_eq!(cloud.rotation(&key_id(0)), (true, 180));
    cloud.change_key(PROJECT, &key_id(0), |key| key.state = KeyState::PendingDeletion);
    assert_eq!(site.apply().key(&key_id(0)), "non_compliant: pending_deletion");
}

#[test]
fn a_key_deleted_while_it_is_read_is_not_found() {
    let hold = Hold::new();
    let rule = Rule::next(1, Fault::held(&hold)).on(Operation::ReadStatus);
    let cloud = Cloud::start(setup([off()]).fault(rule));
    let site = Site::new(&Policy::at(cloud.url()).entry(EVERY_KEY));
    let daemon = site.run();
    cloud.await_requests(Operation::ReadStatus, 1);
    cloud.remove_key(PROJECT, KEY);
    hold.release();
    daemon.await_runs(1);
    assert_eq!(daemon.status().key(KEY), "unknown: not_found");
}

#[test]
fn a_key_state_of_an_earlier_list_is_not_used_without_a_new_list() {
    let keys = [Key::new(key_id(0)).alias("a").state(KeyState::Disabled), Key::new(key_id(1)).alias("b").rotating(90)];
    let cloud = Cloud::of(keys);
    let policy = Policy::at(cloud.url()).entry(EVERY_KEY).key(&key_id(0), 90).key(&key_id(1), 90);
    let site = Site::new(&policy);
    let daemon = site.run();
    daemon.await_runs(1);
    assert_eq!(daemon.status().key(&key_id(0)), "non_compliant: key_disabled");
    cloud.fault(Rule::always(Fault::kms(403, "KMS.0307")).on(Operation::ListKeys));
    cloud.change_key(PROJECT, &key_id(0), |key| key.state = KeyState::Enabled);
    cloud.change_key(PROJECT, &key_id(1), |key| {
        key.state = KeyState::Disabled;
        key.rotation.enabled = false;
    });
    let written = cloud.write_requests();
    daemon.signal(Signal::HUP);
    daemon.await_runs(2);
    let status = daemon.status();
    assert_eq!([0, 1].map(|at| status.key(&key_id(at))), ["compliant", "non_compliant: key_disabled"]);
    assert_eq!(cloud.write_requests(), written + 2, "and none to the key that is disabled now");
    assert!(daemon.get("/metrics").1.contains(r#"alias="b""#), "the name is still known");
}

/// A cloud with these lists; all keys are off.
fn lists(keys: &'static str, tagged: impl Fn(&Asked) -> String + Send + Sync + 'static) -> StandIn {
    StandIn::start(move |asked| match asked.call() {
        "list-keys" => answer("200 OK", "", keys),
        "action" => answer("200 OK", "", &tagged(asked)),
        _ => answer("200 OK", "", r#"{"key_rotation_enabled":"false"}"#),
    })
}

#[test]
fn an_empty_list_with_a_positive_total_is_not_trusted() {
    for (total, code, unknown) in [("5", 1, 1), (r#""5""#, 1, 1), ("0", 0, 0), ("null", 0, 0)] {
        let list = format!(r#"{{"keys":[],"key_details":[],"next_marker":"","truncated":"false","total":{total}}}"#);
        let cloud = lists(list.leak(), |_| String::new());
        let planned = Site::new(&Policy::at(&cloud.url()).entry(EVERY_KEY)).once("plan");
        assert_eq!((planned.code, planned.report().count("unknown")), (Some(code), unknown), "{total}");
    }
}

#[test]
fn keys_on_a_doubtful_list_are_handled_and_missing_ones_prove_nothing() {
    for bad in [BadListing::SameMarker, BadListing::SameKeys, BadListing::NoMarker, BadListing::LargerTotal] {
        let doubtful = || setup(named(["a", "b"])).fault(Rule::always(Fault::listing(bad)).on(Operation::ListKeys));
        let cloud = Cloud::start(doubtful());
        let policy = Policy::at(cloud.url())
            .entry(EVERY_KEY)
            .entry("{alias: elsewhere, rotation_interval: 90}")
            .entry("{select: {alias: 'x-*'}, rotation_interval: 30}");
        let applied = Site::new(&policy).apply();
        assert_eq!((applied.code, applied.report().count("compliant")), (Some(1), 2), "{bad:?}");
        assert_eq!(applied.key("alias/elsewhere"), "unknown: read_failed", "{bad:?}");
        assert_eq!(applied.report().count("unknown"), 2, "the selector that matches nothing is one: {bad:?}");
        assert!(applied.report().error().contains("list of keys: "), "{}", applied.report().error());
        let governed = |coverage: &str| {
            let cloud = Cloud::start(doubtful());
            let policy = Policy::at(cloud.url()).field(&format!("coverage: {coverage}")).entry(EVERY_KEY);
            let applied = Site::new(&policy).apply();
            assert_eq!(applied.report().count("compliant"), 2, "{bad:?}");
            applied.code
        };
        assert_eq!((governed("reported"), governed("required")), (Some(0), Some(1)), "{bad:?}");
    }
}

#[test]
fn a_key_with_uncertain_tags_is_not_written_by_a_less_specific_entry() {
    let larger = Rule::always(Fault::listing(BadListing::LargerTotal)).on(Operation::QueryByTag);
    let keys = [Key::new(key_id(0)).tag("legacy", "true"), Key::new(key_id(1)), Key::new(key_id(2))];
    let cloud = Cloud::start(setup(keys).fault(larger));
    let policy = Policy::at(cloud.url())
        .entry("{select: {tags: {legacy: 'true'}}, exempt: {reason: retired}}")
        .entry(EVERY_KEY)
        .key(&key_id(2), 90);
    let applied = Site::new(&policy).apply();
    let said = [0, 1, 2].map(|number| applied.key(&key_id(number)));
    assert_eq!(said, ["exempt: exempted", "unknown: read_failed", "compliant"]);
    let error = applied.report().key_error(&key_id(1));
    assert!(error.contains("does not show the tag legacy of this key"), "{error}");
    assert!(applied.report().error().contains("search for the tag legacy: "), "{}", applied.report().error());
    assert_eq!(cloud.rotation(&key_id(1)), (false, 0));
}

#[test]
fn unreadable_keys_do_not_count_for_the_limit_once_they_are_set() {
    let keys = (0..12).map(|number| Key::new(key_id(number)));
    let cloud = Cloud::start(setup(keys).behave(|cloud| cloud.unknown = Operation::ReadStatus.into()));
    let policy = Policy { guards: "{max_changes_per_run: 5}", ..Policy::at(cloud.url()).entry(EVERY_KEY) };
    let site = Site::new(&policy);
    let daemon = site.run();
    for (run, set) in [(1, 5), (2, 10), (3, 12)] {
        daemon.await_runs(run);
        let on = (0..12).filter(|number| cloud.rotation(&key_id(*number)) == (true, 90)).count();
        assert_eq!(on, set, "after run {run}");
        daemon.signal(Signal::HUP);
    }
}

#[test]
fn a_key_without_the_attribute_of_a_more_specific_entry_is_not_written_by_the_next_one() {
    let project = ProjectSetup::new(PROJECT, "eu-de").keys(named(["a"])).token(TOKEN);
    let cloud = Cloud::start(Setup::new().project(project.dialect(Dialect::OpenTelekomCloud)));
    let policy = Policy::at(cloud.url())
        .entry("{select: {enterprise_project_id: 0}, exempt: {reason: theirs}}")
        .entry(EVERY_KEY)
        .key(&key_id(7), 90);
    let applied = Site::new(&policy).apply();
    assert_eq!((&*applied.key(&key_id(0)), &*applied.key(&key_id(7))), ("unknown: read_failed", "unknown: not_found"));
    let error = applied.report().key_error(&key_id(0));
    assert!(error.contains("enterprise_project_id of this key, which the entry on line"), "{error}");
    assert_eq!((applied.code, cloud.write_requests()), (Some(1), 0));
    assert_eq!(Site::new(&policy.key(&key_id(0), 90)).apply().key(&key_id(0)), "compliant", "by its id it is decided");
}

#[test]
fn keys_of_an_earlier_project_with_the_same_name_are_forgotten() {
    let cloud = Cloud::of(named(["before"]));
    let policy = Policy::at(cloud.url()).entry(EVERY_KEY);
    let site = Site::new(&policy);
    let daemon = site.run();
    daemon.await_runs(1);
    cloud.fault(Rule::always(Fault::kms(403, "KMS.0307")).on(Operation::ListKeys));
    site.write("policy.yaml", &policy.text().replace(PROJECT, "fedcba9876543210fedcba9876543210"));
    daemon.await_runs(2);
    let status = daemon.status();
    assert_eq!((status.count("unknown"), status.keys().count()), (1, 1));
    assert!(!daemon.get("/metrics").1.contains(&key_id(0)), "no key of the other project");
}
