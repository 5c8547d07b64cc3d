//! Decodes mappings and lists, and reports missing, misspelt, duplicate and conflicting fields.
//!
//! Each method returns the value if it is valid, and otherwise records a finding and returns nothing, so that one pass
//! finds every problem. [`scalar`](super::scalar) decodes single values in the same way.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::SystemTime;

use super::nearest::nearest;
use super::problem::Finding;
use super::schema::{Exclusion, FieldSchema, Need, Schema, Secret};
use super::source::{Position, Source, Span};
use super::tree::{Node, Value};
use super::wording::{or_list, quoted};

/// Reads an environment variable.
pub(crate) type VariableLookup<'e> = &'e dyn Fn(&str) -> Option<String>;

/// A file that the document names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// The field that contains the path.
    pub field: &'static str,
    /// The position of the path.
    pub position: Position,
    /// The path, with its variables expanded.
    pub path: PathBuf,
}

/// The state while one file is decoded.
pub(crate) struct Decoder<'e> {
    pub(crate) source: &'e Source<'e>,
    pub(crate) environment: VariableLookup<'e>,
    /// The current time, for exemptions that have ended.
    pub(crate) now: SystemTime,
    pub(crate) findings: Vec<Finding>,
    pub(crate) files: Vec<NamedFile>,
    /// A field that may be missing although it is required, and that is not decoded: `init` writes it.
    pub(crate) ignored: Option<&'static str>,
}

impl<'e> Decoder<'e> {
    pub(crate) fn new(source: &'e Source<'e>, environment: VariableLookup<'e>, now: SystemTime) -> Self {
        Self { source, environment, now, findings: Vec::new(), files: Vec::new(), ignored: None }
    }
}

/// A field that is set.
#[derive(Clone, Copy)]
pub(crate) struct Field<'n> {
    /// Its name; for an item of a list, a description with a space.
    pub(crate) name: &'static str,
    pub(crate) key: Span,
    pub(crate) node: &'n Node<'n>,
}

impl Field<'_> {
    /// The name as messages show it: in backticks unless it is a description.
    pub(crate) fn label(&self) -> Cow<'static, str> {
        if self.name.contains(' ') { self.name.into() } else { format!("`{}`", self.name).into() }
    }

    /// The span of the value, or of the key if the value is empty.
    pub(crate) fn span(&self) -> Span {
        if self.node.value == Value::Null { self.key } else { self.node.span }
    }
}

/// The fields of one mapping.
pub(crate) struct Fields<'n> {
    schema: &'static Schema,
    span: Span,
    set: Vec<Field<'n>>,
    /// The fields that misspelt ones probably mean.
    misspelt: Vec<&'static str>,
    /// The mapping has a merge key, which can set any field.
    merged: bool,
}

impl<'n> Fields<'n> {
    /// The fields of a mapping that could not be decoded: any may be missing because of that.
    pub(crate) fn undecoded(schema: &'static Schema, span: Span) -> Self {
        Self { schema, span, set: Vec::new(), misspelt: Vec::new(), merged: true }
    }

    /// The field, if it is set.
    pub(crate) fn get(&self, name: &str) -> Option<Field<'n>> {
        self.set.iter().find(|field| field.name == name).copied()
    }

    /// Whether a missing field is already explained: it is misspelt, or a merge key can set it.
    pub(crate) fn excuses(&self, name: &str) -> bool {
        self.merged || self.misspelt.contains(&name)
    }

    /// The span of the mapping.
    pub(crate) fn span(&self) -> Span {
        self.span
    }
}

