//! The heartbeat: writes one row at an interval, so that a quiet ledger shows how far each host
//! has come. Entry point: [`Heartbeat::new`]. It uses an executive's HTTP API as any other writer
//! does. If its writer, family or table is missing, it makes them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::json;
use url::Url;

use crate::actors::failures::{Failures, failed};
use crate::actors::task::{RoleView, Stopping, TaskActor, TaskRole};
use crate::backoff::Backoff;
use crate::messages::status::{ActorKind, RoleState};
use crate::metrics::{Component, ErrorKind, Metrics};
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::{TableRef, Timestamp, WriterName};

/// The row's key.
const KEY: &str = "heartbeat";

/// The most characters of an executive's error text that the heartbeat's own error repeats.
const SHOWN_CHARS: usize = 200;

/// The first pause after a failure. The longest one is the interval.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// The heartbeat's row, writer and executive.
#[derive(Debug, Clone)]
pub struct HeartbeatOptions {
    pub interval: Duration,
    /// How long one request may take, to the end of its answer.
    pub request_timeout: Duration,
    pub executive: Url,
    pub table: TableRef,
    pub writer: WriterName,
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

/// The heartbeat's part of `/status`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct HeartbeatDetails {
    /// Rows that were written.
    beats: u64,
    /// When the executive took the last one.
    last_at: Option<String>,
}

/// The state that the actor and its task share.
pub struct HeartbeatRole {
    options: HeartbeatOptions,
    client: Client,
    metrics: Arc<Metrics>,
    view: RefCell<RoleView<HeartbeatDetails>>,
}

pub type Heartbeat = TaskActor<HeartbeatRole>;

impl Heartbeat {
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(options: HeartbeatOptions, metrics: Arc<Metrics>) -> Result<Self, reqwest::Error> {
        let client = Client::builder().timeout(options.request_timeout).no_proxy().build()?;
        let failures = Failures::new(Component::Heartbeat, Arc::clone(&metrics));
        let view = RoleView::new(failures, HeartbeatDetails::default());
        Ok(Self::of(HeartbeatRole { options, client, metrics, view }, run))
    }
}

impl TaskRole for HeartbeatRole {
    type Details = HeartbeatDetails;

    const KIND: ActorKind = ActorKind::Heartbeat;

    fn view(&self) -> &RefCell<RoleView<HeartbeatDetails>> {
        &self.view
    }
}

async fn run(role: Rc<HeartbeatRole>, mut stopping: Stopping) {
    let mut backoff = Backoff::new(FIRST_RETRY, role.options.interval);
    let mut is_set_up = false;
    loop {
        let Some(outcome) = stopping.unless(role.beat(&mut is_set_up)).await else { return };
        let pause = match &outcome {
            Ok(_) => {
                backoff.reset();
                role.options.interval
            }
            Err(_) => backoff.next_pause(),
        };
        role.record(outcome);
        if stopping.unless(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

impl HeartbeatRole {
    /// Writes one row. Before the first one, and after a refusal, it makes what it needs.
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
        let register = self.post(&["writers", writer.as_str()]).body(secret.expose_secret().to_owned());
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
            // Bytes, because a name or a secret may have letters beyond ASCII.
            .header("ctlstore-writer", writer.as_str().as_bytes())
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

/// Sends a request. An answer whose status is not one of `expected` is an error.
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
