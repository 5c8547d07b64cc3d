//! The policy file: what its users want of which keys.
//!
//! [`types`] is what the rest of the program works with.

pub mod types;
