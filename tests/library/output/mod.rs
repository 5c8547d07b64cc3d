//! The outputs of a run: over HTTP, and printed by commands.

mod announcements;
mod connections;
mod documents;
mod page;
pub(crate) mod sample;
mod server;
