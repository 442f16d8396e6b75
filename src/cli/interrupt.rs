//! Signals that end a long command in good order. Entry points: [`Interrupt`], and [`abortable`] for
//! blocking work that can be ended.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::signals::{Ending, StopSignal};
use ctlstore_core::Abort;
use ctlstore_ldb::snapshot::SnapshotProgress;

use super::failure::{Exit, Interrupted};
use super::progress::PhaseProgress;

const CODE: i32 = Exit::Interrupted as i32;
/// How long a command may take to end in good order. If nothing reads its output, it can't end.
const ABORT_TIMEOUT: Duration = Duration::from_secs(30);

/// The first signal to stop after this was made. A second signal ends the process at once.
pub struct Interrupt(StopSignal);

impl Interrupt {
    pub fn listen() -> io::Result<Self> {
        StopSignal::listen(Ending { at_second: CODE, late: Some((ABORT_TIMEOUT, CODE)) }).map(Self)
    }

    pub fn came(&self) -> bool {
        self.0.came()
    }

    /// Waits for `work`; `None` if a signal comes first.
    pub async fn unless<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut signal = self.0.clone();
        tokio::select! {
            biased;
            _ = signal.wait() => None,
            done = work => Some(done),
        }
    }
}

/// Runs blocking work on a thread and shows its progress. A signal aborts the work; this then waits for
/// its end, so that it can clean up.
///
/// # Errors
/// [`Interrupted`] if a signal came before the work was done.
pub async fn abortable<T: Send + 'static, E: Send + 'static>(
    interrupt: &Interrupt,
    work: impl FnOnce(&Abort, Arc<dyn SnapshotProgress>) -> Result<T, E> + Send + 'static,
) -> anyhow::Result<Result<T, E>> {
    let abort = Abort::default();
    let in_thread = abort.clone();
    let phases = Arc::new(PhaseProgress::default());
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
    // If the work was done in spite of the signal, it counts.
    if done.is_err() && interrupt.came() { Err(Interrupted.into()) } else { Ok(done) }
}
