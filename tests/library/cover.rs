//! Which rule applies to which key: examples of each rule of precedence, and properties.

use std::time::{Duration, SystemTime};

use kms_rotationd::rotation::cover::{Case, Course, Listing, Subject, cover};
use kms_rotationd::rotation::decide::{Reason, Status};
use kms_rotationd::rotation::key::{
    DesiredRotation, Hindrance, KeyDescription, KeyId, ListedKey, RotationInterval, Tag,
};
use kms_rotationd::rotation::rule::{Asks, Exemption, Glob, LastDay, Match, Names, Rule, Selector, TagCondition};
use proptest::prelude::*;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn id(number: u32) -> KeyId {
    format!("0d0466b0-e727-4d9c-b35d-{number:012}").parse().unwrap()
}

fn key(number: u32, alias: &str) -> ListedKey {
    ListedKey {
        key_id: id(number),
        description: KeyDescription { alias: Some(alias.into()), hindrance: None },
        key_spec: Some("AES_256".into()),
        enterprise_project_id: Some("0".into()),
        tags: Vec::new(),
    }
}

fn tagged(mut key: ListedKey, tag: &str, value: &str) -> ListedKey {
    key.tags.push(Tag { key: tag.into(), value: value.into() });
    key
}

fn hindered(mut key: ListedKey, hindrance: Hindrance) -> ListedKey {
    key.description.hindrance = Some(hindrance);
    key
}

fn days(days: u16) -> Asks {
    Asks::Rotation(DesiredRotation::exactly(RotationInterval::from_days(days).unwrap()))
}

/// An exemption that ends after this number of days; in the past if negative.
fn exempt(days: i64) -> Asks {
    let length = Duration::from_secs(days.unsigned_abs() * 86_400);
    let ends = if days < 0 { NOW - length } else { NOW + length };
    Asks::Exempt(Box::new(Exemption { reason: "SEC-1".into(), until: Some(LastDay { date: "day".into(), ends }) }))
}

fn selector(alias: &str, tags: &[(&str, &str)]) -> Names {
    let condition = |(key, value): &(&str, &str)| TagCondition {
        key: (*key).into(),
        value: (*value != "*").then(|| (*value).into()),
    };
    Names::Select(Box::new(Selector {
        alias: (!alias.is_empty()).then(|| Glob::new(alias)),
        tags: tags.iter().map(condition).collect(),
        ..Selector::default()
    }))
}

fn rules(rules: impl IntoIterator<Item = (Names, Asks)>) -> Vec<Rule> {
    rules.into_iter().zip(1..).map(|((names, asks), line)| Rule { names, asks, line }).collect()
}

/// Each case as text: key, line of the rule, and result.
fn cases(rules: &[Rule], listing: Listing<'_>) -> Vec<String> {
    let said = |case: &Case<'_>| {
        let course = match case.course {
            Course::Observe(desired) => desired.interval.to_string(),
            Course::Settled(status, reasons) => format!("{status}: {reasons}"),
        };
        let line = case.rule.map_or_else(|| "-".to_owned(), |rule| rule.line.to_string());
        let subject = case.subject.as_str().rsplit_once("-0000000000").map_or(case.subject.as_str(), |(_, last)| last);
        format!("{subject} {line} {course}")
    };
    cover(rules, listing, NOW).cases.iter().map(said).collect()
}

#[test]
fn the_most_specific_rule_applies_and_the_earlier_one_if_equal() {
    let rules = rules([
        (selector("", &[]), days(365)),
        (selector("pay-*", &[]), days(180)),
        (selector("", &[("pci", "*")]), days(170)),
        (selector("pay-*", &[("pci", "true")]), days(90)),
        (Names::Alias("pay-cards".into()), days(60)),
        (Names::Key(id(6)), days(30)),
    ]);
    let pay = |number| key(number, "pay-x");
    let listed = [
        key(1, "web"),
        pay(2),
        tagged(key(3, "web"), "pci", "no"),
        tagged(pay(4), "pci", "true"),
        tagged(key(5, "pay-cards"), "pci", "true"),
        tagged(key(6, "pay-cash"), "pci", "true"),
        tagged(pay(7), "pci", "no"),
    ];
    let expected = [
        "01 1 365 days",
        "02 2 180 days",
        "07 2 180 days",
        "03 3 170 days",
        "04 4 90 days",
        "05 5 60 days",
        "06 6 30 days",
    ];
    assert_eq!(cases(&rules, Listing::Complete(&listed)), expected);
}

