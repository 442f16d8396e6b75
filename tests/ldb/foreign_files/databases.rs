//! Other programs' files at the paths of a node's LDB and ctldb.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;

use super::{DEADLINE, NOTES, all_of, assert_refused, make_database, their_directory};
use support::client::{role_status, wait_for_value};
use support::{Client, Node, scratch_dir, wait_until};

const LDB: &str = "CREATE TABLE _ldb_seq (id INTEGER PRIMARY KEY NOT NULL, seq BIGINT NOT NULL);
CREATE TABLE _ldb_last_update (name STRING PRIMARY KEY NOT NULL, timestamp DATETIME NOT NULL);";
const CTLDB: &str = "CREATE TABLE families (id INTEGER PRIMARY KEY AUTOINCREMENT, name VARCHAR(191) NOT NULL UNIQUE);
CREATE TABLE mutators (writer VARCHAR(191) PRIMARY KEY, secret VARCHAR(255), cookie BLOB(1024) NOT NULL, clock INTEGER);";
const WAL: &str = "PRAGMA journal_mode = WAL;";

/// Leaves `path` as a killed program leaves a database in WAL mode: all of its content is in the -wal.
fn left_by_a_killed_program(path: &Path, with_shm: bool) {
    let elsewhere = scratch_dir();
    let original = elsewhere.path().join("open.db");
    let connection = Connection::open(&original).expect("make a database");
    connection.execute_batch(&format!("{WAL}{NOTES}")).expect("fill it");
    for suffix in ["", "-wal", "-shm"].into_iter().filter(|suffix| with_shm || *suffix != "-shm") {
        let named = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        fs::copy(named(&original), named(path)).expect("copy it");
    }
}

