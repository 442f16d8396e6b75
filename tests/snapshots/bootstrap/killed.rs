//! Hosts that are killed while they bootstrap. The file at the LDB's path is then whole, the old one or the new
//! one, and the next start succeeds.

use std::time::Duration;

use support::bootstrap::*;
use support::web::Manners;
use support::{Node, Web, wait_until};

const SIGABRT: i32 = 6;
const FAILPOINTS: [&str; 5] = [
    "bootstrap-after-download",
    "bootstrap-after-check",
    "bootstrap-after-adoption",
    "bootstrap-before-link",
    "bootstrap-after-link",
];

/// Where a sound LDB is brought to a snapshot in its own file.
const CATCH_UP_FAILPOINTS: [&str; 9] = [
    "bootstrap-after-download",
    "bootstrap-after-check",
    "catch-up-after-begin",
    "catch-up-amid-rows:50",
    "catch-up-after-rows",
    "catch-up-after-seq",
    "catch-up-after-history",
    "catch-up-after-commit",
    "catch-up-after-changelog",
];

/// The file at the path is a whole LDB of the ledger, or there is none.
#[track_caller]
fn assert_not_half_there(host: &Node, seqs: &[i64]) -> Option<i64> {
    if !host.ldb_path().exists() {
        return None;
    }
    assert_whole(&host.ldb_path());
    let seq = ldb(&host.ldb_path(), "SELECT seq FROM _ldb_seq").expect("read the seq");
    let seq: i64 = seq[0][0].as_deref().expect("a seq").parse().expect("a number");
    assert!(seqs.contains(&seq), "{seq} is none of {seqs:?}");
    let rows = ldb(&host.ldb_path(), "SELECT count(*) FROM fam___tab").expect("count the rows");
    assert_eq!(rows, [[Some("400".to_owned())]]);
    Some(seq)
}

#[test]
fn killed_at_any_failpoint_a_first_start_leaves_nothing_or_all_of_it() {
    use std::os::unix::process::ExitStatusExt;
    let origin = Origin::with_rows(400);
    let snapshot = Published::new("snapshot.db.gz", &gzip(&origin.snapshot()));
    let seq = origin.last_seq();
    for failpoint in FAILPOINTS {
        let host = origin.host().set("bootstrap.urls", vec![snapshot.url.clone()]);
        let mut process = host.clone().env("CTLSTORE_FAILPOINT", failpoint).spawn();
        assert_eq!(process.wait_exit(DEADLINE).signal(), Some(SIGABRT), "{failpoint}");
        let found = assert_not_half_there(&host, &[seq]);
        assert_eq!(found.is_some(), failpoint == "bootstrap-after-link", "{failpoint}");
        let _process = host.start();
        wait_until_equal(&host, &origin);
        assert_tidy(&host);
    }
}

#[test]
fn killed_at_any_failpoint_while_it_replaces_a_damaged_ldb_the_next_start_does_it() {
    use std::os::unix::process::ExitStatusExt;
    let origin = Origin::with_rows(400);
    let snapshot = Published::new("snapshot.db", &origin.snapshot());
    let damaged = b"no database at all, but long enough: ".repeat(100);
    for failpoint in FAILPOINTS {
        let host = origin.host().set("bootstrap.urls", vec![snapshot.url.clone()]);
        std::fs::create_dir_all(host.data_dir()).expect("make the data directory");
        write_damaged(&host, &damaged);
        let mut process = host.clone().env("CTLSTORE_FAILPOINT", failpoint).spawn();
        assert_eq!(process.wait_exit(DEADLINE).signal(), Some(SIGABRT), "{failpoint}");
        if failpoint == "bootstrap-after-link" {
            assert_eq!(assert_not_half_there(&host, &[origin.last_seq()]), Some(origin.last_seq()));
        } else {
            assert_eq!(std::fs::read(host.ldb_path()).expect("read"), damaged, "{failpoint}");
        }
        let _process = host.start();
        wait_until_equal(&host, &origin);
        let kept = names(&host, ".unreadable-");
        assert!(kept.iter().any(|name| std::fs::read(host.data_dir().join(name)).ok().as_ref() == Some(&damaged)));
    }
}

