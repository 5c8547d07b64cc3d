//! How templates escape the values in them.
//!
//! Kept by hand because askama's own escaper leaves control and format characters as they are: a key's name could turn
//! the direction of the text around it, or hide a part of itself. `askama.toml` names this escaper for every `.html`.

use std::fmt;

use askama::filters::Escaper;

use crate::support::printable::{REPLACEMENT, is_unprintable, write_escaped};

/// Escapes text for HTML, between tags and in quoted attributes.
#[derive(Clone, Copy)]
pub(crate) struct Html;

impl Escaper for Html {
    fn write_escaped_str<W: fmt::Write>(&self, mut dest: W, text: &str) -> fmt::Result {
        write_escaped(&mut dest, text, is_escaped, |dest, c| match c {
            '&' => dest.write_str("&amp;"),
            '<' => dest.write_str("&lt;"),
            '>' => dest.write_str("&gt;"),
            '"' => dest.write_str("&quot;"),
            '\'' => dest.write_str("&#39;"),
            _ => dest.write_char(REPLACEMENT),
        })
    }
}

fn is_escaped(c: char) -> bool {
    matches!(c, '&' | '<' | '>' | '"' | '\'') || is_unprintable(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_invisible_characters_are_escaped() {
        let escaped = |text: &str| {
            let mut out = String::new();
            Html.write_escaped_str(&mut out, text).unwrap();
            out
        };
        assert_eq!(escaped("a<b>&\"'ü"), "a&lt;b&gt;&amp;&quot;&#39;ü");
        assert_eq!(escaped("a\u{202e}b\u{2066}"), "a\u{fffd}b\u{fffd}");
    }
}
