//! Makes a server's routes and its OpenAPI document from one list. A route can only be made together
//! with its description, so neither exists without the other. Entry points: [`get`], [`post`],
//! [`put`] and [`delete`] make an [`Operation`], [`Documented`] a server's routes.
//!
//! To add routes, give a module a function `operations() -> Vec<Operation>`, and call it in the
//! server's own `operations`:
//!
//! ```ignore
//! get("/v1/things/{family}/{table}", "One thing", handler)
//!     .query::<u64>("limit", "the most rows in the answer", 100)
//!     .with(freshness::described)                 // headers that several routes share
//!     .gives_json::<Thing>("the thing", json!({"name": "a"}))
//!     .refuses(404, "no such thing")
//! ```
//!
//! `Thing` derives `utoipa::ToSchema` beside `Serialize`. Path segments are described in
//! `parameters`. Statuses that any route can answer with are added to all (`operation`); every other
//! status has to be named. Each GET is described as HEAD too.

mod operation;
mod parameters;
pub mod shapes;

use std::collections::BTreeMap;

use actix_web::http::header::{ALLOW, CONTENT_TYPE};
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{HttpResponse, Resource};
use serde_json::json;
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, License, OpenApiBuilder, PathsBuilder};

pub use operation::{EVENTS, Operation, delete, get, post, put};
pub use shapes::scalar;

/// Described of all servers.
const COMMON: &str = "What answers GET answers HEAD in the same way, without the body. Request bodies may be compressed by \
gzip, as Content-Encoding says.";

/// The path at which every documented server has its document.
pub const PATH: &str = "/openapi.json";

/// A server's routes with their document. Cheap to clone.
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

    /// Sets up the routes. Those of one pattern are one resource, so a method that none of them has
    /// is 405.
    pub fn configure(&self, config: &mut ServiceConfig) {
        let mut resources = BTreeMap::<&str, (Resource, Vec<&'static str>)>::new();
        let mut operations = (self.operations)();
        operations.push(of_document(self.document.clone()));
        for operation in operations {
            let (resource, mut methods) =
                resources.remove(operation.pattern).unwrap_or_else(|| (web::resource(operation.pattern), Vec::new()));
            methods.extend(operation.methods());
            resources.insert(operation.pattern, (resource.route(operation.route), methods));
        }
        for (resource, methods) in resources.into_values() {
            config.service(resource.default_service(web::to(move || not_allowed(methods.join(", ")))));
        }
    }
}

/// 405, which names the methods that the route has.
async fn not_allowed(methods: String) -> HttpResponse {
    HttpResponse::MethodNotAllowed().insert_header((ALLOW, methods)).finish()
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
    let mut paths = PathsBuilder::new();
    let mut components = ComponentsBuilder::new();
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
