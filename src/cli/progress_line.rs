//! The line on a terminal that tells how far `plan` or `apply` has come.
//!
//! It is rewritten in place and gone at the end. Log lines go to the same terminal: they take the line away first, and
//! it comes again below them.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::reconcile::RunProgress;
use crate::support::printable::printable;

/// A run that is over by then shows nothing; and between two looks so much passes.
const PACE: Duration = Duration::from_millis(250);

/// Back to the first column, and what is there erased.
const ERASE: &str = "\r\x1b[2K";
/// Around a line that must not be wrapped on a narrow terminal, of which only the last row would be erased.
const WITHOUT_WRAPPING: [&str; 2] = ["\x1b[?7l", "\x1b[?7h"];

/// Standard error, with or without a line of progress on it.
#[derive(Clone, Default)]
pub(super) struct Screen {
    has_line: Arc<Mutex<bool>>,
}

impl Screen {
    /// Shows the line in the place of the one before.
    fn show(&self, line: &dyn fmt::Display, out: &mut dyn Write) {
        let mut has_line = self.has_line.lock().unwrap_or_else(PoisonError::into_inner);
        let [begin, end] = WITHOUT_WRAPPING;
        // Progress that cannot be shown is no reason to end.
        *has_line = write!(out, "{ERASE}{begin}{line}{end}").and_then(|()| out.flush()).is_ok();
    }

    /// Takes the line away, and writes this.
    fn write(&self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        let mut has_line = self.has_line.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *has_line) {
            out.write_all(ERASE.as_bytes())?;
        }
        out.write_all(bytes)?;
        out.flush()
    }

    /// Writes to standard error below whatever is there.
    pub(super) fn log(&self) -> Log {
        Log(self.clone())
    }

    /// Shows the progress until it is dropped. Never ends.
    pub(super) async fn follow(&self, whose: &str, progress: &RunProgress) -> Infallible {
        let _line = Line(self);
        let mut pace = interval_at(Instant::now() + PACE, PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            self.show(&said(whose, progress.done(), progress.found()), &mut io::stderr().lock());
        }
    }
}

/// The line while it is wanted.
struct Line<'a>(&'a Screen);

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let _ = self.0.write(b"", &mut io::stderr().lock());
    }
}

/// Where log lines go.
pub(super) struct Log(Screen);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes, &mut io::stderr().lock()).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn said(whose: &str, done: usize, found: usize) -> String {
    let whose = printable(whose);
    match found {
        0 => format!("{whose}: looking for keys"),
        1 => format!("{whose}: {} of 1 key", grouped(done)),
        _ => format!("{whose}: {} of {} keys", grouped(done), grouped(found)),
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
        assert_eq!(said("payments", 0, 0), "payments: looking for keys");
        assert_eq!(said("payments", 1_240, 5_000), "payments: 1 240 of 5 000 keys");
        assert_eq!(said("pay\nments", 0, 1), "pay\u{fffd}ments: 0 of 1 key");
        assert_eq!(said("3 projects", 999, 1_234_567), "3 projects: 999 of 1 234 567 keys");
    }

    #[test]
    fn a_log_line_takes_the_line_away_and_stands_alone() {
        let screen = Screen::default();
        let mut out = Vec::new();
        screen.write(b"first\n", &mut out).unwrap();
        screen.show(&"1 of 2", &mut out);
        screen.show(&"2 of 2", &mut out);
        screen.write(b"second\n", &mut out).unwrap();
        screen.write(b"", &mut out).unwrap();
        let line = |text| format!("\r\x1b[2K\x1b[?7l{text}\x1b[?7h");
        let expected = format!("first\n{}{}\r\x1b[2Ksecond\n", line("1 of 2"), line("2 of 2"));
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
