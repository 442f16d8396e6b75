//! A server that answers a point read with the same bytes every time: all that the
//! node's servers have around a request, the body received, and no database.

use actix_http::Request;
use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::web;
use ctlstore::http::body::{self, Chunks};
use ctlstore::http::error::HttpError;
use ctlstore::http::fast_path::FastPaths;
use ctlstore::http::instrument::Observer;
use ctlstore::http::serve::{ServerOptions, serve};
use ctlstore::metrics::{Metrics, Server};

use super::data;
use super::other::{OtherProcess, listen};

/// The argument that makes this program such a server; the second is how it answers.
pub const ARGUMENT: &str = "constant-server";

/// How the request comes to its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As all routes do.
    Router,
    /// As the node's own two do that read rows by key.
    FastPath,
}

const SHORTCUT: &str = "shortcut";

const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub fn start(way: Way) -> OtherProcess {
    match way {
        Way::Router => OtherProcess::start(&[ARGUMENT]),
        Way::FastPath => OtherProcess::start(&[ARGUMENT, SHORTCUT]),
    }
}

/// Never returns, unless the server fails.
pub fn run() {
    let is_shortcut = std::env::args().nth(2).as_deref() == Some(SHORTCUT);
    let observer = Observer::new(Server::Reader, Metrics::new());
    actix_rt::System::new().block_on(async {
        let server = serve(listen(), &ServerOptions::default(), observer, move |config| {
            let row = web::Bytes::from(data::row_json(0));
            if is_shortcut {
                let shortcut = move |mut request: Request| answer(request.take_payload(), row.clone());
                return FastPaths::default().post(data::POINT_READ_PATTERN, shortcut);
            }
            let route = move |payload: web::Payload| answer(payload, row.clone());
            config.service(web::resource(data::POINT_READ_PATTERN).post(route));
            FastPaths::default()
        });
        server.expect("the server starts").await.expect("the server runs");
    });
}

async fn answer(payload: impl Chunks, row: web::Bytes) -> Result<HttpResponse, HttpError> {
    body::read(payload).await?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, JSON)).body(row))
}