/// Each case makes another program's file at a path, and has the expected errors at the LDB's and at the
/// ctldb's path.
type Case = (fn(&Path), &'static str);

const FOREIGN: &[Case] = &[
    (|path| make_database(path, NOTES), "but a database of another program (it has notes)"),
    (|path| make_database(path, &format!("{WAL}{NOTES}")), "but a database of another program (it has notes)"),
    (|path| left_by_a_killed_program(path, false), "but a database of another program (it has notes)"),
    (
        |path| make_database(path, "PRAGMA application_id = 7; PRAGMA user_version = 3"),
        "(application_id 7, user_version 3)",
    ),
    (|path| make_database(path, "CREATE VIEW v AS SELECT 1 AS a"), "but a database of another program (it has v)"),
    // A table's name alone does not make an LDB.
    (|path| make_database(path, "CREATE TABLE _ldb_seq (a); CREATE TABLE families (a)"), "is not "),
];

#[test]
fn another_program_s_database_at_the_ldb_s_path_ends_the_start_and_stays_as_it_is() {
    let own: &[Case] = &[
        (|path| make_database(path, CTLDB), "is not an ldb but a ctldb"),
        (
            |path| fs::write(path, "some notes\n".repeat(500)).expect("write"),
            "is not an ldb but a file of another kind",
        ),
        (|path| fs::write(path, [0x89, b'P', b'N', b'G']).expect("write"), "is not an ldb but a file of another kind"),
    ];
    for (make, reason) in FOREIGN.iter().chain(own) {
        for url in ["", "file:snapshots/good.db"] {
            let node = Node::new().set("bootstrap.urls", url);
            let theirs = their_directory(&node);
            let path = theirs.join("their.db");
            make(&path);
            let node = node.set("ldb.path", path.display().to_string());
            assert_refused(&node, &theirs, reason);
            // The same through a link that an operator may have made.
            fs::create_dir_all(node.data_dir()).expect("make the data directory");
            symlink(&path, node.data_dir().join("link.db")).expect("link it");
            assert_refused(&node.clone().set("ldb.path", "link.db"), &theirs, reason);
            assert_eq!(fs::read_link(node.data_dir().join("link.db")).expect("still a link"), path);
            assert!(!node.data_dir().join("snapshots/snapshot.db").exists(), "it was published");
        }
    }
    // One with a -shm too, whose locks are not data.
    let node = Node::new();
    let theirs = their_directory(&node);
    left_by_a_killed_program(&theirs.join("their.db"), true);
    let before = all_of(&theirs);
    let mut process = node.set("ldb.path", theirs.join("their.db").display().to_string()).spawn();
    assert_eq!(process.wait_exit(DEADLINE).code(), Some(1));
    let data = |all: super::BTreeMap<PathBuf, _>| all.into_iter().filter(|(path, _)| !path.ends_with("their.db-shm"));
    assert!(data(all_of(&theirs)).eq(data(before)));
}

#[test]
fn another_program_s_database_at_the_ctldb_s_path_ends_the_start_and_stays_as_it_is() {
    let own: &[Case] = &[
        (|path| make_database(path, LDB), "is not a ctldb but an ldb"),
        (|path| make_database(path, &format!("{WAL}{LDB}")), "is not a ctldb but an ldb"),
        (|path| fs::write(path, "some notes\n".repeat(500)).expect("write"), "their.db: file is not a database"),
    ];
    for (make, reason) in FOREIGN.iter().chain(own) {
        let node = Node::new();
        let theirs = their_directory(&node);
        let path = theirs.join("their.db");
        make(&path);
        assert_refused(&node.ctldb(&format!("sqlite:{}", path.display())), &theirs, reason);
    }
    // A reader on the host goes on trying, and makes no files beside it either.
    let node = Node::new().roles(&["reflector"]);
    let theirs = their_directory(&node);
    make_database(&theirs.join("their.db"), &format!("{WAL}{NOTES}"));
    let before = all_of(&theirs);
    let process = node.ctldb(&format!("sqlite:{}", theirs.join("their.db").display())).start();
    wait_until("the poller names it", DEADLINE, || {
        role_status(&process.ops_url(), "poller")["last_error"].to_string().contains("has no ledger table")
    });
    assert!(all_of(&theirs) == before);
}

#[test]
fn files_of_the_original_and_files_without_a_byte_are_taken_as_they_are() {
    for (ldb, ctldb) in [
        (format!("{WAL}{LDB}"), format!("{WAL}{CTLDB}")),
        (LDB.to_owned(), CTLDB.to_owned()),
        // Programs that end early leave such files.
        (String::new(), String::new()),
        (WAL.to_owned(), WAL.to_owned()),
        // Other programs have tables of families, too; of mutators none has.
        (LDB.lines().next().unwrap_or_default().to_owned(), CTLDB.lines().nth(1).unwrap_or_default().to_owned()),
    ] {
        let node = Node::new();
        fs::create_dir_all(node.data_dir()).expect("make the data directory");
        for (name, sql) in [("ldb.db", &ldb), ("ctldb.db", &ctldb)] {
            fs::write(node.data_dir().join(name), "").expect("make a file");
            make_database(&node.data_dir().join(name), sql);
        }
        let process = node.start();
        let client = Client::registered(process.executive_url());
        client.create_simple_table("fam", "tab");
        client.upsert("fam", "tab", &[(1, "one")]);
        wait_for_value(&process.reader_url(), "fam", "tab", 1, "one");
        assert!(fs::symlink_metadata(node.ldb_path()).expect("look at the ldb").is_file(), "it was replaced");
    }
}

#[test]
fn another_program_s_database_that_takes_the_ldb_s_place_is_neither_written_nor_replaced() {
    let origin = Node::new().roles(&["executive", "reflector", "snapshotter"]).set("snapshotter.interval", "100ms");
    let source = origin.start();
    let client = Client::registered(source.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "one")]);
    let snapshot = origin.data_dir().join("snapshots/snapshot.db");
    wait_until("a snapshot is there", DEADLINE, || snapshot.exists());
    let host = Node::new()
        .roles(&["reflector", "reader"])
        .ctldb(&format!("sqlite:{}", origin.data_dir().join("ctldb.db").display()))
        .set("bootstrap.urls", format!("file:{}", snapshot.display()));
    let mut process = host.start();
    wait_for_value(&process.reader_url(), "fam", "tab", 1, "one");
    let theirs = host.data_dir().join("theirs.db");
    make_database(&theirs, NOTES);
    let bytes = fs::read(&theirs).expect("read");
    fs::rename(&theirs, host.ldb_path()).expect("put it in the place");
    client.upsert("fam", "tab", &[(1, "meanwhile")]);
    wait_until("the applier sees it", DEADLINE, || {
        role_status(&process.ops_url(), "applier").to_string().contains("ldb.db was deleted or replaced")
    });
    process.stop(DEADLINE);
    assert_eq!(fs::read(host.ldb_path()).expect("read"), bytes);
    let mut process = host.spawn();
    assert_eq!(process.wait_exit(DEADLINE).code(), Some(1));
    assert!(process.log().contains("ldb.db is not an ldb but a database of another program (it has notes)"));
    assert_eq!(fs::read(host.ldb_path()).expect("read"), bytes);
    // The advice in the error works.
    fs::rename(host.ldb_path(), &theirs).expect("move it away");
    let process = host.start();
    wait_for_value(&process.reader_url(), "fam", "tab", 1, "meanwhile");
    client.upsert("fam", "tab", &[(1, "two")]);
    wait_for_value(&process.reader_url(), "fam", "tab", 1, "two");
    assert_eq!(fs::read(&theirs).expect("read"), bytes);
}

