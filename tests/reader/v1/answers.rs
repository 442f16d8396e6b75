//! The age of answers, and entity tags: a client that has an answer gets 304 as long as the answer is
//! the same.

use std::fs;
use std::time::Duration;

use serde_json::json;

use super::fixture::{INTEGER, TEXT, number, stage};
use support::http;
use support::reader_server::{OriginalLdb, ReaderServer, options};
use support::wait::wait_for;

const PATHS: [&str; 5] =
    ["/families", "/families/fam/tables/int", "/rows/fam/int/7", "/rows/fam/int?limit=3", "/rows/fam/int?limit=900"];

#[test]
fn a_client_that_has_the_answer_gets_no_other_until_the_seq_moves() {
    let stage = stage([INTEGER, TEXT]);
    stage.count_up_to(1_000);
    let tags = PATHS.map(|path| {
        let answer = stage.get(path).expect(200);
        let tag = answer.header("etag").expect("an entity tag").to_owned();
        assert!(tag.starts_with("\"3-") && tag.ends_with('"'), "{tag}");
        for header in [tag.clone(), format!("\"x\", W/{tag}"), "*".to_owned()] {
            let unchanged = stage.get_with(path, ("if-none-match", &header)).expect(304);
            assert_eq!(unchanged.body, b"", "{path}");
            assert_eq!((unchanged.header("etag"), number(&unchanged, "ctlstore-seq")), (Some(&*tag), 3), "{path}");
        }
        assert_eq!(stage.get(path).expect(200).body, answer.body, "{path}");
        tag
    });
    // The tag of one URL does not match at another URL.
    for (path, tag) in PATHS.iter().zip(tags.iter().cycle().skip(1)) {
        stage.get_with(path, ("if-none-match", tag)).expect(200);
    }
    stage.ldb.apply([r#"REPLACE INTO fam___text ("k","v") VALUES('a','1')"#]);
    for (path, tag) in PATHS.iter().zip(&tags) {
        let answer = stage.get_with(path, ("if-none-match", tag)).expect(200);
        assert!(answer.header("etag").is_some_and(|now| now.starts_with("\"4-") && now != tag), "{path}");
    }
}

#[test]
fn who_has_an_answer_that_the_settings_no_longer_allow_is_not_told_to_keep_it() {
    let stage = stage([INTEGER]);
    stage.count_up_to(1_000);
    let asked = "/rows/fam/int?limit=900";
    let unasked = "/rows/fam/int";
    let has = |path| stage.get(path).expect(200).header("etag").expect("an entity tag").to_owned();
    let tags = [(asked, has(asked)), (unasked, has(unasked))];
    // Too many bytes, a page that is shorter now, and an answer that is the same.
    for (max_rows, max_response_bytes, statuses) in
        [(0, 100, [416, 416]), (10, 64 << 20, [400, 200]), (0, 64 << 20, [304, 304])]
    {
        let mut options = options(&stage.path);
        (options.max_rows, options.max_response_bytes) = (max_rows, max_response_bytes);
        let reader = ReaderServer::start(options);
        for ((path, tag), status) in tags.iter().zip(statuses) {
            let url = format!("{}/v1{path}", reader.url);
            http::request("GET", &url, &[("if-none-match", tag)], "").expect(status);
        }
    }
}

#[test]
fn no_row_is_no_answer_to_have() {
    let stage = stage([INTEGER]);
    for (path, status) in [("/rows/fam/int/1", 404), ("/rows/fam/none/1", 404), ("/rows/fam/int/x", 400)] {
        for header in ["*", "\"1-0123456789abcdef01234567\"", "rubbish", ""] {
            let answer = stage.get_with(path, ("if-none-match", header)).expect(status);
            assert_eq!(answer.header("etag"), None, "{path}");
        }
    }
}

#[test]
fn an_ldb_that_took_the_path_has_other_tags_at_the_same_seq() {
    let stage = stage([INTEGER, r#"REPLACE INTO fam___int ("k","v") VALUES(7,'old')"#]);
    let tag = stage.get("/rows/fam/int/7").expect(200).header("etag").unwrap().to_owned();
    let other = stage.path.with_file_name("other.db");
    let ldb = OriginalLdb::create(&other);
    ldb.apply([INTEGER, r#"REPLACE INTO fam___int ("k","v") VALUES(7,'new')"#]);
    ldb.0.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(ldb);
    for left in ["ldb.db-wal", "ldb.db-shm"] {
        let _ = fs::remove_file(stage.path.with_file_name(left));
    }
    fs::rename(&other, &stage.path).unwrap();
    // Each worker looks for another file by itself. This answer comes from one that has looked.
    let answer = wait_for("the other file is read", Duration::from_secs(20), || {
        let answer = stage.get_with("/rows/fam/int/7", ("if-none-match", &tag));
        (answer.status == 200).then_some(answer)
    });
    assert_eq!((answer.json()["v"].as_str(), number(&answer, "ctlstore-seq")), (Some("new"), 2));
}

#[test]
fn every_answer_says_its_age_and_takes_demands_on_it() {
    let stage = stage([INTEGER]);
    stage.count_up_to(5_000);
    let batch = json!({"rows": [{"family": "fam", "table": "int", "key": [1]}]}).to_string();
    let absent = "/rows/fam/int/9999999";
    let requests =
        PATHS.iter().chain([&absent]).map(|path| ("GET", *path, "")).chain([("POST", "/rows:batch", &*batch)]);
    for (method, path, body) in requests {
        let url = format!("{}/v1{path}", stage.server.url);
        let ask = |headers: &[(&str, &str)]| http::request(method, &url, headers, body);
        for headers in [&[][..], &[("ctlstore-min-seq", "2"), ("ctlstore-wait", "10s")]] {
            let answer = ask(headers);
            assert_eq!(answer.status, if path == absent { 404 } else { 200 }, "{path}");
            assert_eq!(number(&answer, "ctlstore-seq"), 2, "{path}");
            assert!(number(&answer, "ctlstore-lag-ms") > 0, "{path}");
        }
        let late = ask(&[("ctlstore-min-seq", "3"), ("ctlstore-wait", "20ms")]).expect(412);
        assert_eq!((number(&late, "ctlstore-seq"), late.header("etag")), (2, None), "{path}");
        // The rows of the LDB were written long ago.
        ask(&[("ctlstore-max-lag", "1ms")]).expect(503);
        ask(&[("ctlstore-min-seq", "x")]).expect(400);
    }
}

#[test]
fn the_index_and_the_document_name_every_route() {
    let stage = stage::<&str>([]);
    let index = http::get(&stage.server.url).expect(200).text();
    let document = http::get(&format!("{}/openapi.json", stage.server.url)).expect(200).json();
    for (route, in_document) in [
        ("/v1/families ", "/v1/families"),
        ("/v1/families/{family}/tables/{table}", "/v1/families/{family}/tables/{table}"),
        ("/v1/rows/{family}/{table}/{key...}", "/v1/rows/{family}/{table}/{key}"),
        ("/v1/rows/{family}/{table}?prefix=&limit=&after=", "/v1/rows/{family}/{table}"),
        ("/v1/rows:batch", "/v1/rows:batch"),
    ] {
        assert!(index.contains(route), "{route}");
        assert!(document["paths"][in_document].is_object(), "{in_document}");
    }
}
