//! From a policy and the environment to clients: which cloud, which login, which proxy. The one part that knows both the
//! policy and the KMS client.

mod connector;
pub mod environment;

pub use connector::{Connector, Kept, ObserverOf, Redirect};
