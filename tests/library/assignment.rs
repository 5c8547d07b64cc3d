//! Which rule decides for which key: examples of each rule of precedence, and properties over all of them.

use std::time::{Duration, SystemTime};

use kms_rotationd::rotation::assignment::{Action, Assignment, Listing, Subject, assign_rules};
use kms_rotationd::rotation::decide::{Reason, Status};
use kms_rotationd::rotation::key::{
    DesiredRotation, KeyDescription, KeyId, ListedKey, RotationBlocker, RotationInterval, Tag,
};
use kms_rotationd::rotation::rule::{
    Exemption, Glob, LastDay, Match, Matcher, Requirement, Rule, Selector, TagCondition,
};
use proptest::prelude::*;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn id(number: u32) -> KeyId {
    format!("0d0466b0-e727-4d9c-b35d-{number:012}").parse().unwrap()
}

fn key(number: u32, alias: &str) -> ListedKey {
    ListedKey {
        key_id: id(number),
        description: KeyDescription { alias: Some(alias.into()), ..KeyDescription::default() },
        key_spec: Some("AES_256".into()),
        enterprise_project_id: Some("0".into()),
        tags: Vec::new(),
    }
}

fn tagged(mut key: ListedKey, tag: &str, value: &str) -> ListedKey {
    key.tags.push(Tag { key: tag.into(), value: value.into() });
    key
}

fn blocked(mut key: ListedKey, blocker: RotationBlocker) -> ListedKey {
    key.description.blocker = Some(blocker);
    key
}

fn days(days: u16) -> Requirement {
    Requirement::Rotation(DesiredRotation::exactly(RotationInterval::from_days(days).unwrap()))
}

/// An exemption that ends this number of days from now; in the past where negative.
fn exempt(days: i64) -> Requirement {
    let length = Duration::from_secs(days.unsigned_abs() * 86_400);
    let ends = if days < 0 { NOW - length } else { NOW + length };
    Requirement::Exempt(Box::new(Exemption {
        reason: "SEC-1".into(),
        until: Some(LastDay { date: "day".into(), ends }),
    }))
}

fn selector(alias: &str, tags: &[(&str, &str)]) -> Matcher {
    let condition = |(key, value): &(&str, &str)| TagCondition {
        key: (*key).into(),
        value: (*value != "*").then(|| (*value).into()),
    };
    Matcher::Select(Box::new(Selector {
        alias: (!alias.is_empty()).then(|| Glob::new(alias)),
        tags: tags.iter().map(condition).collect(),
        ..Selector::default()
    }))
}

fn rules(rules: impl IntoIterator<Item = (Matcher, Requirement)>) -> Vec<Rule> {
    rules.into_iter().zip(1..).map(|((matcher, requirement), line)| Rule { matcher, requirement, line }).collect()
}

/// Each assignment as text: its key, the line that decides, and what follows.
fn assignments(rules: &[Rule], listing: Listing<'_>) -> Vec<String> {
    let shown = |assignment: &Assignment<'_>| {
        let action = match assignment.action {
            Action::Observe(desired) => desired.interval.to_string(),
            Action::Skip(status, reasons) => format!("{status}: {reasons}"),
        };
        let line = assignment.rule.map_or_else(|| "-".to_owned(), |rule| rule.line.to_string());
        let subject = assignment
            .subject
            .as_str()
            .rsplit_once("-0000000000")
            .map_or(assignment.subject.as_str(), |(_, last)| last);
        format!("{subject} {line} {action}")
    };
    assign_rules(rules, listing, NOW).all.iter().map(shown).collect()
}

