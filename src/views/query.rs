//! What the page shows, by its address: which keys, in which order and groups, and which of its pages; and the address
//! of a key's page.

use form_urlencoded::Serializer;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::wording;
use crate::rotation::decide::{Reason, Status};
use crate::rotation::report::{KeyReport, ProjectReport};

/// What the page shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PageQuery {
    /// Only keys with this status.
    pub(super) status: Option<Status>,
    /// Only keys with this reason.
    pub(super) reason: Option<Reason>,
    /// Only this project; all if it is empty.
    pub(super) project: String,
    /// Only keys whose id, name, project, status, reasons, policy line or error contain this text, in any case.
    pub(super) text: String,
    /// The text in lower case.
    needle: String,
    pub(super) sort: Sort,
    pub(super) descending: bool,
    pub(super) group: Group,
    /// The page of the keys, counted from 0.
    pub(super) page: usize,
    /// All projects, however many there are.
    pub(super) all_projects: bool,
}

/// The order of the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    /// Problems first.
    #[default]
    Status,
    Name,
    Project,
    Interval,
    Rotated,
    Due,
    Observed,
}

impl Sort {
    const ALL: [Self; 7] =
        [Self::Status, Self::Name, Self::Project, Self::Interval, Self::Rotated, Self::Due, Self::Observed];

    fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Name => "name",
            Self::Project => "project",
            Self::Interval => "interval",
            Self::Rotated => "rotated",
            Self::Due => "due",
            Self::Observed => "observed",
        }
    }
}

/// What keys have in common that stand together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Group {
    #[default]
    None,
    Reason,
    Project,
    Status,
    Entry,
}

impl Group {
    pub(super) const ALL: [Self; 5] = [Self::None, Self::Reason, Self::Project, Self::Status, Self::Entry];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Reason => "reason",
            Self::Project => "project",
            Self::Status => "status",
            Self::Entry => "entry",
        }
    }

    /// The choice in words.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::None => "not grouped",
            Self::Reason => "by reason",
            Self::Project => "by project",
            Self::Status => "by status",
            Self::Entry => "by policy entry",
        }
    }
}

