//! The name that a misspelt one probably means.

/// The valid name nearest to what was written, where one is near enough to be meant.
///
/// Near is a third of the letters in wrong places, with case and separators left out of it, or one name that contains
/// the other: `interval` means `rotation_interval`.
pub(crate) fn nearest<'c>(written: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    // Nobody misspells a name by writing a page, and the distance costs its square.
    if written.len() > 80 {
        return None;
    }
    let written = bare(written);
    let length = written.chars().count();
    let near = candidates.filter_map(|candidate| {
        let name = bare(candidate);
        let distance = strsim::damerau_levenshtein(&written, &name);
        let contained = length >= 4 && (name.contains(&written) || written.contains(&name)) && name.len() >= 4;
        (distance <= (length / 3).max(1) || contained).then_some((distance, candidate))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

fn bare(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_one_meant() {
        let fields = ["key_id", "rotation_interval", "reapply"];
        for (written, meant) in [
            ("rotation_intervall", Some("rotation_interval")),
            ("rotationInterval", Some("rotation_interval")),
            ("interval", Some("rotation_interval")),
            ("keyid", Some("key_id")),
            ("Key-ID", Some("key_id")),
            ("re_aply", Some("reapply")),
            ("enabled", None),
            ("id", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, fields.into_iter()), meant, "{written}");
        }
        assert_eq!(nearest(&"k".repeat(1_000_000), fields.into_iter()), None);
    }
}
