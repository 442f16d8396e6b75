//! The executive's API at its edges: statuses, headers and bodies that the recorded exchanges with the original lack.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use ctlstore::actors::executive::ExecutiveOptions;
use support::http::{get, post, request};
use support::in_process::{Executive, destructive, row};

fn ledger_length(database: &support::TestDatabase) -> i64 {
    database.value("SELECT COUNT(*) FROM ctlstore_dml_ledger").unwrap().parse().unwrap()
}

#[test]
fn unknown_paths_are_404_and_wrong_methods_405_with_the_allowed_ones() {
    let database = support::sqlite();
    let executive = Executive::serving(&database, ExecutiveOptions::default());
    for path in ["/", "/families", "/families/", "/nothing", "/families/fam/tables"] {
        assert_eq!(get(&executive.at(path)).status, 404, "{path}");
    }
    // A client whose base URL ends in a slash is sent to the path that it means, which takes POST.
    assert_eq!(get(&executive.at("//families/fam")).status, 405);
    let cases = [
        ("GET", "/families/fam", "POST"),
        ("GET", "/families/fam/tables/tab", "DELETE, POST, PUT"),
        ("PUT", "/families/fam/mutations", "POST"),
        ("POST", "/clear-rows/families/fam", "DELETE"),
        ("DELETE", "/cookie", "GET, HEAD, POST"),
        ("POST", "/schema/family/fam", "GET, HEAD"),
        ("PUT", "/limits/writers/writer", "DELETE, POST"),
        ("POST", "/status", "GET, HEAD"),
    ];
    for (method, path, allowed) in cases {
        let answer = request(method, &executive.at(path), &[], "").expect(405);
        let mut methods: Vec<&str> = answer.header("allow").expect("an Allow header").split(", ").collect();
        methods.sort_unstable();
        assert_eq!(methods.join(", "), allowed, "{method} {path}");
    }
}

#[test]
fn a_page_of_another_origin_can_do_nothing() {
    let database = support::sqlite();
    let executive = Executive::serving(&database, ExecutiveOptions::default());
    let url = executive.at("/families/fam");
    for origin in ["http://evil.example", "null", "https://127.0.0.1:1"] {
        request("POST", &url, &[("origin", origin)], "").expect(403);
    }
    assert_eq!(database.value("SELECT COUNT(*) FROM families").as_deref(), Some("0"));
    request("POST", &url, &[("origin", &executive.url)], "").expect(200);
}

