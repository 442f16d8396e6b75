//! The command line: one file for each group of commands. Here are the names
//! of the commands and the flags that several share.
//!
//! Commands know a node by its HTTP interfaces and files, as any other program
//! does; its settings are read only by what runs a node (`node`, `config`, `health`,
//! `doctor`) or opens its ctldb (`ctldb`, `tail-ledger`).

mod about;
mod args;
mod client;
mod config;
mod ctldb;
mod doctor;
mod export;
mod failure;
mod families;
mod health;
mod interrupt;
mod ldb;
mod ledger;
mod limits;
mod mutate;
mod node;
mod output;
mod phase_progress;
mod read;
mod row_progress;
mod schema;
mod snapshot;
mod status;
mod table_json;
mod tail_ledger;
mod watch;
mod writers;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Problems, Settings, Sources, load};
use ctlstore_ldb::snapshot::store::quiet_contained_panics;

pub use failure::Exit;

/// The command failed, and the log says why.
#[derive(Debug, thiserror::Error)]
#[error("failed, see the log")]
pub struct Logged;

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
  ctlstore ledger prune --keep 7d --dry-run       what pruning the ledger would delete
  ctlstore snapshot inspect s3://bucket/ldb.zst   what is published there, fetched and checked

  ctlstore create-family shop
  ctlstore create-table -f shop --field name:string --field on:integer --key-field name flags
  export CTLSTORE_WRITER=loader CTLSTORE_SECRET=a-secret
  ctlstore writer register loader
  ctlstore rows -l data/ldb.db -f shop -t flags   what this host has of it
  ctlstore watch -f shop                          what changes in it, as it changes

Environment:
  CTLSTORE_EXECUTIVE, CTLSTORE_READER, CTLSTORE_LDB, CTLSTORE_WRITER and CTLSTORE_SECRET
  stand in for the flags of these names.

Exit codes:
  0  done
  1  tried and failed
  2  the command line or the settings are wrong; nothing was tried
  3  what was named (row, table, family, writer, file) is not there
  4  refused: not allowed, or in conflict with what is there
  5  the server or database can't be reached or can't do it now; worth another try
  130  a signal ended it early, after a whole piece of the work";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until SIGTERM or SIGINT; a second signal ends it at once
    Node(SettingsArgs),
    /// Print the effective settings as TOML, secrets masked
    Config(config::Config),
    /// Ask a node whether it is ready; exit code 0 when it is
    Health(health::HealthArgs),
    /// Work on the ctldb's ledger
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Take, look at and fetch snapshots
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Create a family of tables
    CreateFamily(families::CreateFamily),
    /// Create a table
    CreateTable(families::CreateTable),
    /// Add fields to a table
    AddFields(families::AddFields),
    /// Print one row of the LDB by its key
    ReadKeys(read::ReadKeys),
    /// Print the last ledger seq that the LDB has
    ReadSeq(read::ReadSeq),
    /// Print rows of a table by a leading part of their key, from the LDB or a reader
    Rows(read::Rows),
    /// Limits on the size of tables
    #[command(subcommand)]
    TableLimits(limits::TableLimits),
    /// Limits on what writers write in a minute
    #[command(subcommand)]
    WriterLimits(limits::WriterLimits),
    /// Writers and their secrets
    #[command(subcommand)]
    Writer(writers::Writer),
    /// A writer's cookie: a few bytes that it keeps with what it wrote
    #[command(subcommand)]
    Cookie(writers::Cookie),
    /// Write rows: one mutation from flags, or many from NDJSON
    Mutate(mutate::Mutate),
    /// Print a family as NDJSON, with its schema
    Export(export::Export),
    /// Write what `export` has printed
    Import(export::Import),
    /// Tables of an executive, an LDB or a file: show them, compare them, create what is missing
    #[command(subcommand)]
    Schema(schema::Schema),
    /// Follow what changes: the change feed of a reader
    Watch(watch::Watch),
    /// What every actor of a node is doing
    Status(status::Status),
    /// Print the ledger's last rows, and follow it
    TailLedger(tail_ledger::TailLedger),
    /// Back up and restore the embedded ctldb
    #[command(subcommand)]
    Ctldb(ctldb::Ctldb),
    /// Print the statements that make a ctldb
    CtldbSchema(ctldb::Schema),
    /// Look for what a node with these settings would lack, and say how to mend it
    Doctor(doctor::Doctor),
    /// Print a completion script for a shell
    Completions(about::Completions),
    /// Print the manual page, or write those of all commands
    Man(about::Man),
    /// Print the version
    Version(about::Version),
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
    /// What the process should end with, whose exit code is [`Exit::of`] it;
    /// [`Problems`] when the settings are wrong, [`Logged`] when nothing is left to say.
    pub fn run(self) -> anyhow::Result<()> {
        // A node puts its own hook in the place of this one.
        quiet_contained_panics();
        match self.command {
            Command::Node(args) => node::run(args.load()?),
            Command::Config(command) => command.run(),
            Command::Health(args) => health::ask(args),
            Command::Ledger(command) => ledger::run(command),
            Command::Snapshot(command) => snapshot::run(command),
            Command::CreateFamily(command) => command.run(),
            Command::CreateTable(command) => command.run(),
            Command::AddFields(command) => command.run(),
            Command::ReadKeys(command) => command.run(),
            Command::ReadSeq(command) => command.run(),
            Command::Rows(command) => command.run(),
            Command::TableLimits(command) => command.run(),
            Command::WriterLimits(command) => command.run(),
            Command::Writer(command) => command.run(),
            Command::Cookie(command) => command.run(),
            Command::Mutate(command) => command.run(),
            Command::Export(command) => command.run(),
            Command::Import(command) => command.run(),
            Command::Schema(command) => command.run(),
            Command::Watch(command) => command.run(),
            Command::Status(command) => command.run(),
            Command::TailLedger(command) => command.run(),
            Command::Ctldb(command) => command.run(),
            Command::CtldbSchema(command) => command.run(),
            Command::Doctor(command) => command.run(),
            Command::Completions(command) => command.run(),
            Command::Man(command) => command.run(),
            Command::Version(command) => command.run(),
        }
    }
}
