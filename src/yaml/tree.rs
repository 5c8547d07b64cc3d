//! Parses YAML text into a small tree that keeps the position of every key and value.
//!
//! The tree contains what was written; [`decode`](super::decode) interprets it and continues after a problem, which a
//! derived `Deserialize` cannot do. Only an error of the syntax ends the parsing. No other file but
//! [`syntax`](super::syntax), which words these errors, uses the YAML crate.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error, Location, Options, Spanned};

use super::source::{Source, Span};

/// The deepest nesting accepted: the parser and the decoder recurse. A policy needs six levels.
pub(crate) const MAX_DEPTH: usize = 32;

/// The most values accepted: about a quarter of a million keys.
const MAX_VALUES: usize = 2_000_000;

/// The most parser events that aliases may add: enough to share credentials among a thousand projects, far fewer than
/// nested aliases can produce.
const MAX_REPEATED: usize = 100_000;

/// A key or a value.
#[derive(Debug, PartialEq)]
pub(crate) struct Node<'t> {
    /// For an alias, the span of the value at its anchor. For a block mapping or list, an empty span at its first line.
    pub(crate) span: Span,
    pub(crate) value: Value<'t>,
}

/// What was written. 24 bytes, because a policy of 10 000 keys has 80 000 of them.
#[derive(Debug, PartialEq)]
pub(crate) enum Value<'t> {
    /// Nothing, `~` or `null`.
    Null,
    /// A boolean of YAML 1.2: `yes` and `no` are texts.
    Bool(bool),
    /// Anything that looks like a number. Read its digits from the source, which distinguishes `90` from `0x5A`.
    Number,
    /// A text that the source contains unchanged.
    Text(&'t str),
    /// A text with escapes or several lines.
    Unfolded(Box<str>),
    List(Box<[Node<'t>]>),
    /// Keys can be of any kind and can be duplicate.
    Mapping(Box<[(Node<'t>, Node<'t>)]>),
}

impl Node<'_> {
    /// The text, if the node is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Unfolded(text) => Some(text),
            _ => None,
        }
    }
}

/// Parses a text with one document.
pub(crate) fn parse<'t>(source: &Source<'t>) -> Result<Node<'t>, Box<Error>> {
    // The decoder reports merge keys and duplicate keys.
    Ok(serde_saphyr::from_str_with_options(source.text, options(MergeKeyPolicy::AsOrdinary))?)
}

/// Parses another program's file, with merge keys expanded.
pub(crate) fn parse_foreign<'t>(source: &Source<'t>) -> Result<Node<'t>, Box<Error>> {
    Ok(serde_saphyr::from_str_with_options(source.text, options(MergeKeyPolicy::Merge))?)
}

fn options(merge_keys: MergeKeyPolicy) -> Options {
    serde_saphyr::options! {
        strict_booleans: true,
        // The decoder reports them with both positions and continues.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: merge_keys,
        // The decoder reports them as wrong values.
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_REPEATED,
            max_replay_stack_depth: MAX_DEPTH,
        },
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_VALUES,
            max_events: 2 * MAX_VALUES,
            // Many projects may share one anchor; `MAX_REPEATED` is the limit.
            enforce_alias_anchor_ratio: false,
        },
    }
}

/// The bytes of a location. The deserializer always has them, the scanner never.
pub(crate) fn span(location: Location) -> Option<Span> {
    let start = usize::try_from(location.span().byte_offset()?).ok()?;
    let length = usize::try_from(location.span().byte_len()?).ok()?;
    Some(Span::new(start, start + length))
}

impl<'de> Deserialize<'de> for Node<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, defined, .. } = Spanned::deserialize(deserializer)?;
        Ok(Self { span: span(defined).unwrap_or(Span::new(0, 0)), value })
    }
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value<'de>, E> {
        Ok(Value::Number)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Unfolded(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = items.next_element()? {
            list.push(node);
        }
        Ok(Value::List(list.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value<'de>, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = entries.next_entry()? {
            pairs.push(pair);
        }
        Ok(Value::Mapping(pairs.into()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn pairs<'n, 't>(node: &'n Node<'t>) -> &'n [(Node<'t>, Node<'t>)] {
        match &node.value {
            Value::Mapping(pairs) => pairs,
            other => panic!("{other:?} is not a mapping"),
        }
    }

    #[test]
    fn every_key_and_value_has_its_position() {
        let source = Source::new("# ü\nfirst: 'a b'\nsecond: \"x\\ty\"\nthird:\n  - 0x5A\n");
        let tree = parse(&source).unwrap();
        let [first, second, third] = pairs(&tree) else { panic!("{tree:?}") };
        assert_eq!((source.slice(first.0.span), source.slice(first.1.span)), ("first", "'a b'"));
        assert_eq!((second.1.text(), source.slice(second.1.span)), (Some("x\ty"), "\"x\\ty\""));
        let Value::List(list) = &third.1.value else { panic!("{third:?}") };
        assert_eq!((&list[0].value, source.slice(list[0].span)), (&Value::Number, "0x5A"));
        assert_eq!(source.position(third.1.span.start).line, 5);
    }

    #[test]
    fn only_true_and_false_are_booleans() {
        for text in ["yes", "no", "on", "off", "y", "N"] {
            assert_eq!(parse(&Source::new(text)).unwrap().value, Value::Text(text));
        }
        assert_eq!(parse(&Source::new("true")).unwrap().value, Value::Bool(true));
    }

    #[test]
    fn a_number_with_an_underscore_is_a_text() {
        assert_eq!(parse(&Source::new("1_20")).unwrap().value, Value::Text("1_20"));
        for text in ["120", "-1", "1.5", "1e999", ".inf", ".nan", "99999999999999999999999999"] {
            assert_eq!(parse(&Source::new(text)).unwrap().value, Value::Number, "{text}");
        }
    }

    #[test]
    fn duplicate_and_merge_keys_are_left_to_the_decoder() {
        let tree = parse(&Source::new("a: &x {b: 1}\na: 2\n<<: *x\n")).unwrap();
        let keys: Vec<_> = pairs(&tree).iter().filter_map(|(key, _)| key.text()).collect();
        assert_eq!(keys, ["a", "a", "<<"]);
    }

    #[test]
    fn an_alias_has_the_position_of_its_anchor() {
        let tree = parse(&Source::new("a: &x {b: 1}\nc: *x\n")).unwrap();
        let [a, c] = pairs(&tree) else { panic!("{tree:?}") };
        assert_eq!(a.1, c.1);
    }

    /// Aliases of aliases that would expand to three thousand million values.
    pub(in super::super) fn a_billion_laughs() -> String {
        let anchored = |n: u32| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "));
        std::iter::once("a0: &a0 [x]\n".to_owned()).chain((1..=10).map(anchored)).collect()
    }

    #[test]
    fn aliases_stop_at_the_limit() {
        let text = a_billion_laughs();
        let mut error =
            &serde_saphyr::from_str_with_options::<Node<'_>>(&text, options(MergeKeyPolicy::AsOrdinary)).unwrap_err();
        while let Error::AliasError { error: inner, .. } = error {
            error = inner;
        }
        let Error::AliasReplayLimitExceeded { total_replayed_events, .. } = error else { panic!("{error:?}") };
        assert_eq!(*total_replayed_events, MAX_REPEATED + 1, "it stops at the first event over the limit");
    }

    #[test]
    fn a_node_stays_small() {
        assert!(size_of::<Node<'_>>() <= 32);
    }
}
