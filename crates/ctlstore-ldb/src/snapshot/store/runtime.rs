//! The one place where blocking code waits for a store: on one small runtime that
//! all stores of the process share, never longer than told, and no longer than a
//! moment after an abort.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use ctlstore_core::{Abort, failpoint};

use super::contain::{contain_thread, contained};
use super::error::StoreError;

/// How long an abort may go unnoticed.
const ABORT_CHECK: Duration = Duration::from_millis(50);

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// Made at the first use: most nodes never talk to an object store.
pub(super) fn runtime() -> Result<&'static Runtime, StoreError> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    // What panics in a task of the stores' clients is told to whoever waits for the task.
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).thread_name("stores").on_thread_start(contain_thread).enable_all();
    let made = builder.build();
    let made = made.map_err(|error| StoreError::Other {
        place: "the runtime of the stores".to_owned(),
        reason: error.to_string(),
    })?;
    // Another thread may have been first; then this one is dropped, idle.
    Ok(RUNTIME.get_or_init(|| made))
}

/// Waits for `work`, at most `limit`. Whatever ends the wait drops the work. A panic in
/// the work is its failure.
///
/// # Panics
/// On a thread that runs asynchronous tasks itself.
pub(super) fn wait<T>(
    place: impl Fn() -> String,
    limit: Duration,
    abort: &Abort,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let runtime = runtime()?;
    let waiting = async {
        tokio::select! {
            biased;
            () = aborted(abort) => Err(StoreError::Aborted),
            done = tokio::time::timeout(limit, work) => match done {
                Ok(outcome) => outcome,
                Err(_) => Err(StoreError::Temporary { place: place(), reason: "no answer in time".to_owned() }),
            },
        }
    };
    contained(&place, || {
        failpoint::panics("store-panics");
        runtime.block_on(waiting)
    })
}

async fn aborted(abort: &Abort) {
    while !abort.is_aborted() {
        tokio::time::sleep(ABORT_CHECK).await;
    }
}
