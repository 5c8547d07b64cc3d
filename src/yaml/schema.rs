//! Tables of fields: what a document may contain. The decoder takes from them alone which fields a mapping has, which are
//! required and which exclude one another; the policy's JSON Schema and the reference of its fields are rendered from
//! the same tables. The kinds of values are the constants with which the methods of [`scalar`](super::scalar) are called.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::decode::listed;
use super::scalar::short;

/// Which fields a mapping has.
pub(crate) struct Schema {
    /// What the mapping is, as in `missing field ..., expected in every project`.
    pub(crate) container: &'static str,
    pub(crate) fields: &'static [Known],
    /// Of each group one field must be there, and no other of it.
    pub(crate) one_of: &'static [&'static [&'static str]],
    /// Fields of which one needs the other.
    pub(crate) together: &'static [[&'static str; 2]],
    /// Fields that exclude another.
    pub(crate) apart: &'static [Apart],
    /// Fields that would hold a secret, where there is one for the path of its file.
    pub(crate) secrets: &'static [Secret],
    /// Fields that other programs know in this place, and what is expected instead.
    pub(crate) unsupported: &'static [(&'static str, &'static str)],
}

/// A field of a mapping.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) need: Need,
    pub(crate) kind: Kind,
    /// What it is for, in a line.
    pub(crate) about: &'static str,
}

/// Whether a field must be there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Required,
    /// It need not be there, or stands in [`Schema::one_of`].
    Optional,
    /// Where it is not there, it is as if this, in JSON, were its value.
    Default(&'static str),
}

/// What a field's value is.
pub(crate) enum Kind {
    Mapping(&'static Schema),
    /// A list of at least one such mapping.
    List(&'static Schema),
    /// A mapping from texts to texts.
    Texts(&'static Texts),
    Text(&'static Text),
    Form(&'static Form),
    /// The path of a file.
    Path,
    /// The address of a service, such as this.
    Address(&'static str),
    Choice(fn() -> Vec<&'static str>),
    Count(&'static Count),
    Rate(&'static Rate),
    Span(&'static RangeInclusive<Duration>),
    Boolean,
}

/// A text that may be anything, within bounds.
pub(crate) struct Text {
    pub(crate) what: &'static str,
    pub(crate) longest: usize,
}

/// A mapping whose keys are not those of a table.
pub(crate) struct Texts {
    pub(crate) what: &'static str,
    pub(crate) longest_key: usize,
    pub(crate) longest_value: usize,
}

/// A text whose form is fixed.
pub(crate) struct Form {
    pub(crate) what: &'static str,
    /// A regular expression for the whole, for those who read the JSON Schema; the decoder knows more.
    pub(crate) pattern: &'static str,
    /// It may look like a number, and is taken as it is written.
    pub(crate) digits: bool,
}

/// A whole number.
pub(crate) struct Count {
    pub(crate) least: u64,
    pub(crate) most: u64,
    /// What is counted, or nothing.
    pub(crate) of: &'static str,
}

/// A number that may have a decimal point.
pub(crate) struct Rate {
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// A field that is out of place beside another.
pub(crate) struct Apart {
    pub(crate) field: &'static str,
    pub(crate) other: &'static str,
    /// What is expected instead, and why.
    pub(crate) expected: &'static str,
}

/// A field that people write because other programs have it, and that no policy may have.
pub(crate) struct Secret {
    pub(crate) name: &'static str,
    /// The field of the same mapping that is meant.
    pub(crate) meant: &'static str,
    /// The field that takes the path of the secret's file: the same, or one within it.
    pub(crate) file: &'static str,
}

impl Schema {
    pub(crate) const fn of(container: &'static str, fields: &'static [Known]) -> Self {
        Self { container, fields, one_of: &[], together: &[], apart: &[], secrets: &[], unsupported: &[] }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.fields.iter().map(|known| known.name)
    }

    /// Its fields as a sentence lists them.
    pub(crate) fn expected(&self) -> String {
        if self.fields.is_empty() { "no field".to_owned() } else { listed(&self.names().collect::<Vec<_>>()) }
    }
}

impl Known {
    pub(crate) const fn required(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self { name, need: Need::Required, kind, about }
    }

    pub(crate) const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self { name, need: Need::Optional, kind, about }
    }

    pub(crate) const fn default(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Self {
        Self { name, need: Need::Default(default), kind, about }
    }
}

impl Kind {
    /// What the value is, in words; nothing for a mapping and its like, whose fields say it.
    pub(crate) fn words(&self) -> Option<String> {
        Some(match self {
            Self::Mapping(_) | Self::List(_) => return None,
            Self::Texts(texts) => texts.what.to_owned(),
            Self::Text(Text { what, longest }) => format!("{what}, at most {longest} characters"),
            Self::Form(form) => form.what.to_owned(),
            Self::Path => "the path of a file".to_owned(),
            Self::Address(example) => (*example).to_owned(),
            Self::Choice(names) => listed(&names()),
            Self::Count(count) => count.words(),
            Self::Rate(rate) => rate.words(),
            Self::Span(range) => span_words(range),
            Self::Boolean => "`true` or `false`".to_owned(),
        })
    }
}

impl Count {
    pub(crate) fn words(&self) -> String {
        let Self { least, most, of } = self;
        let of = if of.is_empty() { String::new() } else { format!(" of {of}") };
        format!("a whole number{of} from {least} to {most}")
    }
}

impl Rate {
    pub(crate) fn words(&self) -> String {
        format!("a number from {} to {}", self.least, self.most)
    }
}

/// The bounds of a duration in words.
pub(crate) fn span_words(range: &RangeInclusive<Duration>) -> String {
    format!("a duration from {} to {}", short(*range.start()), short(*range.end()))
}

impl Secret {
    /// A secret whose file is named in the same mapping.
    pub(crate) const fn of(name: &'static str, file: &'static str) -> Self {
        Self { name, meant: file, file }
    }

    pub(crate) fn expected(&self) -> String {
        let Self { meant, file, .. } = self;
        if meant == file { format!("`{file}`") } else { format!("`{file}` in `{meant}`") }
    }
}
