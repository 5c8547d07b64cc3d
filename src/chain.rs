//! An error with all its causes on one line: the one place that walks them, since no error's text repeats its cause.

use std::error::Error;
use std::fmt;

/// Shows an error and its causes, outermost first.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("read the policy")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_follow_the_error_they_caused() {
        let error = Outer(std::io::Error::other("no such file"));
        assert_eq!(Chain(&error).to_string(), "read the policy: no such file");
    }
}
