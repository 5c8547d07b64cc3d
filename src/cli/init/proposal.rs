//! Which entries a policy for an account has, and which comments: a pure function of its keys today and of what
//! Terraform code asks for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::SystemTime;

use super::account::{Account, AccountKey, Today};
use super::code_match::MatchedKey;
use super::groups::{self, Common, Group};
use super::names;
use super::terraform::CodeRotation;
use crate::rotation::assignment::{Assignment, Assignments, Listing, assign_rules};
use crate::rotation::key::{Bound, DesiredRotation, KeyId, ListedKey, Reapply, RotationBlocker, RotationInterval};
use crate::rotation::rule::{Matcher, Requirement, Rule};

/// The entries of one project, and what is left to decide.
#[derive(Debug, Default)]
pub(super) struct Proposal {
    pub(super) entries: Vec<Entry>,
    /// Comments after the entries.
    pub(super) notes: Vec<String>,
}

/// An entry and the comments above it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) matcher: Matcher,
    pub(super) desired: DesiredRotation,
    pub(super) comments: Vec<String>,
}

/// What holds for all projects.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The longest interval of keys that nothing else is known of.
    pub(super) ceiling: RotationInterval,
    pub(super) max_changes_per_run: usize,
}

/// The entries for a project with these keys, some of which are in Terraform code.
pub(super) fn propose(account: &Account, code: &[MatchedKey], bounds: Bounds) -> Proposal {
    let Bounds { ceiling, max_changes_per_run } = bounds;
    let mut notes = account.doubts.clone();
    let known: HashMap<KeyId, &AccountKey> = account.keys.iter().map(|key| (key.listed.key_id, key)).collect();
    let exact = exact_entries(code, &known, &mut notes);
    let named: BTreeSet<_> = exact.iter().filter_map(|(matcher, ..)| key_id(matcher)).collect();
    let others: Vec<_> = account.keys.iter().filter(|key| !named.contains(&key.listed.key_id)).collect();
    let all_named = account.keys.iter().all(|key| key.is_exempt_by_kind() || key.listed.alias().is_some());
    if !all_named {
        notes.push("No entry selects keys by name, because the list shows no name of some keys.".to_owned());
    }
    let groups = groups::find(&others, all_named, ceiling);

    let except = if named.is_empty() { "" } else { ", except those with an entry below" };
    let at_most = |interval| DesiredRotation { interval, bound: Bound::Longest, reapply: Reapply::OnDrift };
    let mut entries = vec![entry(Matcher::Select(Box::default()), at_most(ceiling), String::new())];
    entries.extend(groups.into_iter().map(|Group { common, interval }| {
        let keys = match &common {
            Common::Tag(key, value) => format!("with the tag {key}={value}"),
            Common::Prefix(prefix) => format!("whose names begin with {prefix}"),
        };
        let comment = format!("All keys {keys} that can rotate do so every {interval}{except}.");
        entry(Matcher::Select(Box::new(common.selector())), at_most(interval), comment)
    }));
    entries.extend(
        exact
            .into_iter()
            .map(|(matcher, interval, comment)| entry(matcher, DesiredRotation::exactly(interval), comment)),
    );
    let changes = add_keys(&mut entries, account);
    if !account.is_read {
        entries[0].comments.push("Every other key of the project. The account was not read.".to_owned());
    }
    if changes > max_changes_per_run {
        let runs = changes.div_ceil(max_changes_per_run);
        notes.push(format!(
            "One run changes at most {max_changes_per_run} keys that selectors match (`guards.max_changes_per_run`): {changes} \
             changes take {runs} runs."
        ));
    }
    let can_rotate = |key: &MatchedKey| {
        !key_id(&key.matcher).is_some_and(|id| known.get(&id).is_some_and(|key| key.is_exempt_by_kind()))
    };
    notes.extend(code_notes(&code.iter().filter(|key| can_rotate(key)).collect::<Vec<_>>()));
    notes.extend(key_notes(account));
    Proposal { entries, notes }
}

fn entry(matcher: Matcher, desired: DesiredRotation, comment: String) -> Entry {
    let comments = [comment].into_iter().filter(|comment| !comment.is_empty()).collect();
    Entry { matcher, desired, comments }
}

fn key_id(matcher: &Matcher) -> Option<KeyId> {
    match matcher {
        Matcher::Key(key_id) => Some(*key_id),
        _ => None,
    }
}

