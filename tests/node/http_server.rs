//! The behaviour that every HTTP server of a node has around its routes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use actix_http::Request;
use actix_web::{HttpResponse, web};
use ctlstore::http::body::Incoming;
use ctlstore::http::error::HttpError;
use ctlstore::http::fast_path::{self, FastPaths};
use ctlstore::http::instrument::Observer;
use ctlstore::http::serve::{ServerOptions, serve};
use ctlstore::metrics::{Metrics, Server};
use support::http::{get, request};
use support::wait::wait_until;
use tokio::sync::Notify;

const DEADLINE: Duration = Duration::from_secs(60);
const PATTERN: &str = "/get-row-by-key/{family}/{table}";

/// A server that runs as long as the test binary. One of its routes answers, one waits for another request, one
/// never answers, one panics, and one has a fast path.
fn start(options: ServerOptions) -> (SocketAddr, Arc<Metrics>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Metrics::new();
    let observer = Observer::new(Server::Executive, Arc::clone(&metrics));
    std::thread::spawn(move || {
        actix::System::new().block_on(async move {
            let routes = |config: &mut web::ServiceConfig| {
                config.route("/ping", web::get().to(async || "here"));
                config.route("/healthz", web::get().to(waits));
                config.route("/readyz", web::get().to(lets_go));
                config.route("/endless", web::get().to(std::future::pending::<&'static str>));
                config.route("/status", web::get().to(panics));
                config.service(web::resource(PATTERN).post(async || "by the router"));
                config.route("/tables", web::post().to(length));
                FastPaths::default().post(PATTERN, shortcut)
            };
            serve(listener, &options, observer, routes).unwrap().await.unwrap();
        });
    });
    (address, metrics)
}

async fn shortcut(request: Request) -> Result<HttpResponse, HttpError> {
    match fast_path::names(request.path()) {
        ("family", "panic") => panic!("as the test wants it"),
        ("family", "refused") => Err(HttpError::bad_request("refused")),
        (family, table) => Ok(HttpResponse::Ok().body(format!("{family} and {table}"))),
    }
}

async fn length(body: Incoming) -> Result<String, HttpError> {
    Ok(body.read().await?.len().to_string())
}

static WAITING: Notify = Notify::const_new();

async fn waits() -> &'static str {
    WAITING.notified().await;
    "waited"
}

async fn lets_go() -> &'static str {
    WAITING.notify_one();
    "done"
}

async fn panics() -> &'static str {
    panic!("as the test wants it")
}

#[test]
fn a_panic_is_one_requests_500_and_is_counted() {
    let (address, metrics) = start(ServerOptions::default());
    for _ in 0..3 {
        let answer = get(&format!("http://{address}/status")).expect(500);
        assert_eq!(answer.text(), "internal error\n");
        get(&format!("http://{address}/ping")).expect(200);
    }
    get(&format!("http://{address}/nothing/of/the/kind")).expect(404);
    let metrics = metrics.encode().unwrap();
    for line in [
        r#"ctlstore_errors_total{component="executive",kind="internal"} 3"#,
        r#"ctlstore_http_requests_total{server="executive",route="/status",method="GET",status="500"} 3"#,
        r#"ctlstore_http_requests_total{server="executive",route="/ping",method="GET",status="200"} 3"#,
        r#"ctlstore_http_requests_total{server="executive",route="other",method="GET",status="404"} 1"#,
    ] {
        assert!(metrics.lines().any(|l| l == line), "no line {line} in\n{metrics}");
    }
}

#[test]
fn a_shortcut_has_around_it_what_every_route_has() {
    let (address, metrics) = start(ServerOptions::default());
    let post = |path: &str, headers: &[(&str, &str)], status| {
        request("POST", &format!("http://{address}/get-row-by-key/{path}"), headers, "{}").expect(status).text()
    };
    assert_eq!(post("family/table", &[], 200), "family and table");
    assert_eq!(post("family/table?more", &[], 200), "family and table");
    assert_eq!(post("f%61mily/table", &[], 200), "by the router");
    assert_eq!(post("family/refused", &[], 400), "refused\n");
    assert_eq!(post("family/panic", &[], 500), "internal error\n");
    post("family/table", &[("Origin", "http://evil.example")], 403);
    post("family/table/more", &[], 404);
    get(&format!("http://{address}/get-row-by-key/family/table")).expect(405);
    let metrics = metrics.encode().unwrap();
    for (status, count) in [(200, 3), (400, 1), (403, 1), (500, 1)] {
        let line = format!(
            r#"ctlstore_http_requests_total{{server="executive",route="{PATTERN}",method="POST",status="{status}"}} {count}"#
        );
        assert!(metrics.lines().any(|l| l == line), "no line {line} in\n{metrics}");
    }
    assert!(metrics.contains(r#"ctlstore_errors_total{component="executive",kind="internal"} 1"#), "{metrics}");
}

#[test]
fn a_client_that_never_ends_its_head_is_cut_off() {
    let options = ServerOptions { header_timeout: Duration::from_millis(100), ..ServerOptions::default() };
    let (address, _) = start(options);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"GET /ping HTTP/1.1\r\nhost: ").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server closes the connection");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
}

#[test]
fn a_request_whose_client_leaves_is_counted_as_well() {
    let options = ServerOptions { answers_half_closed: false, ..ServerOptions::default() };
    let (address, metrics) = start(options);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /endless HTTP/1.1\r\nhost: here\r\n\r\n").unwrap();
    drop(stream);
    let line = r#"ctlstore_http_requests_total{server="executive",route="other",method="GET",status="499"} 1"#;
    wait_until("the request is counted", DEADLINE, || metrics.encode().unwrap().lines().any(|l| l == line));
}

#[test]
fn a_client_that_has_closed_its_sending_side_gets_its_answer_where_it_may_be_waited_for() {
    let (address, _) = start(ServerOptions::default());
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: here\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    // The only worker answers it while the other request waits.
    assert_eq!(get(&format!("http://{address}/readyz")).status, 200);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server closes the connection");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("waited"), "{answer:?}");
}

fn connect(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// Reads an answer with this text. The connection stays open.
fn read_answer(stream: &mut TcpStream, ending: &str) -> String {
    let mut answer = String::new();
    while !answer.ends_with(ending) {
        let mut piece = [0; 1024];
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0, "cut short: {answer:?}");
        answer.push_str(std::str::from_utf8(&piece[..length]).unwrap());
    }
    answer
}

/// Whether the server has closed it.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let read = stream.read(&mut [0]);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    match read {
        Ok(length) => length == 0,
        Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
    }
}

