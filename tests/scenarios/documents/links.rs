//! Each link in the documents leads to a file of the repository, and to a heading of it where the link names one.

use std::collections::BTreeSet;
use std::path::Path;

use super::documents;
use super::repository::{root, text};

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(document: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut in_block = false;
    for line in text(document).lines() {
        in_block ^= line.trim_start().starts_with("```");
        let Some(heading) =
            line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#') && !in_block)
        else {
            continue;
        };
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect();
        assert!(anchors.insert(anchor), "{document} has the heading `{heading}` twice");
    }
    anchors
}

/// Where the links of a document lead, without those to other sites.
fn targets(document: &str) -> Vec<String> {
    let text = text(document);
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).map(str::to_owned).collect()
}

#[test]
fn every_link_has_a_target() {
    let mut found = 0;
    for document in documents().into_iter().chain(["CHANGELOG.md".to_owned()]) {
        let folder = Path::new(&document).parent().unwrap();
        for target in targets(&document) {
            let (file, anchor) = target.split_once('#').map_or((&*target, None), |(file, anchor)| (file, Some(anchor)));
            let path = if file.is_empty() { document.clone() } else { folder.join(file).to_str().unwrap().to_owned() };
            assert!(root().join(&path).exists(), "{document}: {target} is not there");
            if let Some(anchor) = anchor {
                assert!(anchors(&path).contains(anchor), "{document}: no heading for {target}");
            }
            found += 1;
        }
    }
    assert!(found > 40, "{found}");
}

#[test]
fn readme_links_to_every_document() {
    let targets = targets("README.md");
    for document in documents().iter().filter(|document| *document != "README.md") {
        assert!(targets.contains(document), "README.md has no link to {document}");
    }
}
