//! What is wrong with a policy file: every problem with its place, for people, scripts and programs.
//!
//! The first line of a problem is always `FILE:LINE:COLUMN: what is wrong, what was expected`; a warning says so after
//! the place. `snippet` draws the source beneath it.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::path::Path;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::snippet;
use super::source::{Place, Source, Span};
use crate::support::error_chain::ErrorChain;
use crate::support::printable::{is_unprintable, printable};

/// Whether the policy can be used in spite of the problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The policy is refused.
    Error,
    /// The policy is accepted.
    Warning,
    /// Nothing is wrong: something that the policy alone does not tell.
    Note,
}

impl Severity {
    /// The name in messages and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A problem as the decoder notes it, without knowing lines yet.
#[derive(Debug, PartialEq)]
pub(crate) struct Finding {
    severity: Severity,
    span: Span,
    message: String,
    related: Option<(&'static str, Span)>,
    help: Option<String>,
    secret: Option<Span>,
}

impl Finding {
    pub(crate) fn error(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, span, message: message.into(), related: None, help: None, secret: None }
    }

    pub(crate) fn warning(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// Points at a second place: `first listed` becomes `first listed at line 12`.
    pub(crate) fn related(&mut self, what: &'static str, span: Span) -> &mut Self {
        self.related = Some((what, span));
        self
    }

    /// Says what to do about it.
    pub(crate) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Keeps what stands at the span out of every drawing: it may be a secret.
    pub(crate) fn conceal(&mut self, span: Span) -> &mut Self {
        self.secret = Some(span);
        self
    }

    pub(crate) fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// One problem of a policy file.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Whether the policy is refused for it.
    pub severity: Severity,
    /// Where it is.
    pub place: Place,
    /// What is wrong and what was expected, in one line.
    pub message: String,
    /// A second place that has to do with it.
    pub related: Option<Related>,
    /// What to do about it, in one line.
    pub help: Option<String>,
    /// Nothing for what is not to be seen in the file.
    pub(crate) span: Option<Span>,
}

/// The second place of a problem.
#[derive(Clone, Debug)]
pub struct Related {
    /// What was done there, such as `first listed`.
    pub what: &'static str,
    /// Where.
    pub place: Place,
    pub(crate) span: Span,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.severity != Severity::Error {
            write!(f, "{}: ", self.severity.as_str())?;
        }
        f.write_str(&self.message)?;
        if let Some(Related { what, place, .. }) = &self.related {
            write!(f, " ({what} at line {})", place.line)?;
        }
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

/// All problems of one policy file, in the order of their places.
#[derive(Clone, Debug)]
pub struct Problems {
    file: String,
    text: String,
    list: Vec<Problem>,
}

impl Problems {
    /// The text is kept for the drawing only where there is something to draw.
    pub(crate) fn new(file: &str, source: &Source<'_>, mut findings: Vec<Finding>) -> Self {
        fn order(finding: &Finding) -> (u32, bool, &str) {
            (finding.span.start, !finding.is_error(), &finding.message)
        }
        findings.sort_by(|a, b| order(a).cmp(&order(b)));
        // What an alias repeats is wrong once, where it is written.
        findings.dedup();
        let text = if findings.is_empty() {
            String::new()
        } else {
            concealed(source.text, findings.iter().filter_map(|finding| finding.secret))
        };
        let list = findings.into_iter().map(|finding| Problem {
            severity: finding.severity,
            place: source.place(finding.span.start),
            message: printable(&finding.message),
            related: finding.related.map(|(what, span)| Related { what, place: source.place(span.start), span }),
            help: finding.help.as_deref().map(printable),
            span: Some(finding.span),
        });
        Self { file: printable(file), text, list: list.collect() }
    }

    /// Adds what another than the file has to say of a place in it. It is not drawn, since the file does not show it.
    pub fn add(&mut self, severity: Severity, place: Place, message: &str) {
        let at = self.list.partition_point(|problem| problem.place <= place);
        let message = printable(message);
        self.list.insert(at, Problem { severity, place, message, related: None, help: None, span: None });
    }

    /// There is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The problems, in the order of their places.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Problem> {
        self.list.iter()
    }

    /// How many have this severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|problem| problem.severity == severity).count()
    }

    /// One line for each problem, each beginning with `FILE:LINE:COLUMN: `.
    #[must_use]
    pub fn render_plain(&self) -> String {
        self.list.iter().fold(String::new(), |mut out, problem| {
            self.line(&mut out, problem);
            out
        })
    }

    /// The same lines, each followed by the source it speaks of; `colour` adds terminal escapes to the drawing.
    #[must_use]
    pub fn render_snippets(&self, colour: bool) -> String {
        self.list.iter().fold(String::new(), |mut out, problem| {
            self.line(&mut out, problem);
            if let Some(span) = problem.span {
                out.push_str(&snippet::draw(&self.text, problem, span, colour));
                out.push('\n');
            }
            out.push('\n');
            out
        })
    }

