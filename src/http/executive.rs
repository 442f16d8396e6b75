//! The executive's HTTP API: its routes, and the server that carries them. Entry point: [`server`]. Each
//! handler turns an HTTP request into a request of the executive, and the answer into a response. The
//! rules are not here but in `ctlstore_ctldb::executive`.
//!
//! To add a request, write its type there (`executive/request.rs` says how) and its route with a handler
//! in the file of its subject here. No file in between names it.

mod api;
mod limits;
mod mutation_batcher;
mod mutations;
mod tables;
mod writers;

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::dev::Server;
use actix_web::web::Data;

use ctlstore_ctldb::executive::Ping;

use super::error::HttpError;
use super::instrument::Observer;
use super::openapi::{Documented, Operation, get};
use super::serve::{ServerOptions, serve};

use api::{Api, asking, done};
pub use api::{ExecutiveRecipients, SEQ_HEADER};

const ABOUT: &str = "Guards the ctldb: schemas, mutations, writers and limits. Members of JSON bodies match \
in any letter case, unknown ones are ignored, and null counts as absent. What writes the ledger answers with \
ctlstore-seq.";

/// Makes the executive's server on a bound socket. `timeout` is the executive's own request time-out with
/// some grace.
pub fn server(
    listener: TcpListener,
    options: &ServerOptions,
    observer: Observer,
    to: ExecutiveRecipients,
    timeout: Duration,
) -> io::Result<Server> {
    let documented = documented();
    serve(listener, options, observer, move |config| {
        config.app_data(Data::new(Api::new(to.clone(), timeout)));
        documented.configure(config);
    })
}

/// All routes of the executive with their descriptions.
pub fn documented() -> Documented {
    Documented::new("ctlstore executive", ABOUT, operations)
}

fn operations() -> Vec<Operation> {
    let mut all = tables::operations();
    all.push(mutations::operation());
    all.extend(writers::operations());
    all.extend(limits::operations());
    all.push(get("/status", "Whether the ctldb answers", status).tag("about").gives_nothing("it does").with(asking));
    all
}

/// Whether the ctldb answers and takes writes. Any failure is a 503.
async fn status(api: Data<Api>) -> Result<HttpResponse, HttpError> {
    api.ask(Ping).await.map_err(HttpError::unavailable)?;
    Ok(done())
}