#[test]
fn unmatched_keys_are_uncovered_and_keys_that_cannot_rotate_are_exempt() {
    let rules = rules([(selector("pay-*", &[]), days(90))]);
    let listed = [
        key(1, "web"),
        hindered(key(2, "web"), Hindrance::UnsupportedKeyType),
        hindered(key(3, "web"), Hindrance::Disabled),
        hindered(key(4, "pay-1"), Hindrance::ImportedMaterial),
        hindered(key(5, "pay-2"), Hindrance::Disabled),
    ];
    let expected = [
        "04 1 exempt: imported_material",
        "05 1 non_compliant: key_disabled",
        "01 - uncovered: uncovered",
        "02 - exempt: unsupported_key_type",
        "03 - exempt: key_disabled",
    ];
    assert_eq!(cases(&rules, Listing::Complete(&listed)), expected);
}

#[test]
fn an_alias_must_match_exactly_one_key() {
    let rules = rules([
        (Names::Alias("twice".into()), days(90)),
        (Names::Alias("never".into()), days(90)),
        (selector("*", &[]), days(180)),
        (Names::Key(id(2)), days(30)),
    ]);
    let listed = [key(1, "twice"), key(2, "twice"), key(3, "once")];
    let expected =
        ["01 1 unknown: ambiguous_entry", "alias/never 2 unknown: not_found", "03 3 180 days", "02 4 30 days"];
    assert_eq!(cases(&rules, Listing::Complete(&listed)), expected);
}

#[test]
fn an_exemption_applies_until_its_day_and_then_the_next_rule_does() {
    let listed = [key(1, "a"), key(2, "b"), key(3, "c")];
    let rules = rules([
        (Names::Key(id(1)), exempt(32)),
        (Names::Alias("b".into()), exempt(31)),
        (Names::Key(id(3)), exempt(0)),
        (selector("", &[]), days(90)),
    ]);
    let expected = ["01 1 exempt: exempted", "02 2 exempt: exempted, exemption_ends_soon", "03 4 90 days"];
    assert_eq!(cases(&rules, Listing::Complete(&listed)), expected);
    // No other rule matches it.
    let alone = &rules[2..3];
    assert_eq!(cases(alone, Listing::Complete(&listed))[0], "01 - uncovered: uncovered");
    assert_eq!(cases(alone, Listing::None), ["03 - uncovered: uncovered"]);
    // Nor does the cloud have it; after a failed list that is unknown.
    assert_eq!(cases(alone, Listing::Complete(&listed[..2])).len(), 2);
    for known in [&listed[..0], &listed[2..]] {
        assert_eq!(cases(alone, Listing::Failed(Reason::ReadFailed, known)), ["03 - unknown: read_failed"]);
    }
}

#[test]
fn a_key_without_the_attribute_of_a_more_specific_rule_is_unknown() {
    let by_project =
        Names::Select(Box::new(Selector { enterprise_project_id: Some("1".into()), ..Selector::default() }));
    let by_spec = Names::Select(Box::new(Selector { key_spec: Some("SM4".into()), ..Selector::default() }));
    for (rule, attribute, forget) in [
        (Names::Alias("pay".into()), "alias", (|key| key.description.alias = None) as fn(&mut ListedKey)),
        (selector("pay-*", &[]), "alias", |key| key.description.alias = None),
        (by_project, "enterprise_project_id", |key| key.enterprise_project_id = None),
        (by_spec, "key_spec", |key| key.key_spec = None),
    ] {
        let rules = rules([(Names::Key(id(3)), days(30)), (rule, exempt(400)), (selector("", &[]), days(90))]);
        let mut listed = [key(1, "web"), key(2, "web"), key(3, "web"), hindered(key(4, "web"), Hindrance::DefaultKey)];
        listed[1..].iter_mut().for_each(forget);
        let cover = cover(&rules, Listing::Complete(&listed), NOW);
        let of = |number| cover.cases.iter().find(|case| case.subject == Subject::Key(id(number))).unwrap();
        assert_eq!(of(1).rule.map(|rule| rule.line), Some(3));
        assert_eq!(of(2).course, Course::Settled(Status::Unknown, Reason::ReadFailed.into()));
        let why = of(2).unsure.unwrap().to_string();
        assert!(
            why.contains(&format!("does not show the {attribute} of this key, which the entry on line 2")),
            "{why}"
        );
        assert_eq!(of(3).rule.map(|rule| rule.line), Some(1), "its id decides");
        assert_eq!(of(4).course, Course::Settled(Status::Exempt, Reason::DefaultKey.into()), "whatever decides");
        assert!(cover.idle.is_empty(), "{attribute}");
    }
    // Less specific rules than the matching one have no effect.
    let rules = rules([(selector("*", &[]), days(60)), (selector("", &[]), days(90))]);
    let mut nameless = [key(1, "web")];
    nameless[0].description.alias = None;
    assert_eq!(cases(&rules, Listing::Complete(&nameless)), ["01 1 60 days"]);
}

