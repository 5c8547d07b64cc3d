//! The files of the repository, and the blocks of its documents.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file under a folder of the repository.
pub(crate) fn files(folder: &str) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root().join(folder)).unwrap().map(Result::unwrap) {
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}

/// A fenced block of a document.
pub(crate) struct Block {
    /// The text of the HTML comment in the line before the block; empty if there is none.
    pub(crate) mark: String,
    pub(crate) language: String,
    pub(crate) text: String,
}

/// The fenced blocks of a document, in order.
pub(crate) fn all_blocks(document: &str) -> Vec<Block> {
    let document = text(document);
    let mut blocks = Vec::new();
    let mut before = "";
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            let mark = before.strip_prefix("<!-- ").and_then(|mark| mark.strip_suffix(" -->")).unwrap_or_default();
            let text: Vec<_> = lines.by_ref().take_while(|line| line.trim_start() != "```").collect();
            blocks.push(Block { mark: mark.to_owned(), language: language.to_owned(), text: text.join("\n") });
        }
        before = line;
    }
    blocks
}

/// The fenced blocks of a document in one language.
pub(crate) fn blocks(document: &str, language: &str) -> Vec<String> {
    all_blocks(document).into_iter().filter(|block| block.language == language).map(|block| block.text).collect()
}

/// Changes a document. Tests run side by side, and several of them may change the same one.
pub(crate) fn change(document: &str, change: impl FnOnce(&str) -> String) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // In one step, so that no other test reads half of it.
    let new = root().join(format!("{document}.new"));
    std::fs::write(&new, change(&text(document))).unwrap();
    std::fs::rename(new, root().join(document)).unwrap();
}

/// How to write the documents again, for failure messages.
pub(crate) const TO_UPDATE: &str = "To write it again: UPDATE_DOCS=1 cargo test --locked --test scenarios documents::";

/// Whether the documents are to be written again.
pub(crate) fn updates() -> bool {
    std::env::var_os("UPDATE_DOCS").is_some()
}
