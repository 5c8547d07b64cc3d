//! Logins and credentials.
//!
//! Every login ends in a token or an access key, which a `Credential` adds to a request. There is one file for each
//! kind of login, and `source` chooses among them. `credential_cache` renews the credential, and `session` makes
//! requests with it. `signing` is the pure function behind access keys.
//!
//! A refusal is remembered in four places, because it concerns four different things:
//!
//! | what was refused | where | for how long |
//! |---|---|---|
//! | the login of one project | `KmsClient` | the run |
//! | the login that projects share | `credential_cache` | the run |
//! | one token or temporary key | `probe` | the run, until it is renewed |
//! | a secret that an operator must change | `refusals` | 30 minutes, across runs |

mod accepted_secret;
mod access_key;
mod agency;
mod body;
mod credential;
mod credential_cache;
mod ecs_agency;
mod iam;
mod id_token;
mod lifetime;
mod login;
mod login_error;
mod named;
mod password;
mod pod;
mod probe;
mod refusals;
mod session;
pub mod signing;
mod source;
mod sts;
mod token;
mod wiped_json;

pub use super::secret::{SecretLocation, Unreadable};
pub use access_key::{AccessKeyFiles, AccessKeyIdSource};
pub use agency::Agency;
pub(super) use credential::Credential;
pub use iam::ProjectScope;
pub use id_token::IdToken;
pub use login::{Credentials, Login};
pub use named::Named;
pub use password::Password;
pub use pod::PodIdentity;
pub(super) use refusals::Refusals;
pub(super) use session::Session;
pub use sts::OidcAgency;
pub use wiped_json::WipedJson;
