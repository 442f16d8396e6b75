//! The OpenAPI documents of a node's servers: that they are whole, and that the servers keep to them. The latter is
//! schemathesis's to judge, which makes requests out of a document, right ones and wrong ones, and looks at every
//! answer. What it is told besides stands in openapi/schemathesis.toml and openapi/hooks.py.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ctlstore::metrics::Route;
use serde_json::{Value, json};

use support::{Client, Node, NodeProcess, http, scratch_dir, wait};

/// The names are those of the documents' examples, and one of a writer to be removed.
const WRITER: &str = "billing";
const LEAVING: &str = "leaving";
const SECRET: &str = "correct horse";

/// A node on which everything is enabled, with a family, a table, a row of it and a writer.
fn node_with_data() -> NodeProcess {
    let node = Node::new().roles(&["executive", "reflector", "reader"]);
    let node = node.set("executive.destructive_schema_changes", true).set("reader.query.enabled", true).start();
    let client = Client::new(node.executive_url());
    client.wait_until_serving();
    client.create_family("shop").expect(200);
    client
        .create_table("shop", "prices", &[("country", "string"), ("item", "integer"), ("cents", "integer")], 1)
        .expect(200);
    for writer in [WRITER, LEAVING] {
        http::post(&client.url(&format!("/writers/{writer}")), SECRET).expect(200);
    }
    let limit = json!({"amount": 1_000_000_000, "period": "1m"}).to_string();
    http::post(&client.url(&format!("/limits/writers/{WRITER}")), limit).expect(200);
    let row = json!({"table": "prices", "values": {"country": "de", "item": 7, "cents": 1999}});
    let body = json!({"mutations": [row]}).to_string();
    let headers = [("ctlstore-writer", WRITER), ("ctlstore-secret", SECRET)];
    http::request("POST", &client.url("/families/shop/mutations"), &headers, body).expect(200);
    wait::wait_until("the row can be read", Duration::from_secs(30), || {
        let url = format!("{}/get-row-by-key/shop/prices", node.reader_url());
        http::post(&url, r#"{"Key":[{"Value":"de"}]}"#).status == 200
    });
    node
}

fn document(url: &str) -> Value {
    let answer = http::get(&format!("{url}/openapi.json")).expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    document
}

/// Everything within a document that looks like a reference.
fn references(json: &Value, found: &mut BTreeSet<String>) {
    match json {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn the_documents_have_every_route_and_all_that_they_refer_to() {
    let node = Node::new().start();
    let mut described = BTreeSet::new();
    for url in [node.executive_url(), node.reader_url(), node.ops_url()] {
        let document = document(&url);
        described.extend(document["paths"].as_object().expect("paths").keys().cloned());
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(!found.is_empty(), "{url} describes no shapes");
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("a reference within the document");
            assert!(document.pointer(pointer).is_some(), "{reference} is not there");
        }
    }
    // The metrics' own list of routes, where a segment may say how it is matched.
    let listed: BTreeSet<String> = Route::PATTERNS.iter().map(|pattern| pattern.replace(":.*}", "}")).collect();
    assert_eq!(described, listed);
}

#[test]
fn every_get_is_described_as_head_too_without_the_body() {
    let node = Node::new().start();
    for url in [node.executive_url(), node.reader_url(), node.ops_url()] {
        for (path, item) in document(&url)["paths"].as_object().expect("paths") {
            assert_eq!(item.get("get").is_some(), item.get("head").is_some(), "{path}");
            let Some(head) = item.get("head") else { continue };
            let statuses = |operation: &Value| {
                operation["responses"].as_object().expect("responses").keys().cloned().collect::<BTreeSet<_>>()
            };
            assert_eq!(statuses(head), statuses(&item["get"]), "{path}");
            assert_eq!(head["parameters"], item["get"]["parameters"], "{path}");
            assert!(head["operationId"].as_str().expect("an id").starts_with("head"), "{path}");
            for (status, response) in head["responses"].as_object().expect("responses") {
                assert!(response.get("content").is_none(), "{path} {status}");
            }
        }
    }
}

#[test]
fn a_method_that_is_not_described_is_refused_and_told_which_are() {
    let node = Node::new().start();
    for url in [node.executive_url(), node.reader_url(), node.ops_url()] {
        for (path, item) in document(&url)["paths"].as_object().expect("paths") {
            let methods: BTreeSet<_> = item.as_object().expect("an item").keys().map(|m| m.to_uppercase()).collect();
            let answer = http::request("PATCH", &format!("{url}{}", path.replace(['{', '}'], "")), &[], "{}");
            assert_eq!(answer.status, 405, "PATCH {path}");
            let allowed = answer.header("allow").unwrap_or_default();
            assert_eq!(allowed.split(", ").map(str::to_owned).collect::<BTreeSet<_>>(), methods, "{path}");
        }
    }
}

#[test]
fn the_reader_keeps_to_its_document() {
    let node = node_with_data();
    judge(&node, &node.reader_url());
}

#[test]
fn the_executive_keeps_to_its_document() {
    let node = node_with_data();
    judge(&node, &node.executive_url());
}

#[test]
fn the_ops_server_keeps_to_its_document() {
    let node = node_with_data();
    judge(&node, &node.ops_url());
}

/// Has schemathesis go through the document of a server; it must find nothing, and the node must have met nothing
/// that it calls an error.
#[track_caller]
fn judge(node: &NodeProcess, url: &str) {
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/openapi");
    // It keeps what it has learnt in its working directory; every run is to begin with nothing.
    let scratch = scratch_dir();
    let mut command = Command::new(schemathesis());
    command.arg("--config-file").arg(format!("{ours}/schemathesis.toml"));
    command.args(["run", &format!("{url}/openapi.json"), "--no-color"]).current_dir(scratch.path());
    command.env("PYTHONPATH", ours).env("PYTHONDONTWRITEBYTECODE", "1").env("NO_PROXY", "*");
    let before = successes(node);
    let output = command.output().expect("run schemathesis");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    // It must have come to all of them but the document itself, which it has already read: one that it can make no
    // request for would only be passed over.
    let paths = document(url)["paths"].as_object().expect("paths").clone();
    let operations: usize = paths.values().map(|item| item.as_object().expect("an item").len()).sum();
    assert!(said.contains(&format!("Tested: {}\n", operations - 1)), "{said}");
    // And what it asked for must have been done: a server that refuses everything keeps to its document, too.
    let after = successes(node);
    let done = |series: &String| after.get(series).copied() > before.get(series).copied();
    let undone: Vec<_> = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().expect("an item").keys().map(move |method| series_of(path, method)))
        .filter(|series| !done(series))
        .collect();
    assert!(undone.is_empty(), "{undone:#?}\n{said}");
    let errors: Vec<_> = node.log().lines().filter(|line| line.contains("ERROR")).map(str::to_owned).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

/// The metrics' name for an operation.
fn series_of(path: &str, method: &str) -> String {
    format!("{} {path}", method.to_uppercase())
}

/// How many requests of each operation were answered with 2xx.
fn successes(node: &NodeProcess) -> BTreeMap<String, u64> {
    let mut successes = BTreeMap::new();
    for line in http::get(&format!("{}/metrics", node.ops_url())).expect(200).text().lines() {
        let series = line.strip_prefix("ctlstore_http_requests_total{");
        let Some((labels, count)) = series.and_then(|series| series.split_once("} ")) else { continue };
        let label = |name: &str| {
            let value = labels.split_once(&format!("{name}=\""))?.1;
            value.split_once('"').map(|(value, _)| value)
        };
        let [route, method, status] = ["route", "method", "status"].map(|name| label(name).expect("the label"));
        if status.starts_with('2') {
            let series = series_of(&route.replace(":.*}", "}"), method);
            *successes.entry(series).or_default() += count.parse::<u64>().expect("a count");
        }
    }
    successes
}

fn schemathesis() -> PathBuf {
    let installed =
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/schemathesis/bin/schemathesis"));
    let program = std::env::var_os("CTLSTORE_TEST_SCHEMATHESIS").map_or_else(installed, PathBuf::from);
    assert!(
        program.is_file(),
        "no schemathesis at {}: run `make test` or tools/install-schemathesis",
        program.display()
    );
    program
}
