//! The evidence log: records of what this program observed and did, which a third party can verify.
//!
//! The log is a Merkle tree over its lines ([`tree`]). A proof shows that one line is in the tree ([`inclusion`]). Both
//! follow RFC 6962, so that other programs can verify them.
//!
//! Nothing here reads or writes a file.

pub mod inclusion;
pub mod tree;
