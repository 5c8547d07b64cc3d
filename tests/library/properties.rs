//! The configuration of the property tests.

use std::env;

use proptest::prelude::ProptestConfig;

/// Cases of each property by default: few, so that the whole target ends within seconds.
const CASES: u32 = 300;

/// `PROPTEST_CASES` sets another number of cases.
pub(crate) fn config() -> ProptestConfig {
    // proptest's default has read the variable.
    let config = ProptestConfig::default();
    if env::var_os("PROPTEST_CASES").is_some() { config } else { ProptestConfig { cases: CASES, ..config } }
}
