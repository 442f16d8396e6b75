//! The OpenAPI documents of executive and reader: what they say, and whether the servers keep to it.

mod support;

use std::collections::BTreeSet;

use serde_json::Value;

use support::{Node, http};

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
fn each_server_describes_itself() {
    let node = Node::new().start();
    for (url, route) in [(node.executive_url(), "/cookie"), (node.reader_url(), "/get-row-by-key/{family}/{table}")] {
        let answer = http::get(&format!("{url}/openapi.json")).expect(200);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let document = answer.json();
        assert_eq!(document["openapi"], "3.1.0");
        assert!(document["paths"][route].is_object(), "{route} is missing in {document}");
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("a reference within the document");
            assert!(document.pointer(pointer).is_some(), "{reference} is not there");
        }
    }
}
