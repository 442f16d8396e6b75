//! Every kind of place and every kind of snapshot, and what a host does without one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;

use support::bootstrap::*;
use support::client::{read_value, role_status};
use support::web::Manners;
use support::web::Request;
use support::{Web, http, wait_until};

/// The requests for an object that got bytes of it; others only asked what it is.
fn downloads(web: &Web, name: &str) -> Vec<Request> {
    web.requests(name).into_iter().filter(|request| request.sent > 0).collect()
}

#[test]
fn a_host_starts_from_a_file_and_goes_on_from_there() {
    let origin = Origin::with_rows(500);
    let snapshot = Published::new("snapshot.db", &origin.snapshot());
    origin.write(100, 200, "second");
    // Rows that the snapshot covers are not read again.
    let covered = seq_of(&snapshot.path);
    let host = origin.host().set("bootstrap.urls", vec![snapshot.url.clone()]);
    let process = host.start();
    wait_until_equal(&host, &origin);
    let poller = role_status(&process.ops_url(), "poller");
    let last = origin.last_seq();
    assert_eq!(poller["details"]["rows_read"].as_i64(), Some(last - covered), "{poller}");
    let applier = role_status(&process.ops_url(), "applier");
    let bootstrap = &applier["details"]["bootstrap"];
    assert_eq!(bootstrap["last_source"], snapshot.url.as_str());
    assert_eq!(bootstrap["last_seq"], covered);
    assert_eq!(metric(&process, "ctlstore_bootstrap_attempts_total"), 1.0);
    assert!(metric(&process, "ctlstore_bootstrap_downloaded_bytes_total") >= 4096.0);
    assert_eq!(metric(&process, "ctlstore_bootstrap_duration_seconds_count"), 1.0);
    assert!(metric(&process, "ctlstore_bootstrap_last_success_timestamp_seconds") > 1.7e9);
    // The snapshot itself is untouched, and has nothing beside it.
    assert_eq!(std::fs::read_dir(snapshot.path.parent().expect("a directory")).expect("list").count(), 1);
}

#[test]
fn a_host_that_has_an_ldb_asks_nobody_for_one() {
    let origin = Origin::with_rows(10);
    let web = Web::start();
    let url = web.put("snapshot.db", origin.snapshot());
    let host = origin.host().set("bootstrap.urls", vec![url]);
    let mut process = host.start();
    wait_until_equal(&host, &origin);
    let asked = web.requests("snapshot.db").len();
    assert!(process.stop(DEADLINE).success());
    let _process = host.start();
    origin.write(0, 10, "second");
    wait_until_equal(&host, &origin);
    assert_eq!(web.requests("snapshot.db").len(), asked);
}

#[test]
fn compressed_snapshots_are_told_by_what_they_are() {
    let origin = Origin::with_rows(300);
    let file = origin.snapshot();
    for (name, bytes) in [
        ("snapshot.db.gz", gzip(&file)),
        ("snapshot.db.zst", zstd(&file)),
        // The original writes plain files under such names.
        ("snapshot.db.gz", file.clone()),
        ("no-suffix", gzip(&file)),
    ] {
        let snapshot = Published::new(name, &bytes);
        let host = origin.host().set("bootstrap.urls", vec![snapshot.url.clone()]);
        let process = host.start();
        wait_until_equal(&host, &origin);
        assert_eq!(role_status(&process.ops_url(), "applier")["details"]["bootstrap"]["fetched"], 1, "{name}");
    }
}

#[test]
fn a_snapshot_can_be_the_url_itself() {
    let origin = Origin::with_rows(20);
    let bytes = zstd(&origin.snapshot());
    let url = format!("data:{}", URL_SAFE.encode(&bytes));
    let host = origin.host().set("bootstrap.urls", vec![url.clone()]);
    let process = host.start();
    wait_until_equal(&host, &origin);
    let status = http::get(&format!("{}/status", process.ops_url())).expect(200).text();
    assert!(status.contains("\"fetched\":1") && !status.contains(&url[5..200]), "{status}");
}

#[test]
fn a_manifest_leads_to_the_data_that_it_names() {
    let origin = Origin::with_rows(300);
    let file = origin.snapshot();
    let stored = gzip(&file);
    let web = Web::start();
    let key = "snapshot.db.gz.17-0a1b2c3d";
    // The plain key has another object of the same size.
    let url = web.put("snapshot.db.gz", vec![b'x'; stored.len()]);
    web.put(key, stored.clone());
    web.put("snapshot.db.gz.json", manifest(&file, &stored, key).to_string().into_bytes());
    let host = origin.host().set("bootstrap.urls", vec![url]);
    let _process = host.start();
    wait_until_equal(&host, &origin);
    assert!(downloads(&web, "snapshot.db.gz").is_empty());
    assert_eq!(web.requests(key)[0].sent, stored.len());
}

