//! Settings as the real binary loads them: the defaults, which source overrides which, and which values are accepted.

mod original;
mod original_lines;
mod refusals;
mod secrets;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use ctlstore::config::{Role, Settings, Sources, load};
use ctlstore_core::schema::{FamilyName, TableName, WriterName};
use support::scratch_dir;

const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// Runs `ctlstore config` with a file of this text and with these variables only.
fn config(dir: &Path, file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Output {
    let path = dir.join("c.toml");
    fs::write(&path, file).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ctlstore"));
    command.current_dir(dir).env_clear().envs(variables.iter().copied());
    command.args(["config", "--config", "c.toml"]).args(flags).output().unwrap()
}

/// The effective settings as `ctlstore config` prints them.
#[track_caller]
fn effective(dir: &Path, file: &str, variables: &[(&str, &str)], flags: &[&str]) -> toml::Table {
    let output = config(dir, file, variables, flags);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().parse().unwrap()
}

/// The lines of a refusal, below its heading.
#[track_caller]
fn refusal(dir: &Path, file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Vec<String> {
    let output = config(dir, file, variables, flags);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{file}{variables:?}{flags:?} was taken: {text}");
    assert!(output.stdout.is_empty());
    let (heading, lines) = text.split_once('\n').unwrap();
    assert_eq!(heading, "ctlstore: the settings are wrong");
    lines.lines().map(str::to_owned).collect()
}

fn keys(prefix: &str, table: &toml::Table) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, value) in table {
        match value.as_table() {
            Some(table) => found.extend(keys(&format!("{prefix}{name}."), table)),
            None => drop(found.insert(format!("{prefix}{name}"))),
        }
    }
    found
}

#[test]
fn default_toml_names_every_key_with_the_default_of_the_code() {
    let file: toml::Table = DEFAULT_TOML.parse().unwrap();
    let code: toml::Table = Settings::default().to_toml().unwrap().parse().unwrap();
    assert_eq!(keys("", &file), keys("", &code));
    assert_eq!(file, code);
}

#[test]
fn default_toml_says_why_of_every_key() {
    let lines: Vec<&str> = DEFAULT_TOML.lines().collect();
    for (before, line) in lines.iter().zip(&lines[1..]) {
        if line.contains(" = ") && !line.starts_with('#') {
            assert!(before.starts_with("# "), "nothing is said about {line}");
        }
    }
}

#[test]
fn nothing_at_all_is_every_role_on_paths_under_data() {
    let settings = load(&Sources::default()).unwrap();
    let all = [Role::Executive, Role::Reflector, Role::Reader, Role::Snapshotter, Role::Heartbeat];
    assert!(all.into_iter().all(|role| settings.plays(role)));
    assert_eq!(settings.ldb.path, std::env::current_dir().unwrap().join("data/ldb.db"));
}

#[test]
fn the_first_of_several_ldbs_is_the_path_and_the_printed_settings_load_again() {
    let dir = scratch_dir();
    let printed =
        effective(dir.path(), "ldb.paths = [\"a.db\", \"/elsewhere/b.db\"]\nldb.rotation = \"30s\"\n", &[], &[]);
    let first = dir.path().canonicalize().unwrap().join("data/a.db").display().to_string();
    assert_eq!(printed["ldb"]["path"].as_str(), Some(first.as_str()));
    assert_eq!(printed["ldb"]["paths"].to_string(), format!("[\"{first}\", \"/elsewhere/b.db\"]"));
    assert_eq!(effective(dir.path(), &printed.to_string(), &[], &[]), printed);
}

