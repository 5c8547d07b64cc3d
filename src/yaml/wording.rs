//! Lists, durations and quoted values in messages.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::support::duration::duration_text;
use crate::support::printable::is_unprintable;

/// Names as in ``` `a`, `b` or `c` ```.
pub(crate) fn or_list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// The bounds of a duration in words.
pub(crate) fn duration_range(range: &RangeInclusive<Duration>) -> String {
    format!("a duration from {} to {}", duration_text(*range.start()), duration_text(*range.end()))
}

/// The most characters of the file that a message quotes.
const LONGEST_QUOTE: usize = 60;

/// A value of the file in backticks, on one line, cut if it is long.
pub(crate) fn quoted(value: &str) -> String {
    let mut out = String::from("`");
    for (at, c) in value.chars().enumerate() {
        if at == LONGEST_QUOTE {
            out.push('…');
            break;
        }
        if is_unprintable(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out.push('`');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_and_unprintable_ones_escaped() {
        assert_eq!(quoted("a\u{1b}[31m\n"), "`a\\u{1b}[31m\\n`");
        assert_eq!(quoted(&"x".repeat(61)), format!("`{}…`", "x".repeat(60)));
    }
}
