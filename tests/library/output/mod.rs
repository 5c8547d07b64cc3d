//! What the outside sees of a run: over HTTP as a client meets it, and as the commands print it.

mod announcements;
mod connections;
mod documents;
mod sample;
mod server;
