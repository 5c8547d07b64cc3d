//! Which keys the page shows: the filter in its query.

use form_urlencoded::Serializer;

use super::wording;
use crate::rotation::decide::Status;
use crate::rotation::report::{KeyReport, ProjectReport};

/// Which keys the page shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Only keys with this status.
    pub(super) status: Option<Status>,
    /// Only keys whose id, name, project, status, reasons, policy line or error contain this text, in any case.
    pub(super) text: String,
    /// The text in lower case.
    needle: String,
}

impl Filter {
    /// Reads `status=…&q=…`, as a form sends it. Other fields and unknown statuses are ignored.
    pub(crate) fn parse(query: &str) -> Self {
        let mut filter = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "status" => filter.status = Status::named(&value),
                "q" => value.trim().clone_into(&mut filter.text),
                _ => {}
            }
        }
        filter.needle = filter.text.to_lowercase();
        filter
    }

    /// The query for the same text and this status, with its question mark; empty if all keys are shown.
    pub(super) fn query_for(&self, status: Option<Status>) -> String {
        let mut query = Serializer::for_suffix("?".to_owned(), 1);
        if let Some(status) = status {
            query.append_pair("status", status.as_str());
        }
        if !self.text.is_empty() {
            query.append_pair("q", &self.text);
        }
        let query = query.finish();
        if query == "?" { String::new() } else { query }
    }

    /// Whether the page shows this key.
    pub(super) fn shows(&self, project: &ProjectReport, key: &KeyReport) -> bool {
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
            || key.entry_line.is_some_and(|line| contains(&wording::policy_line(line).to_string()))
    }
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
    fn a_query_that_is_not_understood_filters_nothing() {
        for query in ["", "&&==&", "status=", "status=bananas", "status", "q=", "Status=unknown"] {
            assert_eq!(Filter::parse(query), Filter::default(), "{query}");
        }
        assert_eq!(Filter::parse("q=100%").text, "100%");
        assert_eq!(Filter::parse("q=%4").text, "%4");
        assert_eq!(Filter::parse("q=%zz%ff").text, "%zz\u{fffd}");
    }
}
