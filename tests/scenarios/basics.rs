//! Shared by all tests of the real binary: names, and waiting.

use std::time::{Duration, Instant};

/// Time after which a test reports a hang: the only deadline of these tests. No test measures it, so it is far longer
/// than anything takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(4 * 60);

pub(crate) const PROJECT: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const KEY: &str = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";
pub(crate) const TOKEN: &str = "tOkEn-7f3a9c5e1b2d4f60-of-a-file";
pub(crate) const USER: &str = "rotator";
pub(crate) const ACCOUNT: &str = "ACCOUNT";
pub(crate) const PASSWORD: &str = "pAsSwOrD-c8e1d2b7a4f35960";

/// The id of the n-th of many keys.
pub(crate) fn key_id(n: usize) -> String {
    format!("{n:08x}-e727-4d9c-b35d-f84bb474a37f")
}

/// Waits until the condition is true.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < DEADLINE, "it never came to this: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
