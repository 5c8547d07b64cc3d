//! How many connections the clients of all projects may have open at once.
//!
//! The process has a limit of open files, and connections count against it. So the requests of all projects wait here
//! for their turn, and the rest of the limit is shared among idle connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// For all but the clouds: at most 64 connections that are served, the policy, secrets, logs, watches.
const RESERVED: u64 = 128;
/// While a request uses one connection, a second one may be opened, and a name be resolved; a quarter is for idle
/// connections.
const SHARE: u64 = 4;
/// More requests at a time would make no run faster, and each connection by TLS takes some 50 KB of memory.
const MOST: u64 = 1024;

/// The connections of a process.
#[derive(Debug)]
pub(super) struct Connections {
    in_flight: Semaphore,
    /// The number of idle connections in all pools together.
    idle: usize,
    /// The number of servers with idle connections, counted for each client.
    servers: AtomicUsize,
}

impl Connections {
    /// As many as this limit of open files has room for, and never less than one.
    pub(super) fn for_descriptors(limit: u64) -> Arc<Self> {
        let share = (limit.saturating_sub(RESERVED) / SHARE).min(MOST) as usize;
        let in_flight = Semaphore::new(share.max(1));
        Arc::new(Self { in_flight, idle: share, servers: AtomicUsize::new(0) })
    }

    /// A single one, for a rehearsal that can be repeated: requests are then made in the same order each time.
    pub(super) fn one_at_a_time() -> Arc<Self> {
        Arc::new(Self { in_flight: Semaphore::new(1), idle: 1, servers: AtomicUsize::new(0) })
    }

    /// Waits until one more request may be in flight. Dropping the permit ends the request.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.in_flight.acquire().await.ok()
    }

    /// Connections are now kept to one server more.
    pub(super) fn add_server(&self) {
        self.servers.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections are no longer kept to this number of servers.
    pub(super) fn remove_servers(&self, count: usize) {
        self.servers.fetch_sub(count, Ordering::Relaxed);
    }

    /// How many idle connections may be kept open to each server.
    pub(super) fn idle_per_server(&self) -> usize {
        self.idle / self.servers.load(Ordering::Relaxed).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_connections_fit_under_the_limit() {
        for limit in [0, 64, 256, 1024, 20_000, 1 << 30, u64::MAX] {
            for servers in [0, 1, 2, 1_000, 100_000] {
                let connections = Connections::for_descriptors(limit);
                (0..servers).for_each(|_| connections.add_server());
                let in_flight = connections.in_flight.available_permits();
                let idle = connections.idle_per_server().checked_mul(servers.max(1)).unwrap();
                assert!(in_flight >= 1, "{limit}");
                if limit > 256 {
                    assert!((2 * in_flight + idle) as u64 + RESERVED <= limit, "{limit}, {servers}");
                }
                connections.remove_servers(servers);
                assert_eq!(connections.servers.load(Ordering::Relaxed), 0);
            }
        }
        let in_flight = |limit| Connections::for_descriptors(limit).in_flight.available_permits();
        assert_eq!([1024, u64::MAX].map(in_flight), [224, 1024]);
    }
}
