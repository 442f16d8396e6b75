//! Requests that a web page of another site sends. Every server refuses them on every kind of route, and other
//! requests still work.

use super::exchange::{Connection, address};
use support::{Node, NodeProcess, http};

/// One route of each server, and a fast path.
fn routes(node: &NodeProcess) -> [(String, &'static str); 5] {
    [
        (node.executive_url(), "GET /limits/tables"),
        (node.executive_url(), "POST /families/shop"),
        (node.reader_url(), "GET /openapi.json"),
        (node.reader_url(), "POST /get-row-by-key/fam/tab"),
        (node.ops_url(), "GET /status"),
    ]
}

fn status(url: &str, line: &str, host: &str, more: &str) -> (u16, String) {
    let mut connection = Connection::to(url);
    connection.send(format!("{line} HTTP/1.1\r\nHost: {host}\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n"));
    let answer = connection.answer();
    (answer.status, answer.text())
}

#[test]
fn a_request_for_another_name_than_loopbacks_is_refused_by_servers_on_loopback() {
    let node = Node::new().set("http.allowed_hosts", vec!["Ctl.internal"]).start();
    for (url, line) in routes(&node) {
        let port = address(&url).rsplit_once(':').expect("a port").1.to_owned();
        for host in
            ["evil.example".to_owned(), format!("evil.example:{port}"), format!("127.0.0.1.evil.example:{port}")]
        {
            let (status, text) = status(&url, line, &host, "");
            assert_eq!(status, 421, "{line} {host}: {text}");
            assert!(text.contains("http.allowed_hosts"), "{text}");
        }
        let (method, path) = line.split_once(' ').expect("two words");
        let absolute = format!("{method} http://evil.example:{port}{path}");
        assert_eq!(status(&url, &absolute, address(&url), "").0, 421);
        for host in
            [address(&url), "localhost", &format!("LOCALHOST:{port}"), "[::1]:1", "ctl.internal", "CTL.internal:80"]
        {
            let (status, text) = status(&url, line, host, "");
            assert_ne!(status, 421, "{line} {host}: {text}");
        }
    }
    // The refused requests made nothing.
    let evil = status(&node.executive_url(), "POST /families/rebound", "evil.example", "");
    assert_eq!(evil.0, 421);
    http::post(&format!("{}/families/rebound", node.executive_url()), "").expect(200);
}

#[test]
fn a_host_header_that_is_no_host_is_a_bad_request_on_every_server() {
    let node = Node::new().start();
    for (url, line) in routes(&node) {
        for host in ["a b", "localhost:port", "localhost/x", "user@localhost", "::1", "[::1", "a:1:2", "\"localhost\""]
        {
            let (status, text) = status(&url, line, host, "");
            assert_eq!((status, text.contains("the header Host is no host")), (400, true), "{line} {host}: {text}");
        }
    }
    // The library's own refusals are of the same status.
    for head in ["GET /healthz HTTP/1.1\r\n", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n"] {
        let mut connection = Connection::to(&node.ops_url());
        connection.send(format!("{head}Connection: close\r\n\r\n"));
        assert!(connection.rest().starts_with("HTTP/1.1 400 "), "{head}");
    }
}

#[test]
fn a_server_beyond_loopback_answers_probes_by_address_and_the_names_that_it_was_given() {
    let open = |names: &[&str]| {
        let node = Node::new().set("http.allowed_hosts", names.to_vec());
        ["executive.bind", "reader.bind", "ops.bind"]
            .into_iter()
            .fold(node, |node, key| node.set(key, "0.0.0.0:0"))
            .start()
    };
    for (names, evil) in [(&[][..], 200), (&["ctl.internal"], 421)] {
        let node = open(names);
        for (host, want) in
            [("10.1.2.3:9090", 200), ("[fd00::1]:9090", 200), ("ctl.internal", 200), ("evil.example", evil)]
        {
            assert_eq!(status(&node.ops_url(), "GET /healthz", host, "").0, want, "{names:?} {host}");
            assert_eq!(status(&node.reader_url(), "GET /", host, "").0, want, "{names:?} {host}");
        }
    }
}

#[test]
fn what_the_browser_says_of_another_site_is_heard_without_an_origin() {
    let node = Node::new().start();
    for (url, line) in routes(&node) {
        let of = |more: &str| status(&url, line, address(&url), more).0;
        for more in [
            "Sec-Fetch-Site: cross-site\r\n".to_owned(),
            "Sec-Fetch-Site: same-site\r\n".to_owned(),
            "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n".to_owned(),
            format!("Origin: http://{}\r\nSec-Fetch-Site: cross-site\r\n", address(&url)),
            "Origin: http://evil.example\r\nSec-Fetch-Site: none\r\n".to_owned(),
            "Origin: null\r\n".to_owned(),
        ] {
            assert_eq!(of(&more), 403, "{line} {more:?}");
        }
        for more in [
            String::new(),
            "Sec-Fetch-Site: none\r\n".to_owned(),
            "Sec-Fetch-Site: same-origin\r\n".to_owned(),
            format!("Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", address(&url)),
        ] {
            assert_ne!(of(&more), 403, "{line} {more:?}");
        }
    }
}
