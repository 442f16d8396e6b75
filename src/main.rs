//! The program: parse, run, exit code. What commands do is in `ctlstore::cli`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use clap::Parser;
use ctlstore::cli::{Cli, Exit, Logged};
use ctlstore::config::Problems;

/// How long standard error has to take the last line.
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

/// The error and its causes in one line. Errors of this crate end in their cause
/// themselves; those of libraries do not.
fn with_causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        so_far if so_far.ends_with(&cause) => said,
        so_far => format!("{so_far}: {cause}"),
    })
}

/// Standard error may be closed or full; the exit code still tells, a second later.
fn say(text: &str) {
    let line = format!("ctlstore: {text}\n");
    let (done, said) = mpsc::channel();
    let write = move || done.send(std::io::stderr().write_all(line.as_bytes()));
    if std::thread::Builder::new().spawn(write).is_ok() {
        let _ = said.recv_timeout(SAY_TIMEOUT);
    }
}
