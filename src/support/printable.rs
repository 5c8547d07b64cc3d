//! Makes text from outside safe to print: a key's name or a server's error must not move the cursor, change the writing
//! direction or hide text.

use std::fmt;

/// Replaces each unprintable character.
pub(crate) const REPLACEMENT: char = '\u{fffd}';

/// The text with its unprintable characters replaced.
pub(crate) fn printable(text: &str) -> String {
    text.replace(is_unprintable, REPLACEMENT.encode_utf8(&mut [0; 4]))
}

/// The first `max_chars` characters, with the unprintable ones replaced.
pub(crate) fn excerpt(text: &str, max_chars: usize) -> String {
    text.chars().take(max_chars).map(|c| if is_unprintable(c) { REPLACEMENT } else { c }).collect()
}

/// Writes the text, with `escape` for each character that is to be escaped.
pub(crate) fn write_escaped<W: fmt::Write>(
    out: &mut W,
    text: &str,
    is_escaped: impl Fn(char) -> bool,
    escape: impl Fn(&mut W, char) -> fmt::Result,
) -> fmt::Result {
    let mut rest = text;
    while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_escaped(*c)) {
        out.write_str(&rest[..at])?;
        escape(out, c)?;
        rest = &rest[at + c.len_utf8()..];
    }
    out.write_str(rest)
}

/// True for control and format characters: those of Unicode's general categories Cc, Cf, Zl and Zp that are invisible
/// in every script (Unicode 16, `DerivedGeneralCategory.txt`).
pub(crate) fn is_unprintable(c: char) -> bool {
    // Nearly all text is ASCII, and each log line is looked through.
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_replaced() {
        assert_eq!(printable("a\x1b[31mb\r\nü\u{9b}"), "a\u{fffd}[31mb\u{fffd}\u{fffd}ü\u{fffd}");
        for invisible in ['\u{ad}', '\u{200b}', '\u{200f}', '\u{202e}', '\u{2066}', '\u{2069}', '\u{feff}', '\u{e0041}']
        {
            assert_eq!(printable(&format!("a{invisible}b")), "a\u{fffd}b", "{invisible:?}");
        }
        for shown in ["", "pay-ü 1", "鍵", "🔑", "→ ≤ …"] {
            assert_eq!(printable(shown), shown);
        }
        assert_eq!(excerpt("a\u{1b}[2Jb\nc", 5), "a\u{fffd}[2J");
    }
}
