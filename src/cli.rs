//! The command line. Entry point: [`Cli`], whose `run` runs one command to its end. This file names the
//! commands; each group of them has a file below. `args` has the flags that several share, `failure`
//! the exit codes.
//!
//! Commands know a node by its HTTP interfaces and files, as any other program does. Only commands
//! that run a node (`node`, `config`, `health`, `doctor`) or open its ctldb (`ctldb`, `tail-ledger`,
//! `ledger`) read its settings.

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
pub mod original;
mod output;
mod progress;
mod read;
mod schema;
mod snapshot;
mod status;
mod table_json;
mod tail_ledger;
mod watch;
mod writers;

use clap::{CommandFactory, Parser, Subcommand};

use ctlstore_ldb::snapshot::store::quiet_contained_panics;

use args::SettingsArgs;
use original::{LdbReadKey, OriginalArgs, OriginalCommand};

pub use failure::{Exit, Logged};

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
  ctlstore config --config host.toml              the settings that a node would run with
  ctlstore health                                 exit code 0 if the node on this host is ready
  ctlstore ledger prune --keep 7d --dry-run       the ledger rows that pruning would delete
  ctlstore snapshot inspect s3://bucket/ldb.zst   a published snapshot, fetched and checked

  ctlstore create-family shop
  ctlstore create-table -f shop --field name:string --field on:integer --key-field name flags
  export CTLSTORE_WRITER=loader CTLSTORE_SECRET=a-secret
  ctlstore writer register loader
  ctlstore rows -l data/ldb.db -f shop -t flags   the rows that this host has
  ctlstore watch -f shop                          the changes, as they come

  ctlstore reflector -help                        the Go program's flags, and what they become here

Environment:
  CTLSTORE_EXECUTIVE, CTLSTORE_READER, CTLSTORE_OPS, CTLSTORE_LDB, CTLSTORE_WRITER and
  CTLSTORE_SECRET give the flags of these names. A flag counts before its variable.

Exit codes:
  0  done
  1  tried and failed
  2  the command line or the settings are wrong; nothing was tried
  3  what was named (row, table, family, writer, file) is not there
  4  refused: not allowed, or in conflict with what is there
  5  the server or database can't be reached or can't do it now; worth another try
  130  a signal ended it early, after a whole piece of the work";

const NODE_EXAMPLES: &str = "\
Examples:
  ctlstore node                                   every role, on data under ./data
  ctlstore node --config host.toml                the roles that the file names
  ctlstore node --role reflector --role reader    these two roles
  CTLSTORE__READER__BIND=0.0.0.0:1331 ctlstore node    a setting from the environment

`ctlstore config` prints the settings that a node would run with.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until SIGTERM or SIGINT; a second signal ends it at once
    #[command(after_help = NODE_EXAMPLES)]
    Node(SettingsArgs),
    /// Print the effective settings as TOML, secrets masked
    Config(config::Config),
    /// Ask a node whether it is ready; exit code 0 if it is
    Health(health::HealthArgs),
    /// Delete old rows of the ctldb's ledger
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Take, inspect and fetch snapshots
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Create a family of tables
    CreateFamily(families::CreateFamilyArgs),
    /// Create a table
    CreateTable(families::CreateTableArgs),
    /// Add fields to a table
    AddFields(families::AddFieldsArgs),
    /// Print one row of the LDB by its key
    ReadKeys(read::ReadKeysArgs),
    /// Print the last ledger seq that the LDB has
    ReadSeq(read::ReadSeqArgs),
    /// Print rows of a table by a leading part of their key, from the LDB or a reader
    Rows(read::RowsArgs),
    /// Read, set and delete limits on the size of tables
    #[command(subcommand)]
    TableLimits(limits::TableLimitsCommand),
    /// Read, set and delete limits on the rows that writers write in a minute
    #[command(subcommand)]
    WriterLimits(limits::WriterLimitsCommand),
    /// Register and remove writers, and change their secrets
    #[command(subcommand)]
    Writer(writers::WriterCommand),
    /// Print or set a writer's cookie, a few bytes that are stored with its rows
    #[command(subcommand)]
    Cookie(writers::CookieCommand),
    /// Write rows: one from flags, or many from NDJSON
    Mutate(mutate::MutateArgs),
    /// Print a family as NDJSON, with its schema
    Export(export::ExportArgs),
    /// Write the rows that `export` has printed
    Import(export::ImportArgs),
    /// Show and compare tables of executives, LDBs and files; create missing ones
    #[command(subcommand)]
    Schema(schema::SchemaCommand),
    /// Print changes as they come, from the change feed of a reader
    Watch(watch::WatchArgs),
    /// Print the status of every actor of a node
    Status(status::StatusArgs),
    /// Print the ledger's last rows, and follow the ledger
    TailLedger(tail_ledger::TailLedgerArgs),
    /// Back up and restore the embedded ctldb
    #[command(subcommand)]
    Ctldb(ctldb::CtldbCommand),
    /// Print the SQL statements that make a ctldb
    CtldbSchema(ctldb::CtldbSchemaArgs),
    /// Find what would keep a node from working, and how to mend it
    Doctor(doctor::DoctorArgs),
    /// Print a completion script for a shell
    Completions(about::CompletionsArgs),
    /// Print the manual page, or write the pages of all commands
    Man(about::ManArgs),
    /// Print the version
    Version(about::VersionArgs),
    /// As the Go program's: keep an LDB up to date
    Reflector(OriginalArgs),
    /// As the Go program's: keep several LDBs up to date
    MultiReflector(OriginalArgs),
    /// As the Go program's: serve an LDB over HTTP
    Sidecar(OriginalArgs),
    /// As the Go program's: take writes over HTTP
    Executive(OriginalArgs),
    /// As the Go program's: keep an LDB and publish snapshots of it
    Supervisor(OriginalArgs),
    /// As the Go program's: write a row at an interval
    Heartbeat(OriginalArgs),
    /// As the Go program's: print a row of an LDB by its key as JSON
    LdbReadKey(LdbReadKey),
}

impl Cli {
    /// Runs the command to its end.
    ///
    /// # Errors
    /// Why the command failed. [`Exit::of`] tells the exit code.
    /// [`Problems`](crate::config::Problems) if the settings are wrong, [`Logged`] if the log says it
    /// already.
    pub fn run(self) -> anyhow::Result<()> {
        // A node replaces this hook by its own.
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
            Command::Completions(command) => command.run(Self::command()),
            Command::Man(command) => command.run(Self::command()),
            Command::Version(command) => command.run(),
            Command::Reflector(args) => original::run(OriginalCommand::Reflector, &args),
            Command::MultiReflector(args) => original::run(OriginalCommand::MultiReflector, &args),
            Command::Sidecar(args) => original::run(OriginalCommand::Sidecar, &args),
            Command::Executive(args) => original::run(OriginalCommand::Executive, &args),
            Command::Supervisor(args) => original::run(OriginalCommand::Supervisor, &args),
            Command::Heartbeat(args) => original::run(OriginalCommand::Heartbeat, &args),
            Command::LdbReadKey(command) => command.run(),
        }
    }
}
