//! All problems of one file, as lines for people and scripts, as a drawing for a terminal, and as JSON.
//!
//! The first line of a problem is always `FILE:LINE:COLUMN: what is wrong`, with what was expected or what to do; a
//! warning has `warning: ` after the position. `snippet` draws the source below it.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::path::Path;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::problem::{Finding, Problem, Severity};
use super::snippet;
use super::source::{Position, Source, Span};
use crate::support::error_chain::ErrorChain;
use crate::support::printable::printable;

/// All problems of one file, in the order of their positions.
#[derive(Clone, Debug)]
pub struct Problems {
    file: String,
    text: String,
    list: Vec<Problem>,
}

impl Problems {
    /// Keeps the text only if there is something to draw.
    pub(crate) fn new(file: &str, source: &Source<'_>, mut findings: Vec<Finding>) -> Self {
        findings.sort_by(|a, b| a.order().cmp(&b.order()));
        // A value that aliases repeat is one problem, at its anchor.
        findings.dedup();
        let text = if findings.is_empty() {
            String::new()
        } else {
            conceal(source.text, findings.iter().filter_map(Finding::secret))
        };
        let list = findings.into_iter().map(|finding| finding.locate(source));
        Self { file: printable(file), text, list: list.collect() }
    }

    /// Adds a problem with a cause outside the file; nothing is drawn below it.
    pub fn add(&mut self, severity: Severity, position: Position, message: &str) {
        let at = self.list.partition_point(|problem| problem.position <= position);
        let message = printable(message);
        self.list.insert(at, Problem { severity, position, message, related: None, help: None, span: None });
    }

    /// Whether the file has no problem.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The problems, in the order of their positions.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Problem> {
        self.list.iter()
    }

    /// How many have this severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|problem| problem.severity == severity).count()
    }

    /// One line for each problem, starting with `FILE:LINE:COLUMN: `.
    #[must_use]
    pub fn render_plain(&self) -> String {
        self.list.iter().fold(String::new(), |mut out, problem| {
            self.line(&mut out, problem);
            out
        })
    }

    /// The same lines, each followed by its source; `colour` adds terminal escapes to the drawing.
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
        let Position { line, column } = problem.position;
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
                row.serialize_field("line", &problem.position.line)?;
                row.serialize_field("column", &problem.position.column)?;
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

/// The problem of a file that could not be read, in the form of [`Problems`]: it has no position.
#[derive(Serialize)]
pub(crate) struct UnreadableFileProblem {
    file: String,
    line: Option<u32>,
    column: Option<u32>,
    severity: &'static str,
    message: String,
    related: Option<()>,
    help: Option<()>,
}

impl UnreadableFileProblem {
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

/// The text with its secrets replaced by asterisks, byte by byte, so that every span stays valid.
fn conceal(text: &str, secrets: impl Iterator<Item = Span>) -> String {
    let mut out = text.to_owned();
    for secret in secrets {
        let range = secret.within(&out);
        let asterisk = |c: char| if c.is_ascii_control() { c.to_string() } else { "*".repeat(c.len_utf8()) };
        let hidden: String = out[range.clone()].chars().map(asterisk).collect();
        out.replace_range(range, &hidden);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Problems {
        let source = Source::new("name: a\nname: b\nregion: q\n");
        let mut twice = Finding::error(Span::new(8, 12), "duplicate field `name`");
        twice.related("first set", Span::new(0, 4));
        let mut odd = Finding::warning(Span::new(24, 25), "an odd region");
        odd.help("did you mean `eu-de`?");
        Problems::new("p\n.yaml", &source, vec![odd, twice])
    }

    #[test]
    fn problems_are_lines_in_the_order_of_the_file() {
        let expected = "p\u{fffd}.yaml:2:1: duplicate field `name` (first set at line 1)\n\
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
    fn a_secret_is_drawn_as_asterisks_below_every_problem() {
        let source = Source::new("a: {b: hü 1, c: d}\n");
        let mut first = Finding::error(Span::new(4, 5), "not allowed, expected a file");
        first.conceal(Span::new(7, 12));
        let problems = Problems::new("p", &source, vec![Finding::error(Span::new(14, 15), "odd"), first]);
        let drawn = problems.render_snippets(false);
        assert_eq!(drawn.matches("a: {b: *****, c: d}").count(), 2, "{drawn}");
    }

    #[test]
    fn json_is_a_list_of_problems() -> Result<(), serde_json::Error> {
        let list = serde_json::to_value(two())?;
        assert_eq!(list[0]["line"], 2);
        assert_eq!(list[0]["related"]["line"], 1);
        assert_eq!(list[1]["severity"], "warning");
        assert_eq!(list[1]["help"], "did you mean `eu-de`?");
        Ok(())
    }
}