#[test]
fn bodies_of_more_than_1_mib_are_413_with_and_without_a_length() {
    let database = support::sqlite();
    let executive = Executive::serving(&database, ExecutiveOptions::default());
    executive.furnish();
    let padded = |bytes: usize| {
        let body = json!({"mutations": [row(1, "x")], "ignored": ""}).to_string();
        body.replace(r#""ignored":"""#, &format!(r#""ignored":"{}""#, "i".repeat(bytes - body.len())))
    };
    let credentials = [("ctlstore-writer", "writer"), ("ctlstore-secret", "secret")];
    let url = executive.at("/families/fam/mutations");
    request("POST", &url, &credentials, padded(1 << 20)).expect(200);
    let answer = request("POST", &url, &credentials, padded((1 << 20) + 1)).expect(413);
    assert_eq!(answer.text(), "the request body has more than 1048576 bytes\n");
    request("POST", &url, &credentials, padded(5 << 20)).expect(413);
    assert_eq!(chunked(&executive, &padded(1 << 20)), 200);
    assert_eq!(chunked(&executive, &padded((1 << 20) + 1)), 413);
}

/// Sends a mutation body in chunks of 64 KiB and returns the status.
fn chunked(executive: &Executive, body: &str) -> u16 {
    let mut stream = TcpStream::connect(executive.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = "POST /families/fam/mutations HTTP/1.1\r\nhost: test\r\nctlstore-writer: writer\r\n\
                ctlstore-secret: secret\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    for chunk in body.as_bytes().chunks(64 * 1024) {
        stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).unwrap();
        stream.write_all(chunk).unwrap();
        stream.write_all(b"\r\n").unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn path_segments_are_decoded_once_and_then_checked() {
    let database = support::sqlite();
    let executive = Executive::serving(&database, ExecutiveOptions::default());
    post(&executive.at("/families/%66am"), "").expect(200);
    post(&executive.at("/families/%2566am"), "").expect(400);
    post(&executive.at("/families/fam%2Ftables"), "").expect(400);
    post(&executive.at("/families/fam%20"), "").expect(400);
    post(&executive.at("/writers/a%2Fb%2520c"), "secret").expect(200);
    post(&executive.at("/writers/%ff%fe%fd"), "secret").expect(400);
    assert_eq!(database.value("SELECT name FROM families").as_deref(), Some("fam"));
    assert_eq!(database.value("SELECT writer FROM mutators").as_deref(), Some("a/b%20c"));
}

#[test]
fn errors_are_short_plain_text_that_names_what_is_wrong() {
    let database = support::sqlite();
    let executive = Executive::serving(&database, ExecutiveOptions::default());
    executive.furnish();
    let mutation = |values: Value| executive.mutate(&json!({"mutations": [{"table": "tab", "values": values}]}));
    let cases = [
        (mutation(json!({"id": 1.5, "v": "x"})), 400, "table fam___tab: field id: 1.5 is not a whole number\n"),
        (mutation(json!({"id": 1, "v": 2})), 400, "table fam___tab: field v: a number is not text\n"),
        (mutation(json!({"id": 1, "v": {"a": 1}})), 400, "table fam___tab: field v: an object is not text\n"),
        (mutation(json!({"id": 1})), 400, "table fam___tab: field v is missing\n"),
        (mutation(json!({"id": 1, "v": "", "w": 1})), 400, "table fam___tab has no field w\n"),
        (mutation(json!({"id": null, "v": ""})), 400, "table fam___tab: field id: null can't be a key\n"),
        (mutation(json!({"id": 1, "v": "x", "V": "y"})), 400, "table fam___tab: field v is given twice\n"),
        (executive.mutate(&json!({"mutations": [{"table": "none", "values": {}}]})), 404, "no table fam___none\n"),
        (
            executive.mutate_as("writer", "wrong", &json!({"mutations": [row(1, "")]})),
            401,
            "unknown writer or wrong secret\n",
        ),
        (get(&executive.at("/schema/table/fam/none")), 404, "no table fam___none\n"),
        (post(&executive.at("/families/fam"), ""), 409, "family fam exists\n"),
        (post(&executive.at("/writers/writer"), "another"), 409, "writer \"writer\" exists with another secret\n"),
        (
            request("DELETE", &executive.at("/families/fam/tables/tab"), &[], ""),
            400,
            "destructive schema changes are not enabled; executive.destructive_schema_changes turns them on\n",
        ),
        (get(&executive.at("/cookie")), 400, "the headers ctlstore-writer and ctlstore-secret are missing\n"),
        (
            request("GET", &executive.at("/cookie"), &[("ctlstore-secret", "secret")], ""),
            400,
            "the header ctlstore-writer is missing\n",
        ),
        (
            request("POST", &executive.at("/cookie"), &[("ctlstore-writer", "writer")], "cookie"),
            404,
            "the header ctlstore-secret is missing\n",
        ),
        (
            request("GET", &executive.at("/cookie"), &[("ctlstore-writer", "ab"), ("ctlstore-secret", "secret")], ""),
            400,
            "writer \"ab\" must have 3 to 50 bytes\n",
        ),
        (
            post(&executive.at("/families/fam/mutations"), "{}"),
            401,
            "the headers ctlstore-writer and ctlstore-secret are missing\n",
        ),
        (
            request("PUT", &executive.at("/writers/writer"), &[], "new-secret"),
            401,
            "the header ctlstore-secret is missing\n",
        ),
        (request("DELETE", &executive.at("/writers/writer"), &[], ""), 401, "the header ctlstore-secret is missing\n"),
    ];
    for (answer, status, text) in cases {
        assert_eq!((answer.status, answer.text().as_str()), (status, text));
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "{text}");
    }
    assert_eq!(ledger_length(&database), 1, "only the table's creation is in the ledger");
}

#[test]
fn bad_values_are_refused_before_the_writer_is_told_anything_but_after_credentials() {
    let database = support::sqlite();
    let executive = Executive::serving(&database, ExecutiveOptions::default());
    executive.furnish();
    http_limit(&executive, "writer", 0);
    let unknown_table = json!({"mutations": [{"table": "none", "values": {}}]});
    executive.mutate_as("writer", "wrong", &unknown_table).expect(401);
    executive.mutate_as("nobody", "secret", &unknown_table).expect(401);
    // The limit is checked before the table.
    executive.mutate(&unknown_table).expect(429);
}

fn http_limit(executive: &Executive, writer: &str, amount: i64) {
    let limit = json!({"amount": amount, "period": "1m"}).to_string();
    post(&executive.at(&format!("/limits/writers/{writer}")), limit).expect(200);
}

#[test]
fn a_request_over_the_rate_limit_leaves_no_trace_and_says_when_to_come_back() {
    let database = support::sqlite();
    let executive = Executive::serving(&database, ExecutiveOptions::default());
    executive.furnish();
    // A period that does not end within the test.
    let mut settings = ExecutiveOptions::default();
    settings.rules.writer_limit.amount = 5;
    settings.rules.writer_limit.period = Duration::from_secs(1_000_000_000);
    executive.stop();
    let executive = Executive::serving(&database, settings);
    let three = json!({"mutations": [row(1, "a"), row(2, "b"), row(3, "c")]});
    executive.mutate(&three).expect(200);
    let answer = executive.mutate(&three).expect(429);
    let wait: u64 = answer.header("retry-after").expect("a Retry-After").parse().unwrap();
    assert!((1..=1_000_000_000).contains(&wait), "{wait}");
    assert_eq!(database.value("SELECT SUM(amount) FROM writer_usage").as_deref(), Some("3"));
    executive.mutate(&json!({"mutations": [row(4, "d"), row(5, "e")]})).expect(200);
    executive.mutate(&json!({"mutations": [row(6, "f")]})).expect(429);
    assert_eq!(database.value("SELECT COUNT(*) FROM fam___tab").as_deref(), Some("5"));
    let limits = get(&executive.at("/limits/writers")).expect(200).json();
    assert_eq!(limits, json!({"global": {"amount": 5, "period": 1_000_000_000_000_000_000_u64}, "writers": []}));
}

#[test]
fn writer_limits_are_kept_as_rows_per_minute_and_listed() {
    let database = support::sqlite();
    let executive = Executive::serving(&database, ExecutiveOptions::default());
    executive.furnish();
    let url = executive.at("/limits/writers/writer");
    for (amount, period, rows) in
        [(600, json!("1h"), 10), (5, json!("2m"), 2), (7, json!("2m"), 4), (3, json!(1e9), 180)]
    {
        post(&url, json!({"Amount": amount, "PERIOD": period}).to_string()).expect(200);
        let listed = get(&executive.at("/limits/writers")).expect(200).json();
        let want = json!([{"writer": "writer", "rate-limit": {"amount": rows, "period": 60_000_000_000_u64}}]);
        assert_eq!(listed["writers"], want, "{amount} in {period}");
    }
    let bad = [
        json!({"amount": -1, "period": "1m"}),
        json!({"amount": 1}),
        json!({"period": "1m"}),
        json!({"amount": 1, "period": "-1m"}),
        json!({"amount": 1, "period": 0}),
        json!({"amount": 1.5, "period": "1m"}),
    ];
    for body in bad {
        assert_eq!(post(&url, body.to_string()).status, 400, "{body}");
    }
    request("DELETE", &url, &[], "").expect(200);
    request("DELETE", &url, &[], "").expect(404);
    request("DELETE", &executive.at("/limits/writers/x"), &[], "").expect(404);
}

#[test]
fn fields_are_added_in_order_up_to_the_first_that_exists_and_the_answer_says_which() {
    let database = support::sqlite();
    let executive = Executive::serving(&database, ExecutiveOptions::default());
    executive.furnish();
    let url = executive.at("/families/fam/tables/tab");
    let put = |fields: Value| request("PUT", &url, &[], json!({"fields": fields}).to_string());
    // A request with one bad part changes nothing, wherever that part is.
    for bad in [
        json!([["new", "text"], ["x y", "text"]]),
        json!([["new", "text"], ["other", "varchar"]]),
        json!([["new", "text"], ["NEW", "text"]]),
        json!([]),
    ] {
        assert_eq!(put(bad.clone()).status, 400, "{bad}");
    }
    assert_eq!(ledger_length(&database), 1);
    let answer = put(json!([["one", "text"], ["v", "text"], ["two", "text"]])).expect(409);
    assert_eq!(answer.text(), "table fam___tab has a field v already; done: one; not done: v, two\n");
    let schema = get(&executive.at("/schema/table/fam/tab")).expect(200).json();
    assert_eq!(schema["fields"], json!([["id", "integer"], ["v", "text"], ["one", "text"]]));
    let answer = put(json!([["two", "text"], ["three", "integer"]])).expect(200);
    assert_eq!(answer.header("ctlstore-seq"), Some("4"));
}

#[test]
fn tables_are_created_in_order_up_to_the_first_that_exists_and_the_answer_says_which() {
    let database = support::sqlite();
    let executive = Executive::serving(&database, ExecutiveOptions::default());
    executive.furnish();
    let create = |names: &[&str]| {
        let table = |name: &&str| {
            let (family, name) = name.split_once('.').unwrap_or(("fam", name));
            json!({"family": family, "name": name, "fields": [["id", "string"]], "keyFields": ["id"]})
        };
        post(&executive.at("/tables"), json!(names.iter().map(table).collect::<Vec<_>>()).to_string())
    };
    create(&["new", "bad__name"]).expect(400);
    create(&["new", "New"]).expect(400);
    create(&["new", "nofam.new"]).expect(404);
    assert_eq!(ledger_length(&database), 1);
    let answer = create(&["one", "tab", "two"]).expect(409);
    assert_eq!(answer.text(), "table fam___tab exists; done: fam___one; not done: fam___tab, fam___two\n");
    assert_eq!(create(&["two", "three"]).expect(200).header("ctlstore-seq"), Some("4"));
    assert_eq!(create(&[]).expect(200).header("ctlstore-seq"), None);
}

#[test]
fn a_table_over_its_maximum_is_507_and_one_over_its_warning_size_is_counted() {
    let database = support::sqlite();
    let mut settings = destructive();
    settings.size_interval = Duration::from_millis(20);
    let executive = Executive::serving(&database, settings);
    executive.furnish();
    let limit = |max: i64, warn: i64| {
        let limit = json!({"max-size": max, "warn-size": warn}).to_string();
        post(&executive.at("/limits/tables/fam/tab"), limit)
    };
    let write = || executive.mutate(&json!({"mutations": [row(1, "x")]}));
    let deadline = Duration::from_secs(30);
    limit(1 << 30, 1).expect(200);
    support::wait_until("a write is counted as over the warning size", deadline, || {
        write().expect(200);
        executive.status().details["over_warn_size"].as_u64() > Some(0)
    });
    limit(1, 0).expect(200);
    let answer = write().expect(507);
    assert!(answer.text().starts_with("table fam___tab has "), "{}", answer.text());
    let listed = get(&executive.at("/limits/tables")).expect(200).json();
    assert_eq!(listed["tables"], json!([{"max-size": 1, "warn-size": 0, "family": "fam", "table": "tab"}]));
    limit(-1, 0).expect(400);
    request("DELETE", &executive.at("/limits/tables/fam/tab"), &[], "").expect(200);
    write().expect(200);
}

#[test]
fn clearing_a_family_leaves_the_families_that_begin_with_its_name_alone() {
    let database = support::sqlite();
    let executive = Executive::serving(&database, destructive());
    executive.furnish();
    post(&executive.at("/families/fam_bar"), "").expect(200);
    let table = json!({"fields": [["id", "integer"]], "keyFields": ["id"]}).to_string();
    post(&executive.at("/families/fam_bar/tables/tab"), table).expect(200);
    let body = json!({"mutations": [{"table": "tab", "values": {"id": 1}}]}).to_string();
    let credentials = [("ctlstore-writer", "writer"), ("ctlstore-secret", "secret")];
    request("POST", &executive.at("/families/fam_bar/mutations"), &credentials, body).expect(200);
    executive.mutate(&json!({"mutations": [row(1, "x")]})).expect(200);
    request("DELETE", &executive.at("/clear-rows/families/fam"), &[], "").expect(200);
    assert_eq!(database.value("SELECT COUNT(*) FROM fam___tab").as_deref(), Some("0"));
    assert_eq!(database.value("SELECT COUNT(*) FROM fam_bar___tab").as_deref(), Some("1"));
    request("DELETE", &executive.at("/clear-rows/families/nofam"), &[], "").expect(404);
    request("DELETE", &executive.at("/families/fam/tables/none"), &[], "").expect(404);
}
