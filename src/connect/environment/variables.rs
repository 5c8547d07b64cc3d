//! Variables of the environment: alternative names, and groups that are set together or not.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::EnvironmentError;

/// Variables of the environment, by name.
pub(crate) type Variables = fn(&str) -> Option<String>;

/// Alternative names of a variable, in order of preference.
pub(super) type VariableNames = &'static [&'static str];

/// A variable that is set and not empty: its name and its value.
pub(super) type SetVariable = (&'static str, String);

/// The variables of a login, all of them set: its own, and those it shares with other logins.
pub(super) type VariableGroup<const N: usize, const M: usize> = ([SetVariable; N], [SetVariable; M]);

/// The environment of the process.
pub(super) struct Environment(pub(super) Variables);

impl Environment {
    /// The first of these variables that is set and not empty, without line breaks at its end.
    pub(super) fn first(&self, names: VariableNames) -> Option<SetVariable> {
        names.iter().find_map(|name| {
            let mut value = (self.0)(name)?;
            value.truncate(without_line_breaks(&value).len());
            (!value.is_empty()).then_some((*name, value))
        })
    }

    /// The value of the first of these variables that is set.
    pub(super) fn value(&self, names: VariableNames) -> Option<String> {
        self.first(names).map(|(_, value)| value)
    }

    /// All of these variables, or `None` if no one of its `own` is set; the `shared` ones do not count for that, since
    /// other logins have them too. An incomplete group is an error that names the missing variables.
    pub(super) fn group<const N: usize, const M: usize>(
        &self,
        own: [VariableNames; N],
        shared: [VariableNames; M],
    ) -> Result<Option<VariableGroup<N, M>>, EnvironmentError> {
        let (found, found_shared) = (own.map(|names| self.first(names)), shared.map(|names| self.first(names)));
        if found.iter().all(Option::is_none) {
            return Ok(None);
        }
        if let (Some(found), Some(found_shared)) = (all_set(&found), all_set(&found_shared)) {
            return Ok(Some((found, found_shared)));
        }
        let variables = found.iter().zip(own).chain(found_shared.iter().zip(shared));
        let missing = variables.filter(|(found, _)| found.is_none()).map(|(_, names)| names.join(" or ")).collect();
        let set = found.iter().flatten().map(|(name, _)| *name).collect();
        Err(EnvironmentError::Incomplete { set, missing })
    }

    /// A whole number of seconds.
    pub(super) fn seconds<T: FromStr>(&self, names: VariableNames) -> Result<Option<T>, EnvironmentError> {
        let Some((name, value)) = self.first(names) else { return Ok(None) };
        let invalid = |_| EnvironmentError::Invalid { name: name.to_owned(), expected: "a whole number of seconds" };
        value.trim().parse().map(Some).map_err(invalid)
    }

    /// A path in the user's home.
    pub(super) fn home(&self, path: &str) -> Option<PathBuf> {
        self.first(&["HOME"]).map(|(_, home)| Path::new(&home).join(path))
    }
}

/// The text without the line breaks at its end, which many tools write.
pub(super) fn without_line_breaks(text: &str) -> &str {
    text.trim_end_matches(['\r', '\n'])
}

fn all_set<const N: usize>(found: &[Option<SetVariable>; N]) -> Option<[SetVariable; N]> {
    let all: Option<Vec<SetVariable>> = found.iter().cloned().collect();
    all?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_complete_or_absent_or_an_error_that_names_what_is_missing() {
        let group = |variables: Variables| {
            let found = Environment(variables).group([&["A", "A2"], &["B"]], [&["C", "C2"]]);
            let names =
                |(own, shared): VariableGroup<2, 1>| own.into_iter().chain(shared).map(|(name, _)| name).collect();
            found.map(|found| found.map(names)).map_err(|error| error.to_string())
        };
        let found: Result<Option<Vec<&str>>, String> = group(|_| None);
        assert_eq!(found, Ok(None));
        assert_eq!(group(|name| (name == "C").then(String::new)), Ok(None));
        assert_eq!(group(|name| (name == "C").then(|| "c".to_owned())), Ok(None));
        assert_eq!(group(|name| (name != "A").then(|| "set".to_owned())), Ok(Some(vec!["A2", "B", "C"])));
        let error = |variables| group(variables).unwrap_err();
        assert_eq!(error(|name| (name == "B").then(|| "b".to_owned())), "B is set, but not A or A2, nor C or C2");
        assert_eq!(
            error(|name| (name == "A" || name == "B").then(|| "x".to_owned())),
            "A and B are set, but not C or C2"
        );
    }
}
