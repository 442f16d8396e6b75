//! HEAD, whose answers have the headers of GET and no body, and compressed bodies.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::exchange::{Connection, address};
use support::{Client, Node, client, client::wait_for_value, http};

fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(bytes.as_ref()).expect("pack");
    packer.finish().expect("pack")
}

/// Headers that differ between two answers to the same request.
const OF_THE_MOMENT: [&str; 3] = ["date", "ctlstore-lag-ms", "content-length"];

#[test]
fn head_is_answered_as_get_without_the_body_on_every_route_that_has_get() {
    let node = Node::new().start();
    let client = Client::registered(node.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "one")]);
    wait_for_value(&node.reader_url(), "fam", "tab", 1, "one");
    for url in [node.executive_url(), node.reader_url(), node.ops_url()] {
        let document = http::get(&format!("{url}/openapi.json")).expect(200).json();
        let paths = document["paths"].as_object().expect("paths").iter();
        for (path, _) in paths.filter(|(_, methods)| methods.get("get").is_some()) {
            let real =
                [("{family}", "fam"), ("{table}", "tab"), ("{key}", "1"), ("{role}", "reader"), ("{writer}", "writer")];
            let path = real.iter().fold(path.clone(), |path, (name, value)| path.replace(name, value));
            let ask = |method: &str| {
                let mut connection = Connection::to(&url);
                connection.send(format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n\r\n", address(&url)));
                let head = connection.head();
                if method == "HEAD" {
                    // The next answer follows directly, so this one had no body.
                    connection.send(format!("GET /nothing HTTP/1.1\r\nHost: {}\r\n\r\n", address(&url)));
                    assert_eq!(connection.answer().status, 404, "HEAD {path} has a body");
                }
                let mut headers = head.headers;
                let length = headers.iter().find(|(name, _)| name == "content-length").cloned();
                headers.retain(|(name, _)| !OF_THE_MOMENT.contains(&name.as_str()));
                headers.sort();
                (head.status, headers, length.is_some())
            };
            assert_eq!(ask("HEAD"), ask("GET"), "{path}");
        }
    }
    let only_post = http::request("HEAD", &format!("{}/tables", node.executive_url()), &[], "");
    assert_eq!((only_post.status, only_post.header("allow")), (405, Some("POST")));
}

#[test]
fn a_body_that_is_gzip_is_taken_by_every_route() {
    let node = Node::new().start();
    let client = Client::registered(node.executive_url());
    let executive = node.executive_url();
    let reader = node.reader_url();
    let coded = [("Content-Encoding", "gzip")];
    let post = |url: String, body: &str, headers: &[(&str, &str)]| {
        http::request("POST", &url, headers, gzip(body)).expect(200)
    };
    client.create_family("fam").expect(200);
    let table = r#"{"fields":[["id","integer"],["value","string"]],"keyFields":["id"]}"#;
    post(format!("{executive}/families/fam/tables/tab"), table, &coded);
    let credentials = [("ctlstore-writer", client::WRITER), ("ctlstore-secret", client::SECRET)];
    let write = format!("{executive}/families/fam/mutations");
    post(write, &client::upserts("tab", &[(1, "one")]).to_string(), &[credentials.as_slice(), &coded].concat());
    wait_for_value(&reader, "fam", "tab", 1, "one");
    let key = r#"{"Key":[{"Value":1}]}"#;
    for path in ["get-row-by-key/fam/tab", "get-row-by-key/f%61m/tab", "get-rows-by-key-prefix/fam/tab"] {
        for name in ["gzip", "x-gzip", "GZIP", "identity, gzip"] {
            let answer = post(format!("{reader}/{path}"), key, &[("Content-Encoding", name)]);
            assert!(answer.text().contains("one"));
        }
    }
    post(format!("{reader}/v1/rows:batch"), r#"{"rows":[{"family":"fam","table":"tab","key":[1]}]}"#, &coded);
}

#[test]
fn a_body_that_unpacks_to_too_much_or_is_coded_otherwise_is_refused() {
    let node = Node::new().start();
    let executive = node.executive_url();
    let reader = node.reader_url();
    for url in
        [format!("{executive}/tables"), format!("{reader}/get-row-by-key/fam/tab"), format!("{reader}/v1/rows:batch")]
    {
        let send = |coding: &str, body: &[u8]| http::request("POST", &url, &[("Content-Encoding", coding)], body);
        for bomb in [gzip(vec![b' '; 200 << 20]), gzip(vec![b' '; (1 << 20) + 1]), gzip([b'['; 1 << 20]).repeat(2)] {
            assert_eq!(send("gzip", &bomb).status, 413, "{url}");
        }
        for broken in [&b"{}"[..], b"\x1f\x8b", &gzip("{}")[..15]] {
            let answer = send("gzip", broken).expect(400);
            assert!(answer.text().contains("gzip"), "{}", answer.text());
        }
        for coding in ["br", "zstd", "deflate", "gzip, gzip", "compress", "gzip, br"] {
            let answer = send(coding, b"{}").expect(415);
            assert_eq!(answer.header("accept-encoding"), Some("gzip, identity"), "{coding}");
        }
    }
    assert!(!node.log().contains("ERROR"), "{}", node.log());
}
