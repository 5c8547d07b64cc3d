//! A KMS, an IAM with its STS, and what an instance or a pod has next door, in this process, on a port of the loopback.
//!
//! The other side of the wire, written from the documents of the cloud and not from our client: nothing else of this
//! crate is used here, so that a misreading of ours does not cancel itself out. `rehearse`, the tests and the
//! benchmark all talk to this one, over real connections.
//!
//! [`Simulator::start`] takes a [`Setup`] (projects, [`Key`]s, users and other ways in, [`Behaviour`]) and serves until the simulator is
//! dropped. A [`Handle`] looks behind the wire: keys as they really are, what was asked and how often, every interval
//! ever sent; and it changes the account while it is served. [`Rule`]s make [`Fault`]s strike by script or by rate,
//! [`Preset`] has them ready-made, and [`seed`] makes a believable mix of keys for a rehearsal, or a whole account.
//!
//! It keeps no state on disk, speaks HTTP/1.1 without TLS, and does not rotate anything: only a test changes
//! `last_rotation`.
//!
//! ```no_run
//! use kms_rotationd::simulator::{Fault, Key, Operation, ProjectSetup, Rule, Setup, Simulator};
//!
//! # async fn example() -> std::io::Result<()> {
//! let project = "0123456789abcdef0123456789abcdef";
//! let key = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";
//! let setup = Setup::new()
//!     .project(ProjectSetup::new(project, "eu-de").key(Key::new(key)).token("a-token"))
//!     .fault(Rule::next(1, Fault::html(502).after_applying()).on(Operation::EnableRotation));
//! let simulator = Simulator::start(setup).await?;
//! // … point a client at simulator.url(), then:
//! assert_eq!(simulator.handle().intervals_sent(project, key), [90]);
//! # Ok(())
//! # }
//! ```

mod access;
mod access_key;
mod agency;
mod answer;
mod behaviour;
mod fault;
mod handle;
mod iam;
mod journal;
mod key;
mod keys;
mod kms;
mod listing;
mod metadata;
mod operation;
mod preset;
mod route;
mod rule;
pub mod seed;
mod server;
mod setup;
mod signature;
mod tags;
mod workload;
mod world;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use behaviour::{Behaviour, Dialect, MetadataTokens, NeverRotated, SuccessBody, TokenRefusal, Total};
pub use fault::{Fault, Garbage, Hold};
pub use handle::Handle;
pub use journal::Call;
pub use key::{INTERVAL_AFTER_ENABLING, Key, KeyState, Origin, RotationSetting};
pub use listing::{BadListing, LargestPage};
pub use operation::{Operation, OperationSet};
pub use preset::{Preset, UnknownPreset};
pub use rule::Rule;
pub use setup::{Journal, ProjectSetup, Setup};
pub use tags::ResourceDetail;

/// A running simulator; it stops when it is dropped.
pub struct Simulator {
    address: SocketAddr,
    handle: Handle,
    serving: JoinHandle<()>,
}

impl Simulator {
    /// Binds at once and serves in a task of the current runtime.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub async fn start(setup: Setup) -> io::Result<Self> {
        let listener = TcpListener::bind(setup.address).await?;
        let address = listener.local_addr()?;
        let idle_timeout = setup.idle_timeout;
        let world = Arc::new(Mutex::new(world::World::new(setup, format!("http://{address}"))));
        let handle = Handle::new(Arc::clone(&world));
        let serving = tokio::spawn(server::serve(listener, world, idle_timeout));
        Ok(Self { address, handle, serving })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where KMS, IAM, STS and metadata service answer, such as `http://127.0.0.1:40123`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address that a pod's environment has.
    #[must_use]
    pub fn pod_url(&self) -> String {
        format!("{}{}", self.url(), workload::POD_PATH)
    }

    /// The view behind the wire.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
