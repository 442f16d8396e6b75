//! Logs: one subscriber for the process, on standard error. Which lines are
//! written, and how they look, is said by the caller; this room knows no other.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("log directives: {0}")]
    Directives(#[from] ParseError),
    /// It was set up before.
    #[error("log: {0}")]
    Subscriber(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// Logs for people, with colours where standard error is a terminal and
/// `NO_COLOR` is not set. `directives` are a level or `module=level` parts.
///
/// # Errors
/// Directives that cannot be parsed, or a subscriber that is there already.
pub fn text(directives: &str) -> Result<(), TelemetryError> {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter(directives)?).with_writer(io::stderr);
    Ok(subscriber.with_ansi(colours).try_init()?)
}

/// Logs for collectors: one JSON object a line, the fields at its top.
///
/// # Errors
/// As [`text`].
pub fn json(directives: &str) -> Result<(), TelemetryError> {
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter(directives)?).with_writer(io::stderr);
    Ok(subscriber.json().flatten_event(true).try_init()?)
}

/// What the HTTP server's library says of its threads at every start and stop is for
/// its own developers; directives that name it bring it back.
const QUIET: &str = "actix_server=warn";

fn filter(directives: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(format!("{QUIET},{directives}"))
}
