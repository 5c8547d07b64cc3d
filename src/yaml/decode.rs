//! The decoder's state and the shape of mappings: which fields there are, and which are missing, misspelt or duplicate.
//!
//! Every method notes what is wrong and returns what is right, so that one pass finds every problem. A [`Schema`] lists
//! the fields; [`scalar`](super::scalar) reads single values in the same way. `policy` and `web` bring the tables.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::SystemTime;

use super::nearest::nearest;
use super::problem::{Finding, quoted};
use super::schema::{Apart, Known, Need, Schema, Secret};
use super::source::{Position, Source, Span};
use super::tree::{Node, Value};

/// The environment, as far as a policy may ask for it.
pub(crate) type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// A file that a document names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// The field that names it.
    pub field: &'static str,
    /// Where in the document that is.
    pub position: Position,
    /// The path, with its variables replaced.
    pub path: PathBuf,
}

/// The state of one reading.
pub(crate) struct Decoder<'e> {
    pub(crate) source: &'e Source<'e>,
    pub(crate) environment: Environment<'e>,
    /// The time of day, which tells what is over.
    pub(crate) now: SystemTime,
    pub(crate) findings: Vec<Finding>,
    /// The files that were named.
    pub(crate) files: Vec<NamedFile>,
}

impl<'e> Decoder<'e> {
    pub(crate) fn new(source: &'e Source<'e>, environment: Environment<'e>, now: SystemTime) -> Self {
        Self { source, environment, now, findings: Vec::new(), files: Vec::new() }
    }
}

/// A field that was given.
#[derive(Clone, Copy)]
pub(crate) struct Field<'n> {
    pub(crate) name: &'static str,
    pub(crate) key: Span,
    pub(crate) node: &'n Node<'n>,
}

impl Field<'_> {
    /// Its name as messages have it; an item of a list has a description in its place.
    pub(crate) fn label(&self) -> Cow<'static, str> {
        if self.name.contains(' ') { self.name.into() } else { format!("`{}`", self.name).into() }
    }

    /// Where the value is; where there is none, the key.
    pub(crate) fn span(&self) -> Span {
        if self.node.value == Value::Null { self.key } else { self.node.span }
    }
}

/// The fields of one mapping.
pub(crate) struct Fields<'n> {
    schema: &'static Schema,
    span: Span,
    given: Vec<Field<'n>>,
    /// Fields that a misspelt one probably means.
    meant: Vec<&'static str>,
    /// A merge key was given, which might bring any field.
    merged: bool,
}

impl<'n> Fields<'n> {
    /// The field, where it was given.
    pub(crate) fn get(&self, name: &str) -> Option<Field<'n>> {
        self.given.iter().find(|field| field.name == name).copied()
    }

    /// That the field is missing is told already, or not certain: it is misspelt, or a merge key might bring it.
    pub(crate) fn excuses(&self, name: &str) -> bool {
        self.merged || self.meant.contains(&name)
    }

    /// Where the mapping begins.
    pub(crate) fn span(&self) -> Span {
        self.span
    }
}

