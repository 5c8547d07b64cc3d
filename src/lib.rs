//! kms-rotationd keeps the keys of a cloud's Key Management Service on a rotation policy, and proves it.
//!
//! # What decides
//!
//! [`rotation`] is the core: what is desired of a key, what is observed of it, and [`rotation::decide()`], a pure
//! function of the two that gives a verdict: a status, its reasons, and the writes that would lead to the policy.
//! Nothing else in the program judges a key.
//!
//! # What acts
//!
//! [`policy`] reads the file that says what is desired. [`kms`] speaks to the cloud: it authenticates, spaces and
//! repeats calls, and knows what an answer means. [`reconcile`] brings the two together: for every key it observes,
//! decides, takes one step and looks again, until nothing is left to do or a reason stands in the way. What came of it
//! is a [`rotation::Report`].
//!
//! # What serves
//!
//! [`daemon`] is one loop that makes such runs on a schedule. [`support::write_gate`] lets their writes through where this process is the
//! one of several replicas that acts. [`observability`] shows the last report: metrics, a
//! status page, JSON, text, logs. [`cli`] turns arguments into one of the two, or into a single run.
//!
//! The simulated cloud of `rehearse`, of tests and of benchmarks is a crate of its own, `kms-simulator`.

pub mod cli;
pub mod daemon;
pub mod kms;
pub mod observability;
pub mod policy;
pub mod reconcile;
pub mod rotation;
pub mod support;
pub mod web;
pub mod yaml;
