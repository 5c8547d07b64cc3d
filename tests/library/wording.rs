//! The texts and comments are plain English: none of these turns is in them.

use std::fs;
use std::path::{Path, PathBuf};

/// Turns that make a sentence hard to read for people whose first language is not English, in lower case.
const TURNS: &[&str] = &[
    "whoever",
    "nobody",
    "somebody",
    "anybody",
    "those who",
    "those that are",
    "so many",
    "nothing where",
    "none where",
    "that is none",
    "in the place of",
    "for ever ",
    "for ever.",
    "for ever,",
    " told ",
    " tells ",
    " hears ",
    "speaks of",
    "speak of",
    "is said of",
    "as good as",
    "vouch",
    "brings the keys",
];

/// Files of the repository that people read.
fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<_> =
        ["src", "crates", "docs", "config", "systemd"].iter().map(|folder| root.join(folder)).collect();
    let mut files = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

#[test]
fn texts_and_comments_are_plain_english() {
    let mut found = Vec::new();
    for file in files() {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        // The name of an alert is public, and what an evidence log shows is stated in the same words everywhere.
        // The name of an alert is public, and what may be claimed of a log is stated in the same words everywhere.
        let text = text.replace("KmsRotationNobodyActs", "").replace("it told the truth", "").to_lowercase();
        for (line, text) in (1..).zip(text.lines()) {
            let turns = TURNS.iter().filter(|turn| text.contains(**turn));
            found.extend(turns.map(|turn| format!("{}:{line}: {turn:?}", file.display())));
        }
    }
    assert!(found.is_empty(), "say it with subject, verb and object:\n{}", found.join("\n"));
}
