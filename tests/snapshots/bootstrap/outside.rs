//! Values from outside a host, from its environment and from stores. None of them ends the host.

use ctlstore_core::Abort;
use ctlstore_ldb::snapshot::fetch::{ExpansionLimits, FetchError, SnapshotSources, Wanted};
use serde_json::json;

use support::bootstrap::*;
use support::client::role_status;
use support::s3::{Bucket, endpoint, variables};
use support::web::Manners;
use support::{SmallDisk, Web, scratch_dir, wait_until};

/// Values with which no client of a store can be made.
const BAD_VARIABLES: [(&str, &str); 6] = [
    ("AWS_ENDPOINT_URL", ""),
    ("AWS_ENDPOINT_URL", "minio:9000"),
    ("AWS_ACCESS_KEY_ID", "AKIA\n"),
    ("AWS_REGION", "us east/1"),
    ("AWS_ALLOW_HTTP", "perhaps"),
    ("HTTPS_PROXY", "socks5://127.0.0.1:1"),
];

#[test]
fn a_variable_that_no_store_can_use_is_named_and_another_source_serves() {
    let origin = Origin::with_rows(50);
    let good = Published::new("snapshot.db", &origin.snapshot());
    for (name, value) in BAD_VARIABLES {
        let host = origin.host().set("bootstrap.urls", vec!["s3://bucket/a.db".to_owned(), good.url.clone()]);
        let host = host.env(name, value);
        let process = host.start();
        wait_until_equal(&host, &origin);
        let named = format!("the variable {name} ");
        wait_until(&format!("the log names {name}={value:?}"), DEADLINE, || process.log().contains(&named));
        let log = process.log();
        assert!(!log.contains("panic"), "{name}={value:?}: {log}");
    }
}

#[test]
fn a_destination_that_cannot_be_used_holds_up_no_other() {
    let origin = Origin::with_rows(50);
    let directory = scratch_dir();
    let path = directory.path().join("snapshot.db");
    let urls = vec!["s3://bucket/a.db".to_owned(), format!("file://{}", path.display())];
    let host = origin.host().roles(&["reflector", "snapshotter"]).set("snapshotter.urls", urls);
    let mut process = host.set("snapshotter.interval", "100ms").env("AWS_ENDPOINT_URL", "").start();
    wait_until("the file is published", DEADLINE, || path.exists() && seq_of(&path) == origin.last_seq());
    let details = role_status(&process.ops_url(), "snapshotter")["details"].clone();
    let error = details["destinations"][0]["last_error"].to_string();
    assert!(error.contains("AWS_ENDPOINT_URL"), "{details}");
    assert!(process.stop(DEADLINE).success());
}

#[test]
fn a_panic_of_a_stores_client_is_that_sources_failure() {
    let origin = Origin::with_rows(50);
    let good = Published::new("snapshot.db", &origin.snapshot());
    let host = origin.host().set("bootstrap.urls", vec!["s3://bucket/a.db".to_owned(), good.url.clone()]);
    let host = variables("http://127.0.0.1:1").iter().fold(host, |host, (name, value)| host.env(name, value));
    let host = host.env("CTLSTORE_FAILPOINT", "store-panics");
    let mut process = host.start();
    wait_until_equal(&host, &origin);
    assert!(process.log().contains("the store's client panicked"), "{}", process.log());
    assert!(process.stop(DEADLINE).success());
}