#[test]
fn the_most_specific_rule_decides_and_then_the_earliest() {
    let rules = rules([
        (selector("", &[]), days(365)),
        (selector("pay-*", &[]), days(180)),
        (selector("", &[("pci", "*")]), days(170)),
        (selector("pay-*", &[("pci", "true")]), days(90)),
        (Matcher::Alias("pay-cards".into()), days(60)),
        (Matcher::Key(id(6)), days(30)),
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
    assert_eq!(assignments(&rules, Listing::Complete(&listed)), expected);
}

#[test]
fn a_key_without_a_rule_is_uncovered_and_a_key_that_cannot_rotate_is_exempt_with_or_without_a_rule() {
    let rules = rules([(selector("pay-*", &[]), days(90))]);
    let listed = [
        key(1, "web"),
        blocked(key(2, "web"), RotationBlocker::UnsupportedKeyType),
        blocked(key(3, "web"), RotationBlocker::Disabled),
        blocked(key(4, "pay-1"), RotationBlocker::ImportedMaterial),
        blocked(key(5, "pay-2"), RotationBlocker::Disabled),
    ];
    let expected = [
        "04 1 exempt: imported_material",
        "05 1 non_compliant: key_disabled",
        "01 - uncovered: uncovered",
        "02 - exempt: unsupported_key_type",
        "03 - exempt: key_disabled",
    ];
    assert_eq!(assignments(&rules, Listing::Complete(&listed)), expected);
}

#[test]
fn an_alias_must_name_one_key() {
    let rules = rules([
        (Matcher::Alias("twice".into()), days(90)),
        (Matcher::Alias("never".into()), days(90)),
        (selector("*", &[]), days(180)),
        (Matcher::Key(id(2)), days(30)),
    ]);
    let listed = [key(1, "twice"), key(2, "twice"), key(3, "once")];
    let expected =
        ["01 1 unknown: ambiguous_entry", "alias/never 2 unknown: not_found", "03 3 180 days", "02 4 30 days"];
    assert_eq!(assignments(&rules, Listing::Complete(&listed)), expected);
}

#[test]
fn an_exemption_applies_through_its_last_day_and_then_the_next_rule() {
    let listed = [key(1, "a"), key(2, "b"), key(3, "c")];
    let rules = rules([
        (Matcher::Key(id(1)), exempt(32)),
        (Matcher::Alias("b".into()), exempt(31)),
        (Matcher::Key(id(3)), exempt(0)),
        (selector("", &[]), days(90)),
    ]);
    let expected = ["01 1 exempt: exempted", "02 2 exempt: exempted, exemption_ends_soon", "03 4 90 days"];
    assert_eq!(assignments(&rules, Listing::Complete(&listed)), expected);
    // No other rule matches it.
    let alone = &rules[2..3];
    assert_eq!(assignments(alone, Listing::Complete(&listed))[0], "01 - uncovered: uncovered");
    assert_eq!(assignments(alone, Listing::None), ["03 - uncovered: uncovered"]);
    // A complete list shows that the key is gone; a failed list does not show whether it is.
    assert_eq!(assignments(alone, Listing::Complete(&listed[..2])).len(), 2);
    for known in [&listed[..0], &listed[2..]] {
        assert_eq!(assignments(alone, Listing::Failed(Reason::ReadFailed, known)), ["03 - unknown: read_failed"]);
    }
}

#[test]
fn a_key_without_the_attribute_of_a_more_specific_rule_is_decided_by_no_rule() {
    let by_project =
        Matcher::Select(Box::new(Selector { enterprise_project_id: Some("1".into()), ..Selector::default() }));
    let by_spec = Matcher::Select(Box::new(Selector { key_spec: Some("SM4".into()), ..Selector::default() }));
    for (rule, attribute, forget) in [
        (Matcher::Alias("pay".into()), "alias", (|key| key.description.alias = None) as fn(&mut ListedKey)),
        (selector("pay-*", &[]), "alias", |key| key.description.alias = None),
        (by_project, "enterprise_project_id", |key| key.enterprise_project_id = None),
        (by_spec, "key_spec", |key| key.key_spec = None),
    ] {
        let rules = rules([(Matcher::Key(id(3)), days(30)), (rule, exempt(400)), (selector("", &[]), days(90))]);
        let mut listed =
            [key(1, "web"), key(2, "web"), key(3, "web"), blocked(key(4, "web"), RotationBlocker::DefaultKey)];
        listed[1..].iter_mut().for_each(forget);
        let assigned = assign_rules(&rules, Listing::Complete(&listed), NOW);
        let of =
            |number| assigned.all.iter().find(|assignment| assignment.subject == Subject::Key(id(number))).unwrap();
        assert_eq!(of(1).rule.map(|rule| rule.line), Some(3));
        assert_eq!(of(2).action, Action::Skip(Status::Unknown, Reason::ReadFailed.into()));
        let why = of(2).unsure.unwrap().to_string();
        assert!(
            why.contains(&format!("does not show the {attribute} of this key, which the entry on line 2")),
            "{why}"
        );
        assert_eq!(of(3).rule.map(|rule| rule.line), Some(1), "its id decides");
        assert_eq!(of(4).action, Action::Skip(Status::Exempt, Reason::DefaultKey.into()), "under every rule");
        assert!(assigned.idle.is_empty(), "{attribute}");
    }
    // What is less specific than the rule that matches does not matter.
    let rules = rules([(selector("*", &[]), days(60)), (selector("", &[]), days(90))]);
    let mut nameless = [key(1, "web")];
    nameless[0].description.alias = None;
    assert_eq!(assignments(&rules, Listing::Complete(&nameless)), ["01 1 60 days"]);
}

#[test]
fn the_absence_of_a_key_or_tag_on_a_doubtful_list_means_nothing() {
    let rules = rules([
        (Matcher::Alias("elsewhere".into()), days(90)),
        (selector("x-*", &[]), days(30)),
        (selector("", &[("legacy", "true")]), exempt(400)),
        (selector("web-*", &[]), days(60)),
        (Matcher::Key(id(9)), exempt(400)),
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
    assert_eq!(assignments(&rules, doubtful(true, &[])), expected);
    // All keys are there, and one of them may have the tag.
    let expected = [
        "alias/elsewhere 1 unknown: not_found",
        "01 - unknown: read_failed",
        "02 3 exempt: exempted",
        "03 - unknown: read_failed",
        "09 5 unknown: not_found",
    ];
    assert_eq!(assignments(&rules, doubtful(false, &unsure_tags)), expected);
    assert_eq!(assign_rules(&rules, doubtful(false, &unsure_tags), NOW).idle.len(), 1, "only of x-* it is known");
    assert!(assign_rules(&rules, doubtful(true, &[]), NOW).idle.is_empty());
}

#[test]
fn a_failed_list_makes_every_key_unknown_that_no_entry_names_by_its_id() {
    let rules = rules([
        (selector("pay-*", &[]), days(90)),
        (selector("new-*", &[]), days(90)),
        (Matcher::Alias("web".into()), days(90)),
        (Matcher::Key(id(4)), days(30)),
        (Matcher::Key(id(5)), exempt(90)),
    ]);
    let once_disabled = blocked(key(4, "pay-4"), RotationBlocker::Disabled);
    let known = [key(1, "pay-1"), key(2, "web"), key(3, "free"), once_disabled];
    let expected = [
        "01 1 unknown: read_failed",
        "entry@2 2 unknown: read_failed",
        "02 3 unknown: read_failed",
        "04 4 30 days",
        "05 5 exempt: exempted",
        "03 - unknown: read_failed",
    ];
    assert_eq!(assignments(&rules, Listing::Failed(Reason::ReadFailed, &known)), expected);
    let expected = [
        "entry@1 1 unknown: throttled",
        "entry@2 2 unknown: throttled",
        "alias/web 3 unknown: throttled",
        "04 4 30 days",
        "05 5 exempt: exempted",
    ];
    assert_eq!(assignments(&rules, Listing::Failed(Reason::Throttled, &[])), expected);
}

#[test]
fn selectors_on_one_line_have_different_names() {
    let mut rules = rules([(selector("a-*", &[]), days(90)), (selector("b-*", &[]), days(90))]);
    rules[1].line = 1;
    let expected = ["entry@1 1 unknown: read_failed", "entry@1.2 1 unknown: read_failed"];
    assert_eq!(assignments(&rules, Listing::Failed(Reason::ReadFailed, &[])), expected);
}

#[test]
fn a_selector_without_matching_keys_is_idle_and_one_that_never_decides_is_not() {
    let rules = rules([
        (selector("pay-*", &[]), days(90)),
        (selector("pay-*", &[("pci", "*")]), days(90)),
        (selector("old-*", &[]), exempt(-1)),
        (Matcher::Key(id(1)), days(30)),
    ]);
    let listed = [key(1, "pay-1")];
    let lines = |listing| assign_rules(&rules, listing, NOW).idle.iter().map(|rule| rule.line).collect::<Vec<_>>();
    assert_eq!(lines(Listing::Complete(&listed)), [2]);
    assert_eq!(lines(Listing::Failed(Reason::ReadFailed, &listed)), [] as [u32; 0]);
}

fn any_rules() -> impl Strategy<Value = Vec<Rule>> {
    let alias = prop_oneof![Just("a*"), Just("*b"), Just("*"), Just("ab"), Just("")];
    let tags = prop::collection::vec((prop_oneof![Just("t"), Just("u")], prop_oneof![Just("1"), Just("*")]), 0..3);
    let matcher = prop_oneof![
        (0..6u32).prop_map(|number| Matcher::Key(id(number))),
        prop_oneof![Just("ab"), Just("b")].prop_map(|alias| Matcher::Alias(alias.into())),
        (alias, tags).prop_map(|(alias, tags)| selector(alias, &tags)),
    ];
    let requirement = prop_oneof![2 => (30..=365u16).prop_map(days), 1 => (-40..40i64).prop_map(exempt)];
    prop::collection::vec((matcher, requirement), 1..8).prop_map(|mut entries| {
        // A policy names a key once.
        let mut earlier = Vec::new();
        entries.retain(|(matcher, _)| {
            let again = !matches!(matcher, Matcher::Select(_)) && earlier.contains(matcher);
            earlier.push(matcher.clone());
            !again
        });
        rules(entries)
    })
}

fn any_listing() -> impl Strategy<Value = Vec<ListedKey>> {
    let alias = prop_oneof![Just("a"), Just("b"), Just("ab"), Just("abb"), Just("c")];
    let tags = prop::collection::vec((prop_oneof![Just("t"), Just("u")], prop_oneof![Just("1"), Just("2")]), 0..3);
    let listed = (alias, tags, prop::option::weighted(0.2, Just(RotationBlocker::DefaultKey)));
    prop::collection::vec(listed, 0..6).prop_map(|keys| {
        let keyed = keys.into_iter().zip(0..).map(|((alias, tags, blocker), number)| {
            let key = tags.into_iter().fold(key(number, alias), |key, (tag, value)| tagged(key, tag, value));
            blocker.map_or_else(|| key.clone(), |blocker| blocked(key.clone(), blocker))
        });
        keyed.collect()
    })
}

/// How specific a rule is for a key, by the documented precedence; nothing where it does not match.
fn specificity(rule: &Rule, key: &ListedKey) -> Option<(u8, usize)> {
    match &rule.matcher {
        _ if rule.has_ended(NOW) => None,
        Matcher::Key(named) => (*named == key.key_id).then_some((2, 0)),
        Matcher::Alias(alias) => (key.alias() == Some(&**alias)).then_some((1, 0)),
        Matcher::Select(selector) => (selector.matches(key, &[]) == Match::Yes).then(|| (0, selector.conditions())),
    }
}

proptest! {
    #![proptest_config(super::properties::config())]

    #[test]
    fn every_key_is_assigned_once_to_the_most_specific_rule(rules in any_rules(), keys in any_listing()) {
        let assigned = assign_rules(&rules, Listing::Complete(&keys), NOW);
        for key in &keys {
            let is_of_key = |assignment: &&Assignment<'_>| assignment.subject == Subject::Key(key.key_id);
            let of_key: Vec<_> = assigned.all.iter().filter(is_of_key).collect();
            prop_assert_eq!(of_key.len(), 1);
            let best = rules.iter().filter_map(|rule| Some((specificity(rule, key)?, rule)));
            // The last of the greatest, looked at from the end, is the first.
            let best = best.rev().max_by_key(|(specificity, _)| *specificity).map(|(_, rule)| rule.line);
            prop_assert_eq!(of_key[0].rule.map(|rule| rule.line), best);
        }
    }

    #[test]
    fn only_a_rule_that_requires_rotation_has_a_key_read(
        rules in any_rules(),
        keys in any_listing(),
        failed in any::<bool>(),
    ) {
        let listing =
            if failed { Listing::Failed(Reason::ReadFailed, &keys) } else { Listing::Complete(&keys) };
        for assignment in assign_rules(&rules, listing, NOW).all {
            let required = match assignment.rule.map(|rule| &rule.requirement) {
                Some(Requirement::Rotation(desired)) => Some(*desired),
                _ => None,
            };
            if let Action::Observe(desired) = assignment.action {
                prop_assert_eq!(required, Some(desired));
                prop_assert!(!failed || matches!(assignment.rule.unwrap().matcher, Matcher::Key(_)));
            }
        }
    }

    #[test]
    fn a_failed_list_leaves_no_key_compliant(rules in any_rules(), keys in any_listing()) {
        let assigned = assign_rules(&rules, Listing::Failed(Reason::ReadFailed, &keys), NOW);
        for assignment in &assigned.all {
            if let Action::Skip(status, _) = assignment.action {
                let by_id = assignment.rule.is_some_and(|rule| matches!(rule.matcher, Matcher::Key(_)));
                prop_assert!(status == Status::Unknown || by_id, "{assignment:?}");
            }
        }
        let needs = rules.iter().any(|rule| rule.needs_listing() && !rule.has_ended(NOW));
        prop_assert!(!needs || !assigned.all.is_empty());
    }
}
