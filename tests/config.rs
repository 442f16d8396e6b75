//! Settings, as the real binary loads them: what the defaults are, which source goes over which, and what each
//! wrong key, value and combination is told.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use ctlstore::config::{Role, Settings, Sources, load};
use ctlstore::schema::{FamilyName, TableName, WriterName};
use support::scratch_dir;

const DEFAULT_TOML: &str = include_str!("../config/default.toml");

/// `ctlstore config` with a file of this text, these variables and nothing else around it.
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

/// A key, a wrong value as TOML, and what is said of it.
const WRONG_VALUES: &[(&str, &str, &str)] = &[
    (
        "node.roles",
        r#"["reader", "writer"]"#,
        "no role is called \"writer\", there are executive, reflector, reader, snapshotter and heartbeat",
    ),
    ("node.roles", "[]", "a node without a role has nothing to do"),
    ("node.roles", "[1]", "not a list of strings"),
    ("node.data_dir", r#""""#, "an empty path"),
    ("node.shutdown_timeout", "5", "not a duration with its unit, such as \"250ms\" or \"1m\""),
    ("node.shutdown_timeout", r#""0s""#, "must be longer than nothing"),
    ("log.level", r#""inof""#, "neither a level (off, error, warn, info, debug, trace) nor module=level"),
    ("log.level", r#""ctlstore=inof""#, "neither a level (off, error, warn, info, debug, trace) nor module=level"),
    ("log.format", r#""xml""#, "neither text nor json"),
    ("ops.bind", r#""localhost""#, "not an address and port such as 127.0.0.1:3000"),
    ("ctldb.url", r#""postgres://h/d""#, "neither sqlite:PATH nor mysql://user:password@host:port/database"),
    ("ctldb.url", r#""mysql://host""#, "names no database, as in mysql://host/database"),
    ("ctldb.url", r#""mysql:///db""#, "names no host"),
    ("ctldb.url", r#""mysql://u@host:99999/db""#, "not a URL: invalid port number"),
    ("ctldb.url", r#""mysql://host/db?colour=red""#, "unknown parameter `colour'"),
    ("ctldb.url", r#""sqlite:""#, "sqlite: names no file"),
    ("ctldb.url", r#""sqlite:dir/""#, "sqlite: names no file"),
    ("ctldb.url", r#""sqlite://host/file""#, "sqlite: takes a path, and no host"),
    ("ctldb.url", r#""sqlite::memory:""#, "the ctldb must outlive the process"),
    ("ctldb.password_file", "true", "not a string"),
    ("ctldb.ledger_table", r#""a table""#, "not a letter followed by at most 63 letters, digits and underscores"),
    ("executive.bind", r#"":3000""#, "not an address and port such as 127.0.0.1:3000"),
    ("executive.request_timeout", r#""0s""#, "must be longer than nothing"),
    ("executive.destructive_schema_changes", r#""yes""#, "neither true nor false"),
    ("executive.writer_limit.rows", "-1", "not a whole number of 0 or more"),
    ("executive.writer_limit.period", r#""1ms""#, "must be whole seconds, at least one and at most a day"),
    ("executive.writer_limit.period", r#""2days""#, "must be whole seconds, at least one and at most a day"),
    ("executive.table_limit.warn_bytes", r#""50 potatoes""#, "not a size such as \"50 MiB\" or a number of bytes"),
    ("executive.table_limit.max_bytes", "-5", "not a size such as \"50 MiB\" or a number of bytes"),
    ("reflector.poll_interval", r#""0s""#, "must be longer than nothing"),
    ("reflector.poll_jitter", "1.5", "not a number from 0 to 1"),
    ("reflector.poll_jitter", "nan", "not a number from 0 to 1"),
    ("reflector.poll_timeout", r#""100 years""#, "longer than a year"),
    ("reflector.poll_timeout", r#""0s""#, "must be longer than nothing"),
    ("reflector.block_rows", "0", "must be 1 to 1000000"),
    ("reflector.block_bytes", "0", "must be 1 byte to 1 GiB"),
    ("ldb.path", "5", "not a string"),
    ("ldb.wal_checkpoint_bytes", "0", "must be more than 0"),
    ("changelog.path", r#""""#, "an empty path"),
    ("changelog.max_bytes", "1.5", "not a size such as \"50 MiB\" or a number of bytes"),
    ("reader.bind", "1331", "not a string"),
    ("reader.max_rows", "1.5", "not a whole number of 0 or more"),
    ("reader.max_response_bytes", "0", "must be more than 0"),
    ("reader.ready_max_lag", r#""soon""#, "not a duration with its unit, such as \"250ms\" or \"1m\""),
    ("reader.workers", "2000", "must be at most 1024"),
    ("snapshotter.interval", r#""0s""#, "must be longer than nothing"),
    ("snapshotter.urls", r#"["ftp://h/p"]"#, "\"ftp://h/p\": not a file: URL, the only kind of destination there is"),
    ("snapshotter.urls", r#"["file:///dir/"]"#, "\"file:///dir/\": names no file"),
    (
        "snapshotter.urls",
        r#"["file://host/path"]"#,
        "\"file://host/path\": names a host, as in file://host/path; a path needs file:///path",
    ),
    ("snapshotter.urls", "[]", "the role snapshotter needs a destination"),
    ("heartbeat.interval", r#""0s""#, "must be longer than nothing"),
    ("heartbeat.executive_url", r#""host:3000""#, "not a URL such as http://host:3000"),
    ("heartbeat.family", r#""my-family""#, "not a letter followed by letters, digits and underscores"),
    ("heartbeat.family", r#""a__b""#, "two underscores in a row, or one at the end"),
    ("heartbeat.table", r#""ab""#, "not 3 to 50 characters long"),
    ("heartbeat.writer", r#""me""#, "not 3 to 50 bytes long"),
    ("heartbeat.secret", r#""xy""#, "a writer's secret has 3 to 100 bytes"),
    ("heartbeat.secret", r#""***""#, "a mask where the secret itself is wanted"),
    ("heartbeat.secret_file", r#""/nowhere/secret""#, "cannot be read: No such file or directory (os error 2)"),
];

#[test]
fn each_wrong_value_is_told_with_key_value_file_and_reason() {
    let dir = scratch_dir();
    for (key, value, reason) in WRONG_VALUES {
        let shown = if *key == "heartbeat.secret" { "***" } else { value };
        let shown = shown.replace("//u@", "//***@").replace("nan", "NaN");
        let line = format!("{key} = {shown} (file c.toml): {reason}");
        assert_eq!(refusal(dir.path(), &format!("{key} = {value}\n"), &[], &[]), [line]);
    }
}

#[test]
fn no_key_is_without_a_wrong_value_in_these_tests() {
    let file: toml::Table = DEFAULT_TOML.parse().unwrap();
    let tested: BTreeSet<String> = WRONG_VALUES.iter().map(|(key, ..)| (*key).to_owned()).collect();
    assert_eq!(tested, keys("", &file));
}

#[test]
fn a_wrong_value_in_the_environment_is_told_with_its_variable() {
    let dir = scratch_dir();
    let lines = refusal(dir.path(), "", &[("CTLSTORE__READER__WORKERS", "many")], &[]);
    let reason = "not a whole number of 0 or more";
    assert_eq!(lines, [format!("reader.workers = \"many\" (environment CTLSTORE__READER__WORKERS): {reason}")]);
}

#[test]
fn a_wrong_role_is_told_with_its_flag() {
    let lines = refusal(scratch_dir().path(), "", &[], &["--role", "reeder"]);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("node.roles = [\"reeder\"] (flag --role): no role is called \"reeder\""), "{lines:?}");
}

#[test]
fn unknown_keys_are_told_with_what_was_probably_meant() {
    let dir = scratch_dir();
    let file = "nonsense = 1\npoll_interval = \"1s\"\nreader.wrokers = 4\n[snapshoter]\ninterval = \"1s\"\n[reader.x]\ny = 1\n";
    let variables = [("CTLSTORE__READER_BIND", "x"), ("CTLSTORE__NODE__ROLES__0", "reader")];
    assert_eq!(
        refusal(dir.path(), file, &variables, &[]),
        [
            "node.roles.0 = \"reader\" (environment CTLSTORE__NODE__ROLES__0): unknown key, did you mean CTLSTORE__NODE__ROLES?",
            "nonsense = 1 (file c.toml): unknown key",
            "poll_interval = \"1s\" (file c.toml): unknown key, did you mean reflector.poll_interval?",
            "reader.wrokers = 4 (file c.toml): unknown key, did you mean reader.workers?",
            "reader.x (file c.toml): unknown key",
            "reader_bind = \"x\" (environment CTLSTORE__READER_BIND): unknown key, did you mean CTLSTORE__READER__BIND?",
            "snapshoter (file c.toml): unknown key, did you mean snapshotter?",
        ]
    );
}

#[test]
fn a_value_in_place_of_a_section_is_told() {
    let lines = refusal(scratch_dir().path(), "ops = 9090\n", &[], &[]);
    assert_eq!(lines, ["ops = 9090 (file c.toml): a section, not a value: its keys are ops.bind"]);
}

#[test]
fn everything_wrong_is_told_at_once() {
    let dir = scratch_dir();
    let file = "[reader]\nworkers = -1\nwrokers = 1\n[ldb]\npath = \"same\"\n[changelog]\npath = \"same\"\n";
    let lines = refusal(dir.path(), file, &[("CTLSTORE__LOG__FORMAT", "xml")], &["--role", "heartbeat"]);
    let told: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(told, ["changelog.path", "log.format", "node.roles", "reader.workers", "reader.wrokers"]);
}

/// A file, and the one line that its combination of values gets.
const COMBINATIONS: &[(&str, &str)] = &[
    (
        "node.roles = [\"heartbeat\"]",
        "node.roles = [\"heartbeat\"] (file c.toml): the role heartbeat needs the role executive or heartbeat.executive_url",
    ),
    (
        "ctldb.url = \"mysql://u:p@h/d\"\nctldb.password_file = \"f\"",
        "ctldb.password_file = \"f\" (file c.toml): ctldb.url has a password as well",
    ),
    ("ctldb.password_file = \"f\"", "ctldb.password_file = \"f\" (file c.toml): an sqlite: ctldb.url has no password"),
    (
        "heartbeat.secret = \"abcdef\"\nheartbeat.secret_file = \"f\"",
        "heartbeat.secret_file = \"f\" (file c.toml): heartbeat.secret is given as well",
    ),
    (
        "reader.bind = \"127.0.0.1:3000\"",
        "reader.bind = \"127.0.0.1:3000\" (file c.toml): reader.bind and executive.bind are the same port",
    ),
    (
        "ops.bind = \"0.0.0.0:3000\"",
        "ops.bind = \"0.0.0.0:3000\" (file c.toml): executive.bind and ops.bind are the same port",
    ),
    ("ops.bind = \"[::]:1331\"", "ops.bind = \"[::]:1331\" (file c.toml): reader.bind and ops.bind are the same port"),
    (
        "executive.table_limit.max_bytes = \"10 MiB\"",
        "executive.table_limit.max_bytes = \"10 MiB\" (file c.toml): warn_bytes is above max_bytes, so writes would be refused without a warning",
    ),
    ("ldb.path = \"ctldb.db\"", "ldb.path = \"ctldb.db\" (file c.toml): ctldb.url and ldb.path are the same file"),
    (
        "snapshotter.urls = [\"file:ldb.db\"]",
        "snapshotter.urls = [\"file:ldb.db\"] (file c.toml): snapshotter.urls and ldb.path are the same file",
    ),
    (
        "heartbeat.family = \"a_family_of_thirty_characters1\"\nheartbeat.table = \"a_table_of_thirty_two_characters\"",
        "heartbeat.table = \"a_table_of_thirty_two_characters\" (file c.toml): family___table is longer than 64 characters",
    ),
];

#[test]
fn each_impossible_combination_is_told_with_the_key_that_was_set() {
    let dir = scratch_dir();
    for (file, line) in COMBINATIONS {
        assert_eq!(refusal(dir.path(), file, &[], &[]), [*line]);
    }
}

#[test]
fn combinations_that_only_look_impossible_are_taken() {
    let dir = scratch_dir();
    for file in [
        // Any free port each.
        "ops.bind = \"127.0.0.1:0\"\nreader.bind = \"127.0.0.1:0\"\nexecutive.bind = \"127.0.0.1:0\"",
        // The reader's port on a node without a reader.
        "ops.bind = \"127.0.0.1:1331\"\nnode.roles = [\"reflector\"]",
        "reader.bind = \"127.0.0.2:3000\"",
        // Follows a file that the executive of another process writes.
        "node.roles = [\"reflector\"]",
        // Copies an LDB that another process writes.
        "node.roles = [\"snapshotter\"]",
        "node.roles = [\"heartbeat\"]\nheartbeat.executive_url = \"http://executive:3000\"",
        // The file is needed only where the heartbeat is.
        "node.roles = [\"reader\"]\nheartbeat.secret_file = \"nowhere\"",
        "ctldb.url = \"sqlite:///var/lib/ctldb.db\"",
        "log.level = \"info,ctlstore::actors=debug\"",
        "reader.ready_max_lag = \"0s\"\nchangelog.max_bytes = 0",
    ] {
        effective(dir.path(), file, &[], &[]);
    }
}

#[test]
fn a_file_that_is_missing_or_not_toml_is_told_with_its_place() {
    let dir = scratch_dir();
    let lines = refusal(dir.path(), "[node]\nroles = [\"a\"\n[log]\n", &[], &[]);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("--config (file c.toml): not TOML at line 3, column 1: "), "{lines:?}");
    let output = Command::new(env!("CARGO_BIN_EXE_ctlstore")).args(["config", "--config", "/nowhere.toml"]).output();
    let text = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(text.contains("--config (file /nowhere.toml): cannot be read: No such file or directory"), "{text}");
}

#[test]
fn secret_files_are_read_without_their_line_end() {
    let dir = scratch_dir();
    fs::write(dir.path().join("password"), "p@ss/word\r\n").unwrap();
    fs::write(dir.path().join("secret"), "the-secret\n").unwrap();
    let file = dir.path().join("c.toml");
    let text = format!(
        "node.data_dir = {:?}\nctldb.url = \"mysql://u@h/d\"\nctldb.password_file = \"password\"\nheartbeat.secret_file = \"secret\"\n",
        dir.path()
    );
    fs::write(&file, text).unwrap();
    let settings = load(&Sources { file: Some(file), ..Sources::default() }).unwrap();
    let ctlstore::config::CtldbUrl::Mysql(url) = &settings.ctldb.url else { panic!("not a MySQL URL") };
    let options = mysql_async::Opts::from_url(url.expose()).unwrap();
    assert_eq!(options.pass(), Some("p@ss/word"));
    let secret = settings.heartbeat.secret.unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(&secret), "the-secret");
}

#[test]
fn secret_files_that_cannot_be_a_secret_are_told() {
    let dir = scratch_dir();
    let data_dir = dir.path().to_str().unwrap();
    for (content, reason) in [
        ("\n".to_owned(), "cannot be read: it is empty"),
        ("x".repeat(5000), "cannot be read: longer than 4096 bytes"),
        ("x".repeat(101), "a writer's secret has 3 to 100 bytes"),
    ] {
        fs::write(dir.path().join("secret"), content).unwrap();
        let lines =
            refusal(dir.path(), "heartbeat.secret_file = \"secret\"", &[("CTLSTORE__NODE__DATA_DIR", data_dir)], &[]);
        assert_eq!(lines, [format!("heartbeat.secret_file = \"secret\" (file c.toml): {reason}")]);
    }
}

#[test]
fn no_secret_is_ever_printed() {
    let dir = scratch_dir();
    for (file, printed) in [
        ("ctldb.url = \"mysql://u:hunter2@h/d\"", "mysql://u:***@h/d"),
        ("heartbeat.secret = \"hunter2\"", "secret = \"***\""),
        // Each of these is refused, in words of its own.
        ("ctldb.url = \"mysql://u:hunter2@h\"", "mysql://***@h"),
        ("ctldb.url = \"u:hunter2@tcp(h:3306)/d\"", "***@tcp(h:3306)/d"),
        ("ctldb.url = \"mysql://u:hunter2@h/d\"\nops.bind = \"127.0.0.1:3000\"", "same port"),
        ("heartbeat.secert = \"hunter2\"", "heartbeat.secert = ***"),
        ("ctldb.password = \"hunter2\"", "ctldb.password = ***"),
        ("heartbeat.secret = [\"hunter2\"]", "heartbeat.secret = ***"),
        ("heartbeat.secret = \"hunter2\" x", "not TOML at line 1"),
    ] {
        let output = config(dir.path(), file, &[], &[]);
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(text.contains(printed), "{file}: {text}");
        assert!(!text.contains("hunter2"), "{file}: {text}");
    }
    let settings = load(&Sources {
        environment: vec![
            ("CTLSTORE__CTLDB__URL".into(), "mysql://u:hunter2@h/d".into()),
            ("CTLSTORE__HEARTBEAT__SECRET".into(), "hunter2".into()),
        ],
        ..Sources::default()
    });
    assert!(!format!("{:?}", settings.unwrap()).contains("hunter2"));
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
