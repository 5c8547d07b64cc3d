//! The open questions of docs/kms-api.md 9, and what the answers of one account say about them.
//!
//! A test compares the questions with those of the document. The daemon's assumptions are there, not here.

use std::collections::BTreeSet;

use serde_json::Value;

use super::compare::{LONGEST, fields};
use super::exchange::{Exchange, Outcome, Situation};
use crate::kms::single_call::{RawAnswer, SingleCall};
use crate::rotation::key::{KeyId, Rotation};
use crate::rotation::project::Cloud;
use crate::support::printable::excerpt;
use crate::views::wording::count;

/// A question, and its answer; or why this account did not answer it.
pub(super) struct Question {
    pub(super) question: &'static str,
    pub(super) answer: Result<String, String>,
}

/// Where the answers come from.
pub(super) struct Source<'a> {
    pub(super) exchanges: &'a [Exchange],
    pub(super) key_id: KeyId,
    pub(super) cloud: Cloud,
    pub(super) region: &'a str,
    /// Neither the policy nor the environment has the project's id, so IAM was asked for it.
    pub(super) looked_up_project: bool,
}

/// Every open question.
pub(super) fn questions(source: &Source<'_>) -> Vec<Question> {
    let bill = || Err("only the bill shows it".to_owned());
    let over_time = |what: &str| Err(format!("only {what} over months show it"));
    let all = [
        ("Does an update with the same interval restart the period?", source.same_interval()),
        ("When does the period start, and what is the next date?", over_time("rotations")),
        ("What does the status call return for a key that never rotated?", source.never_rotated()),
        ("Is there a maximum number of versions?", over_time("many rotations")),
        ("What does a rotation cost?", bill()),
        ("Does the gateway send `Retry-After` with APIGW.0308?", source.retry_after()),
        ("Which rate limit do the rotation calls have?", Err("probe does not try to reach it".to_owned())),
        ("Does the status call succeed for keys that cannot rotate?", source.unrotatable()),
        ("Does enabling reset an interval that was chosen before?", source.enabling()),
        ("Do OTC and Flexible Engine accept the plain form of the signature (`Access=`)?", source.signature()),
        ("Does IAM accept a signed call without X-Domain-Id?", source.lookup()),
        ("Does eu-ch2 have rotation calls?", source.eu_ch2()),
        (
            "Which size has a page of `list-keys` without `limit`, and is a `limit` of 2000 accepted everywhere?",
            source.pages(),
        ),
        ("Is a `sequence` of 32 characters accepted?", source.short_sequence()),
        ("Do management calls count as billed requests?", bill()),
    ];
    all.map(|(question, answer)| Question { question, answer }).into()
}

/// The end of a call, in words.
fn accepted(answer: &RawAnswer) -> String {
    if answer.is_success() {
        return "accepted".to_owned();
    }
    format!("refused with HTTP {} {}", answer.status, answer.code).trim_end().to_owned()
}

