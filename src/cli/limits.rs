//! `table-limits` and `writer-limits`: read, set and delete limits, at an executive.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use ctlstore_core::schema::WriterName;

use super::args::{ExecutiveArg, JsonArg, TableArg};
use super::client;
use super::failure::Failure;
use super::output::{Out, OutputTable, Piped, say_json};

/// The period of limits that are set here, in nanoseconds.
const MINUTE: u64 = 60_000_000_000;

#[derive(Debug, Subcommand)]
pub enum TableLimitsCommand {
    /// Print the limits of all tables, in bytes
    Read(ReadLimitsArgs),
    /// Give a table a limit of its own
    Update(UpdateTableArgs),
    /// Delete a table's own limit
    Delete(DeleteTableArgs),
}

#[derive(Debug, Subcommand)]
pub enum WriterLimitsCommand {
    /// Print the limits of all writers
    Read(ReadLimitsArgs),
    /// Give a writer a limit of its own
    Update(UpdateWriterArgs),
    /// Delete a writer's own limit
    Delete(DeleteWriterArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore table-limits read
  ctlstore writer-limits read --json")]
pub struct ReadLimitsArgs {
    #[command(flatten)]
    executive: ExecutiveArg,
    #[command(flatten)]
    json: JsonArg,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ctlstore table-limits update -f shop -t flags --max-size 2000000 --warn-size 1000000")]
pub struct UpdateTableArgs {
    #[command(flatten)]
    executive: ExecutiveArg,
    #[command(flatten)]
    table: TableArg,
    /// Size from which on writes are refused, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 104_857_600, value_parser = clap::value_parser!(i64).range(1..))]
    max_size: i64,
    /// Size from which on a warning is logged, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 52_428_800, value_parser = clap::value_parser!(i64).range(1..))]
    warn_size: i64,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ctlstore table-limits delete -f shop -t flags

The default limits hold for the table then.")]
pub struct DeleteTableArgs {
    #[command(flatten)]
    executive: ExecutiveArg,
    #[command(flatten)]
    table: TableArg,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ctlstore writer-limits update --writer loader --rows-per-minute 100000")]
pub struct UpdateWriterArgs {
    #[command(flatten)]
    executive: ExecutiveArg,
    /// The writer's name
    #[arg(long, value_name = "NAME")]
    writer: WriterName,
    /// The most rows that it may write in a minute
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(i64).range(0..))]
    rows_per_minute: i64,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ctlstore writer-limits delete --writer loader

The default limit holds for the writer then.")]
pub struct DeleteWriterArgs {
    #[command(flatten)]
    executive: ExecutiveArg,
    /// The writer's name
    #[arg(long, value_name = "NAME")]
    writer: WriterName,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Size {
    max_size: i64,
    warn_size: i64,
}

#[derive(Serialize, Deserialize)]
struct Sizes {
    global: Size,
    #[serde(default, deserialize_with = "client::or_empty")]
    tables: Vec<NamedSize>,
}

#[derive(Serialize, Deserialize)]
struct NamedSize {
    #[serde(flatten)]
    size: Size,
    family: String,
    table: String,
}

#[derive(Serialize, Deserialize)]
struct Rate {
    amount: i64,
    /// Nanoseconds.
    period: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct NamedRate {
    writer: String,
    rate_limit: Rate,
}

#[derive(Serialize, Deserialize)]
struct Rates {
    global: Rate,
    #[serde(default, deserialize_with = "client::or_empty")]
    writers: Vec<NamedRate>,
}

impl TableLimitsCommand {
    pub fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::Read(read) => read.tables(),
            Self::Update(UpdateTableArgs { executive, table, max_size, warn_size }) => {
                if warn_size > max_size {
                    return Err(Failure::usage("--warn-size is above --max-size").into());
                }
                let table = table.table()?;
                let path = ["limits", "tables", table.family.as_str(), table.table.as_str()];
                let body = json!({ "max-size": max_size, "warn-size": warn_size });
                change(executive, Method::POST, &path, Some(body))
            }
            Self::Delete(DeleteTableArgs { executive, table }) => {
                let table = table.table()?;
                let path = ["limits", "tables", table.family.as_str(), table.table.as_str()];
                change(executive, Method::DELETE, &path, None)
            }
        }
    }
}

impl WriterLimitsCommand {
    pub fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::Read(read) => read.writers(),
            Self::Update(UpdateWriterArgs { executive, writer, rows_per_minute }) => {
                let body = json!({ "amount": rows_per_minute, "period": MINUTE });
                change(executive, Method::POST, &["limits", "writers", writer.as_str()], Some(body))
            }
            Self::Delete(DeleteWriterArgs { executive, writer }) => {
                change(executive, Method::DELETE, &["limits", "writers", writer.as_str()], None)
            }
        }
    }
}

fn change(executive: &ExecutiveArg, method: Method, path: &[&str], body: Option<Value>) -> anyhow::Result<()> {
    client::run(async {
        let executive = executive.client()?;
        let request = executive.request(method, path);
        executive.ask(body.iter().fold(request, |request, body| request.json(body))).await?;
        Ok(())
    })
}

impl ReadLimitsArgs {
    fn limits<T: serde::de::DeserializeOwned>(&self, of: &str) -> anyhow::Result<T> {
        client::run(async {
            let executive = self.executive.client()?;
            Ok(executive.ask(executive.request(Method::GET, &["limits", of])).await?.json()?)
        })
    }

    fn tables(&self) -> anyhow::Result<()> {
        let limits: Sizes = self.limits("tables")?;
        if self.json.json {
            return say_json(&limits);
        }
        let mut out = Out::new();
        out.line(&format!("warn: {} bytes", limits.global.warn_size))?;
        out.line(&format!("max : {} bytes", limits.global.max_size))?;
        if !limits.tables.is_empty() {
            let mut table = OutputTable::new(["FAMILY", "TABLE", "WARN", "MAX"]);
            for NamedSize { size, family, table: name } in &limits.tables {
                table.row([family, name, &size.warn_size.to_string(), &size.max_size.to_string()]);
            }
            out.line("")?;
            table.write(&mut out, Piped::Aligned)?;
        }
        out.flush()
    }

    fn writers(&self) -> anyhow::Result<()> {
        let limits: Rates = self.limits("writers")?;
        if self.json.json {
            return say_json(&limits);
        }
        let mut out = Out::new();
        out.line(&format!("default: {}", limits.global))?;
        if !limits.writers.is_empty() {
            let mut table = OutputTable::new(["WRITER", "LIMIT"]);
            for NamedRate { writer, rate_limit } in &limits.writers {
                table.row([writer, &rate_limit.to_string()]);
            }
            out.line("")?;
            table.write(&mut out, Piped::Aligned)?;
        }
        out.flush()
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let period = humantime::format_duration(std::time::Duration::from_nanos(self.period));
        write!(f, "{} rows per {period}", self.amount)
    }
}