impl Decoder<'_> {
    pub(crate) fn error(&mut self, span: Span, message: impl Into<String>) -> &mut Finding {
        self.note(Finding::error(span, message))
    }

    pub(crate) fn warning(&mut self, span: Span, message: impl Into<String>) -> &mut Finding {
        self.note(Finding::warning(span, message))
    }

    fn note(&mut self, finding: Finding) -> &mut Finding {
        let at = self.findings.len();
        self.findings.push(finding);
        &mut self.findings[at]
    }

    /// `NAME is WHAT IT IS, expected WHAT IT SHOULD BE`.
    pub(crate) fn mismatch(&mut self, field: Field<'_>, expected: &str) -> &mut Finding {
        let found = self.found(field.node);
        self.error(field.span(), format!("{} is {found}, expected {expected}", field.label()))
    }

    /// What a node is, in words.
    pub(crate) fn found(&self, node: &Node<'_>) -> String {
        match &node.value {
            Value::Null => "empty".to_owned(),
            Value::Bool(value) => format!("the boolean {value}"),
            Value::Number => format!("the number {}", quoted(self.source.slice(node.span)).trim_matches('`')),
            Value::List(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
            Value::Text(_) | Value::Unfolded(_) => match node.text() {
                None | Some("") => "an empty text".to_owned(),
                Some(text) => format!("the text {}", quoted(text)),
            },
        }
    }

    /// The fields of a mapping, of which what is missing, misspelt or out of place is told.
    pub(crate) fn fields<'n>(&mut self, field: Field<'n>, schema: &'static Schema) -> Option<Fields<'n>> {
        let Value::Mapping(pairs) = &field.node.value else {
            // Not what it says: somebody may have written a password where it says where the password is.
            let found = match field.node.value {
                Value::Text(_) | Value::Unfolded(_) => "a text".to_owned(),
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
                finding.help(format!("the secret belongs in a file, and the file's path in `{file}`"));
            }
            return None;
        };
        let mut fields = Fields {
            schema,
            span: field.node.span,
            given: Vec::with_capacity(pairs.len()),
            meant: Vec::new(),
            merged: false,
        };
        for (key, node) in pairs {
            self.add(&mut fields, key, node);
        }
        self.complete(&fields);
        Some(fields)
    }

    fn add<'n>(&mut self, fields: &mut Fields<'n>, key: &Node<'_>, node: &'n Node<'n>) {
        let Schema { secrets, .. } = *fields.schema;
        // Worded for a problem only: ten thousand keys have thirty thousand fields.
        let expected = || fields.schema.expected();
        let Some(written) = key.text() else {
            let found = self.found(key);
            self.error(key.span, format!("a key is {found}, expected {}", expected()));
            return;
        };
        if let Some(name) = fields.schema.names().find(|name| *name == written) {
            match fields.get(name) {
                Some(first) => {
                    let finding = self.error(key.span, format!("duplicate field `{name}`, expected it once"));
                    finding.related("first given", first.key);
                    if !secrets.is_empty() {
                        // Nobody reads it, so nobody will find that it is a secret.
                        finding.conceal(node.span);
                    }
                }
                None => fields.given.push(Field { name, key: key.span, node }),
            }
        } else if let Some(secret) = secrets.iter().find(|secret| secret.name == written) {
            fields.meant.push(secret.meant);
            let message = format!(
                "`{written}` would put the secret itself into the policy, expected {}, the path of a file that holds it",
                secret.expected()
            );
            self.error(key.span, message).conceal(node.span);
        } else if let Some((_, instead)) = fields.schema.unsupported.iter().find(|(name, _)| *name == written) {
            // Its value may be a key.
            self.error(key.span, format!("`{written}` is not supported here, expected {instead}")).conceal(node.span);
        } else if written == "<<" {
            fields.merged = true;
            self.error(key.span, "the merge key `<<` is not supported, expected every field written out");
        } else {
            let near = nearest(written, fields.schema.names());
            fields.meant.extend(near);
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

    /// Notes what is missing, and what is given beside what it excludes.
    fn complete(&mut self, fields: &Fields<'_>) {
        let Schema { fields: known, one_of, together, apart, container, .. } = fields.schema;
        for Known { name, .. } in known.iter().filter(|known| known.need == Need::Required) {
            // A misspelt field has its problem already.
            if fields.get(name).is_none() && !fields.excuses(name) {
                self.error(fields.span, format!("missing field `{name}`, expected in {container}"));
            }
        }
        for names in *one_of {
            self.require_one_of(fields, names);
        }
        for [one, other] in together.iter().flat_map(|[one, other]| [[one, other], [other, one]]) {
            if let Some(given) = fields.get(one).filter(|_| fields.get(other).is_none() && !fields.excuses(other)) {
                self.error(given.key, format!("`{one}` is given without `{other}`, expected both or neither"));
            }
        }
        for Apart { field, other, expected } in *apart {
            if let Some((given, beside)) = fields.get(field).zip(fields.get(other)) {
                let message = format!("`{field}` is given beside `{other}`, expected {expected}");
                self.error(given.key, message).related("the other one", beside.key);
            }
        }
    }

    /// Of the fields `names`, which exclude one another, one must be there.
    fn require_one_of(&mut self, fields: &Fields<'_>, names: &[&str]) {
        let mut given = fields.given.iter().filter(|field| names.contains(&field.name));
        if let Some(first) = given.next() {
            for other in given {
                let message = format!("`{}` is given beside `{}`, expected one of them", other.name, first.name);
                self.error(other.key, message).related("the first given", first.key);
            }
        } else if !names.iter().any(|name| fields.excuses(name)) {
            let message = format!("missing field {}, expected one of them in {}", listed(names), fields.schema.container);
            self.error(fields.span, message);
        }
    }

    /// The items of a list that must not be empty. `what` is what the list must have at least one of.
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

/// A field that need not be given and must be right where it is.
#[expect(clippy::option_option, reason = "the outer one says whether the policy can be used")]
pub(crate) fn given<T>(field: Option<Option<T>>) -> Option<Option<T>> {
    match field {
        None => Some(None),
        Some(value) => value.map(Some),
    }
}

/// Whether the value of a field with such a name is better not drawn.
fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "passwd", "passphrase", "secret", "token"].iter().any(|word| name.contains(word))
}

/// Names as a sentence lists them.
pub(crate) fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::problem::Problems;
    use crate::yaml::schema::{Kind, Text};
    use crate::yaml::tree;

    const ANY: Text = Text { what: "a text", longest: 9 };
    const SCHEMA: Schema = Schema::of(
        "the test",
        &[Known::required("name", Kind::Text(&ANY), "a name"), Known::required("region", Kind::Text(&ANY), "a region")],
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
            "p:3:1: duplicate field `name`, expected it once (first given at line 1)",
            "p:4:1: the merge key `<<` is not supported, expected every field written out",
            "p:5:1: a key is a list, expected `name` or `region`",
            "p:6:1: unknown field `zone`, expected `name` or `region`",
        ];
        assert_eq!(problems(text), expected);
    }

    #[test]
    fn a_misspelt_field_is_not_missing_as_well() {
        assert_eq!(problems("regoin: a\nname: b\n").len(), 1);
        let missing = [
            "p:1:1: missing field `name`, expected in the test",
            "p:1:1: missing field `region`, expected in the test",
        ];
        assert_eq!(problems("{}"), missing);
    }

    #[test]
    fn what_is_no_mapping_is_said_to_be_what_it_is() {
        assert_eq!(problems("[]"), ["p:1:1: `test` is a list, expected a mapping with `name` or `region`"]);
        assert_eq!(problems("7"), ["p:1:1: `test` is a number, expected a mapping with `name` or `region`"]);
    }
}
