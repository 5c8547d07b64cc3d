//! Comments cite sections of `docs/kms-api.md`: each citation is on one line, and each section exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::layers::sources_in;

const DOCUMENT: &str = "`docs/kms-api.md`";

/// The numbers of the document's sections.
fn sections() -> BTreeSet<String> {
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/kms-api.md")).unwrap();
    let headings = document.lines().filter_map(|line| line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")));
    let numbers = headings.filter_map(|heading| heading.split_whitespace().next());
    numbers.map(|number| number.trim_end_matches('.').to_owned()).collect()
}

/// The sections that a line cites: "`docs/kms-api.md` 3.1" or "`docs/kms-api.md` 3.1 and 5".
fn cited(line: &str) -> Vec<String> {
    let mut cited = Vec::new();
    for after in line.split(DOCUMENT).skip(1) {
        let mut words = after.split([' ', ')', ',', ':', ';']).filter(|word| !word.is_empty());
        cited.push(number(words.next()));
        if words.next() == Some("and") && words.clone().next().is_some_and(|word| word.starts_with(char::is_numeric)) {
            cited.push(number(words.next()));
        }
    }
    cited
}

fn number(word: Option<&str>) -> String {
    word.unwrap_or_default().trim_end_matches('.').to_owned()
}

#[test]
fn every_cited_section_of_the_api_exists() {
    let sections = sections();
    let mut found = 0;
    for (file, text) in ["src", "crates"].into_iter().flat_map(sources_in) {
        for section in text.lines().flat_map(cited) {
            assert!(sections.contains(&section), "{file} cites {DOCUMENT} {section:?}, which does not exist");
            found += 1;
        }
    }
    assert!(found > 80, "{found} citations");
}

#[test]
fn citations_are_read_from_text() {
    let text = "as in `docs/kms-api.md` 3.1; see `docs/kms-api.md` 5.1 and 5.4), and `docs/kms-api.md` 6.";
    assert_eq!(cited(text), ["3.1", "5.1", "5.4", "6"]);
    assert_eq!(cited("broken across lines: (`docs/kms-api.md`"), [""]);
}
