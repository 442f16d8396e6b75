//! Framing by RFC 9110 and 9112: the end of each request, which requests are answered, and the form of answers.

use super::exchange::{Connection, address};
use support::{Client, Node, NodeProcess, client::wait_for_value, http};

const UPGRADES: [&str; 5] = [
    "Connection: upgrade\r\n",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
    "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "Upgrade: websocket\r\nConnection: Upgrade\r\n",
    "upgrade: WebSocket, foo/2\r\nconnection:UPGRADE\r\nconnection: upgrade\r\n",
];

fn node() -> NodeProcess {
    let node = Node::new().start();
    let client = Client::registered(node.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "one")]);
    wait_for_value(&node.reader_url(), "fam", "tab", 1, "one");
    node
}

/// A request with further headers, for a server on this address.
fn request(line: &str, url: &str, more: &str, body: &str) -> String {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{line}\r\nHost: {}\r\n{more}{length}\r\n{body}", address(url))
}

#[test]
fn an_upgrade_is_ignored_on_every_kind_of_route_and_the_connection_stays() {
    let node = node();
    let executive = node.executive_url();
    let reader = node.reader_url();
    let ops = node.ops_url();
    let key = r#"{"Key":[{"Value":1}]}"#;
    let limit = r#"{"max-size":1000000,"warn-size":1000}"#;
    for more in UPGRADES {
        for (url, line, body) in [
            (&executive, "GET /schema/family/fam HTTP/1.1", ""),
            (&executive, "POST /limits/tables/fam/tab HTTP/1.1", limit),
            (&reader, "POST /get-row-by-key/fam/tab HTTP/1.1", key),
            (&reader, "POST /get-row-by-key/f%61m/tab HTTP/1.1", key),
            (&reader, "GET /v1/rows/fam/tab/1 HTTP/1.1", ""),
            (&ops, "GET /healthz HTTP/1.1", ""),
        ] {
            let mut connection = Connection::to(url);
            for _ in 0..3 {
                // It comes in two pieces; the first one ends within a word of the head.
                let text = request(line, url, more, body);
                let (first, second) = text.split_at(text.to_lowercase().find("upgr").expect("an upgrade") + 3);
                connection.send(first);
                connection.send(second);
                let answer = connection.answer();
                assert_eq!(answer.status, 200, "{line} {more:?}: {}", answer.text());
                assert_eq!((answer.header("connection"), answer.header("upgrade")), (None, None), "{line} {more:?}");
            }
        }
    }
}

