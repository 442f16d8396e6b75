//! `--help`, `version`, `completions` and `man`: the program tells about itself.

use std::path::Path;

use crate::fixture::{Cli, alone, binary};
use support::scratch_dir;

#[test]
fn help_teaches_by_example_and_lists_the_exit_codes() {
    let help = alone(&["--help"]).ok();
    for line in ["  ctlstore node --config host.toml", "  ctlstore create-family shop", "  3  what was named"] {
        assert!(help.contains(line), "{line} is not in {help}");
    }
    for variable in ["CTLSTORE_EXECUTIVE", "CTLSTORE_READER", "CTLSTORE_LDB"] {
        assert!(help.contains(variable), "{variable} is not in {help}");
    }
}

#[test]
fn every_command_has_a_help_that_says_what_it_is_for() {
    for command in commands() {
        let arguments: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let help = alone(&arguments).ok();
        let first = help.lines().next().unwrap_or_default();
        assert!(first.len() > 10 && help.contains("Usage: ctlstore"), "{command:?}: {help}");
    }
}

/// Every command by its words, read from the help texts.
fn commands() -> Vec<Vec<String>> {
    let below = |words: &[String]| -> Vec<Vec<String>> {
        let arguments: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
        let help = alone(&arguments).ok();
        let Some((_, listed)) = help.split_once("Commands:\n") else { return Vec::new() };
        let names = listed.lines().take_while(|line| !line.is_empty());
        let names = names.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        let names = names.filter_map(|line| line.split_whitespace().next());
        names.map(|name| words.iter().cloned().chain([name.to_owned()]).collect()).collect()
    };
    let top = below(&[]);
    let deeper: Vec<Vec<String>> = top.iter().flat_map(|command| below(command)).collect();
    let all: Vec<Vec<String>> = top.into_iter().chain(deeper).collect();
    assert!(all.len() > 30, "{all:?}");
    all
}

#[test]
fn completions_are_made_for_the_shells_and_bash_takes_them() {
    for (shell, sign) in
        [("bash", "complete -F _ctlstore"), ("zsh", "#compdef ctlstore"), ("fish", "complete -c ctlstore")]
    {
        let script = alone(&["completions", shell]).ok();
        assert!(script.contains(sign), "{shell}");
        for command in ["create-table", "tail-ledger", "writer-limits"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    let script = alone(&["completions", "bash"]).ok();
    let directory = scratch_dir();
    let asked =
        "COMP_WORDS=(ctlstore tail-); COMP_CWORD=1; _ctlstore ctlstore tail- ctlstore; echo \"${COMPREPLY[@]}\"";
    let bash = Cli::new("/bin/bash".as_ref(), directory.path()).args(&["-c", &format!("{script}\n{asked}")]);
    assert_eq!(bash.run().ok(), "tail-ledger\n");
    assert_eq!(alone(&["completions", "tcsh"]).code, Some(2));
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    assert!(alone(&["man"]).ok().contains(".TH ctlstore 1"));
    let directory = scratch_dir();
    Cli::new(binary(), directory.path()).args(&["man", "--dir", "man1"]).run().ok();
    for command in commands() {
        let name = format!("ctlstore-{}", command.join("-"));
        let page = std::fs::read_to_string(directory.path().join(format!("man1/{name}.1"))).expect("a page");
        assert!(page.contains(&format!(".TH {name} 1")), "{name}: {page}");
    }
}

#[test]
fn the_version_is_told_to_people_and_programs() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(alone(&["version"]).ok(), format!("ctlstore {version}\n"));
    assert_eq!(alone(&["version", "--json"]).json()["version"], version);
}

#[test]
fn the_documentation_has_every_command_and_the_exit_codes_of_the_help() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md")).expect("docs/cli.md");
    let (_, table) = docs.split_once("## Commands").expect("a list of commands");
    let (table, _) = table.split_once("##").expect("an end of the list");
    let all = commands();
    for command in &all {
        // The limits' three commands each are named once for both.
        let name = command.iter().map(String::as_str).filter(|w| !matches!(*w, "read" | "update" | "delete"));
        let name = name.collect::<Vec<_>>().join(" ");
        let is_group = all.iter().any(|other| other.len() > command.len() && other[0] == command[0]);
        assert!(is_group || table.contains(&format!("`{name}`")), "{name} is not in docs/cli.md");
    }
    let help = alone(&["--help"]).ok();
    let (_, codes) = help.split_once("Exit codes:\n").expect("the exit codes");
    let codes: Vec<(&str, &str)> = codes.lines().filter_map(|line| line.trim().split_once("  ")).collect();
    assert_eq!(codes.len(), 7, "{codes:?}");
    for (code, meaning) in codes {
        assert!(docs.contains(&format!("| {code} | {meaning} |")), "{code}: {meaning}");
    }
}

#[test]
fn every_command_is_run_by_a_test() {
    let tests = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"));
    let sources = sources_in(tests);
    let all = commands();
    let is_group = |words: &[String]| all.iter().any(|other| other.len() > words.len() && other[0] == words[0]);
    for words in all.iter().filter(|words| !is_group(words)) {
        // As the first of the arguments that a test gives to the binary.
        let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        let list = format!("[{}", quoted.join(", "));
        let line = format!("\"{} ", words.join(" "));
        assert!(sources.contains(&list) || sources.contains(&line), "no test runs {words:?}");
    }
}

/// The text of all test sources, without line breaks between arguments.
fn sources_in(directory: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(directory).expect("list the tests") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            text.push_str(&sources_in(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).expect("a source"));
        }
    }
    text
}

#[test]
fn the_settings_are_json_for_programs_with_secrets_masked() {
    let directory = scratch_dir();
    let config = Cli::new(binary(), directory.path())
        .env("CTLSTORE__CTLDB__URL", "mysql://user:hunter2@host/ctldb")
        .env("CTLSTORE__HEARTBEAT__SECRET", "hunter2")
        .args(&["config", "--json"]);
    let config = config.run().json();
    assert_eq!(config["reader"]["bind"], "127.0.0.1:1331");
    assert!(!config.to_string().contains("hunter2"), "{config}");
}