impl Decoder<'_> {
    pub(crate) fn error(&mut self, span: Span, message: impl Into<String>) -> &mut Finding {
        self.record(Finding::error(span, message))
    }

    pub(crate) fn warning(&mut self, span: Span, message: impl Into<String>) -> &mut Finding {
        self.record(Finding::warning(span, message))
    }

    fn record(&mut self, finding: Finding) -> &mut Finding {
        let at = self.findings.len();
        self.findings.push(finding);
        &mut self.findings[at]
    }

    /// Records `FIELD is VALUE, expected EXPECTED`.
    pub(crate) fn mismatch(&mut self, field: Field<'_>, expected: &str) -> &mut Finding {
        let found = self.found(field.node);
        self.error(field.span(), format!("{} is {found}, expected {expected}", field.label()))
    }

    /// The kind and value of a node in words.
    pub(crate) fn found(&self, node: &Node<'_>) -> String {
        match &node.value {
            Value::Null => "empty".to_owned(),
            Value::Bool(value) => format!("the boolean {value}"),
            Value::Number => format!("the number {}", quoted(self.source.slice(node.span)).trim_matches('`')),
            Value::List(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
            Value::Text(_) | Value::Unfolded(_) => match node.text() {
                None | Some("") => "an empty string".to_owned(),
                Some(text) => format!("the string {}", quoted(text)),
            },
        }
    }

    /// The fields of a mapping. Reports missing, misspelt and forbidden fields.
    pub(crate) fn fields<'n>(&mut self, field: Field<'n>, schema: &'static Schema) -> Option<Fields<'n>> {
        self.fields_or_inherited(field, schema, None)
    }

    /// The fields of a mapping that may leave out what `defaults` sets. The caller takes these fields from there.
    pub(crate) fn fields_or_inherited<'n>(
        &mut self,
        field: Field<'n>,
        schema: &'static Schema,
        defaults: Option<&Fields<'_>>,
    ) -> Option<Fields<'n>> {
        let Value::Mapping(pairs) = &field.node.value else {
            // The value is not repeated: it may be a password instead of the path of its file.
            let found = match field.node.value {
                Value::Text(_) | Value::Unfolded(_) => "a string".to_owned(),
                Value::Number => "a number".to_owned(),
                _ => self.found(field.node),
            };
            let expected = match schema.fields {
                [] => "an empty mapping".to_owned(),
                _ => format!("a mapping with {}", schema.expected()),
            };
            let secret = schema.secrets.iter().find(|secret| secret.name == field.name);
            let finding = self.error(field.span(), format!("{} is {found}, expected {expected}", field.label()));
            if !schema.secrets.is_empty() {
                finding.conceal(field.node.span);
            }
            if let Some(Secret { file, .. }) = secret {
                finding.help(format!("put the secret into a file and the path of this file into `{file}`"));
            }
            return None;
        };
        let mut fields = Fields {
            schema,
            span: field.node.span,
            set: Vec::with_capacity(pairs.len()),
            misspelt: Vec::new(),
            merged: false,
        };
        for (key, node) in pairs {
            self.add(&mut fields, key, node);
        }
        self.check_combination(&fields, defaults);
        Some(fields)
    }

    fn add<'n>(&mut self, fields: &mut Fields<'n>, key: &Node<'_>, node: &'n Node<'n>) {
        let Schema { secrets, .. } = *fields.schema;
        // A closure, because valid fields need no text: ten thousand keys have thirty thousand of them.
        let expected = || fields.schema.expected();
        let Some(written) = key.text() else {
            let found = self.found(key);
            self.error(key.span, format!("the name of a field is {found}, expected {}", expected()));
            return;
        };
        if let Some(name) = fields.schema.names().find(|name| *name == written) {
            match fields.get(name) {
                Some(first) => {
                    let finding = self.error(key.span, format!("duplicate field `{name}`"));
                    finding.related("first set", first.key).help("remove one of them");
                    if !secrets.is_empty() {
                        // The value is never decoded, so a secret in it would not be found.
                        finding.conceal(node.span);
                    }
                }
                None => fields.set.push(Field { name, key: key.span, node }),
            }
        } else if let Some(secret) = secrets.iter().find(|secret| secret.name == written) {
            fields.misspelt.push(secret.meant);
            let message = format!(
                "`{written}` would put a secret into this file, expected {} with the path of a file that contains it",
                secret.expected()
            );
            self.error(key.span, message).conceal(node.span);
        } else if let Some((_, help)) = fields.schema.unsupported.iter().find(|(name, _)| *name == written) {
            // The value may be a private key.
            self.error(key.span, format!("`{written}` is not supported")).help(*help).conceal(node.span);
        } else if let Some((_, help)) = fields.schema.elsewhere.iter().find(|(name, _)| *name == written) {
            let message = format!("`{written}` is not allowed in {}", fields.schema.container);
            self.error(key.span, message).help(*help);
        } else if written == "<<" {
            fields.merged = true;
            let help =
                if fields.schema.inherits() { "repeat the fields, or use `defaults`" } else { "repeat the fields" };
            self.error(key.span, "merge keys (`<<`) are not supported").help(help);
        } else {
            let near = nearest(written, fields.schema.names());
            fields.misspelt.extend(near);
            let message = format!("unknown field {}, expected {}", quoted(written), expected());
            let finding = self.error(key.span, message);
            if !secrets.is_empty() || sounds_secret(written) {
                finding.conceal(node.span);
            }
            if let Some(near) = near {
                finding.help(format!("did you mean `{near}`?"));
            }
        }
    }

    /// Reports missing fields, and fields that cannot be combined.
    fn check_combination(&mut self, fields: &Fields<'_>, defaults: Option<&Fields<'_>>) {
        let Schema { fields: known, one_of, together, exclusions, container, .. } = fields.schema;
        for FieldSchema { name, need, .. } in *known {
            let is_inherited = || defaults.is_some_and(|from| from.get(name).is_some() || from.excuses(name));
            let is_needed = match need {
                Need::Required => true,
                Need::RequiredOrInherited => !is_inherited(),
                Need::Optional | Need::Default(_) => false,
            };
            if is_needed && fields.get(name).is_none() && !fields.excuses(name) && self.ignored != Some(name) {
                let finding = self.error(fields.span, format!("missing field `{name}`, required in {container}"));
                if *need == Need::RequiredOrInherited {
                    finding.help("set it here or in `defaults`");
                }
            }
        }
        for names in *one_of {
            self.require_one_of(fields, names);
        }
        for [one, other] in together.iter().flat_map(|[one, other]| [[one, other], [other, one]]) {
            if let Some(set) = fields.get(one).filter(|_| fields.get(other).is_none() && !fields.excuses(other)) {
                self.error(set.key, format!("`{one}` is set without `{other}`")).help("set both or neither");
            }
        }
        for Exclusion { field, other, reason } in *exclusions {
            if let Some((set, beside)) = fields.get(field).zip(fields.get(other)) {
                let message = format!("`{field}` cannot be combined with `{other}`: {reason}");
                self.error(set.key, message).related("other field", beside.key);
            }
        }
    }

    /// Requires exactly one of the fields `names`.
    fn require_one_of(&mut self, fields: &Fields<'_>, names: &[&str]) {
        let mut set = fields.set.iter().filter(|field| names.contains(&field.name));
        if let Some(first) = set.next() {
            for other in set {
                let message = format!("`{}` cannot be combined with `{}`", other.name, first.name);
                self.error(other.key, message).related("first set", first.key).help("remove one of them");
            }
        } else if !names.iter().any(|name| fields.excuses(name)) {
            let (names, container) = (or_list(names), fields.schema.container);
            self.error(fields.span, format!("missing field {names}, one is required in {container}"));
        }
    }

    /// The items of a list that must not be empty. `what` is the kind of its items.
    pub(crate) fn items<'n>(&mut self, field: Field<'n>, what: &str) -> &'n [Node<'n>] {
        match &field.node.value {
            Value::List(items) if !items.is_empty() => items,
            Value::List(_) => {
                self.error(field.span(), format!("`{}` is an empty list, expected at least one {what}", field.name));
                &[]
            }
            _ => {
                self.mismatch(field, &format!("a list with at least one {what}"));
                &[]
            }
        }
    }
}