impl Source<'_> {
    fn not_reached() -> String {
        "the script did not get there".to_owned()
    }

    fn find(&self, path: &str, situation: Situation) -> Result<(usize, &RawAnswer), String> {
        let mut exchanges = self.exchanges.iter().enumerate();
        let found = exchanges.find_map(|(at, exchange)| {
            let is_it = exchange.step.call.path() == path && exchange.step.situation == situation;
            Some((at, exchange.answer().filter(|_| is_it)?))
        });
        found.ok_or_else(Self::not_reached)
    }

    /// The readings of the key in the script.
    fn readings(&self) -> impl Iterator<Item = (usize, &RawAnswer, Rotation)> {
        let own = SingleCall::ReadStatus(self.key_id);
        let exchanges = self.exchanges.iter().enumerate().filter(move |(_, exchange)| exchange.step.call == own);
        exchanges.filter_map(|(at, exchange)| {
            let answer = exchange.answer().filter(|answer| !answer.repeats_secret)?;
            Some((at, answer, answer.rotation()?))
        })
    }

    fn same_interval(&self) -> Result<String, String> {
        let (at, answer) = self.find("update-key-rotation-interval", Situation::SameInterval)?;
        if !answer.is_success() {
            return Ok(format!("no: the update is {}", accepted(answer)));
        }
        let after = self.readings().find(|(read, ..)| *read > at).ok_or_else(Self::not_reached)?.2;
        let before = self.readings().filter(|(read, ..)| *read < at).last().ok_or_else(Self::not_reached)?.2;
        let past = |rotation: Rotation| (rotation.last_rotated, rotation.rotations);
        let change = if past(before) == past(after) { "did not change" } else { "changed" };
        Err(format!("the update is accepted, and the last rotation {change}; no answer shows when the period started"))
    }

    fn never_rotated(&self) -> Result<String, String> {
        let forms = |enabled: bool| {
            let never = |rotation: &Rotation| rotation.last_rotated.is_none() && rotation.enabled == enabled;
            let answers = self.readings().filter(|(_, _, rotation)| never(rotation));
            let forms: BTreeSet<_> = answers.filter_map(|(_, answer, _)| never_form(answer)).collect();
            forms.into_iter().collect::<Vec<_>>().join(" or ")
        };
        let said: Vec<_> = [("off", forms(false)), ("on", forms(true))]
            .into_iter()
            .filter(|(_, forms)| !forms.is_empty())
            .map(|(state, forms)| format!("while rotation is {state}: {forms}"))
            .collect();
        if said.is_empty() { Err("the key has rotated".to_owned()) } else { Ok(said.join("; ")) }
    }

    fn retry_after(&self) -> Result<String, String> {
        let throttled = self.exchanges.iter().filter_map(|exchange| match &exchange.outcome {
            Outcome::Answered(answer) if answer.status == 429 => Some(answer),
            _ => None,
        });
        match throttled.map(|answer| answer.retry_after.is_some()).reduce(|a, b| a || b) {
            None => Err("no call was throttled".to_owned()),
            Some(true) => Ok("yes".to_owned()),
            Some(false) => Ok("no".to_owned()),
        }
    }

    fn unrotatable(&self) -> Result<String, String> {
        let path = "get-key-rotation-status";
        let kinds = [("a default key", Situation::DefaultKey), ("an asymmetric or HMAC key", Situation::AsymmetricKey)];
        let said: Vec<_> = kinds
            .into_iter()
            .filter_map(|(kind, situation)| {
                let (_, answer) = self.find(path, situation).ok()?;
                Some(format!("for {kind} it is {}", accepted(answer)))
            })
            .collect();
        if said.is_empty() { Err("the list has no such key".to_owned()) } else { Ok(said.join("; ")) }
    }

    /// The interval that enabling sets, and whether it keeps one that was chosen before.
    pub(super) fn after_enabling(&self) -> (Option<u32>, Option<bool>) {
        let (mut first, mut keeps) = (None, None);
        let mut chosen: Option<u32> = None;
        for (at, exchange) in self.exchanges.iter().enumerate() {
            let Some(answer) = exchange.answer() else { continue };
            match exchange.step.call {
                SingleCall::SetInterval(_, days) if answer.is_success() => chosen = Some(days.into()),
                SingleCall::Enable(_) if answer.is_success() => {
                    let mut later = self.readings().filter(|(read, ..)| *read > at);
                    let Some(interval) = later.next().and_then(|(_, _, rotation)| rotation.interval_days) else {
                        continue;
                    };
                    match exchange.step.situation {
                        // With 365 days both would show the same.
                        Situation::OffWithInterval if chosen.is_some_and(|days| days != 365) => {
                            keeps = Some(chosen == Some(interval));
                        }
                        Situation::Off => first = Some(interval),
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        (first, keeps)
    }

    fn enabling(&self) -> Result<String, String> {
        let (first, keeps) = self.after_enabling();
        let first = first.map(|days| format!("; without one before it sets {days} days")).unwrap_or_default();
        match keeps {
            None => Err(Self::not_reached()),
            Some(true) => Ok(format!("no, the interval stays{first}")),
            Some(false) => Ok(format!("yes{first}")),
        }
    }

    fn signature(&self) -> Result<String, String> {
        if self.cloud == Cloud::HuaweiCloud {
            return Err("the project is on Huawei Cloud".to_owned());
        }
        let mut answers = self.exchanges.iter().filter_map(Exchange::answer);
        match answers.find(|answer| answer.was_signed && answer.is_success()) {
            Some(_) => Ok(format!("{} accepts it", self.cloud.as_str())),
            None => Err("the requests had a token; use an access key to try it".to_owned()),
        }
    }

    fn lookup(&self) -> Result<String, String> {
        let mut answers = self.exchanges.iter().filter_map(Exchange::answer);
        match answers.next() {
            Some(answer) if answer.was_signed && self.looked_up_project => Ok("yes".to_owned()),
            _ => Err("no signed call asked IAM for the project's id".to_owned()),
        }
    }

    fn eu_ch2(&self) -> Result<String, String> {
        if self.region != "eu-ch2" {
            return Err(format!("the project is in {}", self.region));
        }
        let own = SingleCall::ReadStatus(self.key_id);
        let status = self.exchanges.iter().find(|exchange| exchange.step.call == own).and_then(Exchange::answer);
        Ok(format!("the status call is {}", accepted(status.ok_or_else(Self::not_reached)?)))
    }

    fn pages(&self) -> Result<String, String> {
        let page = |situation| {
            let (_, answer) = self.find("list-keys", situation)?;
            Ok::<_, String>((page_size(answer), answer))
        };
        let (size, default) = page(Situation::WithoutLimit)?;
        let (_, limited) = page(Situation::LimitOf2000)?;
        let keys = default.keys().map_or(0, |keys| keys.len());
        let size = match size {
            Some(size) => format!("a page without `limit` has {}", count(size, "key", "keys")),
            None => format!("a page without `limit` has room for {} or more", count(keys, "key", "keys")),
        };
        Ok(format!("{size}; a limit of 2000 is {}", accepted(limited)))
    }

    fn short_sequence(&self) -> Result<String, String> {
        let (_, answer) = self.find("get-key-rotation-status", Situation::ShortSequence)?;
        Ok(format!("it is {}", accepted(answer)))
    }
}

/// How a status shows that the key never rotated.
fn never_form(answer: &RawAnswer) -> Option<String> {
    let object = fields(&answer.body)?;
    let form = |name: &str| match object.get(name) {
        None => format!("`{name}` is absent"),
        Some(value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_))) => {
            format!("`{name}` is `{}`", excerpt(&value.to_string(), LONGEST))
        }
        Some(_) => format!("`{name}` is an array or an object"),
    };
    Some(format!("{}, {}", form("last_rotation_time"), form("number_of_rotations")))
}

/// The number of keys on a page that is full; nothing if it is the last one.
pub(super) fn page_size(answer: &RawAnswer) -> Option<usize> {
    let object = fields(&answer.body)?;
    let truncated = object.get("truncated")?;
    let is_truncated = truncated.as_bool().unwrap_or_else(|| truncated.as_str() == Some("true"));
    answer.keys().filter(|_| is_truncated).map(|keys| keys.len())
}
