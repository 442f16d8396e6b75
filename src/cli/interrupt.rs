//! Signals that end a long command in good order, and work that can be ended so.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::signals::{Ending, StopSignal};
use ctlstore_core::Abort;
use ctlstore_ldb::snapshot::Progress;

use super::failure::Exit;
use super::phase_progress::PhaseProgress;

/// The command was stopped by a signal, in good order, before it had done everything.
#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal")]
pub struct Interrupted;

const CODE: i32 = Exit::Interrupted as i32;
/// How long a command has to end in good order. Where nobody reads its output it can't.
const ABORT_TIMEOUT: Duration = Duration::from_secs(30);

/// The first signal to stop from when this was made on; a second one ends the process
/// at once.
pub struct Interrupt(StopSignal);

impl Interrupt {
    pub fn listen() -> io::Result<Self> {
        StopSignal::listen(Ending { at_second: CODE, late: Some((ABORT_TIMEOUT, CODE)) }).map(Self)
    }

    pub fn came(&self) -> bool {
        self.0.came()
    }

    /// What `work` gives, unless a signal comes first.
    pub async fn unless<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut signal = self.0.clone();
        tokio::select! {
            biased;
            _ = signal.wait() => None,
            done = work => Some(done),
        }
    }
}

/// Runs blocking work on a thread while its progress is shown. A signal aborts it, and
/// its end is waited for, so that it can clean up.
///
/// # Errors
/// [`Interrupted`] where a signal came before it was done.
pub async fn abortable<T: Send + 'static, E: Send + 'static>(
    interrupt: &Interrupt,
    work: impl FnOnce(&Abort, Arc<dyn Progress>) -> Result<T, E> + Send + 'static,
) -> anyhow::Result<Result<T, E>> {
    let abort = Abort::default();
    let (in_thread, phases) = (abort.clone(), Arc::new(PhaseProgress::default()));
    let shown = Arc::clone(&phases);
    let mut working = tokio::task::spawn_blocking(move || work(&in_thread, shown));
    let done = match interrupt.unless(&mut working).await {
        Some(done) => done,
        None => {
            abort.abort();
            working.await
        }
    };
    phases.end();
    let done = done.context("the work's thread")?;
    // What was done in spite of the signal is done.
    if done.is_err() && interrupt.came() { Err(Interrupted.into()) } else { Ok(done) }
}
