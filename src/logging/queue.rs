//! Log lines on their way to standard error, so that whoever does not take them holds up nothing but them.
//!
//! A write to a pipe that nobody reads waits for ever, and the daemon has one thread for everything: a stalled log
//! collector would stop runs, answers and signals. So another thread writes. Where too many lines wait, further ones are
//! lost, and that is said once lines are taken again. The command line starts one for the daemon.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing::warn;

/// So many lines may wait: about a megabyte.
const WAITING: usize = 4096;
/// So long the end of the program waits for the last lines to be taken.
const PATIENCE: Duration = Duration::from_secs(1);

/// The end of the queue that lines are put into.
#[derive(Clone)]
pub struct LogQueue {
    lines: SyncSender<Item>,
    lost: Arc<AtomicU64>,
}

enum Item {
    Line(Vec<u8>),
    /// What came before is written.
    Mark(SyncSender<()>),
}

/// Has the last lines written when it is dropped, if somebody takes them.
pub struct LastLines(LogQueue);

impl LogQueue {
    /// A queue to this writer.
    ///
    /// # Errors
    /// The system lets no thread begin.
    pub fn to(out: impl Write + Send + 'static) -> io::Result<(Self, LastLines)> {
        let (lines, waiting) = sync_channel(WAITING);
        let lost = Arc::<AtomicU64>::default();
        let queue = Self { lines, lost: Arc::clone(&lost) };
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&waiting, &lost, out))?;
        Ok((queue.clone(), LastLines(queue)))
    }
}

fn write_all(waiting: &Receiver<Item>, lost: &AtomicU64, mut out: impl Write) {
    for item in waiting {
        match item {
            // There is nowhere left to tell of an error.
            Item::Line(line) => drop(out.write_all(&line)),
            Item::Mark(reached) => drop(reached.send(())),
        }
        let lines = lost.swap(0, Relaxed);
        if lines > 0 {
            // Goes the way of all lines, and stands behind those that waited.
            warn!(lines, "log lines were lost, since nobody took them from standard error");
        }
    }
}

impl Write for LogQueue {
    /// Takes a whole line, which is how the subscriber writes.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lines.try_send(Item::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LastLines {
    fn drop(&mut self) {
        let (reached, mark) = sync_channel(1);
        if self.0.lines.try_send(Item::Mark(reached)).is_ok() {
            let _ = mark.recv_timeout(PATIENCE);
        }
    }
}
