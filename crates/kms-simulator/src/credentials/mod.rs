//! Who may use the cloud, and what proves it: users, agencies and identity providers; tokens, access keys, signatures.
//!
//! It only stores and checks. `access` applies it to requests, and `issue` creates new tokens and keys.

pub(crate) mod access_key;
pub(crate) mod identity;
pub(crate) mod lockout;
mod signature;
pub(crate) mod token;
