//! The valid name that a misspelt one probably means.

/// The candidate nearest to what was written, if one is near enough.
///
/// Near means: at most a third of the letters differ, ignoring case and separators, or one name contains the other, as
/// `interval` and `rotation_interval`.
pub(crate) fn nearest<'c>(written: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    // Longer texts are no misspelt names, and the cost of the distance is quadratic.
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
    fn the_nearest_name_is_found() {
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
