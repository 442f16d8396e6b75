//! A panic in an actor, a task or a thread of the node leaves something half-done
//! that nobody will finish: the process ends, and whoever runs it starts it again.
//! A panic while one HTTP request is being answered stays that request's 500, and one in the
//! work on a store is that source's or destination's failure.

use std::panic;

use crate::http::instrument;
use crate::telemetry;
use ctlstore_ldb::snapshot::store;

/// The exit code after a panic; what Rust uses for a panic in `main`.
const PANICKED: i32 = 101;

/// Sets this up for the whole process.
pub fn end_the_process() {
    // In place of the standard hook, whose lines are no log lines.
    panic::set_hook(Box::new(|info| {
        if instrument::is_answering() {
            tracing::error!(panic = %info, "a panic while a request was answered");
        } else if store::is_contained() {
            // Who had the work done says so, too, and goes on.
            tracing::warn!(panic = %info, "a panic in the work on a store");
        } else {
            tracing::error!(panic = %info, "a part of the node panicked, ending the process");
            telemetry::end_process(PANICKED);
        }
    }));
}