#[test]
fn a_hostile_manifest_is_that_sources_failure() {
    let origin = Origin::with_rows(50);
    let file = origin.snapshot();
    let good = Published::new("snapshot.db", &file);
    let (web, bucket) = (Web::start(), Bucket::new());
    for (member, value) in [
        ("key", json!("k".repeat(100_000))),
        ("key", json!("../other.db")),
        ("key", json!("a\u{0}\r\nb")),
        ("seq", json!(-7)),
        ("bytes", json!(u64::MAX)),
        ("stored_sha256", json!("abc")),
    ] {
        let mut hostile = manifest(&file, &file, "bad.db");
        hostile[member] = value;
        let url = web.put("bad.db", file.clone());
        web.put("bad.db.json", hostile.to_string().into_bytes());
        bucket.put_public("/bad.db.json", hostile.to_string().as_bytes());
        let host = origin.host().set("bootstrap.urls", vec![url, bucket.url("bad.db"), good.url.clone()]);
        let host = variables(&endpoint()).iter().fold(host, |host, (name, value)| host.env(name, value));
        let process = host.start();
        wait_until_equal(&host, &origin);
        let log = process.log();
        assert!(log.matches(&format!("manifest has a bad {member}")).count() >= 2, "{member}: {log}");
    }
}

#[test]
fn what_grows_beyond_the_disk_is_unpacked_once_and_leaves_nothing() {
    let origin = Origin::with_rows(5);
    let disk = SmallDisk::mount("24m");
    let web = Web::start();
    let zeroes = vec![0; 64 << 20];
    let url = web.put("bomb.db.gz", gzip(&zeroes));
    let path = disk.path("ldb.db");
    let host = origin.host().set("bootstrap.urls", vec![url]).set("ldb.path", path.display().to_string());
    let process = host.set("bootstrap.allow_empty", false).start();
    let status = wait_for_failure(&process, "no room for the snapshot at");
    assert_eq!(status["last_error"]["kind"], "disk_full", "{status}");
    wait_until("it was asked for again", DEADLINE, || metric(&process, "ctlstore_bootstrap_attempts_total") >= 4.0);
    let read = metric(&process, "ctlstore_bootstrap_downloaded_bytes_total");
    assert!(read <= gzip(&zeroes).len() as f64, "it was unpacked more than once: {read} bytes");
    let left: Vec<_> =
        std::fs::read_dir(disk.directory()).expect("list").map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("incoming")), "{left:?}");
}

#[test]
fn what_grows_beyond_all_measure_is_refused_and_remembered_and_a_manifest_may_say_otherwise() {
    let origin = Origin::with_rows(300);
    let file = origin.snapshot();
    let web = Web::start();
    let zeroes = vec![0; 8 << 20];
    let (abort, directory) = (Abort::default(), scratch_dir());
    let to = directory.path().join("to.db");
    let limits = ExpansionLimits { max_expansion: 20, always: 1 << 20 };
    for (name, bytes, no_etags) in
        [("bomb.gz", gzip(&zeroes), false), ("bomb.zst", zstd(&zeroes), false), ("nameless.gz", gzip(&zeroes), true)]
    {
        web.behave(Manners { no_etags, ..Manners::default() });
        let url = web.put(name, bytes);
        let mut sources = SnapshotSources::new(vec![url.parse().unwrap()], limits);
        for _ in 0..3 {
            let refused = sources.fetch(0, &to, &Wanted::default(), &abort, &()).unwrap_err();
            assert!(refused.to_string().contains("more than 20 times"), "{name}: {refused}");
            assert!(!to.exists());
        }
        // Later requests are answered by the first result: the bodies are not read.
        let whole = web.requests(name).iter().filter(|request| request.sent > 0).count();
        assert!(whole >= 1);
    }
    // The same ratio with a manifest, which has the size and the hash.
    let stored = gzip(&file);
    let tight = ExpansionLimits { max_expansion: 1, always: 1 };
    let plain = web.put("told.db.gz", stored.clone());
    let mut sources = SnapshotSources::new(vec![plain.parse().unwrap()], tight);
    let refused = sources.fetch(0, &to, &Wanted::default(), &abort, &()).unwrap_err();
    assert!(matches!(refused, FetchError::Bad { .. }), "{refused}");
    web.put("told.db.gz.json", manifest(&file, &stored, "told.db.gz").to_string().into_bytes());
    sources.fetch(0, &to, &Wanted::default(), &abort, &()).expect("its manifest says so");
    assert_eq!(std::fs::read(&to).expect("read").len(), file.len());
}