/// For an optional field: it may be absent, but must be valid if it is set.
#[expect(clippy::option_option, reason = "the outer one is whether the policy can be used")]
pub(crate) fn optional<T>(field: Option<Option<T>>) -> Option<Option<T>> {
    match field {
        None => Some(None),
        Some(value) => value.map(Some),
    }
}

/// Whether the value of an unknown field with this name may be a secret.
fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "passwd", "passphrase", "secret", "token"].iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::problem_list::Problems;
    use crate::yaml::schema::{FieldKind, Text};
    use crate::yaml::tree;

    const ANY: Text = Text { what: "a string", longest: 9 };
    const SCHEMA: Schema = Schema::of(
        "the test",
        &[
            FieldSchema::required("name", FieldKind::Text(&ANY), "a name"),
            FieldSchema::required("region", FieldKind::Text(&ANY), "a region"),
        ],
    );

    fn problems(text: &str) -> Vec<String> {
        let source = Source::new(text);
        let tree = tree::parse(&source).unwrap();
        let mut decoder = Decoder::new(&source, &|_| None, SystemTime::UNIX_EPOCH);
        decoder.fields(Field { name: "test", key: tree.span, node: &tree }, &SCHEMA);
        Problems::new("p", &source, decoder.findings).to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_mapping_can_have_many_problems_at_once() {
        let text = "name: a\nregoin: b\nname: c\n<<: {}\n[x]: y\nzone: z\n";
        let expected = [
            "p:2:1: unknown field `regoin`, expected `name` or `region`; did you mean `region`?",
            "p:3:1: duplicate field `name` (first set at line 1); remove one of them",
            "p:4:1: merge keys (`<<`) are not supported; repeat the fields",
            "p:5:1: the name of a field is a list, expected `name` or `region`",
            "p:6:1: unknown field `zone`, expected `name` or `region`",
        ];
        assert_eq!(problems(text), expected);
    }

    #[test]
    fn a_misspelt_field_is_not_reported_as_missing_too() {
        assert_eq!(problems("regoin: a\nname: b\n").len(), 1);
        let missing = [
            "p:1:1: missing field `name`, required in the test",
            "p:1:1: missing field `region`, required in the test",
        ];
        assert_eq!(problems("{}"), missing);
    }

    #[test]
    fn a_value_of_another_kind_is_named() {
        assert_eq!(problems("[]"), ["p:1:1: `test` is a list, expected a mapping with `name` or `region`"]);
        assert_eq!(problems("7"), ["p:1:1: `test` is a number, expected a mapping with `name` or `region`"]);
    }
}
