//! The differences on a terminal, which `script` (util-linux) makes for the command; and a reader of the output that
//! goes away.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use crate::fixture::{DEADLINE, Stage, binary, flags};
use support::process;

/// Runs a line of the shell on a terminal of 120 columns, types `typed` and gives all that is shown.
fn on_terminal(stage: &Stage, line: &str, typed: &str) -> String {
    let (mut child, mut stdin) = start(stage, line);
    stdin.write_all(typed.as_bytes()).expect("type");
    let mut shown = Vec::new();
    child.stdout.take().expect("stdout is a pipe").read_to_end(&mut shown).expect("read the terminal");
    child.wait().expect("wait for script");
    drop(stdin);
    String::from_utf8(shown).expect("utf-8")
}

fn start(stage: &Stage, line: &str) -> (std::process::Child, std::process::ChildStdin) {
    let mut command = Command::new("script");
    let line = format!("stty cols 120; export PATH={}:$PATH; {line}", binary().parent().unwrap().display());
    command.args(["-qefc", &line, "/dev/null"]).current_dir(stage.directory.path());
    command.env("CTLSTORE_EXECUTIVE", stage.process.executive_url());
    command.env("CTLSTORE_LDB", stage.node.ldb_path()).env("CTLSTORE_OPS", stage.process.ops_url());
    command.env("CTLSTORE_WRITER", "loader").env("CTLSTORE_SECRET", "a-secret").env("TERM", "xterm");
    command.env_remove("NO_COLOR").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = process::spawn(command);
    let stdin = child.stdin.take().expect("stdin is a pipe");
    (child, stdin)
}

#[test]
fn tables_and_colours_are_for_terminals_only() {
    let stage = Stage::furnished();
    stage.cli().input(flags(2)).args(&["mutate", "-f", "shop"]).run().ok();
    stage.caught_up();
    let command = "ctlstore rows -f shop -t flags";
    let shown = on_terminal(&stage, command, "");
    assert_eq!(shown, "\u{1b}[1mname  on  raw\u{1b}[0m\r\nk1    1   NULL\r\nk2    2   NULL\r\n");
    assert_eq!(on_terminal(&stage, &format!("NO_COLOR=1 {command}"), "").lines().next(), Some("name  on  raw"));
    assert_eq!(on_terminal(&stage, &format!("{command} | cat"), ""), "k1\t1\tNULL\r\nk2\t2\tNULL\r\n");
    let of_reader = format!("{command} --reader {} k1", stage.process.reader_url());
    assert!(on_terminal(&stage, &of_reader, "").contains("name  on  raw"));
    assert!(on_terminal(&stage, &format!("{of_reader} | cat"), "").starts_with("{\"name\":\"k1\""));
    for command in ["read-keys -f shop -t flags k1", "table-limits read", "status", "doctor", "tail-ledger --ctldb "] {
        let command = command.replace("--ctldb ", &format!("--ctldb {}", stage.ctldb_url()));
        let arguments: Vec<&str> = command.split(' ').collect();
        let piped = stage.run(&arguments).ok();
        assert!(!piped.contains('\u{1b}'), "{command}: {piped}");
    }
}

#[test]
fn what_a_row_holds_can_t_steer_the_terminal() {
    let stage = Stage::furnished();
    let set = ["--set", "name=\u{1b}[2Jboo", "--set", "on=1", "--null", "raw"];
    stage.run(&[&["mutate", "-f", "shop", "-t", "flags"], &set[..]].concat()).ok();
    stage.caught_up();
    for command in ["rows -f shop -t flags", &format!("tail-ledger --ctldb {}", stage.ctldb_url())] {
        let shown = on_terminal(&stage, &format!("ctlstore {command}"), "");
        assert!(shown.contains("\\u{1b}[2Jboo") && !shown.contains("\u{1b}[2J"), "{shown:?}");
    }
}

