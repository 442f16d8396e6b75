//! The change feed over HTTP, from real nodes: a client that goes on at its position gets
//! every change, and one that can't is told so.

use serde_json::json;
use support::client::{role_status, wait_for_value};
use support::feed::{Cache, Event, SOON, STOP, Stream, TABLE, node, open, rows, with_table};
use support::{Client, Node, http, wait_until};

fn delete(client: &Client, table: &str, id: i64) {
    let body = json!({ "mutations": [{ "table": table, "delete": true, "values": { "id": id } }] });
    client.try_mutate("fam", &body).expect("an answer").expect(200);
}

fn id_of(event: &Event) -> i64 {
    event.data["key"][0]["value"].as_i64().expect("an id")
}

/// Reads up to the change of row `id`.
#[track_caller]
fn until_row(stream: &mut Stream, id: i64) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = stream.expect();
        let is_last = event.event == "change" && id_of(&event) == id;
        events.push(event);
        if is_last {
            return events;
        }
    }
}

#[test]
fn changes_come_as_events_with_their_key_seq_op_and_row() {
    let (node, client) = with_table(&node());
    let base = node.reader_url();
    let mut plain = open(&base, "", "");
    let mut with_rows = open(&base, "?rows=true", "");
    let start = plain.expect();
    assert_eq!(start.event, "start");
    with_rows.expect();
    let seq = client.upsert("fam", "tab", &[(1, "one")]);
    let event = plain.expect();
    let key = json!([{ "name": "id", "type": "INTEGER", "value": 1 }]);
    let want = json!({ "family": "fam", "table": "tab", "key": key, "ledgerSeq": seq, "op": "upsert" });
    assert_eq!((event.event.as_str(), &event.data), ("change", &want));
    assert_eq!(with_rows.expect().data["row"], json!({ "id": 1, "value": "one" }));
    delete(&client, "tab", 1);
    let event = with_rows.expect();
    assert_eq!((&event.data["op"], &event.data["row"]), (&json!("delete"), &json!(null)));

    // A client that has read the table at a seq goes on after that seq.
    let mut behind = open(&base, &format!("?since={seq}"), "");
    assert_eq!(behind.expect().event, "start");
    assert_eq!(behind.expect().data["op"], "delete");
    // The event's id, in the header or in the query, is the same position.
    for (query, last) in [("", event.id.as_str()), (&format!("?since={}", start.id), "")] {
        let mut again = open(&base, query, last);
        assert_eq!(again.expect().event, "start");
        client.upsert("fam", "tab", &[(2, "two")]);
        let events = until_row(&mut again, 2);
        assert_eq!(events.len(), if last.is_empty() { 3 } else { 1 }, "{events:?}");
    }
    let status = role_status(&node.ops_url(), "reader");
    assert_eq!(status["details"]["changes"]["resyncs"], 0);
    assert!(status["details"]["changes"]["events"].as_u64().unwrap() >= 8, "{status}");
    let metrics = http::get(&format!("{}/metrics", node.ops_url())).text();
    assert!(metrics.contains("ctlstore_reader_changes_clients "), "{metrics}");
}

#[test]
fn a_seq_that_is_only_just_written_is_waited_for() {
    let (node, client) = with_table(&node());
    let base = node.reader_url();
    for id in 1..100 {
        let seq = client.upsert("fam", "tab", &[(id, "before")]);
        let mut stream = open(&base, &format!("?since={seq}"), "");
        assert_eq!(stream.expect().event, "start");
        client.upsert("fam", "tab", &[(1000 + id, "behind")]);
        let event = stream.expect();
        assert_eq!((event.event.as_str(), id_of(&event)), ("change", 1000 + id));
    }
}

#[test]
fn only_what_was_asked_for_comes_and_the_position_moves_all_the_same() {
    let (node, client) = with_table(&node().set("changes.heartbeat", "50ms"));
    client.create_table("fam", "other", &[("id", "integer"), ("value", "text")], 1).expect(200);
    let base = node.reader_url();
    let mut stream = open(&base, "?family=fam&table=other", "");
    let start = stream.expect();
    client.upsert("fam", "tab", &[(1, "one"), (2, "two")]);
    client.upsert("fam", "other", &[(3, "three")]);
    let event = stream.expect();
    assert_eq!((event.data["table"].as_str(), id_of(&event)), (Some("other"), 3));
    client.upsert("fam", "tab", &[(4, "four")]);
    wait_for_value(&base, "fam", "tab", 4, "four");
    // No event comes, only heartbeats, and the position with them.
    wait_until("heartbeats move the position", STOP, || {
        assert!(stream.next(SOON).is_err(), "an event that was not asked for");
        stream.heartbeats > 2 && stream.last_id != event.id
    });
    let mut again = open(&base, "", &stream.last_id);
    assert_eq!(again.expect().event, "start");
    client.upsert("fam", "other", &[(5, "five")]);
    assert_eq!(id_of(&again.expect()), 5);
    let family = open(&base, "?family=other", "").next(SOON);
    assert_eq!(family.unwrap().unwrap().event, "start");
    assert_ne!(start.id, event.id);
}

