//! A simulated cloud on a separate thread, so that a test can block while the cloud answers.

use std::ops::Deref;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use kms_simulator::{Fault, Handle, Hold, Key, Operation, ProjectSetup, Rule, Setup, Simulator};
use tokio::sync::oneshot;

use super::{ACCOUNT, KEY, PASSWORD, PROJECT, TOKEN, USER, eventually, key_id};

/// A cloud; it ends when it is dropped.
pub(crate) struct Cloud {
    url: String,
    handle: Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A project with these keys, a token for it, and a user.
pub(crate) fn setup(keys: impl IntoIterator<Item = Key>) -> Setup {
    let project = ProjectSetup::new(PROJECT, "eu-de").domain(ACCOUNT).keys(keys).token(TOKEN);
    Setup::new().project(project).login(USER, ACCOUNT, PASSWORD)
}

/// The one key of most tests, with rotation off.
pub(crate) fn off() -> Key {
    Key::new(KEY)
}

/// The one key of most tests, with rotation on.
pub(crate) fn rotating(days: u32) -> Key {
    Key::new(KEY).rotating(days)
}

/// A cloud of one key that refuses to list keys, so that the key is described before the first write.
pub(crate) fn unlisted(key: Key) -> Setup {
    setup([key]).behave(|behaviour| behaviour.forbidden = Operation::ListKeys.into())
}

/// This number of keys with rotation off.
pub(crate) fn many(count: usize) -> Vec<Key> {
    (0..count).map(|n| Key::new(key_id(n))).collect()
}

/// Holds the status of the eleventh key and the following ones, so that a run of many keys stops in its middle.
pub(crate) fn from_the_eleventh_on(hold: &Hold) -> Rule {
    Rule::always(Fault::held(hold)).on(Operation::ReadStatus).after(10)
}

/// A clock at a tenth of the speed: credentials that expire soon are still valid for the cloud when the client renews
/// them, also on a busy machine.
pub(crate) fn slow_clock() -> impl Fn() -> SystemTime + Send + Sync + 'static {
    let begin = SystemTime::now();
    move || begin + begin.elapsed().unwrap_or_default() / 10
}

impl Cloud {
    pub(crate) fn start(setup: Setup) -> Self {
        let (up, started) = mpsc::channel();
        let (end, ended) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let simulator = Simulator::start(setup).await.unwrap();
                up.send((simulator.url(), simulator.handle().clone())).unwrap();
                let _ = ended.await;
            });
        });
        let (url, handle) = started.recv().unwrap();
        Self { url, handle, end: Some(end), thread: Some(thread) }
    }

    /// A cloud with these keys.
    pub(crate) fn of(keys: impl IntoIterator<Item = Key>) -> Self {
        Self::start(setup(keys))
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The stored setting of a key: on or off, and the interval.
    pub(crate) fn rotation(&self, key_id: &str) -> (bool, u32) {
        let rotation = self.key(PROJECT, key_id).unwrap().rotation;
        (rotation.enabled, rotation.interval_days)
    }

    /// Number of requests for the one key of most tests.
    pub(crate) fn asked(&self, operation: Operation) -> u64 {
        self.key_requests(PROJECT, KEY, operation)
    }

    /// The intervals that were sent for a key.
    pub(crate) fn sent(&self, key_id: &str) -> Vec<u64> {
        self.intervals_sent(PROJECT, key_id).iter().map(|interval| interval.as_u64().unwrap()).collect()
    }

    /// Waits for this number of requests for the operation.
    #[track_caller]
    pub(crate) fn await_requests(&self, operation: Operation, count: u64) {
        eventually(&format!("{count} requests of {operation:?}"), || self.requests(operation) >= count);
    }

    /// Only this interval was sent, for any key.
    #[track_caller]
    pub(crate) fn assert_only_sent(&self, days: u64) {
        for (key_id, interval) in self.all_intervals_sent(PROJECT) {
            assert_eq!(interval.as_u64(), Some(days), "{key_id}");
        }
    }
}

impl Deref for Cloud {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