#[test]
fn a_schema_is_applied_when_the_user_agrees_and_not_otherwise() {
    let stage = Stage::furnished();
    let wanted = r#"[{"family":"shop","name":"prices","fields":[["id","integer"]],"keyFields":["id"]}]"#;
    stage.write("wanted.json", wanted);
    let refused = on_terminal(&stage, "ctlstore schema apply wanted.json", "n\n");
    assert!(refused.contains("apply these 1 changes? [y/N]") && !refused.contains("done"), "{refused}");
    assert_eq!(stage.last_seq(), 1);
    let agreed = on_terminal(&stage, "ctlstore schema apply wanted.json", "y\n");
    assert!(agreed.contains("done: 1"), "{agreed}");
    assert_eq!(stage.last_seq(), 2);
}

#[test]
fn status_is_refreshed_until_ctrl_c() {
    let stage = Stage::furnished();
    let (mut child, mut stdin) = start(&stage, "ctlstore status --interval 0.1");
    let mut terminal = child.stdout.take().expect("stdout is a pipe");
    let (shown, screen) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = terminal.read(&mut piece) {
            let _ = shown.send(String::from_utf8_lossy(&piece[..length]).into_owned());
        }
    });
    let mut all = String::new();
    let start = Instant::now();
    while all.matches("\u{1b}[H\u{1b}[J").count() < 3 {
        all.push_str(&screen.recv_timeout(DEADLINE.saturating_sub(start.elapsed())).expect("the screen goes on"));
    }
    assert!(all.contains(": ready") && all.contains("applier"), "{all:?}");
    stdin.write_all(&[3]).expect("type ctrl-C");
    child.wait().expect("wait for script");
    reader.join().expect("the reader does not panic");
}

#[test]
fn progress_is_shown_on_a_terminal_and_leaves_nothing_behind_in_a_pipe() {
    let stage = Stage::furnished();
    stage.write("flags.ndjson", &flags(300));
    let shown = on_terminal(&stage, "ctlstore mutate -f shop --input flags.ndjson", "");
    assert!(shown.contains("rows written"), "{shown:?}");
    assert!(shown.contains("wrote 300 rows in 3 requests"), "{shown:?}");
    let piped = stage.run(&["mutate", "-f", "shop", "--input", "flags.ndjson"]);
    assert_eq!((piped.code, piped.err.as_str()), (Some(0), ""));
}

#[test]
fn bars_are_drawn_on_a_terminal_only() {
    let stage = Stage::furnished();
    stage.cli().input(flags(300)).args(&["mutate", "-f", "shop"]).run().ok();
    stage.caught_up();
    let commands = [
        ("snapshot take --to file:s.db", "copy"),
        ("snapshot inspect file:s.db", "fetch"),
        ("snapshot fetch file:s.db --to copy.db --force", "fetch"),
    ];
    for (command, bar) in commands {
        let shown = on_terminal(&stage, &format!("ctlstore {command}"), "");
        assert!(shown.contains(&format!(" {bar} ")) && shown.contains('█'), "{command}: {shown:?}");
        // The screen has what the command says in the end, and no bar.
        let last = shown.rsplit("\u{1b}[2K").next().expect("something");
        assert!(!last.contains('█'), "{command}: {shown:?}");
        // With standard output in a pipe, standard error still shows the bars.
        let shown = on_terminal(&stage, &format!("ctlstore {command} --json | cat"), "");
        assert!(command.contains("take") || shown.contains('█'), "{command}: {shown:?}");
        let arguments: Vec<&str> = command.split(' ').collect();
        let piped = stage.run(&arguments);
        assert_eq!(piped.code, Some(0), "{piped:?}");
        assert!(!piped.err.contains(['█', '░', '\u{1b}', '\r']), "{command}: {piped:?}");
    }
}

