//! A stop answers complete requests, and does not wait for requests that clients began and do not end.

use super::exchange::{Connection, DEADLINE, address};
use support::{Client, Node, client, http};

#[test]
fn half_sent_heads_and_bodies_do_not_hold_up_a_stop() {
    let mut node = Node::new().set("node.shutdown_timeout", "10m").start();
    let client = Client::registered(node.executive_url());
    client.create_simple_table("fam", "tab");
    let mut begun = Vec::new();
    for (url, path) in [
        (node.executive_url(), "/families/fam/mutations"),
        (node.reader_url(), "/get-row-by-key/fam/tab"),
        (node.reader_url(), "/v1/rows:batch"),
        (node.ops_url(), "/status"),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: {}\r\n", address(&url));
        let credentials = "ctlstore-writer: tester\r\nctlstore-secret: tester-secret\r\n";
        let chunked = format!("{head}{credentials}Transfer-Encoding: chunked\r\n\r\n5\r\n{{\"a");
        for text in ["", "G", &head, &format!("{head}{credentials}Content-Length: 50\r\n\r\n{{"), &chunked] {
            let mut connection = Connection::to(&url);
            connection.send(text);
            begun.push(connection);
        }
        // A complete request, and the beginning of a second one on the same connection.
        let mut connection = Connection::to(&url);
        connection.send(format!("GET /openapi.json HTTP/1.1\r\nHost: {}\r\n\r\n{head}", address(&url)));
        assert_eq!(connection.answer().status, 200);
        begun.push(connection);
    }
    // The servers have read all that was sent before.
    for url in [node.executive_url(), node.reader_url(), node.ops_url()] {
        http::get(&format!("{url}/openapi.json")).expect(200);
    }
    assert!(node.stop(DEADLINE).success());
    assert!(!node.log().contains("did not stop in time"), "{}", node.log());
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_does_not_hold_up_a_stop() {
    let mut node = Node::new().set("node.shutdown_timeout", "10m").start();
    let client = Client::registered(node.executive_url());
    client.create_simple_table("fam", "tab");
    let value = "x".repeat(150);
    for batch in 0..20 {
        let rows: Vec<(i64, &str)> = (0..100).map(|row| (batch * 100 + row, value.as_str())).collect();
        let answer = client.try_mutate("fam", &client::upserts("tab", &rows)).expect("an answer");
        if answer.status == 429 {
            break;
        }
        answer.expect(200);
    }
    client::wait_for_value(&node.reader_url(), "fam", "tab", 99, &value);
    // The answers are larger than all buffers on the way.
    let get = format!("GET /v1/rows/fam/tab?limit=1000 HTTP/1.1\r\nHost: {}\r\n\r\n", address(&node.reader_url()));
    let mut connection = Connection::to(&node.reader_url());
    connection.send(get.repeat(400));
    assert!(node.stop(DEADLINE).success());
    assert!(!node.log().contains("did not stop in time"), "{}", node.log());
    drop(connection);
}
