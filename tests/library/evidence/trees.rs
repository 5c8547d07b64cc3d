//! Roots and proofs of random trees are those of ct-merkle and `tlog_tiles`.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use kms_rotationd::evidence::inclusion::{InclusionProver, verify};
use kms_rotationd::evidence::tree::{Frontier, Hash, leaf_hash};
use proptest::prelude::*;
use sha2::Sha256;
use tlog_tiles::tlog::{self, HashReader};

use super::super::properties::config;

/// The nodes that `tlog_tiles` stores, in its order.
#[derive(Default)]
struct Stored(Vec<tlog::Hash>);

impl HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
        Ok(indexes.iter().map(|index| self.0[usize::try_from(*index).unwrap()]).collect())
    }
}

/// The same lines in three trees.
struct Trees {
    ours: Frontier,
    ct_merkle: MemoryBackedTree<Sha256, Vec<u8>>,
    tlog_tiles: Stored,
}

impl Trees {
    fn of(lines: &[Vec<u8>]) -> Self {
        let mut trees =
            Self { ours: Frontier::new(), ct_merkle: MemoryBackedTree::new(), tlog_tiles: Stored::default() };
        for (number, line) in (0..).zip(lines) {
            trees.ours.append(leaf_hash(line));
            trees.ct_merkle.push(line.clone());
            let new = tlog::stored_hashes(number, line, &trees.tlog_tiles).unwrap();
            trees.tlog_tiles.0.extend(new);
        }
        trees
    }
}

fn tiles_root(trees: &Trees) -> Hash {
    Hash(tlog::tree_hash(trees.ours.size(), &trees.tlog_tiles).unwrap().0)
}

fn prove(lines: &[Vec<u8>], index: usize, kept_from: usize) -> Vec<Hash> {
    let mut pruned = Frontier::new();
    lines[..kept_from].iter().for_each(|line| pruned.append(leaf_hash(line)));
    let restored = Frontier::from_hashes(pruned.size(), pruned.hashes().to_vec()).unwrap();
    let mut prover = InclusionProver::new(index as u64, lines.len() as u64, &restored).unwrap();
    lines[kept_from..].iter().for_each(|line| prover.append(leaf_hash(line)));
    prover.finish().unwrap()
}

#[test]
fn the_empty_tree_has_the_root_of_the_others() {
    let trees = Trees::of(&[]);
    assert_eq!(trees.ours.root().0, *trees.ct_merkle.root().as_bytes().as_slice());
    assert_eq!(trees.ours.root(), tiles_root(&trees));
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_root_is_that_of_ct_merkle_and_tlog_tiles(
        lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..300),
        stored in any::<prop::sample::Index>(),
    ) {
        let trees = Trees::of(&lines);
        let (ours, of_ct_merkle) = (trees.ours.root(), trees.ct_merkle.root());
        prop_assert_eq!(ours.0.as_slice(), of_ct_merkle.as_bytes().as_slice());
        prop_assert_eq!(ours, tiles_root(&trees));
        // Continued from a stored frontier.
        let stored = stored.index(lines.len() + 1);
        let mut continued = Frontier::new();
        for (number, line) in lines.iter().enumerate() {
            if number == stored {
                continued = Frontier::from_hashes(continued.size(), continued.hashes().to_vec()).unwrap();
            }
            continued.append(leaf_hash(line));
        }
        prop_assert_eq!(continued, trees.ours);
    }

    #[test]
    fn a_proof_from_any_kept_line_is_that_of_ct_merkle_and_tlog_tiles(
        lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..300),
        index in any::<prop::sample::Index>(),
        kept_from in any::<prop::sample::Index>(),
    ) {
        let trees = Trees::of(&lines);
        let index = index.index(lines.len());
        let kept_from = kept_from.index(index + 1);
        let proof = prove(&lines, index, kept_from);
        let bytes: Vec<_> = proof.iter().flat_map(|hash| hash.0).collect();
        let of_ct_merkle = trees.ct_merkle.prove_inclusion(index);
        prop_assert_eq!(bytes.as_slice(), of_ct_merkle.as_bytes());
        let (size, number) = (lines.len() as u64, index as u64);
        let of_tiles = tlog::prove_record(size, number, &trees.tlog_tiles).unwrap();
        let of_tiles: Vec<_> = of_tiles.iter().flat_map(|hash| hash.0).collect();
        prop_assert_eq!(bytes, of_tiles);
        prop_assert_eq!(verify(&lines[index], number, size, &trees.ours.root(), &proof), Ok(()));
    }

    #[test]
    fn no_size_index_or_length_of_a_proof_panics(
        size in any::<u64>(), index in any::<u64>(), length in 0_usize..70, shift in 0_u32..64,
    ) {
        let hash = leaf_hash(b"line");
        let (size, index) = (size >> shift, index >> shift);
        prop_assert!(verify(b"line", index, size, &leaf_hash(b"root"), &vec![hash; length]).is_err());
        if let Ok(mut frontier) = Frontier::from_hashes(size, vec![hash; length]) {
            frontier.append(hash);
            prop_assert_eq!(frontier.hashes().len(), frontier.size().count_ones() as usize);
        }
        let ones = vec![hash; size.count_ones() as usize];
        if let Ok(mut frontier) = Frontier::from_hashes(size, ones) {
            frontier.append(hash);
            if let Ok(mut prover) = InclusionProver::new(index, index.saturating_add(2), &frontier) {
                prover.append(hash);
                let _ = prover.finish();
            }
        }
    }
}
