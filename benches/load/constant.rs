//! A server that answers a point read with the same bytes every time: all that the
//! node's servers have around a request, the body received, and no database. A
//! process of its own, as the node is: this program starts itself again.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use actix_http::Request;
use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::web;
use ctlstore::http::body::{self, Chunks};
use ctlstore::http::error::HttpError;
use ctlstore::http::observe::Observer;
use ctlstore::http::serve::{ServerOptions, serve};
use ctlstore::http::shortcut::Shortcuts;
use ctlstore::metrics::{Metrics, Server};

use super::data;
use super::support::process;

/// The argument that makes this program such a server; the second is how it answers.
pub const ARGUMENT: &str = "constant-server";

/// How the request comes to its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As all routes do.
    Router,
    /// As the node's own two do that read rows by key.
    Shortcut,
}

const SHORTCUT: &str = "shortcut";

const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub struct ConstantServer {
    child: Child,
    pub address: String,
}

impl ConstantServer {
    pub fn start(way: Way) -> Self {
        let program = std::env::current_exe().expect("the program knows itself");
        let mut command = Command::new(program);
        command
            .arg(ARGUMENT)
            .args((way == Way::Shortcut).then_some(SHORTCUT))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = process::spawn(command);
        let mut address = String::new();
        let output = child.stdout.take().expect("stdout is a pipe");
        BufReader::new(output).read_line(&mut address).expect("the server says where it is");
        Self { child, address: address.trim().to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for ConstantServer {
    fn drop(&mut self) {
        // It may have ended by itself, which the load has noticed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Never returns, unless the server fails.
pub fn run() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    println!("{}", listener.local_addr().expect("the socket has an address"));
    let is_shortcut = std::env::args().nth(2).as_deref() == Some(SHORTCUT);
    let observer = Observer::new(Server::Reader, Metrics::new());
    actix_rt::System::new().block_on(async {
        let server = serve(listener, &ServerOptions::default(), observer, move |config| {
            let row = web::Bytes::from(data::row_json(0));
            if is_shortcut {
                let shortcut = move |mut request: Request| answer(request.take_payload(), row.clone());
                return Shortcuts::default().post(data::POINT_READ_PATTERN, shortcut);
            }
            let route = move |payload: web::Payload| answer(payload, row.clone());
            config.service(web::resource(data::POINT_READ_PATTERN).post(route));
            Shortcuts::default()
        });
        server.expect("the server starts").await.expect("the server runs");
    });
}

async fn answer(payload: impl Chunks, row: web::Bytes) -> Result<HttpResponse, HttpError> {
    body::read(payload).await?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, JSON)).body(row))
}
