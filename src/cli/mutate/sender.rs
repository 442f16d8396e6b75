//! Many mutations as few requests: batches within the executive's bounds, tried
//! again where that helps, each with the cookie that says how far the writer is.
//!
//! Without `resume` the writer's cookie is kept as it is. With it, the cookie of
//! each request is the place in the input behind that request, compared and set
//! with the rows in one transaction: what was written is known exactly, also when
//! an answer was lost or the command was killed.

use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, StatusCode};
use secrecy::SecretString;
use serde::Serialize;

use ctlstore_core::schema::{FamilyName, WriterName};
use ctlstore_ctldb::executive::MAX_MUTATIONS;

use super::super::client::{ServerAnswer, ServerClient, signed};
use super::super::failure::{Exit, Failure};
use super::super::interrupt::{Interrupt, Interrupted};
use super::super::row_progress::RowProgress;
use super::super::writers::cookie_of;
use super::position::{InputCookie, InputPosition};

/// The most bytes of mutations in a request; an executive takes bodies of 1 MiB.
const MAX_BATCH_BYTES: usize = 900 * 1024;
/// How often in a row a batch is tried before the command gives up.
const MAX_TRIES: u32 = 12;
/// The same for a writer over its limit, which says itself when it may write again.
const MAX_TRIES_OVER_LIMIT: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Who writes where.
pub struct To {
    pub executive: ServerClient,
    pub family: FamilyName,
    pub writer: WriterName,
    pub secret: SecretString,
}

/// What was done in the end.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    pub rows: u64,
    pub requests: u64,
    /// Lines that an earlier run had written.
    pub skipped: u64,
    /// The last ledger seq that was written.
    pub seq: Option<i64>,
}

/// A signal ends it between two requests, never within one.
pub struct Sender {
    to: To,
    interrupt: Interrupt,
    /// The writer's cookie as the ctldb has it.
    cookie: Vec<u8>,
    /// With `resume`: where the input is, and where an earlier run had come to.
    position: Option<(InputPosition, Option<InputCookie>)>,
    batch: Vec<String>,
    bytes: usize,
    summary: Summary,
    progress: RowProgress,
}

impl Sender {
    pub async fn begin(to: To, resume: bool) -> anyhow::Result<Self> {
        let interrupt = Interrupt::listen().context("signals")?;
        let cookie = interrupt.unless(cookie_of(&to.executive, &to.writer, &to.secret)).await.ok_or(Interrupted)??;
        let position = resume.then(|| (InputPosition::default(), InputCookie::of_cookie(&cookie)));
        let progress = RowProgress::start("rows written", None);
        Ok(Self { to, interrupt, cookie, position, batch: Vec::new(), bytes: 0, summary: Summary::default(), progress })
    }

    /// What the input gives next, unless a signal comes first.
    pub async fn awaiting<T>(&self, input: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        self.interrupt.unless(input).await.unwrap_or_else(|| Err(self.stopped(false).into()))
    }

    /// Takes a line of the input and the mutation that it means, as JSON.
    pub async fn push(&mut self, line: &str, mutation: String) -> anyhow::Result<()> {
        let is_written = self
            .position
            .as_ref()
            .is_some_and(|(at, until)| until.as_ref().is_some_and(|until| at.lines() < until.lines));
        let fits = self.batch.len() < MAX_MUTATIONS && self.bytes + mutation.len() <= MAX_BATCH_BYTES;
        if !fits {
            self.flush().await?;
        }
        if let Some((position, _)) = &mut self.position {
            position.pass(line);
        }
        if is_written {
            self.summary.skipped += 1;
            return self.check_input();
        }
        self.bytes += mutation.len() + 1;
        self.batch.push(mutation);
        Ok(())
    }

    /// At the place where the earlier run had come to the input must be the same.
    fn check_input(&self) -> anyhow::Result<()> {
        match &self.position {
            Some((at, Some(until))) if at.lines() == until.lines && at.place() != *until => {
                Err(other_input(until.lines))
            }
            _ => Ok(()),
        }
    }

    /// Writes what is left, and says what was done.
    pub async fn finish(mut self) -> anyhow::Result<Summary> {
        if let Some((at, Some(until))) = &self.position
            && at.lines() < until.lines
        {
            return Err(other_input(until.lines));
        }
        self.flush().await?;
        Ok(self.summary)
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let next = self.position.as_ref().map_or_else(|| self.cookie.clone(), |(at, _)| at.place().cookie());
        let seq = self.write(&next).await?;
        self.cookie = next;
        self.summary.seq = seq.or(self.summary.seq);
        self.summary.rows += self.batch.len() as u64;
        self.summary.requests += 1;
        self.progress.at(self.summary.rows);
        self.batch.clear();
        self.bytes = 0;
        Ok(())
    }

