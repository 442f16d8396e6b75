//! The snapshots that sources offer: which are taken and which are refused. None is downloaded twice.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;

use super::fixture::*;
use support::client::read_value;
use support::web::Manners;
use support::{NodeProcess, Web, wait_until};

/// Waits until the sources were asked a few more times.
#[track_caller]
fn wait_for_rounds(process: &NodeProcess) {
    for _ in 0..5 {
        let before = wait_for_fetcher(process, "it has asked", |status| !status["details"]["asked_at"].is_null());
        let before = &before["details"]["asked_at"];
        wait_for_fetcher(process, "it asks again", |status| status["details"]["asked_at"] != *before);
    }
}

#[test]
fn what_is_here_already_is_not_downloaded_again() {
    let origin = Origin::with_rows(200);
    let file = origin.snapshot();
    for has_manifest in [true, false] {
        let web = Web::start();
        let url = web.put("snapshot.db", file.clone());
        if has_manifest {
            web.put("snapshot.db.json", manifest(&file, &file, "snapshot.db.9-0a1b2c3d").to_string().into_bytes());
        }
        let host = host(&[&url]);
        let process = host.start();
        wait_for_rounds(&process);
        assert_eq!(metric(&process, "ctlstore_fetcher_versions_total"), 1.0);
        assert_eq!(metric(&process, "ctlstore_fetcher_downloaded_bytes_total"), file.len() as f64);
        // It is looked at once, downloaded once, and then the manifest tells all.
        assert!(!has_manifest || web.requests("snapshot.db").len() == 2);
    }
}

#[test]
fn a_snapshot_that_is_the_url_itself_becomes_one_version() {
    let origin = Origin::with_rows(10);
    let file = origin.snapshot();
    let host = host(&[&format!("data:{}", URL_SAFE.encode(&file))]);
    let process = host.start();
    wait_for_rounds(&process);
    assert_eq!(metric(&process, "ctlstore_fetcher_versions_total"), 1.0);
    assert_eq!(metric(&process, "ctlstore_fetcher_downloaded_bytes_total"), file.len() as f64);
}

#[test]
fn a_version_that_was_damaged_afterwards_is_fetched_again() {
    let origin = Origin::with_rows(50);
    let published = Published::new("snapshot.db", &origin.snapshot());
    let host = host(&[&published.url]);
    let process = host.start();
    wait_for_version(&host, origin.last_seq());
    let bad = versions(&versions_of(&host)).pop().expect("a version");
    let junk = host.data_dir().join("junk");
    std::fs::write(&junk, b"x".repeat(9000)).expect("write junk");
    std::fs::rename(junk, bad.join("ldb.db")).expect("damage the version");
    wait_until("a new version appears", DEADLINE, || versions(&versions_of(&host)).pop().is_some_and(|new| new > bad));
    wait_for_version(&host, origin.last_seq());
    assert!(read_value(&process.reader_url(), "fam", "tab", 5).is_some());
}

#[test]
fn an_older_snapshot_and_one_of_another_ledger_are_refused_loudly() {
    let (origin, other) = (Origin::with_rows(20), Origin::with_rows(300));
    let (older, old_seq) = (origin.snapshot(), origin.last_seq());
    let seq = origin.write(0, 20, "second");
    let published = Published::new("snapshot.db", &origin.snapshot());
    let host = host(&[&published.url]);
    let process = host.start();
    wait_for_version(&host, seq);
    for (bytes, said) in [
        (older, format!("it is at seq {old_seq}, wanted is {} or a later one", seq + 1)),
        (other.snapshot(), "it is of ledger ".to_owned()),
    ] {
        replace(&published, &bytes);
        let said = said.as_str();
        wait_for_fetcher(&process, said, |status| {
            status["state"] == "retrying" && status["last_error"]["message"].to_string().contains(said)
        });
        assert_eq!(newest(&host).expect("a version").seq, seq);
        assert!(read_value(&process.reader_url(), "fam", "tab", 5).is_some());
        assert!(process.log().contains(said));
    }
    assert!(metric(&process, "ctlstore_errors_total{component=\"fetcher\",kind=\"ledger\"}") >= 2.0);
    let seq = origin.write(0, 20, "third");
    replace(&published, &origin.snapshot());
    wait_for_version(&host, seq);
    wait_for_fetcher(&process, "it runs", |status| status["state"] == "running");
}

#[test]
fn a_damaged_snapshot_never_becomes_a_version() {
    let origin = Origin::with_rows(300);
    let good = origin.snapshot();
    let mut flipped = good.clone();
    // The second page, which SQLite's own check reads.
    flipped[16384..16400].fill(0xff);
    let host = host(&["file:/nowhere/at/all.db"]);
    for (bytes, said) in
        [(good[..good.len() / 2].to_vec(), "damaged"), (flipped, "damaged"), (b"x".repeat(9000), "no sqlite")]
    {
        let published = Published::new("snapshot.db", &bytes);
        let process = host.clone().set("bootstrap.urls", vec![published.url.clone()]).start();
        wait_for_fetcher(&process, said, |status| status["last_error"]["message"].to_string().contains(said));
        assert!(versions(&versions_of(&host)).is_empty());
    }
}

#[test]
fn while_the_sources_are_away_the_last_version_is_read_and_afterwards_the_next() {
    let origin = Origin::with_rows(50);
    let published = Published::new("snapshot.db", &origin.snapshot());
    let host = host(&[&published.url]);
    let process = host.start();
    wait_for_version(&host, origin.last_seq());
    std::fs::remove_file(&published.path).expect("take the source away");
    wait_for_fetcher(&process, "it retries", |status| status["state"] == "retrying");
    assert!(read_value(&process.reader_url(), "fam", "tab", 5).is_some());
    let seq = origin.write(0, 50, "after");
    replace(&published, &origin.snapshot());
    wait_for_version(&host, seq);
    wait_for_fetcher(&process, "it runs", |status| status["state"] == "running");
}

#[test]
fn the_next_source_serves_where_the_first_does_not_and_that_is_told() {
    let origin = Origin::with_rows(50);
    let web = Web::start();
    let missing = format!("{}/missing.db", web.url);
    let url = web.put("snapshot.db", origin.snapshot());
    let host = host(&[&missing, &url]);
    let process = host.start();
    wait_for_version(&host, origin.last_seq());
    let status = wait_for_fetcher(&process, "it tells of the first", |status| !status["last_error"].is_null());
    assert_eq!((&status["state"], &status["not_ready"]), (&"running".into(), &serde_json::Value::Null), "{status}");
    assert!(status["last_error"]["message"].to_string().contains("missing.db"), "{status}");
    assert_eq!(status["details"]["last_source"], url.as_str());
}

#[test]
fn a_stop_does_not_wait_for_a_download() {
    let origin = Origin::with_rows(50);
    let web = Web::start();
    let url = web.put("snapshot.db", origin.snapshot());
    web.behave(Manners { slow: Some(1000), ..Manners::default() });
    let host = host(&[&url]).set("node.shutdown_timeout", "20s");
    let mut process = host.start();
    let status = wait_for_fetcher(&process, "bytes come", |status| status["details"]["bytes"].as_u64() > Some(0));
    assert_eq!((&status["state"], &status["details"]["source"]), (&"bootstrapping".into(), &url.as_str().into()));
    assert!(process.stop(DEADLINE).success());
    assert!(!process.log().contains("did not stop in time"), "{}", process.log());
    assert!(versions(&versions_of(&host)).is_empty());
}
