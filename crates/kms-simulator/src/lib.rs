//! A simulated cloud on a loopback port: KMS with its key rotation API, IAM with STS, the metadata service of an
//! instance, and the agent that gives keys to a pod.
//!
//! It is written from the clouds' documents and never from a client, so that a client's wrong reading of the API
//! becomes visible. Comments cite the sections of the repository's `kms-api.md`, such as `docs/kms-api.md` 2.2.
//!
//! [`Simulator::start`] takes a [`Setup`] and serves until the simulator is dropped. A [`Setup`] has
//!
//! * projects with [`Key`]s: [`ProjectSetup`],
//! * logins: passwords, access keys, agencies, identity providers,
//! * a [`Behaviour`]: what the documents leave open, and limits and lifetimes,
//! * a [`Cassette`]: recorded answers of a real cloud, given instead of the documented ones,
//! * faults: a named [`Preset`], or with the feature `testing` a `Rule` for each `Fault`,
//! * a timeline: each [`Action`] happens when the clock has reached its time.
//!
//! [`seed`] creates a realistic mix of keys for a policy. The feature `testing` adds `Handle`, which inspects and
//! changes the running cloud (stored keys, number of requests, every interval that was sent), and `seed::account`,
//! which creates a whole account.
//!
//! A key rotates some hours after it is due by [`Setup::clock`] (`docs/kms-api.md` 2.1): [`Key::due`] and
//! [`Behaviour::rotation_delay`]. A key that was overdue before it was added rotates after that, never in the past.
//!
//! The simulator keeps no state on disk, and serves HTTP/1.1 without TLS.
//!
//! ```
//! # #[cfg(feature = "testing")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use kms_simulator::{Fault, Key, Operation, ProjectSetup, Rule, Setup, Simulator};
//!
//! let project = "0123456789abcdef0123456789abcdef";
//! let key = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";
//! let setup = Setup::new()
//!     .project(ProjectSetup::new(project, "eu-de").key(Key::new(key)).token("a-token"))
//!     .fault(Rule::next(1, Fault::html(502).after_applying()).on(Operation::EnableRotation));
//! let simulator = Simulator::start(setup).await?;
//! // Point a client at simulator.url(); afterwards check what it did:
//! assert_eq!(simulator.handle().write_requests(), 0);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "testing"))]
//! # fn main() {}
//! ```

#![warn(missing_docs)]
#![cfg_attr(
    not(feature = "testing"),
    allow(dead_code, unreachable_pub, reason = "some parts are used with the feature `testing` only")
)]

// From top to bottom. A file uses the groups below its own; in its own group it uses files that do not use it.

// Connections, and what tests see and change without a request.
#[cfg(feature = "testing")]
mod handle;
mod server;

// One request: its call, the fault, the answer, the record.
mod dispatch;

// The calls of each service, as functions on the world.
mod iam;
mod kms;
mod metadata;

// Who sent a request and what the sender may do; new credentials.
mod access;
mod issue;

// The state of the cloud, and the configuration that it begins with.
pub mod seed;
mod setup;
mod world;

// Faults: which there are, when they are injected, and named sets of them.
mod fault;
mod preset;
mod rule;

// The parts of the state.
mod behaviour;
mod cassette;
mod credentials;
mod job;
mod journal;
mod key;
mod keys;
mod timeline;

// Requests and answers.
mod answer;
mod delivery;
mod encoding;
mod operation;
mod request;
mod route;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use behaviour::{
    Behaviour, Dialect, LargestPage, MetadataTokens, NeverRotated, ResourceDetail, SuccessBody, TokenRefusal, Total,
};
pub use cassette::Cassette;
#[cfg(feature = "testing")]
pub use delivery::Hold;
pub use fault::BadListing;
#[cfg(feature = "testing")]
pub use fault::{BadRotation, Fault, Garbage};
#[cfg(feature = "testing")]
pub use handle::Handle;
#[cfg(feature = "testing")]
pub use journal::Call;
pub use journal::Journal;
pub use key::{INTERVAL_AFTER_ENABLING, Key, KeyState, Origin, RotationSetting};
pub use operation::{Operation, OperationSet};
pub use preset::{Preset, UnknownPreset};
#[cfg(feature = "testing")]
pub use rule::Rule;
pub use setup::{ProjectSetup, Setup};
pub use timeline::Action;

/// The example of the README, compiled as a doc test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// A running simulator; it stops when it is dropped.
pub struct Simulator {
    address: SocketAddr,
    world: world::Shared,
    #[cfg(feature = "testing")]
    handle: Handle,
    serving: JoinHandle<()>,
}

impl Simulator {
    /// Binds the address, and serves in a task of the current tokio runtime.
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

    /// Its socket address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL of KMS, IAM, STS and the metadata service, for example `http://127.0.0.1:40123`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The credentials URL for the environment of a pod (`docs/kms-api.md` 5.4).
    #[must_use]
    pub fn pod_url(&self) -> String {
        format!("{}{}", self.url(), route::POD_PATH)
    }

    /// Adds a project, or adds keys and tokens to the project with this id.
    pub fn add_project(&self, project: ProjectSetup) {
        world::lock(&self.world).add_project(project);
    }

    /// Inspects and changes the running cloud.
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
