//! The conditions of `select`: which keys an entry means without naming them one by one.

use super::entry::LONGEST_ALIAS;
use crate::rotation::key::KeyId;
use crate::rotation::rule::{Glob, Selector, TagCondition};
use crate::yaml::decode::given;
use crate::yaml::decode::{Decoder, Field, listed};
use crate::yaml::nearest::nearest;
use crate::yaml::problem::{Finding, quoted};
use crate::yaml::schema::{Form, Kind, Known, Schema, Text, Texts};
use crate::yaml::tree::{Node, Value};

pub(super) const SELECT: Schema = Schema::of(
    "`select`",
    &[
        Known::optional("alias", Kind::Text(&PATTERN), "`*` is any text, `?` any one character"),
        Known::optional("tags", Kind::Texts(&TAGS), "the key has all of them"),
        Known::optional(
            "enterprise_project_id",
            Kind::Form(&ENTERPRISE_PROJECT),
            "the enterprise project that the key belongs to",
        ),
        Known::optional("key_spec", Kind::Text(&SPEC), "keys of `AES_256` and `SM4` can rotate"),
    ],
);

/// The algorithms of keys that the cloud rotates, and of those that it does not (`docs/kms-api.md` 1.3).
const ROTATABLE: &[&str] = &["AES_256", "SM4"];
const NOT_ROTATABLE: &[&str] =
    &["RSA_2048", "RSA_3072", "RSA_4096", "EC_P256", "EC_P384", "SM2", "HMAC_256", "HMAC_384", "HMAC_512"];

/// Tags of other services are longer than those that KMS lets be made (36 and 43 characters).
const TAGS: Texts = Texts {
    what: "a mapping from keys of tags to their values, `\"*\"` for any",
    longest_key: 128,
    longest_value: 255,
};
const TAG_KEY: Text = Text { what: "a text", longest: TAGS.longest_key };

const PATTERN: Text = Text { what: "a pattern for names of keys, such as `pay-*`", longest: LONGEST_ALIAS };
const SPEC: Text = Text { what: "an algorithm such as `AES_256`", longest: 64 };
const ENTERPRISE_PROJECT: Form = Form {
    what: "`0` for the default one, or an id: 36 characters in groups of 8-4-4-4-12",
    pattern: "^(0|[0-9a-z]{8}(-[0-9a-z]{4}){3}-[0-9a-z]{12})$",
    digits: true,
};

/// What stands for any value of a tag.
const ANY_VALUE: &str = "*";

/// The keys that an entry selects.
pub(super) struct Selection<'n> {
    pub(super) selector: Selector,
    /// Where it says the algorithm, which is worth a look where rotation is asked for.
    pub(super) key_spec: Option<Field<'n>>,
}

