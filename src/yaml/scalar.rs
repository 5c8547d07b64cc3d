//! Decodes single values: texts, numbers, booleans, durations, choices and paths of files.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::decode::{Decoder, Field, NamedFile};
use super::nearest::nearest;
use super::schema::{Count, Rate, Text};
use super::source::Span;
use super::tree::Value;
use super::wording::{duration_range, or_list, quoted};
use crate::support::duration::parse_duration;
use crate::support::printable::is_unprintable;

impl Decoder<'_> {
    /// A text of any content. A number or a boolean is refused, because YAML may have changed it.
    pub(crate) fn text<'n>(&mut self, field: Field<'n>, expected: &str) -> Option<&'n str> {
        let text = field.node.text();
        if text.is_none() {
            let scalar = matches!(field.node.value, Value::Number | Value::Bool(_));
            let finding = self.mismatch(field, expected);
            if scalar {
                finding.help("put it in quotes to make it a string");
            }
        }
        text
    }

    /// A text that is not empty, not too long, and has no control characters and no leading or trailing spaces.
    pub(crate) fn name<'n>(&mut self, field: Field<'n>, text: &Text) -> Option<&'n str> {
        let &Text { what: expected, longest } = text;
        let text = self.text(field, expected)?;
        if text.is_empty() {
            self.mismatch(field, expected);
            return None;
        }
        if text.trim() != text || text.chars().any(char::is_control) {
            let message = format!("{expected}, without control characters and without leading or trailing spaces");
            self.mismatch(field, &message);
            return None;
        }
        if text.chars().count() > longest {
            self.mismatch(field, &format!("{expected}, at most {longest} characters"));
            return None;
        }
        self.warn_of_invisible(field, text);
        Some(text)
    }

    /// Warns of an invisible character, which pasted text can contain: two different names would look the same.
    pub(crate) fn warn_of_invisible(&mut self, field: Field<'_>, text: &str) {
        let Some(invisible) = text.chars().find(|c| is_unprintable(*c)) else { return };
        let message = format!("{} contains an invisible character, U+{:04X}", field.label(), u32::from(invisible));
        self.warning(field.span(), message).help("remove it if it is not intended");
    }

    /// The text or the number as it was written, for values that can look like a number.
    pub(crate) fn verbatim(&mut self, field: Field<'_>, expected: &str) -> Option<String> {
        match field.node.value {
            Value::Number => Some(self.source.slice(field.node.span).to_owned()),
            _ => self.text(field, expected).map(str::to_owned),
        }
    }

    /// A whole number in plain decimal digits.
    pub(crate) fn integer(&mut self, field: Field<'_>, count: &Count) -> Option<u64> {
        let written = self.source.slice(field.node.span);
        let plain = field.node.value == Value::Number && is_decimal(written);
        let value = if plain { written.parse().ok() } else { None };
        let value = value.filter(|value| (count.least..=count.most).contains(value));
        if value.is_none() {
            self.wrong_number(field, &count.words());
        }
        value
    }

    /// A number, whole or with a decimal point.
    pub(crate) fn decimal(&mut self, field: Field<'_>, rate: &Rate) -> Option<f64> {
        let written = self.source.slice(field.node.span);
        let (whole, fraction) = written.split_once('.').unwrap_or((written, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let plain = field.node.value == Value::Number && is_decimal(whole) && digits(fraction);
        let value = if plain { written.parse().ok() } else { None };
        let value = value.filter(|value| (rate.least..=rate.most).contains(value));
        if value.is_none() {
            self.wrong_number(field, &rate.words());
        }
        value
    }

    fn wrong_number(&mut self, field: Field<'_>, expected: &str) {
        let help = field.node.text().and_then(|text| {
            let digits: String = text.chars().filter(|c| *c != '_').collect();
            if is_decimal(text) {
                Some(format!("write {text} without quotes"))
            } else if is_decimal(&digits) {
                Some(format!("write {digits} without underscores"))
            } else {
                let number = digits.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
                is_decimal(number).then(|| format!("write {number} without a unit"))
            }
        });
        let finding = self.mismatch(field, expected);
        if let Some(help) = help {
            finding.help(help);
        }
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self, field: Field<'_>) -> Option<bool> {
        if let Value::Bool(value) = field.node.value {
            return Some(value);
        }
        let meant = match field.node.text().map(str::to_ascii_lowercase).as_deref() {
            Some("yes" | "on" | "y" | "true") => Some("true"),
            Some("no" | "off" | "n" | "false") => Some("false"),
            _ => None,
        };
        let finding = self.mismatch(field, "`true` or `false`");
        if let Some(meant) = meant {
            finding.help(format!("write `{meant}` without quotes"));
        }
        None
    }

    /// A duration with its unit; a day has 24 hours.
    pub(crate) fn duration(&mut self, field: Field<'_>, range: &RangeInclusive<Duration>) -> Option<Duration> {
        let bounds = duration_range(range);
        let parsed = field.node.text().and_then(parse_duration);
        let Some(signed) = parsed else {
            let written = field.node.text().unwrap_or_else(|| self.source.slice(field.node.span)).trim();
            let help = is_decimal(written).then(|| format!("add a unit, such as `{written}s`"));
            let finding = self.mismatch(field, &format!("{bounds}, such as `500ms`, `30s`, `2m` or `1h30m`"));
            if let Some(help) = help {
                finding.help(help);
            }
            return None;
        };
        let value = Duration::try_from(signed).ok().filter(|value| range.contains(value));
        if value.is_none() {
            self.mismatch(field, &bounds);
        }
        value
    }

    /// One of several names.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        field: Field<'_>,
        choices: &[T],
        name: impl Fn(T) -> &'static str,
    ) -> Option<T> {
        let written = field.node.text().unwrap_or_default();
        let chosen = choices.iter().copied().find(|choice| name(*choice) == written);
        if chosen.is_none() {
            let names: Vec<_> = choices.iter().copied().map(&name).collect();
            let near = nearest(written, names.iter().copied());
            let finding = self.mismatch(field, &or_list(&names));
            if let Some(near) = near {
                finding.help(format!("did you mean `{near}`?"));
            }
        }
        chosen
    }

    /// The path of a file. `${NAME}` is expanded from the environment; any other `$` stays. A relative path is relative
    /// to the working directory of the process.
    pub(crate) fn file_path(&mut self, field: Field<'_>) -> Option<PathBuf> {
        let (path, suspicious) = self.path(field)?;
        if !suspicious {
            let position = self.source.position(field.span().start);
            self.files.push(NamedFile { field: field.name, position, path: path.clone() });
        }
        Some(path)
    }

    /// The path of a folder, which need not exist yet.
    pub(crate) fn folder_path(&mut self, field: Field<'_>) -> Option<PathBuf> {
        self.path(field).map(|(path, _)| path)
    }

    /// A path, and whether there was a warning about it.
    fn path(&mut self, field: Field<'_>) -> Option<(PathBuf, bool)> {
        let text = self.text(field, "the path of a file")?;
        // The text is neither repeated nor drawn: it may be a secret.
        if text.is_empty() {
            self.error(field.span(), format!("`{}` is empty, expected the path of a file", field.name));
            return None;
        }
        if text.chars().any(char::is_control) {
            let message = format!("`{}` contains a control character, expected the path of a file", field.name);
            self.error(field.span(), message).conceal(field.node.span);
            return None;
        }
        let suspicious = self.warn_of_unexpanded(field, text);
        let mut path = String::with_capacity(text.len());
        let mut rest = text;
        let mut complete = true;
        while let Some((before, after)) = rest.split_once("${") {
            path.push_str(before);
            let at = text.len() - after.len() - 2;
            let Some((name, after)) = after.split_once('}') else {
                let span = self.part(field, text, at, rest.len() - before.len());
                self.error(span, format!("`${{` is not closed in `{}`, expected `${{NAME}}`", field.name));
                return None;
            };
            let span = self.part(field, text, at, name.len() + 3);
            match self.variable(field, span, name) {
                Some(value) => path.push_str(&value),
                None => complete = false,
            }
            rest = after;
        }
        path.push_str(rest);
        complete.then(|| (PathBuf::from(path), suspicious))
    }

    /// Warns of `~` and `$NAME`, which only a shell expands, and of invisible characters. Returns whether it warned.
    fn warn_of_unexpanded(&mut self, field: Field<'_>, text: &str) -> bool {
        let before = self.findings.len();
        if text.starts_with('~') {
            let message = format!("`{}` starts with `~`, which is not expanded", field.name);
            self.warning(field.span(), message).help("write `${HOME}` or the full path");
        }
        let is_name = |c: char| c.is_ascii_alphabetic() || c == '_';
        if let Some((at, _)) = text.match_indices('$').find(|(at, _)| text[at + 1..].starts_with(is_name)) {
            let span = self.part(field, text, at, 1);
            let message = format!("`$NAME` in `{}` is not expanded", field.name);
            self.warning(span, message).help("write `${NAME}`");
        }
        self.warn_of_invisible(field, text);
        let warnings = &mut self.findings[before..];
        for warning in &mut *warnings {
            // The path may be a secret.
            warning.conceal(field.node.span);
        }
        !warnings.is_empty()
    }

    fn variable(&mut self, field: Field<'_>, span: Span, name: &str) -> Option<String> {
        let named = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !named {
            let message = format!("{} in `{}` has no valid variable name", quoted(&format!("${{{name}}}")), field.name);
            self.error(span, format!("{message}, expected letters, digits and `_`"));
            return None;
        }
        let value = (self.environment)(name).filter(|value| !value.is_empty());
        if value.is_none() {
            let message = format!("environment variable {} in `{}` is unset or empty", quoted(name), field.name);
            self.error(span, message).help("set it, or write the full path");
        }
        value
    }

    /// The span of a part of a text. If the source contains the text in another form, the span of the whole value.
    fn part(&self, field: Field<'_>, text: &str, at: usize, length: usize) -> Span {
        let whole = field.node.span;
        match self.source.slice(whole).find(text) {
            Some(offset) => {
                let start = whole.start as usize + offset + at;
                Span::new(start, start + length)
            }
            None => whole,
        }
    }
}

