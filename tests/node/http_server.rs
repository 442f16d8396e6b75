//! What every HTTP server of a node does around its routes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use actix_http::Request;
use actix_web::{HttpResponse, web};
use ctlstore::http::error::HttpError;
use ctlstore::http::observe::Observer;
use ctlstore::http::serve::{ServerOptions, serve};
use ctlstore::http::shortcut::{self, Shortcuts};
use ctlstore::metrics::{Metrics, Server};
use support::http::{get, request};
use support::wait::wait_until;
use tokio::sync::Notify;

const DEADLINE: Duration = Duration::from_secs(60);
const PATTERN: &str = "/get-row-by-key/{family}/{table}";

/// Serves routes of which one answers, one waits for another request, one never answers, one panics and one has a
/// shortcut, for as long as the test binary runs.
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
                Shortcuts::default().post(PATTERN, shortcut)
            };
            serve(listener, &options, observer, routes).unwrap().await.unwrap();
        });
    });
    (address, metrics)
}

async fn shortcut(request: Request) -> Result<HttpResponse, HttpError> {
    match shortcut::names(request.path()) {
        ("family", "panic") => panic!("as the test wants it"),
        ("family", "refused") => Err(HttpError::bad_request("refused")),
        (family, table) => Ok(HttpResponse::Ok().body(format!("{family} and {table}"))),
    }
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
    // Answered behind it, by the one worker that there is.
    assert_eq!(get(&format!("http://{address}/readyz")).status, 200);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server closes the connection");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("waited"), "{answer:?}");
}
