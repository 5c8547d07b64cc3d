//! The HTTP server: connections, routes, TLS, logins and their configuration file; and the health check of a running
//! daemon.
//!
//! The daemon's loop publishes into a [`StatusStore`], and a [`Server`] serves it. Nothing here calls the cloud, and no
//! request changes anything.

mod access_control;
mod body;
pub mod config;
mod encoding;
mod health;
mod host;
mod listen;
mod login;
mod probe;
mod routes;
mod server;
mod slots;
mod stall;
mod status;
mod tls;

pub use access_control::{WebError, WebFile};
pub use health::Health;
pub use listen::ListenAddress;
pub(crate) use probe::{Probe, Scheme};
pub use server::Server;
pub use status::{KeyHistories, StatusStore};
pub use tls::TlsError;