#[test]
fn a_missing_key_or_tag_on_a_doubtful_list_proves_nothing() {
    let rules = rules([
        (Names::Alias("elsewhere".into()), days(90)),
        (selector("x-*", &[]), days(30)),
        (selector("", &[("legacy", "true")]), exempt(400)),
        (selector("web-*", &[]), days(60)),
        (Names::Key(id(9)), exempt(400)),
    ]);
    let listed = [key(1, "web-1"), tagged(key(2, "web-2"), "legacy", "true"), key(3, "db")];
    let unsure_tags = ["legacy".into()];
    let doubtful = |may_lack_keys, unsure_tags| Listing::Doubtful { keys: &listed, may_lack_keys, unsure_tags };
    let expected = [
        "alias/elsewhere 1 unknown: read_failed",
        "entry@2 2 unknown: read_failed",
        "02 3 exempt: exempted",
        "01 4 60 days",
        "09 5 exempt: exempted",
        "03 - uncovered: uncovered",
    ];
    assert_eq!(cases(&rules, doubtful(true, &[])), expected);
    // The list is complete, and one of the keys may have the tag.
    let expected = [
        "alias/elsewhere 1 unknown: not_found",
        "01 - unknown: read_failed",
        "02 3 exempt: exempted",
        "03 - unknown: read_failed",
        "09 5 unknown: not_found",
    ];
    assert_eq!(cases(&rules, doubtful(false, &unsure_tags)), expected);
    assert_eq!(cover(&rules, doubtful(false, &unsure_tags), NOW).idle.len(), 1, "only of x-* it is known");
    assert!(cover(&rules, doubtful(true, &[]), NOW).idle.is_empty());
}

#[test]
fn a_failed_list_makes_every_key_unknown_except_entries_by_id() {
    let rules = rules([
        (selector("pay-*", &[]), days(90)),
        (selector("new-*", &[]), days(90)),
        (Names::Alias("web".into()), days(90)),
        (Names::Key(id(4)), days(30)),
        (Names::Key(id(5)), exempt(90)),
    ]);
    let once_disabled = hindered(key(4, "pay-4"), Hindrance::Disabled);
    let known = [key(1, "pay-1"), key(2, "web"), key(3, "free"), once_disabled];
    let expected = [
        "01 1 unknown: read_failed",
        "entry@2 2 unknown: read_failed",
        "02 3 unknown: read_failed",
        "04 4 30 days",
        "05 5 exempt: exempted",
        "03 - unknown: read_failed",
    ];
    assert_eq!(cases(&rules, Listing::Failed(Reason::ReadFailed, &known)), expected);
    let expected = [
        "entry@1 1 unknown: throttled",
        "entry@2 2 unknown: throttled",
        "alias/web 3 unknown: throttled",
        "04 4 30 days",
        "05 5 exempt: exempted",
    ];
    assert_eq!(cases(&rules, Listing::Failed(Reason::Throttled, &[])), expected);
}

#[test]
fn selectors_on_one_line_are_distinguished() {
    let mut rules = rules([(selector("a-*", &[]), days(90)), (selector("b-*", &[]), days(90))]);
    rules[1].line = 1;
    let expected = ["entry@1 1 unknown: read_failed", "entry@1.2 1 unknown: read_failed"];
    assert_eq!(cases(&rules, Listing::Failed(Reason::ReadFailed, &[])), expected);
}

#[test]
fn a_selector_without_keys_is_idle_and_an_overridden_one_is_not() {
    let rules = rules([
        (selector("pay-*", &[]), days(90)),
        (selector("pay-*", &[("pci", "*")]), days(90)),
        (selector("old-*", &[]), exempt(-1)),
        (Names::Key(id(1)), days(30)),
    ]);
    let listed = [key(1, "pay-1")];
    let lines = |listing| cover(&rules, listing, NOW).idle.iter().map(|rule| rule.line).collect::<Vec<_>>();
    assert_eq!(lines(Listing::Complete(&listed)), [2]);
    assert_eq!(lines(Listing::Failed(Reason::ReadFailed, &listed)), [] as [u32; 0]);
}

