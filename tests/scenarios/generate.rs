//! `generate`: completions and manual; the examples in `--help`.

use super::program::{Program, binary};

const COMMANDS: [&str; 11] =
    ["run", "apply", "plan", "check", "schema", "rehearse", "probe", "evidence", "report", "healthcheck", "generate"];

#[test]
fn completions_have_every_command_in_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let done = Program::start(binary(&["generate", "completions", shell])).finish();
        assert_eq!((done.code, &*done.stderr), (Some(0), ""), "{shell}");
        for word in COMMANDS.into_iter().chain(["web-config", "kms-rotationd"]) {
            assert!(done.stdout.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(Program::start(binary(&["generate", "completions", "dos"])).finish().code, Some(2));
}

#[test]
fn the_manual_has_a_page_for_every_command_and_nothing_of_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    let mut command = binary(&["generate", "man"]);
    command.arg(&pages).env("KMS_ROTATIOND_LISTEN", "127.0.0.1:4711");
    let done = Program::start(command).finish();
    assert_eq!((done.code, &*done.stdout, &*done.stderr), (Some(0), "", ""));
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).unwrap();
    assert!(page("kms-rotationd.1").contains("Exit codes: 0 success"));
    for name in COMMANDS {
        let page = page(&format!("kms-rotationd-{name}.1"));
        assert!(page.contains(".SH OPTIONS") && !page.contains("4711"), "{page}");
    }
    assert!(page("kms-rotationd-evidence-verify.1").replace('\\', "").contains("--anchor"));
    assert!(page("kms-rotationd-run.1").replace('\\', "").contains("KMS_ROTATIOND_WEB_CONFIG"));
    std::fs::write(folder.path().join("file"), "").unwrap();
    let mut command = binary(&["generate", "man"]);
    command.arg(folder.path().join("file"));
    let failed = Program::start(command).finish();
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.starts_with("kms-rotationd: cannot write the manual to "), "{}", failed.stderr);
}

#[test]
fn the_help_of_every_command_has_an_example() {
    let below = ["verify", "checkpoint", "prove", "pack"].map(|name| format!("evidence {name}"));
    for name in COMMANDS.into_iter().chain(below.iter().map(String::as_str)) {
        let words: Vec<_> = name.split(' ').chain(["--help"]).collect();
        let help = Program::start(binary(&words)).finish();
        let (_, examples) = help.stdout.split_once("\nExamples:\n").unwrap();
        assert!(examples.contains(&format!("  kms-rotationd {name}")), "{examples}");
    }
}
