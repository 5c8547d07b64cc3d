//! The Merkle tree over the lines of the log (RFC 6962, section 2.1), as far as appending needs it.
//!
//! The hash of a leaf is SHA-256(0x00 ‖ line), the hash of a node is SHA-256(0x01 ‖ left ‖ right), and the root of the
//! empty tree is SHA-256 of nothing.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::support::printable::excerpt;

/// The most leaves that a tree can have. The arithmetic of proofs needs numbers of twice this size.
pub const MAX_LEAVES: u64 = 1 << 62;

/// A SHA-256 hash. Its text is standard base64 with padding, as in checkpoints.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Hash(pub [u8; 32]);

/// A text is not the hash of a node.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a hash; expected 32 bytes in base64: 43 characters and one `=`")]
pub struct HashError {
    /// The beginning of the text.
    found: String,
}

/// Numbers that are not a frontier.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrontierError {
    /// The number of hashes does not belong to the size.
    #[error("a tree of {size} leaves has a frontier of {expected} hashes, and not of {found}")]
    Length { size: u64, expected: u32, found: usize },
    /// The tree is larger than any log.
    #[error("a tree of {0} leaves is too large; expected at most {MAX_LEAVES}")]
    Size(u64),
}

/// The hash of a leaf: a line without its line break.
#[must_use]
pub fn leaf_hash(line: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0x00]).chain_update(line).finalize().into())
}

/// The hash of a node with two children.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash(Sha256::new().chain_update([0x01]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// The right edge of a tree: the roots of its complete subtrees, from the largest (the oldest leaves) to the smallest.
/// Their sizes are the powers of two in the size of the tree.
///
/// It is all that appending needs: a stored frontier continues a tree whose leaves are elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    hashes: Vec<Hash>,
}

impl Frontier {
    /// The empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A tree of `size` leaves, to be continued.
    ///
    /// # Errors
    ///
    /// Returns an error if a tree of this size has another number of hashes. It cannot detect a wrong hash: compare the
    /// root.
    pub fn from_hashes(size: u64, hashes: Vec<Hash>) -> Result<Self, FrontierError> {
        if size > MAX_LEAVES {
            return Err(FrontierError::Size(size));
        }
        if u32::try_from(hashes.len()) != Ok(size.count_ones()) {
            return Err(FrontierError::Length { size, expected: size.count_ones(), found: hashes.len() });
        }
        Ok(Self { size, hashes })
    }

    /// The number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hashes to store, see [`Frontier::from_hashes`].
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// Appends a leaf.
    pub fn append(&mut self, leaf: Hash) {
        self.append_subtree(0, leaf);
    }

    /// Appends a complete subtree of 2^`level` leaves. The present size is a multiple of that.
    pub(super) fn append_subtree(&mut self, level: u32, root: Hash) {
        let mut root = root;
        // Each subtree of the same size is the left half of a subtree twice as large.
        for _ in 0..(self.size >> level).trailing_ones() {
            if let Some(left) = self.hashes.pop() {
                root = node_hash(&left, &root);
            }
        }
        self.hashes.push(root);
        self.size += 1 << level;
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let joined = self.hashes.iter().copied().rev().reduce(|right, left| node_hash(&left, &right));
        joined.unwrap_or_else(|| Hash(Sha256::digest([]).into()))
    }

