//! What every part may use, and what uses no other part: clocks, durations as text, error chains, the write gate, small
//! files and their stamps, printable text.

pub mod clock;
pub(crate) mod duration;
pub mod error_chain;
pub(crate) mod file_stamp;
pub(crate) mod hex;
pub(crate) mod printable;
pub(crate) mod shortage;
pub(crate) mod small_file;
pub(crate) mod version;
pub mod write_gate;
