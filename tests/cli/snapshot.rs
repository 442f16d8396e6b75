//! `snapshot take`, `snapshot inspect`, `snapshot fetch`, from and to files and a real S3 server.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::fixture::{Stage, alone, flags};
use support::s3::{Bucket, endpoint, variables};

/// A node whose LDB has 300 rows.
fn filled() -> Stage {
    let stage = Stage::furnished();
    stage.cli().args(&["mutate", "-f", "shop"]).input(flags(300)).run().ok();
    stage.caught_up();
    stage
}

fn file_names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("list the directory");
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_snapshot_that_was_taken_can_be_looked_at_and_fetched() {
    let stage = filled();
    for name in ["plain.db", "small.db.gz", "small.db.zst"] {
        let url = format!("file:{name}");
        let taken = stage.run(&["snapshot", "take", "--to", &url, "--json"]).json();
        assert_eq!(taken["published"], true);
        assert_eq!(taken["seq"], stage.last_seq());

        let facts = stage.run(&["snapshot", "inspect", &url, "--json"]).json();
        assert_eq!(facts["checked"], true);
        assert_eq!(facts["snapshot"]["seq"], taken["seq"]);
        let table = &facts["snapshot"]["manifest"]["tables"][0];
        assert_eq!((&table["name"], &table["rows"]), (&"shop___flags".into(), &300.into()));

        let copy = format!("copy-of-{name}");
        stage.run(&["snapshot", "fetch", &url, "--to", &copy]).ok();
        let rows = stage.run(&["rows", "--ldb", &copy, "-f", "shop", "-t", "flags", "k7"]).ok();
        assert!(rows.starts_with("k7\t7"), "{rows}");
    }
    assert!(!file_names(stage.directory.path()).iter().any(|name| name.contains(".tmp")));
}

#[test]
fn each_check_is_told_with_its_outcome() {
    let stage = filled();
    stage.run(&["snapshot", "take", "--to", "file:s.db"]).ok();
    let checks = |arguments: &[&str]| {
        let facts = stage.run(&[&["snapshot", "inspect", "--json"], arguments].concat()).json();
        let checks = facts["checks"].as_array().expect("checks").clone();
        let told =
            |check: &Value| format!("{}: {}", check["check"].as_str().unwrap(), check["outcome"].as_str().unwrap());
        (checks.iter().map(told).collect::<Vec<_>>(), facts["snapshot"]["tables"].clone())
    };
    let (all, tables) = checks(&["file:s.db"]);
    let names = ["sizes and hashes", "quick_check", "tables of an ldb", "seq and ledger", "rows and digests"];
    assert_eq!(all, names.map(|name| format!("{name}: passed")));
    let (read, _) = checks(&["file:s.db", "--manifest-only"]);
    assert_eq!(read, names.map(|name| format!("{name}: not_made")));
    // Without a manifest there is nothing to compare with, and what was found is told all the same.
    fs::remove_file(stage.path("s.db.json")).expect("remove the manifest");
    let (found, same_tables) = checks(&["file:s.db"]);
    let outcomes = ["impossible", "passed", "passed", "impossible", "impossible"];
    assert_eq!(found, std::array::from_fn::<_, 5, _>(|i| format!("{}: {}", names[i], outcomes[i])));
    assert_eq!(same_tables, tables);
    let shown = stage.run(&["snapshot", "inspect", "file:s.db"]).ok();
    assert!(shown.contains("seq and ledger\tnothing to compare with\n"), "{shown}");
    assert!(shown.contains("shop___flags\t300\t"), "{shown}");
}

#[test]
fn a_second_take_of_the_same_seq_has_nothing_to_do() {
    let stage = filled();
    stage.run(&["snapshot", "take", "--to", "file:s.db"]).ok();
    let again = stage.run(&["snapshot", "take", "--to", "file:s.db", "--json"]).json();
    assert_eq!(again["published"], false);
}