#[test]
fn killed_at_any_failpoint_a_replacement_leaves_the_old_ldb_or_the_new_one() {
    use std::os::unix::process::ExitStatusExt;
    let origin = Origin::with_rows(400);
    let published = Published::new("snapshot.db", b"");
    let host = origin.host().set("bootstrap.urls", vec![published.url.clone()]).set("bootstrap.allow_empty", true);
    std::fs::remove_file(&published.path).expect("no snapshot yet");
    let mut process = host.start();
    wait_until_equal(&host, &origin);
    assert!(process.stop(DEADLINE).success());
    for failpoint in CATCH_UP_FAILPOINTS {
        let old = origin.last_seq();
        let new = origin.write(0, 100, failpoint);
        let newer = published.path.with_extension("new");
        std::fs::write(&newer, origin.snapshot()).expect("write");
        std::fs::rename(newer, &published.path).expect("publish");
        origin.prune(old + 10);
        let mut process = host.clone().env("CTLSTORE_FAILPOINT", failpoint).spawn();
        assert_eq!(process.wait_exit(DEADLINE).signal(), Some(SIGABRT), "{failpoint}");
        let found = assert_not_half_there(&host, &[old, new]);
        let is_new = ["catch-up-after-commit", "catch-up-after-changelog"].contains(&failpoint);
        assert_eq!(found, Some(if is_new { new } else { old }), "{failpoint}");
        let mut process = host.start();
        wait_until_equal(&host, &origin);
        assert!(process.stop(DEADLINE).success());
        drop(host.start());
        assert_tidy(&host);
    }
}

/// No file is left of what a crash interrupted: only the link, one generation, and its companions.
#[track_caller]
fn assert_tidy(host: &Node) {
    let generation = std::fs::read_link(host.ldb_path()).expect("a link");
    let generation = generation.to_str().expect("a name");
    let unwanted: Vec<_> = names(host, "ldb.db")
        .into_iter()
        .filter(|name| {
            !name.starts_with(generation)
                && !["ldb.db", "ldb.db.changes", "ldb.db.lock", "ldb.db.seq", "ldb.db.caughtup"].contains(&&**name)
        })
        .collect();
    assert_eq!(unwanted, [""; 0]);
}

#[test]
fn killed_at_random_while_it_downloads_the_next_start_succeeds() {
    let origin = Origin::with_rows(400);
    let file = origin.snapshot();
    let stored = zstd(&file);
    let web = Web::start();
    let url = web.put("snapshot.db.zst", stored.clone());
    let seq = origin.last_seq();
    let host = origin.host().set("bootstrap.urls", vec![url]);
    let mut unfinished = 0;
    for round in 0..20_usize {
        // The pace decides how far the download is before the kill, from nothing to all of it.
        web.behave(Manners { slow: Some(stored.len() * (1 + round % 7)), ..Manners::default() });
        let mut process = host.spawn();
        let wanted = stored.len() * (round * 7 % 20) / 20;
        let incoming = host.data_dir().join("ldb.db.incoming");
        wait_until("it has begun, or is done", Duration::from_secs(60), || {
            let length = std::fs::metadata(&incoming).map_or(0, |metadata| metadata.len() as usize);
            host.ldb_path().exists() || (incoming.exists() && length >= wanted / 2)
        });
        process.kill9();
        match assert_not_half_there(&host, &[seq]) {
            None => unfinished += 1,
            Some(_) => {
                // Begin again from nothing.
                for name in names(&host, "ldb.db") {
                    std::fs::remove_file(host.data_dir().join(name)).expect("remove");
                }
            }
        }
    }
    assert!(unfinished > 0, "no kill came before the end");
    web.behave(Manners::default());
    let _process = host.start();
    wait_until_equal(&host, &origin);
    assert_tidy(&host);
}
