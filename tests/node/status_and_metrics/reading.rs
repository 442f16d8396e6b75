//! Scenarios with reads that are answered or refused, and every route of every server.

use std::fs;

use serde_json::json;

use super::fixture::{lines, ready};
use super::watch::{Moved, Watch};
use support::client::wait_for_value;
use support::{Client, Node, http};

pub fn every_route_of_every_server(moved: &Moved) {
    let node = Node::new()
        .roles(&["executive", "reflector", "reader"])
        .set("reader.max_rows", 1)
        .set("executive.destructive_schema_changes", true);
    let (process, watch) = ready(&node, moved);
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "one"), (2, "two")]);
    wait_for_value(&process.reader_url(), "fam", "tab", 2, "two");
    let credentials = [("ctlstore-writer", "tester"), ("ctlstore-secret", "tester-secret")];
    let table = json!({"fields": [["id", "integer"]], "keyFields": ["id"]}).to_string();
    let tables = json!([{"family": "fam", "name": "third", "fields": [["id", "integer"]], "keyFields": ["id"]}]);
    let field = json!({"fields": [["more", "text"]]}).to_string();
    let limit = json!({"max-size": 2000, "warn-size": 1000}).to_string();
    let rate = json!({"amount": 5, "period": "1m"}).to_string();
    let key = json!({"Key": [{"Value": 1}]}).to_string();
    let all = json!({"Key": []}).to_string();
    let batch = json!({"rows": [{"family": "fam", "table": "tab", "key": [1]}]}).to_string();
    let ask = |server: &str, route: &str, method: &str, path: &str, body: &str, status: u16| {
        let series = format!(
            "ctlstore_http_requests_total{{server=\"{server}\",route=\"{route}\",method=\"{method}\",status=\"{status}\"}}"
        );
        let latency = format!("ctlstore_http_request_duration_seconds_count{{server=\"{server}\",route=\"{route}\"}}");
        let url = format!("{}{path}", process.url(server));
        watch.event(&format!("{method} {path}"), &[&series, &latency], || {
            let method = if method == "other" { "PATCH" } else { method };
            http::request(method, &url, &credentials, body).expect(status)
        });
    };
    let executive = |route: &str, method: &str, path: &str, body: &str, status: u16| {
        ask("executive", route, method, path, body, status)
    };
    executive("other", "GET", "/", "", 404);
    executive("/status", "GET", "/status", "", 200);
    executive("/families/{family}", "POST", "/families/second", "", 200);
    executive("/families/{family}/tables/{table}", "POST", "/families/second/tables/tab", &table, 200);
    executive("/families/{family}/tables/{table}", "PUT", "/families/second/tables/tab", &field, 200);
    executive("/tables", "POST", "/tables", &tables.to_string(), 200);
    executive("/schema/table/{family}/{table}", "GET", "/schema/table/fam/tab", "", 200);
    executive("/schema/family/{family}", "GET", "/schema/family/fam", "", 200);
    executive("/families/{family}/mutations", "POST", "/families/fam/mutations", "{}", 400);
    executive("/cookie", "GET", "/cookie", "", 200);
    executive("/cookie", "POST", "/cookie", "a cookie", 200);
    executive("/writers/{writer}", "POST", "/writers/tester", "tester-secret", 200);
    executive("/limits/tables/{family}/{table}", "POST", "/limits/tables/fam/tab", &limit, 200);
    executive("/limits/tables", "GET", "/limits/tables", "", 200);
    executive("/limits/tables/{family}/{table}", "DELETE", "/limits/tables/fam/tab", "", 200);
    executive("/limits/writers/{writer}", "POST", "/limits/writers/tester", &rate, 200);
    executive("/limits/writers", "GET", "/limits/writers", "", 200);
    executive("/limits/writers/{writer}", "DELETE", "/limits/writers/tester", "", 200);

    let reader = |route: &str, method: &str, path: &str, body: &str, status: u16| {
        ask("reader", route, method, path, body, status)
    };
    let row = "/get-row-by-key/{family}/{table}";
    let rows = "/get-rows-by-key-prefix/{family}/{table}";
    reader("/", "GET", "/", "", 200);
    reader(row, "POST", "/get-row-by-key/fam/tab", &key, 200);
    reader(row, "POST", "/get-row-by-key/fam/tab", "no json", 400);
    reader(row, "POST", "/get-row-by-key/fam/nosuch", &key, 404);
    reader(row, "GET", "/get-row-by-key/fam/tab", "", 405);
    reader(row, "HEAD", "/get-row-by-key/fam/tab", "", 405);
    reader(row, "other", "/get-row-by-key/fam/tab", &key, 405);
    reader(rows, "POST", "/get-rows-by-key-prefix/fam/tab", &key, 200);
    reader(rows, "POST", "/get-rows-by-key-prefix/fam/tab", &all, 416);
    reader("/get-ledger-latency", "GET", "/get-ledger-latency", "", 200);
    reader("/changes", "GET", "/changes?since=nonsense", "", 400);
    reader("/v1/families", "GET", "/v1/families", "", 200);
    reader("/v1/families/{family}/tables/{table}", "GET", "/v1/families/fam/tables/tab", "", 200);
    reader("/v1/rows/{family}/{table}", "GET", "/v1/rows/fam/tab?limit=1", "", 200);
    reader("/v1/rows/{family}/{table}/{key:.*}", "GET", "/v1/rows/fam/tab/1", "", 200);
    reader("/v1/rows:batch", "POST", "/v1/rows:batch", &batch, 200);
    reader("/openapi.json", "GET", "/openapi.json", "", 200);
    reader("/healthcheck", "GET", "/healthcheck", "", 200);
    reader("/ping", "GET", "/ping", "", 200);
    reader("other", "GET", "/what/is/this", "", 404);

    let ops = |route: &str, path: &str, status: u16| ask("ops", route, "GET", path, "", status);
    ops("/", "/", 200);
    ops("/status", "/status", 200);
    ops("/metrics", "/metrics", 200);
    ops("/healthz", "/healthz", 200);
    ops("/readyz", "/readyz", 200);
    ops("/readyz/{role}", "/readyz/reader", 200);
    ops("/readyz/{role}", "/readyz/reflector", 200);

    let clear = "/clear-rows/families/{family}";
    executive(&format!("{clear}/tables/{{table}}"), "DELETE", "/clear-rows/families/fam/tables/tab", "", 200);
    executive(clear, "DELETE", "/clear-rows/families/fam", "", 200);
    executive("/families/{family}/tables/{table}", "DELETE", "/families/second/tables/tab", "", 200);
}

