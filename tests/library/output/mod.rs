//! The outputs of a run: over HTTP, and printed by commands.

mod announcements;
mod connections;
mod documents;
pub(crate) mod sample;
mod server;
