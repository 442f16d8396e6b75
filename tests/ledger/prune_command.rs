//! `ctlstore ledger prune` as people run it: on a ctldb of every kind, by snapshots that a real snapshotter published.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ctlstore_ctldb::Ctldb;
use support::ctldb::{Step, make_table, prepared, write};
use support::prune::*;
use support::{Client, Node, TestDatabase, every_ctldb, original, process, scratch_dir, wait_until};

/// A ledger of `rows` rows that an LDB can follow, all older than a day.
async fn old_ledger(database: &TestDatabase, rows: usize) {
    let ctldb = prepared(database).await;
    make_table(&ctldb, "fam___tab").await;
    write(&ctldb, vec![Step::Append((2..=rows).map(upsert).collect())]).await;
    ctldb.close().await;
    age(database, rows as i64);
}

#[tokio::test]
async fn rows_that_a_published_snapshot_has_are_deleted_and_a_dry_run_says_so_before() {
    for (name, database) in every_ctldb() {
        println!("on {name}");
        let home = scratch_dir();
        old_ledger(&database, 1_000).await;
        let url = publish(&database, &home.path().join("snapshot.db"));
        let id = ledger_id(&database);
        let arguments = ["--keep", "7d", "--snapshot", &url];

        let said = printed(run(&database.url, home.path(), &[&arguments[..], &["--dry-run"]].concat()));
        assert!(said.starts_with("would delete 999 ledger rows ("), "{said}");
        assert!(
            said.contains(", seq 1 to 999\n") && said.contains(&format!("snapshot: {url} at seq 1000\n")),
            "{said}"
        );
        let planned = json(run(&database.url, home.path(), &[&arguments[..], &["--dry-run", "--json"]].concat()));
        assert_eq!(
            (&planned["dry_run"], &planned["rows"], &planned["limit"]),
            (&true.into(), &999.into(), &"last_row".into())
        );
        assert_eq!((ends(&database), mark(&database)), ((1, 1_000, 1_000), None), "a dry run changes nothing");

        let done = json(run(&database.url, home.path(), &[&arguments[..], &["--json"]].concat()));
        assert_eq!((&done["rows"], &done["first_seq"], &done["last_seq"]), (&999.into(), &1.into(), &999.into()));
        assert_eq!((&done["bytes"], &done["low_water_seq"]), (&planned["bytes"], &1_000.into()));
        assert_eq!((&done["snapshot"]["ledger_id"], &done["snapshot"]["seq"]), (&id.into(), &1_000.into()));
        assert_eq!((ends(&database), mark(&database)), ((1_000, 1_000, 1), Some(1_000)));

        let said = printed(run(&database.url, home.path(), &arguments));
        assert!(said.starts_with("nothing to delete\n  because: only the ledger's last transaction is left"), "{said}");
        let left: Vec<_> = fs::read_dir(home.path().join("verifying")).expect("the directory").collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test]
async fn the_snapshot_that_is_furthest_behind_decides() {
    let (database, home) = (support::sqlite(), scratch_dir());
    old_ledger(&database, 100).await;
    let behind = publish(&database, &home.path().join("behind.db"));
    let ctldb = prepared(&database).await;
    write(&ctldb, vec![Step::Append((101..=200).map(upsert).collect())]).await;
    ctldb.close().await;
    age(&database, 200);
    let ahead = publish(&database, &home.path().join("ahead.db"));
    let both = ["--keep", "1h", "--snapshot", &ahead, "--snapshot", &behind];
    let said = printed(run(&database.url, home.path(), &both));
    assert!(said.contains("because: the snapshot ends at seq 100;"), "{said}");
    assert_eq!((ends(&database).0, mark(&database)), (101, Some(101)));
    let said = printed(run(&database.url, home.path(), &both));
    assert!(said.starts_with("nothing to delete\n  because: the snapshot ends at seq 100"), "{said}");
    // One that is not there fails all of it.
    let missing = format!("file://{}", home.path().join("missing.db").display());
    let output = run(&database.url, home.path(), &["--keep", "1h", "--snapshot", &ahead, "--snapshot", &missing]);
    let said = complaint(&output, 3);
    assert!(said.contains("nothing is pruned without a good snapshot") && said.contains("missing.db"), "{said}");
    assert_eq!(ends(&database).0, 101);
}

#[tokio::test]
async fn nothing_is_deleted_on_the_word_of_a_bad_snapshot() {
    let (database, other, home) = (support::sqlite(), support::sqlite(), scratch_dir());
    old_ledger(&database, 300).await;
    old_ledger(&other, 300).await;
    let file = home.path().join("snapshot.db");
    let url = publish(&database, &file);
    let arguments = ["--keep", "7d", "--snapshot", &url];
    // The snapshot of another ctldb.
    let said = complaint(&run(&other.url, home.path(), &arguments), 4);
    assert!(said.contains(&ledger_id(&database)) && said.contains(&ledger_id(&other)), "{said}");
    // Damaged wherever it may be read from.
    for entry in fs::read_dir(home.path()).expect("the directory") {
        let path = entry.expect("an entry").path();
        if path.is_file()
            && path.file_name().is_some_and(|name| name.to_str().is_some_and(|n| n.starts_with("snapshot.db")))
        {
            let mut bytes = fs::read(&path).expect("the snapshot");
            let middle = bytes.len() / 2;
            bytes[middle..].iter_mut().for_each(|byte| *byte = !*byte);
            fs::remove_file(&path).and_then(|()| fs::write(&path, bytes)).expect("damage it");
        }
    }
    let said = complaint(&run(&database.url, home.path(), &arguments), 1);
    assert!(said.contains("nothing is pruned without a good snapshot: the snapshot at file://"), "{said}");
    // Something else altogether.
    fs::write(home.path().join("text"), "no snapshot").expect("write it");
    let text = format!("file://{}", home.path().join("text").display());
    let said = complaint(&run(&database.url, home.path(), &["--keep", "7d", "--snapshot", &text]), 1);
    assert!(said.contains("is no sqlite database"), "{said}");
    for database in [&database, &other] {
        assert_eq!((ends(database), mark(database)), ((1, 300, 300), None));
    }
}

#[tokio::test]
async fn what_the_command_refuses_it_explains() {
    let (database, home) = (support::sqlite(), scratch_dir());
    old_ledger(&database, 10).await;
    let url = publish(&database, &home.path().join("snapshot.db"));
    // No flag, no number of days, no such setting: nothing was tried.
    for wrong in
        [&[][..], &["--keep", "seven"], &["--keep", "7d", "--snapshot", "nowhere"], &["--keep", "7d", "--kepe"]]
    {
        assert_eq!(run(&database.url, home.path(), wrong).status.code(), Some(2), "{wrong:?}");
    }
    // Where the settings' own destination has nothing.
    let said = complaint(&run(&database.url, home.path(), &["--keep", "7d"]), 3);
    assert!(said.contains("snapshots/snapshot.db"), "{said}");
    // A node that runs has its embedded ctldb for itself.
    let node = Node::new().roles(&["executive"]).ctldb(&database.url).start();
    let said = complaint(&run(&database.url, home.path(), &["--keep", "7d", "--snapshot", &url]), 4);
    let words = ["belongs to a node that runs", &format!("pid {}", node.pid()), "executive.ledger_retention"];
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
    let said = printed(run(&database.url, home.path(), &["--keep", "7d", "--snapshot", &url, "--dry-run"]));
    assert!(said.starts_with("would delete 9 ledger rows"), "a dry run works beside it: {said}");
    drop(node);
    assert_eq!(ends(&database), (1, 10, 10));
    let nowhere = format!("sqlite:{}", home.path().join("none.db").display());
    let said = complaint(&run(&nowhere, home.path(), &["--keep", "7d", "--snapshot", &url]), 5);
    assert!(said.contains("none.db"), "{said}");
    let help = text(&run(&database.url, home.path(), &["--help"]).stdout);
    assert!(
        help.contains("Reflectors of the Go program do not") && help.contains("--no-original-reflectors"),
        "{help}"
    );
}

#[tokio::test]
async fn a_ctldb_of_the_original_is_left_alone_and_not_even_asked_for_a_snapshot() {
    for database in [Some(support::mariadb()), support::mysql56()].into_iter().flatten() {
        let home = scratch_dir();
        original::SCHEMA.iter().for_each(|statement| drop(database.query(statement)));
        database.query("INSERT INTO ctlstore_dml_ledger (statement) VALUES ('a'), ('b')");
        let tables = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()";
        let before = number(&database, tables);
        let said = complaint(&run(&database.url, home.path(), &["--keep", "7d"]), 4);
        assert!(said.contains("the original made this ctldb") && said.contains("--no-original-reflectors"), "{said}");
        // It has never seen an executive of ours either.
        let said = complaint(&run(&database.url, home.path(), &["--keep", "7d", "--no-original-reflectors"]), 4);
        assert!(said.contains("has no id yet"), "{said}");
        assert_eq!((number(&database, tables), ends(&database)), (before, (1, 2, 2)));
    }
}

#[tokio::test]
async fn a_signal_ends_it_after_a_whole_transaction() {
    const ROWS: i64 = 40_000;
    // A prune that is over before the signal comes to it proves nothing; the next one is tried.
    let interrupted = async || {
        let (database, home) = (support::sqlite(), scratch_dir());
        old_ledger(&database, ROWS as usize).await;
        let url = publish(&database, &home.path().join("snapshot.db"));
        let arguments = ["--keep", "7d", "--snapshot", &url];
        let mut child = spawn(command(&database.url, home.path(), &arguments));
        wait_until("the first rows are gone", DEADLINE, || mark(&database).is_some());
        process::signal(&child, libc::SIGINT);
        let code = child.wait().expect("it ends").code();
        let (first, last, rows) = ends(&database);
        assert_eq!((mark(&database), last, rows), (Some(first), ROWS, ROWS - first + 1));
        assert_eq!(code, Some(if first < ROWS { 130 } else { 0 }), "it ended at {first}");
        let said = printed(run(&database.url, home.path(), &arguments));
        assert!(said.starts_with(if first < ROWS { "deleted " } else { "nothing to delete" }), "{said}");
        assert_eq!((ends(&database), mark(&database)), ((ROWS, ROWS, 1), Some(ROWS)));
        first < ROWS
    };
    for _ in 0..5 {
        if interrupted().await {
            return;
        }
    }
    panic!("no prune ended by a signal");
}

#[tokio::test]
async fn writers_go_on_while_a_ledger_is_pruned() {
    for database in [Some(support::mariadb()), support::mysql56()].into_iter().flatten() {
        let home = scratch_dir();
        old_ledger(&database, 20_000).await;
        let url = publish(&database, &home.path().join("snapshot.db"));
        let nodes: Vec<_> = (0..2).map(|_| Node::new().roles(&["executive"]).ctldb(&database.url).start()).collect();
        let clients: Vec<_> = nodes.iter().map(|node| Client::registered(node.executive_url())).collect();
        clients[0].create_simple_table("other", "tab");
        let (written, over) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for client in clients.iter().chain(&clients) {
                let (written, over) = (&written, &over);
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        // Anything but a success ends the test.
                        client.upsert("other", "tab", &[(1, "one"), (2, "two")]);
                        written.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let before = written.load(Ordering::Relaxed);
            let output = run(&database.url, home.path(), &["--keep", "7d", "--snapshot", &url, "--json"]);
            let during = written.load(Ordering::Relaxed) - before;
            over.store(true, Ordering::Relaxed);
            assert_eq!(json(output)["rows"], 20_000);
            assert!(during > 0, "nobody wrote meanwhile");
        });
        let (first, last, rows) = ends(&database);
        assert_eq!((first, mark(&database), rows), (20_001, Some(20_001), last - first + 1), "no seq is missing");
    }
}
