//! The events of the client's calls: names for operations and results, and the trait of observers.
//!
//! The client counts nothing itself. The daemon observes with metrics, `apply` and `plan` without.

use std::fmt;
use std::time::{Duration, SystemTime};

/// A call, retries included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `get-key-rotation-status`
    ReadStatus,
    /// `enable-key-rotation`
    EnableRotation,
    /// `update-key-rotation-interval`
    UpdateInterval,
    /// `list-keys`
    ListKeys,
    /// `describe-key`
    DescribeKey,
    /// Getting or renewing credentials.
    Authenticate,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 6] = [
        Self::ReadStatus,
        Self::EnableRotation,
        Self::UpdateInterval,
        Self::ListKeys,
        Self::DescribeKey,
        Self::Authenticate,
    ];

    /// Whether it changes anything in the cloud.
    #[must_use]
    pub fn is_write(self) -> bool {
        matches!(self, Self::EnableRotation | Self::UpdateInterval)
    }

    /// The name in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadStatus => "read_status",
            Self::EnableRotation => "enable_rotation",
            Self::UpdateInterval => "update_interval",
            Self::ListKeys => "list_keys",
            Self::DescribeKey => "describe_key",
            Self::Authenticate => "authenticate",
        }
    }
}

/// How one HTTP attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// An answer with this HTTP status, read to its end.
    Http(u16),
    /// No answer, or not all of it, within the request timeout.
    Timeout,
    /// No connection, or a connection that was lost before the head of an answer.
    Connect,
    /// The peer's certificate or TLS itself was refused.
    Tls,
    /// The answer's body broke off or was too long.
    Body,
}

impl Code {
    /// True if the cloud did not answer: no response, or a gateway's 502 or 504.
    pub(super) fn is_unanswered(self) -> bool {
        match self {
            Self::Http(status) => matches!(status, 502 | 504),
            Self::Timeout | Self::Connect | Self::Tls => true,
            Self::Body => false,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(status) => write!(f, "{status}"),
            Self::Timeout => f.write_str("timeout"),
            Self::Connect => f.write_str("connect"),
            Self::Tls => f.write_str("tls"),
            Self::Body => f.write_str("body"),
        }
    }
}

/// Observes the calls of one project.
pub trait Observer: Send + Sync {
    /// One HTTP attempt ended.
    fn request(&self, operation: Operation, code: Code, took: Duration);
    /// An attempt that ended with `reason` will be made again.
    fn retry(&self, operation: Operation, reason: Code);
    /// A call ended, retries inside.
    fn operation(&self, operation: Operation, succeeded: bool);
    /// The credentials in use expire at this time, where that is known.
    fn credentials_expire(&self, at: Option<SystemTime>);
    /// The cloud's clock is ahead of this machine's by this number of seconds; behind it, where negative.
    fn clock_skew(&self, seconds: i64);
}

/// Ignores all events.
impl Observer for () {
    fn request(&self, _: Operation, _: Code, _: Duration) {}
    fn retry(&self, _: Operation, _: Code) {}
    fn operation(&self, _: Operation, _: bool) {}
    fn credentials_expire(&self, _: Option<SystemTime>) {}
    fn clock_skew(&self, _: i64) {}
}
