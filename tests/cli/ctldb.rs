//! `ctldb backup`, `ctldb restore`, `ctldb-schema`.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::fixture::{Stage, alone, binary};
use support::{Client, scratch_dir, sql};

const DEADLINE: Duration = Duration::from_secs(60);

fn rows(path: &str) -> String {
    let rows = sql::query(&format!("sqlite:{path}"), "SELECT COUNT(*) FROM fam___tab").expect("count the rows");
    rows[0][0].clone().expect("a count")
}

#[test]
fn a_backup_under_writes_is_whole_and_restored_it_is_what_it_was() {
    let stage = Stage::new();
    let client = Client::registered(stage.process.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(0, "before")]);
    let ctldb = stage.ctldb_url();
    let done = AtomicBool::new(false);
    let backups = std::thread::scope(|scope| {
        scope.spawn(|| {
            for id in 1.. {
                client.upsert("fam", "tab", &[(id, "v"), (-id, "v")]);
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let backups: Vec<_> = (0..5)
            .map(|i| {
                let name = format!("backup-{i}.db");
                let facts = stage.run(&["ctldb", "backup", "--ctldb", &ctldb, &name, "--json"]);
                (name, facts)
            })
            .collect();
        done.store(true, Ordering::Relaxed);
        backups
    });
    for (name, facts) in backups {
        let facts = facts.json();
        let path = stage.path(&name);
        let of = |sql: &str| sql::query(&format!("sqlite:{}", path.display()), sql).unwrap()[0][0].clone().unwrap();
        assert_eq!(of("PRAGMA integrity_check"), "ok");
        assert_eq!(of("SELECT MAX(seq) FROM ctlstore_dml_ledger"), facts["last_seq"].to_string());
        // Each request wrote two rows and four ledger rows, or nothing.
        let seq = facts["last_seq"].as_i64().unwrap();
        assert_eq!((seq - 2) % 4, 0, "a whole number of requests");
        assert_eq!(of("SELECT COUNT(*) FROM fam___tab"), (1 + (seq - 2) / 2).to_string());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    }
    let backup = stage.path("backup-2.db");
    let in_backup = rows(backup.to_str().unwrap());

    let restore = |more: &[&str]| stage.run(&[&["ctldb", "restore", "--ctldb", &ctldb, "backup-2.db"], more].concat());
    let in_use = restore(&["--force"]).fails(4);
    assert!(in_use.ends_with(&format!("is in use (pid {}); stop the node first", stage.process.pid())), "{in_use}");
    let Stage { node, mut process, directory } = stage;
    // Killed, so that its WAL is still to be moved into the database.
    process.kill9();
    let run = |arguments: &[&str]| crate::fixture::Cli::new(binary(), directory.path()).args(arguments).run();
    let arguments = ["ctldb", "restore", "--ctldb", &ctldb, "backup-2.db"];
    assert!(run(&arguments).fails(4).ends_with("is there already; --force replaces it and keeps it beside"));
    let path = node.data_dir().join("ctldb.db");
    let at_the_end = rows(path.to_str().unwrap());
    let restored = run(&[&arguments[..], &["--force"]].concat());
    assert!(restored.err.ends_with("ctldb.db.replaced\n"), "{restored:?}");
    assert!(restored.ok().starts_with("restored "));
    assert_eq!(rows(path.to_str().unwrap()), in_backup);
    assert_eq!(rows(&format!("{}.replaced", path.display())), at_the_end);

    // An LDB that has more stops loudly; one that begins anew follows.
    let ldb = node.data_dir().join("fresh.db");
    let process = node.set("ldb.path", ldb.to_str().unwrap()).set("changelog.path", "fresh.log").start();
    let client = Client::new(process.executive_url());
    client.upsert("fam", "tab", &[(1_000_000, "after")]);
    support::client::wait_for_value(&process.reader_url(), "fam", "tab", 1_000_000, "after");
    let left: Vec<String> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".db"))
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn what_is_no_backup_of_a_ctldb_is_not_restored() {
    let stage = Stage::furnished();
    let ctldb = stage.ctldb_url();
    let Stage { mut process, directory, .. } = stage;
    let run = |arguments: &[&str]| crate::fixture::Cli::new(binary(), directory.path()).args(arguments).run();
    run(&["ctldb", "backup", "--ctldb", &ctldb, "good.db"]).ok();
    assert!(run(&["ctldb", "backup", "--ctldb", &ctldb, "good.db"]).fails(4).contains("good.db is there already"));
    run(&["ctldb", "backup", "--ctldb", &ctldb, "good.db", "--force"]).ok();
    let itself = run(&["ctldb", "backup", "--ctldb", &ctldb, ctldb.strip_prefix("sqlite:").unwrap(), "--force"]);
    assert!(itself.fails(2).ends_with("ctldb.db is the ctldb itself"));
    process.stop(DEADLINE);
    let good = std::fs::read(directory.path().join("good.db")).unwrap();
    let mut torn = good.clone();
    torn.truncate(good.len() / 2);
    std::fs::write(directory.path().join("torn.db"), torn).unwrap();
    std::fs::write(directory.path().join("text.db"), "no database").unwrap();
    sql::query(&format!("sqlite:{}/other.db", directory.path().display()), "CREATE TABLE t (a)").unwrap();
    let target = format!("sqlite:{}/target.db", directory.path().display());
    for bad in ["torn.db", "text.db", "other.db"] {
        let said = run(&["ctldb", "restore", "--ctldb", &target, bad]).fails(4);
        assert!(said.starts_with(bad), "{said}");
    }
    assert!(run(&["ctldb", "restore", "--ctldb", &target, "nowhere.db"]).fails(3).starts_with("nowhere.db: "));
    assert!(!directory.path().join("target.db").exists());
    run(&["ctldb", "restore", "--ctldb", &target, "good.db"]).ok();
    let ledger = sql::query(&target, "SELECT COUNT(*) FROM ctlstore_dml_ledger").unwrap();
    assert_eq!(ledger[0][0].as_deref(), Some("1"));
    assert!(run(&["ctldb", "backup", "--ctldb", "sqlite:nowhere.db", "b.db"]).fails(3).starts_with("no ctldb at "));
}

#[test]
fn for_a_server_its_own_tools_are_named() {
    let backup = alone(&["ctldb", "backup", "--ctldb", "mysql://user@host/ctldb", "backup.sql"]).fails(2);
    assert!(backup.contains("mysqldump --single-transaction"), "{backup}");
    let restore = alone(&["ctldb", "restore", "--ctldb", "mysql://user@host/ctldb", "backup.sql"]).fails(2);
    assert!(restore.contains("mysql DATABASE < FILE"), "{restore}");
}

#[test]
fn the_schema_that_is_printed_makes_a_ctldb_that_an_executive_takes() {
    let directory = scratch_dir();
    let path = directory.path().join("ctldb.db");
    let sqlite = alone(&["ctldb-schema", "sqlite"]).ok();
    rusqlite::Connection::open(&path).unwrap().execute_batch(&sqlite).expect("run the schema");
    Stage::with(|node| node.ctldb(&format!("sqlite:{}", path.display()))).furnish();

    let database = support::mariadb();
    let mysql = alone(&["ctldb-schema"]).ok();
    for statement in mysql.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
        database.query(statement);
    }
    Stage::with(|node| node.ctldb(&database.url)).furnish();
    let renamed = alone(&["ctldb-schema", "mysql", "--ledger-table", "my_ledger", "--collation", "utf8mb4_nopad_bin"]);
    let renamed = renamed.ok();
    assert!(renamed.contains("my_ledger") && renamed.contains("COLLATE utf8mb4_nopad_bin"), "{renamed}");
    for bad in [["--ledger-table", "a b"], ["--collation", "x; DROP"]] {
        alone(&[&["ctldb-schema"], &bad[..]].concat()).fails(2);
    }
}

