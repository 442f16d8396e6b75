//! Command lines of the original as a whole: the ways to write a flag, mistakes and what is said of them, and which
//! source goes over which.

use std::process::Command;

use super::original::{at, config_as, settings_of, with_needed};
use support::scratch_dir;

#[track_caller]
fn refused(command: &str, flags: &[&str], variables: &[(&str, &str)]) -> String {
    let output = config_as(scratch_dir().path(), command, flags, variables);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{command} {flags:?} was taken");
    assert!(output.stdout.is_empty());
    text.trim_end().to_owned()
}

#[test]
fn a_flag_is_written_in_every_way_that_go_reads() {
    let ways: [&[&str]; 4] =
        [&["-poll-interval", "7s"], &["-poll-interval=7s"], &["--poll-interval", "7s"], &["--poll-interval=7s"]];
    for way in ways {
        assert_eq!(at(&settings_of("reflector", way, &[]), "reflector.poll_interval").as_str(), Some("7s"), "{way:?}");
    }
    let twice = settings_of("reflector", &["-poll-interval=1s", "-poll-interval=9s"], &[]);
    assert_eq!(at(&twice, "reflector.poll_interval").as_str(), Some("9s"), "the last one counts");
    let negative = settings_of("sidecar", &["-max-rows", "-5"], &[]);
    assert_eq!(at(&negative, "reader.max_rows").as_integer(), Some(0), "a value may begin with a dash");
}

