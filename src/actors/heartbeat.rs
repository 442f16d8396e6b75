//! The heartbeat: writes one row at an interval through an executive's HTTP API, as
//! any other writer does, so that a quiet ledger shows how far each host has come.
//! It makes its writer, family and table when they are missing.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use reqwest::{Client, RequestBuilder, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::json;
use url::Url;

use crate::actors::failures::{Failures, failed};
use crate::actors::task::{Stopping, Task};
use crate::backoff::Backoff;
use crate::messages::status::{ActorKind, GetStatus, RoleState, RoleStatus};
use crate::messages::stop::Stop;
use crate::metrics::{Component, ErrorKind, Metrics};
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::{TableRef, Timestamp};

/// The row's key.
const KEY: &str = "heartbeat";

/// How much of an executive's error text is repeated, in characters.
const SHOWN_CHARS: usize = 200;

/// The first pause after a failure; the longest is the interval.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// What to write where.
#[derive(Debug, Clone)]
pub struct HeartbeatOptions {
    pub interval: Duration,
    /// For one request, to the end of its answer.
    pub request_timeout: Duration,
    pub executive: Url,
    pub table: TableRef,
    pub writer: String,
    pub secret: SecretString,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum BeatError {
    #[error("the executive can't be reached: {0}")]
    Unreachable(String),
    #[error("the executive did not answer in time")]
    TimedOut,
    #[error("{step}: the executive answered {status}: {text}")]
    Refused { step: &'static str, status: StatusCode, text: String },
}

impl BeatError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unreachable(_) => ErrorKind::Unavailable,
            Self::TimedOut => ErrorKind::Timeout,
            Self::Refused { .. } => ErrorKind::Refused,
        }
    }
}

/// What the heartbeat shows of itself.
#[derive(Debug, Clone, Default, Serialize)]
struct Details {
    beats: u64,
    /// When the last one was taken.
    last_at: Option<String>,
    failures: u64,
}

/// What the actor and its task share; both live on one thread.
struct Shared {
    options: HeartbeatOptions,
    client: Client,
    metrics: Arc<Metrics>,
    view: RefCell<View>,
}

/// What a status answer is made from.
struct View {
    state: RoleState,
    last_seq: Option<Seq>,
    failures: Failures,
    details: Details,
}

pub struct Heartbeat {
    shared: Rc<Shared>,
    task: Option<Task>,
}

impl Heartbeat {
    /// Fails only when no HTTP client can be made.
    pub fn new(options: HeartbeatOptions, metrics: Arc<Metrics>) -> Result<Self, reqwest::Error> {
        let client = Client::builder().timeout(options.request_timeout).no_proxy().build()?;
        let failures = Failures::new(Component::Heartbeat, Arc::clone(&metrics));
        let view = View { state: RoleState::Starting, last_seq: None, failures, details: Details::default() };
        Ok(Self { shared: Rc::new(Shared { options, client, metrics, view: RefCell::new(view) }), task: None })
    }
}

impl Actor for Heartbeat {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        let shared = self.shared.clone();
        self.task = Some(Task::spawn(|stopping| run(shared, stopping)));
    }
}

impl Handler<GetStatus> for Heartbeat {
    type Result = RoleStatus;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> RoleStatus {
        let view = &mut *self.shared.view.borrow_mut();
        view.details.failures = view.failures.count();
        let status = RoleStatus::new(ActorKind::Heartbeat, view.state).with_error(view.failures.last());
        let mut status = status.with_details(&view.details);
        status.last_seq = view.last_seq;
        status
    }
}

impl Handler<Stop> for Heartbeat {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Stop, _: &mut Self::Context) -> Self::Result {
        self.shared.view.borrow_mut().state = RoleState::Stopping;
        Task::then_stop(self.task.take())
    }
}

