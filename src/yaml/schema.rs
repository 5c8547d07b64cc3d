//! Types for tables of fields: which fields a mapping has, which are required, and which cannot be combined. The
//! decoder, the policy's JSON Schema and the field table in `docs/policy.md` use the same tables.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::wording::{duration_range, or_list};

/// The fields of a mapping.
pub(crate) struct Schema {
    /// The mapping in words, as in `missing field ..., required in every project`.
    pub(crate) container: &'static str,
    pub(crate) fields: &'static [FieldSchema],
    /// Groups of fields of which exactly one is required.
    pub(crate) one_of: &'static [&'static [&'static str]],
    /// Pairs of fields that must be set together.
    pub(crate) together: &'static [[&'static str; 2]],
    /// Pairs of fields that cannot be combined.
    pub(crate) exclusions: &'static [Exclusion],
    /// Fields that would contain a secret, and the field for the path of its file.
    pub(crate) secrets: &'static [Secret],
    /// Fields of other programs that are not supported, and what to do instead.
    pub(crate) unsupported: &'static [(&'static str, &'static str)],
    /// Fields that are not allowed here, and where to set them.
    pub(crate) elsewhere: &'static [(&'static str, &'static str)],
}

/// One field of a mapping.
pub(crate) struct FieldSchema {
    pub(crate) name: &'static str,
    pub(crate) need: Need,
    pub(crate) kind: FieldKind,
    /// Its meaning in one line.
    pub(crate) about: &'static str,
}

/// Whether a field must be set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Required,
    /// Required, unless a mapping elsewhere in the file has a default for it.
    RequiredOrInherited,
    /// It can be absent, or is in a group of [`Schema::one_of`].
    Optional,
    /// Its default as JSON.
    Default(&'static str),
}

/// The kind of a field's value.
pub(crate) enum FieldKind {
    Mapping(&'static Schema),
    /// A list of at least one mapping.
    List(&'static Schema),
    /// A mapping from texts to texts.
    TextMap(&'static TextMap),
    Text(&'static Text),
    Form(&'static Form),
    /// The path of a file.
    Path,
    /// The address of a service, with an example.
    Address(&'static str),
    Choice(fn() -> Vec<&'static str>),
    Count(&'static Count),
    Rate(&'static Rate),
    Duration(&'static RangeInclusive<Duration>),
    Boolean,
}

/// A text of any form.
pub(crate) struct Text {
    pub(crate) what: &'static str,
    pub(crate) longest: usize,
}

/// A mapping with any keys.
pub(crate) struct TextMap {
    pub(crate) what: &'static str,
    pub(crate) longest_key: usize,
    pub(crate) longest_value: usize,
}

/// A text of a fixed form.
pub(crate) struct Form {
    pub(crate) what: &'static str,
    /// A regular expression for the JSON Schema; the decoder checks more.
    pub(crate) pattern: &'static str,
    /// Whether it can look like a number; it is then used as written.
    pub(crate) numeric: bool,
}

/// A whole number.
pub(crate) struct Count {
    pub(crate) least: u64,
    pub(crate) most: u64,
    /// The unit, or an empty text.
    pub(crate) of: &'static str,
}

/// A number that may have a decimal point.
pub(crate) struct Rate {
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// A field that cannot be combined with another.
pub(crate) struct Exclusion {
    pub(crate) field: &'static str,
    pub(crate) other: &'static str,
    pub(crate) reason: &'static str,
}

/// A field of other programs that would contain a secret.
pub(crate) struct Secret {
    pub(crate) name: &'static str,
    /// The field of the same mapping that is probably meant.
    pub(crate) meant: &'static str,
    /// The field for the path of the secret's file: `meant`, or a field in `meant`.
    pub(crate) file: &'static str,
}

impl Schema {
    pub(crate) const fn of(container: &'static str, fields: &'static [FieldSchema]) -> Self {
        Self {
            container,
            fields,
            one_of: &[],
            together: &[],
            exclusions: &[],
            secrets: &[],
            unsupported: &[],
            elsewhere: &[],
        }
    }

    /// Whether its mappings take fields that they leave out from the defaults of the file.
    pub(crate) fn inherits(&self) -> bool {
        self.fields.iter().any(|known| known.need == Need::RequiredOrInherited)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.fields.iter().map(|known| known.name)
    }

    /// The names of its fields as a list with "or".
    pub(crate) fn expected(&self) -> String {
        if self.fields.is_empty() { "no fields".to_owned() } else { or_list(&self.names().collect::<Vec<_>>()) }
    }
}

impl FieldSchema {
    pub(crate) const fn required(name: &'static str, kind: FieldKind, about: &'static str) -> Self {
        Self { name, need: Need::Required, kind, about }
    }

    pub(crate) const fn required_or_inherited(name: &'static str, kind: FieldKind, about: &'static str) -> Self {
        Self { name, need: Need::RequiredOrInherited, kind, about }
    }

    pub(crate) const fn optional(name: &'static str, kind: FieldKind, about: &'static str) -> Self {
        Self { name, need: Need::Optional, kind, about }
    }

    /// The same field in the mapping that has defaults, where all are optional.
    pub(crate) const fn in_defaults(self) -> Self {
        Self { need: Need::Optional, ..self }
    }

    pub(crate) const fn default(
        name: &'static str,
        kind: FieldKind,
        default: &'static str,
        about: &'static str,
    ) -> Self {
        Self { name, need: Need::Default(default), kind, about }
    }
}

impl FieldKind {
    /// The value in words. `None` for mappings and lists, which are described by their fields.
    pub(crate) fn words(&self) -> Option<String> {
        Some(match self {
            Self::Mapping(_) | Self::List(_) => return None,
            Self::TextMap(map) => map.what.to_owned(),
            Self::Text(Text { what, longest }) => format!("{what}, at most {longest} characters"),
            Self::Form(form) => form.what.to_owned(),
            Self::Path => "the path of a file".to_owned(),
            Self::Address(example) => (*example).to_owned(),
            Self::Choice(names) => or_list(&names()),
            Self::Count(count) => count.words(),
            Self::Rate(rate) => rate.words(),
            Self::Duration(range) => duration_range(range),
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

impl Secret {
    /// A secret whose `file` field is in the same mapping.
    pub(crate) const fn of(name: &'static str, file: &'static str) -> Self {
        Self { name, meant: file, file }
    }

    pub(crate) fn expected(&self) -> String {
        let Self { meant, file, .. } = self;
        if meant == file { format!("`{file}`") } else { format!("`{file}` in `{meant}`") }
    }
}
