//! Proofs that a line is in the tree (RFC 6962, section 2.1.1), also if older lines are missing.
//!
//! The crate ct-merkle names the nodes that a proof consists of, and verifies proofs. This module computes the hashes
//! of these nodes. The crate could do that too, but only from all lines of a log, held in memory. A pruned log has no
//! more than the frontier before its first line. It suffices: a node beside the path of a later leaf lies in no
//! complete subtree of the frontier, or its parent would too, and with it the leaf.

use ct_merkle::{InclusionProof, RootHash, indices_for_inclusion_proof};
use sha2::Sha256;

use super::tree::{Frontier, Hash, MAX_LEAVES};

/// Why a proof cannot be made, or does not prove the line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InclusionError {
    /// The tree does not have the leaf.
    #[error("a tree of {size} leaves has no leaf {index}; expected an index below the size")]
    NotInTree { index: u64, size: u64 },
    /// The leaf was pruned.
    #[error("leaf {index} is no longer kept; expected {first} or a later one")]
    Pruned { index: u64, first: u64 },
    /// The tree is larger than any log.
    #[error("a tree of {0} leaves is too large; expected at most {MAX_LEAVES}")]
    TooLarge(u64),
    /// Leaves are missing at the end.
    #[error("only {found} of {size} leaves are known; expected all of them")]
    Incomplete { found: u64, size: u64 },
    /// The proof has another length than a proof of this leaf in a tree of this size.
    #[error("the proof has {found} hashes; expected {expected} for leaf {index} of {size}")]
    Length { index: u64, size: u64, found: usize, expected: usize },
    /// Line and hashes lead to another root.
    #[error("the proof does not lead from the line to the root; line, index, proof and root do not belong together")]
    WrongRoot,
}

/// Makes the proof of one leaf while the leaves pass by.
#[derive(Debug)]
pub struct InclusionProver {
    size: u64,
    /// The number of leaves that have passed.
    next: u64,
    /// The nodes beside the path from the leaf to the root, in that order. They and the leaf cover the whole tree.
    siblings: Vec<Sibling>,
}

/// A node whose hash is computed from the leaves below it.
#[derive(Debug)]
struct Sibling {
    /// The first leaf below it.
    first: u64,
    /// Behind its last leaf.
    end: u64,
    tree: Frontier,
}

impl InclusionProver {
    /// A prover of leaf `index` in the tree of `size` leaves, if the leaves before the frontier are missing.
    ///
    /// # Errors
    ///
    /// Returns an error if the tree does not have the leaf, or if the leaf is before the frontier.
    pub fn new(index: u64, size: u64, before: &Frontier) -> Result<Self, InclusionError> {
        let nodes = siblings(index, size)?;
        if index < before.size() {
            return Err(InclusionError::Pruned { index, first: before.size() });
        }
        let mut siblings: Vec<_> = nodes.into_iter().map(|node| Sibling::new(node, size)).collect();
        for (first, level, root) in before.subtrees() {
            if let Some(sibling) = siblings.iter_mut().find(|sibling| sibling.covers(first)) {
                sibling.tree.append_subtree(level, root);
            }
        }
        Ok(Self { size, next: before.size(), siblings })
    }

    /// Adds the next leaf; the first one is the leaf after the frontier. Leaves after the end of the tree have no
    /// effect.
    pub fn append(&mut self, leaf: Hash) {
        if self.next < self.size {
            if let Some(sibling) = self.siblings.iter_mut().find(|sibling| sibling.covers(self.next)) {
                sibling.tree.append(leaf);
            }
            self.next += 1;
        }
    }

    /// The proof: the hashes from the leaf's sibling to the child of the root.
    ///
    /// # Errors
    ///
    /// Returns an error if fewer leaves have passed than the tree has.
    pub fn finish(self) -> Result<Vec<Hash>, InclusionError> {
        if self.next < self.size {
            return Err(InclusionError::Incomplete { found: self.next, size: self.size });
        }
        Ok(self.siblings.iter().map(|sibling| sibling.tree.root()).collect())
    }
}

impl Sibling {
    /// ct-merkle numbers the nodes as RFC 9420, appendix C, does: leaf i is node 2 i, and each trailing 1 of a number
    /// is one level above the leaves.
    fn new(node: u64, size: u64) -> Self {
        let level = node.trailing_ones();
        let first = node >> (level + 1) << level;
        Self { first, end: size.min(first + (1 << level)), tree: Frontier::new() }
    }

    fn covers(&self, leaf: u64) -> bool {
        (self.first..self.end).contains(&leaf)
    }
}

/// Verifies that the line, without its line break, is leaf `index` of the tree with this size and root.
///
/// Size and root come from one checkpoint: the same proof and root can be valid with another size too.
///
/// # Errors
///
/// Returns an error if it is not, or if the proof is not one for this index and size.
pub fn verify(line: &[u8], index: u64, size: u64, root: &Hash, proof: &[Hash]) -> Result<(), InclusionError> {
    let expected = siblings(index, size)?.len();
    if proof.len() != expected {
        return Err(InclusionError::Length { index, size, found: proof.len(), expected });
    }
    let bytes = proof.iter().flat_map(|hash| hash.0).collect();
    let proof = InclusionProof::<Sha256>::try_from_bytes(bytes).map_err(|_| InclusionError::WrongRoot)?;
    let root = RootHash::<Sha256>::new(root.0.into(), size);
    root.verify_inclusion(&line, index, &proof).map_err(|_| InclusionError::WrongRoot)
}

