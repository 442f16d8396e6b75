//! The original's flags, one by one: what each becomes, from the command line and from the environment, and that the
//! documentation says the same.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use ctlstore::cli::original::{OriginalCommand, flag_names, markdown};
use ctlstore::metrics::dogstatsd;
use support::scratch_dir;

const MIGRATION: &str = include_str!("../../docs/migration.md");
const DSN: &str = "ctldb:ctldbpw@tcp(mysql:3306)/ctldb?collation=utf8mb4_unicode_ci";

/// The least that each command must be told.
pub fn needed(command: &str) -> &'static [(&'static str, &'static str)] {
    match command {
        "reflector" => &[("ldb-path", "/srv/ldb.db"), ("upstream-driver", "mysql"), ("upstream-dsn", DSN)],
        "multi-reflector" => &[
            ("multi-reflector.ldb-paths", "/srv/ldb.db,/srv/ldb-2.db"),
            ("upstream-driver", "mysql"),
            ("upstream-dsn", DSN),
        ],
        "executive" => &[("bind", "0.0.0.0:3000"), ("ctldb", DSN)],
        "supervisor" => &[
            ("snapshot-url", "file:///snapshots/snapshot.db"),
            ("reflector.ldb-path", "/srv/ldb.db"),
            ("reflector.upstream-driver", "mysql"),
            ("reflector.upstream-dsn", DSN),
        ],
        "heartbeat" => &[("writer-secret", "a-secret")],
        _ => &[],
    }
}

/// `ctlstore config --as COMMAND …`, with nothing but these variables in the environment.
pub fn config_as(dir: &Path, command: &str, flags: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_ctlstore"));
    process.current_dir(dir).env_clear().envs(variables.iter().copied());
    process.args(["config", "--as", command]).args(flags).output().unwrap()
}

/// The needed flags but those that `given` has.
pub fn with_needed(command: &str, given: &[&str]) -> Vec<String> {
    let is_given = |name: &str| given.iter().any(|flag| flag.trim_start_matches('-').split('=').next() == Some(name));
    let missing = needed(command).iter().filter(|(name, _)| !is_given(name));
    missing.map(|(name, value)| format!("-{name}={value}")).chain(given.iter().map(|flag| (*flag).to_owned())).collect()
}

#[track_caller]
pub fn settings_of(command: &str, given: &[&str], variables: &[(&str, &str)]) -> toml::Table {
    let flags = with_needed(command, given);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let dir = scratch_dir();
    let output = config_as(dir.path(), command, &flags, variables);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{command} {flags:?}: {}", String::from_utf8_lossy(&output.stderr));
    text.parse().unwrap()
}

pub fn at<'t>(table: &'t toml::Table, key: &str) -> &'t toml::Value {
    let mut parts = key.split('.');
    let first = &table[parts.next().unwrap()];
    parts.fold(first, |value, part| value.get(part).unwrap_or_else(|| panic!("no setting {key}")))
}

