//! Checkpoints of the log (c2sp.org/tlog-checkpoint) as signed notes (c2sp.org/signed-note).
//!
//! ```text
//! kms-rotationd/payments/5f0c
//! 360830
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//!
//! — kms-rotationd/payments/5f0c Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJ…
//! ```

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::key::{KeyId, SigningKey, VerifyingKey, is_name};
use super::tree::{Hash, decimal};
use crate::support::printable::excerpt;

/// The most signatures that a note may have. The specification asks a reader for a limit, of at least 16.
const MAX_SIGNATURES: usize = 100;

/// The state of a log: what its tree was at one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log. It is also the name of the key that signs.
    pub origin: String,
    /// The number of records.
    pub size: u64,
    /// The root of their tree.
    pub root: Hash,
}

/// Why a text is not a checkpoint of this log.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The text has another form.
    #[error("the text is not a signed checkpoint: {0}")]
    NotANote(&'static str),
    /// The second line is not a size.
    #[error("the checkpoint has the size {0:?}; expected a decimal number without leading zeros")]
    Size(String),
    /// The third line is not a hash.
    #[error("the checkpoint has the root {0:?}; expected 32 bytes in base64: 43 characters and one `=`")]
    Root(String),
    /// The checkpoint of another log.
    #[error("the checkpoint is of the log {found:?}; expected {expected:?}")]
    WrongOrigin { found: String, expected: String },
    /// The key has not signed.
    #[error("the checkpoint has no signature by the key {0}")]
    NoSignature(String),
    /// The text has changed since it was signed, or the signature has.
    #[error("the signature by the key {0} does not fit the checkpoint: one of them was changed")]
    BadSignature(String),
}

impl Checkpoint {
    /// The checkpoint as a signed note.
    ///
    /// # Errors
    ///
    /// Returns an error if the key is named after another log.
    pub fn sign(&self, key: &SigningKey) -> Result<String, NoteError> {
        let verifying = key.verifying_key();
        self.expect_origin(verifying.name())?;
        let text = self.to_string();
        let mut signature = verifying.id().to_vec();
        signature.extend(key.sign(&text));
        Ok(format!("{text}\n— {} {}\n", verifying.name(), BASE64_STANDARD.encode(signature)))
    }

    /// Reads a note that this key has signed. Signatures by other keys, such as those of witnesses, have no effect.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is no checkpoint of the key's log, or if the key has not signed it.
    pub fn parse(note: &str, key: &VerifyingKey) -> Result<Self, NoteError> {
        let note = Note::parse(note)?;
        let checkpoint = Self::from_text(note.text)?;
        checkpoint.expect_origin(key.name())?;
        note.verify(key)?;
        Ok(checkpoint)
    }

    /// Reads a note without verifying its signatures. It proves nothing.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is no checkpoint.
    pub fn parse_unverified(note: &str) -> Result<Self, NoteError> {
        Self::from_text(Note::parse(note)?.text)
    }

    /// Reads the text of a note. Lines after the third one are extensions, which this log does not use.
    fn from_text(text: &str) -> Result<Self, NoteError> {
        let lines: Vec<_> = text.lines().collect();
        let [origin, size, root, ..] = lines[..] else {
            return Err(NoteError::NotANote("expected a line each for origin, size and root"));
        };
        if lines.iter().any(|line| line.is_empty()) {
            return Err(NoteError::NotANote("expected no empty line before the one above the signatures"));
        }
        let size = decimal(size).ok_or_else(|| NoteError::Size(excerpt(size, 80)))?;
        let root = root.parse().map_err(|_| NoteError::Root(excerpt(root, 80)))?;
        Ok(Self { origin: origin.to_owned(), size, root })
    }

    fn expect_origin(&self, expected: &str) -> Result<(), NoteError> {
        if self.origin == expected {
            return Ok(());
        }
        Err(NoteError::WrongOrigin { found: excerpt(&self.origin, 80), expected: expected.to_owned() })
    }
}

/// The text that is signed.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.origin, self.size, self.root)
    }
}

/// A text with signatures (c2sp.org/signed-note, "Format").
struct Note<'a> {
    /// Including its last newline.
    text: &'a str,
    signatures: Vec<Signature<'a>>,
}

