//! Many streams of changes with rows, which all catch up, beside requests for one row: both make progress.

use super::exchange::{Connection, address};
use support::{Client, Node, client, client::read_value};

const STREAMS: usize = 64;
const ROWS: i64 = 900;

#[test]
fn every_stream_and_every_point_read_goes_on_beside_many_streams_that_catch_up() {
    let node = Node::new().set("reader.workers", 1).start();
    let client = Client::registered(node.executive_url());
    client.create_simple_table("fam", "tab");
    let reader = node.reader_url();
    for first in (0..ROWS).step_by(100) {
        let rows: Vec<(i64, &str)> = (first..first + 100).map(|id| (id, "value")).collect();
        client.try_mutate("fam", &client::upserts("tab", &rows)).expect("an answer").expect(200);
    }
    client::wait_for_value(&reader, "fam", "tab", ROWS - 1, "value");
    let mut streams: Vec<Connection> = (0..STREAMS)
        .map(|_| {
            let mut stream = Connection::to(&reader);
            stream.send(format!("GET /changes?since=1&rows=true HTTP/1.1\r\nHost: {}\r\n\r\n", address(&reader)));
            stream
        })
        .collect();
    // Requests beside them.
    for id in 0..ROWS {
        assert_eq!(read_value(&reader, "fam", "tab", id).as_deref(), Some("value"));
    }
    let last = format!("\"value\":{}}}", ROWS - 1);
    for stream in &mut streams {
        assert_eq!(stream.head().status, 200);
        let mut events = Vec::new();
        while !String::from_utf8_lossy(&events[events.len().saturating_sub(40_000)..]).contains(&last) {
            assert!(stream.chunk(&mut events), "the stream goes on");
        }
        let text = String::from_utf8_lossy(&events).into_owned();
        assert_eq!(text.matches("\"table\":\"tab\",\"key\"").count() as i64, ROWS);
    }
}