    /// The complete subtrees: first leaf, level and root of each.
    pub(super) fn subtrees(&self) -> impl Iterator<Item = (u64, u32, Hash)> {
        let mut first = 0;
        let levels = (0..u64::BITS).rev().filter(|level| self.size >> level & 1 == 1);
        levels.zip(&self.hashes).map(move |(level, hash)| {
            let start = first;
            first += 1 << level;
            (start, level, *hash)
        })
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Hash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let bytes = BASE64_STANDARD.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| HashError { found: excerpt(text, 64) })
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for Hash {
    type Error = HashError;

    fn try_from(text: String) -> Result<Self, HashError> {
        text.parse()
    }
}

/// A decimal number without sign and leading zeros, as all formats of c2sp.org write it.
pub(super) fn decimal(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn hex(hash: Hash) -> String {
        hash.0.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    /// The leaves of the tests of Certificate Transparency's reference implementation.
    fn leaves() -> [Vec<u8>; 8] {
        [
            vec![],
            vec![0x00],
            vec![0x10],
            vec![0x20, 0x21],
            vec![0x30, 0x31],
            (0x40..0x44).collect(),
            (0x50..0x58).collect(),
            (0x60..0x70).collect(),
        ]
    }

    /// The roots of its trees of 0 to 8 leaves.
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    #[test]
    fn the_roots_are_those_of_the_reference_implementation() {
        let mut tree = Frontier::new();
        assert_eq!(hex(tree.root()), ROOTS[0]);
        for (leaf, root) in leaves().iter().zip(&ROOTS[1..]) {
            tree.append(leaf_hash(leaf));
            assert_eq!(hex(tree.root()), *root, "{} leaves", tree.size());
        }
    }

    #[test]
    fn a_stored_frontier_continues_the_tree() {
        let leaves = leaves();
        for stored in 0..=8 {
            let mut tree = Frontier::new();
            leaves[..stored].iter().for_each(|leaf| tree.append(leaf_hash(leaf)));
            let json = serde_json::to_string(tree.hashes()).unwrap();
            let mut continued = Frontier::from_hashes(tree.size(), serde_json::from_str(&json).unwrap()).unwrap();
            assert_eq!(continued, tree);
            leaves[stored..].iter().for_each(|leaf| continued.append(leaf_hash(leaf)));
            assert_eq!(hex(continued.root()), ROOTS[8], "stored at {stored}");
        }
    }

    #[test]
    fn a_frontier_of_a_wrong_length_or_size_is_refused() {
        let hash = leaf_hash(b"");
        for (size, hashes) in [(0, 1), (1, 0), (1, 2), (3, 1), (4, 2), (7, 65)] {
            let error = Frontier::from_hashes(size, vec![hash; hashes]).unwrap_err();
            let expected = size.count_ones();
            assert_eq!(error, FrontierError::Length { size, expected, found: hashes });
        }
        assert_eq!(
            Frontier::from_hashes(3, vec![]).unwrap_err().to_string(),
            "a tree of 3 leaves has a frontier of 2 hashes, and not of 0"
        );
        assert_eq!(Frontier::from_hashes(u64::MAX, vec![hash; 64]).unwrap_err(), FrontierError::Size(u64::MAX));
        let mut largest = Frontier::from_hashes(MAX_LEAVES, vec![hash]).unwrap();
        largest.append(hash);
        assert_eq!(largest.root(), node_hash(&hash, &hash));
    }

    #[test]
    fn a_hash_is_read_from_canonical_base64_only() {
        let hash = leaf_hash(b"line");
        let text = hash.to_string();
        assert_eq!(text.parse(), Ok(hash));
        assert_eq!(serde_json::from_str::<Hash>(&format!("{text:?}")).unwrap(), hash);
        let spare_bits = format!("{}B=", "A".repeat(42));
        let short = BASE64_STANDARD.encode([0; 31]);
        let long = BASE64_STANDARD.encode([0; 33]);
        for wrong in ["", "=", text.trim_end_matches('='), &format!("{text} "), &spare_bits, &short, &long, "\u{1b}[2J"]
        {
            let error = wrong.parse::<Hash>().unwrap_err().to_string();
            assert!(error.ends_with("expected 32 bytes in base64: 43 characters and one `=`"), "{error}");
            assert!(!error.contains('\u{1b}'), "{error:?}");
        }
    }

    #[test]
    fn a_number_has_one_notation() {
        assert_eq!(decimal("0"), Some(0));
        assert_eq!(decimal("18446744073709551615"), Some(u64::MAX));
        for wrong in ["", "00", "01", "+1", "-1", " 1", "1 ", "1e3", "0x1", "１", "18446744073709551616"] {
            assert_eq!(decimal(wrong), None, "{wrong:?}");
        }
    }
}
