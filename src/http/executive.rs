//! The executive's HTTP API: its routes, and the server that carries them. Each
//! handler turns a request into one message, mutations into a part of one, and the
//! answer into a response; the rules stand in `executive`, and who answers is handed in as recipients.

mod limits;
mod mutation_batcher;
mod mutations;
mod tables;
mod writers;

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use actix::Recipient;
use actix_web::HttpResponse;
use actix_web::dev::Server;
use actix_web::web::Data;

use crate::messages::executive::{Ask, Mutate};
use ctlstore_core::ledger::Seq;
use ctlstore_ctldb::executive::{
    AddFields, ClearFamily, ClearTable, CreateFamily, CreateTables, DeleteTableLimit, DeleteWriterLimit, DropTable,
    ListTableLimits, ListWriterLimits, Ping, ReadCookie, ReadFamily, ReadTable, RegisterWriter, RemoveWriter, Request,
    RotateSecret, SetCookie, SetTableLimit, SetWriterLimit,
};

use super::error::HttpError;
use super::instrument::Observer;
use super::openapi::{Documented, Operation, get};
use super::serve::{ServerOptions, serve};

use mutation_batcher::MutationBatcher;

const ABOUT: &str = "Guards the ctldb: schemas, mutations, writers and limits. Members of JSON bodies match \
in any letter case, unknown ones are ignored, and null counts as absent. What writes the ledger answers with \
ctlstore-seq.";

/// Carries the last seq that a request wrote, on every route that writes the ledger.
pub const SEQ_HEADER: &str = "ctlstore-seq";

/// Whoever answers the messages that the routes send.
#[derive(Clone)]
pub struct ExecutiveRecipients {
    pub mutate: Recipient<Mutate>,
    pub create_family: Recipient<Ask<CreateFamily>>,
    pub create_tables: Recipient<Ask<CreateTables>>,
    pub add_fields: Recipient<Ask<AddFields>>,
    pub drop_table: Recipient<Ask<DropTable>>,
    pub clear_table: Recipient<Ask<ClearTable>>,
    pub clear_family: Recipient<Ask<ClearFamily>>,
    pub read_table: Recipient<Ask<ReadTable>>,
    pub read_family: Recipient<Ask<ReadFamily>>,
    pub register_writer: Recipient<Ask<RegisterWriter>>,
    pub rotate_secret: Recipient<Ask<RotateSecret>>,
    pub remove_writer: Recipient<Ask<RemoveWriter>>,
    pub read_cookie: Recipient<Ask<ReadCookie>>,
    pub set_cookie: Recipient<Ask<SetCookie>>,
    pub list_table_limits: Recipient<Ask<ListTableLimits>>,
    pub set_table_limit: Recipient<Ask<SetTableLimit>>,
    pub delete_table_limit: Recipient<Ask<DeleteTableLimit>>,
    pub list_writer_limits: Recipient<Ask<ListWriterLimits>>,
    pub set_writer_limit: Recipient<Ask<SetWriterLimit>>,
    pub delete_writer_limit: Recipient<Ask<DeleteWriterLimit>>,
    pub ping: Recipient<Ask<Ping>>,
}

/// What every handler is given.
struct Api {
    to: ExecutiveRecipients,
    /// The way of this worker's mutations.
    batcher: MutationBatcher,
    /// An answer that takes longer is not waited for.
    timeout: Duration,
}

impl Api {
    async fn ask<R: Request>(&self, to: &Recipient<Ask<R>>, request: R) -> Result<R::Answer, HttpError> {
        Ok(to.send(Ask(request)).timeout(self.timeout).await??)
    }
}

/// Sets the executive's server going on a bound socket. `timeout` is the
/// executive's own request time-out with some grace.
pub fn server(
    listener: TcpListener,
    options: &ServerOptions,
    observer: Observer,
    to: ExecutiveRecipients,
    timeout: Duration,
) -> io::Result<Server> {
    let documented = documented();
    serve(listener, options, observer, move |config| {
        let batcher = MutationBatcher::new(to.mutate.clone());
        config.app_data(Data::new(Api { to: to.clone(), batcher, timeout }));
        documented.configure(config);
    })
}

/// All that the executive serves and says of itself.
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

/// An answer of the executive's own, which may come too late or not at all.
fn asking(operation: Operation) -> Operation {
    operation
        .refuses(503, "the executive or the ctldb can't answer now; Retry-After says when to try again")
        .says::<u64>(503, "retry-after", "seconds")
}

/// Success with an empty body, of a route that writes the ledger.
fn writing(operation: Operation) -> Operation {
    operation
        .gives_nothing("done")
        .says::<i64>(200, SEQ_HEADER, "the last ledger seq that the request wrote, if it wrote")
        .with(asking)
}

/// Whether the ctldb answers and takes writes; any failure is a 503.
async fn status(api: Data<Api>) -> Result<HttpResponse, HttpError> {
    api.ask(&api.to.ping, Ping).await.map_err(HttpError::unavailable)?;
    Ok(done())
}

/// 200 without a body.
fn done() -> HttpResponse {
    HttpResponse::Ok().finish()
}

/// 200 without a body, with the last seq that was written, if any was.
fn written(seq: Option<Seq>) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    if let Some(seq) = seq {
        response.insert_header((SEQ_HEADER, seq.to_string()));
    }
    response.finish()
}