struct Signature<'a> {
    name: &'a str,
    id: KeyId,
    bytes: Vec<u8>,
}

impl<'a> Note<'a> {
    fn parse(note: &'a str) -> Result<Self, NoteError> {
        if note.contains(|c: char| c < ' ' && c != '\n') {
            return Err(NoteError::NotANote("expected no control characters but newlines"));
        }
        let Some((before, after)) = note.rsplit_once("\n\n") else {
            return Err(NoteError::NotANote("expected an empty line and signatures after the text"));
        };
        let Some(after) = after.strip_suffix('\n') else {
            return Err(NoteError::NotANote("expected a newline at the end of the last signature; is it complete?"));
        };
        let mut signatures = Vec::new();
        for line in after.split('\n') {
            if signatures.len() == MAX_SIGNATURES {
                return Err(NoteError::NotANote("expected at most 100 signatures"));
            }
            let signature = Signature::parse(line);
            signatures.push(signature.ok_or(NoteError::NotANote("expected `— NAME BASE64` after the empty line"))?);
        }
        Ok(Self { text: &note[..=before.len()], signatures })
    }

    /// Every signature by the key must fit, and there must be one. Another key may share its name or its id.
    fn verify(&self, key: &VerifyingKey) -> Result<(), NoteError> {
        let ours = |signature: &&Signature| signature.name == key.name() && signature.id == key.id();
        let mut ours = self.signatures.iter().filter(ours).peekable();
        if ours.peek().is_none() {
            return Err(NoteError::NoSignature(key.to_string()));
        }
        if ours.all(|signature| key.has_signed(self.text, &signature.bytes)) {
            return Ok(());
        }
        Err(NoteError::BadSignature(key.to_string()))
    }
}

