//! An executive as one would write it first: the body received, a transaction for each
//! request, a round trip for each of its statements, a connection for each writer. It
//! reads no JSON and judges nothing, so a real one would take longer.

use std::cell::Cell;
use std::rc::Rc;

use actix_web::{HttpRequest, HttpResponse, web};
use ctlstore::http::body;
use ctlstore::http::error::HttpError;
use ctlstore::http::instrument::Observer;
use ctlstore::http::serve::{ServerOptions, serve};
use ctlstore::metrics::{Metrics, Server};
use tokio::sync::Mutex;

use super::data::share;
use super::data::{MUTATIONS_PATTERN, WRITERS, writer_of};
use super::direct::{Direct, one_by_one};
use super::other::{OtherProcess, listen};

/// The argument that makes this program such a server; the second is the database's URL.
pub const ARGUMENT: &str = "plain-executive";

pub fn start(url: &str) -> OtherProcess {
    OtherProcess::start(&[ARGUMENT, url])
}

/// One writer's connection, and what it writes over and over.
struct Writer {
    connection: Mutex<Direct>,
    units: Vec<Vec<String>>,
    next: Cell<usize>,
}

impl Writer {
    async fn write(&self) {
        let unit = self.next.replace((self.next.get() + 1) % self.units.len());
        let mut connection = self.connection.lock().await;
        for statement in &self.units[unit] {
            connection.run(statement).await;
        }
    }
}

/// Never returns, unless the server fails.
pub fn run() {
    let url = std::env::args().nth(2).expect("a database's URL");
    let observer = Observer::new(Server::Executive, Metrics::new());
    actix_rt::System::new().block_on(async {
        let server = serve(listen(), &ServerOptions::default(), observer, move |config| {
            // Connections belong to the runtime of the worker that uses them, and are made by its first request.
            let (url, writers) = (url.clone(), Rc::new(tokio::sync::OnceCell::new()));
            let route = move |request: HttpRequest, payload: web::Payload| {
                let (url, writers) = (url.clone(), Rc::clone(&writers));
                async move {
                    body::read(payload).await?;
                    let writers: &Vec<Writer> = writers.get_or_init(|| open(&url)).await;
                    writers[writer_of(request.headers())].write().await;
                    Ok::<_, HttpError>(HttpResponse::Ok().finish())
                }
            };
            config.service(web::resource(MUTATIONS_PATTERN).post(route));
        });
        server.expect("the server starts").await.expect("the server runs");
    });
}

async fn open(url: &str) -> Vec<Writer> {
    let mut writers = Vec::with_capacity(WRITERS);
    for writer in 0..WRITERS {
        let connection = Mutex::new(Direct::join(url).await);
        writers.push(Writer { connection, units: one_by_one(writer, share(writer)), next: Cell::new(0) });
    }
    writers
}
