//! The report as one JSON document: the whole model.

use std::io::{self, BufWriter, Write};

use super::model::Report;

/// Writes the document.
///
/// # Errors
///
/// The destination cannot be written.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    serde_json::to_writer(&mut out, report)?;
    out.write_all(b"\n")?;
    out.flush()
}
