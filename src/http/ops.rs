//! The ops server, by which a node tells about itself: `/status`, `/metrics`, `/healthz`, `/readyz`.
//! Entry point: [`bounded_routes`]. Every answer is made from what the actors say when they are asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::Recipient;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, ContentType};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, HttpResponseBuilder, Responder};
use futures::future::join_all;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::messages::status::{ActorKind, GetStatus, RoleStatus};
use crate::metrics::{CONTENT_TYPE as METRICS_TYPE, Metrics};
use crate::telemetry;

use super::error::HttpError;
use super::json;
use super::openapi::{Documented, Operation, get};

/// How long an actor may take to tell its status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// The state that the ops routes read.
#[derive(Clone)]
pub struct OpsState {
    /// Every actor of the node, in the order of the data flow.
    pub actors: Arc<Vec<(ActorKind, Recipient<GetStatus>)>>,
    pub metrics: Arc<Metrics>,
    /// True until the node begins to stop.
    pub accepting: Arc<AtomicBool>,
}

/// How the limit of open files is shared out.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Bounds {
    /// The most files that this process may have open.
    pub open_files: usize,
    /// How many of them the node keeps for itself.
    pub reserved_files: usize,
    /// The most connections of each server at one time; 0 if there is no such server.
    pub connections: ConnectionBounds,
}

/// The bound of each server's connections.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[schema(as = Connections)]
pub struct ConnectionBounds {
    pub executive: usize,
    pub reader: usize,
    pub ops: usize,
}

/// The answer of `/status`.
#[derive(Serialize, ToSchema)]
struct NodeStatus {
    version: &'static str,
    /// Whether `/readyz` says yes.
    ready: bool,
    /// Log lines that were lost because standard error was not read in time, or was closed.
    log_lines_dropped: u64,
    bounds: Bounds,
    /// Each with its name, its state, and what else it tells about itself.
    #[schema(value_type = Vec<Object>)]
    roles: Vec<ActorAnswer>,
}

/// An actor's answer, or that there is none.
#[derive(Serialize)]
#[serde(untagged)]
enum ActorAnswer {
    Status(Box<RoleStatus>),
    Silent { role: ActorKind, state: &'static str, not_ready: String },
}

impl ActorAnswer {
    fn silent(role: ActorKind, state: &'static str, not_ready: &str) -> Self {
        Self::Silent { role, state, not_ready: not_ready.to_owned() }
    }

    fn role(&self) -> ActorKind {
        match self {
            Self::Status(status) => status.role,
            Self::Silent { role, .. } => *role,
        }
    }

    fn not_ready(&self) -> Option<&str> {
        match self {
            Self::Status(status) => status.not_ready.as_deref(),
            Self::Silent { not_ready, .. } => Some(not_ready),
        }
    }
}

impl OpsState {
    async fn ask_all(&self) -> Vec<ActorAnswer> {
        join_all(self.actors.iter().map(|(role, actor)| async move {
            match tokio::time::timeout(STATUS_TIMEOUT, actor.send(GetStatus)).await {
                Ok(Ok(status)) => ActorAnswer::Status(Box::new(status)),
                Ok(Err(_)) => ActorAnswer::silent(*role, "stopped", "has stopped"),
                Err(_) => ActorAnswer::silent(*role, "silent", "does not answer"),
            }
        }))
        .await
    }

    fn is_accepting(&self) -> bool {
        self.accepting.load(Ordering::Relaxed)
    }
}

/// All that the ops server serves, with its description.
pub fn documented() -> Documented {
    Documented::new("ctlstore node", "What a node says about itself.", operations)
}

/// The routes of the ops server of a process that shares out no files.
pub fn routes(state: OpsState) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
    bounded_routes(state, Bounds::default())
}

/// The routes of a node's ops server.
pub fn bounded_routes(state: OpsState, bounds: Bounds) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
    let documented = documented();
    move |config| {
        config.app_data(web::Data::new(state.clone())).app_data(web::Data::new(bounds.clone()));
        documented.configure(config);
    }
}

