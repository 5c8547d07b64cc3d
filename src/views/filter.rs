//! Which keys the page shows: the filter in its query.

use std::fmt::Write as _;

use super::wording;
use crate::rotation::decide::Status;
use crate::rotation::report::{KeyReport, ProjectReport};

/// Which keys the page shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Only keys with this status.
    pub(crate) status: Option<Status>,
    /// Only keys of which id, name, project, status, reasons, policy line or error contain this text, whatever its case.
    pub(crate) text: String,
    /// The text in lower case.
    needle: String,
}

impl Filter {
    /// Reads `status=…&q=…`, as a form sends it. What is not understood filters nothing.
    pub(crate) fn parse(query: &str) -> Self {
        let mut filter = Self::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = decode(value);
            match name {
                "status" => filter.status = Status::ALL.into_iter().find(|status| status.as_str() == value),
                "q" => value.trim().clone_into(&mut filter.text),
                _ => {}
            }
        }
        filter.needle = filter.text.to_lowercase();
        filter
    }

    /// The query for the same text and this status, with its question mark; nothing where all keys are shown.
    pub(crate) fn query_for(&self, status: Option<Status>) -> String {
        let mut query = String::new();
        if let Some(status) = status {
            query.push_str("?status=");
            query.push_str(status.as_str());
        }
        if !self.text.is_empty() {
            query.push_str(if query.is_empty() { "?q=" } else { "&q=" });
            encode(&mut query, &self.text);
        }
        query
    }

    /// Whether the page shows this key.
    pub(crate) fn shows(&self, project: &ProjectReport, key: &KeyReport) -> bool {
        if self.status.is_some_and(|status| status != key.status) {
            return false;
        }
        let contains = |text: &str| text.to_lowercase().contains(&self.needle);
        self.needle.is_empty()
            || key.subject.as_str().contains(&self.needle)
            || key.alias.as_deref().is_some_and(contains)
            || key.error().is_some_and(contains)
            || contains(&project.name)
            || contains(wording::status(key.status))
            || contains(&wording::why(key).to_string())
            || key.entry_line.is_some_and(|line| contains(&wording::place(line).to_string()))
    }
}

/// Encodes a value as a form does.
fn encode(query: &mut String, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => query.push(char::from(byte)),
            b' ' => query.push('+'),
            _ => {
                // Writing to a `String` does not fail.
                let _ = write!(query, "%{byte:02X}");
            }
        }
    }
}

/// Undoes the encoding of a form's value.
fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        rest = if escaped.is_some() { &after[2..] } else { after };
        bytes.push(escaped.unwrap_or(if *first == b'+' { b' ' } else { *first }));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_as_a_form_sends_it() {
        let filter = Filter::parse("status=non_compliant&q=+pay%2Dmain%20%C3%BC+&x=1");
        assert_eq!((filter.status, &*filter.text), (Some(Status::NonCompliant), "pay-main ü"));
    }

    #[test]
    fn a_filter_survives_its_own_query() {
        for query in ["", "?status=unknown", "?q=a%2Bb%26c%25+%C3%BC%22", "?status=exempt&q=x"] {
            let filter = Filter::parse(query.trim_start_matches('?'));
            assert_eq!(filter.query_for(filter.status), query);
            assert_eq!(Filter::parse(filter.query_for(filter.status).trim_start_matches('?')), filter);
        }
    }

    #[test]
    fn a_query_that_makes_no_sense_filters_nothing() {
        for query in ["", "&&==&", "status=", "status=bananas", "status", "q=", "Status=unknown"] {
            assert_eq!(Filter::parse(query), Filter::default(), "{query}");
        }
        assert_eq!(Filter::parse("q=100%").text, "100%");
        assert_eq!(Filter::parse("q=%4").text, "%4");
        assert_eq!(Filter::parse("q=%zz%ff").text, "%zz\u{fffd}");
    }
}