#[test]
fn changes_are_framed_as_for_everybody_where_an_upgrade_is_asked_for() {
    let node = node();
    for more in UPGRADES {
        let mut connection = Connection::to(&node.reader_url());
        connection.send(request("GET /changes HTTP/1.1", &node.reader_url(), more, ""));
        let head = connection.head();
        assert_eq!(
            (head.status, head.header("transfer-encoding"), head.header("connection")),
            (200, Some("chunked"), None)
        );
        let mut events = Vec::new();
        assert!(connection.chunk(&mut events));
        assert!(String::from_utf8_lossy(&events).contains("event: start"));
    }
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks_and_may_keep_its_connection() {
    let node = node();
    let reader = node.reader_url();
    for more in ["", "Connection: keep-alive\r\n"] {
        let mut connection = Connection::to(&reader);
        connection.send(format!("GET /changes HTTP/1.0\r\n{more}\r\n"));
        let head = connection.head();
        assert_eq!((head.version.as_str(), head.status), ("HTTP/1.0", 200));
        assert_eq!((head.header("transfer-encoding"), head.header("content-length")), (None, None));
        assert_ne!(head.header("connection"), Some("keep-alive"));
        connection.end();
        let events = connection.rest();
        assert!(events.starts_with("retry: 1000\n"), "{events:?}");
    }
    let mut connection = Connection::to(&reader);
    for _ in 0..2 {
        connection.send("GET /ping HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        let answer = connection.answer();
        assert_eq!((answer.version.as_str(), answer.status), ("HTTP/1.0", 200));
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
    connection.send("GET /ping HTTP/1.0\r\n\r\n");
    assert_eq!(connection.answer().status, 200);
    assert_eq!(connection.rest(), "");
}

#[test]
fn pipelined_requests_are_answered_in_order_and_each_by_its_own_method_and_version() {
    let node = node();
    let executive = node.executive_url();
    let reader = node.reader_url();
    let ops = node.ops_url();
    let key = r#"{"Key":[{"Value":1}]}"#;
    let chunked = format!("{:x}\r\n{key}\r\n0\r\n\r\n", key.len());
    let by_key = "POST /get-row-by-key/fam/tab HTTP/1.1";
    let mut connection = Connection::to(&reader);
    connection.send(
        [
            request(by_key, &reader, "", key),
            request("HEAD /get-ledger-latency HTTP/1.1", &reader, "", ""),
            request(by_key, &reader, "Transfer-Encoding: chunked\r\n", "")
                .replace("\r\n\r\n", &format!("\r\n\r\n{chunked}")),
            request("GET /v1/rows/fam/tab/1 HTTP/1.1", &reader, "", ""),
            request("GET /nothing HTTP/1.1", &reader, "Connection: close\r\n", ""),
            request(by_key, &reader, "", key),
        ]
        .concat(),
    );
    assert!(connection.answer().text().contains("one"));
    let head = connection.head();
    assert_eq!((head.status, head.header("content-length").is_some()), (200, true));
    assert!(connection.answer().text().contains("one"));
    assert!(connection.answer().text().contains("one"));
    let last = connection.answer();
    assert_eq!((last.status, last.header("connection")), (404, Some("close")));
    assert_eq!(connection.rest(), "", "what is behind the last request is not answered");

    // These wait for actors, so the HTTP library has time to read the next request.
    for (url, path) in [(&executive, "/limits/tables"), (&ops, "/status")] {
        let mut connection = Connection::to(url);
        let get = |method: &str, more: &str| request(&format!("{method} {path} HTTP/1.1"), url, more, "");
        connection
            .send([get("GET", ""), get("HEAD", ""), get("GET", "Connection: close\r\n"), get("DELETE", "")].concat());
        let first = connection.answer();
        assert_eq!((first.status, first.header("connection")), (200, None));
        assert!(!first.body.is_empty());
        let head = connection.head();
        assert_eq!((head.status, head.header("connection")), (200, None));
        let last = connection.answer();
        assert_eq!((last.status, last.header("connection")), (200, Some("close")));
        assert_eq!(connection.rest(), "");
    }
}

#[test]
fn a_request_behind_connection_close_changes_nothing() {
    let node = Node::new().roles(&["executive"]).start();
    let executive = node.executive_url();
    let family = |name: &str, more: &str| request(&format!("POST /families/{name} HTTP/1.1"), &executive, more, "");
    for (number, more) in
        ["Connection: close\r\n", "Connection: keep-alive, close\r\n", "Connection: Upgrade, Close\r\n"]
            .into_iter()
            .enumerate()
    {
        let mut connection = Connection::to(&executive);
        connection.send([family(&format!("first{number}"), more), family(&format!("second{number}"), "")].concat());
        assert_eq!(connection.answer().status, 200);
        assert_eq!(connection.rest(), "");
        http::post(&format!("{executive}/families/first{number}"), "").expect(409);
        http::post(&format!("{executive}/families/second{number}"), "").expect(200);
    }
}

#[test]
fn a_request_of_which_nobody_knows_the_end_is_refused_and_nothing_behind_it_is_answered() {
    let node = node();
    for url in [node.executive_url(), node.reader_url(), node.ops_url()] {
        let host = format!("Host: {}\r\n", address(&url));
        for bad in [
            format!("POST /x HTTP/1.1\r\n{host}Content-Length: 5\r\nContent-Length: 5\r\n\r\n"),
            format!("POST /x HTTP/1.1\r\n{host}Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
            format!("POST /x HTTP/1.1\r\n{host}Content-Length: 5, 5\r\n\r\n"),
            format!("POST /x HTTP/1.1\r\n{host}Content-Length: +5\r\n\r\n"),
            format!("POST /x HTTP/1.1\r\n{host}Content-Length: -5\r\n\r\n"),
            format!("POST /x HTTP/1.1\r\n{host}Content-Length: 0x5\r\n\r\n"),
            format!("POST /x HTTP/1.1\r\n{host}Content-Length : 5\r\n\r\n"),
            format!("POST /x HTTP/1.1\r\n{host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
            format!("POST /x HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
            format!("POST /x HTTP/1.1\r\n{host}Transfer-Encoding: chunked, chunked\r\n\r\n"),
            format!("POST /x HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
            format!("POST /x HTTP/1.1\r\n{host}Transfer-Encoding: xchunked\r\n\r\n"),
            format!("POST /x HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n\r\n"),
            format!("POST /x HTTP/1.0\r\n{host}Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"),
            format!("POST /x HTTP/1.1\r\n{host}X: a\r\n Content-Length: 5\r\n\r\n"),
            format!("POST /x HTTP/1.1\r\n{host}Content-Length:\r\n 5\r\n\r\n"),
            format!("GET /x HTTP/1.1\r\n{host}X: a\rContent-Length: 5\r\n\r\n"),
            format!("GET /x HTTP/1.1\r\n{host}X: a\0b\r\n\r\n"),
            format!("GET /x HTTP/1.1\r\n{host}{host}\r\n"),
            "GET /x HTTP/1.1\r\n\r\n".to_owned(),
            format!("GET /x y HTTP/1.1\r\n{host}\r\n"),
            format!("GET /x HTTP/2.0\r\n{host}\r\n"),
            format!("GET  /x HTTP/1.1\r\n{host}\r\n"),
        ] {
            let mut connection = Connection::to(&url);
            connection.send(format!("{bad}GET /smuggled HTTP/1.1\r\n{host}\r\n"));
            let rest = connection.rest();
            assert!(rest.starts_with("HTTP/1.1 400 ") || rest.starts_with("HTTP/1.0 400 "), "{bad:?}: {rest:?}");
            assert_eq!(rest.matches("HTTP/1.").count(), 1, "{bad:?}: {rest:?}");
        }
    }
}

#[test]
fn a_chunk_that_is_not_one_ends_the_connection() {
    let node = node();
    let reader = node.reader_url();
    for bad in ["g\r\n", "\r\n", "5\nabcde\r\n", "5\r\nabcdefg\r\n", "11111111111111111\r\n", "5;a\u{1}\r\nabcde\r\n"] {
        let mut connection = Connection::to(&reader);
        let more = "Transfer-Encoding: chunked\r\n";
        let head = request("POST /get-row-by-key/fam/tab HTTP/1.1", &reader, more, "");
        connection.send(format!("{head}{bad}0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let rest = connection.rest();
        assert!(rest.matches("HTTP/1.1").count() <= 1 && !rest.contains("no such route"), "{bad:?}: {rest:?}");
    }
}

#[test]
fn targets_of_every_form_are_answered() {
    let node = node();
    for url in [node.executive_url(), node.reader_url(), node.ops_url()] {
        let once = |line: &str, more: &str| {
            let mut connection = Connection::to(&url);
            connection.send(request(line, &url, more, ""));
            connection.answer()
        };
        assert_eq!(once(&format!("GET {url}/openapi.json HTTP/1.1"), "").status, 200);
        assert_eq!(once("GET /openapi.json?x=1 HTTP/1.1", "").status, 200);
        let star = once("OPTIONS * HTTP/1.1", "Connection: close\r\n");
        assert_eq!((star.status, star.header("allow").is_some_and(|allow| allow.contains("head"))), (204, true));
        for method in ["OPTIONS", "TRACE", "PATCH", "PROPFIND"] {
            let answer = once(&format!("{method} /openapi.json HTTP/1.1"), "");
            assert_eq!((answer.status, answer.header("allow")), (405, Some("get, head")), "{method}");
        }
        for length in [8193, 20_000, 66_000, 100_000] {
            let answer = once(&format!("GET /{} HTTP/1.1", "a".repeat(length)), "");
            assert_eq!(answer.status, 414, "{length}");
        }
        assert_eq!(once("GET /openapi.json HTTP/1.1", &"X: y\r\n".repeat(90)).status, 200);
        let mut connection = Connection::to(&url);
        connection.send(request("GET /openapi.json HTTP/1.1", &url, &"X: y\r\n".repeat(1000), ""));
        assert!(connection.rest().starts_with("HTTP/1.1 431 "));
        let mut connection = Connection::to(&url);
        connection.send(request("CONNECT localhost:80 HTTP/1.1", &url, "", ""));
        let rest = connection.rest();
        assert!(rest.starts_with("HTTP/1.1 40"), "{rest:?}");
    }
}

#[test]
fn who_expects_to_be_told_to_continue_is_told() {
    let node = node();
    let reader = node.reader_url();
    let mut connection = Connection::to(&reader);
    for more in ["Expect: 100-continue\r\n", "Expect: 100-Continue\r\nConnection: upgrade\r\nUpgrade: h2c\r\n"] {
        connection.send(request(
            "POST /get-row-by-key/fam/tab HTTP/1.1",
            &reader,
            &format!("{more}Content-Length: 21\r\n"),
            "",
        ));
        assert_eq!(connection.head().status, 100);
        connection.send(r#"{"Key":[{"Value":1}]}"#);
        assert_eq!(connection.answer().status, 200);
    }
}
