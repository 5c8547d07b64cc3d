//! The rules of docs/architecture.md: which modules a module may use, and which files may use a foreign crate.
//!
//! Reads the source as tokens, so that neither comments nor strings count, and follows `crate::`, `super::` and groups
//! in braces. It does not resolve names, and does not see the output of macros.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What a top-level module may use of the others; it may always use its own parts.
const WALLS: &[(&str, &[&str])] = &[
    ("support", &[]),
    ("rotation", &[]),
    ("yaml", &["support"]),
    ("policy", &["rotation::key", "rotation::project", "rotation::rule", "yaml", "support"]),
    ("kms", &["rotation::key", "rotation::project", "support"]),
    ("reconcile", &["rotation", "policy::types", "yaml", "kms", "support"]),
    ("views", &["rotation", "support"]),
    // The series of keys are a document, and the gauges show the same snapshot as page and JSON.
    ("metrics", &["rotation", "kms::observe", "views::document", "views::snapshot", "support"]),
    ("logging", &["support"]),
    (
        "web",
        &[
            "rotation::progress",
            "rotation::project",
            "rotation::report",
            "kms::observe",
            "views",
            "metrics",
            "yaml",
            "support",
        ],
    ),
    // It creates the targets of a run.
    ("connect", &["policy", "yaml", "kms", "reconcile", "support"]),
    ("leadership", &["support"]),
    // The recorder is what runs record to.
    ("evidence", &["rotation", "reconcile", "support"]),
    // The report and the page give a key's status and reasons in the same words.
    ("audit", &["rotation", "views::wording", "evidence", "support"]),
    // The log and the page give a key's reasons in the same words, and a key's page has its history.
    (
        "daemon",
        &["rotation", "policy", "kms", "reconcile", "evidence", "views::history", "views::wording", "web", "support"],
    ),
    (
        "cli",
        &[
            "rotation",
            "policy",
            "yaml",
            "kms",
            "reconcile",
            "views",
            "logging",
            "web",
            "connect",
            "leadership",
            "evidence",
            "audit",
            "daemon",
            "evidence",
            "support",
        ],
    ),
    ("main", &["cli"]),
    ("lib", &[]),
];

/// The files and folders that may use a foreign crate.
const DOORS: &[(&str, &[&str])] = &[
    // One client for the cloud; `healthcheck` needs none of its proxies, retries and secrets.
    ("reqwest", &["src/kms/transport/", "src/web/probe.rs"]),
    ("backon", &["src/kms/retry.rs"]),
    ("secrecy", &["src/kms/"]),
    ("askama", &["src/views/", "src/audit/html.rs"]),
    ("form_urlencoded", &["src/views/query.rs"]),
    ("percent_encoding", &["src/kms/auth/signing.rs", "src/views/query.rs"]),
    ("base64", &["src/kms/transport/", "src/views/page.rs", "src/web/", "src/evidence/"]),
    ("ct_merkle", &["src/evidence/inclusion.rs"]),
    ("ring", &["src/evidence/key.rs"]),
    ("tar", &["src/evidence/pack.rs"]),
    ("bcrypt", &["src/web/login.rs"]),
    ("tokio_rustls", &["src/web/"]),
    ("tokio_cron_scheduler", &["src/daemon/schedule.rs"]),
    ("croner", &["src/policy/calendar.rs"]),
    ("serde_saphyr", &["src/yaml/"]),
    ("annotate_snippets", &["src/yaml/"]),
    ("strsim", &["src/yaml/"]),
    ("prometheus", &["src/metrics/"]),
    ("tracing_subscriber", &["src/logging/"]),
    ("flate2", &["src/metrics/gzip.rs", "src/evidence/"]),
    // The web server, and errors of a proxy's tunnel.
    ("hyper", &["src/web/", "src/kms/transport/failure.rs"]),
    ("hyper_util", &["src/web/", "src/kms/transport/failure.rs"]),
    ("tower_service", &["src/kms/transport/failure.rs"]),
    ("http_body_util", &["src/web/"]),
    ("kube", &["src/leadership/"]),
    ("kube_leader_election", &["src/leadership/"]),
    ("inotify", &["src/daemon/policy_file.rs"]),
    ("sd_notify", &["src/daemon/lifecycle.rs"]),
    ("kms_simulator", &["src/cli/"]),
    ("clap", &["src/cli/"]),
    ("clap_complete", &["src/cli/"]),
    ("clap_mangen", &["src/cli/generate.rs"]),
    ("listenfd", &["src/cli/serve.rs"]),
    ("rustix", &["src/cli/", "src/web/listen.rs", "src/support/"]),
];