fn operations() -> Vec<Operation> {
    let role = json!({"role": "applier", "state": "following"});
    let bounds = json!({
        "open_files": 20000, "reserved_files": 300, "connections": {"executive": 1024, "reader": 4096, "ops": 256},
    });
    let node = json!({
        "version": "0.1.0", "ready": true, "log_lines_dropped": 0, "bounds": bounds, "roles": [role],
    });
    vec![
        get("/", "What there is", index).gives_text("a text for people", None),
        get("/status", "How every role is", status).gives_json::<NodeStatus>("every role of the node", node),
        get("/metrics", "Metrics for Prometheus", metrics).gives_text("in OpenMetrics", Some(METRICS_TYPE)),
        get("/healthz", "Whether the process is alive", healthz).gives_text("it is", None),
        get("/readyz", "Whether every role is ready", readyz).with(readiness_described),
        get("/readyz/{role}", "Whether one role is ready", readyz_of_one)
            .with(readiness_described)
            .refuses(404, "this node has no such role"),
    ]
    .into_iter()
    .map(|operation| operation.tag("node"))
    .collect()
}

fn readiness_described(operation: Operation) -> Operation {
    operation.gives_text("ready", None).refuses(503, "a line for each role that is not, or the node is stopping")
}

async fn index() -> &'static str {
    "GET /status         every role of this node, as json\n\
     GET /metrics        prometheus\n\
     GET /healthz        200 while the process is alive\n\
     GET /readyz         200 when every role is ready, else 503 and which are not\n\
     GET /readyz/{role}  the same for one role, as /status names it\n\
     GET /openapi.json   all of this for programs\n"
}

async fn status(state: web::Data<OpsState>, bounds: web::Data<Bounds>) -> Result<HttpResponse, HttpError> {
    let roles = state.ask_all().await;
    let ready = state.is_accepting() && roles.iter().all(|role| role.not_ready().is_none());
    let log_lines_dropped = telemetry::dropped_lines();
    let bounds = Bounds::clone(&bounds);
    json::answer(&NodeStatus { version: env!("CARGO_PKG_VERSION"), ready, log_lines_dropped, bounds, roles })
}

async fn metrics(state: web::Data<OpsState>) -> Result<HttpResponse, HttpError> {
    // Some gauges grow with time alone. An actor sets them when it is asked for its status.
    state.ask_all().await;
    state.metrics.count_dropped_log_lines(telemetry::dropped_lines());
    let text = state.metrics.encode().map_err(|e| HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, e))?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, METRICS_TYPE)).body(text))
}

async fn healthz() -> impl Responder {
    "alive\n"
}

async fn readyz(state: web::Data<OpsState>) -> HttpResponse {
    readiness(&state, &state.ask_all().await)
}

/// Whether one role is ready, for clients that need no other role.
async fn readyz_of_one(state: web::Data<OpsState>, role: web::Path<String>) -> Result<HttpResponse, HttpError> {
    let all = state.ask_all().await;
    let (one, others): (Vec<ActorAnswer>, Vec<ActorAnswer>) =
        all.into_iter().partition(|answer| is_part_of(answer.role().name(), &role));
    if one.is_empty() {
        let others: Vec<&str> = others.iter().map(|answer| answer.role().name()).collect();
        return Err(HttpError::not_found(format!("this node has no role {:?}, it has {}", *role, others.join(", "))));
    }
    Ok(readiness(&state, &one))
}

/// Whether the actor called `actor` is `role` or a part of it.
fn is_part_of(actor: &str, role: &str) -> bool {
    actor == role || (role == "reflector" && matches!(actor, "poller" | "applier" | "fetcher"))
}

/// 200, or 503 with a line for each actor that is not ready.
fn readiness(state: &OpsState, answers: &[ActorAnswer]) -> HttpResponse {
    if !state.is_accepting() {
        return text(HttpResponse::ServiceUnavailable(), "the node is stopping\n");
    }
    let line = |answer: &ActorAnswer| Some(format!("{}: {}\n", answer.role(), answer.not_ready()?));
    let waiting: String = answers.iter().filter_map(line).collect();
    if waiting.is_empty() {
        text(HttpResponse::Ok(), "ready\n")
    } else {
        text(HttpResponse::ServiceUnavailable(), waiting)
    }
}

fn text(mut answer: HttpResponseBuilder, text: impl Into<String>) -> HttpResponse {
    answer.insert_header(ContentType::plaintext()).body(text.into())
}