async fn run(shared: Rc<Shared>, mut stopping: Stopping) {
    let mut backoff = Backoff::new(FIRST_RETRY, shared.options.interval);
    let mut is_set_up = false;
    loop {
        let Some(outcome) = stopping.unless(shared.beat(&mut is_set_up)).await else { return };
        let pause = match &outcome {
            Ok(_) => {
                backoff.reset();
                shared.options.interval
            }
            Err(_) => backoff.next_pause(),
        };
        shared.record(outcome);
        if stopping.unless(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

impl Shared {
    /// One beat; sets up what it needs first, also again after a refusal.
    async fn beat(&self, is_set_up: &mut bool) -> Result<Option<Seq>, BeatError> {
        if !*is_set_up {
            self.set_up().await?;
            *is_set_up = true;
        }
        let written = self.write(Timestamp::now()).await;
        if matches!(written, Err(BeatError::Refused { .. })) {
            *is_set_up = false;
        }
        written
    }

    async fn set_up(&self) -> Result<(), BeatError> {
        let HeartbeatOptions { table, writer, secret, .. } = &self.options;
        let register = self.post(&["writers", writer]).body(secret.expose_secret().to_owned());
        ask("register the writer", register, &[StatusCode::OK]).await?;
        let there = [StatusCode::OK, StatusCode::CONFLICT];
        let family = self.post(&["families", table.family.as_str()]);
        ask("create the family", family, &there).await?;
        let fields = json!({ "fields": [["name", "string"], ["value", "integer"]], "keyFields": ["name"] });
        let table = self.post(&["families", table.family.as_str(), "tables", table.table.as_str()]).json(&fields);
        ask("create the table", table, &there).await?;
        Ok(())
    }

    async fn write(&self, now: Timestamp) -> Result<Option<Seq>, BeatError> {
        let HeartbeatOptions { table, writer, secret, .. } = &self.options;
        let row = json!({ "name": KEY, "value": now.unix_micros().saturating_mul(1_000) });
        let body = json!({ "mutations": [{ "table": table.table, "delete": false, "values": row }] });
        let request = self
            .post(&["families", table.family.as_str(), "mutations"])
            // As bytes: a name or a secret may have letters beyond ASCII.
            .header("ctlstore-writer", writer.as_bytes())
            .header("ctlstore-secret", secret.expose_secret().as_bytes())
            .json(&body);
        let answer = ask("write the row", request, &[StatusCode::OK]).await?;
        let seq = answer.headers().get("ctlstore-seq").and_then(|seq| seq.to_str().ok()?.parse().ok());
        Ok(seq.map(Seq))
    }

    fn post(&self, path: &[&str]) -> RequestBuilder {
        let mut url = self.options.executive.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        self.client.post(url)
    }

    fn record(&self, outcome: Result<Option<Seq>, BeatError>) {
        let view = &mut *self.view.borrow_mut();
        match outcome {
            Ok(seq) => {
                if view.state == RoleState::Retrying {
                    tracing::info!(role = "heartbeat", "beating again");
                }
                let now = Timestamp::now();
                view.state = RoleState::Running;
                view.failures.end();
                view.last_seq = seq.or(view.last_seq);
                view.details.beats += 1;
                view.details.last_at = Some(now.to_string());
                self.metrics.heartbeat.beats.inc();
                self.metrics.heartbeat.last_success_seconds.set(now.unix_micros() as f64 / 1e6);
            }
            Err(error) => {
                failed!(view.failures, error.kind(), error, "no beat, retrying");
                view.state = RoleState::Retrying;
            }
        }
    }
}

/// Sends a request and takes an answer whose status is one of `expected`.
async fn ask(
    step: &'static str,
    request: RequestBuilder,
    expected: &[StatusCode],
) -> Result<reqwest::Response, BeatError> {
    let answer = request.send().await.map_err(|error| {
        if error.is_timeout() { BeatError::TimedOut } else { BeatError::Unreachable(root_cause(&error)) }
    })?;
    let status = answer.status();
    if expected.contains(&status) {
        return Ok(answer);
    }
    let text = answer.text().await.unwrap_or_default();
    Err(BeatError::Refused { step, status, text: text.trim().chars().take(SHOWN_CHARS).collect() })
}

/// The innermost reason: the outer ones only repeat the URL.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
