//! A simulated cloud on a loopback port: KMS, IAM with STS, the metadata service of an instance, a pod's identity agent.
//!
//! It is written from the cloud's documents (`docs/kms-api.md`) and not from a client, so that a client's misreading of
//! the API does not cancel itself out.
//!
//! [`Simulator::start`] takes a [`Setup`] (projects, [`Key`]s, users and other logins, [`Behaviour`]) and serves until
//! the simulator is dropped. [`Preset`] makes faults strike, and [`seed`] makes a believable mix of keys.
//!
//! With the feature `testing`, `Handle` shows and changes the cloud behind the wire (the keys as they are, what was
//! requested, every interval that was sent), `Rule` makes a `Fault` strike by script or by rate, and `seed::account`
//! makes a whole account.
//!
//! The simulator keeps no state on disk, serves HTTP/1.1 without TLS, and rotates nothing: only a test changes
//! `last_rotation`.
//!
//! ```no_run
//! use kms_simulator::{Fault, Key, Operation, ProjectSetup, Rule, Setup, Simulator};
//!
//! # #[cfg(feature = "testing")]
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

#![cfg_attr(
    not(feature = "testing"),
    allow(dead_code, unreachable_pub, reason = "some parts are for the feature `testing` only")
)]

mod access;
mod access_key;
mod agency;
mod answer;
mod behaviour;
mod fault;
#[cfg(feature = "testing")]
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
#[cfg(feature = "testing")]
pub use fault::{Fault, Garbage, Hold};
#[cfg(feature = "testing")]
pub use handle::Handle;
#[cfg(feature = "testing")]
pub use journal::Call;
pub use key::{INTERVAL_AFTER_ENABLING, Key, KeyState, Origin, RotationSetting};
pub use listing::{BadListing, LargestPage};
pub use operation::{Operation, OperationSet};
pub use preset::{Preset, UnknownPreset};
#[cfg(feature = "testing")]
pub use rule::Rule;
pub use setup::{Journal, ProjectSetup, Setup};
pub use tags::ResourceDetail;

/// A running simulator; it stops when it is dropped.
pub struct Simulator {
    address: SocketAddr,
    world: server::Shared,
    #[cfg(feature = "testing")]
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
        let serving = tokio::spawn(server::serve(listener, Arc::clone(&world), idle_timeout));
        Ok(Self {
            address,
            #[cfg(feature = "testing")]
            handle: Handle::new(Arc::clone(&world)),
            world,
            serving,
        })
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

    /// Adds a project, or more keys and tokens to the one with its id.
    pub fn add_project(&self, project: ProjectSetup) {
        server::lock(&self.world).add_project(project);
    }

    /// The view behind the wire.
    #[cfg(feature = "testing")]
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
