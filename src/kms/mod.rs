//! The cloud's Key Management Service, as a client sees it.

pub mod observe;
