//! Writes series of projects and keys in the Prometheus text format 0.0.4.
//!
//! By hand, since the encoder of the `prometheus` crate clones and sorts every sample: 100 000 samples take 800 ms and
//! 170 MB. Both write the same text: plain decimal numbers, the same escapes.

use std::time::{SystemTime, UNIX_EPOCH};

/// A metric: its name, type and meaning.
pub(super) struct Family {
    pub(crate) name: &'static str,
    /// `counter` or `gauge`.
    pub(crate) kind: &'static str,
    pub(crate) help: &'static str,
}

/// Writes the samples of one family, and its head before the first sample. A family without samples writes nothing.
pub(super) struct Samples<'a> {
    out: &'a mut Vec<u8>,
    family: &'a Family,
    begun: bool,
}

impl<'a> Samples<'a> {
    /// A family that has no sample yet.
    pub(crate) fn of(family: &'a Family, out: &'a mut Vec<u8>) -> Self {
        Self::resume(family, out, false)
    }

    /// A family that is continued, after its head or before it.
    pub(super) fn resume(family: &'a Family, out: &'a mut Vec<u8>, begun: bool) -> Self {
        Self { out, family, begun }
    }

    /// Whether the head is written.
    pub(crate) fn begun(&self) -> bool {
        self.begun
    }

    /// One sample. Label names are constants of this program; values can be anything.
    pub(crate) fn write(&mut self, labels: &[(&str, &str)], value: impl Value) {
        if !self.begun {
            self.begun = true;
            let Family { name, kind, help } = self.family;
            for part in ["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"] {
                self.out.extend_from_slice(part.as_bytes());
            }
        }
        self.out.extend_from_slice(self.family.name.as_bytes());
        for (at, (name, value)) in labels.iter().enumerate() {
            self.out.push(if at == 0 { b'{' } else { b',' });
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(b"=\"");
            escape(self.out, value);
            self.out.push(b'"');
        }
        self.out.extend_from_slice(if labels.is_empty() { b" " } else { b"} " });
        value.write(self.out);
        self.out.push(b'\n');
    }
}

/// The value of a sample.
pub(crate) trait Value {
    /// Appends the number.
    fn write(self, out: &mut Vec<u8>);
}

impl Value for u64 {
    fn write(mut self, out: &mut Vec<u8>) {
        let start = out.len();
        loop {
            // A remainder of ten always fits.
            out.push(b'0' + u8::try_from(self % 10).unwrap_or_default());
            self /= 10;
            if self == 0 {
                break;
            }
        }
        out[start..].reverse();
    }
}

impl Value for i64 {
    fn write(self, out: &mut Vec<u8>) {
        if self < 0 {
            out.push(b'-');
        }
        self.unsigned_abs().write(out);
    }
}

impl Value for bool {
    fn write(self, out: &mut Vec<u8>) {
        out.push(if self { b'1' } else { b'0' });
    }
}

/// Seconds since 1970, to the millisecond; 0 for an earlier time.
impl Value for SystemTime {
    fn write(self, out: &mut Vec<u8>) {
        let since = self.duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_secs().write(out);
        let millis = since.subsec_millis();
        if millis > 0 {
            out.extend_from_slice(format!(".{millis:03}").trim_end_matches('0').as_bytes());
        }
    }
}

/// A label value, with backslash, quote and line feed escaped.
fn escape(out: &mut Vec<u8>, value: &str) {
    let mut rest = value.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(match rest[at] {
            b'\n' => b"\\n",
            b'"' => b"\\\"",
            _ => b"\\\\",
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Writes a family with one sample, which has no labels.
pub(super) fn sample(out: &mut Vec<u8>, name: &'static str, kind: &'static str, help: &'static str, value: impl Value) {
    Samples::of(&Family { name, kind, help }, out).write(&[], value);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FAMILY: Family = Family { name: "x", kind: "gauge", help: "An x." };

    fn text(of: impl FnOnce(&mut Samples<'_>)) -> String {
        let mut out = Vec::new();
        of(&mut Samples::of(&FAMILY, &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_family_without_samples_leaves_no_trace() {
        assert_eq!(text(|_| {}), "");
    }

    #[test]
    fn the_head_comes_once_and_labels_are_escaped() {
        let written = text(|samples| {
            samples.write(&[], 0_u64);
            samples.write(&[("a", "q\"b\\n\nü"), ("b", "")], true);
        });
        assert_eq!(written, "# HELP x An x.\n# TYPE x gauge\nx 0\nx{a=\"q\\\"b\\\\n\\nü\",b=\"\"} 1\n");
    }

    #[test]
    fn numbers_are_plain_decimals() {
        let number = |value: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            value(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(number(&|out| u64::MAX.write(out)), "18446744073709551615");
        assert_eq!(number(&|out| 0_u64.write(out)), "0");
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        assert_eq!(number(&|out| at(1_763_776_285_120).write(out)), "1763776285.12");
        assert_eq!(number(&|out| at(1_763_776_285_000).write(out)), "1763776285");
        assert_eq!(number(&|out| at(1_001).write(out)), "1.001");
        assert_eq!(number(&|out| (UNIX_EPOCH - Duration::from_secs(1)).write(out)), "0");
    }
}