#[test]
fn tables_fit_into_80_columns_and_single_values_are_whole() {
    let stage = Stage::furnished();
    let long = "long ".repeat(40);
    let name = format!("name={}", "n".repeat(100));
    stage.run(&["add-fields", "-f", "shop", "-t", "flags", "--field", "note:text"]).ok();
    let note = format!("note={long}");
    let set = ["--set", &name, "--set", "on=1", "--null", "raw", "--set", &note];
    stage.run(&[&["mutate", "-f", "shop", "-t", "flags"], &set[..]].concat()).ok();
    stage.caught_up();
    stage.run(&["snapshot", "take", "--to", "file:s.db"]).ok();
    let executive = stage.process.executive_url();
    let commands = [
        "rows -f shop -t flags".to_owned(),
        format!("schema show --family shop {executive}"),
        "table-limits read".to_owned(),
        "writer-limits read".to_owned(),
        "status --once".to_owned(),
    ];
    for command in commands {
        let shown = on_terminal(&stage, &format!("stty cols 80; ctlstore {command}"), "");
        let plain = shown.replace("\u{1b}[1m", "").replace("\u{1b}[0m", "");
        let widest = plain.lines().map(|line| line.chars().count()).max().expect("lines");
        assert!(widest <= 80, "{command}: {widest} in {shown}");
    }
    let value = on_terminal(&stage, &format!("stty cols 80; ctlstore read-keys -f shop -t flags {}", &name[5..]), "");
    assert!(value.contains(long.trim_end()), "{value}");
}

#[test]
fn the_change_feed_is_coloured_and_ends_with_ctrl_c() {
    let stage = Stage::furnished();
    stage.caught_up();
    let watch = format!("ctlstore watch --since 1 --reader {}", stage.process.reader_url());
    let set = "ctlstore mutate -f shop -t flags --set name=k1 --set on=1 --null raw";
    let shown = on_terminal(&stage, &format!("{set} && {watch} --count 1"), "");
    assert!(shown.contains("\u{1b}[32mupsert "), "{shown:?}");
    assert!(shown.contains("the reader is at ledger seq "), "{shown:?}");
    let (mut child, mut stdin) = start(&stage, &format!("{watch} && echo went on"));
    let mut terminal = child.stdout.take().expect("stdout is a pipe");
    let mut shown = String::new();
    let mut piece = [0; 4096];
    while !shown.contains("k1") {
        let length = terminal.read(&mut piece).expect("read the terminal");
        assert_ne!(length, 0, "it ended by itself: {shown:?}");
        shown.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
    stdin.write_all(&[3]).expect("type ctrl-C");
    terminal.read_to_string(&mut shown).expect("read the terminal");
    child.wait().expect("wait for script");
    assert!(shown.contains("stopped by a signal; --since ") && !shown.contains("went on"), "{shown:?}");
}

#[test]
fn a_reader_that_has_had_enough_ends_the_command_quietly() {
    let stage = Stage::furnished();
    stage.cli().input(flags(900)).args(&["mutate", "-f", "shop"]).run().ok();
    stage.caught_up();
    let ctldb = stage.ctldb_url();
    let commands = [
        "rows -f shop -t flags".to_owned(),
        "export -f shop".to_owned(),
        format!("tail-ledger --after 0 --ctldb {ctldb}"),
        "completions bash".to_owned(),
        "man".to_owned(),
        "ctldb-schema".to_owned(),
        "config".to_owned(),
    ];
    for command in commands {
        let shell = format!("set -o pipefail; {} {command} | head -n 1 | wc -l", binary().display());
        let ran = stage.cli_of("/bin/bash".as_ref()).args(&["-c", &shell]).run();
        assert_eq!((ran.code, ran.out.trim(), ran.err.as_str()), (Some(0), "1", ""), "{command}: {ran:?}");
    }
    let full = format!("{} rows -f shop -t flags > /dev/full", binary().display());
    let full = stage.cli_of("/bin/bash".as_ref()).args(&["-c", &full]).run().fails(1);
    assert_eq!(full, "standard output: No space left on device (os error 28)");
}
