//! Durations as text, as policies and options have them: `500ms`, `1h30m`, `30d`.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};

const DAY: u64 = 24 * 3600;

/// Reads a duration with its units; a day has 24 hours. `None` if the text is not one.
pub(crate) fn parse_duration(text: &str) -> Option<SignedDuration> {
    text.parse::<Span>().ok()?.to_duration(SpanRelativeTo::days_are_24_hours()).ok()
}

/// A duration as a policy writes it.
pub(crate) fn duration_text(duration: Duration) -> String {
    if duration.as_secs() > DAY && duration.as_secs().is_multiple_of(DAY) && duration.subsec_nanos() == 0 {
        return format!("{}d", duration.as_secs() / DAY);
    }
    SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |signed| format!("{signed:#}").replace(' ', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_whole_days_is_in_days() {
        for text in ["0s", "500ms", "1h30m", "24h", "36h", "2d", "30d"] {
            let duration = Duration::try_from(parse_duration(text).unwrap()).unwrap();
            assert_eq!(duration_text(duration), text);
        }
        for text in ["", "2", "soon", "1mo", "999999999999999999999h"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