#[test]
fn no_module_uses_a_forbidden_one() {
    let sources = sources();
    assert!(sources.len() > 60, "{} files", sources.len());
    let forbidden: Vec<_> = sources.iter().flat_map(|(file, text)| forbidden_modules(file, text)).collect();
    assert!(forbidden.is_empty(), "\n{}", forbidden.join("\n"));
}

#[test]
fn foreign_crates_are_used_only_in_their_files() {
    let sources = sources();
    let forbidden: Vec<_> = sources.iter().flat_map(|(file, text)| forbidden_crates(file, text)).collect();
    assert!(forbidden.is_empty(), "\n{}", forbidden.join("\n"));
}

/// No run can disable rotation: the call is not in the trait that runs use, and no other part names it.
#[test]
fn only_probe_can_disable_rotation() {
    let users = |needle: &str| {
        let sources = sources();
        let files = sources.into_iter().filter(|(_, text)| text.contains(needle)).map(|(file, _)| file);
        files.filter(|file| !file.starts_with("src/cli/probe/")).collect::<Vec<_>>()
    };
    assert_eq!(users("mod single_call;"), ["src/kms/mod.rs"]);
    assert_eq!(users("single_call::"), [""; 0]);
    assert_eq!(users("Self::Disable =>"), ["src/kms/route.rs"]);
    assert_eq!(users("Route::Disable"), ["src/kms/single_call.rs"]);
    assert_eq!(users("\"disable-key-rotation\""), ["src/kms/route.rs"]);
}

#[test]
fn every_rule_for_modules_and_crates_is_used() {
    let sources = sources();
    let tops: BTreeSet<_> = sources.iter().map(|(file, _)| modules(file)[0].clone()).collect();
    assert_eq!(tops, WALLS.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (name, _) in DOORS {
        let used = sources.iter().any(|(_, text)| foreign(&tokens(text)).any(|used| used == *name));
        assert!(used, "nobody uses {name}");
    }
}

#[test]
fn the_table_in_the_architecture_matches_these_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    for (name, allowed) in WALLS.iter().filter(|(name, _)| !["cli", "main", "lib"].contains(name)) {
        let start = format!("| `{name}` | ");
        let row = document.lines().find(|line| line.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("docs/architecture.md has no row for {name}"));
        let uses = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let listed: BTreeSet<_> = uses.split('`').skip(1).step_by(2).collect();
        assert_eq!(listed, allowed.iter().copied().collect(), "docs/architecture.md: {row}");
    }
}

#[test]
fn a_forbidden_use_is_found_in_every_notation() {
    for (file, text) in [
        ("src/rotation/decide.rs", "use crate::support::clock::Clock;"),
        ("src/policy/types.rs", "use crate::kms::Error;"),
        ("src/policy/types.rs", "use crate::rotation::report::Report;"),
        ("src/policy/types.rs", "use crate::rotation;"),
        ("src/kms/client.rs", "use crate::policy::types::Policy;"),
        ("src/kms/client.rs", "fn f() -> crate::policy::Policy {}"),
        ("src/kms/client.rs", "use crate::{support::clock::Clock, policy::types::{Policy, Project}};"),
        ("src/kms/client.rs", "use crate::rotation::{key::KeyId, report};"),
        ("src/kms/client.rs", "use super::super::policy::types::Policy;"),
        ("src/kms/mod.rs", "use super::policy;"),
        ("src/kms/auth/mod.rs", "use super::super::policy;"),
        ("src/kms/client.rs", "use crate :: policy\n:: types;"),
        ("src/kms/client.rs", "use crate as ours;"),
        ("src/kms/client.rs", "use crate::*;"),
        ("src/reconcile/mod.rs", "use crate::policy::{self, Policy};"),
        ("src/reconcile/mod.rs", "use crate::web::StatusStore;"),
        ("src/views/page.rs", "use crate::kms::KmsClient;"),
        ("src/daemon/mod.rs", "mod tests { use crate::cli; }"),
        ("src/main.rs", "kms_rotationd::daemon::run()"),
        ("src/support/clock.rs", "use crate::rotation::key::KeyId;"),
        ("src/new/mod.rs", "use crate::rotation::key::KeyId;"),
    ] {
        assert_ne!(forbidden_modules(file, text), Vec::<String>::new(), "{file}: {text}");
    }
    for (file, text) in [
        ("src/kms/client.rs", "use reqwest::Client;"),
        ("src/kms/client.rs", "use reqwest;"),
        ("src/kms/client.rs", "fn f(_: ::reqwest::Error) {}"),
        ("src/kms/client.rs", "use {std::fmt, reqwest::Error};"),
        ("src/daemon/mod.rs", "extern crate tokio_cron_scheduler;"),
        ("src/daemon/mod.rs", "#[derive(clap::Parser)] struct A;"),
        ("src/kms/transport/mod.rs", "use hyper::Method;"),
        ("src/daemon/mod.rs", "use kms_simulator::Preset;"),
    ] {
        assert_ne!(forbidden_crates(file, text), Vec::<String>::new(), "{file}: {text}");
    }
}

