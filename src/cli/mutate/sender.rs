//! Writes many mutations in few requests. Entry point: [`Sender`]. Batches stay within the executive's
//! bounds, and are tried again if that helps.
//!
//! Without `resume` the writer's cookie stays as it is. With it, the cookie of each request is the
//! position in the input after that request. It is compared and set in the transaction that writes the
//! rows. So it is known exactly which rows are written, even if an answer was lost or the command was
//! killed.

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
use super::super::failure::{Exit, Failure, Interrupted};
use super::super::interrupt::Interrupt;
use super::super::progress::RowProgress;
use super::super::writers::cookie_of;
use super::position::{InputCookie, InputPosition};

/// The most bytes of mutations in a request. An executive accepts bodies of 1 MiB.
const MAX_BATCH_BYTES: usize = 900 * 1024;
/// How often a batch is tried before the command gives up.
const MAX_TRIES: u32 = 12;
/// The same for a writer over its limit. Then the executive says when to try again.
const MAX_TRIES_OVER_LIMIT: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Where to write, and as which writer.
pub struct WriteTarget {
    pub executive: ServerClient,
    pub family: FamilyName,
    pub writer: WriterName,
    pub secret: SecretString,
}

/// The summary of what was written.
#[derive(Debug, Clone, Default, Serialize)]
pub struct WriteSummary {
    pub rows: u64,
    pub requests: u64,
    /// Lines that an earlier run had written.
    pub skipped: u64,
    /// The last ledger seq that was written.
    pub seq: Option<i64>,
}

/// Collects mutations and writes them. A signal ends it between two requests, never within one.
pub struct Sender {
    target: WriteTarget,
    interrupt: Interrupt,
    /// The writer's cookie as the ctldb has it.
    cookie: Vec<u8>,
    /// With `resume`: the position in the input, and the position at which an earlier run ended.
    position: Option<(InputPosition, Option<InputCookie>)>,
    batch: Vec<String>,
    bytes: usize,
    summary: WriteSummary,
    progress: RowProgress,
}

impl Sender {
    pub async fn begin(target: WriteTarget, resume: bool) -> anyhow::Result<Self> {
        let interrupt = Interrupt::listen().context("signals")?;
        let cookie = interrupt
            .unless(cookie_of(&target.executive, &target.writer, &target.secret))
            .await
            .ok_or(Interrupted)??;
        let position = resume.then(|| (InputPosition::default(), InputCookie::of_cookie(&cookie)));
        let progress = RowProgress::start("rows written", None);
        Ok(Self {
            target,
            interrupt,
            cookie,
            position,
            batch: Vec::new(),
            bytes: 0,
            summary: WriteSummary::default(),
            progress,
        })
    }

    /// Waits for the input; fails if a signal comes first.
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

    /// Up to the position at which the earlier run ended, the input must be the same.
    fn check_input(&self) -> anyhow::Result<()> {
        match &self.position {
            Some((at, Some(until))) if at.lines() == until.lines && at.to_cookie() != *until => {
                Err(other_input(until.lines))
            }
            _ => Ok(()),
        }
    }

    /// Writes the rest; gives the summary.
    pub async fn finish(mut self) -> anyhow::Result<WriteSummary> {
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
        let next = self.position.as_ref().map_or_else(|| self.cookie.clone(), |(at, _)| at.to_cookie().bytes());
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

    /// Writes the batch, with bounded retries. Gives its last seq, if that is known.
    async fn write(&mut self, next: &[u8]) -> anyhow::Result<Option<i64>> {
        let body = format!(
            r#"{{"cookie":"{}","check_cookie":"{}","mutations":[{}]}}"#,
            STANDARD.encode(next),
            STANDARD.encode(&self.cookie),
            self.batch.join(",")
        );
        let mut pause = FIRST_PAUSE;
        let mut attempt = 0;
        // After a lost answer it is open whether the batch is written.
        let mut is_open = false;
        loop {
            if self.interrupt.came() {
                return Err(self.stopped(is_open).into());
            }
            attempt += 1;
            let (failure, max_tries) = match self.post(&body).await {
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
            if failure.exit() != Exit::Unavailable || attempt >= max_tries {
                return Err(self.at_these_rows(&failure, is_open).into());
            }
            let pause_now = pause.min(LONGEST_PAUSE);
            // The request and the status in parentheses are shown only if the command gives up.
            let why = failure.to_string();
            let why = why.split(" (").next().unwrap_or_default();
            self.progress.waiting(&format!("next try in {:.1} s: {why}", pause_now.as_secs_f32()));
            // If a signal comes, the loop ends before the next try.
            self.interrupt.unless(tokio::time::sleep(pause_now)).await;
            pause = pause_now.saturating_mul(2);
        }
    }

    async fn post(&self, body: &str) -> Result<ServerAnswer, Failure> {
        let WriteTarget { executive, family, writer, secret } = &self.target;
        let request = executive.request(Method::POST, &["families", family.as_str(), "mutations"]);
        executive.send(signed(request.body(body.to_owned()), writer, secret)).await
    }

    /// Whether an earlier try of this batch was written, and only its answer was lost.
    async fn is_written(&self, attempt: u32, next: &[u8]) -> anyhow::Result<bool> {
        if attempt == 1 || self.position.is_none() {
            return Ok(false);
        }
        Ok(cookie_of(&self.target.executive, &self.target.writer, &self.target.secret).await? == next)
    }

    /// The failure after a signal: which rows are written.
    fn stopped(&self, is_open: bool) -> Failure {
        let written = self.summary.rows + self.summary.skipped;
        let batch = self.batch.len();
        let open = if is_open { format!(", the {batch} behind may be") } else { String::new() };
        let further = match self.position {
            Some(_) => "the same command goes on behind them",
            None => "the same command begins anew, with --resume it could go on",
        };
        Failure::new(Exit::Interrupted, format!("stopped by a signal: {written} rows are written{open}; {further}"))
    }

    /// Adds to a failure which rows it is about. If `is_open`, an answer was lost, and these rows may be
    /// written.
    fn at_these_rows(&self, failure: &Failure, is_open: bool) -> Failure {
        let before = self.summary.rows + self.summary.skipped;
        let first = before + 1;
        let last = before + self.batch.len() as u64;
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