#[test]
fn tables_that_change_as_a_whole_are_named() {
    let (node, client) = with_table(&node().set("executive.destructive_schema_changes", true));
    let mut stream = open(&node.reader_url(), "?rows=true", "");
    stream.expect();
    let column = json!({ "fields": [["more", "string"]] }).to_string();
    http::request("PUT", &client.url("/families/fam/tables/tab"), &[], column).expect(200);
    let table = |change: &str| (json!("fam"), json!("tab"), json!(change));
    let named = |event: Event| {
        assert_eq!(event.event, "table");
        (event.data["family"].clone(), event.data["table"].clone(), event.data["change"].clone())
    };
    assert_eq!(named(stream.expect()), table("altered"));
    http::request("DELETE", &client.url("/clear-rows/families/fam/tables/tab"), &[], "").expect(200);
    assert_eq!(named(stream.expect()), table("cleared"));
    http::request("DELETE", &client.url("/families/fam/tables/tab"), &[], "").expect(200);
    assert_eq!(named(stream.expect()), table("dropped"));
    // The name is free again, for a table with another key.
    client.create_table("fam", "tab", &[("a", "string"), ("b", "bytestring"), ("v", "text")], 2).expect(200);
    let values = json!({ "v": "x", "a": "k\u{e9}y", "b": "AP8=" });
    let body = json!({ "mutations": [{ "table": "tab", "values": values }] });
    client.try_mutate("fam", &body).unwrap().expect(200);
    let event = stream.expect();
    assert_eq!(event.data["row"], json!({ "a": "k\u{e9}y", "b": "AP8=", "v": "x" }), "{event:?}");
}

#[test]
fn what_makes_no_sense_is_400_and_too_many_clients_are_503() {
    let (node, client) = with_table(&node().set("changes.max_clients", 3));
    let base = node.reader_url();
    for query in ["?since=never", "?rows=1", "?table=tab", "?family=a__b", "?what=ever"] {
        let refused = Stream::open(&base, query, "").unwrap().err().expect("a refusal");
        assert_eq!(refused.status, 400, "{query}");
    }
    let mut streams: Vec<_> = (0..3).map(|_| open(&base, "", "")).collect();
    let refused = Stream::open(&base, "", "").unwrap().err().expect("a refusal");
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("retry-after: 5"), "{}", refused.head);
    // A place is free again when the reader has noticed that its client is gone.
    drop(streams.pop());
    wait_until("a place is free", STOP, || {
        client.upsert("fam", "tab", &[(1, "one")]);
        Stream::open(&base, "", "").unwrap().is_ok()
    });
}

#[test]
fn many_clients_get_the_same_and_end_in_good_order() {
    let (mut node, client) = with_table(&node());
    let base = node.reader_url();
    let mut streams: Vec<_> = (0..100).map(|_| open(&base, "?rows=true", "")).collect();
    streams.iter_mut().for_each(|stream| drop(stream.expect()));
    for round in 0..20 {
        let values: Vec<_> = (0..50).map(|i| (round * 50 + i, "v")).collect();
        client.upsert("fam", "tab", &values);
    }
    let first = until_row(&mut streams[0], 999);
    assert_eq!(first.len(), 1000);
    for stream in &mut streams[1..] {
        assert_eq!(until_row(stream, 999), first);
    }
    node.signal(libc::SIGTERM);
    for stream in &mut streams {
        assert_eq!(stream.next(STOP).expect("an orderly end"), None);
    }
    assert!(node.wait_exit(STOP).success());
    // Beyond the reader's memory, after a restart, the same events come from the disk.
    drop(node);
}

