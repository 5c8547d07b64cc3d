//! kms-rotationd makes the keys of a cloud's Key Management Service follow a rotation policy, and reports on each key.
//!
//! # The decision
//!
//! [`rotation`] is the core: the desired rotation of a key, its observed rotation, and [`rotation::decide()`], a pure
//! function of the two. It returns a verdict: a status, its reasons, and the writes that are needed. No other part
//! judges a key.
//!
//! # A run
//!
//! [`policy`] reads the policy file, with [`yaml`]. [`kms`] calls the cloud: it authenticates, limits and retries
//! requests, and classifies responses. `connect` makes its clients from the policy and the environment. [`reconcile`]
//! uses them: it reads every key, decides, writes one step at a time and reads back, until no step is left or none can
//! be taken. The result is a [`rotation::Report`].
//!
//! # Evidence
//!
//! [`evidence`] is a log that third parties can verify: its Merkle tree, signed checkpoints and proofs, its verification,
//! and packs for auditors.
//! [`evidence`] is the base of a log that third parties can verify: its Merkle tree, signed checkpoints and proofs.
//! [`audit`] reports from such logs whether each key was on policy over a period.
//!
//! # The daemon
//!
//! [`daemon`] is one loop that makes such runs on a schedule; `leadership` lets only one of several replicas write.
//! [`views`] and `metrics` render the last report, [`web`] serves it, `logging` writes the log. [`cli`] turns
//! arguments into the daemon or into a single run. All parts but [`rotation`] use [`support`].
//!
//! The library is for `main.rs` and for the tests in `tests/library`, which need the public items. It is not a stable
//! interface: that is the command line, the policy, the metrics and the JSON.
//!
//! The simulated cloud of `rehearse`, of tests and of benchmarks is the separate crate `kms-simulator`.

pub mod audit;
pub mod cli;
mod connect;
pub mod daemon;
pub mod evidence;
pub mod kms;
mod leadership;
mod logging;
mod metrics;
pub mod policy;
pub mod reconcile;
pub mod rotation;
pub mod support;
pub mod views;
pub mod web;
pub mod yaml;
