//! The proof that one record is in a log, as a file of its own (c2sp.org/tlog-proof).
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! index 73894
//! gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
//! B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=
//!
//! (a checkpoint)
//! ```

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::inclusion::{self, InclusionError};
use super::key::VerifyingKey;
use super::note::{Checkpoint, NoteError};
use super::tree::{Hash, decimal};

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// The most hashes that a proof can have: one for each level of the largest tree.
const MAX_HASHES: usize = 64;

/// A proof that a line is in the tree of a checkpoint. Only [`Proof::verify`] shows that it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The number of the line in the log; the first one is 0.
    pub index: u64,
    /// From the line's sibling to the child of the root, see [`inclusion`].
    pub hashes: Vec<Hash>,
    /// Data of the application that nothing authenticates. This log writes none; empty means none.
    pub extra: Vec<u8>,
    /// The signed checkpoint.
    pub note: String,
}

/// Why a proof does not prove the line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The text has another form.
    #[error("the text is not a proof of inclusion: {0}")]
    NotAProof(&'static str),
    /// The checkpoint is not one of this log.
    #[error("the checkpoint of the proof cannot be used")]
    Checkpoint(#[source] NoteError),
    /// The line is not in the tree of the checkpoint.
    #[error("the proof does not show that the line is in the log")]
    Inclusion(#[source] InclusionError),
}

impl Proof {
    /// Verifies that the line, without its line break, is in the log of this key. Returns the checkpoint whose tree it
    /// is in.
    ///
    /// # Errors
    ///
    /// Returns an error if the checkpoint is not signed by the key, or if the line is not at this index in its tree.
    pub fn verify(&self, line: &[u8], key: &VerifyingKey) -> Result<Checkpoint, ProofError> {
        let checkpoint = Checkpoint::parse(&self.note, key).map_err(ProofError::Checkpoint)?;
        inclusion::verify(line, self.index, checkpoint.size, &checkpoint.root, &self.hashes)
            .map_err(ProofError::Inclusion)?;
        Ok(checkpoint)
    }
}

/// The content of a `.tlog-proof` file.
impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if !self.extra.is_empty() {
            writeln!(f, "extra {}", BASE64_STANDARD.encode(&self.extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.hashes {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{}", self.note)
    }
}

impl FromStr for Proof {
    type Err = ProofError;

    fn from_str(text: &str) -> Result<Self, ProofError> {
        let wrong = ProofError::NotAProof;
        let (head, note) =
            text.split_once("\n\n").ok_or(wrong("expected an empty line and a checkpoint after the hashes"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(wrong("expected `c2sp.org/tlog-proof@v1` in the first line"));
        }
        let mut extra = Vec::new();
        if let Some(base64) = lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            let decoded = BASE64_STANDARD.decode(base64).ok().filter(|decoded| !decoded.is_empty());
            extra = decoded.ok_or(wrong("expected base64 after `extra`"))?;
            lines.next();
        }
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(decimal);
        let index = index.ok_or(wrong("expected `index` and a decimal number without leading zeros"))?;
        let mut hashes = Vec::new();
        for line in lines {
            if hashes.len() == MAX_HASHES {
                return Err(wrong("expected at most 64 hashes"));
            }
            hashes.push(line.parse().map_err(|_| wrong("expected a hash of 32 bytes in base64 in each line"))?);
        }
        Ok(Self { index, hashes, extra, note: note.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::inclusion::InclusionProver;
    use super::super::key::tests::key;
    use super::super::tree::{Frontier, leaf_hash};
    use super::*;

    fn line(index: u64) -> Vec<u8> {
        format!("line {index}").into_bytes()
    }

    fn note(size: u64) -> String {
        let mut tree = Frontier::new();
        (0..size).for_each(|index| tree.append(leaf_hash(&line(index))));
        Checkpoint { origin: "log".to_owned(), size, root: tree.root() }.sign(&key("log")).unwrap()
    }

    fn proof(index: u64, size: u64) -> Proof {
        let mut prover = InclusionProver::new(index, size, &Frontier::new()).unwrap();
        (0..size).for_each(|index| prover.append(leaf_hash(&line(index))));
        Proof { index, hashes: prover.finish().unwrap(), extra: Vec::new(), note: note(size) }
    }

    #[test]
    fn a_proof_is_written_read_and_verified() {
        for (index, size) in [(0, 1), (0, 2), (4, 5), (20, 70)] {
            let mut proof = proof(index, size);
            for extra in [&b""[..], b"extra"] {
                proof.extra = extra.to_vec();
                let text = proof.to_string();
                let read: Proof = text.parse().unwrap();
                assert_eq!(read, proof, "{text}");
                let checkpoint = read.verify(&line(index), key("log").verifying_key()).unwrap();
                assert_eq!(checkpoint.size, size);
            }
        }
        let text = proof(0, 1).to_string();
        assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 0\n\nlog\n1\n"), "{text}");
    }

    #[test]
    fn a_proof_of_another_line_log_or_tree_is_refused() {
        let whole = proof(4, 7);
        let key = key("log");
        let of_line = whole.verify(&line(5), key.verifying_key()).unwrap_err();
        assert_eq!(of_line, ProofError::Inclusion(InclusionError::WrongRoot));
        let other_tree = Proof { note: note(8), ..whole.clone() };
        assert!(matches!(other_tree.verify(&line(4), key.verifying_key()), Err(ProofError::Inclusion(_))));
        let other_log = super::super::key::tests::key("other");
        assert!(matches!(whole.verify(&line(4), other_log.verifying_key()), Err(ProofError::Checkpoint(_))));
    }

    #[test]
    fn a_proof_with_any_byte_changed_is_refused() {
        let text = proof(2, 5).to_string();
        let key = key("log");
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let Ok(changed) = String::from_utf8(bytes) else { continue };
                let verified = changed.parse::<Proof>().and_then(|proof| proof.verify(&line(2), key.verifying_key()));
                assert!(verified.is_err(), "byte {at}, bit {bit}: {changed}");
            }
        }
        for (end, _) in text.char_indices() {
            let verified = text[..end].parse::<Proof>().and_then(|proof| proof.verify(&line(2), key.verifying_key()));
            assert!(verified.is_err(), "{end} bytes");
        }
    }

    #[test]
    fn the_error_names_what_is_wrong() {
        let hash = leaf_hash(b"").to_string();
        let many = format!("{hash}\n").repeat(65);
        for (text, expected) in [
            ("", "expected an empty line and a checkpoint after the hashes"),
            ("c2sp.org/tlog-proof@v1\nindex 0\n", "expected an empty line and a checkpoint after the hashes"),
            ("c2sp.org/tlog-proof@v2\nindex 0\n\nnote", "expected `c2sp.org/tlog-proof@v1` in the first line"),
            ("c2sp.org/tlog-proof@v1\nextra \nindex 0\n\nnote", "expected base64 after `extra`"),
            ("c2sp.org/tlog-proof@v1\nextra ?\nindex 0\n\nnote", "expected base64 after `extra`"),
            ("c2sp.org/tlog-proof@v1\nindex 00\n\nnote", "expected `index` and a decimal number without leading zeros"),
            ("c2sp.org/tlog-proof@v1\n\nnote", "expected `index` and a decimal number without leading zeros"),
            (
                "c2sp.org/tlog-proof@v1\nindex 0\nextra aaaa\n\nnote",
                "expected a hash of 32 bytes in base64 in each line",
            ),
            (&format!("c2sp.org/tlog-proof@v1\nindex 0\n{many}\nnote"), "expected at most 64 hashes"),
        ] {
            assert_eq!(text.parse::<Proof>(), Err(ProofError::NotAProof(expected)), "{text}");
        }
    }
}
