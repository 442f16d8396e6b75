//! Scenarios with queries.

use std::thread;

use super::watch::{Moved, Watch};
use support::{Node, http, wait_until};

const ENDLESS: &str =
    r#"{"sql":"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"}"#;

pub fn queries_that_run_and_that_wait(moved: &Moved) {
    let node = Node::new().roles(&["executive", "reflector", "reader"]);
    let node = node.set("reader.query.enabled", true).set("reader.query.max_running", 1);
    let process = node.set("reader.query.max_time", "30s").start();
    let watch = Watch::new(process.ops_url(), moved);
    let url = format!("{}/v1/query", process.reader_url());
    wait_until("the ldb is there", std::time::Duration::from_secs(20), || {
        http::post(&url, r#"{"sql":"SELECT 1"}"#).status == 200
    });
    let series = [
        "ctlstore_http_requests_total{server=\"reader\",route=\"/v1/query\",method=\"POST\",status=\"400\"}",
        "ctlstore_reader_query_duration_seconds_count{outcome=\"refused\"}",
    ];
    watch.event("a query that is wrong", &series, || http::post(&url, r#"{"sql":"SELECT"}"#).expect(400));
    let ask = || {
        let url = url.clone();
        // The node stops before the query ends.
        thread::spawn(move || drop(http::exchange("POST", &url, &[], ENDLESS)));
    };
    watch.event("a query that runs", &["ctlstore_reader_queries_running"], ask);
    watch.event("a query that waits", &["ctlstore_reader_queries_waiting"], ask);
}
