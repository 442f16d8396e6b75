//! The program: parses the command line, runs the command, and returns its exit code. The commands
//! are in `ctlstore::cli`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use clap::Parser;
use ctlstore::cli::{Cli, Exit, Logged};
use ctlstore::config::Problems;

/// How long the program waits until standard error has taken the last line.
const SAY_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let Err(error) = Cli::parse().run() else { return ExitCode::SUCCESS };
    let Some(exit) = Exit::of(&error) else { return ExitCode::SUCCESS };
    match error.downcast_ref::<Problems>() {
        Some(problems) => say(&format!("the settings are wrong\n{problems}")),
        None if error.is::<Logged>() => {}
        None => say(&with_causes(&error)),
    }
    ExitCode::from(exit as u8)
}

/// The error and its causes in one line. The text of this crate's errors ends with their cause; the
/// text of libraries' errors does not.
fn with_causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        so_far if so_far.ends_with(&cause) => said,
        so_far => format!("{so_far}: {cause}"),
    })
}

/// Writes a line to standard error. If that is closed or full, the exit code still tells the outcome,
/// a second later.
fn say(text: &str) {
    let line = format!("ctlstore: {text}\n");
    let (done, said) = mpsc::channel();
    let write = move || done.send(std::io::stderr().write_all(line.as_bytes()));
    if std::thread::Builder::new().spawn(write).is_ok() {
        let _ = said.recv_timeout(SAY_TIMEOUT);
    }
}