/// Whether the text is plain decimal digits: no sign, no leading zero, no underscore.
fn is_decimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::yaml::decode::VariableLookup;
    use crate::yaml::problem_list::Problems;
    use crate::yaml::source::Source;
    use crate::yaml::tree;

    /// Decodes the text with `read`; returns the value or the problems.
    fn read<T>(
        text: &str,
        environment: VariableLookup<'_>,
        read: impl Fn(&mut Decoder<'_>, Field<'_>) -> Option<T>,
    ) -> Result<T, String> {
        let source = Source::new(text);
        let node = tree::parse(&source).unwrap();
        let mut decoder = Decoder::new(&source, environment, SystemTime::UNIX_EPOCH);
        let value = read(&mut decoder, Field { name: "it", key: node.span, node: &node });
        let problems = Problems::new("p", &source, decoder.findings);
        assert_eq!(value.is_some(), problems.is_empty(), "{problems}");
        value.ok_or_else(|| problems.to_string())
    }

    #[test]
    fn whole_numbers_are_plain_digits() {
        let integer = |text| read(text, &|_| None, |d, f| d.integer(f, &Count { least: 30, most: 365, of: "" }));
        assert_eq!(integer("90"), Ok(90));
        assert_eq!((integer("30"), integer("365")), (Ok(30), Ok(365)));
        for (text, problem) in [
            ("29", "`it` is the number 29, expected a whole number from 30 to 365"),
            ("366", "`it` is the number 366, expected a whole number from 30 to 365"),
            ("-90", "`it` is the number -90, expected a whole number from 30 to 365"),
            ("0x5A", "`it` is the number 0x5A, expected a whole number from 30 to 365"),
            ("090", "`it` is the number 090, expected a whole number from 30 to 365"),
            ("90.0", "`it` is the number 90.0, expected a whole number from 30 to 365"),
            ("99999999999999999999", "`it` is the number 99999999999999999999, expected a whole number from 30 to 365"),
            ("\"90\"", "`it` is the string `90`, expected a whole number from 30 to 365; write 90 without quotes"),
            (
                "1_20",
                "`it` is the string `1_20`, expected a whole number from 30 to 365; write 120 without underscores",
            ),
            ("90d", "`it` is the string `90d`, expected a whole number from 30 to 365; write 90 without a unit"),
            (
                "90 days",
                "`it` is the string `90 days`, expected a whole number from 30 to 365; write 90 without a unit",
            ),
            ("true", "`it` is the boolean true, expected a whole number from 30 to 365"),
        ] {
            assert_eq!(integer(text), Err(format!("p:1:1: {problem}")));
        }
    }

    #[test]
    fn rates_may_have_a_decimal_point() {
        let decimal = |text| read(text, &|_| None, |d, f| d.decimal(f, &Rate { least: 0.01, most: 100.0 }));
        assert_eq!(decimal("10"), Ok(10.0));
        assert_eq!(decimal("0.5"), Ok(0.5));
        for text in ["0", "0.0", "-1", "1e1", ".5", "5.", ".inf", ".nan", "100.1", "\"10\""] {
            assert!(decimal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit_and_bounds() {
        let range = Duration::from_millis(100)..=Duration::from_secs(300);
        let duration = |text| read(text, &|_| None, |d, f| d.duration(f, &range));
        assert_eq!(duration("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        let days =
            |text| read(text, &|_| None, |d, f| d.duration(f, &(Duration::ZERO..=Duration::from_secs(30 * 86_400))));
        assert_eq!(days("2d"), Ok(Duration::from_secs(2 * 86_400)));
        assert_eq!(days("1d12h"), Ok(Duration::from_secs(36 * 3_600)));
        assert_eq!(days("31d"), Err("p:1:1: `it` is the string `31d`, expected a duration from 0s to 30d".into()));
        assert!(days("1mo").is_err(), "months differ in length");
        assert_eq!(duration("8"), Err("p:1:1: `it` is the number 8, expected a duration from 100ms to 5m, such as `500ms`, `30s`, `2m` or `1h30m`; add a unit, such as `8s`".into()));
        assert_eq!(
            duration("-8s"),
            Err("p:1:1: `it` is the string `-8s`, expected a duration from 100ms to 5m".into())
        );
        for text in ["99ms", "301s", "9h", "'30'", "soon", "~", "999999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_take_variables_from_the_environment() {
        let environment = |name: &str| match name {
            "DIR" => Some("/run/c".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        #[expect(clippy::redundant_closure_for_method_calls, reason = "the method itself is bound to one lifetime")]
        let path = |text| read(text, &environment, |d, f| d.file_path(f));
        assert_eq!(path("/a/$1/c$"), Ok(PathBuf::from("/a/$1/c$")));
        assert_eq!(path("'${DIR}/x${DIR}'"), Ok(PathBuf::from("/run/c/x/run/c")));
        assert_eq!(path("'$${DIR}'"), Ok(PathBuf::from("$/run/c")));
        for (text, problem) in [
            (
                "'a${NOT}b'",
                "p:1:3: environment variable `NOT` in `it` is unset or empty; set it, or write the full path",
            ),
            (
                "${EMPTY}/x",
                "p:1:1: environment variable `EMPTY` in `it` is unset or empty; set it, or write the full path",
            ),
            ("/x${DIR", "p:1:3: `${` is not closed in `it`, expected `${NAME}`"),
            ("/x${}", "p:1:3: `${}` in `it` has no valid variable name, expected letters, digits and `_`"),
            ("\"/x\\ty\"", "p:1:1: `it` contains a control character, expected the path of a file"),
            ("''", "p:1:1: `it` is empty, expected the path of a file"),
        ] {
            assert_eq!(path(text), Err(problem.to_owned()));
        }
        assert_eq!(path("${A}${B}").unwrap_err().lines().count(), 2, "each variable is a separate problem");
    }

    #[test]
    fn booleans_are_true_and_false() {
        #[expect(clippy::redundant_closure_for_method_calls, reason = "the method itself is bound to one lifetime")]
        let boolean = |text| read(text, &|_| None, |d, f| d.boolean(f));
        assert_eq!((boolean("true"), boolean("False")), (Ok(true), Ok(false)));
        let expected = "p:1:1: `it` is the string `off`, expected `true` or `false`; write `false` without quotes";
        assert_eq!(boolean("off"), Err(expected.to_owned()));
        assert!(boolean("1").is_err());
    }
}
