//! The program: parse, run, exit code. What commands do is in `ctlstore::cli`.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use ctlstore::cli::{Cli, Interrupted, Logged};
use ctlstore::config::Problems;

/// A command was tried and failed.
const FAILED: u8 = 1;
/// Nothing was tried: the settings are wrong. Clap says the same of wrong flags.
const WRONG_SETTINGS: u8 = 2;
/// A signal ended it early. Shells say the same of what SIGINT kills.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let Err(error) = Cli::parse().run() else { return ExitCode::SUCCESS };
    match error.downcast_ref::<Problems>() {
        Some(problems) => {
            say(&format!("the settings are wrong\n{problems}"));
            ExitCode::from(WRONG_SETTINGS)
        }
        None if error.is::<Logged>() => ExitCode::from(FAILED),
        None => {
            say(&with_causes(&error));
            ExitCode::from(if error.is::<Interrupted>() { INTERRUPTED } else { FAILED })
        }
    }
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

/// Standard error may be closed or full; the exit code still tells.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "ctlstore: {text}");
}