#[test]
fn paths_are_taken_from_the_current_directory() {
    let dir = scratch_dir();
    let flags = with_needed("reflector", &["-ldb-path=ldb.db", "-changelog-path=log/change.log"]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let output = config_as(dir.path(), "reflector", &flags, &[]);
    let settings: toml::Table = String::from_utf8(output.stdout).unwrap().parse().unwrap();
    let here = dir.path().canonicalize().unwrap();
    assert_eq!(at(&settings, "ldb.path").as_str(), here.join("ldb.db").to_str());
    assert_eq!(at(&settings, "changelog.path").as_str(), here.join("log/change.log").to_str());
}

#[test]
fn an_unknown_flag_is_refused_with_the_one_that_was_meant() {
    let said = refused("reflector", &["-ldb-pth", "x"], &[]);
    assert_eq!(said, "ctlstore: reflector: no flag -ldb-pth, did you mean -ldb-path? -help lists them");
    let said = refused("supervisor", &["-ldb-path", "x"], &[]);
    assert_eq!(said, "ctlstore: supervisor: no flag -ldb-path, did you mean -reflector.ldb-path? -help lists them");
    let said = refused("sidecar", &["--role=reader"], &[]);
    assert_eq!(said, "ctlstore: sidecar: no flag --role; -help lists them");
    assert_eq!(refused("sidecar", &["-bind-addr"], &[]), "ctlstore: sidecar: -bind-addr needs a value");
}

#[test]
fn what_is_missing_is_said_at_once_with_its_variable() {
    let said = refused("reflector", &[], &[]);
    let missing = "-ldb-path, -upstream-driver, -upstream-dsn are missing (or CTLSTORE_LDB_PATH and so on)";
    assert_eq!(said, format!("ctlstore: reflector: {missing}; -help lists all flags"));
    let said = refused("heartbeat", &["beat", "-writer-secret=x"], &[]);
    let why = "nothing is read from \"beat\" on, which is no flag";
    let missing = "-writer-secret is missing (or CTLSTORE_WRITER_SECRET and so on)";
    assert_eq!(said, format!("ctlstore: heartbeat: {missing}; {why}; -help lists all flags"));
    let said = refused("executive", &["-ctldb", "u@/x", "-bind", ""], &[]);
    assert_eq!(said, "ctlstore: executive: -bind is missing (or CTLSTORE_BIND and so on); -help lists all flags");
}

#[test]
fn every_wrong_value_is_named_with_its_origin() {
    let flags = with_needed("reflector", &["-poll-interval=soon", "-query-block-size=many", "-debug=maybe"]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let said = refused("reflector", &flags, &[("CTLSTORE_METRICS_BIND", "here")]);
    for line in [
        "-poll-interval = \"soon\" (flag -poll-interval): not a duration such as 1s or 1m30s",
        "-query-block-size = \"many\" (flag -query-block-size): not a whole number",
        "-debug = \"maybe\" (flag -debug): neither true nor false",
        "-metrics-bind = \"here\" (environment CTLSTORE_METRICS_BIND): not an address and port such as 0.0.0.0:3000",
    ] {
        assert!(said.lines().any(|have| have == line), "{line} is not in\n{said}");
    }
    let flags = with_needed("reflector", &["-poll-interval=0s"]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let said = refused("reflector", &flags, &[]);
    let line = "reflector.poll_interval = \"0s\" (flag -poll-interval): must be longer than nothing";
    assert!(said.ends_with(line), "what the setting may not be is said with the flag: {said}");
}

#[test]
fn no_secret_is_repeated() {
    for (command, flag) in [
        ("executive", "-ctldb=root:hunter2@tcp(h:1"),
        ("executive", "-ctldb=root:hunter2"),
        ("reflector", "-upstream-dsn=root:hunter2@h/x"),
        ("heartbeat", "-writer-secret=\thunter2"),
    ] {
        let flags = with_needed(command, &[flag]);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let said = refused(command, &flags, &[]);
        assert!(!said.contains("hunter2") && said.contains("***"), "{said}");
    }
}

#[test]
fn what_stands_after_a_word_that_is_no_flag_is_not_read_and_said() {
    let flags = with_needed("executive", &["-shadow", "true", "-debug"]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let output = config_as(scratch_dir().path(), "executive", &flags, &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("# true -debug: not read, as in the original"), "{text}");
    let settings: toml::Table = text.parse().unwrap();
    assert_eq!(at(&settings, "log.level").as_str(), Some("info"));
}

#[test]
fn our_own_variables_go_over_the_defaults_and_under_the_original_s() {
    let ours = [("CTLSTORE__REFLECTOR__BLOCK_ROWS", "7000"), ("CTLSTORE__OPS__BIND", "127.0.0.1:9091")];
    let settings = settings_of("reflector", &[], &ours);
    assert_eq!(at(&settings, "reflector.block_rows").as_integer(), Some(7000));
    assert_eq!(at(&settings, "ops.bind").as_str(), Some("127.0.0.1:9091"));
    let both = [ours[0], ("CTLSTORE_QUERY_BLOCK_SIZE", "300")];
    assert_eq!(at(&settings_of("reflector", &[], &both), "reflector.block_rows").as_integer(), Some(300));
    let roles = settings_of("reflector", &[], &[("CTLSTORE__NODE__ROLES", "executive")]);
    assert_eq!(at(&roles, "node.roles").to_string(), r#"["reflector"]"#, "the command says the role");
}

#[test]
fn the_original_s_variables_count_under_its_commands_only() {
    let variables = [("CTLSTORE_LDB_PATH", "/elsewhere/ldb.db"), ("CTLSTORE_QUERY_BLOCK_SIZE", "3")];
    let mut command = Command::new(env!("CARGO_BIN_EXE_ctlstore"));
    let output = command.arg("config").env_clear().envs(variables).output().unwrap();
    let settings: toml::Table = String::from_utf8(output.stdout).unwrap().parse().unwrap();
    assert_eq!(at(&settings, "reflector.block_rows").as_integer(), Some(10_000));
    assert!(at(&settings, "ldb.path").as_str().unwrap().ends_with("data/ldb.db"));
}

#[test]
fn an_empty_variable_is_none() {
    let empty = [("CTLSTORE_POLL_INTERVAL", ""), ("CTLSTORE_DEBUG", ""), ("CTLSTORE_BOOTSTRAP_URL", "")];
    let settings = settings_of("reflector", &[], &empty);
    assert_eq!(at(&settings, "reflector.poll_interval").as_str(), Some("1s"));
}

#[test]
fn what_is_printed_can_be_loaded_again() {
    let dir = scratch_dir();
    for command in ["reflector", "multi-reflector", "sidecar", "executive", "supervisor", "heartbeat"] {
        let flags = with_needed(command, &[]);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let printed = config_as(dir.path(), command, &flags, &[]).stdout;
        // What is masked has to be filled in again.
        let text = String::from_utf8(printed).unwrap().replace("***", "a-secret");
        std::fs::write(dir.path().join("c.toml"), &text).unwrap();
        let mut again = Command::new(env!("CARGO_BIN_EXE_ctlstore"));
        let output = again.current_dir(dir.path()).env_clear().args(["config", "--config", "c.toml"]).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        let settings: toml::Table = String::from_utf8(output.stdout).unwrap().parse().unwrap();
        assert_eq!(settings, text.replace("a-secret", "***").parse::<toml::Table>().unwrap(), "{command}");
    }
}

#[test]
fn a_command_that_is_none_is_refused() {
    let said = refused("node", &[], &[]);
    assert!(said.starts_with("ctlstore: --as node: no such command, there are reflector, multi-reflector, "), "{said}");
}

#[test]
fn help_lists_every_flag() {
    for word in ["-h", "-help", "--help"] {
        let output = config_as(scratch_dir().path(), "supervisor", &[word], &[]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("  -reflector.upstream-dsn TEXT "), "{text}");
        assert!(text.contains("CTLSTORE_SNAPSHOT_INTERVAL"), "{text}");
    }
}