#[test]
fn a_restore_that_is_killed_leaves_the_ctldb_or_the_backup_whole() {
    let stage = Stage::new();
    let client = Client::registered(stage.process.executive_url());
    client.create_simple_table("fam", "tab");
    let ctldb = stage.ctldb_url();
    stage.run(&["ctldb", "backup", "--ctldb", &ctldb, "empty.db"]).ok();
    client.upsert("fam", "tab", &[(1, "v"), (2, "v"), (3, "v")]);
    let Stage { node, mut process, directory } = stage;
    process.kill9();
    let path = node.data_dir().join("ctldb.db");
    // Before anything is replaced, with the old one set aside, and at once after the new one has its name.
    for (place, found) in [("restore-copied", "3"), ("restore-set-aside", "3"), ("restore-done", "0")] {
        let mut command = Command::new(binary());
        command.args(["ctldb", "restore", "--force", "--ctldb", &ctldb, "empty.db"]).current_dir(directory.path());
        command.env("CTLSTORE_FAILPOINT", place).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = support::process::spawn(command).wait().expect("wait for the command");
        assert!(!status.success(), "{place} was not reached");
        assert_eq!(rows(path.to_str().unwrap()), found, "{place}");
        let kept = std::fs::read_dir(node.data_dir()).unwrap().map(|entry| entry.unwrap().path());
        let kept: Vec<_> = kept.filter(|path| path.to_str().unwrap().contains(".replaced")).collect();
        for path in kept {
            assert_eq!(rows(path.to_str().unwrap()), "3", "{place}");
        }
    }
}
