//! `doctor`: what is wrong is named, each with the line that mends it, and that line does.

use serde_json::Value;

use crate::fixture::{Cli, Stage, binary};
use support::{Flavour, PrivateServer, scratch_dir, sql};

fn doctor(config: &str, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let directory = scratch_dir();
    std::fs::write(directory.path().join("node.toml"), config).expect("write the settings");
    let arguments = [&["doctor", "--config", "node.toml", "--json"], arguments].concat();
    let ran = Cli::new(binary(), directory.path()).args(&arguments).run();
    let findings: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error} in {ran:?}"));
    (ran.code, findings.as_array().expect("an array").clone())
}

/// The mend of the finding that says this.
#[track_caller]
fn mend(findings: &[Value], level: &str, what: &str) -> String {
    let found = findings.iter().find(|f| f["level"] == level && f["what"].as_str().unwrap().contains(what));
    let found = found.unwrap_or_else(|| panic!("no {level} with {what:?} in {findings:#?}"));
    found["mend"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_fresh_machine_and_a_running_node_lack_nothing() {
    let (code, findings) = doctor("", &[]);
    assert_eq!(code, Some(0), "{findings:#?}");
    mend(&findings, "ok", "is made at the first start");
    let stage = Stage::new();
    let (code, findings) = doctor(&format!("ctldb.url = {:?}", stage.ctldb_url()), &["--role", "executive"]);
    assert_eq!(code, Some(0), "{findings:#?}");
    mend(&findings, "ok", &format!("is in use (pid {})", stage.process.pid()));
}

#[test]
fn every_kind_of_ctldb_is_found_in_order() {
    for (kind, database) in support::every_ctldb() {
        let config = format!("ctldb.url = {:?}", database.url);
        for role in ["executive", "reflector"] {
            let (code, findings) = doctor(&config, &["--role", role]);
            // A ledger to follow is there only once an executive was.
            let is_lacking = role == "reflector";
            assert_eq!(code, Some(i32::from(is_lacking)), "{kind}, {role}: {findings:#?}");
        }
        let _node = Stage::with(|node| node.ctldb(&database.url));
        for role in ["executive", "reflector"] {
            let (code, findings) = doctor(&config, &["--role", role]);
            assert_eq!(code, Some(0), "{kind}, {role}: {findings:#?}");
        }
    }
}

#[test]
fn what_the_host_lacks_is_named() {
    let (code, findings) = doctor("node.data_dir = '/dev/null/data'", &["--role", "reader"]);
    assert_eq!(code, Some(1));
    mend(&findings, "fail", "/dev/null is no directory");
    mend(&findings, "warn", "no ldb at /dev/null/data/ldb.db yet");
    let stage = Stage::furnished();
    stage.caught_up();
    let ldb = stage.node.ldb_path();
    let (code, findings) = doctor(&format!("ldb.path = {:?}", ldb.to_str().unwrap()), &["--role", "reader"]);
    assert_eq!(code, Some(0), "{findings:#?}");
    mend(&findings, "ok", "is readable, at seq 1");
    let config = format!("ldb.paths = [{:?}, '/nowhere/two.db']", ldb.to_str().unwrap());
    let (_, findings) = doctor(&config, &["--role", "reader"]);
    mend(&findings, "ok", "is readable, at seq 1");
    assert!(mend(&findings, "warn", "no ldb at /nowhere/two.db yet").starts_with("ldb.paths = "));
    let (code, findings) = doctor("reader.bind = '0.0.0.0:1331'", &["--role", "reader"]);
    assert_eq!(code, Some(0));
    assert!(mend(&findings, "warn", "may read every row").starts_with("reader.bind = \"127.0.0.1:1331\""));
    let (code, findings) = doctor("", &["--role", "reflector"]);
    assert_eq!(code, Some(1));
    mend(&findings, "fail", "no executive here to make it");
}

#[test]
fn places_of_snapshots_are_asked() {
    let stage = Stage::furnished();
    stage.caught_up();
    let away = "http://127.0.0.1:1/s.db";
    let snapshots = stage.path("s.db");
    let url = format!("file://{}", snapshots.display());
    let config = format!("ctldb.url = {:?}\nbootstrap.urls = [{url:?}, {away:?}]", stage.ctldb_url());
    let look = || doctor(&config, &["--role", "reflector"]);
    let (code, findings) = look();
    assert_eq!(code, Some(0), "a node starts without them: {findings:#?}");
    mend(&findings, "ok", &format!("{url} can be asked, and has no manifest yet"));
    let line = mend(&findings, "warn", &format!("bootstrap.urls: {away}"));
    assert_eq!(line, "bootstrap.urls = a place that answers this host");
    stage.run(&["snapshot", "take", "--to", &url]).ok();
    mend(&look().1, "ok", &format!("{url} has a snapshot at seq 1"));
    std::fs::write(stage.path("s.db.json"), "no manifest").expect("write it");
    assert_eq!(mend(&look().1, "warn", "does not match"), format!("ctlstore snapshot inspect {url}"));
}

#[test]
fn what_a_server_and_its_user_lack_is_named_and_the_line_mends_it() {
    let server =
        PrivateServer::start_with(Flavour::MariaDb, &["--max-allowed-packet=1M", "--loose-skip-innodb-doublewrite"]);
    server.execute("CREATE DATABASE ctldb");
    server.execute("CREATE USER 'ctl'@'127.0.0.1' IDENTIFIED BY 'pw-of-ctl'");
    server.execute("GRANT SELECT, INSERT ON ctldb.* TO 'ctl'@'127.0.0.1'");
    let config = format!("ctldb.url = 'mysql://ctl:pw-of-ctl@127.0.0.1:{}/ctldb'", server.port());
    let look = || doctor(&config, &["--role", "executive"]);
    let (code, findings) = look();
    assert_eq!(code, Some(1));
    let grant = mend(&findings, "fail", "may not UPDATE, DELETE, CREATE, ALTER in ctldb");
    assert_eq!(grant, "GRANT UPDATE, DELETE, CREATE, ALTER ON `ctldb`.* TO 'ctl'@'127.0.0.1';");
    let packet = mend(&findings, "fail", "max_allowed_packet is 1048576");
    let flush = mend(&findings, "warn", "is not flushed to the disk");
    assert!(!format!("{findings:?}").contains("pw-of-ctl"));
    for line in [grant, packet, flush] {
        server.execute(line.trim_end_matches(';'));
    }
    let (code, findings) = look();
    assert_eq!((code, findings.iter().filter(|f| f["level"] != "ok").count()), (Some(0), 0), "{findings:#?}");

    server.execute(
        "CREATE TABLE ctldb.locks (id VARCHAR(191) PRIMARY KEY, clock BIGINT NOT NULL DEFAULT 0) ENGINE = MyISAM",
    );
    let (_, findings) = look();
    let engine = mend(&findings, "fail", "table locks is in MyISAM");
    let row = mend(&findings, "fail", "the row 'ledger' of table locks is missing");
    for line in [engine, row] {
        sql::query(&server.url("ctldb"), line.trim_end_matches(';')).expect("the mend runs");
    }
    let (code, findings) = look();
    assert_eq!(code, Some(0), "{findings:#?}");
}

#[test]
fn keys_that_an_older_table_would_merge_are_named_and_the_line_mends_them() {
    let database = support::mariadb();
    for statement in support::original::SCHEMA {
        database.query(statement);
    }
    database.query("CREATE TABLE fam___old (id VARCHAR(191), v TEXT, PRIMARY KEY (id)) COLLATE utf8mb4_unicode_ci");
    let config = format!("ctldb.url = {:?}", database.url);
    let (code, findings) = doctor(&config, &["--role", "executive"]);
    assert_eq!(code, Some(0));
    let line = mend(&findings, "warn", "1 key columns, of fam___old first");
    database.query(line.trim_end_matches(';'));
    let (_, findings) = doctor(&config, &["--role", "executive"]);
    assert!(!findings.iter().any(|f| f["what"].as_str().unwrap().contains("key columns")), "{findings:#?}");
}

#[test]
fn a_server_that_can_t_be_asked_is_told_by_its_reason() {
    let (code, findings) = doctor("ctldb.url = 'mysql://root@127.0.0.1:1/ctldb'", &["--role", "reflector"]);
    assert_eq!(code, Some(1));
    let refused = mend(&findings, "fail", "ctldb: 127.0.0.1:1: Connection refused");
    assert!(refused.starts_with("ctldb.url = mysql://"), "{findings:?}");
    let (_, findings) = doctor("ctldb.url = 'mysql://root@[::1]:1/ctldb'", &["--role", "executive"]);
    mend(&findings, "fail", "ctldb: [::1]:1: ");
    let database = support::mariadb();
    let wrong = database.url.replace("root@", "nobody:secret-word@");
    let (code, findings) = doctor(&format!("ctldb.url = {wrong:?}"), &["--role", "executive"]);
    assert_eq!(code, Some(1));
    let denied = mend(&findings, "fail", "Access denied");
    assert_eq!(denied, "ctldb.password_file = a file with this user's password");
    let port = wrong.rsplit_once(':').and_then(|(_, rest)| rest.split_once('/')).expect("a port").0;
    mend(&findings, "fail", &format!("ctldb: 127.0.0.1:{port}: "));
    assert!(!format!("{findings:?}").contains("secret-word"));
}

#[test]
fn people_read_a_line_for_each_thing() {
    let directory = scratch_dir();
    let ran = Cli::new(binary(), directory.path())
        .env("CTLSTORE__NODE__ROLES", "reflector")
        .env("CTLSTORE__CTLDB__URL", "sqlite:nowhere/ctldb.db")
        .args(&["doctor"])
        .run();
    assert!(ran.out.contains("\nfail  ctldb.url: no ctldb at "), "{ran:?}");
    assert!(ran.out.contains("\n      mend: ctldb.url = the one that the executive writes\n"), "{ran:?}");
    assert_eq!(ran.fails(1), "1 thing would keep the node from working");
}
