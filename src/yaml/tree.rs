//! YAML text into a small tree in which every key and every value knows its position.
//!
//! The tree says what was written, not what it means: [`decode`](super::decode) reads meaning out of it and goes on
//! past each problem, as a derived `Deserialize` cannot. Here only a fault of the syntax ends the reading. This file
//! and [`syntax`](super::syntax), which words those faults, alone know the YAML crate.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, Options, Spanned};

use super::problem::Finding;
use super::source::{Source, Span};
use super::syntax;

/// The deepest nesting that is read. A policy needs six levels; the parser and the decoder recurse.
pub(crate) const DEEPEST: usize = 32;

/// The most values that are read: about a quarter of a million keys.
const MOST_VALUES: usize = 2_000_000;

/// The most that aliases may add to what is written: enough to share credentials among a thousand projects, and
/// far from what an alias that repeats aliases asks for.
const MOST_REPEATED: usize = 100_000;

/// A key or a value.
#[derive(Debug, PartialEq)]
pub(crate) struct Node<'t> {
    /// Where it was written; for what an alias repeats, at its anchor. A block mapping or list is the point at which
    /// its first line begins.
    pub(crate) span: Span,
    pub(crate) value: Value<'t>,
}

/// What was written. 24 bytes: a policy of 10 000 keys has 80 000 of them.
#[derive(Debug, PartialEq)]
pub(crate) enum Value<'t> {
    /// Nothing, `~` or `null`.
    Null,
    /// A boolean of YAML 1.2; `yes` and `no` are text.
    Bool(bool),
    /// Anything that looks like a number. Its digits are in the source, where alone `90` differs from `0x5A`.
    Number,
    /// A text as it stands in the source.
    Text(&'t str),
    /// A text that had escapes or several lines.
    Unfolded(Box<str>),
    List(Box<[Node<'t>]>),
    /// Keys can be of any kind, and can repeat.
    Mapping(Box<[(Node<'t>, Node<'t>)]>),
}

impl Node<'_> {
    /// The text, where the node is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Unfolded(text) => Some(text),
            _ => None,
        }
    }
}

/// The tree of the one document in the text.
pub(crate) fn parse<'t>(source: &Source<'t>) -> Result<Node<'t>, Finding> {
    // Merge keys are found by the decoder, as duplicate ones are.
    let options = options(MergeKeyPolicy::AsOrdinary);
    serde_saphyr::from_str_with_options(source.text, options).map_err(|error| syntax::explain(source, &error))
}

/// The same of another program's file, in which merge keys are replaced by what they bring.
pub(crate) fn parse_foreign<'t>(source: &Source<'t>) -> Result<Node<'t>, Finding> {
    let options = options(MergeKeyPolicy::Merge);
    serde_saphyr::from_str_with_options(source.text, options).map_err(|error| syntax::explain(source, &error))
}

fn options(merge_keys: MergeKeyPolicy) -> Options {
    serde_saphyr::options! {
        strict_booleans: true,
        // They are found by the decoder, which can name both positions, and are no reason to stop.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: merge_keys,
        // So that they are a wrong value among others.
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MOST_REPEATED,
            max_replay_stack_depth: DEEPEST,
        },
        budget: serde_saphyr::budget! {
            max_depth: DEEPEST,
            flow_nesting_limit: DEEPEST,
            max_nodes: MOST_VALUES,
            max_events: 2 * MOST_VALUES,
            // Many projects may share one anchor; what they repeat is bounded above.
            enforce_alias_anchor_ratio: false,
        },
    }
}

/// The bytes of a location; the crate has them for text that is in memory, as ours is.
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
    use serde_saphyr::Error;

    use super::*;

    fn pairs<'n, 't>(node: &'n Node<'t>) -> &'n [(Node<'t>, Node<'t>)] {
        match &node.value {
            Value::Mapping(pairs) => pairs,
            other => panic!("{other:?} is not a mapping"),
        }
    }

    #[test]
    fn every_key_and_value_has_its_place() {
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
    fn an_underscore_makes_a_number_text() {
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
    fn what_an_alias_repeats_has_the_place_of_its_anchor() {
        let tree = parse(&Source::new("a: &x {b: 1}\nc: *x\n")).unwrap();
        let [a, c] = pairs(&tree) else { panic!("{tree:?}") };
        assert_eq!(a.1, c.1);
    }

    /// A list that would be three thousand million times as long as it is written.
    pub(in super::super) fn a_billion_laughs() -> String {
        let anchored = |n: u32| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "));
        std::iter::once("a0: &a0 [x]\n".to_owned()).chain((1..=10).map(anchored)).collect()
    }

    #[test]
    fn no_more_is_repeated_than_is_allowed() {
        let text = a_billion_laughs();
        let mut error =
            &serde_saphyr::from_str_with_options::<Node<'_>>(&text, options(MergeKeyPolicy::AsOrdinary)).unwrap_err();
        while let Error::AliasError { error: inner, .. } = error {
            error = inner;
        }
        let Error::AliasReplayLimitExceeded { total_replayed_events, .. } = error else { panic!("{error:?}") };
        assert_eq!(*total_replayed_events, MOST_REPEATED + 1, "it ends at the first event that is too much");
    }

    #[test]
    fn a_node_stays_small() {
        assert!(size_of::<Node<'_>>() <= 32);
    }
}