/// The keys for which the code asks for an interval, each once.
fn exact_entries(
    code: &[MatchedKey],
    known: &HashMap<KeyId, &AccountKey>,
    notes: &mut Vec<String>,
) -> Vec<(Matcher, RotationInterval, String)> {
    let mut entries: Vec<(Matcher, RotationInterval, String)> = Vec::new();
    for MatchedKey { address, matcher, rotation } in code {
        let CodeRotation::Interval(interval) = *rotation else { continue };
        let key = key_id(matcher).and_then(|key_id| known.get(&key_id));
        let of = key.map(|key| format!(" ({})", names([key.name()]))).unwrap_or_default();
        if key.is_some_and(|key| key.is_exempt_by_kind()) {
            notes.push(format!("{address}{of} asks for a rotation every {interval}, and the key cannot rotate."));
        } else if entries.iter().any(|(other, ..)| other == matcher) {
            notes.push(format!("{address}{of} is the key of another resource too; its interval is {interval}."));
        } else {
            entries.push((matcher.clone(), interval, format!("{address}{of}: the code asks for {interval}.")));
        }
    }
    entries
}

/// Adds to each entry how many keys it decides for today, and what it would change. Returns the number of changes that
/// selectors bring.
fn add_keys(entries: &mut [Entry], account: &Account) -> usize {
    if !account.is_read {
        return 0;
    }
    let rules: Vec<_> = (0..)
        .zip(entries.iter())
        .map(|(line, Entry { matcher, desired, .. })| Rule {
            matcher: matcher.clone(),
            requirement: Requirement::Rotation(*desired),
            line,
        })
        .collect();
    let listed: Vec<ListedKey> = account.keys.iter().map(|key| key.listed.clone()).collect();
    let Assignments { all, .. } = assign_rules(&rules, Listing::Complete(&listed), SystemTime::UNIX_EPOCH);
    let deciding = |assignment: &Assignment<'_>| Some((assignment.subject.key_id()?, assignment.rule?.line as usize));
    let deciding: HashMap<_, _> = all.iter().filter_map(deciding).collect();
    let mut decided: Vec<Vec<&AccountKey>> = entries.iter().map(|_| Vec::new()).collect();
    for key in account.keys.iter().filter(|key| !key.is_exempt_by_kind()) {
        if let Some(entry) = deciding.get(&key.listed.key_id) {
            decided[*entry].push(key);
        }
    }
    let is_only = entries.len() == 1;
    let mut changes = 0;
    for (at, (entry, keys)) in entries.iter_mut().zip(&decided).enumerate() {
        let differing: Vec<_> = keys.iter().copied().filter(|key| is_changed(key, entry.desired)).collect();
        if let Matcher::Select(_) = entry.matcher {
            changes += differing.len();
        }
        if at == 0 {
            let which = if is_only { "Every key" } else { "Every key that no other entry matches" };
            entry.comments.push(format!("{which}: at most {}.", entry.desired.interval));
        }
        if let ([key], Matcher::Key(_)) = (&keys[..], &entry.matcher) {
            let change = match differing.len() {
                0 => String::new(),
                _ => format!(" If enforced, it is set to {}.", entry.desired.interval),
            };
            entry.comments.push(format!("Today: {}.{change}", setting(&key.today)));
        } else {
            entry.comments.push(format!("Today: {}.", summary(keys)));
            entry.comments.extend(change_comments(&differing, entry.desired));
        }
    }
    changes
}

/// Whether a run would change the key.
fn is_changed(key: &AccountKey, desired: DesiredRotation) -> bool {
    match key.today {
        Today::Off => true,
        // Without an interval nothing is written.
        Today::On(days) => days.is_some_and(|days| !desired.accepts(days)),
        Today::Blocked(_) | Today::Unread(_) => false,
    }
}

/// What an entry would change if it was enforced.
fn change_comments(changed: &[&AccountKey], desired: DesiredRotation) -> Vec<String> {
    let off = changed.iter().filter(|key| key.today == Today::Off);
    let differing = changed.iter().filter(|key| key.today != Today::Off);
    let [off, differing]: [Vec<_>; 2] =
        [off.map(|key| key.name()).collect(), differing.map(|key| key.name()).collect()];
    let mut comments = Vec::new();
    if !off.is_empty() {
        comments.push(format!("If enforced, it switches rotation on for {}: {}.", count(off.len()), names(off)));
    }
    if !differing.is_empty() {
        let (keys, interval) = (count(differing.len()), desired.interval);
        comments.push(format!("If enforced, it sets {interval} for {keys}: {}.", names(differing)));
    }
    comments
}

