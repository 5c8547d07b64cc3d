//! What a policy may consist of: the tables from which it is decoded, and from which [`json_schema`](super::json_schema)
//! is rendered, so that the two cannot drift apart.
//!
//! Which fields a mapping has, which it must have and which exclude one another, the decoder takes from here alone. The
//! kinds of values are the very constants that the methods of [`scalar`](super::scalar) are called with.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::decode::listed;
use super::endpoint::Service;
use super::scalar::short;

/// Which fields a mapping has.
pub(super) struct Schema {
    /// What the mapping is, as in `missing field ..., expected in every project`.
    pub(super) place: &'static str,
    pub(super) fields: &'static [Known],
    /// Of each group one field must be there, and no other of it.
    pub(super) one_of: &'static [&'static [&'static str]],
    /// Fields of which one needs the other.
    pub(super) together: &'static [[&'static str; 2]],
    /// Fields that exclude another.
    pub(super) apart: &'static [Apart],
    /// Fields that would hold a secret, where there is one for the path of its file.
    pub(super) secrets: &'static [Secret],
    /// Fields that other programs know in this place, and what is expected instead.
    pub(super) unsupported: &'static [(&'static str, &'static str)],
}

/// A field of a mapping.
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) need: Need,
    pub(super) kind: Kind,
    /// What it is for, in a line.
    pub(super) about: &'static str,
}

/// Whether a field must be there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Required,
    /// It need not be there, or stands in [`Schema::one_of`].
    Optional,
    /// Where it is not there, it is as if this, in JSON, were its value.
    Default(&'static str),
}

/// What a field's value is.
pub(super) enum Kind {
    Mapping(&'static Schema),
    /// A list of at least one such mapping.
    List(&'static Schema),
    /// A mapping from keys of tags to their values.
    Tags,
    Text(&'static Text),
    Form(&'static Form),
    /// The path of a file.
    Path,
    Address(Service),
    Choice(fn() -> Vec<&'static str>),
    Count(&'static Count),
    Rate(&'static Rate),
    Span(&'static RangeInclusive<Duration>),
    Boolean,
}

/// A text that may be anything, within bounds.
pub(super) struct Text {
    pub(super) what: &'static str,
    pub(super) longest: usize,
}

/// A text whose form is fixed.
pub(super) struct Form {
    pub(super) what: &'static str,
    /// A regular expression for the whole, for those who read the JSON Schema; the decoder knows more.
    pub(super) pattern: &'static str,
    /// It may look like a number, and is taken as it is written.
    pub(super) digits: bool,
}

/// A whole number.
pub(super) struct Count {
    pub(super) least: u64,
    pub(super) most: u64,
    /// What is counted, or nothing.
    pub(super) of: &'static str,
}

/// A number that may have a decimal point.
pub(super) struct Rate {
    pub(super) least: f64,
    pub(super) most: f64,
}

/// A field that is out of place beside another.
pub(super) struct Apart {
    pub(super) field: &'static str,
    pub(super) other: &'static str,
    /// What is expected instead, and why.
    pub(super) expected: &'static str,
}

/// A field that people write because other programs have it, and that no policy may have.
pub(super) struct Secret {
    pub(super) name: &'static str,
    /// The field of the same mapping that is meant.
    pub(super) meant: &'static str,
    /// The field that takes the path of the secret's file: the same, or one within it.
    pub(super) file: &'static str,
}

impl Schema {
    pub(super) const fn of(place: &'static str, fields: &'static [Known]) -> Self {
        Self { place, fields, one_of: &[], together: &[], apart: &[], secrets: &[], unsupported: &[] }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.fields.iter().map(|known| known.name)
    }

    /// Its fields as a sentence lists them.
    pub(super) fn expected(&self) -> String {
        if self.fields.is_empty() { "no field".to_owned() } else { listed(&self.names().collect::<Vec<_>>()) }
    }
}

impl Known {
    pub(super) const fn required(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self { name, need: Need::Required, kind, about }
    }

    pub(super) const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self { name, need: Need::Optional, kind, about }
    }

    pub(super) const fn default(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Self {
        Self { name, need: Need::Default(default), kind, about }
    }
}

impl Kind {
    /// What the value is, in words; nothing for a mapping and its like, whose fields say it.
    pub(super) fn words(&self) -> Option<String> {
        Some(match self {
            Self::Mapping(_) | Self::List(_) => return None,
            Self::Tags => "a mapping from keys of tags to their values, `\"*\"` for any".to_owned(),
            Self::Text(Text { what, longest }) => format!("{what}, at most {longest} characters"),
            Self::Form(form) => form.what.to_owned(),
            Self::Path => "the path of a file".to_owned(),
            Self::Address(service) => service.example().to_owned(),
            Self::Choice(names) => listed(&names()),
            Self::Count(count) => count.words(),
            Self::Rate(rate) => rate.words(),
            Self::Span(range) => span_words(range),
            Self::Boolean => "`true` or `false`".to_owned(),
        })
    }
}

impl Count {
    pub(super) fn words(&self) -> String {
        let Self { least, most, of } = self;
        let of = if of.is_empty() { String::new() } else { format!(" of {of}") };
        format!("a whole number{of} from {least} to {most}")
    }
}

impl Rate {
    pub(super) fn words(&self) -> String {
        format!("a number from {} to {}", self.least, self.most)
    }
}

/// The bounds of a duration in words.
pub(super) fn span_words(range: &RangeInclusive<Duration>) -> String {
    format!("a duration from {} to {}", short(*range.start()), short(*range.end()))
}

impl Secret {
    /// A secret whose file is named in the same mapping.
    pub(super) const fn of(name: &'static str, file: &'static str) -> Self {
        Self { name, meant: file, file }
    }

    pub(super) fn expected(&self) -> String {
        let Self { meant, file, .. } = self;
        if meant == file { format!("`{file}`") } else { format!("`{file}` in `{meant}`") }
    }
}
