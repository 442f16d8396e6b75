//! One list says what a server serves and what its OpenAPI document tells of it: a
//! route comes into being only together with its description, so that neither can be
//! there without the other.
//!
//! To add routes, a module has a function `operations() -> Vec<Operation>`, and the
//! server's own `operations` takes them in:
//!
//! ```ignore
//! get("/v1/things/{family}/{table}", "One thing", handler)
//!     .query::<u64>("limit", "the most rows in the answer", 100)
//!     .with(age::described)                       // headers that several routes share
//!     .gives_json::<Thing>("the thing", json!({"name": "a"}))
//!     .refuses(404, "no such thing")
//! ```
//!
//! `Thing` derives `utoipa::ToSchema` beside `Serialize`. What a segment of the path
//! means stands in `parameters`. Statuses that any route can answer with are added to
//! all (`operation`); every other one has to be named.

mod operation;
mod parameters;
pub mod shapes;

use std::collections::BTreeMap;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{HttpResponse, Resource};
use serde_json::json;
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, License, OpenApiBuilder, PathsBuilder};

pub use operation::{EVENTS, Operation, delete, get, post, put};
pub use shapes::scalar;

/// What holds for all routes of all servers.
const COMMON: &str = "What answers GET answers HEAD in the same way, without the body. Request bodies may be compressed by \
gzip, as Content-Encoding says.";

/// Where every documented server has its document.
pub const PATH: &str = "/openapi.json";

/// A server's routes with the document about them. Cheap to clone.
#[derive(Clone)]
pub struct Documented {
    operations: fn() -> Vec<Operation>,
    document: Bytes,
}

impl Documented {
    /// `operations` is called once for the document and once for each worker.
    pub fn new(title: &str, about: &str, operations: fn() -> Vec<Operation>) -> Self {
        let mut listed = operations();
        listed.push(of_document(Bytes::new()));
        Self { operations, document: write(title, about, listed) }
    }

    /// The document as JSON, with the newline at its end.
    pub fn document(&self) -> &Bytes {
        &self.document
    }

    /// Sets up the routes. Those of one pattern are one resource, so that a method that
    /// none of them has is 405.
    pub fn configure(&self, config: &mut ServiceConfig) {
        let mut resources = BTreeMap::<&str, Resource>::new();
        let mut operations = (self.operations)();
        operations.push(of_document(self.document.clone()));
        for operation in operations {
            let resource = resources.remove(operation.pattern).unwrap_or_else(|| web::resource(operation.pattern));
            resources.insert(operation.pattern, resource.route(operation.route));
        }
        for resource in resources.into_values() {
            config.service(resource);
        }
    }
}

fn of_document(document: Bytes) -> Operation {
    let answer = move || {
        let document = document.clone();
        async move { HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(document) }
    };
    get(PATH, "This document", answer)
        .gives_json::<serde_json::Value>("an OpenAPI document", json!({"openapi": "3.1.0"}))
        .tag("about")
}

fn write(title: &str, about: &str, operations: Vec<Operation>) -> Bytes {
    let info = InfoBuilder::new()
        .title(title)
        .description(Some(format!("{about} {COMMON}")))
        .version(env!("CARGO_PKG_VERSION"))
        .license(Some(License::new(env!("CARGO_PKG_LICENSE"))));
    let (mut paths, mut components) = (PathsBuilder::new(), ComponentsBuilder::new());
    for operation in operations {
        let (path, item, schemas) = operation.described();
        paths = paths.path(path, item);
        components = components.schemas_from_iter(schemas);
    }
    let document = OpenApiBuilder::new().info(info.build()).paths(paths.build()).components(Some(components.build()));
    let mut json = serde_json::to_vec(&document.build()).expect("the document has only what json can say");
    json.push(b'\n');
    Bytes::from(json)
}
