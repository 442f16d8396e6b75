//! Waits for stores. Entry point: [`wait`]. All stores of the process share one small runtime.
//! A wait never takes longer than its limit, and ends within 50 ms of an abort.

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

/// The shared runtime. It is made at the first use, because most nodes need no object store.
pub(super) fn runtime() -> Result<&'static Runtime, StoreError> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    // The runtime gives a panic in a task to the caller that waits for the task.
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).thread_name("stores").on_thread_start(contain_thread).enable_all();
    let made = builder.build();
    let made = made.map_err(|error| StoreError::Other {
        place: "the runtime of the stores".to_owned(),
        reason: error.to_string(),
    })?;
    // If another thread was first, this runtime is dropped while it is idle.
    Ok(RUNTIME.get_or_init(|| made))
}

/// Waits for `work`, at most `limit`. The work is dropped when the wait ends. A panic in the
/// work is its failure.
///
/// # Panics
/// On a thread that runs asynchronous tasks.
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
