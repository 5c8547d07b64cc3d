//! The version of the program.

use std::sync::LazyLock;

/// The version in `Cargo.toml`.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The source revision, if the build sets it.
pub(crate) const REVISION: &str = match option_env!("KMS_ROTATIOND_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// Version and revision, for `--version`.
pub(crate) fn with_revision() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| format!("{VERSION} (revision {REVISION})"));
    &TEXT
}