/// A command, one flag's value, the setting's key and its value as TOML.
const BECOMES: &[(&str, &[&str], &str, &str)] = &[
    ("reflector", &["-ldb-path", "/var/x/ldb.db"], "ldb.path", r#""/var/x/ldb.db""#),
    ("reflector", &["-ldb-path", "/var/x/ldb.db"], "node.data_dir", r#""/var/x""#),
    ("reflector", &["-changelog-path", "/var/x/changelog"], "changelog.path", r#""/var/x/changelog""#),
    ("reflector", &["-changelog-path", "/var/x/changelog"], "changelog.max_bytes", r#""1 MiB""#),
    ("reflector", &["-changelog-path", "/c", "-changelog-size", "1000000"], "changelog.max_bytes", "1000000"),
    ("reflector", &["-changelog-path", "/c", "-changelog-size=-1"], "changelog.max_bytes", "0"),
    ("reflector", &["-changelog-size", "1000000"], "changelog.max_bytes", "0"),
    ("reflector", &["-upstream-driver", "mysql"], "ctldb.url", r#""mysql://ctldb:***@mysql:3306/ctldb""#),
    (
        "reflector",
        &["-upstream-driver", "sqlite3", "-upstream-dsn", "/srv/ctldb.db"],
        "ctldb.url",
        r#""sqlite:/srv/ctldb.db""#,
    ),
    ("reflector", &["-upstream-dsn", "u@tcp(db)/x"], "ctldb.url", r#""mysql://u@db:3306/x""#),
    ("reflector", &["-upstream-ledger-table", "ledger2"], "ctldb.ledger_table", r#""ledger2""#),
    ("reflector", &["-bootstrap-url", "s3://b/snapshot.db"], "bootstrap.urls", r#"["s3://b/snapshot.db"]"#),
    ("reflector", &["-bootstrap-region", "eu-central-1"], "bootstrap.s3_region", r#""eu-central-1""#),
    ("reflector", &["-poll-interval", "250ms"], "reflector.poll_interval", r#""250ms""#),
    ("reflector", &["-poll-jitter-coefficient", "0.5"], "reflector.poll_jitter", "0.5"),
    ("reflector", &["-poll-jitter-coefficient", "7"], "reflector.poll_jitter", "1.0"),
    ("reflector", &["-poll-timeout", "1m30s"], "reflector.poll_timeout", r#""1m 30s""#),
    ("reflector", &["-query-block-size", "500"], "reflector.block_rows", "500"),
    ("reflector", &["-debug"], "log.level", r#""debug""#),
    ("reflector", &["-debug=false"], "log.level", r#""info""#),
    ("reflector", &["-ledger-latency.max-healty-latency", "90s"], "reader.ready_max_lag", r#""1m 30s""#),
    ("reflector", &["-dogstatsd.address", "agent:8125"], "metrics.dogstatsd", r#""agent:8125""#),
    ("reflector", &["-dogstatsd.buffer-size", "8192"], "metrics.dogstatsd_buffer_bytes", r#""8 KiB""#),
    ("reflector", &["-dogstatsd.buffer-size", "0"], "metrics.dogstatsd_buffer_bytes", r#""1 KiB""#),
    ("reflector", &["-dogstatsd.flush-every", "1s"], "metrics.dogstatsd_flush_interval", r#""1s""#),
    ("reflector", &["-metrics-bind", "0.0.0.0:9090"], "ops.bind", r#""0.0.0.0:9090""#),
    ("reflector", &["-wal-checkpoint-threshold-size", "1048576"], "ldb.wal_checkpoint_bytes", r#""40 MiB""#),
    ("reflector", &["-wal-poll-interval", "10s"], "ldb.wal_checkpoint_bytes", r#""8 MiB""#),
    (
        "reflector",
        &["-wal-poll-interval=10s", "-wal-checkpoint-threshold-size=1048576"],
        "ldb.wal_checkpoint_bytes",
        r#""1 MiB""#,
    ),
    ("multi-reflector", &["-multi-reflector.ldb-paths", "/a,/b"], "ldb.paths", r#"["/a", "/b"]"#),
    ("multi-reflector", &["-multi-reflector.ldb-paths", "[/a, /b]"], "ldb.path", r#""/a""#),
    ("multi-reflector", &["-ldb-path", "/c"], "ldb.paths", r#"["/srv/ldb.db", "/srv/ldb-2.db"]"#),
    ("sidecar", &["-bind-addr", "127.0.0.1:1332"], "reader.bind", r#""127.0.0.1:1332""#),
    ("sidecar", &["-ldb-path", "/srv/ldb.db"], "ldb.path", r#""/srv/ldb.db""#),
    ("sidecar", &["-max-rows", "1000"], "reader.max_rows", "1000"),
    ("sidecar", &["-max-rows=-1"], "reader.max_rows", "0"),
    ("sidecar", &["-application", "billing"], "metrics.dogstatsd_tags", r#"["application:billing"]"#),
    ("sidecar", &["-dogstatsd.address", ":8125"], "metrics.dogstatsd", r#""localhost:8125""#),
    ("executive", &["-bind", "0.0.0.0:3001"], "executive.bind", r#""0.0.0.0:3001""#),
    (
        "executive",
        &["-ctldb", "root:pw@unix(/run/my.sock)/c"],
        "ctldb.url",
        r#""mysql://root:***@localhost:3306/c?socket=%2Frun%2Fmy.sock""#,
    ),
    ("executive", &["-debug"], "log.level", r#""debug""#),
    ("executive", &["-handler-timeout", "10s"], "executive.request_timeout", r#""10s""#),
    ("executive", &["-max-table-size", "1073741824"], "executive.table_limit.max_bytes", r#""1 GiB""#),
    ("executive", &["-max-table-size", "1048576"], "executive.table_limit.warn_bytes", r#""1 MiB""#),
    ("executive", &["-warn-table-size", "1048576"], "executive.table_limit.warn_bytes", r#""1 MiB""#),
    ("executive", &["-writer-limit", "5"], "executive.writer_limit.rows", "5"),
    ("executive", &["-writer-limit-period", "1h"], "executive.writer_limit.period", r#""1h""#),
    ("executive", &["-shadow"], "metrics.dogstatsd_tags", r#"["shadow:true"]"#),
    ("executive", &["-enable-destructive-schema-changes"], "executive.destructive_schema_changes", "true"),
    ("executive", &["-dogstatsd.address", "agent:8125"], "metrics.dogstatsd", r#""agent:8125""#),
    ("supervisor", &["-snapshot-interval", "60s"], "snapshotter.interval", r#""1m""#),
    (
        "supervisor",
        &["-snapshot-url", "file:///a.db,s3://b/c.gz"],
        "snapshotter.urls",
        r#"["file:///a.db", "s3://b/c.gz"]"#,
    ),
    ("supervisor", &["-debug"], "log.level", r#""debug""#),
    ("supervisor", &["-reflector.ldb-path", "/x/ldb.db"], "ldb.path", r#""/x/ldb.db""#),
    ("supervisor", &["-reflector.changelog-path", "/c"], "changelog.path", r#""/c""#),
    ("supervisor", &["-reflector.poll-interval", "2s"], "reflector.poll_interval", r#""2s""#),
    ("supervisor", &["-reflector.bootstrap-url", "s3://b/x.db"], "bootstrap.urls", r#"["s3://b/x.db"]"#),
    ("supervisor", &["-reflector.metrics-bind", "127.0.0.1:9091"], "ops.bind", r#""127.0.0.1:9091""#),
    ("supervisor", &["-reflector.debug"], "log.level", r#""debug""#),
    ("supervisor", &["-shadow"], "metrics.dogstatsd_tags", r#"["shadow:true"]"#),
    ("supervisor", &["-dogstatsd.address", "agent:8125"], "metrics.dogstatsd", r#""agent:8125""#),
    ("heartbeat", &["-heartbeat-interval", "1s"], "heartbeat.interval", r#""1s""#),
    ("heartbeat", &["-executive-url", "executive:3000"], "heartbeat.executive_url", r#""http://executive:3000/""#),
    (
        "heartbeat",
        &["-executive-url", "http://executive:3000"],
        "heartbeat.executive_url",
        r#""http://executive:3000/""#,
    ),
    ("heartbeat", &["-family-name", "beats"], "heartbeat.family", r#""beats""#),
    ("heartbeat", &["-table-name", "beats"], "heartbeat.table", r#""beats""#),
    ("heartbeat", &["-writer-name", "beater"], "heartbeat.writer", r#""beater""#),
    ("heartbeat", &["-writer-secret", "hunter2"], "heartbeat.secret", r#""***""#),
    ("heartbeat", &["-debug"], "log.level", r#""debug""#),
];

#[test]
fn each_flag_becomes_its_setting() {
    for (command, flags, key, value) in BECOMES {
        let expected = format!("v = {value}").parse::<toml::Table>().unwrap();
        let settings = settings_of(command, flags, &[]);
        assert_eq!(at(&settings, key), &expected["v"], "{command} {flags:?}: {key}");
    }
}

/// With what a flag that stands for nothing here may be given.
const NOTHING: &[(&str, &str)] = &[
    ("disable", "true"),
    ("disable-ecs-behavior", "true"),
    ("max-healty-latency", "1m"),
    ("attribute-name", "ctlstore-status"),
    ("healthy-attribute-value", "healthy"),
    ("unhealth-attribute-value", "unhealthy"),
    ("poll-interval", "10s"),
    ("aws-region", "us-west-2"),
    ("wal-checkpoint-type", "TRUNCATE"),
    ("busy-timeout-ms", "1000"),
    ("address", "agent:8125"),
    ("buffer-size", "1024"),
    ("flush-every", "5s"),
    ("ldb-path", "/x"),
    ("ldb-paths", "/x,/y"),
];

#[test]
fn each_flag_without_a_meaning_is_taken_and_said() {
    let mut seen = 0;
    for command in OriginalCommand::ALL {
        let standing = flag_names(command).into_iter().filter(|(_, key)| key.is_none());
        for (flag, _) in standing {
            let value = NOTHING.iter().find(|(name, _)| flag.rsplit('.').next() == Some(name)).map(|(_, value)| value);
            let value = value.unwrap_or_else(|| panic!("nothing is known of -{flag}"));
            let given = [format!("-{flag}={value}")];
            let flags = with_needed(command.name(), &[&given[0]]);
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            let output = config_as(scratch_dir().path(), command.name(), &flags, &[]);
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{flag}: {}", String::from_utf8_lossy(&output.stderr));
            let said: Vec<&str> = text.lines().filter(|line| line.starts_with(&format!("# -{flag}: "))).collect();
            assert_eq!(said.len(), 1, "{} -{flag}: {text}", command.name());
            let is_ecs = flag.starts_with("ledger-latency.") || flag.starts_with("ledger-latency-health.");
            assert!(!is_ecs || said[0].contains("/readyz"), "{}", said[0]);
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen} flags stand for nothing");
}

#[test]
fn every_flag_is_in_one_of_the_tests_above() {
    for command in OriginalCommand::ALL {
        for (flag, key) in flag_names(command) {
            let is_tested = |(other, flags, ..): &(&str, &[&str], &str, &str)| {
                // The reflector's flags are one list for all commands that have them, as are the agent's.
                let same = *other == command.name() || flag.starts_with("reflector.") || flag.starts_with("dogstatsd.");
                let plain = flag.strip_prefix("reflector.").unwrap_or(&flag);
                let is_multi = command == OriginalCommand::MultiReflector && *other == "reflector";
                let names =
                    |name: &str| flags.iter().any(|word| word.trim_start_matches('-').split('=').next() == Some(name));
                ((same || is_multi) && names(&flag)) || (names(plain) && *other == "reflector")
            };
            let tested = BECOMES.iter().any(is_tested);
            assert!(key.is_none() || tested, "{} -{flag} is not tested", command.name());
        }
    }
}

#[test]
fn each_flag_comes_from_the_environment_too_and_goes_over_it() {
    for (command, flags, key, value) in BECOMES {
        let [flag, given] = flags else { continue };
        if given.starts_with('-') || flag.contains('=') {
            continue;
        }
        let variable = format!("CTLSTORE_{}", flag[1..].replace(['-', '.'], "_").to_uppercase());
        let expected = format!("v = {value}").parse::<toml::Table>().unwrap();
        let is_needed = needed(command).iter().any(|(name, _)| *name == &flag[1..]);
        if !is_needed {
            let settings = settings_of(command, &[], &[(&variable, given)]);
            assert_eq!(at(&settings, key), &expected["v"], "{command} {variable}={given}: {key}");
        }
        let settings = settings_of(command, flags, &[(&variable, "/other")]);
        assert_eq!(at(&settings, key), &expected["v"], "{command} {flags:?} over {variable}");
    }
}

#[test]
fn the_original_s_defaults_take_the_place_of_ours() {
    let reflector = settings_of("reflector", &[], &[]);
    for (key, value) in [
        ("node.roles", r#"["reflector"]"#),
        ("ldb.file_mode", r#""0644""#),
        ("ldb.directory_mode", r#""0755""#),
        ("changelog.max_bytes", "0"),
        ("reflector.poll_interval", r#""1s""#),
        ("reflector.poll_jitter", "0.25"),
        ("reflector.poll_timeout", r#""5s""#),
        ("reflector.block_rows", "100"),
        ("reader.ready_max_lag", r#""1m""#),
        ("ctldb.ledger_table", r#""ctlstore_dml_ledger""#),
        ("metrics.dogstatsd", r#""""#),
        ("metrics.dogstatsd_flush_interval", r#""5s""#),
        ("ops.bind", r#""127.0.0.1:0""#),
    ] {
        let expected = format!("v = {value}").parse::<toml::Table>().unwrap();
        assert_eq!(at(&reflector, key), &expected["v"], "{key}");
    }
    let text = |table: &toml::Table, key: &str| at(table, key).to_string();
    let sidecar = settings_of("sidecar", &[], &[]);
    assert_eq!(text(&sidecar, "reader.bind"), r#""0.0.0.0:1331""#);
    assert_eq!(text(&sidecar, "ldb.path"), r#""/var/spool/ctlstore/ldb.db""#);
    assert_eq!(text(&sidecar, "metrics.dogstatsd_tags"), r#"["application:unknown"]"#);
    let elsewhere = settings_of("sidecar", &[], &[("CTLSTORE_PATH", "/srv/spool")]);
    assert_eq!(text(&elsewhere, "ldb.path"), r#""/srv/spool/ldb.db""#);
    let supervisor = settings_of("supervisor", &[], &[]);
    assert_eq!(text(&supervisor, "snapshotter.interval"), r#""5m""#);
    assert_eq!(text(&supervisor, "node.roles"), r#"["reflector", "snapshotter"]"#);
    assert_eq!(text(&supervisor, "metrics.dogstatsd_tags"), r#"["shadow:false"]"#);
    let executive = settings_of("executive", &[], &[]);
    assert_eq!(text(&executive, "executive.writer_limit.rows"), "1000");
    assert_eq!(text(&executive, "executive.table_limit.max_bytes"), r#""100 MiB""#);
    assert_eq!(text(&executive, "executive.destructive_schema_changes"), "false");
    let heartbeat = settings_of("heartbeat", &[], &[]);
    assert_eq!(text(&heartbeat, "heartbeat.interval"), r#""15s""#);
    assert_eq!(text(&heartbeat, "heartbeat.executive_url"), r#""http://ctlstore-executive.segment.local/""#);
}

#[test]
fn the_documentation_has_the_tables_of_the_code() {
    let tables = OriginalCommand::ALL.into_iter().map(markdown).chain([dogstatsd::listed()]);
    let missing: Vec<String> = tables.filter(|table| !MIGRATION.contains(table)).collect();
    assert!(missing.is_empty(), "docs/migration.md needs:\n{}", missing.join("\n"));
}

#[test]
fn every_setting_that_a_flag_becomes_is_one() {
    let default: toml::Table = super::DEFAULT_TOML.parse().unwrap();
    let known = super::keys("", &default);
    let named: BTreeSet<String> =
        OriginalCommand::ALL.into_iter().flat_map(flag_names).filter_map(|(_, key)| key.map(str::to_owned)).collect();
    assert!(named.is_subset(&known), "{:?}", named.difference(&known));
}
