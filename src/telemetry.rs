//! Logs: one subscriber for the process, on standard error. Which lines are written, and
//! how they look, is said by the caller; this room knows no other. No thread waits for
//! the program that reads standard error: see `writer`.

mod writer;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::SubscriberBuilder;
use tracing_subscriber::fmt::format::{DefaultFields, Format};

use self::writer::LogWriter;

/// How long the end of the process waits for its last lines to be written, at most.
const LAST_LINES: Duration = Duration::from_secs(1);

static WRITER: std::sync::LazyLock<LogWriter> = std::sync::LazyLock::new(LogWriter::default);

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("log directives: {0}")]
    Directives(#[from] ParseError),
    #[error("log: {0}")]
    Thread(#[from] io::Error),
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
    subscriber(directives)?.with_ansi(colours).try_init()?;
    Ok(WRITER.start()?)
}

/// Logs for collectors: one JSON object a line, the fields at its top.
///
/// # Errors
/// As [`text`].
pub fn json(directives: &str) -> Result<(), TelemetryError> {
    subscriber(directives)?.json().flatten_event(true).try_init()?;
    Ok(WRITER.start()?)
}

/// Log lines that were lost: standard error was not read in time, or took no more.
pub fn dropped_lines() -> u64 {
    WRITER.dropped()
}

/// Waits for the last lines to be written, but not for long.
pub fn flush() {
    WRITER.flush(LAST_LINES);
}

/// Ends the process with `code`, whatever else is stuck, after its last log lines are
/// written or a second has passed.
pub fn end_process(code: i32) -> ! {
    flush();
    // Not by exit(3): what that does first can wait for locks and pipes of others.
    // SAFETY: it takes a number and does not return.
    unsafe { libc::_exit(code) }
}

type Subscriber = SubscriberBuilder<DefaultFields, Format, EnvFilter, fn() -> Line>;

fn subscriber(directives: &str) -> Result<Subscriber, ParseError> {
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter(directives)?).with_writer((|| Line) as fn() -> _);
    // A line that can't be written (a full disk, a reader that went away) is lost. To say
    // so the library would write to standard error as well, and panic as that fails too.
    Ok(subscriber.log_internal_errors(false))
}

/// Takes one log line, which the subscriber writes at once.
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

/// What the HTTP server's libraries say of their threads at every start and stop is for
/// their own developers, and that a client sent no HTTP is no error of this program, or
/// whoever reaches a port could fill the log. What HTTP clients say below `info` may show
/// addresses with signatures and headers with tokens. Directives that name them bring them back.
const QUIET: &str = "actix_server=warn,actix_http::h1::dispatcher=off,reqwest=info,hyper=info,hyper_util=info,\
                     h2=info,rustls=info,object_store=info";

fn filter(directives: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(format!("{QUIET},{directives}"))
}