    fn line(&self, out: &mut String, problem: &Problem) {
        let Place { line, column } = problem.place;
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}:{line}:{column}: {problem}", self.file);
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render_plain().trim_end())
    }
}

impl std::error::Error for Problems {}

/// A list of `{file, line, column, severity, message, related, help}`, for `--output json`.
impl Serialize for Problems {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Row<'p>(&'p str, &'p Problem);
        impl Serialize for Row<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let Self(file, problem) = self;
                let mut row = serializer.serialize_struct("Problem", 7)?;
                row.serialize_field("file", file)?;
                row.serialize_field("line", &problem.place.line)?;
                row.serialize_field("column", &problem.place.column)?;
                row.serialize_field("severity", problem.severity.as_str())?;
                row.serialize_field("message", &problem.message)?;
                row.serialize_field("related", &problem.related)?;
                row.serialize_field("help", &problem.help)?;
                row.end()
            }
        }
        serializer.collect_seq(self.list.iter().map(|problem| Row(&self.file, problem)))
    }
}

/// The row of a file that could not even be read.
#[derive(Serialize)]
pub(crate) struct Unplaced {
    file: String,
    line: Option<u32>,
    column: Option<u32>,
    severity: &'static str,
    message: String,
    related: Option<()>,
    help: Option<String>,
}

impl Unplaced {
    pub(crate) fn new(file: &Path, error: &(dyn Error + 'static)) -> Self {
        Self {
            file: printable(&file.display().to_string()),
            line: None,
            column: None,
            severity: Severity::Error.as_str(),
            message: printable(&ErrorChain(error).to_string()),
            related: None,
            help: None,
        }
    }
}

impl Serialize for Related {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_struct("Related", 3)?;
        row.serialize_field("line", &self.place.line)?;
        row.serialize_field("column", &self.place.column)?;
        row.serialize_field("message", self.what)?;
        row.end()
    }
}

/// The text with asterisks in the place of its secrets. No byte moves, so that every span means what it meant.
fn concealed(text: &str, secrets: impl Iterator<Item = Span>) -> String {
    let mut out = text.to_owned();
    for secret in secrets {
        let range = secret.within(&out);
        let asterisk = |c: char| if c.is_ascii_control() { c.to_string() } else { "*".repeat(c.len_utf8()) };
        let hidden: String = out[range.clone()].chars().map(asterisk).collect();
        out.replace_range(range, &hidden);
    }
    out
}

/// The longest piece of the file that a message repeats, in characters.
const LONGEST_QUOTE: usize = 60;

/// A value of the file as a message shows it: in backticks, on one line, cut where it is long.
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

    fn two() -> Problems {
        let source = Source::new("name: a\nname: b\nregion: q\n");
        let mut twice = Finding::error(Span::new(8, 12), "duplicate field `name`, expected it once");
        twice.related("first given", Span::new(0, 4));
        let mut odd = Finding::warning(Span::new(24, 25), "an odd region");
        odd.help("did you mean `eu-de`?");
        Problems::new("p\n.yaml", &source, vec![odd, twice])
    }

    #[test]
    fn problems_are_lines_in_the_order_of_the_file() {
        let expected = "p\u{fffd}.yaml:2:1: duplicate field `name`, expected it once (first given at line 1)\n\
                        p\u{fffd}.yaml:3:9: warning: an odd region; did you mean `eu-de`?\n";
        assert_eq!(two().render_plain(), expected);
        assert_eq!((two().count(Severity::Error), two().count(Severity::Warning)), (1, 1));
    }

    #[test]
    fn the_drawing_keeps_every_plain_line() {
        let drawn = two().render_snippets(false);
        for line in two().render_plain().lines() {
            assert!(drawn.lines().any(|drawn| drawn == line), "{line}\n{drawn}");
        }
    }

    #[test]
    fn a_secret_is_drawn_as_asterisks_under_every_problem() {
        let source = Source::new("a: {b: hü 1, c: d}\n");
        let mut first = Finding::error(Span::new(4, 5), "not here, expected a file");
        first.conceal(Span::new(7, 12));
        let problems = Problems::new("p", &source, vec![Finding::error(Span::new(14, 15), "odd"), first]);
        let drawn = problems.render_snippets(false);
        assert_eq!(drawn.matches("a: {b: *****, c: d}").count(), 2, "{drawn}");
    }

    #[test]
    fn programs_get_a_list() -> Result<(), serde_json::Error> {
        let list = serde_json::to_value(two())?;
        assert_eq!(list[0]["line"], 2);
        assert_eq!(list[0]["related"]["line"], 1);
        assert_eq!(list[1]["severity"], "warning");
        assert_eq!(list[1]["help"], "did you mean `eu-de`?");
        Ok(())
    }

    #[test]
    fn long_and_unprintable_values_are_not_repeated_as_they_are() {
        assert_eq!(quoted("a\u{1b}[31m\n"), "`a\\u{1b}[31m\\n`");
        assert_eq!(quoted(&"x".repeat(61)), format!("`{}…`", "x".repeat(60)));
    }
}
