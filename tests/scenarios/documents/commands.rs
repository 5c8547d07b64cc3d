//! The commands in the documents: each option of this program exists, and so does each path of the repository.
//!
//! Those with an output are run by `sessions`, the first two of README by the tests in `mod.rs`.

use std::collections::BTreeMap;
use std::process::Command;

use super::documents;
use super::repository::{blocks, root, text};

/// Folders and files of the repository that commands name.
const OWN: [&str; 7] = ["config/", "systemd/", "tests/", "docs/", ".ci/", "README.md", "CHANGELOG.md"];

/// The single commands of a block, without comments.
fn commands(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.split(" #").next().unwrap());
    let commands = lines.flat_map(|line| line.split(['|', ';', '>'])).flat_map(|part| part.split("&&"));
    commands.map(|command| command.trim().to_owned()).filter(|command| !command.is_empty()).collect()
}

/// What is set as code within the text of a document.
fn in_text(document: &str) -> Vec<String> {
    let document = text(document);
    let lines = document.split("\n```").step_by(2).flat_map(str::lines);
    lines.flat_map(|line| line.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// The help of a command of this program.
fn help(command: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_kms-rotationd")).args(command).arg("--help").env_clear().output();
    let output = output.unwrap();
    assert!(output.status.success(), "there is no command {command:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The arguments of this program, if the command calls it.
fn arguments(command: &str) -> Option<Vec<&str>> {
    let words: Vec<_> = command.split_whitespace().collect();
    let rest = match words[..] {
        ["cargo", "run", ..] => command.split_once(" -- ")?.1,
        ["kms-rotationd", ..] => command.split_once(' ').map_or("", |(_, rest)| rest),
        _ => return None,
    };
    Some(rest.split_whitespace().collect())
}

#[test]
fn each_command_and_each_option_in_the_documents_exists() {
    let mut helps = BTreeMap::new();
    let mut found = 0;
    for document in documents() {
        let in_blocks = blocks(&document, "sh");
        for command in in_blocks.iter().chain(&in_text(&document)).flat_map(|text| commands(text)) {
            let Some(arguments) = arguments(&command) else { continue };
            // `evidence` has commands of its own.
            let words = if arguments.first() == Some(&"evidence") { 2 } else { 1 };
            // No command in `kms-rotationd --version`.
            let name = arguments.iter().take(words).take_while(|word| !word.starts_with("--"));
            let name: Vec<_> = name.map(|word| (*word).to_owned()).collect();
            let help = helps.entry(name.clone()).or_insert_with(|| help(&name));
            let options = arguments.iter().filter_map(|word| word.strip_prefix("--"));
            for option in options.map(|option| option.split('=').next().unwrap()) {
                let there = help.split(|c: char| c.is_whitespace() || matches!(c, ',' | '=' | '['));
                assert!(
                    there.into_iter().any(|word| word == format!("--{option}")),
                    "{document}: {command}: --{option}"
                );
            }
            found += 1;
        }
    }
    assert!(found >= 30, "{found}");
}

/// Whether a file or folder exists; `*` is any text within a name.
fn exists(path: &str) -> bool {
    match path.split_once('*') {
        None => root().join(path).exists(),
        Some((before, _)) => {
            let (folder, start) = before.rsplit_once('/').unwrap_or((".", before));
            let entries = root().join(folder).read_dir().into_iter().flatten().map(Result::unwrap);
            entries.into_iter().any(|entry| entry.file_name().to_str().unwrap().starts_with(start))
        }
    }
}

#[test]
fn each_path_of_the_repository_in_a_command_exists() {
    let mut found = 0;
    for document in documents() {
        for command in blocks(&document, "sh").iter().flat_map(|block| commands(block)) {
            for word in command.split_whitespace().filter(|word| OWN.iter().any(|own| word.starts_with(own))) {
                assert!(exists(word), "{document}: {command}: {word} does not exist");
                found += 1;
            }
        }
    }
    assert!(found >= 12, "{found}");
}

/// The names of the tests in the given target.
fn listed(target: &str) -> String {
    let folder = root().join("tests").join(target);
    let files = if folder.is_dir() {
        folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect()
    } else {
        vec![folder.with_extension("rs")]
    };
    files.iter().map(|file| std::fs::read_to_string(file).unwrap_or_default()).collect()
}

#[test]
fn each_test_target_and_test_that_a_command_names_exists() {
    let mut found = 0;
    for document in documents() {
        let text = text(&document);
        for (at, _) in text.match_indices("cargo test ") {
            let command = text[at..].split(['`', '\n']).next().unwrap();
            let words: Vec<_> = command.split_whitespace().collect();
            let Some(target) = words.iter().position(|word| *word == "--test").map(|at| at + 1) else { continue };
            let tests = listed(words[target]);
            assert!(!tests.is_empty(), "{document}: {command}: there is no such target");
            if let Some(name) = words.get(target + 1).filter(|name| **name != "--") {
                let item =
                    name.strip_suffix("::").map_or_else(|| format!("fn {name}"), |module| format!("mod {module};"));
                assert!(tests.contains(&item), "{document}: {command}: there is no such test");
            }
            found += 1;
        }
    }
    assert!(found >= 3, "{found}");
}
