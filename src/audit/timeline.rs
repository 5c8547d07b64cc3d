//! The timeline of one key in sentences, for the sample.

use super::model::{Departure, Key, Piece, Rotation};
use super::time::{Time, length};
use super::words;

/// The most lines of one key.
const MAX_LINES: usize = 200;

/// A line of the timeline.
pub(super) struct Line {
    pub(super) at: Time,
    pub(super) text: String,
}

/// What happened to a key, by time, and how many lines are left out.
pub(super) fn lines(key: &Key) -> (Vec<Line>, usize) {
    // Of one moment: what happened comes before the status that follows from it.
    let mut events: Vec<(Time, u8, Event<'_>)> = Vec::new();
    events.extend(key.departures.iter().map(|departure| (departure.at, 0, Event::Departure(departure))));
    events.extend(key.rotations.iter().map(|rotation| (rotation.recorded_at, 1, Event::Rotation(rotation))));
    events.extend(key.timeline.iter().map(|piece| (piece.from, 2, Event::Status(piece))));
    events.sort_by_key(|(at, order, _)| (*at, *order));
    let left_out = events.len().saturating_sub(MAX_LINES);
    let mut lines = vec![Line { at: key.from, text: first(key) }];
    lines.extend(events.into_iter().take(MAX_LINES).map(|(at, _, event)| Line { at, text: event.text() }));
    lines.push(Line { at: key.to, text: last(key) });
    (lines, left_out)
}

enum Event<'a> {
    Departure(&'a Departure),
    Rotation(&'a Rotation),
    Status(&'a Piece),
}

impl Event<'_> {
    fn text(&self) -> String {
        match self {
            Self::Status(piece) if piece.reasons.is_empty() => format!("Status: {}.", words::shown(piece.shown)),
            Self::Status(piece) => format!("Status: {}: {}.", words::shown(piece.shown), words::reasons(piece.reasons)),
            Self::Rotation(rotation) => self::rotation(rotation),
            Self::Departure(departure) => self::departure(departure),
        }
    }
}

fn rotation(rotation: &Rotation) -> String {
    let mut text = "Rotated by the cloud".to_owned();
    if let Some(at) = rotation.rotated_at {
        text = format!("{text} {}", at.minute());
    }
    if rotation.count > 1 {
        text = format!("{text}, {} rotations since the last reading", rotation.count);
    }
    let length = |seconds: i64| length(seconds.saturating_mul(1_000));
    match (rotation.age_seconds, rotation.allowed_seconds) {
        (Some(age), Some(allowed)) => {
            format!("{text}; the material was {} old, {} are allowed.", length(age), length(allowed))
        }
        (Some(age), None) => format!("{text}; the material was {} old.", length(age)),
        (None, _) => format!("{text}; the age of the material is unknown."),
    }
}

fn departure(departure: &Departure) -> String {
    let mut text = words::departure(departure.kind, departure.write).to_owned();
    if let Some(first) = text.get(..1) {
        text.replace_range(..1, &first.to_uppercase());
    }
    let by = words::by(departure.by);
    if !by.is_empty() {
        text = format!("{text} by {by}");
    }
    if departure.before != departure.after {
        text = format!("{text}: {} to {}", words::setting(departure.before), words::setting(departure.after));
    }
    if let Some(after) = departure.seen_after {
        text = format!("{text}; it was read before {}", after.minute());
    }
    if !departure.request_ids.is_empty() {
        text = format!("{text}; request {}", departure.request_ids.join(", "));
    }
    match &departure.error {
        Some(error) => format!("{text}; {error}."),
        None => format!("{text}."),
    }
}

fn first(key: &Key) -> String {
    let text = if key.appeared { "Seen for the first time" } else { "The period of this key begins" };
    match key.created_at {
        Some(created) => format!("{text}; it was created {}.", created.minute()),
        None => format!("{text}."),
    }
}

fn last(key: &Key) -> String {
    if key.vanished {
        return "Not there any more.".to_owned();
    }
    let state = &key.state;
    let setting = words::setting(state.setting);
    let text = format!("The period ends. Setting: {setting}; policy: {}", words::required(state.required));
    match state.material_since {
        Some(since) => format!("{text}; material in use since {}.", since.minute()),
        None => format!("{text}; start of the material unknown."),
    }
}