    /// Writes the batch, whatever that takes within bounds; gives its last seq where
    /// that is known.
    async fn write(&mut self, next: &[u8]) -> anyhow::Result<Option<i64>> {
        let body = format!(
            r#"{{"cookie":"{}","check_cookie":"{}","mutations":[{}]}}"#,
            STANDARD.encode(next),
            STANDARD.encode(&self.cookie),
            self.batch.join(",")
        );
        let mut pause = FIRST_PAUSE;
        let mut attempt = 0;
        // An answer that was lost leaves it open whether the batch is written.
        let mut is_open = false;
        loop {
            if self.interrupt.came() {
                return Err(self.stopped(is_open).into());
            }
            attempt += 1;
            let (failure, tries) = match self.post(&body).await {
                Ok(answer) if answer.status.is_success() => return Ok(answer.seq()),
                Ok(answer) if answer.status == StatusCode::CONFLICT && self.is_written(attempt, next).await? => {
                    return Ok(None);
                }
                Ok(answer) => {
                    pause = retry_after(&answer).unwrap_or(pause);
                    let is_over_limit = answer.status == StatusCode::TOO_MANY_REQUESTS;
                    (answer.failure(), if is_over_limit { MAX_TRIES_OVER_LIMIT } else { MAX_TRIES })
                }
                Err(failure) => {
                    is_open |= !failure.was_unsent();
                    (failure, MAX_TRIES)
                }
            };
            if failure.exit() != Exit::Unavailable || attempt >= tries {
                return Err(self.at_these_rows(&failure, is_open).into());
            }
            let pause_now = pause.min(LONGEST_PAUSE);
            let why = failure.to_string();
            // What was asked and how it was answered is for the one who gives up.
            let why = why.split(" (").next().unwrap_or_default();
            self.progress.waiting(&format!("next try in {:.1} s: {why}", pause_now.as_secs_f32()));
            // A signal is looked for where the next try would begin.
            self.interrupt.unless(tokio::time::sleep(pause_now)).await;
            pause = pause_now.saturating_mul(2);
        }
    }

    async fn post(&self, body: &str) -> Result<ServerAnswer, Failure> {
        let To { executive, family, writer, secret } = &self.to;
        let request = executive.request(Method::POST, &["families", family.as_str(), "mutations"]);
        executive.send(signed(request.body(body.to_owned()), writer, secret)).await
    }

    /// Whether an earlier try of this batch was written although its answer was lost.
    async fn is_written(&self, attempt: u32, next: &[u8]) -> anyhow::Result<bool> {
        if attempt == 1 || self.position.is_none() {
            return Ok(false);
        }
        Ok(cookie_of(&self.to.executive, &self.to.writer, &self.to.secret).await? == next)
    }

    /// What a signal has left.
    fn stopped(&self, is_open: bool) -> Failure {
        let (written, batch) = (self.summary.rows + self.summary.skipped, self.batch.len());
        let open = if is_open { format!(", the {batch} behind may be") } else { String::new() };
        let further = match self.position {
            Some(_) => "the same command goes on behind them",
            None => "the same command begins anew, with --resume it could go on",
        };
        Failure::new(Exit::Interrupted, format!("stopped by a signal: {written} rows are written{open}; {further}"))
    }

    /// Which rows a failure is about. If `is_open`, an answer was lost and they may be written.
    fn at_these_rows(&self, failure: &Failure, is_open: bool) -> Failure {
        let before = self.summary.rows + self.summary.skipped;
        let (first, last) = (before + 1, before + self.batch.len() as u64);
        let written = match (before, is_open) {
            (0, false) => "nothing is written".to_owned(),
            (0, true) => "these may be written".to_owned(),
            (rows, false) => format!("the {rows} before are written"),
            (rows, true) => format!("the {rows} before are written, these may be"),
        };
        Failure::new(failure.exit(), format!("rows {first} to {last}: {failure}; {written}"))
    }
}

fn other_input(lines: u64) -> anyhow::Error {
    let message = format!(
        "the writer's cookie says that {lines} rows of another input are written; set its cookie to begin anew, \
         or give this input the same first rows"
    );
    Failure::refused(message).into()
}

fn retry_after(answer: &ServerAnswer) -> Option<Duration> {
    answer.header("retry-after")?.parse().ok().map(Duration::from_secs)
}
