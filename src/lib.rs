//! kms-rotationd keeps the keys of a cloud's Key Management Service on a rotation policy, and proves it.

pub mod chain;
pub mod cli;
pub mod clock;
pub mod daemon;
pub mod kms;
pub mod observability;
pub mod policy;
pub mod reconcile;
pub mod rotation;
pub mod simulator;
