//! The command line: one file for each group of commands. Here are the names
//! of the commands and the flags that several share.

mod config;
mod health;
mod ledger;
mod node;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Problems, Settings, Sources, load};

/// The command failed, and the log says why.
#[derive(Debug, thiserror::Error)]
#[error("failed, see the log")]
pub struct Logged;

/// The command was stopped by a signal, in good order, before it had done everything.
#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal")]
pub struct Interrupted;

/// Control-plane data on every host: a local SQLite copy of a central database,
/// fed by an ordered ledger.
#[derive(Debug, Parser)]
#[command(name = "ctlstore", version, after_help = EXAMPLES, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ctlstore node                                   every role, on data under ./data
  ctlstore node --config host.toml                the roles that the file names
  ctlstore node --role reflector --role reader    these two roles
  CTLSTORE__LOG__LEVEL=debug ctlstore node        any setting, by its key
  ctlstore config --config host.toml              what a node would run with
  ctlstore health                                 exit code 0 when the node on this host is ready
  ctlstore ledger prune --keep 7d --dry-run       what pruning the ledger would delete";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until SIGTERM or SIGINT; a second signal ends it at once
    Node(SettingsArgs),
    /// Print the effective settings as TOML, secrets masked
    Config(SettingsArgs),
    /// Ask a node whether it is ready; exit code 0 when it is
    Health(health::HealthArgs),
    /// Work on the ctldb's ledger
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Print the version
    Version,
}

/// Where settings come from, besides the environment.
#[derive(Debug, Args)]
struct SettingsArgs {
    /// TOML file with the settings that differ from the defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Role to play instead of those in the settings: executive, reflector,
    /// reader, snapshotter or heartbeat; may be given several times
    #[arg(long = "role", value_name = "ROLE", value_delimiter = ',')]
    roles: Vec<String>,
}

impl SettingsArgs {
    fn load(self) -> Result<Settings, Problems> {
        load(&Sources { file: self.config, environment: std::env::vars_os().collect(), roles: self.roles })
    }
}

impl Cli {
    /// Runs the command that was asked for, to its end.
    ///
    /// # Errors
    /// What the process should end with; [`Problems`] when the settings are wrong,
    /// [`Logged`] when nothing is left to say.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Node(args) => node::run(args.load()?),
            Command::Config(args) => config::print(&args.load()?),
            Command::Health(args) => health::ask(args),
            Command::Ledger(command) => ledger::run(command),
            Command::Version => {
                println!("ctlstore {}", env!("CARGO_PKG_VERSION"));
                Ok(())
            }
        }
    }
}