impl Decoder<'_> {
    /// The value of `select`.
    pub(super) fn select<'n>(&mut self, field: Field<'n>) -> Option<Selection<'n>> {
        let Value::Mapping(_) = field.node.value else {
            let finding = self.mismatch(field, &format!("a mapping with {}", SELECT.expected()));
            if field.node.value == Value::Null {
                finding.help("write `select: {}` where every key of the project is meant");
            }
            return None;
        };
        let before = self.findings.len();
        let fields = self.fields(field, &SELECT)?;
        let alias = fields.get("alias").map(|field| {
            let pattern = self.name(field, &PATTERN)?;
            Some(Glob::new(pattern))
        });
        let tags = match fields.get("tags") {
            Some(field) => self.tags(field),
            None => Some(Vec::new()),
        };
        let enterprise_project_id = fields.get("enterprise_project_id").map(|field| self.enterprise_project_id(field));
        let key_spec = fields.get("key_spec");
        let spec = key_spec.map(|field| {
            let spec = self.name(field, &SPEC)?;
            if spec.eq_ignore_ascii_case("all") {
                self.mismatch(field, "one algorithm, such as `AES_256`").help("leave it out for keys of every kind");
                return None;
            }
            Some(Box::from(spec))
        });
        let selector = Selector {
            alias: given(alias)?,
            tags: tags?,
            enterprise_project_id: given(enterprise_project_id)?,
            key_spec: given(spec)?,
        };
        // One that lacks a misspelt condition is another selector than is meant.
        let right = !self.findings[before..].iter().any(Finding::is_error);
        right.then_some(Selection { selector, key_spec })
    }

    /// Sorted by their keys, so that selectors compare whatever the order in the file.
    fn tags(&mut self, field: Field<'_>) -> Option<Vec<TagCondition>> {
        const EXPECTED: &str = "a mapping from keys of tags to their values, such as `{pci: \"true\"}`";
        let Value::Mapping(pairs) = &field.node.value else {
            self.mismatch(field, EXPECTED);
            return None;
        };
        if pairs.is_empty() {
            self.error(field.span(), "`tags` is an empty mapping, expected at least one tag")
                .help("leave it out for keys with any tags or none");
            return None;
        }
        let mut first: Vec<(&str, &Node<'_>)> = Vec::with_capacity(pairs.len());
        let mut tags = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            if key.text() == Some("<<") {
                self.error(key.span, "the merge key `<<` is not supported, expected every tag written out");
                continue;
            }
            let field = Field { name: "the key of a tag", key: key.span, node: key };
            let Some(name) = self.name(field, &TAG_KEY) else { continue };
            let wanted = self.tag_value(name, key, value);
            if let Some((_, first)) = first.iter().find(|(given, _)| *given == name) {
                let message = format!("duplicate tag {}, expected it once: a tag has one value", quoted(name));
                self.error(key.span, message).related("first given", first.span);
                continue;
            }
            first.push((name, key));
            tags.extend(wanted.map(|value| TagCondition { key: name.into(), value }));
        }
        tags.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        (tags.len() == pairs.len()).then_some(tags)
    }

    /// The value that a tag must have; nothing within where any will do.
    #[expect(clippy::option_option, reason = "the outer one says whether the policy can be used")]
    fn tag_value(&mut self, name: &str, key: &Node<'_>, node: &Node<'_>) -> Option<Option<Box<str>>> {
        const EXPECTED: &str = "a text, or `\"*\"` for any";
        let field = Field { name: "the value of a tag", key: key.span, node };
        let Some(value) = node.text() else {
            // As with every other text: what YAML has made of it may not be what the tag has.
            let message = format!("the tag {} is {}, expected {EXPECTED}", quoted(name), self.found(node));
            let written = self.source.slice(node.span);
            let finding = self.error(field.span(), message);
            if let Value::Bool(_) | Value::Number = node.value {
                finding.help(format!("put it in quotes: `\"{written}\"`"));
            }
            return None;
        };
        if value == ANY_VALUE {
            return Some(None);
        }
        if value.chars().any(char::is_control) || value.chars().count() > TAGS.longest_value {
            self.mismatch(field, "a text of at most 255 characters without control characters");
            return None;
        }
        self.warn_of_invisible(field, value);
        if value.contains('*') {
            let message =
                format!("the value {} of a tag is no pattern, expected it whole, or `\"*\"` for any", quoted(value));
            self.warning(field.span(), message);
        }
        Some(Some(value.into()))
    }

    fn enterprise_project_id(&mut self, field: Field<'_>) -> Option<Box<str>> {
        let id = self.verbatim(field, ENTERPRISE_PROJECT.what)?;
        if id == "0" || id.parse::<KeyId>().is_ok() {
            return Some(id.into());
        }
        let help = match id.to_ascii_lowercase().as_str() {
            "default" => Some("write `\"0\"`".to_owned()),
            "all" | ANY_VALUE => Some("leave it out for keys of every enterprise project".to_owned()),
            lower => lower.parse::<KeyId>().ok().map(|meant| format!("did you mean `{meant}`?")),
        };
        let finding = self.mismatch(field, ENTERPRISE_PROJECT.what);
        if let Some(help) = help {
            finding.help(help);
        }
        None
    }

    /// Warns of an algorithm whose keys the cloud does not rotate, or that is not known here. Clouds have new ones
    /// sooner than programs know of them.
    pub(super) fn judge_spec(&mut self, field: Field<'_>) {
        let spec = field.node.text().unwrap_or_default();
        if ROTATABLE.contains(&spec) {
            return;
        }
        let known = NOT_ROTATABLE.contains(&spec);
        let (spec_quoted, expected) = (quoted(spec), listed(ROTATABLE));
        let message = if known {
            format!("keys of {spec_quoted} cannot be rotated, expected {expected}, or `exempt`")
        } else {
            format!("the algorithm {spec_quoted} is not known here, expected {expected}")
        };
        let finding = self.warning(field.span(), message);
        if let Some(near) = nearest(spec, ROTATABLE.iter().copied()).filter(|_| !known) {
            finding.help(format!("did you mean `{near}`?"));
        }
    }
}
