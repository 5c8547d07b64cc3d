//! From a policy and the environment to clients: which cloud, which login, which proxy. Only this part
//! makes KMS clients from a policy.

mod connector;
pub(crate) mod environment;
mod error;

pub(crate) use connector::{ClientCache, Connector, EndpointOverride};
