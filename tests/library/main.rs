//! The parts of the program through the public library: decision and runs by properties, policy problems and
//! outputs by golden files, the KMS client with the simulated cloud, the rules of the architecture by the source.
//!
//! Time is paused or injected. After an intended change, `UPDATE_GOLDEN=1 cargo test --test library` writes the golden
//! files again; read the difference.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod assignment;
mod audit;
mod citations;
mod client;
mod convergence;
mod daemon_loop;
mod decision;
mod evidence;
mod layers;
mod model;
mod output;
mod policy;
mod policy_defaults;
mod proof;
mod properties;
mod schema;
mod signing;
mod wording;
