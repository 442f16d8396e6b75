//! `snapshot take`, `snapshot inspect`, `snapshot fetch`, from and to files and a real S3 server.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::fixture::{DEADLINE, Stage, alone, binary, flags};
use support::s3::{Bucket, endpoint, variables};
use support::web::Manners;
use support::{Web, process, wait_until};

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

/// Every file of a directory with its bytes.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |name: String| (name.clone(), fs::read(directory.join(&name)).expect("read"));
    file_names(directory).into_iter().map(read).collect()
}

#[test]
fn what_is_no_snapshot_is_never_written_over() {
    let stage = filled();
    let foreign = |name: &str| {
        let connection = rusqlite::Connection::open(stage.path(&format!("out/{name}"))).expect("open");
        connection.execute_batch("CREATE TABLE orders (id INTEGER); INSERT INTO orders VALUES (1)").expect("fill");
    };
    let gzip = || {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, b"holiday photos").expect("compress");
        encoder.finish().expect("compress")
    };
    for (key, named) in [
        ("notes.txt", "notes.txt"),
        ("photos.gz", "photos.gz"),
        ("orders.db", "orders.db"),
        ("config", "config.json"),
        ("thing.db", "thing.db.lock"),
        ("moved.db", "moved.db-wal"),
        ("link.db", "link.db"),
    ] {
        fs::create_dir(stage.path("out")).expect("make a directory");
        match key {
            "notes.txt" => stage.write("out/notes.txt", "precious"),
            "photos.gz" => fs::write(stage.path("out/photos.gz"), gzip()).expect("write"),
            "orders.db" => foreign("orders.db"),
            "config" => stage.write("out/config.json", "{\"port\": 80}"),
            "thing.db" => stage.write("out/thing.db.lock", "a shopping list"),
            "moved.db" => stage.write("out/moved.db-wal", "of another database"),
            _ => std::os::unix::fs::symlink(stage.node.ldb_path(), stage.path("out/link.db")).expect("link"),
        }
        let before = contents(&stage.path("out"));
        let ran = stage.run(&["snapshot", "take", "--to", &format!("file:out/{key}")]);
        assert!(ran.err.contains(named) && ran.err.contains("is not written over"), "{key}: {ran:?}");
        ran.fails_with(4);
        let after = contents(&stage.path("out"));
        let made = after.keys().filter(|name| !before.contains_key(*name)).collect::<Vec<_>>();
        assert!(made.iter().all(|name| name.ends_with(".lock")), "{key}: {made:?}");
        assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)), "{key}");
        fs::remove_dir_all(stage.path("out")).expect("remove");
    }
}

#[test]
fn files_with_names_like_ours_stay_when_old_snapshots_go() {
    let stage = filled();
    fs::create_dir(stage.path("out")).expect("make a directory");
    let others = ["s.db.1-deadbeef", "s.db.007-0a1b2c3d", "s.db.draft.tmp", "s.db.tmp", "s-20200101T000000Z.db"];
    for name in others {
        stage.write(&format!("out/{name}"), "mine");
    }
    for round in 0..4 {
        stage.cli().args(&["mutate", "-f", "shop"]).input(flags(10 + round)).run().ok();
        stage.caught_up();
        stage.run(&["snapshot", "take", "--to", "file:out/s.db", "--keep", "1"]).ok();
    }
    for name in others {
        assert_eq!(fs::read_to_string(stage.path(&format!("out/{name}"))).ok().as_deref(), Some("mine"), "{name}");
    }
}

#[test]
fn a_store_whose_client_panics_ends_the_command_with_an_error() {
    let stage = filled();
    let directory = stage.directory.path().to_str().expect("a path").to_owned();
    for arguments in [
        vec!["snapshot", "take", "--to", "s3://bucket/s.db"],
        vec!["snapshot", "inspect", "s3://bucket/s.db", "--temp-dir", &directory],
        vec!["snapshot", "fetch", "s3://bucket/s.db", "--to", "copy.db"],
    ] {
        let cli = variables("http://127.0.0.1:1").iter().fold(stage.cli(), |cli, (name, value)| cli.env(name, value));
        let ran = cli.env("CTLSTORE_FAILPOINT", "store-panics").args(&arguments).run();
        assert!(ran.err.contains("the store's client panicked"), "{ran:?}");
        assert!(!ran.err.contains("RUST_BACKTRACE"), "{ran:?}");
        ran.fails_with(1);
        let left = file_names(stage.directory.path());
        assert!(left.is_empty(), "{arguments:?}: {left:?}");
    }
}