#[test]
fn a_client_that_is_too_far_behind_is_told_to_start_over() {
    let small = node().set("changes.retain_bytes", 65_536);
    let (mut node, client) = with_table(&small);
    let base = node.reader_url();
    let mut cache = Cache::default();
    let mut stream = open(&base, "?rows=true", "");
    cache.take(&base, TABLE, &stream.expect()).unwrap();
    client.upsert("fam", "tab", &[(1, "one")]);
    cache.take(&base, TABLE, &stream.expect()).unwrap();
    assert_eq!(cache.position, stream.last_id);
    let seq = client.upsert("fam", "tab", &[(1, "uno")]);
    drop(stream);
    for round in 0..40 {
        let values: Vec<_> = (0..50).map(|i| (round * 50 + i, "later")).collect();
        client.upsert("fam", "tab", &values);
    }
    delete(&client, "tab", 1);
    client.upsert("fam", "tab", &[(5000, "end")]);
    wait_for_value(&base, "fam", "tab", 5000, "end");
    // The reader's memory goes further back than this little history.
    assert!(node.stop(STOP).success());
    node = small.start();
    let base = node.reader_url();
    for query in ["?rows=true".to_owned(), format!("?rows=true&since={seq}")] {
        let mut behind = cache.clone();
        let mut stream = open(&base, &query, if query.contains("since") { "" } else { &cache.position });
        assert_eq!(stream.expect().event, "start");
        let event = stream.expect();
        assert_eq!(event.event, "resync", "{query}");
        behind.take(&base, TABLE, &event).unwrap();
        assert_eq!(behind.rows, rows(&base, TABLE).unwrap());
        assert!(stream.next(SOON).is_err(), "nothing was left to say");
    }
    // Positions of another history, and seqs that are ahead, are no positions either.
    for (query, last) in [("?since=1000000000", ""), ("", "0123456789abcdef0123456789abcdef-1"), ("", "nonsense")] {
        let mut stream = open(&base, query, last);
        stream.expect();
        assert_eq!(stream.expect().event, "resync", "{query}{last}");
    }
    let kept: u64 = std::fs::read_dir(small.data_dir().join("ldb.db.changes"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    // One transaction more is allowed.
    assert!(kept <= 65_536 + 10_000, "{kept} bytes are kept");
}

#[test]
fn the_ledgers_beginning_is_a_position_of_an_ldb_that_never_went_back() {
    let (node, client) = with_table(&node());
    client.upsert("fam", "tab", &[(1, "a")]);
    let mut stream = open(&node.reader_url(), "?since=0&family=fam&table=tab", "");
    assert_eq!(stream.expect().event, "start");
    assert_ne!(stream.expect().event, "resync");
}

#[test]
fn a_slow_client_holds_nothing_up_and_is_told_what_it_missed() {
    let (node, client) = with_table(&node().set("changes.retain_bytes", 262_144));
    let base = node.reader_url();
    let mut slow = open(&base, "?rows=true", "");
    let mut quick = open(&base, "", "");
    let mut cache = Cache::default();
    cache.take(&base, TABLE, &slow.expect()).unwrap();
    quick.expect();
    // More than the sockets between the two hold, and then more changes than the
    // reader's memory and the history hold.
    let large = "x".repeat(15_000);
    for _ in 0..20 {
        let values: Vec<_> = (0..50).map(|i| (i, large.as_str())).collect();
        client.upsert("fam", "tab", &values);
    }
    for _ in 0..300 {
        let values: Vec<_> = (0..100).map(|i| (100 + i, "small")).collect();
        client.upsert("fam", "tab", &values);
    }
    client.upsert("fam", "tab", &[(9999, "end")]);
    until_row(&mut quick, 9999);
    wait_until("the slow one has what the table has", STOP, || {
        match slow.next(SOON) {
            Ok(Some(event)) => cache.take(&base, TABLE, &event).unwrap(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // A client that reads nothing for too long is cut off, and goes on at its position.
            _ => slow = open(&base, "?rows=true", &cache.position),
        }
        cache.rows.contains_key(&9999) && cache.rows == rows(&base, TABLE).unwrap()
    });
    assert!(cache.resyncs > 0, "the slow client had everything after all");
}

#[test]
fn a_reader_in_another_process_serves_the_changes_too() {
    let writing = node().roles(&["executive", "reflector"]);
    let process = writing.start();
    let client = Client::registered(process.executive_url());
    let ldb = writing.ldb_path().display().to_string();
    let reading = Node::new().roles(&["reader"]).set("ldb.path", ldb).start();
    let base = reading.reader_url();
    client.create_simple_table("fam", "tab");
    let mut stream = open(&base, "?rows=true", "");
    stream.expect();
    for id in 1..=100 {
        client.upsert("fam", "tab", &[(id, "v")]);
        let event = until_row(&mut stream, id).pop().unwrap();
        assert_eq!(event.data["row"]["value"], "v");
    }
}

#[test]
fn without_a_history_there_is_nothing_to_follow() {
    let (node, _client) = with_table(&node().set("changes.retain_bytes", 0));
    let refused = Stream::open(&node.reader_url(), "", "").unwrap().err().expect("a refusal");
    assert_eq!(refused.status, 503);
}
