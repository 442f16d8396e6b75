//! The node: starts its parts, waits for a signal, and stops them in order. Entry point: [`run`].
//! `start` has the wiring, `options` what the settings mean for each part, `stop` the order's
//! deadlines.

mod error;
mod listeners;
mod open_files;
mod options;
mod panics;
mod secret;
mod start;
mod stop;
mod welcome;

use std::time::Duration;

use crate::config::Settings;
use crate::signals::{Ending, StopSignal};
use crate::telemetry;

use self::listeners::Listeners;
use self::open_files::OpenFiles;
use self::start::Node;

pub use self::error::NodeError;
pub use self::options::{location, verifier};

/// The exit code when a second signal cuts a stop short.
const CUT_SHORT: i32 = 130;
/// The exit code when a stop takes longer than `node.shutdown_timeout`.
const NOT_IN_TIME: i32 = 1;
/// The signals' thread waits this much longer than the stop itself, whose log lines say what is late.
const LATE_GRACE: Duration = Duration::from_millis(500);

/// Plays the roles of `settings` until a signal comes. Returns after everything has stopped in
/// order. A stop that takes longer than `node.shutdown_timeout` ends the process.
pub async fn run(settings: Settings) -> Result<(), NodeError> {
    panics::end_the_process();
    let limit = open_files::raise().map_err(NodeError::OpenFilesUnknown)?;
    let open_files = OpenFiles::of(&settings, limit)?;
    let listeners = Listeners::bind(&settings)?;
    let timeout = settings.node.shutdown_timeout;
    let ending = Ending { at_second: CUT_SHORT, late: Some((timeout + LATE_GRACE, NOT_IN_TIME)) };
    let mut signal = StopSignal::listen(ending).map_err(NodeError::Signals)?;
    let welcome = welcome::Welcome::new(&settings, &listeners);
    let node = Node::start(&settings, listeners, open_files).await?;
    welcome.print();
    let signal = signal.wait().await;
    tracing::info!(signal, "stopping");
    if !node.stop(timeout).await {
        // Otherwise a thread that is stuck would keep the process running.
        tracing::error!(seconds = timeout.as_secs_f64(), "the stop took too long, ending the process");
        telemetry::end_process(NOT_IN_TIME);
    }
    Ok(())
}
