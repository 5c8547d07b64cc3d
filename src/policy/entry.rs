//! Decodes one entry of `keys`: the keys that it matches, and its requirement. [`selector`](super::selector) decodes
//! `select`.

use std::sync::Arc;

use super::calendar::{InvalidDay, Zone};
use super::draft::{Draft, DraftSelector};
use super::selector::{DecodedSelect, LONGEST_ALIAS, SELECT};
use crate::rotation::key::{Bound, DesiredRotation, KeyId, Reapply, RotationInterval};
use crate::rotation::rule::{Exemption, LastDay, Matcher, Requirement, Rule};
use crate::yaml::decode::{Decoder, Field, Fields, optional};
use crate::yaml::schema::{Count, Exclusion, FieldKind, FieldSchema, Form, Schema, Text};
use crate::yaml::tree::Value;

pub(super) const ENTRY: Schema = Schema {
    one_of: &[&["key_id", "alias", "select"], &["rotation_interval", "max_rotation_interval", "exempt"]],
    exclusions: &[Exclusion { field: "reapply", other: "exempt", reason: "nothing is sent to an exempt key" }],
    ..Schema::of(
        "every entry of `keys`",
        &[
            FieldSchema::optional("key_id", FieldKind::Form(&KEY_ID), "matches this key"),
            FieldSchema::optional(
                "alias",
                FieldKind::Text(&ALIAS),
                "matches this key; if two keys have the name, neither is changed",
            ),
            FieldSchema::optional(
                "select",
                FieldKind::Mapping(&SELECT),
                "matches every key that meets all conditions; `{}` matches every key",
            ),
            FieldSchema::optional(
                "rotation_interval",
                FieldKind::Count(&DAYS),
                "rotation on, with exactly this interval",
            ),
            FieldSchema::optional(
                "max_rotation_interval",
                FieldKind::Count(&DAYS),
                "rotation on, with an interval from 30 days to this one; a key that differs is set to this one",
            ),
            FieldSchema::optional("exempt", FieldKind::Mapping(&EXEMPT), "no requirement, permanently or until a date"),
            FieldSchema::default(
                "reapply",
                FieldKind::Choice(|| REAPPLY.map(reapply_name).into()),
                "\"on_drift\"",
                "`always` sends the interval in every run, which restarts the cloud's rotation period",
            ),
        ],
    )
};

const EXEMPT: Schema = Schema::of(
    "`exempt`",
    &[
        FieldSchema::required("reason", FieldKind::Text(&REASON), "shown with the key"),
        FieldSchema::optional(
            "until",
            FieldKind::Form(&UNTIL),
            "in quotes, because some YAML readers turn it into a date; the day ends in the time zone of `schedule`; \
             default: no end",
        ),
    ],
);

const KEY_ID: Form = Form {
    what: "a key id: 36 characters 0-9 and a-z in groups of 8-4-4-4-12",
    pattern: "^[0-9a-z]{8}(-[0-9a-z]{4}){3}-[0-9a-z]{12}$",
    numeric: false,
};
const ALIAS: Text = Text { what: "the exact name of one key", longest: LONGEST_ALIAS };
const DAYS: Count =
    Count { least: RotationInterval::MIN_DAYS as u64, most: RotationInterval::MAX_DAYS as u64, of: "days" };
/// Shown in one line with the key: long enough for a sentence and a reference.
const REASON: Text = Text { what: "the reason for the exemption", longest: 500 };
const UNTIL: Form = Form {
    what: "the last day of the exemption, such as 2027-03-31",
    pattern: "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$",
    numeric: false,
};

const REAPPLY: [Reapply; 2] = [Reapply::OnDrift, Reapply::Always];

fn reapply_name(reapply: Reapply) -> &'static str {
    match reapply {
        Reapply::OnDrift => "on_drift",
        Reapply::Always => "always",
    }
}

