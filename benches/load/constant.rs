//! A server that answers a point read with the same bytes every time: all that the
//! node's servers have around a request, the body received, and no database. A
//! process of its own, as the node is: this program starts itself again.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::web::{self, Payload};
use ctlstore::http::body;
use ctlstore::http::error::HttpError;
use ctlstore::http::observe::Observer;
use ctlstore::http::serve::{ServerOptions, serve};
use ctlstore::metrics::{Metrics, Server};

use super::data;
use super::support::process;

/// The argument that makes this program such a server.
pub const ARGUMENT: &str = "constant-server";

const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub struct ConstantServer {
    child: Child,
    pub address: String,
}

impl ConstantServer {
    pub fn start() -> Self {
        let program = std::env::current_exe().expect("the program knows itself");
        let mut command = Command::new(program);
        command.arg(ARGUMENT).stdin(Stdio::null()).stdout(Stdio::piped());
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
    let observer = Observer::new(Server::Reader, Metrics::new());
    actix_rt::System::new().block_on(async {
        let server = serve(listener, &ServerOptions::default(), observer, |config| {
            let row = web::Bytes::from(data::row_json(0));
            config.service(web::resource(data::POINT_READ_PATTERN).post(move |payload| answer(payload, row.clone())));
        });
        server.expect("the server starts").await.expect("the server runs");
    });
}

async fn answer(payload: Payload, row: web::Bytes) -> Result<HttpResponse, HttpError> {
    body::read(payload).await?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, JSON)).body(row))
}