/// How many keys have which setting.
fn summary(keys: &[&AccountKey]) -> String {
    let mut settings: BTreeMap<(u8, u32), (String, usize)> = BTreeMap::new();
    for key in keys {
        let order = match key.today {
            Today::On(Some(days)) => (0, days),
            Today::On(None) => (1, 0),
            Today::Off => (2, 0),
            Today::Unread(_) => (3, 0),
            Today::Blocked(RotationBlocker::Disabled) => (4, 0),
            Today::Blocked(_) => (5, 0),
        };
        settings.entry(order).or_insert_with(|| (setting(&key.today), 0)).1 += 1;
    }
    let settings: Vec<_> = settings.values().map(|(setting, count)| format!("{setting}: {count}")).collect();
    match &settings[..] {
        [] => "no key".to_owned(),
        settings => format!("{} ({})", count(keys.len()), settings.join("; ")),
    }
}

fn setting(today: &Today) -> String {
    match today {
        Today::On(Some(days)) => format!("on, {days} days"),
        Today::On(None) => "on, unknown interval".to_owned(),
        Today::Off => "off".to_owned(),
        Today::Unread(_) => "not readable".to_owned(),
        Today::Blocked(RotationBlocker::Disabled) => "disabled".to_owned(),
        Today::Blocked(RotationBlocker::PendingDeletion) => "pending deletion".to_owned(),
        Today::Blocked(_) => "cannot rotate".to_owned(),
    }
}

fn count(keys: usize) -> String {
    if keys == 1 { "1 key".to_owned() } else { format!("{keys} keys") }
}

/// Comments on keys in the code that can rotate and have no entry of their own.
fn code_notes(code: &[&MatchedKey]) -> Vec<String> {
    let of = |wanted: fn(CodeRotation) -> bool| {
        let keys: Vec<_> = code.iter().filter(|key| wanted(key.rotation)).map(|key| &*key.address).collect();
        (!keys.is_empty()).then(|| names(keys))
    };
    let off = of(|rotation| rotation == CodeRotation::Off).map(|keys| {
        format!(
            "Decide: in the code rotation is off (`rotation_enabled = false`, also the default) for {keys}. If this policy is \
             enforced, it switches rotation on, and the next `terraform apply` switches it off again. Change the code, or exempt \
             the keys with a reason."
        )
    });
    let invalid = of(|rotation| matches!(rotation, CodeRotation::Invalid(_))).map(|keys| {
        format!("Decide: the code asks for an interval outside 30 to 365 days, which the cloud refuses: {keys}.")
    });
    let unset = of(|rotation| matches!(rotation, CodeRotation::On | CodeRotation::Unset))
        .map(|keys| format!("The code sets no interval for {keys}."));
    [off, invalid, unset].into_iter().flatten().collect()
}

