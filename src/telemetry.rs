//! Logs: one subscriber for the process, on standard error. Entry points: [`text`] and [`json`]. The
//! caller chooses the lines and their form; this module knows no settings. No thread waits for the
//! program that reads standard error: see `writer`.

mod writer;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::SubscriberBuilder;
use tracing_subscriber::fmt::format::{DefaultFields, Format};

use self::writer::LogWriter;

/// How long the end of the process waits at most until its last lines are written.
const LAST_LINES: Duration = Duration::from_secs(1);

static WRITER: std::sync::LazyLock<LogWriter> = std::sync::LazyLock::new(LogWriter::default);

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("log directives: {0}")]
    Directives(#[from] ParseError),
    #[error("log: {0}")]
    Thread(#[from] io::Error),
    /// A subscriber was set up before.
    #[error("log: {0}")]
    Subscriber(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// Logs for people. They have colours if standard error is a terminal and `NO_COLOR` is not set.
/// `directives` are a level or `module=level` parts.
///
/// # Errors
/// Directives that cannot be parsed, or a subscriber that is there already.
pub fn text(directives: &str) -> Result<(), TelemetryError> {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    subscriber(directives)?.with_ansi(colours).try_init()?;
    Ok(WRITER.start()?)
}

/// Logs for collectors: one JSON object a line, with the fields at its top level.
///
/// # Errors
/// As [`text`].
pub fn json(directives: &str) -> Result<(), TelemetryError> {
    subscriber(directives)?.json().flatten_event(true).try_init()?;
    Ok(WRITER.start()?)
}

/// The number of log lines that were lost: standard error was not read in time, or is closed.
pub fn dropped_lines() -> u64 {
    WRITER.dropped()
}

/// Waits until the last lines are written, for a second at most.
pub fn flush() {
    WRITER.flush(LAST_LINES);
}

/// Ends the process with `code`, even if other threads are stuck. First it waits until the last log
/// lines are written, for a second at most.
pub fn end_process(code: i32) -> ! {
    flush();
    // Not by exit(3), whose handlers can wait for locks and pipes.
    // SAFETY: it takes a number and does not return.
    unsafe { libc::_exit(code) }
}

type Subscriber = SubscriberBuilder<DefaultFields, Format, EnvFilter, fn() -> Line>;

fn subscriber(directives: &str) -> Result<Subscriber, ParseError> {
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter(directives)?).with_writer((|| Line) as fn() -> _);
    // A line that can't be written (a full disk, a reader that is gone) is lost. The library would
    // report that on standard error, too, and panic when that fails.
    Ok(subscriber.log_internal_errors(false))
}

/// Takes one log line; the subscriber writes each with one call.
struct Line;

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        WRITER.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines of libraries that are left out unless directives name the library. The HTTP server's
/// libraries log their threads at every start and stop, which helps only their developers. They log
/// an error for a client that does not speak HTTP, so any client could fill the log. Below `info`,
/// HTTP clients log addresses with signatures and headers with tokens.
const QUIET: &str = "actix_server=warn,actix_http::h1::dispatcher=off,reqwest=info,hyper=info,hyper_util=info,\
                     h2=info,rustls=info,object_store=info";

fn filter(directives: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(format!("{QUIET},{directives}"))
}
