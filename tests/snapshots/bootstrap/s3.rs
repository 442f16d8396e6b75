//! Hosts that start from an object store: from what our snapshotter published, and from what the original's did.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest, Sha1};

use support::bootstrap::*;
use support::client::role_status;
use support::s3::{Bucket, Front, Manner, endpoint, variables};
use support::{Node, Web, http, sql, wait_until};

use super::restored::next_second;

fn with_s3(node: Node, endpoint: &str) -> Node {
    variables(endpoint).iter().fold(node, |node, (name, value)| node.env(name, value))
}

/// Puts an object as the original does: its checksum in the metadata, and no manifest.
fn put(bucket: &Bucket, key: &str, bytes: &[u8], checksum: &str) {
    let authorization = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, \
                         SignedHeaders=host, Signature=0";
    let headers = [("Authorization", authorization), ("x-amz-meta-checksum", checksum)];
    http::request("PUT", &format!("{}/{}/{key}", endpoint(), bucket.name), &headers, bytes).expect(200);
}

#[test]
fn a_host_starts_from_what_a_snapshotter_published_to_s3() {
    let origin = Origin::with_rows(1_000);
    let bucket = Bucket::new();
    let url = bucket.url("hosts/snapshot.db.zst");
    let publisher = origin.host().roles(&["reflector", "snapshotter"]).set("snapshotter.interval", "100ms");
    let publisher = with_s3(publisher.set("snapshotter.urls", vec![url.clone()]), &endpoint());
    let _publisher = publisher.start();
    wait_until("the manifest is there", DEADLINE, || bucket.keys().contains(&"hosts/snapshot.db.zst.json".to_owned()));
    let host = with_s3(origin.host().set("bootstrap.urls", vec![url.clone()]), &endpoint());
    let process = host.start();
    wait_until_equal(&host, &origin);
    let bootstrap = &role_status(&process.ops_url(), "applier")["details"]["bootstrap"];
    assert_eq!((bootstrap["fetched"].as_i64(), bootstrap["last_source"].as_str()), (Some(1), Some(&*url)));
}

#[test]
fn a_kept_snapshot_in_s3_serves_if_the_published_one_is_of_rows_that_the_ledger_lost() {
    let origin = Origin::with_rows(300);
    let bucket = Bucket::new();
    let url = bucket.url("hosts/eu.db");
    let publisher = origin.host().roles(&["reflector", "snapshotter"]).set("snapshotter.interval", "50ms");
    let publisher = publisher.set("snapshotter.urls", vec![url.clone()]).set("snapshotter.keep", 100);
    let publisher = with_s3(publisher, &endpoint()).start();
    let kept = || {
        let keys = bucket.keys().into_iter().filter(|key| key.starts_with("hosts/eu-") && key.ends_with(".json"));
        keys.map(|key| {
            let manifest = bucket.ask("GET", &format!("/{key}")).expect(200).json();
            (key.trim_end_matches(".json").to_owned(), manifest["seq"].as_i64().expect("a seq"))
        })
    };
    let safe = origin.last_seq();
    wait_until("it is kept", DEADLINE, || kept().any(|(_, seq)| seq == safe));
    next_second();
    let lost = origin.write(300, 400, "lost");
    wait_until("another one is kept", DEADLINE, || kept().any(|(_, seq)| seq == lost));
    drop(publisher);
    sql::query(&origin.ctldb(), &format!("DELETE FROM ctlstore_dml_ledger WHERE seq > {safe}")).expect("restore");
    sql::query(&origin.ctldb(), "DELETE FROM fam___tab WHERE id >= 300").expect("restore the rows");
    origin.write(300, 500, "written since");
    let host = origin.host().set("bootstrap.urls", vec![url]).set("bootstrap.allow_empty", false);
    let host = with_s3(host, &endpoint());
    let process = host.start();
    wait_until_equal(&host, &origin);
    let newest = kept().filter(|(_, seq)| *seq <= safe).map(|(key, _)| key).max().expect("one that the ledger has");
    let bootstrap = &role_status(&process.ops_url(), "applier")["details"]["bootstrap"];
    assert_eq!(bootstrap["last_source"], bucket.url(&newest).as_str(), "{bootstrap}");
}

#[test]
fn a_snapshot_of_the_original_in_s3_is_held_against_its_checksum() {
    let origin = Origin::with_rows(200);
    let file = origin.snapshot();
    let bucket = Bucket::new();
    let checksum = BASE64.encode(Sha1::digest(&file));
    for (key, bytes) in [("snapshot.db", file.clone()), ("snapshot.db.gz", gzip(&file))] {
        let wrong = BASE64.encode(Sha1::digest(b"another file"));
        put(&bucket, key, &bytes, &wrong);
        let host = with_s3(origin.host().set("bootstrap.urls", vec![bucket.url(key)]), &endpoint());
        let process = host.start();
        let status = wait_for_failure(&process, "its checksum says");
        assert_eq!(status["last_error"]["kind"], "snapshot", "{status}");
        assert!(!host.ldb_path().exists());
        // The same bytes with the right checksum are another object.
        bucket.ask("DELETE", &format!("/{key}"));
        drop(process);
        put(&bucket, key, &bytes, &checksum);
        let _process = host.start();
        wait_until_equal(&host, &origin);
    }
}

#[test]
fn what_the_original_publishes_bootstraps_from_s3_and_over_http_with_and_without_a_checksum() {
    let origin = Origin::with_rows(100);
    let file = by_the_original(&origin.snapshot());
    let (bucket, web) = (Bucket::new(), Web::start());
    let checksum = BASE64.encode(Sha1::digest(&file));
    for (suffix, bytes) in [("", file.clone()), (".gz", gzip(&file))] {
        let (with, without) = (format!("with.db{suffix}"), format!("without.db{suffix}"));
        put(&bucket, &with, &bytes, &checksum);
        put(&bucket, &without, &bytes, "");
        let by_http = web.put(&format!("snapshot.db{suffix}"), bytes);
        for url in [bucket.url(&with), bucket.url(&without), by_http] {
            let host = with_s3(origin.host().set("bootstrap.urls", vec![url.clone()]), &endpoint());
            let process = host.start();
            wait_until_equal(&host, &origin);
            let bootstrap = &role_status(&process.ops_url(), "applier")["details"]["bootstrap"];
            assert_eq!((&bootstrap["fetched"], &bootstrap["attempts"]), (&1.into(), &1.into()), "{url}");
            let page_size = ldb(&host.ldb_path(), "PRAGMA page_size").expect("ask");
            assert_eq!(page_size, [[Some("4096".to_owned())]], "{url}");
        }
    }
}

#[test]
fn a_store_that_answers_500_is_asked_until_it_does_not() {
    let origin = Origin::with_rows(50);
    let bucket = Bucket::new();
    put(&bucket, "snapshot.db", &origin.snapshot(), "");
    let front = Front::new(Manner::Answer { status: "500 Internal Server Error", body: "" });
    let host = with_s3(origin.host().set("bootstrap.urls", vec![bucket.url("snapshot.db")]), &front.endpoint);
    let process = host.start();
    let status = wait_for_failure(&process, "500");
    assert_eq!(status["last_error"]["kind"], "unavailable", "{status}");
    front.behave(Manner::Pass);
    wait_until_equal(&host, &origin);
}