#[test]
fn permitted_uses_comments_and_strings_are_not_reported() {
    for (file, text) in [
        (
            "src/kms/client.rs",
            "use crate::support::clock::Clock; use crate::rotation::{key::KeyId, project::{Cloud, Mode}};",
        ),
        ("src/kms/client.rs", "use super::error::Error; pub(crate) fn f() {} pub(in crate::kms) fn g() {}"),
        ("src/kms/auth/password.rs", "use super::super::error::Kind;"),
        ("src/kms/client.rs", "// use crate::policy::Policy;\n/* crate::policy /* nested */ crate::cli */"),
        (
            "src/kms/client.rs",
            "//! As [`Policy`](crate::policy::Policy)\nconst A: &str = \"crate::policy \\\" crate::cli\";",
        ),
        (
            "src/kms/client.rs",
            "const A: &str = r#\"crate::policy \" reqwest::Error\"#; const B: char = '\"'; fn f<'a>() {}",
        ),
        ("src/kms/client.rs", "fn f(reqwest: u32) -> u32 { reqwest }"),
        ("src/kms/client.rs", "use super::reqwest::Error;"),
        ("src/reconcile/mod.rs", "use crate::policy::types::{self, Project}; use crate::kms::{Kms, observe};"),
        ("src/logging/", "const A: &str = \"hyper::proto\"; use tracing_subscriber::Layer;"),
        ("src/main.rs", "kms_rotationd::cli::main(std::env::args_os())"),
    ] {
        assert_eq!(forbidden_modules(file, text), Vec::<String>::new(), "{text}");
        assert_eq!(forbidden_crates(file, text), Vec::<String>::new(), "{text}");
    }
}

/// The program's source files.
fn sources() -> Vec<(String, String)> {
    sources_in("src")
}

/// The source files in a folder: the path from the root of the repository, and the text.
pub(crate) fn sources_in(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    let named = |path: &PathBuf| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
    files.iter().map(|path| (named(path), fs::read_to_string(path).unwrap())).collect()
}