#[test]
fn a_variable_that_no_store_can_use_is_named() {
    let stage = filled();
    for (name, value) in [
        ("AWS_ENDPOINT_URL", ""),
        ("AWS_ENDPOINT_URL", "localhost"),
        ("AWS_ACCESS_KEY_ID", "AKIA\n"),
        ("AWS_SESSION_TOKEN", "t\u{e4}"),
        ("AWS_READ_TIMEOUT", "soon"),
        ("http_proxy", "::"),
    ] {
        let run = |arguments: &[&str]| stage.cli().env(name, value).args(arguments).run();
        for arguments in [
            &["snapshot", "take", "--to", "s3://bucket/s.db"][..],
            &["snapshot", "inspect", "s3://bucket/s.db"],
            &["snapshot", "inspect", "s3://bucket/s.db", "--manifest-only"],
        ] {
            let ran = run(arguments);
            assert!(ran.err.contains(&format!("the variable {name} ")), "{name}={value:?}: {ran:?}");
            ran.fails_with(1);
        }
        stage.write("node.toml", "bootstrap.urls = [\"s3://bucket/s.db\"]\nnode.roles = [\"reflector\"]\n");
        let doctor = run(&["doctor", "--config", "node.toml"]);
        assert!(doctor.code == Some(1), "{doctor:?}");
        assert!(doctor.out.contains(&format!("the variable {name} ")), "{doctor:?}");
        assert!(doctor.out.contains(&format!("mend: unset {name}")), "{doctor:?}");
    }
}

#[test]
fn a_url_that_means_nothing_is_refused_at_once_and_shown_without_its_secrets() {
    for (url, why) in [
        ("file:///x/eu#1.db.gz", "%23"),
        ("file:eu#1.db.gz", "%23"),
        ("s3://b/a%2Fb.db", "%2F"),
        ("s3://b//x.db", "empty part"),
        ("s3://b/x/", "names no object"),
        ("s3:///x.db", "bucket"),
        ("s3://b/../x.db", "as a part"),
        ("s3://key:geheim@b/x.db", "credentials"),
        ("https://u:geheim@h/a b.db", "%20"),
        ("https://u:geheim", "not a URL"),
        ("https://h/a.db?X-Amz-Signature=geheim#x", "fragment"),
        ("data:geheim", "base64"),
    ] {
        for arguments in [
            &["snapshot", "take", "--ldb", "none.db", "--to", url][..],
            &["snapshot", "inspect", url],
            &["snapshot", "fetch", url, "--to", "x.db"],
            &["ledger", "prune", "--keep", "7d", "--snapshot", url],
        ] {
            let line = alone(arguments).fails(2);
            assert!(line.contains(why) && !line.contains("geheim"), "{arguments:?}: {line}");
        }
    }
}

#[test]
fn what_a_killed_look_has_left_goes_with_the_next_one() {
    let stage = filled();
    stage.run(&["snapshot", "take", "--to", "file:s.db"]).ok();
    let web = Web::start();
    let url = web.put("s.db", fs::read(stage.path("s.db")).expect("the snapshot"));
    fs::create_dir(stage.path("here")).expect("make a directory");
    for (arguments, ok) in [
        (vec!["snapshot", "inspect", &url, "--temp-dir", "here"], vec![]),
        (vec!["snapshot", "fetch", &url, "--to", "here/copy.db"], vec!["copy.db".to_owned()]),
    ] {
        web.behave(Manners { slow: Some(64 * 1024), ..Manners::default() });
        let mut command = Command::new(binary());
        command.current_dir(stage.directory.path()).args(&arguments).stderr(Stdio::null()).stdout(Stdio::null());
        let mut child = process::spawn(command);
        let has_bytes = || {
            let sizes = file_names(&stage.path("here")).into_iter();
            sizes.map(|name| fs::metadata(stage.path("here").join(name)).map_or(0, |file| file.len())).sum::<u64>() > 0
        };
        wait_until("something was downloaded", DEADLINE, has_bytes);
        child.kill().expect("kill -9");
        child.wait().expect("its end");
        assert!(has_bytes(), "a kill leaves what was downloaded");
        web.behave(Manners::default());
        stage.run(&arguments).ok();
        assert_eq!(file_names(&stage.path("here")), ok, "{arguments:?}");
    }
}
