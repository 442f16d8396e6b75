//! Ends the process after a panic in an actor, a task or a thread, because such a panic leaves work
//! half-done. The service manager then starts the node again. Entry point: [`end_the_process`].
//!
//! Two kinds of panics do not end the process. A panic while an HTTP request is answered is that
//! request's 500. A panic in the work on a store is the failure of that source or destination.

use std::panic;

use crate::http::instrument;
use crate::telemetry;
use ctlstore_ldb::snapshot::store;

/// The exit code after a panic. Rust uses the same one for a panic in `main`.
const PANICKED: i32 = 101;

/// Installs the panic hook of the process.
pub fn end_the_process() {
    // The standard hook's output is no log line.
    panic::set_hook(Box::new(|info| {
        if instrument::is_answering() {
            tracing::error!(panic = %info, "a panic while a request was answered");
        } else if store::is_contained() {
            // The caller of the work reports the failure as well, and goes on.
            tracing::warn!(panic = %info, "a panic in the work on a store");
        } else {
            tracing::error!(panic = %info, "a part of the node panicked, ending the process");
            telemetry::end_process(PANICKED);
        }
    }));
}