impl<'a> Signature<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (name, base64) = line.strip_prefix("— ")?.split_once(' ')?;
        let bytes = BASE64_STANDARD.decode(base64).ok()?;
        let (id, bytes) = bytes.split_first_chunk()?;
        (is_name(name) && !bytes.is_empty()).then(|| Self { name, id: *id, bytes: bytes.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::tests::key;
    use super::super::tree::leaf_hash;
    use super::*;

    const ORIGIN: &str = "kms-rotationd/payments/5f0c";

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: ORIGIN.to_owned(), size: 360_830, root: leaf_hash(b"line") }
    }

    fn note() -> String {
        checkpoint().sign(&key(ORIGIN)).unwrap()
    }

    fn parse(note: &str) -> Result<Checkpoint, NoteError> {
        Checkpoint::parse(note, key(ORIGIN).verifying_key())
    }

    #[test]
    fn the_example_of_the_specification_is_verified() {
        let vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k".parse().unwrap();
        let note = "This is an example message.\n\n— example.com/foo \
                    Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
        let parsed = Note::parse(note).unwrap();
        assert_eq!(parsed.text, "This is an example message.\n");
        assert_eq!(parsed.verify(&vkey), Ok(()));
        let example = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
                       — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/\
                       Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";
        let checkpoint = Checkpoint::parse_unverified(example).unwrap();
        assert_eq!((checkpoint.origin.as_str(), checkpoint.size), ("example.com/behind-the-sofa", 20_852_163));
        assert!(example.starts_with(&checkpoint.to_string()));
    }

    #[test]
    fn a_signed_checkpoint_is_read_again() {
        assert_eq!(parse(&note()), Ok(checkpoint()));
        assert_eq!(Checkpoint::parse_unverified(&note()), Ok(checkpoint()));
    }

    #[test]
    fn a_note_with_any_byte_changed_is_refused() {
        let note = note();
        for at in 0..note.len() {
            for bit in 0..8 {
                let mut bytes = note.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                // What is not UTF-8 never becomes a note.
                let Ok(changed) = String::from_utf8(bytes) else { continue };
                assert!(parse(&changed).is_err(), "byte {at}, bit {bit}: {changed:?}");
            }
        }
    }

    #[test]
    fn a_truncated_or_extended_note_is_refused() {
        let note = note();
        for (end, _) in note.char_indices() {
            assert!(parse(&note[..end]).is_err(), "{end} bytes");
            assert!(Checkpoint::parse_unverified(&note[..end]).is_err(), "{end} bytes");
        }
        for more in ["\n", " ", "x", "\0", "— \n", "— a\n", "— a b\n", "— a AAAA\n", "- a AAAAAAA=\n"] {
            for changed in [format!("{note}{more}"), format!("{more}{note}")] {
                assert!(parse(&changed).is_err(), "{changed:?}");
            }
        }
    }

    #[test]
    fn signatures_by_other_keys_have_no_effect() {
        let note = note();
        let (text, own) = note.split_once("\n\n").unwrap();
        let witness = "— witness.example/w1 mJirIklj\n";
        let same_name = format!("— {ORIGIN} AAAAAAAA\n");
        let id = &own.rsplit_once(' ').unwrap().1[..5];
        let same_id = format!("— witness.example/w2 {id}AAA\n");
        for signatures in [format!("{witness}{own}"), format!("{own}{witness}{same_name}{same_id}")] {
            assert_eq!(parse(&format!("{text}\n\n{signatures}")), Ok(checkpoint()), "{signatures}");
        }
        let unsigned = format!("{text}\n\n{witness}{same_name}");
        assert!(matches!(parse(&unsigned), Err(NoteError::NoSignature(_))));
        assert_eq!(Checkpoint::parse_unverified(&unsigned), Ok(checkpoint()));
        // One bad signature by the key is enough.
        let of_another_text = Checkpoint { size: 1, ..checkpoint() }.sign(&key(ORIGIN)).unwrap();
        let bad = of_another_text.split_once("\n\n").unwrap().1;
        assert!(matches!(parse(&format!("{text}\n\n{own}{bad}")), Err(NoteError::BadSignature(_))));
        assert_eq!(parse(&format!("{text}\n\n{own}{}", witness.repeat(99))), Ok(checkpoint()));
        let many = format!("{text}\n\n{own}{}", witness.repeat(100));
        assert_eq!(parse(&many), Err(NoteError::NotANote("expected at most 100 signatures")));
    }

    #[test]
    fn the_error_names_what_is_wrong() {
        let signed = |text: &str| {
            let mut signature = key(ORIGIN).verifying_key().id().to_vec();
            signature.extend(key(ORIGIN).sign(text));
            format!("{text}\n— {ORIGIN} {}\n", BASE64_STANDARD.encode(signature))
        };
        let root = leaf_hash(b"line").to_string();
        assert_eq!(parse(&signed(&checkpoint().to_string())), Ok(checkpoint()));
        let extended = format!("{}extension\n", checkpoint());
        assert_eq!(parse(&signed(&extended)), Ok(checkpoint()));
        for size in ["", "-1", "+1", "01", "1.0", "18446744073709551616", "\u{202e}"] {
            let error = parse(&signed(&format!("{ORIGIN}\n{size}\n{root}\n"))).unwrap_err();
            let expected = if size.is_empty() {
                NoteError::NotANote("expected no empty line before the one above the signatures")
            } else {
                NoteError::Size(size.replace('\u{202e}', "\u{fffd}"))
            };
            assert_eq!(error, expected);
        }
        for wrong in ["x", &root[1..], root.trim_end_matches('=')] {
            let error = parse(&signed(&format!("{ORIGIN}\n1\n{wrong}\n"))).unwrap_err();
            assert_eq!(error, NoteError::Root(wrong.to_owned()));
        }
        let few = parse(&signed(&format!("{ORIGIN}\n1\n"))).unwrap_err();
        assert_eq!(few, NoteError::NotANote("expected a line each for origin, size and root"));
        let other = parse(&signed(&format!("other\n1\n{root}\n"))).unwrap_err();
        assert_eq!(other.to_string(), format!("the checkpoint is of the log \"other\"; expected {ORIGIN:?}"));
        let changed = note().replace("360830", "360831");
        assert!(matches!(parse(&changed), Err(NoteError::BadSignature(_))));
        let other = checkpoint().sign(&key("other")).unwrap_err();
        assert!(matches!(other, NoteError::WrongOrigin { .. }));
    }
}