#[test]
fn every_example_loads() {
    let dir = scratch_dir();
    for secret in ["ctldb.password", "heartbeat.secret"] {
        fs::write(dir.path().join(secret), "example-secret\n").unwrap();
    }
    let data_dir = [("CTLSTORE__NODE__DATA_DIR", dir.path().to_str().unwrap())];
    let mut names = BTreeSet::new();
    for entry in fs::read_dir("config").unwrap() {
        let path = entry.unwrap().path();
        effective(dir.path(), &fs::read_to_string(&path).unwrap(), &data_dir, &[]);
        names.insert(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    let expected = ["default.toml", "executive.toml", "host.toml", "supervisor.toml"];
    assert_eq!(names, BTreeSet::from(expected.map(str::to_owned)));
}

#[test]
fn a_flag_goes_over_the_environment_and_that_over_the_file_and_that_over_the_defaults() {
    let dir = scratch_dir();
    let file = "[node]\nroles = [\"reader\"]\n[log]\nlevel = \"warn\"\n[reader]\nworkers = 2\nmax_rows = 7\n";
    let variables = [("CTLSTORE__NODE__ROLES", "executive"), ("CTLSTORE__READER__WORKERS", "3")];
    let settings = effective(dir.path(), file, &variables, &["--role", "reflector", "--role", "reader"]);
    assert_eq!(settings["node"]["roles"].to_string(), r#"["reflector", "reader"]"#);
    assert_eq!(settings["reader"]["workers"].as_integer(), Some(3));
    assert_eq!(settings["reader"]["max_rows"].as_integer(), Some(7));
    assert_eq!(settings["log"]["level"].as_str(), Some("warn"));
    assert_eq!(settings["log"]["format"].as_str(), Some("text"));
}

#[test]
fn the_environment_reaches_every_kind_of_value() {
    let dir = scratch_dir();
    let settings = effective(
        dir.path(),
        "",
        &[
            ("CTLSTORE__NODE__ROLES", "executive, reader"),
            ("CTLSTORE__SNAPSHOTTER__URLS", "file:a.db,file:///b/c%20d.db"),
            ("CTLSTORE__EXECUTIVE__WRITER_LIMIT__PERIOD", "90s"),
            ("CTLSTORE__EXECUTIVE__TABLE_LIMIT__MAX_BYTES", "1GiB"),
            ("CTLSTORE__CHANGELOG__MAX_BYTES", "1000"),
            ("CTLSTORE__REFLECTOR__POLL_JITTER", "0.5"),
            ("CTLSTORE__EXECUTIVE__DESTRUCTIVE_SCHEMA_CHANGES", "true"),
            ("CTLSTORE__HEARTBEAT__WRITER", "007"),
            ("UNRELATED", "x"),
        ],
        &[],
    );
    assert_eq!(settings["node"]["roles"].to_string(), r#"["executive", "reader"]"#);
    let first = format!("file://{}/data/a.db", dir.path().canonicalize().unwrap().display());
    assert_eq!(settings["snapshotter"]["urls"][0].as_str(), Some(first.as_str()));
    assert_eq!(settings["snapshotter"]["urls"][1].as_str(), Some("file:///b/c%20d.db"));
    assert_eq!(settings["executive"]["writer_limit"]["period"].as_str(), Some("1m 30s"));
    assert_eq!(settings["executive"]["table_limit"]["max_bytes"].as_str(), Some("1 GiB"));
    assert_eq!(settings["changelog"]["max_bytes"].as_integer(), Some(1000));
    assert_eq!(settings["reflector"]["poll_jitter"].as_float(), Some(0.5));
    assert_eq!(settings["executive"]["destructive_schema_changes"].as_bool(), Some(true));
    assert_eq!(settings["heartbeat"]["writer"].as_str(), Some("007"));
}

#[test]
fn relative_paths_are_under_the_data_directory_and_absolute_ones_stay() {
    let dir = scratch_dir();
    let file = "[node]\ndata_dir = \"d\"\n[ldb]\npath = \"sub/l.db\"\n[changelog]\npath = \"/var/c.log\"\n";
    let settings = effective(dir.path(), file, &[], &[]);
    let data_dir = dir.path().canonicalize().unwrap().join("d");
    assert_eq!(settings["node"]["data_dir"].as_str(), data_dir.to_str());
    assert_eq!(settings["ldb"]["path"].as_str(), data_dir.join("sub/l.db").to_str());
    assert_eq!(settings["changelog"]["path"].as_str(), Some("/var/c.log"));
    assert_eq!(settings["ctldb"]["url"].as_str(), Some(&*format!("sqlite:{}/ctldb.db", data_dir.display())));
}

#[test]
fn printed_settings_load_again_and_print_the_same() {
    let dir = scratch_dir();
    let file =
        "[executive]\nbind = \"[::1]:80\"\n[ldb]\nwal_checkpoint_bytes = 1234567\n[ctldb]\nurl = \"mysql://u@h/d\"\n";
    let first = config(dir.path(), file, &[], &["--role", "executive"]).stdout;
    let printed = String::from_utf8(first).unwrap();
    assert!(printed.contains("[::1]:80"), "{printed}");
    assert_eq!(String::from_utf8(config(dir.path(), &printed, &[], &[]).stdout).unwrap(), printed);
}

#[test]
fn combinations_that_only_look_impossible_are_taken() {
    let dir = scratch_dir();
    for file in [
        // Each on any free port.
        "ops.bind = \"127.0.0.1:0\"\nreader.bind = \"127.0.0.1:0\"\nexecutive.bind = \"127.0.0.1:0\"",
        // The reader's port on a node without a reader.
        "ops.bind = \"127.0.0.1:1331\"\nnode.roles = [\"reflector\"]",
        "reader.bind = \"127.0.0.2:3000\"",
        // Follows a file that the executive of another process writes.
        "node.roles = [\"reflector\"]",
        // Reads versions that another process fetches.
        "node.roles = [\"reader\"]\nldb.versioned = true",
        // Copies an LDB that another process writes.
        "node.roles = [\"snapshotter\"]",
        "node.roles = [\"heartbeat\"]\nheartbeat.executive_url = \"http://executive:3000\"",
        // Only a node with the heartbeat needs the file.
        "node.roles = [\"reader\"]\nheartbeat.secret_file = \"nowhere\"",
        "ctldb.url = \"sqlite:///var/lib/ctldb.db\"",
        "log.level = \"info,ctlstore::actors=debug\"",
        "reader.ready_max_lag = \"0s\"\nchangelog.max_bytes = 0",
    ] {
        effective(dir.path(), file, &[], &[]);
    }
}

#[test]
fn names_are_taken_and_refused_as_the_schema_does() {
    let dir = scratch_dir();
    let long = |length| "n".repeat(length);
    for name in
        ["abc", "ab", "a_b_c", "a__b", "abc_", "1abc", "a-bc", "a b", &long(30), &long(31), &long(50), &long(51)]
    {
        for (key, taken) in [
            ("heartbeat.family", FamilyName::new(name).is_ok()),
            ("heartbeat.table", TableName::new(name).is_ok()),
            ("heartbeat.writer", WriterName::new(name).is_ok()),
        ] {
            let output = config(dir.path(), &format!("{key} = {name:?}"), &[], &[]);
            assert_eq!(output.status.success(), taken, "{key} = {name:?}");
        }
    }
}
