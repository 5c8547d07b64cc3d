//! What the outside sees of a run: over HTTP as a client meets it, and as the commands print it.

#[cfg(test)]
mod announcements;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod server;
