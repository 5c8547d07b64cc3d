//! One problem of a file: a [`Finding`] while the file is read, a [`Problem`] with its position afterwards.

use std::fmt;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::source::{Position, Source, Span};
use crate::support::printable::printable;

/// Whether the file can still be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is accepted.
    Warning,
    /// Nothing is wrong: information that is not in the file.
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

/// A problem as the decoder records it, without its line.
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

    /// Adds a second position: `first listed` becomes `first listed at line 12`.
    pub(crate) fn related(&mut self, what: &'static str, span: Span) -> &mut Self {
        self.related = Some((what, span));
        self
    }

    /// Adds what to do.
    pub(crate) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Hides the text of the span in every drawing: it may be a secret.
    pub(crate) fn conceal(&mut self, span: Span) -> &mut Self {
        self.secret = Some(span);
        self
    }

    pub(crate) fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The span to hide.
    pub(crate) fn secret(&self) -> Option<Span> {
        self.secret
    }

    /// The order in which problems are shown.
    pub(crate) fn order(&self) -> (u32, bool, &str) {
        (self.span.start, !self.is_error(), &self.message)
    }

    /// The problem, with its position in `source`.
    pub(crate) fn locate(self, source: &Source<'_>) -> Problem {
        let related = |(what, span): (_, Span)| Related { what, position: source.position(span.start), span };
        Problem {
            severity: self.severity,
            position: source.position(self.span.start),
            message: printable(&self.message),
            related: self.related.map(related),
            help: self.help.as_deref().map(printable),
            span: Some(self.span),
        }
    }
}

/// One problem of a file.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Whether it makes the file unusable.
    pub severity: Severity,
    pub position: Position,
    /// What is wrong, in one line.
    pub message: String,
    /// A second position, such as that of the first of two duplicates.
    pub related: Option<Related>,
    /// What to do, in one line.
    pub help: Option<String>,
    /// `None` if the cause is outside the file, so there is nothing to draw.
    pub(crate) span: Option<Span>,
}

/// The second position of a problem.
#[derive(Clone, Debug)]
pub struct Related {
    /// What is at this position, such as `first listed`.
    pub what: &'static str,
    pub position: Position,
    pub(crate) span: Span,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.severity != Severity::Error {
            write!(f, "{}: ", self.severity.as_str())?;
        }
        f.write_str(&self.message)?;
        if let Some(Related { what, position, .. }) = &self.related {
            write!(f, " ({what} at line {})", position.line)?;
        }
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

impl Serialize for Related {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_struct("Related", 3)?;
        row.serialize_field("line", &self.position.line)?;
        row.serialize_field("column", &self.position.column)?;
        row.serialize_field("message", self.what)?;
        row.end()
    }
}
