//! The one place where blocking code waits for a store: on one small runtime that
//! all stores of the process share, never longer than told, and no longer than a
//! moment after an abort.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use ctlstore_core::Abort;

use super::error::StoreError;

/// How long an abort may go unnoticed.
const ABORT_CHECK: Duration = Duration::from_millis(50);

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// Made at the first use: most nodes never talk to an object store.
pub(super) fn runtime() -> Result<&'static Runtime, StoreError> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let made = Builder::new_multi_thread().worker_threads(1).thread_name("stores").enable_all().build();
    let made = made.map_err(|error| StoreError::Other {
        place: "the runtime of the stores".to_owned(),
        reason: error.to_string(),
    })?;
    // Another thread may have been first; then this one is dropped, idle.
    Ok(RUNTIME.get_or_init(|| made))
}

/// Waits for `work`, at most `limit`. Whatever ends the wait drops the work.
///
/// # Panics
/// On a thread that runs asynchronous tasks itself.
pub(super) fn wait<T>(
    place: impl Fn() -> String,
    limit: Duration,
    abort: &Abort,
    work: impl Future<Output = object_store::Result<T>>,
) -> Result<T, StoreError> {
    runtime()?.block_on(async {
        tokio::select! {
            biased;
            () = aborted(abort) => Err(StoreError::Aborted),
            done = tokio::time::timeout(limit, work) => match done {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(error)) => Err(StoreError::of_store(place(), &error)),
                Err(_) => Err(StoreError::Temporary { place: place(), reason: "no answer in time".to_owned() }),
            },
        }
    })
}

async fn aborted(abort: &Abort) {
    while !abort.is_aborted() {
        tokio::time::sleep(ABORT_CHECK).await;
    }
}