#[test]
fn where_the_named_data_is_not_kept_the_plain_key_does() {
    let origin = Origin::with_rows(50);
    let file = origin.snapshot();
    let web = Web::start();
    let url = web.put("snapshot.db", file.clone());
    web.put("snapshot.db.json", manifest(&file, &file, "snapshot.db.17-0a1b2c3d").to_string().into_bytes());
    let host = origin.host().set("bootstrap.urls", vec![url]);
    let _process = host.start();
    wait_until_equal(&host, &origin);
    assert_eq!(downloads(&web, "snapshot.db").len(), 1);
}

#[test]
fn the_first_place_that_has_a_good_snapshot_wins() {
    let origin = Origin::with_rows(50);
    let web = Web::start();
    let missing = format!("{}/missing.db", web.url);
    let bad = web.put("bad.db", vec![b'x'; 10_000]);
    let good = Published::new("good.db", &origin.snapshot());
    let unused = web.put("unused.db", origin.snapshot());
    let host = origin.host().set("bootstrap.urls", vec![missing, bad, good.url.clone(), unused]);
    let process = host.start();
    wait_until_equal(&host, &origin);
    let bootstrap = &role_status(&process.ops_url(), "applier")["details"]["bootstrap"];
    assert_eq!((bootstrap["last_source"].as_str(), bootstrap["attempts"].as_i64()), (Some(good.url.as_str()), Some(3)));
    assert!(web.requests("unused.db").is_empty());
    assert_eq!(metric(&process, "ctlstore_bootstrap_failures_total{kind=\"snapshot\"}"), 1.0);
    assert_eq!(metric(&process, "ctlstore_bootstrap_failures_total{kind=\"unavailable\"}"), 1.0);
}

#[test]
fn a_broken_connection_is_resumed_from_where_it_broke() {
    let origin = Origin::with_rows(3_000);
    let file = origin.snapshot();
    let web = Web::start();
    let url = web.put("snapshot.db", file.clone());
    web.behave(Manners { breaks: 3, break_after: file.len() / 4, ..Manners::default() });
    let host = origin.host().set("bootstrap.urls", vec![url]);
    let process = host.start();
    wait_until_equal(&host, &origin);
    let requests = web.requests("snapshot.db");
    let offsets: Vec<_> = requests.iter().map(|request| request.offset.unwrap_or(0)).collect();
    assert!(offsets.len() >= 4 && offsets.is_sorted() && offsets[1] > 0, "{requests:?}");
    // Each byte comes once, except those that were on their way when the connection broke.
    let sent: usize = requests.iter().map(|request| request.sent).sum();
    assert!(sent < file.len() + file.len() / 2, "{sent} bytes for {}", file.len());
    assert_eq!(metric(&process, "ctlstore_bootstrap_attempts_total"), 1.0);
}

#[test]
fn without_etags_a_broken_connection_is_resumed_where_a_manifest_has_the_hash() {
    let origin = Origin::with_rows(3_000);
    let file = origin.snapshot();
    let web = Web::start();
    let url = web.put("snapshot.db", file.clone());
    let manners = Manners { breaks: 2, break_after: file.len() / 4, no_etags: true, ..Manners::default() };
    web.behave(manners.clone());
    // Without a manifest the rest could be another snapshot's, so the download begins again.
    let host = origin.host().set("bootstrap.urls", vec![url.clone()]);
    let mut process = host.start();
    wait_until_equal(&host, &origin);
    assert!(process.stop(DEADLINE).success());
    let offsets: Vec<_> = downloads(&web, "snapshot.db").iter().map(|request| request.offset).collect();
    assert_eq!(offsets, [None; 3]);
    web.put("snapshot.db.json", manifest(&file, &file, "snapshot.db").to_string().into_bytes());
    web.behave(manners);
    let host = origin.host().set("bootstrap.urls", vec![url]);
    let process = host.start();
    wait_until_equal(&host, &origin);
    let requests = downloads(&web, "snapshot.db").split_off(offsets.len());
    let offsets: Vec<_> = requests.iter().map(|request| request.offset.unwrap_or(0)).collect();
    assert!(offsets.len() == 3 && offsets.is_sorted() && offsets[1] > 0, "{requests:?}");
    assert_eq!(metric(&process, "ctlstore_bootstrap_attempts_total"), 1.0);
}

#[test]
fn what_was_damaged_on_its_way_is_read_once_more() {
    let origin = Origin::with_rows(500);
    let file = origin.snapshot();
    let web = Web::start();
    let url = web.put("snapshot.db.gz", gzip(&file));
    web.put("snapshot.db.gz.json", manifest(&file, &gzip(&file), "snapshot.db.gz").to_string().into_bytes());
    web.behave(Manners { flips: 1, ..Manners::default() });
    let host = origin.host().set("bootstrap.urls", vec![url]);
    let process = host.start();
    wait_until_equal(&host, &origin);
    assert_eq!(downloads(&web, "snapshot.db.gz").len(), 2);
    assert_eq!(metric(&process, "ctlstore_bootstrap_attempts_total"), 1.0);
}