fn any_rules() -> impl Strategy<Value = Vec<Rule>> {
    let alias = prop_oneof![Just("a*"), Just("*b"), Just("*"), Just("ab"), Just("")];
    let tags = prop::collection::vec((prop_oneof![Just("t"), Just("u")], prop_oneof![Just("1"), Just("*")]), 0..3);
    let names = prop_oneof![
        (0..6u32).prop_map(|number| Names::Key(id(number))),
        prop_oneof![Just("ab"), Just("b")].prop_map(|alias| Names::Alias(alias.into())),
        (alias, tags).prop_map(|(alias, tags)| selector(alias, &tags)),
    ];
    let asks = prop_oneof![2 => (30..=365u16).prop_map(days), 1 => (-40..40i64).prop_map(exempt)];
    prop::collection::vec((names, asks), 1..8).prop_map(|mut entries| {
        // A policy has at most one entry for a key.
        let mut earlier = Vec::new();
        entries.retain(|(names, _)| {
            let again = !matches!(names, Names::Select(_)) && earlier.contains(names);
            earlier.push(names.clone());
            !again
        });
        rules(entries)
    })
}

fn any_listing() -> impl Strategy<Value = Vec<ListedKey>> {
    let alias = prop_oneof![Just("a"), Just("b"), Just("ab"), Just("abb"), Just("c")];
    let tags = prop::collection::vec((prop_oneof![Just("t"), Just("u")], prop_oneof![Just("1"), Just("2")]), 0..3);
    let listed = (alias, tags, prop::option::weighted(0.2, Just(Hindrance::DefaultKey)));
    prop::collection::vec(listed, 0..6).prop_map(|keys| {
        let keyed = keys.into_iter().zip(0..).map(|((alias, tags, hindrance), number)| {
            let key = tags.into_iter().fold(key(number, alias), |key, (tag, value)| tagged(key, tag, value));
            hindrance.map_or_else(|| key.clone(), |hindrance| hindered(key.clone(), hindrance))
        });
        keyed.collect()
    })
}

/// How specific a rule is for a key, as documented; `None` if it does not match.
fn specificity(rule: &Rule, key: &ListedKey) -> Option<(u8, usize)> {
    match &rule.names {
        _ if rule.has_ended(NOW) => None,
        Names::Key(named) => (*named == key.key_id).then_some((2, 0)),
        Names::Alias(alias) => (key.alias() == Some(&**alias)).then_some((1, 0)),
        Names::Select(selector) => (selector.matches(key, &[]) == Match::Yes).then(|| (0, selector.conditions())),
    }
}

proptest! {
    #![proptest_config(super::properties::config())]

    #[test]
    fn every_key_gets_one_most_specific_rule(rules in any_rules(), keys in any_listing()) {
        let cover = cover(&rules, Listing::Complete(&keys), NOW);
        for key in &keys {
            let cases: Vec<_> = cover.cases.iter().filter(|case| case.subject == Subject::Key(key.key_id)).collect();
            prop_assert_eq!(cases.len(), 1);
            let best = rules.iter().filter_map(|rule| Some((specificity(rule, key)?, rule)));
            // Of equal ones max_by_key returns the last; from the end that is the first.
            let best = best.rev().max_by_key(|(specificity, _)| *specificity).map(|(_, rule)| rule.line);
            prop_assert_eq!(cases[0].rule.map(|rule| rule.line), best);
        }
    }

    #[test]
    fn only_rules_that_require_rotation_read_a_key(rules in any_rules(), keys in any_listing(), failed in any::<bool>()) {
        let listing =
            if failed { Listing::Failed(Reason::ReadFailed, &keys) } else { Listing::Complete(&keys) };
        for case in cover(&rules, listing, NOW).cases {
            let asked = match case.rule.map(|rule| &rule.asks) {
                Some(Asks::Rotation(desired)) => Some(*desired),
                _ => None,
            };
            if let Course::Observe(desired) = case.course {
                prop_assert_eq!(asked, Some(desired));
                prop_assert!(!failed || matches!(case.rule.unwrap().names, Names::Key(_)));
            }
        }
    }

    #[test]
    fn a_failed_list_leaves_no_key_compliant(rules in any_rules(), keys in any_listing()) {
        let cover = cover(&rules, Listing::Failed(Reason::ReadFailed, &keys), NOW);
        for case in &cover.cases {
            if let Course::Settled(status, _) = case.course {
                let by_id = case.rule.is_some_and(|rule| matches!(rule.names, Names::Key(_)));
                prop_assert!(status == Status::Unknown || by_id, "{case:?}");
            }
        }
        let needs = rules.iter().any(|rule| rule.needs_listing() && !rule.has_ended(NOW));
        prop_assert!(!needs || !cover.cases.is_empty());
    }
}