/// The module that a file is: `src/kms/auth/mod.rs` is `kms`, `auth`.
fn modules(file: &str) -> Vec<String> {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

fn forbidden_modules(file: &str, text: &str) -> Vec<String> {
    let own = modules(file);
    let allowed = WALLS.iter().find(|(name, _)| *name == own[0]).map_or(&[][..], |(_, allowed)| allowed);
    let passes = |path: &str| {
        let within = |place: &str| path == place || path.strip_prefix(place).is_some_and(|rest| rest.starts_with("::"));
        within(&own[0]) || allowed.iter().any(|place| within(place))
    };
    let forbidden = uses(&own, &tokens(text)).into_iter().filter(|path| !passes(path));
    forbidden.map(|path| format!("{file} may not use {path}")).collect()
}

fn forbidden_crates(file: &str, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let elsewhere = |name: &&str| {
        DOORS.iter().any(|(door, places)| {
            door == name
                && !places.iter().any(|place| file == *place || place.ends_with('/') && file.starts_with(place))
        })
    };
    foreign(&tokens).filter(elsewhere).map(|name| format!("{file} may not use {name}")).collect()
}

/// The names of crates: the first part of a path, or a crate imported as a whole.
fn foreign(tokens: &[String]) -> impl Iterator<Item = &str> {
    (0..tokens.len()).filter_map(move |at| {
        let token = |at: Option<usize>| at.and_then(|at| tokens.get(at)).map_or("", String::as_str);
        let (before, before_that) = (token(at.checked_sub(1)), token(at.checked_sub(2)));
        let first = before != "::" || !is_name(before_that);
        let whole = before == "use" || before == "crate" && before_that == "extern";
        let named = is_name(&tokens[at]) && first && (token(Some(at + 1)) == "::" || whole);
        named.then(|| tokens[at].as_str())
    })
}

/// Every path into this crate, from its root. Of a group in braces each member is a path of its own.
fn uses(own: &[String], tokens: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let follows = |at: usize, text: &str| tokens.get(at).is_some_and(|token| token == text);
        let inner = at > 0 && tokens[at - 1] == "::";
        at += 1;
        match token.as_str() {
            "crate" | "kms_rotationd" if follows(at, "::") => at = tree(tokens, at + 1, "", &mut found),
            "crate" if follows(at, "as") => found.push("crate".to_owned()),
            "super" if !inner => {
                let mut levels = 1;
                while follows(at, "::") && follows(at + 1, "super") {
                    levels += 1;
                    at += 2;
                }
                // A module within the file, such as tests, is one level deeper: there only the name counts.
                let mut climbed = Vec::new();
                if levels >= own.len() && follows(at, "::") {
                    at = tree(tokens, at + 1, "", &mut climbed);
                }
                let is_top = |path: &String| WALLS.iter().any(|(name, _)| path.split("::").next() == Some(name));
                found.extend(climbed.into_iter().filter(is_top));
            }
            _ => {}
        }
    }
    found
}

/// Reads the text after `prefix::`, and returns the position behind it.
fn tree(tokens: &[String], mut at: usize, prefix: &str, found: &mut Vec<String>) -> usize {
    let mut path = prefix.to_owned();
    while let Some(token) = tokens.get(at) {
        if token == "{" {
            at += 1;
            while tokens.get(at).is_some_and(|token| token != "}") {
                at = tree(tokens, at, &path, found);
                at += usize::from(tokens.get(at).is_some_and(|token| token == ","));
            }
            return at + 1;
        }
        if token != "self" {
            path = if path.is_empty() { token.clone() } else { format!("{path}::{token}") };
        }
        at += 1;
        if tokens.get(at).is_none_or(|token| token != "::") {
            break;
        }
        at += 1;
    }
    // `as` has no effect.
    while tokens.get(at).is_some_and(|token| token == "as") {
        at += 2;
    }
    found.push(path);
    at
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// The source as names, `::` and single signs, without comments, strings and characters.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if first == '"' {
            string(rest)
        } else if first == '\'' {
            character(rest)
        } else if is_name(rest) {
            let length = rest.find(|sign: char| !sign.is_alphanumeric() && sign != '_').unwrap_or(rest.len());
            let hashes = rest[length..].bytes().take_while(|byte| *byte == b'#').count();
            if rest[..length].ends_with('r') && length <= 2 && rest[length + hashes..].starts_with('"') {
                let end = format!("\"{}", "#".repeat(hashes));
                let from = length + hashes + 1;
                rest[from..].find(&end).map_or(rest.len(), |at| from + at + end.len())
            } else {
                tokens.push(rest[..length].to_owned());
                length
            }
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of the comment that the text begins with; comments nest.
fn comment(text: &str) -> usize {
    let mut depth = 0;
    for (at, _) in text.char_indices() {
        if text[at..].starts_with("/*") {
            depth += 1;
        } else if at > 0 && text[..at].ends_with("*/") {
            depth -= 1;
            if depth == 0 {
                return at;
            }
        }
    }
    text.len()
}

/// The length of the string that the text begins with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, sign) in text.char_indices().skip(1) {
        match sign {
            '"' if !escaped => return at + 1,
            _ => escaped = sign == '\\' && !escaped,
        }
    }
    text.len()
}

/// The length of the character that the text begins with, or of the sign alone where it is a lifetime.
fn character(text: &str) -> usize {
    let mut signs = text.char_indices().skip(1);
    match signs.next() {
        Some((_, '\\')) => text[3..].find('\'').map_or(text.len(), |at| at + 4),
        Some(_) => match signs.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}
