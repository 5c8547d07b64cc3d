//! What `probe` prints: a row for each call, the questions, and how it ended.
//!
//! Values are printed as JSON, so that their types are visible: `true` is a boolean, `"true"` a string.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::{Map, Value};

use super::compare::{LONGEST, fields, type_name};
use super::exchange::{Exchange, Expected, Mark, Outcome, Purpose, Step};
use super::questions::Question;
use crate::kms::single_call::{RawAnswer, SingleCall};
use crate::support::printable::excerpt;
use crate::views::wording::count;

/// The fields of a status that are always shown.
const STATUS: [&str; 4] = ["key_rotation_enabled", "rotation_interval", "last_rotation_time", "number_of_rotations"];
/// The fields of a key that matter for its rotation.
const DETAILS: [&str; 6] =
    ["key_state", "key_spec", "origin", "default_key_flag", "keystore_id", "key_rotation_enabled"];
const PAGE: [&str; 3] = ["total", "truncated", "next_marker"];

/// One call and its answer; `number` counts from 1.
pub(super) fn row(number: usize, exchange: &Exchange, out: &mut dyn Write) -> io::Result<()> {
    let Exchange { step, purpose, outcome, readings, differences } = exchange;
    let mark = match (exchange.mark(), purpose) {
        (Mark::AsDocumented, _) => "as documented",
        (Mark::Differs, _) => "DIFFERS",
        (Mark::Undocumented, _) => "not documented",
        (Mark::NoAnswer, _) => "NO CLEAR ANSWER",
        (Mark::NotCompared, Purpose::Restoring) => "restoring",
        (Mark::NotCompared, _) => "after an unclear answer",
    };
    writeln!(out, "{number:>2}. {}: {mark}", sent(*step))?;
    let readings = if *readings > 1 { format!(" (attempt {readings})") } else { String::new() };
    writeln!(out, "    answered:    {}{readings}", answered(step.call, outcome))?;
    if *purpose == Purpose::Script && step.expected != Expected::Undocumented {
        writeln!(out, "    documented:  {} ({})", step.expected, step.section)?;
    }
    differences.iter().try_for_each(|difference| writeln!(out, "    differs:     {difference}"))
}

/// What was sent.
fn sent(step: Step) -> String {
    let path = step.call.path();
    let interval = match step.call {
        SingleCall::SetInterval(_, days) => format!(" {days} days"),
        _ => String::new(),
    };
    format!("{path}{interval}, {}", step.situation.as_str())
}

/// How the call was answered, on one line.
fn answered(call: SingleCall, outcome: &Outcome) -> String {
    let answer = match outcome {
        Outcome::Answered(answer) => answer,
        Outcome::Unanswered { why, .. } => return why.clone(),
    };
    let mut text = format!("HTTP {}", answer.status);
    if answer.repeats_secret {
        text.push_str(", the body is not shown: it repeats a secret of the request");
    } else {
        text.push_str(&body(call, answer));
    }
    if let Some(wait) = &answer.retry_after {
        text = format!("{text}, Retry-After: {}", excerpt(wait, LONGEST));
    }
    text
}

fn body(call: SingleCall, answer: &RawAnswer) -> String {
    if !answer.code.is_empty() {
        return format!(" {} {}", excerpt(&answer.code, LONGEST), Value::from(&*answer.message));
    }
    let Some(object) = fields(&answer.body) else {
        if answer.body.trim_ascii().is_empty() {
            return ", no body".to_owned();
        }
        let kind = answer.content_type.as_deref().unwrap_or("without a content type");
        return format!(", {}, no JSON object", excerpt(kind, LONGEST));
    };
    match call {
        SingleCall::Describe(_) => match object.get("key_info") {
            Some(Value::Object(details)) => chosen(details, &DETAILS),
            _ => other(&object, &[]),
        },
        SingleCall::ListKeys(_) => {
            let keys = object.get("key_details").and_then(Value::as_array).map_or(0, Vec::len);
            format!(", {}{}", count(keys, "key", "keys"), chosen(&object, &PAGE))
        }
        SingleCall::ReadStatus(_) | SingleCall::ReadStatusShortSequence(_) => {
            format!("{}{}", chosen(&object, &STATUS), other(&object, &STATUS))
        }
        _ if object.is_empty() => ", {}".to_owned(),
        _ => other(&object, &[]),
    }
}

/// These fields with their values.
fn chosen(object: &Map<String, Value>, names: &[&str]) -> String {
    let mut text = String::new();
    for name in names {
        // Writing to a `String` does not fail.
        let _ = match object.get(*name) {
            None => write!(text, ", {name} absent"),
            Some(value) => write!(text, ", {name} {}", excerpt(&value.to_string(), LONGEST)),
        };
    }
    text
}

/// The other fields with their types.
fn other(object: &Map<String, Value>, names: &[&str]) -> String {
    let mut text = String::new();
    for (name, value) in object.iter().filter(|(name, _)| !names.contains(&name.as_str())) {
        let _ = write!(text, ", {} is {}", excerpt(name, LONGEST), type_name(value));
    }
    text
}

/// How many calls there were, by their marks.
pub(super) fn totals(exchanges: &[Exchange], out: &mut dyn Write) -> io::Result<()> {
    let number = |mark| exchanges.iter().filter(|exchange| exchange.mark() == mark).count();
    write!(out, "\n{}: {} as documented", count(exchanges.len(), "call", "calls"), number(Mark::AsDocumented))?;
    for (mark, words) in [
        (Mark::Differs, "different"),
        (Mark::Undocumented, "not documented"),
        (Mark::NoAnswer, "without a clear answer"),
        (Mark::NotCompared, "to restore the key or to look again"),
    ] {
        if number(mark) > 0 {
            write!(out, ", {} {words}", number(mark))?;
        }
    }
    writeln!(out, ".")
}

/// The open questions and what this account answers.
pub(super) fn questions(questions: &[Question], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nThe open questions of docs/kms-api.md 9, as far as this account answers them:")?;
    for Question { question, answer } in questions {
        writeln!(out, "  {question}")?;
        match answer {
            Ok(answer) => writeln!(out, "    {answer}")?,
            Err(why) => writeln!(out, "    not answered: {why}")?,
        }
    }
    Ok(())
}