impl Decoder<'_> {
    /// The entries of `keys`, if all of them are valid.
    pub(super) fn entries(&mut self, field: Field<'_>, zone: &Zone, draft: &mut Draft) -> Option<Vec<Rule>> {
        let items = self.items(field, "key");
        let mut entries = Vec::with_capacity(items.len());
        draft.key_ids.reserve_exact(items.len());
        for item in items {
            entries.extend(self.entry(Field { name: "an entry of `keys`", key: item.span, node: item }, zone, draft));
        }
        (!entries.is_empty() && entries.len() == items.len()).then_some(entries)
    }

    fn entry(&mut self, item: Field<'_>, zone: &Zone, draft: &mut Draft) -> Option<Rule> {
        let fields = self.fields(item, &ENTRY)?;
        let key = fields.get("key_id").map(|field| {
            let key_id = self.key_id(field)?;
            draft.key_ids.push((key_id, field.span()));
            Some(Matcher::Key(key_id))
        });
        let alias = fields.get("alias").map(|field| {
            let alias = self.alias(field)?;
            draft.aliases.push((alias.into(), field.span()));
            Some(Matcher::Alias(alias.into()))
        });
        let exemption = fields.get("exempt").map(|field| self.exempt(field, zone));
        let selection = fields.get("select").map(|field| {
            let DecodedSelect { selector, key_spec } = self.select(field)?;
            if let Some(key_spec) = key_spec.filter(|_| exemption.is_none()) {
                self.warn_of_key_spec(key_spec);
            }
            // A later entry with the same conditions applies once the exemption has ended.
            let ends = matches!(&exemption, Some(Some(Exemption { until: Some(_), .. })));
            draft.selectors.push(DraftSelector { selector: selector.clone(), span: field.key, ends });
            Some(Matcher::Select(Box::new(selector)))
        });
        let matcher = key.or(alias).or(selection);
        let requirement = match exemption {
            Some(exemption) => exemption.map(|exemption| Requirement::Exempt(Box::new(exemption))),
            None => self.rotation(&fields, draft).map(Requirement::Rotation),
        };
        Some(Rule { matcher: matcher??, requirement: requirement?, line: self.source.line(fields.span().start) })
    }

    fn key_id(&mut self, field: Field<'_>) -> Option<KeyId> {
        let text = self.text(field, KEY_ID.what)?;
        if let Ok(key_id) = text.parse() {
            return Some(key_id);
        }
        let lower = text.to_ascii_lowercase();
        let meant = lower.parse::<KeyId>().ok().or_else(|| grouped(&lower).and_then(|text| text.parse().ok()));
        let finding = self.mismatch(field, KEY_ID.what);
        if let Some(meant) = meant {
            finding.help(format!("did you mean `{meant}`?"));
        } else if text.contains(|c: char| !(c.is_ascii_hexdigit() || c == '-')) {
            finding.help("use `alias` for the name of a key");
        }
        None
    }

    fn alias<'n>(&mut self, field: Field<'n>) -> Option<&'n str> {
        let alias = self.name(field, &ALIAS)?;
        let help = if alias.parse::<KeyId>().is_ok() {
            "use `key_id` for the id of a key".to_owned()
        } else if alias.contains(['*', '?']) {
            format!("use `select: {{alias: \"{alias}\"}}` for a pattern")
        } else {
            return Some(alias);
        };
        self.mismatch(field, ALIAS.what).help(help);
        None
    }

    fn rotation(&mut self, fields: &Fields<'_>, draft: &mut Draft) -> Option<DesiredRotation> {
        let exact = fields.get("rotation_interval").map(|field| (self.interval(field), Bound::Exact));
        let longest = fields.get("max_rotation_interval").map(|field| (self.interval(field), Bound::Longest));
        let asked = exact.or(longest);
        let interval = asked.and_then(|(interval, _)| interval);
        let reapply = match fields.get("reapply") {
            Some(field) => {
                let reapply = self.choice(field, &REAPPLY, reapply_name);
                if let (Some(Reapply::Always), Some(interval)) = (reapply, interval) {
                    draft.always.push((interval, field.span()));
                }
                reapply
            }
            None => Some(Reapply::default()),
        };
        Some(DesiredRotation { interval: interval?, bound: asked?.1, reapply: reapply? })
    }

    fn interval(&mut self, field: Field<'_>) -> Option<RotationInterval> {
        let days = self.integer(field, &DAYS)?;
        RotationInterval::from_days(u16::try_from(days).ok()?)
    }

    fn exempt(&mut self, field: Field<'_>, zone: &Zone) -> Option<Exemption> {
        let Value::Mapping(_) = field.node.value else {
            self.mismatch(field, "a mapping with a `reason`").help("write `exempt: {reason: \"why\"}`");
            return None;
        };
        let fields = self.fields(field, &EXEMPT)?;
        let reason = fields.get("reason").and_then(|field| self.name(field, &REASON).map(Arc::from));
        let until = fields.get("until").map(|field| self.last_day(field, zone));
        Some(Exemption { reason: reason?, until: optional(until)? })
    }

    /// The last day of an exemption. An exemption that has ended is only a warning: a policy must not become invalid
    /// over time, because the daemon could not start with it.
    fn last_day(&mut self, field: Field<'_>, zone: &Zone) -> Option<LastDay> {
        let date = self.verbatim(field, UNTIL.what)?;
        match zone.end_of_day(&date) {
            Ok(ends) => {
                if ends <= self.now {
                    let message = format!("the exemption ended on {date}");
                    self.warning(field.span(), message).help("set a later day, or remove the entry");
                }
                Some(LastDay { date: date.into(), ends })
            }
            Err(InvalidDay::Impossible) => {
                let message = format!("`{}` is {date}, which does not exist, expected {}", field.name, UNTIL.what);
                self.error(field.span(), message);
                None
            }
            Err(InvalidDay::Malformed) => {
                self.mismatch(field, UNTIL.what);
                None
            }
        }
    }
}

