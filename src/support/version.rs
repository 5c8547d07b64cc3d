//! Which version of the program this is.

/// The program's version, as `Cargo.toml` has it.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The revision of the source, if the build was given one.
pub(crate) const REVISION: &str = match option_env!("KMS_ROTATIOND_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