/// Comments on keys that need a decision, and on keys that cannot rotate.
fn key_notes(account: &Account) -> Vec<String> {
    let of = |wanted: RotationBlocker| {
        let keys = account.keys.iter().filter(|key| key.today == Today::Blocked(wanted));
        let keys: Vec<_> = keys.map(AccountKey::name).collect();
        (!keys.is_empty()).then(|| (keys.len(), names(keys)))
    };
    let mut notes = Vec::new();
    let mut unread: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for key in &account.keys {
        if let Today::Unread(why) = &key.today {
            unread.entry(why).or_default().push(key.name());
        }
    }
    notes.extend(
        unread.into_iter().map(|(why, keys)| {
            format!("The rotation of {} cannot be read: {} ({why}).", count(keys.len()), names(keys))
        }),
    );
    if let Some((number, keys)) = of(RotationBlocker::Disabled) {
        let keys = format!("{}: {keys}", count(number));
        notes
            .push(format!("Decide: disabled, so rotation cannot be changed: {keys}. Enable, or exempt with a reason."));
    }
    if let Some((number, keys)) = of(RotationBlocker::PendingDeletion) {
        let keys = format!("{}: {keys}", count(number));
        notes.push(format!("Decide: pending deletion: {keys}. Cancel the deletion, or exempt with a reason."));
    }
    for (blocker, kind) in [
        (RotationBlocker::DefaultKey, "default keys"),
        (RotationBlocker::ImportedMaterial, "imported key material"),
        (RotationBlocker::UnsupportedKeyType, "asymmetric or HMAC"),
        (RotationBlocker::CustomKeystore, "in a custom keystore"),
        (RotationBlocker::ReplicaKey, "replicas"),
        (RotationBlocker::RotationUnsupported, "no rotation in this region"),
    ] {
        if let Some((number, keys)) = of(blocker) {
            notes.push(format!("Cannot rotate, so no exemption is needed ({kind}: {number}): {keys}."));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::super::tests::{account, days, key};
    use super::*;

    fn bounds() -> Bounds {
        Bounds { ceiling: days(365), max_changes_per_run: 2 }
    }

    fn in_code(key: &AccountKey, rotation: CodeRotation) -> MatchedKey {
        let address = format!("k.{}", key.name());
        MatchedKey { address, matcher: Matcher::Key(key.listed.key_id), rotation }
    }

    #[test]
    fn one_ceiling_covers_an_account_and_every_decision_is_a_comment() {
        let mut keys: Vec<_> = (0..8).map(|n| key(&format!("off{n}"), &[], Today::Off)).collect();
        keys.push(key("long", &[], Today::On(Some(400))));
        keys.push(key("strange", &[], Today::On(None)));
        keys.push(key("dark", &[], Today::Unread("read_status: HTTP 403".to_owned())));
        keys.push(key("sleeps", &[], Today::Blocked(RotationBlocker::Disabled)));
        keys.push(key("goes", &[], Today::Blocked(RotationBlocker::PendingDeletion)));
        keys.push(key("evs/default", &[], Today::Blocked(RotationBlocker::DefaultKey)));
        let Proposal { entries, notes } = propose(&account(keys), &[], bounds());
        let [ceiling] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!(
            ceiling.comments,
            [
                "Every key: at most 365 days.",
                "Today: 13 keys (on, 400 days: 1; on, unknown interval: 1; off: 8; not readable: 1; disabled: 1; pending \
                 deletion: 1).",
                "If enforced, it switches rotation on for 8 keys: off0, off1, off2, off3, off4 and 3 more.",
                "If enforced, it sets 365 days for 1 key: long.",
            ]
        );
        assert_eq!(
            notes,
            [
                "One run changes at most 2 keys that selectors match (`guards.max_changes_per_run`): 9 changes take 5 runs.",
                "The rotation of 1 key cannot be read: dark (read_status: HTTP 403).",
                "Decide: disabled, so rotation cannot be changed: 1 key: sleeps. Enable, or exempt with a reason.",
                "Decide: pending deletion: 1 key: goes. Cancel the deletion, or exempt with a reason.",
                "Cannot rotate, so no exemption is needed (default keys: 1): evs/default.",
            ]
        );
    }

    #[test]
    fn an_empty_account_has_the_ceiling() {
        let Proposal { entries, notes } = propose(&account(vec![]), &[], bounds());
        assert_eq!(entries[0].comments, ["Every key: at most 365 days.", "Today: no key."]);
        assert!(entries.len() == 1 && notes.is_empty());
        let Proposal { entries, .. } = propose(&Account::default(), &[], bounds());
        assert_eq!(entries[0].comments, ["Every other key of the project. The account was not read."]);
    }

    #[test]
    fn the_code_decides_for_its_keys_and_groups_are_made_of_the_others() {
        let at = |name: &str, days| key(name, &[], Today::On(Some(days)));
        let keys = [at("pay-a", 90), at("pay-b", 90), at("pay-c", 90), at("pay-d", 365), at("web", 365)];
        let default = key("evs/default", &[], Today::Blocked(RotationBlocker::DefaultKey));
        let code = [
            in_code(&keys[3], CodeRotation::Interval(days(60))),
            in_code(&keys[3], CodeRotation::Interval(days(90))),
            in_code(&default, CodeRotation::Interval(days(90))),
            in_code(&default, CodeRotation::Off),
            in_code(&keys[4], CodeRotation::Off),
            in_code(&keys[0], CodeRotation::Invalid(400)),
            in_code(&keys[1], CodeRotation::On),
        ];
        let all = [keys.to_vec(), vec![default]].concat();
        let Proposal { entries, notes } = propose(&account(all), &code, bounds());
        let [ceiling, group, exact] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!(ceiling.comments[1], "Today: 1 key (on, 365 days: 1).");
        assert_eq!(
            group.comments,
            [
                "All keys whose names begin with pay- that can rotate do so every 90 days, except those with an entry below.",
                "Today: 3 keys (on, 90 days: 3).",
            ]
        );
        assert_eq!((exact.desired, &exact.matcher), (DesiredRotation::exactly(days(60)), &code[0].matcher));
        assert_eq!(
            exact.comments,
            ["k.pay-d (pay-d): the code asks for 60 days.", "Today: on, 365 days. If enforced, it is set to 60 days.",]
        );
        assert_eq!(notes[0], "k.pay-d (pay-d) is the key of another resource too; its interval is 90 days.");
        assert_eq!(
            notes[1],
            "k.evs/default (evs/default) asks for a rotation every 90 days, and the key cannot rotate."
        );
        assert!(notes[2].starts_with("Decide: in the code rotation is off"), "{notes:?}");
        assert!(notes[2].contains(" for k.web. If"), "{notes:?}");
        assert!(
            notes[3].ends_with("which the cloud refuses: k.pay-a.") && notes[4].ends_with("for k.pay-b."),
            "{notes:?}"
        );
    }
}