impl PageQuery {
    /// Reads `status=…&q=…`, as a form sends it. Other fields and unknown values are ignored.
    pub(crate) fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "status" => parsed.status = Status::named(&value),
                "reason" => parsed.reason = Reason::named(&value),
                "project" => parsed.project = value.into_owned(),
                "q" => value.trim().clone_into(&mut parsed.text),
                "sort" => {
                    let order = value.strip_prefix('-').unwrap_or(&value);
                    if let Some(sort) = Sort::ALL.into_iter().find(|sort| sort.as_str() == order) {
                        (parsed.sort, parsed.descending) = (sort, value.starts_with('-'));
                    }
                }
                "group" => parsed.group = Group::ALL.into_iter().find(|it| it.as_str() == value).unwrap_or_default(),
                "page" => parsed.page = value.parse::<usize>().unwrap_or(1).saturating_sub(1),
                "projects" => parsed.all_projects = value == "all",
                _ => {}
            }
        }
        parsed.needle = parsed.text.to_lowercase();
        parsed
    }

    /// The address of the page that shows this.
    pub(super) fn address(&self) -> String {
        let mut query = Serializer::for_suffix("/?".to_owned(), 2);
        let mut add = |name: &str, value: &str| {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        };
        add("status", self.status.map_or("", Status::as_str));
        add("reason", self.reason.map_or("", Reason::as_str));
        add("project", &self.project);
        add("q", &self.text);
        add("sort", &self.sort_field());
        add("group", self.group.as_str());
        if self.page > 0 {
            add("page", &(self.page + 1).to_string());
        }
        add("projects", if self.all_projects { "all" } else { "" });
        let address = query.finish();
        if address == "/?" { "/".to_owned() } else { address }
    }

    /// The value of the field `sort`; empty for the usual order.
    pub(super) fn sort_field(&self) -> String {
        match (self.sort, self.descending) {
            (Sort::Status, false) => String::new(),
            (sort, descending) => format!("{}{}", if descending { "-" } else { "" }, sort.as_str()),
        }
    }

    /// The same keys, from their first page.
    fn first_page(&self) -> Self {
        Self { page: 0, ..self.clone() }
    }

    pub(super) fn with_status(&self, status: Option<Status>) -> Self {
        Self { status, ..self.first_page() }
    }

    pub(super) fn with_reason(&self, reason: Option<Reason>) -> Self {
        Self { reason, ..self.first_page() }
    }

    pub(super) fn with_project(&self, project: &str) -> Self {
        Self { project: project.to_owned(), ..self.first_page() }
    }

    pub(super) fn with_page(&self, page: usize) -> Self {
        Self { page, ..self.clone() }
    }

    pub(super) fn with_all_projects(&self, all_projects: bool) -> Self {
        Self { all_projects, ..self.clone() }
    }

    /// In this order, or in the opposite one if it is in this order.
    pub(super) fn sorted(&self, sort: Sort) -> Self {
        let descending = self.sort == sort && !self.descending;
        Self { sort, descending, ..self.first_page() }
    }

    /// Whether all keys are shown.
    pub(super) fn is_unfiltered(&self) -> bool {
        self.status.is_none() && self.reason.is_none() && self.project.is_empty() && self.text.is_empty()
    }

    /// Whether keys of this project are shown.
    pub(super) fn shows_project(&self, project: &ProjectReport) -> bool {
        self.project.is_empty() || *self.project == *project.name
    }

    /// Whether the page shows this key.
    pub(super) fn shows(&self, project: &ProjectReport, key: &KeyReport) -> bool {
        if self.status.is_some_and(|status| status != key.status)
            || self.reason.is_some_and(|reason| !key.reasons.contains(reason))
            || !self.shows_project(project)
        {
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

/// The beginning of the addresses of keys.
pub(crate) const KEYS: &str = "/keys/";

/// What is written as it is in an address, beside letters and digits. Not the dot: a part `..` means the folder above.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');

/// The address of a key's page.
pub(super) fn key_address(project: &str, key: &str) -> String {
    let encoded = |text| utf8_percent_encode(text, ENCODED);
    format!("{KEYS}{}/{}", encoded(project), encoded(key))
}

/// The project and the key of an address after [`KEYS`]; `None` if it is not one.
pub(crate) fn parse_key_address(rest: &str) -> Option<(String, String)> {
    let (project, key) = rest.split_once('/')?;
    let decoded = |text| percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned);
    Some((decoded(project)?, decoded(key)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_a_form_sends_it() {
        let query = PageQuery::parse("status=non_compliant&q=+pay%2Dmain%20%C3%BC+&x=1&sort=-due&group=reason&page=3");
        assert_eq!((query.status, &*query.text), (Some(Status::NonCompliant), "pay-main ü"));
        assert_eq!((query.sort, query.descending, query.group, query.page), (Sort::Due, true, Group::Reason, 2));
    }

    #[test]
    fn a_query_survives_its_own_address() {
        for address in [
            "/",
            "/?status=unknown",
            "/?reason=key_disabled&project=a%2Fb+c&q=a%2Bb%26c%25+%C3%BC%22",
            "/?status=exempt&q=x&sort=-status&group=entry&page=12&projects=all",
        ] {
            let query = PageQuery::parse(address.trim_start_matches('/').trim_start_matches('?'));
            assert_eq!(query.address(), address);
        }
    }

    #[test]
    fn a_query_that_is_not_understood_filters_nothing() {
        for query in
            ["", "&&==&", "status=", "status=bananas", "status", "q=", "Status=unknown", "page=0", "page=x", "sort=up"]
        {
            assert_eq!(PageQuery::parse(query), PageQuery::default(), "{query}");
        }
        assert_eq!(PageQuery::parse("q=100%").text, "100%");
        assert_eq!(PageQuery::parse("q=%4").text, "%4");
        assert_eq!(PageQuery::parse("q=%zz%ff").text, "%zz\u{fffd}");
    }

    #[test]
    fn a_second_click_on_a_column_turns_its_order() {
        let query = PageQuery::parse("page=4");
        let once = query.sorted(Sort::Due);
        assert_eq!((&*once.address(), &*once.sorted(Sort::Due).address()), ("/?sort=due", "/?sort=-due"));
        assert_eq!(once.sorted(Sort::Due).sorted(Sort::Due).address(), "/?sort=due");
    }

    #[test]
    fn the_address_of_a_key_leads_back_to_it() {
        for (project, key) in [("payments", "0d0466b0-e727-4d9c-b35d-f84bb474a37f"), ("a/b ü%", "alias/legacy?x#y")] {
            let address = key_address(project, key);
            let rest = address.strip_prefix(KEYS).unwrap();
            assert_eq!(parse_key_address(rest), Some((project.to_owned(), key.to_owned())), "{address}");
        }
        assert_eq!(key_address("pay_1", "0d0466b0-e727-4d9c"), "/keys/pay_1/0d0466b0-e727-4d9c");
        assert_eq!(key_address("..", "."), "/keys/%2E%2E/%2E");
        for wrong in ["", "payments", "%ff/x"] {
            assert_eq!(parse_key_address(wrong), None, "{wrong}");
        }
    }
}
