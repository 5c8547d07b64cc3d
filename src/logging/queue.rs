//! The queue between the daemon and standard error: a log collector that stalls delays only the log.
//!
//! A write to a pipe that is not read blocks, and the daemon has one thread for runs, responses and signals. So another
//! thread writes. When the queue is full, further lines are dropped, and a warning reports their number later. The
//! command line starts one for the daemon.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing::warn;

/// Queue capacity in lines, about 1 MB.
const CAPACITY: usize = 4096;
/// How long shutdown waits for the queue to drain.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The writing end of the queue.
#[derive(Clone)]
pub(crate) struct LogQueue {
    lines: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

enum Item {
    Line(Vec<u8>),
    /// Signals that all earlier lines are written.
    Flush(SyncSender<()>),
}

/// Waits until the queue is drained when it is dropped, at most a second.
pub(crate) struct FlushOnDrop(LogQueue);

impl LogQueue {
    /// Starts a thread that writes the queue's lines to `out`.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(crate) fn start(out: impl Write + Send + 'static) -> io::Result<(Self, FlushOnDrop)> {
        let (lines, queued) = sync_channel(CAPACITY);
        let dropped = Arc::<AtomicU64>::default();
        let queue = Self { lines, dropped: Arc::clone(&dropped) };
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&queued, &dropped, out))?;
        Ok((queue.clone(), FlushOnDrop(queue)))
    }
}

fn write_all(queued: &Receiver<Item>, dropped: &AtomicU64, mut out: impl Write) {
    for item in queued {
        match item {
            // An error cannot be logged: this is the log.
            Item::Line(line) => drop(out.write_all(&line)),
            Item::Flush(done) => drop(done.send(())),
        }
        let lines = dropped.swap(0, Relaxed);
        if lines > 0 {
            // Queued as well, behind the lines that waited.
            warn!(lines, "log lines dropped: standard error was not read in time");
        }
    }
}

impl Write for LogQueue {
    /// The subscriber writes whole lines.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lines.try_send(Item::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for FlushOnDrop {
    fn drop(&mut self) {
        let (done, flushed) = sync_channel(1);
        if self.0.lines.try_send(Item::Flush(done)).is_ok() {
            let _ = flushed.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}