#[test]
fn snapshots_go_to_and_come_from_an_s3_server() {
    let stage = filled();
    let bucket = Bucket::new();
    let url = bucket.url("some/snapshot.db.zst");
    let s3 = |arguments: &[&str]| {
        let cli = variables(&endpoint()).into_iter().fold(stage.cli(), |cli, (name, value)| cli.env(&name, &value));
        cli.args(arguments).run()
    };
    s3(&["snapshot", "take", "--to", &url]).ok();
    let shown = s3(&["snapshot", "inspect", &url]).ok();
    let matched = "sizes and hashes\tpassed, as the manifest says\n";
    assert!(shown.contains(matched) && shown.contains("shop___flags\t300\t"), "{shown}");
    s3(&["snapshot", "fetch", &url, "--to", "from-s3.db"]).ok();
    assert_eq!(stage.run(&["read-seq", "--ldb", "from-s3.db"]).ok().trim(), stage.last_seq().to_string());
    let missing = bucket.url("other.db");
    s3(&["snapshot", "inspect", &missing]).fails_with(3);
}

#[test]
fn what_is_there_is_not_written_over_by_mistake() {
    let stage = filled();
    stage.run(&["snapshot", "take", "--to", "file:s.db"]).ok();
    stage.write("mine.db", "precious");
    let line = stage.run(&["snapshot", "fetch", "file:s.db", "--to", "mine.db"]).fails(4);
    assert!(line.contains("mine.db is there already; --force"), "{line}");
    assert_eq!(fs::read_to_string(stage.path("mine.db")).unwrap(), "precious");
    stage.run(&["snapshot", "fetch", "file:s.db", "--to", "mine.db", "--force"]).ok();
    stage.write("mine.db-wal", "the wal of another database");
    let line = stage.run(&["snapshot", "fetch", "file:s.db", "--to", "mine.db", "--force"]).fails(4);
    assert!(line.contains("-wal"), "{line}");
    // The node's own LDB is a link, with a WAL at its end.
    let ldb = stage.node.ldb_path();
    let line = stage.run(&["snapshot", "fetch", "file:s.db", "--to", ldb.to_str().unwrap(), "--force"]).fails(4);
    assert!(line.contains("is a link"), "{line}");
}

#[test]
fn a_damaged_snapshot_fails_its_checks_and_leaves_nothing() {
    let stage = filled();
    stage.run(&["snapshot", "take", "--to", "file:s.db"]).ok();
    for name in
        file_names(stage.directory.path()).iter().filter(|name| name.starts_with("s.db") && !name.ends_with("json"))
    {
        let mut bytes = fs::read(stage.path(name)).unwrap();
        if bytes.len() > 4096 {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0xff;
            // The names are links to one file, which must not be mended by the second.
            fs::remove_file(stage.path(name)).unwrap();
            fs::write(stage.path(name), bytes).unwrap();
        }
    }
    stage.run(&["snapshot", "inspect", "file:s.db"]).fails_with(1);
    stage.run(&["snapshot", "fetch", "file:s.db", "--to", "bad.db"]).fails_with(1);
    assert!(!file_names(stage.directory.path()).iter().any(|name| name.starts_with("bad.db")));
}

#[test]
fn mistakes_are_told_in_a_line() {
    let line = alone(&["snapshot", "take", "--ldb", "none.db", "--to", "file:s.db"]).fails(3);
    assert!(line.starts_with("no ldb at none.db; "), "{line}");
    let line = alone(&["snapshot", "take", "--ldb", "/etc/passwd", "--to", "file:s.db"]).fails(1);
    assert_eq!(line, "ldb /etc/passwd can't be read: file is not a database");
    let line = alone(&["snapshot", "take", "--ldb", "/etc", "--to", "file:s.db"]).fails(2);
    assert!(line.starts_with("/etc is a directory; "), "{line}");
    let path = alone(&["snapshot", "inspect", "s.db"]);
    assert!(path.code == Some(2) && path.err.contains("no URL; a file is file:PATH"), "{path:?}");
    let line = alone(&["snapshot", "fetch", "file:s.db", "--to", "nowhere/s.db"]).fails(3);
    assert_eq!(line, "no directory nowhere");
    let line = alone(&["snapshot", "take", "--ldb", "none.db", "--to", "https://host/s.db"]).fails(2);
    assert!(line.contains("only read"), "{line}");
    let line = alone(&["snapshot", "inspect", "file:none.db", "--manifest-only"]).fails(3);
    assert!(line.contains("no manifest at"), "{line}");
    alone(&["snapshot", "inspect", "file:none.db"]).fails_with(3);
}
