//! Bad snapshots and bad places: none of them becomes an LDB, and each is named.

use rusqlite::Connection;
use serde_json::json;

use support::bootstrap::*;
use support::client::role_status;
use support::web::Manners;
use support::{SmallDisk, Web, wait_until};

/// A host that is offered this snapshot reports `text`, has no LDB, and takes the good one that follows.
#[track_caller]
fn refused(origin: &Origin, web: &Web, url: &str, text: &str, kind: &str) {
    let host = origin.host().set("bootstrap.urls", vec![url.to_owned()]);
    let process = host.start();
    let status = wait_for_failure(&process, text);
    assert_eq!(status["last_error"]["kind"], kind, "{status}");
    assert!(
        status["not_ready"].as_str().is_some_and(|why| why.contains(text) || why == "is bootstrapping"),
        "{status}"
    );
    assert_eq!(names(&host, "ldb.db"), ["ldb.db.lock"], "after {text}");
    let name = url.rsplit('/').next().expect("a name");
    web.remove(&format!("{name}.json"));
    web.put(name, origin.snapshot());
    wait_until_equal(&host, origin);
}

#[test]
fn what_is_no_sound_ldb_is_refused_by_name() {
    let origin = Origin::with_rows(2_000);
    let file = origin.snapshot();
    let web = Web::start();
    let mut flipped = file.clone();
    // In the middle of the pages, which hold the structure.
    let at = file.len() / 16384 / 2 * 16384;
    flipped[at..at + 12].fill(0xff);
    let other_kind = {
        let scratch = Published::new("other.db", b"");
        let connection = Connection::open(&scratch.path).expect("open");
        connection.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1);").expect("fill");
        drop(connection);
        std::fs::read(&scratch.path).expect("read")
    };
    let newer = {
        let scratch = Published::new("newer.db", &file);
        let connection = Connection::open(&scratch.path).expect("open");
        let set = "UPDATE _ldb_meta SET value = '2' WHERE name = 'format_version'; PRAGMA wal_checkpoint(TRUNCATE);";
        connection.execute_batch(set).expect("set");
        drop(connection);
        std::fs::read(&scratch.path).expect("read")
    };
    let gz = gzip(&file);
    for (name, bytes, text) in [
        ("flipped.db", flipped, "is damaged: "),
        ("cut.db", file[..file.len() / 2].to_vec(), "is damaged: "),
        ("cut.db.gz", gz[..gz.len() - 100].to_vec(), "is damaged: can't be decompressed"),
        ("page.html", b"<html>not here, but there".repeat(400), "is no sqlite database"),
        ("empty.db", Vec::new(), "is no sqlite database"),
        ("other.db", other_kind, "is no ldb"),
        ("newer.db", newer, "has ldb format version 2, this program knows versions up to 1"),
    ] {
        let url = web.put(name, bytes);
        refused(&origin, &web, &url, text, "snapshot");
    }
}

/// The tables of a manifest, with a digest that no table has.
fn table(name: &str, rows: i64) -> serde_json::Value {
    json!([{ "name": name, "rows": rows, "digest": "00".repeat(32) }])
}

#[test]
fn what_does_not_match_its_manifest_is_refused() {
    let origin = Origin::with_rows(500);
    let file = origin.snapshot();
    let web = Web::start();
    let good = manifest(&file, &file, "m.db.1-00000000");
    for (member, value, text) in [
        ("stored_sha256", json!("00".repeat(32)), "does not match: its stored sha-256 is"),
        ("stored_bytes", json!(file.len() + 1), "does not match: its stored size is"),
        ("bytes", json!(file.len() - 1), "does not match: it has more than"),
        ("sha256", json!("00".repeat(32)), "does not match: its sha-256 is"),
        ("seq", json!(good["seq"].as_i64().expect("a number") - 1), "does not match: it is at seq"),
        ("tables", table("fam___tab", 499), "does not match: table fam___tab has 500 rows, the manifest says 499"),
        ("tables", table("fam___tab", 500), "does not match: table fam___tab has other rows than the manifest says"),
        ("tables", table("fam___other", 1), "does not match: table fam___tab is not in the manifest"),
        ("format_version", json!(2), "has manifest format version 2"),
        ("key", json!("../m.db"), "does not match: manifest has a bad key"),
    ] {
        let mut manifest = good.clone();
        manifest[member] = value;
        let url = web.put("m.db", file.clone());
        web.put("m.db.1-00000000", file.clone());
        web.put("m.db.json", manifest.to_string().into_bytes());
        refused(&origin, &web, &url, text, "snapshot");
    }
}