const PING: &str = "GET /ping HTTP/1.1\r\nhost: here\r\n\r\n";

fn few(max_connections: usize) -> ServerOptions {
    // Only a lack of places ends a connection.
    let long = Duration::from_secs(3600);
    ServerOptions { max_connections, header_timeout: long, idle_timeout: long, ..ServerOptions::default() }
}

#[test]
fn where_places_run_short_the_connection_that_was_idle_longest_is_closed() {
    let (address, metrics) = start(few(4));
    let mut busy = connect(address, "GET /endless HTTP/1.1\r\nhost: here\r\n\r\n");
    let mut idle: Vec<TcpStream> = (0..3).map(|_| connect(address, PING)).collect();
    idle.iter_mut().for_each(|stream| drop(read_answer(stream, "here")));
    // The first of them is now the connection that was idle for the shortest time.
    idle[0].write_all(PING.as_bytes()).unwrap();
    read_answer(&mut idle[0], "here");
    for next in [1, 2, 0] {
        let mut new = connect(address, PING);
        read_answer(&mut new, "here");
        wait_until("the idle longest is closed", DEADLINE, || is_closed(&mut idle[next]));
        let others = idle.iter_mut().enumerate().filter(|(index, _)| match next {
            1 => [0, 2].contains(index),
            2 => *index == 0,
            _ => false,
        });
        for (index, other) in others {
            assert!(!is_closed(other), "{index} was closed, not {next}");
        }
        idle.push(new);
    }
    assert!(!is_closed(&mut busy), "a request was cut off");
    let line = r#"ctlstore_http_connections_cut_total{server="executive",reason="idle"} 3"#;
    assert!(metrics.encode().unwrap().lines().any(|l| l == line), "{}", metrics.encode().unwrap());
}

#[test]
fn heads_and_bodies_that_do_not_come_give_their_places_to_others() {
    for text in [
        "GET /ping HTTP/1.1\r\nhost:",
        "POST /tables HTTP/1.1\r\nhost: here\r\ncontent-length: 50\r\n\r\n{",
        "POST /tables HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{",
        // Its client does not read the answer.
        "POST /nothing HTTP/1.1\r\nhost: here\r\ncontent-length: 50\r\n\r\n{",
    ] {
        let (address, _) = start(few(8));
        let slow: Vec<TcpStream> = (0..40).map(|_| connect(address, text)).collect();
        for _ in 0..20 {
            read_answer(&mut connect(address, PING), "here");
        }
        drop(slow);
    }
}

#[test]
fn a_server_whose_places_are_all_taken_by_requests_closes_none_of_them() {
    let (address, _) = start(few(4));
    let mut busy: Vec<TcpStream> =
        (0..4).map(|_| connect(address, "GET /endless HTTP/1.1\r\nhost: here\r\n\r\n")).collect();
    let mut new: Vec<TcpStream> = (0..20).map(|_| connect(address, PING)).collect();
    // Each time that one of them ends, another one gets its place.
    drop(busy.pop());
    new.iter_mut().for_each(|stream| drop(read_answer(stream, "here")));
    assert!(!busy.iter_mut().any(is_closed), "a request was cut off");
}

#[test]
fn large_bodies_that_do_not_come_keep_no_memory_from_others() {
    let (address, _) = start(few(4096));
    let body = vec![b'x'; 1 << 20];
    let head = "POST /tables HTTP/1.1\r\nhost: here\r\ncontent-length: 1048576\r\n\r\n";
    let slow: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = connect(address, head);
            stream.set_write_timeout(Some(Duration::from_millis(5))).unwrap();
            // The server takes it as long as it has memory for it.
            let _ = stream.write_all(&body[..900_000]);
            stream
        })
        .collect();
    for _ in 0..5 {
        let answer = support::http::post(&format!("http://{address}/tables"), &body);
        // Some of them may wait; the others are told to try again.
        if answer.status != 503 {
            assert_eq!((answer.status, answer.text().as_str()), (200, "1048576"));
        }
    }
    wait_until("a large body is taken beside them", DEADLINE, || {
        support::http::post(&format!("http://{address}/tables"), &body).status == 200
    });
    drop(slow);
}

#[test]
fn a_second_head_that_does_not_end_is_cut_off_too() {
    let options = ServerOptions { header_timeout: Duration::from_millis(100), ..few(16) };
    let (address, _) = start(options);
    let mut stream = connect(address, PING);
    read_answer(&mut stream, "here");
    stream.write_all(b"GET /ping HTTP/1.1\r\nhost: ").unwrap();
    assert_eq!(stream.read(&mut [0; 64]).unwrap(), 0, "the server closes the connection");
}