#[test]
fn a_server_that_knows_no_ranges_is_read_again_from_its_start() {
    let origin = Origin::with_rows(2_000);
    let file = origin.snapshot();
    let web = Web::start();
    let url = web.put("snapshot.db", file.clone());
    let manners = Manners { breaks: 1, break_after: file.len() / 2, ignores_ranges: true, ..Manners::default() };
    web.behave(manners);
    let host = origin.host().set("bootstrap.urls", vec![url]);
    let process = host.start();
    wait_until_equal(&host, &origin);
    assert_eq!(metric(&process, "ctlstore_bootstrap_attempts_total"), 1.0);
}

#[test]
fn a_server_that_fails_is_asked_until_it_does_not() {
    let origin = Origin::with_rows(20);
    let web = Web::start();
    let url = web.put("snapshot.db", origin.snapshot());
    web.behave(Manners { fail: u64::MAX, status: 500, ..Manners::default() });
    let host = origin.host().set("bootstrap.urls", vec![url.clone()]).set("bootstrap.allow_empty", "true");
    let process = host.start();
    let status = wait_for_failure(&process, "500");
    assert_eq!(status["last_error"]["kind"], "unavailable", "{status}");
    assert!(status["not_ready"].is_string(), "{status}");
    // A place that fails may have a snapshot, so the host does not begin without one.
    assert!(!host.ldb_path().exists());
    web.behave(Manners::default());
    wait_until_equal(&host, &origin);
    wait_until("the applier works", DEADLINE, || role_status(&process.ops_url(), "applier")["state"] == "running");
}

#[test]
fn what_the_original_publishes_bootstraps_too() {
    let origin = Origin::with_rows(100);
    let file = by_the_original(&origin.snapshot());
    for (name, bytes) in [("snapshot.db", file.clone()), ("snapshot.db.gz", gzip(&file))] {
        let snapshot = Published::new(name, &bytes);
        let host = origin.host().set("bootstrap.urls", vec![snapshot.url.clone()]);
        let _process = host.start();
        origin.write(0, 50, name);
        wait_until_equal(&host, &origin);
        let page_size = ldb(&host.ldb_path(), "PRAGMA page_size").expect("ask");
        assert_eq!(page_size, [[Some("4096".to_owned())]]);
        let id = ldb(&host.ldb_path(), "SELECT count(*) FROM _ldb_meta WHERE name = 'ledger_id'").expect("ask");
        assert_eq!(id, [[Some("1".to_owned())]]);
    }
}

#[test]
fn without_a_snapshot_a_host_begins_empty_where_the_ledger_begins_at_its_start() {
    let origin = Origin::with_rows(50);
    let nowhere = format!("file://{}/none.db", origin.node.data_dir().display());
    for allow_empty in ["auto", "true"] {
        let host = origin.host().set("bootstrap.urls", vec![nowhere.clone()]).set("bootstrap.allow_empty", allow_empty);
        let process = host.start();
        wait_until_equal(&host, &origin);
        assert_eq!(role_status(&process.ops_url(), "applier")["details"]["bootstrap"]["fetched"], 0);
    }
}

#[test]
fn without_a_snapshot_a_host_that_must_have_one_keeps_asking() {
    let origin = Origin::with_rows(50);
    let late = Published::new("other.db", b"");
    let url = late.url.replace("other.db", "late.db");
    let host = origin.host().set("bootstrap.urls", vec![url]).set("bootstrap.allow_empty", false);
    let process = host.start();
    wait_for_failure(&process, "there is no snapshot at file:///");
    wait_until_retrying(&process);
    assert!(!host.ldb_path().exists());
    http::get(&format!("{}/readyz", process.ops_url())).expect(503);
    assert_eq!(read_value(&process.reader_url(), "fam", "tab", 1), None);
    let staged = late.path.with_file_name("staged.db");
    std::fs::write(&staged, origin.snapshot()).expect("write");
    std::fs::rename(&staged, late.path.with_file_name("late.db")).expect("publish");
    wait_until_equal(&host, &origin);
}

#[test]
fn without_a_snapshot_a_host_does_not_begin_empty_behind_a_pruned_ledger() {
    let origin = Origin::with_rows(300);
    let bytes = origin.snapshot();
    origin.prune(origin.last_seq() - 50);
    let web = Web::start();
    let host = origin.host().set("bootstrap.urls", vec![format!("{}/late.db", web.url)]);
    let process = host.start();
    wait_for_failure(&process, "there is no snapshot at http://");
    let poller = role_status(&process.ops_url(), "poller");
    assert!(poller["last_error"]["message"].to_string().contains("were pruned"), "{poller}");
    assert!(!host.ldb_path().exists());
    web.put("late.db", bytes);
    wait_until_equal(&host, &origin);
}
