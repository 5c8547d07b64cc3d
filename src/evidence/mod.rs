//! The evidence log: records of what this program observed and did, which a third party can verify.
//!
//! The log is a Merkle tree over its lines ([`tree`]). A signed note, the checkpoint, states its size and root
//! ([`note`], [`key`]). A proof shows that one line is in the tree of a checkpoint ([`proof`], [`inclusion`]). All
//! formats are public ones, so that other programs can verify them: RFC 6962, c2sp.org/signed-note,
//! c2sp.org/tlog-checkpoint and c2sp.org/tlog-proof.
//!
//! [`record`] has the records, [`changes`] finds what changed of keys from run to run, and [`reader`] reads records.
//! [`recorder`] records the runs of a process, [`log`] writes records and checkpoints into a folder ([`folder`]) and
//! goes on after a crash, and [`restore`] reads what a later process continues with.
//!
//! [`verify`] compares a log with its own checkpoints and with copies of them that were kept elsewhere ([`anchor`]), and
//! so finds out whether it is complete and unchanged; [`conclusion`] says that in words. [`prove`] makes the proof of
//! one record, and [`pack`] collects a log for an auditor.

pub mod anchor;
pub mod changes;
pub mod conclusion;
pub mod folder;
pub mod inclusion;
mod journal;
pub mod key;
mod line;
pub mod log;
mod marks;
mod memory;
pub mod note;
pub mod pack;
pub mod problem;
pub mod proof;
pub mod prove;
pub mod reader;
pub mod record;
pub mod recorder;
pub mod restore;
pub mod tree;
pub mod verify;
