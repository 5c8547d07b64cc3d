//! The HTTP server's configuration file.

pub mod config;