#[test]
fn data_that_does_not_match_is_fine_once_the_manifest_that_came_later_says_so() {
    let origin = Origin::with_rows(500);
    let old = origin.snapshot();
    origin.write(0, 500, "second");
    let new = origin.snapshot();
    let web = Web::start();
    // The immutable object that the manifest names is gone, and the plain key holds a later one.
    let url = web.put("m.db", new.clone());
    web.put("m.db.json", manifest(&old, &old, "m.db.old").to_string().into_bytes());
    web.behave(Manners { slow: Some(new.len() * 2), ..Manners::default() });
    let host = origin.host().set("bootstrap.urls", vec![url]);
    let process = host.start();
    wait_for_applier(&process, "it downloads", |status| {
        status["details"]["bootstrap"]["bytes"].as_i64().is_some_and(|bytes| bytes > 0)
    });
    web.put("m.db.new", new.clone());
    web.put("m.db.json", manifest(&new, &new, "m.db.new").to_string().into_bytes());
    wait_until_equal(&host, &origin);
    assert_eq!(metric(&process, "ctlstore_bootstrap_attempts_total"), 1.0);
}

#[test]
fn a_place_that_hangs_is_no_hindrance_to_a_stop() {
    let origin = Origin::with_rows(20);
    let web = Web::start();
    let url = web.put("snapshot.db", origin.snapshot());
    web.behave(Manners { hangs: true, ..Manners::default() });
    let host = origin.host().set("bootstrap.urls", vec![url.clone()]);
    let mut process = host.start();
    let status = wait_for_applier(&process, "it waits", |status| status["state"] == "bootstrapping");
    assert_eq!(status["details"]["bootstrap"]["source"], url.as_str(), "{status}");
    assert!(process.stop(DEADLINE).success());
    assert!(!process.log().contains("did not stop in time"), "{}", process.log());
    assert_eq!(names(&host, "ldb.db"), ["ldb.db.lock"]);
    web.behave(Manners::default());
    let _process = host.start();
    wait_until_equal(&host, &origin);
}

#[test]
fn a_full_disk_is_named_and_no_end() {
    let origin = Origin::with_rows(3_000);
    let file = origin.snapshot();
    let web = Web::start();
    for (name, bytes) in [("snapshot.db", file.clone()), ("snapshot.db.zst", zstd(&file))] {
        let url = web.put(name, bytes);
        let disk = SmallDisk::mount("16m");
        let ballast = disk.fill();
        let path = disk.path("ldb.db");
        let host = origin.host().set("bootstrap.urls", vec![url]).set("ldb.path", path.display().to_string());
        let process = host.start();
        let status = wait_for_failure(&process, "no room for the snapshot at");
        assert_eq!(status["last_error"]["kind"], "disk_full", "{status}");
        assert!(!path.exists());
        std::fs::remove_file(ballast).expect("make room");
        wait_until("the ldb is there", DEADLINE, || path.exists());
        wait_until("the applier works", DEADLINE, || role_status(&process.ops_url(), "applier")["state"] == "running");
        assert_whole(&path);
    }
}

#[test]
fn an_address_with_secrets_shows_none() {
    let origin = Origin::with_rows(5);
    let web = Web::start();
    let url = web.url.replace("http://", "http://user:geheim@") + "/missing.db?signature=geheim";
    let host = origin.host().set("bootstrap.urls", vec![url]).set("bootstrap.allow_empty", "false");
    let process = host.start();
    let status = wait_for_failure(&process, "missing.db");
    assert!(!status.to_string().contains("geheim"), "{status}");
    assert!(!process.log().contains("geheim"), "{}", process.log());
}
