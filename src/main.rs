//! The program: parse, run, exit code. What commands do is in `ctlstore::cli`.

use std::process::ExitCode;

use clap::Parser;
use ctlstore::cli::{Cli, Logged};
use ctlstore::config::Problems;

/// A command was tried and failed.
const FAILED: u8 = 1;
/// Nothing was tried: the settings are wrong. Clap says the same of wrong flags.
const WRONG_SETTINGS: u8 = 2;

fn main() -> ExitCode {
    let Err(error) = Cli::parse().run() else { return ExitCode::SUCCESS };
    match error.downcast_ref::<Problems>() {
        Some(problems) => {
            eprintln!("ctlstore: the settings are wrong\n{problems}");
            ExitCode::from(WRONG_SETTINGS)
        }
        None if error.is::<Logged>() => ExitCode::from(FAILED),
        None => {
            eprintln!("ctlstore: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}
