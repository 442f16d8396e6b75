//! Wrong keys, values and combinations: each gets one line with key, value, origin and reason.

use std::collections::BTreeSet;
use std::process::Command;

use super::{DEFAULT_TOML, keys, refusal};
use support::scratch_dir;

/// A key, a wrong value as TOML, and the reason in its line.
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
    ("ops.bind_fallback", r#""maybe""#, "neither true nor false"),
    ("metrics.dogstatsd", r#""agent""#, "not a host and port such as localhost:8125"),
    ("metrics.dogstatsd", r#""agent:0""#, "not a host and port such as localhost:8125"),
    ("metrics.dogstatsd", r#""http://agent:8125""#, "not a host and port such as localhost:8125"),
    ("metrics.dogstatsd_buffer_bytes", "511", "must be 512 to 65507"),
    ("metrics.dogstatsd_buffer_bytes", "65508", "must be 512 to 65507"),
    ("metrics.dogstatsd_flush_interval", r#""0s""#, "must be longer than nothing"),
    ("metrics.dogstatsd_tags", r#"["billing"]"#, "\"billing\" is no tag such as team:billing"),
    ("metrics.dogstatsd_tags", r#"["team:a|b"]"#, "\"team:a|b\" is no tag such as team:billing"),
    ("http.allowed_hosts", "[7]", "not a list of strings"),
    (
        "http.allowed_hosts",
        r#""http://ctl.example""#,
        "\"http://ctl.example\" is no host's name or address; it goes without scheme, port and wildcard",
    ),
    (
        "http.allowed_hosts",
        r#"["ctl.example:80"]"#,
        "\"ctl.example:80\" is no host's name or address; it goes without scheme, port and wildcard",
    ),
    (
        "http.allowed_hosts",
        r#"["*.example"]"#,
        "\"*.example\" is no host's name or address; it goes without scheme, port and wildcard",
    ),
    ("http.max_connections_per_client", "-1", "not a whole number of 0 or more"),
    ("ctldb.url", r#""postgres://h/d""#, "neither sqlite:PATH nor mysql://user:password@host:port/database"),
    ("ctldb.url", r#""mysql://host""#, "names no database, as in mysql://host/database"),
    ("ctldb.url", r#""mysql:///db""#, "names no host"),
    ("ctldb.url", r#""mysql://u@host:99999/db""#, "not a URL: invalid port number"),
    (
        "ctldb.url",
        r#""mysql://host/db?colour=red""#,
        "the client does not take it: Unknown connection URL parameter `colour'",
    ),
    ("ctldb.url", r#""sqlite:""#, "sqlite: names no file"),
    ("ctldb.url", r#""sqlite:dir/""#, "sqlite: names no file"),
    ("ctldb.url", r#""sqlite://host/file""#, "sqlite: takes a path, and no host"),
    ("ctldb.url", r#""sqlite::memory:""#, "the ctldb must outlive the process"),
    ("ctldb.password_file", "true", "not a string"),
    ("ctldb.ledger_table", r#""a table""#, "not a letter followed by at most 63 letters, digits and underscores"),
    ("executive.bind", r#"":3000""#, "not an address and port such as 127.0.0.1:3000"),
    ("executive.request_timeout", r#""0s""#, "must be longer than nothing"),
    ("executive.destructive_schema_changes", r#""yes""#, "neither true nor false"),
    ("executive.ledger_retention", "7", "not a string"),
    ("executive.ledger_retention", r#""7""#, "not a duration with its unit, such as \"250ms\" or \"1m\""),
    ("executive.ledger_retention", r#""0s""#, "must be longer than nothing; \"\" keeps all rows"),
    ("executive.ledger_retention_snapshots", "[7]", "not a list of strings"),
    ("executive.no_original_reflectors", r#""maybe""#, "neither true nor false"),
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
    ("reflector.statement_max_time", r#""0s""#, "must be longer than nothing"),
    ("reflector.statement_max_bytes", r#""512 KiB""#, "must be 1 MiB to 900 MiB"),
    ("reflector.statement_max_memory_bytes", r#""1 MiB""#, "must be at least 16 MiB"),
    ("ldb.path", "5", "not a string"),
    ("ldb.paths", "5", "not a list of strings"),
    ("ldb.paths", r#"["a.db", ""]"#, "an empty path"),
    ("ldb.rotation", r#""99ms""#, "must be at least 100 ms"),
    ("ldb.wal_checkpoint_bytes", "0", "must be more than 0"),
    ("ldb.file_mode", "640", "not octal permissions in quotes, such as \"0640\""),
    ("ldb.file_mode", r#""rw-r--r--""#, "not octal permissions such as \"0640\""),
    ("ldb.file_mode", r#""4640""#, "not octal permissions such as \"0640\""),
    ("ldb.file_mode", r#""0666""#, "every user could write"),
    ("ldb.file_mode", r#""0440""#, "the node itself must be able to read and write"),
    ("ldb.directory_mode", r#""0644""#, "the node itself must be able to search its directories, as with 0700"),
    ("ldb.versioned", r#""maybe""#, "neither true nor false"),
    ("ldb.versioned_keep", "1", "must be 2 to 1000"),
    ("ldb.versioned_interval", r#""0s""#, "must be longer than nothing"),
    ("bootstrap.urls", r#"["ftp://h/p"]"#, "\"ftp://h/p\": not a file:, s3:, gs:, az:, http(s): or data: URL"),
    ("bootstrap.urls", r#"["s3://bucket"]"#, "\"s3://bucket\": names no object in its bucket or host"),
    ("bootstrap.allow_empty", r#""yes""#, "neither auto nor true nor false"),
    ("bootstrap.allow_empty", "1", "neither auto nor true nor false"),
    ("bootstrap.max_expansion", "0", "must be 1 to 100000"),
    ("bootstrap.s3_region", r#""us east 1""#, "no region, such as us-east-1"),
    ("bootstrap.urls", r#"["s3://b//x.db"]"#, "\"s3://b//x.db\": has an empty part (//) in its key"),
    ("changelog.path", r#""""#, "an empty path"),
    ("changelog.max_bytes", "1.5", "not a size such as \"50 MiB\" or a number of bytes"),
    ("changes.retain_bytes", "1000", "must be 0 or at least 64 KiB"),
    ("changes.max_clients", "-1", "not a whole number of 0 or more"),
    ("changes.heartbeat", r#""0s""#, "must be longer than nothing"),
    ("reader.bind", "1331", "not a string"),
    ("reader.max_rows", "1.5", "not a whole number of 0 or more"),
    ("reader.max_response_bytes", "0", "must be more than 0"),
    ("reader.ready_max_lag", r#""soon""#, "not a duration with its unit, such as \"250ms\" or \"1m\""),
    ("reader.workers", "2000", "must be at most 1024"),
    ("reader.query.enabled", r#""maybe""#, "neither true nor false"),
    ("reader.query.max_rows", "0", "must be more than 0"),
    ("reader.query.max_running", "65", "must be 1 to 64"),
    ("reader.query.max_waiting", "5000", "must be at most 4096"),
    ("reader.query.max_time", r#""2m""#, "must be longer than nothing and at most a minute"),
    ("reader.query.max_memory_bytes", r#""2 GiB""#, "must be 64 KiB to 1 GiB"),
    ("reader.query.max_response_bytes", "1", "must be 64 KiB to 1 GiB"),
    ("snapshotter.interval", r#""0s""#, "must be longer than nothing"),
    ("snapshotter.urls", r#"["ftp://h/p"]"#, "\"ftp://h/p\": not a file:, s3:, gs:, az:, http(s): or data: URL"),
    ("snapshotter.keep", "1001", "must be at most 1000"),
    ("snapshotter.store_timeout", r#""0s""#, "must be longer than nothing"),
    ("snapshotter.urls", r#"["https://h/a.db"]"#, "\"https://h/a.db\": can only be read from, so it is no destination"),
    (
        "snapshotter.urls",
        r#"["s3://bucket/a.db?x=1"]"#,
        "\"s3://bucket/a.db?***\": a query has no place in it; ? in a name is %3F",
    ),
    ("snapshotter.urls", r#"["file:///dir/"]"#, "\"file:///dir/\": names no file"),
    (
        "snapshotter.urls",
        r#"["file://host/path"]"#,
        "\"file://host/path\": names a host, as in file://host/path; a path needs file:///path",
    ),
    ("snapshotter.urls", "[]", "the role snapshotter needs a destination"),
    ("heartbeat.interval", r#""0s""#, "must be longer than nothing"),
    ("heartbeat.executive_url", r#""host:3000""#, "not a URL such as http://host:3000"),
    ("heartbeat.family", r#""my-family""#, "family \"my-family\" may hold only letters, digits and underscores"),
    ("heartbeat.family", r#""a__b""#, "family \"a__b\" must not contain two underscores in a row"),
    ("heartbeat.table", r#""ab""#, "table \"ab\" must have 3 to 50 characters"),
    ("heartbeat.writer", r#""me""#, "writer \"me\" must have 3 to 50 bytes"),
    ("heartbeat.secret", r#""xy""#, "the secret has 2 bytes, it must have 3 to 100"),
    ("heartbeat.secret", r#""***""#, "a mask where the secret itself is wanted"),
    (
        "heartbeat.secret_file",
        r#""/nowhere/secret""#,
        "/nowhere/secret cannot be read: No such file or directory (os error 2)",
    ),
];

#[test]
fn each_wrong_value_is_told_with_key_value_file_and_reason() {
    let dir = scratch_dir();
    for (key, value, reason) in WRONG_VALUES {
        let shown = if *key == "heartbeat.secret" { "***" } else { value };
        let shown = shown.replace("//u@", "//***@").replace("nan", "NaN").replace("?x=1", "?***");
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
fn a_variable_with_one_underscore_too_few_is_told_with_what_was_meant() {
    let lines =
        refusal(scratch_dir().path(), "", &[("CTLSTORE_READER__BIND", "127.0.0.1:1"), ("CTLSTORE_OTHER", "x")], &[]);
    let reason = "not looked at, did you mean CTLSTORE__READER__BIND?";
    assert_eq!(lines, [format!("CTLSTORE_READER__BIND (environment CTLSTORE_READER__BIND): {reason}")]);
}

#[test]
fn a_value_in_place_of_a_section_is_told() {
    let lines = refusal(scratch_dir().path(), "ops = 9090\n", &[], &[]);
    assert_eq!(lines, ["ops = 9090 (file c.toml): a section, not a value: its keys are ops.bind, ops.bind_fallback"]);
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
        "ldb.path = \"a.db\"\nldb.paths = [\"b.db\", \"c.db\"]",
        "ldb.paths = [\"b.db\", \"c.db\"] (file c.toml): ldb.path is given as well: keep one of them",
    ),
    (
        "ldb.paths = [\"a.db\", \"a.db\"]",
        "ldb.paths = [\"a.db\", \"a.db\"] (file c.toml): ldb.paths and ldb.paths are the same file",
    ),
    (
        "ldb.paths = [\"a.db\", \"change.log\"]",
        "ldb.paths = [\"a.db\", \"change.log\"] (file c.toml): changelog.path and ldb.paths are the same file",
    ),
    (
        "snapshotter.urls = [\"file:ldb.db\"]",
        "snapshotter.urls = [\"file:ldb.db\"] (file c.toml): snapshotter.urls and ldb.path are the same file",
    ),
    (
        "bootstrap.urls = [\"file:ldb.db\"]",
        "bootstrap.urls = [\"file:ldb.db\"] (file c.toml): bootstrap.urls and ldb.path are the same file",
    ),
    (
        "node.roles = [\"reflector\"]\nldb.versioned = true",
        "ldb.versioned = true (file c.toml): versions are fetched from bootstrap.urls, which names none",
    ),
    (
        "node.roles = [\"reader\", \"snapshotter\"]\nldb.versioned = true",
        "ldb.versioned = true (file c.toml): the role snapshotter copies ldb.path, which nothing writes where the ldb is versioned",
    ),
    (
        "node.roles = [\"executive\"]\nexecutive.ledger_retention = \"7d\"\nsnapshotter.urls = []",
        "executive.ledger_retention = \"7days\" (file c.toml): needs a snapshot that has what goes: executive.ledger_retention_snapshots names none",
    ),
    (
        "heartbeat.family = \"a_family_of_thirty_characters1\"\nheartbeat.table = \"a_table_of_thirty_two_characters\"",
        "heartbeat.table = \"a_table_of_thirty_two_characters\" (file c.toml): table name \"a_family_of_thirty_characters1___a_table_of_thirty_two_characters\" is longer than 64 characters",
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
fn a_file_that_is_missing_or_not_toml_is_told_with_its_place() {
    let dir = scratch_dir();
    let lines = refusal(dir.path(), "[node]\nroles = [\"a\"\n[log]\n", &[], &[]);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("--config (file c.toml): not TOML at line 3, column 1: "), "{lines:?}");
    let output = Command::new(env!("CARGO_BIN_EXE_ctlstore")).args(["config", "--config", "/nowhere.toml"]).output();
    let text = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(text.contains("--config (file /nowhere.toml): cannot be read: No such file or directory"), "{text}");
    // A relative path is told with the directory in which it was looked for, for either kind of file.
    let here = std::fs::canonicalize(dir.path()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ctlstore"));
    let output = command.current_dir(&here).env_clear().args(["config", "--config", "etc/none.toml"]).output();
    let text = String::from_utf8(output.unwrap().stderr).unwrap();
    let wanted = format!("--config (file etc/none.toml): {}/etc/none.toml cannot be read: No such", here.display());
    assert!(text.contains(&wanted), "{text}");
}

#[test]
fn a_secret_file_that_is_missing_is_told_with_its_place_below_the_data_directory() {
    let dir = scratch_dir();
    let data_dir = dir.path().to_str().unwrap();
    let file = format!(
        "node.data_dir = {data_dir:?}\nnode.roles = [\"reflector\"]\n[ctldb]\nurl = \"mysql://u@h/d\"\n\
         password_file = \"ctldb.password\"\n"
    );
    let lines = refusal(dir.path(), &file, &[], &[]);
    let reason = format!("{data_dir}/ctldb.password cannot be read: No such file or directory (os error 2)");
    assert_eq!(lines, [format!("ctldb.password_file = \"ctldb.password\" (file c.toml): {reason}")]);
}

#[test]
fn every_bad_item_of_a_list_is_named() {
    let dir = scratch_dir();
    for (key, value, bad) in [
        (
            "bootstrap.urls",
            r#"["ftp://a/x.db", "s3://b/y.db", "file://host/z.db"]"#,
            &["\"ftp://a/x.db\": ", "\"file://host/z.db\": "][..],
        ),
        (
            "snapshotter.urls",
            r#"["data:AAAA", "s3://b/y.db", "https://h/z.db"]"#,
            &["\"data:***\": ", "\"https://h/z.db\": "],
        ),
        ("http.allowed_hosts", r#"["a b", "good.example", "*.bad"]"#, &["\"a b\" is no host", "\"*.bad\" is no host"]),
        ("node.roles", r#"["exec", "reader", "writer"]"#, &["called \"exec\"", "called \"writer\""]),
    ] {
        let lines = refusal(dir.path(), &format!("{key} = {value}"), &[], &[]);
        let line = lines.iter().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key}: {lines:?}"));
        let reason = line.split_once("(file c.toml): ").expect("a reason").1;
        for bad in bad {
            assert!(reason.contains(bad), "{key}: {bad} is not in {reason}");
        }
        assert_eq!(reason.split("; ").filter(|part| bad.iter().any(|bad| part.contains(bad))).count(), 2, "{reason}");
    }
}

#[test]
fn a_reserved_character_in_a_url_s_password_is_told_with_its_escape_and_without_the_password() {
    let dir = scratch_dir();
    for url in [
        "mysql://root:hun#ter2@host/db",
        "mysql://root:hun/ter2@host/db",
        "mysql://root:hun?ter2@host/db",
        "mysql://root:12#ter2@host/db",
        "mysql://root:12/ter2@host/db",
        "mysql://root:12?ter2@host/db",
        "mysql://root:x@hun/ter2@host/db",
        "mysql://ro/ot:hunter2@host:3306/db",
    ] {
        let lines = refusal(dir.path(), &format!("ctldb.url = \"{url}\"\n"), &[], &[]);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("percent-encode it (# is %23, / is %2F"), "{url}: {lines:?}");
        assert!(!lines[0].contains("ter2") && !lines[0].contains("hun"), "{lines:?}");
    }
    for (url, reason) in [
        ("mysql://u:p@host/db#x", "a fragment has no place in it; # in a name is %23"),
        ("mysql://u:p@host/db/x", "names more than a database, as in mysql://host/database; / in a name is %2F"),
        ("mysql://u:%ff@host/db", "its password is not UTF-8 once it is percent-decoded"),
        ("mysql://%ff:p@host/db", "its user is not UTF-8 once it is percent-decoded"),
    ] {
        let lines = refusal(dir.path(), &format!("ctldb.url = \"{url}\"\n"), &[], &[]);
        assert!(lines.len() == 1 && lines[0].ends_with(&format!("(file c.toml): {reason}")), "{lines:?}");
    }
}

#[test]
fn two_spellings_of_one_variable_are_told_with_both_names() {
    let dir = scratch_dir();
    for (one, other) in [
        ("CTLSTORE__READER__WORKERS", "ctlstore__reader__workers"),
        ("CTLSTORE__READER__WORKERS", "CTLSTORE__Reader__Workers"),
        ("CTLSTORE__READER.WORKERS", "CTLSTORE__READER__WORKERS"),
    ] {
        for variables in [[(one, "1"), (other, "2")], [(other, "2"), (one, "1")], [(one, "1"), (other, "1")]] {
            let lines = refusal(dir.path(), "", &variables, &[]);
            let reason = format!("{one} and {other} are the same setting: keep one of them");
            assert_eq!(lines, [format!("reader.workers (environment {one}): {reason}")]);
        }
    }
    let secrets = [("CTLSTORE__HEARTBEAT__SECRET", "hunter2"), ("ctlstore__heartbeat__secret", "hunter3")];
    let lines = refusal(dir.path(), "", &secrets, &[]);
    assert!(lines.len() == 1 && !lines[0].contains("hunter"), "{lines:?}");
}

#[test]
fn a_key_that_a_file_gives_twice_is_told_however_it_is_written() {
    let dir = scratch_dir();
    let lines = refusal(dir.path(), "reader.workers = 1\n\"reader.workers\" = 2\n", &[], &[]);
    assert_eq!(lines, ["reader.workers (file c.toml): given twice, once with quotes around the whole key"]);
    for file in ["reader.workers = 1\nreader.workers = 2\n", "[reader]\nworkers = 1\n[reader]\nmax_rows = 2\n"] {
        let lines = refusal(dir.path(), file, &[], &[]);
        assert!(lines.len() == 1 && lines[0].starts_with("--config (file c.toml): not TOML at line"), "{lines:?}");
    }
}
