//! Variables of the environment: one of several names, and those that are given together or not at all.

use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Variables of the environment, by name.
pub type Variables = fn(&str) -> Option<String>;

/// The names that one thing goes by, the best first.
pub(super) type Names = &'static [&'static str];

/// A variable that is set to something: its name and its value.
pub(super) type Given = (&'static str, String);

/// What is given together: what tells of it, and the others.
pub(super) type Together<const N: usize, const M: usize> = ([Given; N], [Given; M]);

/// The environment of the process.
pub(super) struct Environment(pub(super) Variables);

impl Environment {
    /// The first variable that is set to something, without line breaks at its end.
    pub(super) fn first(&self, names: Names) -> Option<Given> {
        names.iter().find_map(|name| {
            let mut value = (self.0)(name)?;
            value.truncate(without_line_breaks(&value).len());
            (!value.is_empty()).then_some((*name, value))
        })
    }

    /// What one of these is set to.
    pub(super) fn value(&self, names: Names) -> Option<String> {
        self.first(names).map(|(_, value)| value)
    }

    /// All of these, or nothing where none of the `telling` is set; the `others` alone tell nothing, since more than
    /// one way to log in has them. Half of them is an error that names what is missing.
    pub(super) fn together<const N: usize, const M: usize>(
        &self,
        telling: [Names; N],
        others: [Names; M],
    ) -> Result<Option<Together<N, M>>, String> {
        let (found, beside) = (telling.map(|names| self.first(names)), others.map(|names| self.first(names)));
        if found.iter().all(Option::is_none) {
            return Ok(None);
        }
        if let (Some(found), Some(beside)) = (whole(&found), whole(&beside)) {
            return Ok(Some((found, beside)));
        }
        let all = || found.iter().zip(telling).chain(beside.iter().zip(others));
        let given: Vec<_> = found.iter().flatten().map(|(name, _)| *name).collect();
        let missing: Vec<_> = all().filter(|(found, _)| found.is_none()).map(|(_, names)| names.join(" or ")).collect();
        let verb = if given.len() == 1 { "is" } else { "are" };
        Err(format!("{} {verb} set, but not {}", given.join(" and "), missing.join(", nor ")))
    }

    /// A whole number of seconds.
    pub(super) fn seconds<T: FromStr>(&self, names: Names) -> Result<Option<T>, String> {
        let Some((name, value)) = self.first(names) else { return Ok(None) };
        value.trim().parse().map(Some).map_err(|_| format!("{name} is not a whole number of seconds"))
    }

    /// A path in the user's home.
    pub(super) fn home(&self, path: &str) -> Option<PathBuf> {
        self.first(&["HOME"]).map(|(_, home)| Path::new(&home).join(path))
    }
}

/// The text without the line breaks at its end, which whatever wrote it has left there.
pub(super) fn without_line_breaks(text: &str) -> &str {
    text.trim_end_matches(['\r', '\n'])
}

/// All of them, where none is missing.
fn whole<const N: usize>(found: &[Option<Given>; N]) -> Option<[Given; N]> {
    let all: Option<Vec<Given>> = found.iter().cloned().collect();
    all?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_together_is_whole_or_absent_or_an_error_that_names_the_rest() {
        let environment = |variables: Variables| Environment(variables);
        let together = |environment: &Environment| {
            environment.together([&["A", "A2"], &["B"]], [&["C", "C2"]]).map(|found| {
                found.map(|(telling, others)| telling.into_iter().chain(others).map(|(name, _)| name).collect())
            })
        };
        let found: Result<Option<Vec<&str>>, String> = together(&environment(|_| None));
        assert_eq!(found, Ok(None));
        assert_eq!(together(&environment(|name| (name == "C").then(String::new))), Ok(None));
        assert_eq!(together(&environment(|name| (name == "C").then(|| "c".to_owned()))), Ok(None));
        assert_eq!(
            together(&environment(|name| (name != "A").then(|| "set".to_owned()))),
            Ok(Some(vec!["A2", "B", "C"]))
        );
        let only = |variables| together(&environment(variables)).unwrap_err();
        assert_eq!(only(|name| (name == "B").then(|| "b".to_owned())), "B is set, but not A or A2, nor C or C2");
        assert_eq!(
            only(|name| (name == "A" || name == "B").then(|| "x".to_owned())),
            "A and B are set, but not C or C2"
        );
    }
}