#[test]
fn one_file_under_two_settings_is_told_however_it_is_spelt() {
    let node = Node::new();
    fs::create_dir_all(node.data_dir().join("sub")).expect("make a directory");
    let refused = |node: Node, line: &str| {
        let mut process = node.spawn();
        assert_eq!(process.wait_exit(DEADLINE).code(), Some(2), "{line}");
        assert!(process.log().contains(line), "{line} is not in {}", process.log());
    };
    let ldb = |path: &str| node.clone().set("ldb.path", path);
    refused(ldb("sub/../ctldb.db"), "ctldb.url and ldb.path are the same file");
    refused(ldb("sub/../change.log"), "changelog.path and ldb.path are the same file");
    fs::write(node.data_dir().join("ctldb.db"), "").expect("make a file");
    symlink("ctldb.db", node.data_dir().join("link.db")).expect("link it");
    refused(ldb("link.db"), "ctldb.url and ldb.path are the same file");
    fs::hard_link(node.data_dir().join("ctldb.db"), node.data_dir().join("second.db")).expect("link it");
    refused(ldb("second.db"), "ctldb.url and ldb.path are the same file");
}

#[test]
fn another_program_s_file_at_the_changelog_s_path_gets_no_line() {
    for text in ["127.0.0.1 localhost\n", "{\"seq\":1,\"msg\":\"theirs\"}\n", "\n", "no line end"] {
        let node = Node::new();
        let theirs = their_directory(&node).join("their.log");
        fs::write(&theirs, text).expect("write");
        let node = node.set("changelog.path", theirs.display().to_string());
        let process = node.start();
        let client = Client::registered(process.executive_url());
        client.create_simple_table("fam", "tab");
        client.upsert("fam", "tab", &[(1, "one")]);
        wait_for_value(&process.reader_url(), "fam", "tab", 1, "one");
        wait_until("it is told", DEADLINE, || {
            role_status(&process.ops_url(), "applier").to_string().contains("it is not a changelog")
        });
        assert_eq!(fs::read_to_string(&theirs).expect("read"), text);
        // The advice in the error works.
        fs::remove_file(&theirs).expect("move it away");
        client.upsert("fam", "tab", &[(2, "two")]);
        wait_until("it is written", DEADLINE, || {
            fs::read_to_string(&theirs).is_ok_and(|text| text.contains("\"seq\""))
        });
    }
}

#[test]
fn commands_leave_another_program_s_database_as_it_is() {
    let directory = scratch_dir();
    let theirs = directory.path().join("theirs");
    fs::create_dir(&theirs).expect("make a directory");
    make_database(&theirs.join("their.db"), &format!("{WAL}{NOTES}"));
    make_database(&directory.path().join("backup.db"), &super::ctldb_schema());
    let before = all_of(&theirs);
    let run = |arguments: &[&str], reason: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ctlstore"));
        command.current_dir(directory.path()).args(arguments).env("CTLSTORE__NODE__DATA_DIR", directory.path());
        let output = command.output().expect("run it");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success() && said.contains(reason), "{arguments:?}: {said}");
        assert!(all_of(&theirs) == before, "{arguments:?}");
    };
    let ldb = ["--ldb", "theirs/their.db"];
    let no_ldb = "is not an ldb but a database of another program";
    let no_ctldb = "is not a ctldb but a database of";
    run(&[&["snapshot", "take", "--to", "file:snapshot.db"], &ldb[..]].concat(), no_ldb);
    run(&[&["export", "-f", "fam"], &ldb[..]].concat(), no_ldb);
    run(&[&["read-seq"], &ldb[..]].concat(), no_ldb);
    let ctldb = ["--ctldb", "sqlite:theirs/their.db"];
    run(&[&["ctldb", "backup"], &ctldb[..], &["copy.db"]].concat(), no_ctldb);
    run(&[&["ctldb", "restore", "--force"], &ctldb[..], &["backup.db"]].concat(), no_ctldb);
    assert!(!directory.path().join("copy.db").exists() && !directory.path().join("snapshot.db").exists());
    let config = directory.path().join("c.toml");
    fs::write(&config, "ctldb.url = \"sqlite:theirs/their.db\"\nldb.path = \"theirs/their.db2\"\n").expect("write");
    let config = config.display().to_string();
    run(&["ledger", "prune", "--keep", "1d", "--config", &config], no_ctldb);
    run(&["doctor", "--role", "executive", "--config", &config], no_ctldb);
}
