//! Programs of others that some tests drive: they are not everywhere, and what is skipped for want of one is said.

use std::io::Write as _;
use std::path::PathBuf;

/// A program on the path.
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PATH")
        .and_then(|path| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file()));
    if found.is_none() {
        skipped(&format!("{name} is not installed"));
    }
    found
}

/// Says what is not tested, and why.
pub(crate) fn skipped(why: &str) {
    // Not by a macro, whose words the test runner keeps to itself when a test passes.
    let said = format!("skipped in {:?}: {why}\n", std::thread::current().name());
    std::io::stderr().write_all(said.as_bytes()).unwrap();
}