/// The key id with the hyphens that `bare` lacks.
fn grouped(bare: &str) -> Option<String> {
    let hex = bare.len() == 32 && bare.bytes().all(|byte| byte.is_ascii_alphanumeric());
    hex.then(|| [&bare[..8], &bare[8..12], &bare[12..16], &bare[16..20], &bare[20..]].join("-"))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::policy;
    use crate::rotation::rule::{Glob, Selector, TagCondition};

    /// The rule of a policy with this entry and time zone.
    fn rule(entry: &str, timezone: &str) -> Rule {
        let text = format!(
            "schedule: {{timezone: {timezone}}}\nprojects:\n  - name: p\n    cloud: huawei-cloud\n    region: \
             eu-west-101\n    project_id: 0123456789abcdef0123456789abcdef\n    credentials: {{token_file: /t}}\n    \
             keys:\n      - {{{entry}}}\n"
        );
        match policy::read(text.as_bytes(), "p", |_| None, SystemTime::UNIX_EPOCH) {
            Ok((mut policy, warnings)) if warnings.is_empty() => policy.projects.remove(0).keys.remove(0),
            Ok((_, problems)) | Err(problems) => panic!("{problems}"),
        }
    }

    #[test]
    fn every_kind_of_entry_is_decoded() {
        let interval = |days| RotationInterval::from_days(days).unwrap();
        let exactly = |days| Requirement::Rotation(DesiredRotation::exactly(interval(days)));
        let key_id = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";
        let one = rule(&format!("key_id: {key_id}, rotation_interval: 90"), "UTC");
        assert_eq!(one, Rule { matcher: Matcher::Key(key_id.parse().unwrap()), requirement: exactly(90), line: 9 });
        let one = rule("alias: legacy/hsm, max_rotation_interval: 90, reapply: on_drift", "UTC");
        assert_eq!(one.matcher, Matcher::Alias("legacy/hsm".into()));
        let desired = DesiredRotation { interval: interval(90), bound: Bound::Longest, reapply: Reapply::OnDrift };
        assert_eq!(one.requirement, Requirement::Rotation(desired));
        assert_eq!(rule("select: {}, rotation_interval: 365", "UTC").matcher, Matcher::Select(Box::default()));
        let all = rule(
            "select: {alias: 'pay-*', tags: {pci: 'true', owner: '*', a: ''}, enterprise_project_id: 0, key_spec: SM4}, \
             rotation_interval: 30",
            "UTC",
        );
        let tag = |key: &str, value: Option<&str>| TagCondition { key: key.into(), value: value.map(Into::into) };
        let selector = Selector {
            alias: Some(Glob::new("pay-*")),
            tags: vec![tag("a", Some("")), tag("owner", None), tag("pci", Some("true"))],
            enterprise_project_id: Some("0".into()),
            key_spec: Some("SM4".into()),
        };
        assert_eq!(all.matcher, Matcher::Select(Box::new(selector)));
        let for_good = rule("select: {key_spec: RSA_2048}, exempt: {reason: 'signs, SEC-112'}", "UTC");
        let exemption = Exemption { reason: "signs, SEC-112".into(), until: None };
        assert_eq!(for_good.requirement, Requirement::Exempt(Box::new(exemption)));
    }

    #[test]
    fn the_last_day_of_an_exemption_ends_at_midnight_in_the_zone_of_the_schedule() {
        let ends = |date: &str, zone| {
            let rule = rule(&format!("alias: a, exempt: {{reason: b, until: {date}}}"), zone);
            let Requirement::Exempt(exemption) = rule.requirement else { panic!("{rule:?}") };
            let until = exemption.until.unwrap();
            assert_eq!(&*until.date, date);
            until.ends.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 3600
        };
        let april = 20_909 * 24;
        assert_eq!(ends("2027-03-31", "UTC"), april);
        assert_eq!(ends("2027-03-31", "Europe/Berlin"), april - 2, "summer time");
        assert_eq!(ends("2027-01-31", "Europe/Berlin"), april - 59 * 24 - 1, "winter time");
        assert_eq!(ends("2027-03-28", "Europe/Berlin") - ends("2027-03-27", "Europe/Berlin"), 23);
        assert_eq!(ends("2027-10-31", "Europe/Berlin") - ends("2027-10-30", "Europe/Berlin"), 25);
        // The clock went from 23:59:59 to 1:00 that night.
        assert_eq!(ends("2018-11-03", "America/Sao_Paulo"), 17_839 * 24 + 3);
        assert!(ends("9999-12-31", "UTC") > 8_000 * 365 * 24, "practically never");
    }

    #[test]
    fn only_32_characters_without_hyphens_are_grouped() {
        assert_eq!(
            grouped("0d0466b0e7274d9cb35df84bb474a37f").as_deref(),
            Some("0d0466b0-e727-4d9c-b35d-f84bb474a37f")
        );
        assert_eq!(grouped("0d0466b0e7274d9cb35df84bb474a37é"), None);
        assert_eq!(grouped(""), None);
    }
}
