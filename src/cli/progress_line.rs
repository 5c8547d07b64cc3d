//! The progress line of `plan`, `apply` and `init` on a terminal.
//!
//! It is rewritten in place and erased at the end. Log lines go to the same terminal: they erase it first, and it is
//! shown again below them.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::rotation::progress::RunProgress;
use crate::support::printable::printable;

/// Delay before the first progress line, and refresh interval.
const INTERVAL: Duration = Duration::from_millis(250);

/// Moves to the first column and erases the line.
const ERASE: &str = "\r\x1b[2K";
/// Before and after a line that must not wrap on a narrow terminal: only its last row would be erased.
const WITHOUT_WRAPPING: [&str; 2] = ["\x1b[?7l", "\x1b[?7h"];

/// Standard error, with or without a progress line at the moment.
#[derive(Clone, Default)]
pub(super) struct ProgressLine {
    is_shown: Arc<Mutex<bool>>,
}

impl ProgressLine {
    /// Shows or replaces the line.
    fn show(&self, line: &dyn fmt::Display, out: &mut dyn Write) {
        let mut is_shown = self.is_shown.lock().unwrap_or_else(PoisonError::into_inner);
        let [begin, end] = WITHOUT_WRAPPING;
        // The run continues without progress if it cannot be shown.
        *is_shown = write!(out, "{ERASE}{begin}{line}{end}").and_then(|()| out.flush()).is_ok();
    }

    /// Erases the line, then writes these bytes.
    fn write(&self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        let mut is_shown = self.is_shown.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *is_shown) {
            out.write_all(ERASE.as_bytes())?;
        }
        out.write_all(bytes)?;
        out.flush()
    }

    /// A writer of log lines that erases the progress line first.
    pub(super) fn log_writer(&self) -> LogWriter {
        LogWriter(self.clone())
    }

    /// Shows the progress of a run until it is dropped. Never ends.
    pub(super) async fn follow(&self, scope: &str, progress: &RunProgress) -> Infallible {
        let _erase = EraseOnDrop(self);
        let mut ticks = interval_at(Instant::now() + INTERVAL, INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (keys, stage) = progress.stage();
            self.show(&progress_text(scope, keys, progress.found(), stage), &mut io::stderr().lock());
        }
    }
}

struct EraseOnDrop<'a>(&'a ProgressLine);

impl Drop for EraseOnDrop<'_> {
    fn drop(&mut self) {
        let _ = self.0.write(b"", &mut io::stderr().lock());
    }
}

/// Writes log lines to standard error.
pub(super) struct LogWriter(ProgressLine);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes, &mut io::stderr().lock()).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn progress_text(scope: &str, keys: usize, found: usize, stage: &str) -> String {
    let scope = printable(scope);
    match found {
        0 => format!("{scope}: listing keys"),
        1 => format!("{scope}: {} of 1 key {stage}", grouped(keys)),
        _ => format!("{scope}: {} of {} keys {stage}", grouped(keys), grouped(found)),
    }
}

/// A number in groups of three digits.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| group.escape_ascii().to_string());
    groups.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_a_short_line() {
        assert_eq!(progress_text("payments", 0, 0, "done"), "payments: listing keys");
        assert_eq!(progress_text("payments", 1_240, 5_000, "read"), "payments: 1 240 of 5 000 keys read");
        assert_eq!(progress_text("pay\nments", 0, 1, "read"), "pay\u{fffd}ments: 0 of 1 key read");
        assert_eq!(progress_text("3 projects", 999, 1_234_567, "done"), "3 projects: 999 of 1 234 567 keys done");
    }

    #[test]
    fn a_log_line_erases_the_progress_line() {
        let progress_line = ProgressLine::default();
        let mut out = Vec::new();
        progress_line.write(b"first\n", &mut out).unwrap();
        progress_line.show(&"1 of 2", &mut out);
        progress_line.show(&"2 of 2", &mut out);
        progress_line.write(b"second\n", &mut out).unwrap();
        progress_line.write(b"", &mut out).unwrap();
        let line = |text| format!("\r\x1b[2K\x1b[?7l{text}\x1b[?7h");
        let expected = format!("first\n{}{}\r\x1b[2Ksecond\n", line("1 of 2"), line("2 of 2"));
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