pub fn an_ldb_that_is_empty_or_no_database(moved: &Moved) {
    let node = Node::new().roles(&["reflector", "reader"]);
    let process = node.start();
    let reader = process.reader_url();
    http::get(&format!("{reader}/get-ledger-latency")).expect(500);
    http::get(&format!("{reader}/ping")).expect(500);
    drop(process);

    let path = node.data_dir().join("garbage.db");
    fs::write(&path, "this is no database".repeat(1000)).expect("write garbage");
    let node = Node::new().roles(&["reader"]).set("reader.workers", 1).set("ldb.path", path.display().to_string());
    let process = node.start();
    let watch = Watch::new(process.ops_url(), moved);
    let fails = [
        "ctlstore_errors_total{component=\"reader\",kind=\"storage\"}",
        "/reader/state",
        "/reader/not_ready",
        "/reader/last_error",
        "/reader/details/failures",
    ];
    watch.begins("an LDB that is no database", &fails);
    assert!(watch.text("/reader/not_ready").contains("is retrying: ldb"));
    watch.wait_state("reader", "retrying");
    let failures = watch.now("/reader/details/failures").as_u64().expect("a number");
    let body = json!({"Key": [{"Value": 1}]}).to_string();
    for _ in 0..20 {
        http::post(&format!("{}/get-row-by-key/fam/tab", process.reader_url()), &body).expect(500);
    }
    watch.shows("a look at it again", "/reader/details/failures", |now| now.as_u64() > Some(failures));
    // The role reports one, and the worker that answers reports one.
    assert_eq!(lines(&process, &["ERROR"]).len(), 2, "{}", process.log());
}
