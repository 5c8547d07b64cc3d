//! The evidence log: records of what this program observed and did, which a third party can verify.
//!
//! The log is a Merkle tree over its lines ([`tree`]). A signed note, the checkpoint, states its size and root
//! ([`note`], [`key`]). A proof shows that one line is in the tree of a checkpoint ([`proof`], [`inclusion`]). All
//! formats are public ones, so that other programs can verify them: RFC 6962, c2sp.org/signed-note,
//! c2sp.org/tlog-checkpoint and c2sp.org/tlog-proof.
//!
//! Nothing here reads or writes a file.

pub mod inclusion;
pub mod key;
pub mod note;
pub mod proof;
pub mod tree;
