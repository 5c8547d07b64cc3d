//! The parts of the program through the public library: the decision and the run by properties, the policy's problems and
//! the output by golden files, the KMS client against the simulated cloud, the walls between the parts by the source.
//!
//! Time is paused or injected. After a wanted change, `UPDATE_GOLDEN=1 cargo test --test library` writes the golden files
//! anew; read the difference before it is committed.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod assignment;
mod citations;
mod client;
mod convergence;
mod daemon_loop;
mod decision;
mod layers;
mod output;
mod policy;
mod schema;
mod signing;