/// The numbers of the nodes beside the path from a leaf to the root. The crate panics where this returns an error.
fn siblings(index: u64, size: u64) -> Result<Vec<u64>, InclusionError> {
    if size > MAX_LEAVES {
        return Err(InclusionError::TooLarge(size));
    }
    if index >= size {
        return Err(InclusionError::NotInTree { index, size });
    }
    Ok(indices_for_inclusion_proof(size, index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::tree::leaf_hash;

    fn line(index: u64) -> Vec<u8> {
        format!("line {index}").into_bytes()
    }

    fn tree(size: u64) -> Frontier {
        let mut tree = Frontier::new();
        (0..size).for_each(|index| tree.append(leaf_hash(&line(index))));
        tree
    }

    fn prove(index: u64, size: u64, kept_from: u64) -> Result<Vec<Hash>, InclusionError> {
        let mut prover = InclusionProver::new(index, size, &tree(kept_from))?;
        (kept_from..size).for_each(|index| prover.append(leaf_hash(&line(index))));
        prover.finish()
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_proved() {
        for size in 1..=70 {
            let root = tree(size).root();
            for index in 0..size {
                let proof = prove(index, size, 0).unwrap();
                assert_eq!(verify(&line(index), index, size, &root, &proof), Ok(()), "{index} of {size}");
            }
        }
    }

    #[test]
    fn the_proof_of_a_pruned_log_is_the_same() {
        for size in [1, 2, 3, 7, 8, 21, 32, 33, 70] {
            for index in 0..size {
                let whole = prove(index, size, 0).unwrap();
                for kept_from in 0..=index {
                    assert_eq!(
                        prove(index, size, kept_from).as_ref(),
                        Ok(&whole),
                        "{index} of {size} from {kept_from}"
                    );
                }
            }
        }
    }

    #[test]
    fn another_line_index_size_root_or_hash_is_refused() {
        for size in 1..=33 {
            let root = tree(size).root();
            for index in 0..size {
                let proof = prove(index, size, 0).unwrap();
                let at = format!("{index} of {size}");
                assert_eq!(verify(b"other", index, size, &root, &proof), Err(InclusionError::WrongRoot), "{at}");
                for other in (0..=size).filter(|other| *other != index) {
                    assert!(verify(&line(index), other, size, &root, &proof).is_err(), "{at}, index {other}");
                }
                for hash in 0..proof.len() {
                    for byte in 0..32 {
                        let mut wrong = proof.clone();
                        wrong[hash].0[byte] ^= 1;
                        assert!(verify(&line(index), index, size, &root, &wrong).is_err(), "{at}, hash {hash}");
                    }
                }
                let mut longer = proof.clone();
                longer.push(root);
                for wrong in [&longer[..], proof.get(1..).unwrap_or(&longer)] {
                    let error = verify(&line(index), index, size, &root, wrong).unwrap_err();
                    assert!(matches!(error, InclusionError::Length { .. }), "{at}: {error}");
                }
                let error = verify(&line(index), index, size, &leaf_hash(b"root"), &proof).unwrap_err();
                assert_eq!(error, InclusionError::WrongRoot, "{at}");
            }
        }
    }

    #[test]
    fn a_proof_that_cannot_be_made_is_refused_with_the_reason() {
        for (index, size) in [(0, 0), (5, 5), (9, 5), (u64::MAX, 5), (u64::MAX, MAX_LEAVES)] {
            let error = InclusionError::NotInTree { index, size };
            assert_eq!(InclusionProver::new(index, size, &Frontier::new()).unwrap_err(), error);
            assert_eq!(verify(b"", index, size, &leaf_hash(b""), &[]), Err(error));
        }
        for size in [MAX_LEAVES + 1, u64::MAX] {
            let error = InclusionError::TooLarge(size);
            assert_eq!(InclusionProver::new(0, size, &Frontier::new()).unwrap_err(), error);
            assert_eq!(verify(b"", 0, size, &leaf_hash(b""), &[]), Err(error));
        }
        assert_eq!(prove(2, 5, 3), Err(InclusionError::Pruned { index: 2, first: 3 }));
        assert_eq!(prove(2, 5, 3).unwrap_err().to_string(), "leaf 2 is no longer kept; expected 3 or a later one");
        let prover = InclusionProver::new(4, 5, &tree(3)).unwrap();
        assert_eq!(prover.finish(), Err(InclusionError::Incomplete { found: 3, size: 5 }));
        let proof = InclusionProver::new(MAX_LEAVES - 1, MAX_LEAVES, &Frontier::new()).unwrap();
        assert_eq!(proof.siblings.len(), 62);
        assert!(matches!(
            verify(b"", MAX_LEAVES - 1, MAX_LEAVES, &leaf_hash(b""), &[leaf_hash(b""); 62]),
            Err(InclusionError::WrongRoot)
        ));
    }
}
