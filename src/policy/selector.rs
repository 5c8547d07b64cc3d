//! Decodes the conditions of `select`, which match keys without listing them.

use crate::rotation::key::KeyId;
use crate::rotation::rule::{Glob, Selector, TagCondition};
use crate::yaml::decode::{Decoder, Field, optional};
use crate::yaml::nearest::nearest;
use crate::yaml::problem::Finding;
use crate::yaml::schema::{FieldKind, FieldSchema, Form, Schema, Text, TextMap};
use crate::yaml::tree::{Node, Value};
use crate::yaml::wording::{or_list, quoted};

pub(super) const SELECT: Schema = Schema::of(
    "`select`",
    &[
        FieldSchema::optional("alias", FieldKind::Text(&PATTERN), "`*` matches any text, `?` any one character"),
        FieldSchema::optional("tags", FieldKind::TextMap(&TAGS), "the key must have all of them"),
        FieldSchema::optional(
            "enterprise_project_id",
            FieldKind::Form(&ENTERPRISE_PROJECT),
            "the enterprise project of the key",
        ),
        FieldSchema::optional("key_spec", FieldKind::Text(&SPEC), "only keys of `AES_256` and `SM4` can rotate"),
    ],
);

/// The algorithms of keys that can rotate, and of those that cannot (`docs/kms-api.md` 1.3).
const ROTATABLE: &[&str] = &["AES_256", "SM4"];
const NOT_ROTATABLE: &[&str] =
    &["RSA_2048", "RSA_3072", "RSA_4096", "EC_P256", "EC_P384", "SM2", "HMAC_256", "HMAC_384", "HMAC_512"];

/// Longer than KMS allows for new tags (36 and 43 characters), because other services set longer ones.
const TAGS: TextMap = TextMap {
    what: "a mapping from tag keys to tag values, `\"*\"` for any value",
    longest_key: 128,
    longest_value: 255,
};
const TAG_KEY: Text = Text { what: "a string", longest: TAGS.longest_key };

/// The longest key name in KMS.
pub(super) const LONGEST_ALIAS: usize = 255;
const PATTERN: Text = Text { what: "a pattern for key names, such as `pay-*`", longest: LONGEST_ALIAS };
const SPEC: Text = Text { what: "an algorithm such as `AES_256`", longest: 64 };
const ENTERPRISE_PROJECT: Form = Form {
    what: "`0` for the default enterprise project, or an id: 36 characters in groups of 8-4-4-4-12",
    pattern: "^(0|[0-9a-z]{8}(-[0-9a-z]{4}){3}-[0-9a-z]{12})$",
    numeric: true,
};

/// Matches any value of a tag.
const ANY_VALUE: &str = "*";

/// A decoded `select`.
pub(super) struct DecodedSelect<'n> {
    pub(super) selector: Selector,
    /// The field `key_spec`, to warn of if the entry requires rotation.
    pub(super) key_spec: Option<Field<'n>>,
}

impl Decoder<'_> {
    /// The value of `select`.
    pub(super) fn select<'n>(&mut self, field: Field<'n>) -> Option<DecodedSelect<'n>> {
        let Value::Mapping(_) = field.node.value else {
            let finding = self.mismatch(field, &format!("a mapping with {}", SELECT.expected()));
            if field.node.value == Value::Null {
                finding.help("write `select: {}` to match every key of the project");
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
                self.mismatch(field, "one algorithm, such as `AES_256`").help("leave it out to match every algorithm");
                return None;
            }
            Some(Box::from(spec))
        });
        let selector = Selector {
            alias: optional(alias)?,
            tags: tags?,
            enterprise_project_id: optional(enterprise_project_id)?,
            key_spec: optional(spec)?,
        };
        // A selector without a misspelt condition would match other keys than intended.
        let valid = !self.findings[before..].iter().any(Finding::is_error);
        valid.then_some(DecodedSelect { selector, key_spec })
    }

    /// The tags, sorted by key so that selectors compare equal in any order.
    fn tags(&mut self, field: Field<'_>) -> Option<Vec<TagCondition>> {
        const EXPECTED: &str = "a mapping from tag keys to tag values, such as `{pci: \"true\"}`";
        let Value::Mapping(pairs) = &field.node.value else {
            self.mismatch(field, EXPECTED);
            return None;
        };
        if pairs.is_empty() {
            self.error(field.span(), "`tags` is an empty mapping, expected at least one tag")
                .help("leave it out to match keys with any tags or none");
            return None;
        }
        let mut first: Vec<(&str, &Node<'_>)> = Vec::with_capacity(pairs.len());
        let mut tags = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            if key.text() == Some("<<") {
                self.error(key.span, "merge keys (`<<`) are not supported").help("repeat the tags");
                continue;
            }
            let field = Field { name: "the tag key", key: key.span, node: key };
            let Some(name) = self.name(field, &TAG_KEY) else { continue };
            let wanted = self.tag_value(name, key, value);
            if let Some((_, first)) = first.iter().find(|(other, _)| *other == name) {
                let message = format!("duplicate tag {}", quoted(name));
                self.error(key.span, message).related("first set", first.span).help("remove one of them");
                continue;
            }
            first.push((name, key));
            tags.extend(wanted.map(|value| TagCondition { key: name.into(), value }));
        }
        tags.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        (tags.len() == pairs.len()).then_some(tags)
    }

    /// The value that a tag must have; `Some(None)` for any value.
    #[expect(clippy::option_option, reason = "the outer one is whether the policy can be used")]
    fn tag_value(&mut self, name: &str, key: &Node<'_>, node: &Node<'_>) -> Option<Option<Box<str>>> {
        const EXPECTED: &str = "a string, or `\"*\"` for any value";
        let field = Field { name: "the tag value", key: key.span, node };
        let Some(value) = node.text() else {
            // As for every text: YAML may have changed the value.
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
            self.mismatch(field, "a string of at most 255 characters without control characters");
            return None;
        }
        self.warn_of_invisible(field, value);
        if value.contains('*') {
            let message = format!("tag values are not patterns: {} matches only this exact value", quoted(value));
            self.warning(field.span(), message).help("write `\"*\"` to match any value");
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
            "all" | ANY_VALUE => Some("leave it out to match every enterprise project".to_owned()),
            lower => lower.parse::<KeyId>().ok().map(|meant| format!("did you mean `{meant}`?")),
        };
        let finding = self.mismatch(field, ENTERPRISE_PROJECT.what);
        if let Some(help) = help {
            finding.help(help);
        }
        None
    }

    /// Warns of an unknown algorithm, or one that cannot rotate. Only a warning, because clouds add algorithms.
    pub(super) fn warn_of_key_spec(&mut self, field: Field<'_>) {
        let spec = field.node.text().unwrap_or_default();
        if ROTATABLE.contains(&spec) {
            return;
        }
        let known = NOT_ROTATABLE.contains(&spec);
        let (spec_quoted, expected) = (quoted(spec), or_list(ROTATABLE));
        let message = if known {
            format!("keys of {spec_quoted} cannot rotate, expected {expected}, or `exempt`")
        } else {
            format!("unknown algorithm {spec_quoted}, expected {expected}")
        };
        let finding = self.warning(field.span(), message);
        if let Some(near) = nearest(spec, ROTATABLE.iter().copied()).filter(|_| !known) {
            finding.help(format!("did you mean `{near}`?"));
        }
    }
}
