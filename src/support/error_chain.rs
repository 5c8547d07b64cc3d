//! Prints an error and all its causes on one line. Only this file walks the chain: no error's text repeats its cause.

use std::error::Error;
use std::fmt;
use std::io;

const ENDED_EARLY: &str = "the other side has closed the connection";

/// Shows an error and its causes, outermost first.
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            // The TLS library's own text refers to its documentation.
            if error.downcast_ref().is_some_and(ended_early) {
                return write!(f, ": {ENDED_EARLY}");
            }
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// An error and its causes, outermost first. Unlike `source()` it also finds what is inside an `io::Error`, as TLS
/// errors are.
pub(crate) fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    })
}

/// The innermost cause in words.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    if has_ended_early(error) {
        return ENDED_EARLY.to_owned();
    }
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

/// Whether a connection ended too early. Only libraries report this; the operating system has no error code for it.
pub(crate) fn has_ended_early(error: &(dyn Error + 'static)) -> bool {
    causes(error).filter_map(|cause| cause.downcast_ref()).any(ended_early)
}

fn ended_early(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof && error.raw_os_error().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("read the policy")]
    struct Outer(#[source] io::Error);

    #[test]
    fn causes_follow_the_error() {
        let error = Outer(io::Error::other("no such file"));
        assert_eq!(ErrorChain(&error).to_string(), "read the policy: no such file");
    }

    #[test]
    fn a_cause_inside_an_io_error_is_found() {
        let error = io::Error::other(io::Error::other(Outer(io::Error::other("no such file"))));
        assert!(causes(&error).any(<dyn Error>::is::<Outer>));
        assert_eq!(causes(&error).last().unwrap().to_string(), "no such file");
    }

    #[test]
    fn a_connection_that_ends_early_is_reported_without_a_librarys_text() {
        let error = Outer(io::Error::new(io::ErrorKind::UnexpectedEof, "no close_notify: https://docs.example.com"));
        assert_eq!(ErrorChain(&error).to_string(), "read the policy: the other side has closed the connection");
    }
}
