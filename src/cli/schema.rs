//! `schema show`, `schema diff`, `schema apply`: the tables of an executive, an LDB or
//! a file, and what one lacks of another.

mod change;
mod source;

use std::io::{BufRead, IsTerminal, Write};

use anyhow::Context;
use clap::{Args, Subcommand};

use ctlstore_core::schema::FamilyName;

use self::change::{Change, changes};
use self::source::{TableSource, executive, tables_at};
use super::args::{ExecutiveArg, JsonArg};
use super::client;
use super::failure::{Exit, Failure};
use super::output::{Out, Piped, Table};
use super::table_json::TableJson;

#[derive(Debug, Subcommand)]
pub enum Schema {
    /// Print tables, as JSON where standard output is no terminal
    Show(Show),
    /// Print what one place lacks of another's tables
    Diff(Diff),
    /// Create what is missing; shows it first
    Apply(Apply),
}

#[derive(Debug, Args)]
struct FamiliesArg {
    /// Only this family; an executive must be told which, and may be told several
    #[arg(short, long = "family", value_name = "FAMILY", value_delimiter = ',')]
    families: Vec<FamilyName>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore schema show http://127.0.0.1:3000 -f shop > shop.json
  ctlstore schema show data/ldb.db")]
pub struct Show {
    /// An executive's URL, an LDB, a file of `schema show`, or an export
    #[arg(value_name = "FROM")]
    from: TableSource,
    #[command(flatten)]
    families: FamiliesArg,
    #[command(flatten)]
    json: JsonArg,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore schema diff shop.json                                the executive against a file
  ctlstore schema diff http://staging:3000 http://live:3000 -f shop

What only the other place has is not shown: nothing would be dropped.")]
pub struct Diff {
    #[command(flatten)]
    between: Between,
    /// Exit code 1 when there is a difference
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    json: JsonArg,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ctlstore schema apply shop.json          shows what it would do, and asks
  ctlstore schema apply shop.json --yes    for scripts")]
pub struct Apply {
    #[command(flatten)]
    between: Between,
    /// Do it without asking
    #[arg(short, long)]
    yes: bool,
}

#[derive(Debug, Args)]
struct Between {
    /// What there should be: an executive's URL, an LDB, a file of `schema show`, or an export
    #[arg(value_name = "FROM")]
    from: TableSource,
    /// Where it should be, if not at --executive
    #[arg(value_name = "TO")]
    to: Option<TableSource>,
    #[command(flatten)]
    executive: ExecutiveArg,
    #[command(flatten)]
    families: FamiliesArg,
}

impl Schema {
    pub fn run(&self) -> anyhow::Result<()> {
        client::run(async {
            match self {
                Self::Show(show) => show.run().await,
                Self::Diff(diff) => diff.run().await,
                Self::Apply(apply) => apply.run().await,
            }
        })
    }
}

impl Show {
    async fn run(&self) -> anyhow::Result<()> {
        let tables = self.from.tables(&self.families.families).await?;
        let mut out = Out::new();
        if self.json.json || !out.is_terminal() {
            out.json(&tables.iter().map(TableJson::from).collect::<Vec<_>>())?;
            return out.flush();
        }
        let mut table = Table::new(["FAMILY", "TABLE", "KEY", "FIELDS"]);
        for schema in &tables {
            let TableJson { family, name, fields, key_fields } = TableJson::from(schema);
            let fields: Vec<String> = fields.into_iter().map(|(name, of)| format!("{name}:{of}")).collect();
            table.row([family, name, key_fields.join(","), fields.join(" ")]);
        }
        table.write(&mut out, Piped::Tabs)?;
        out.flush()
    }
}

impl Diff {
    async fn run(&self) -> anyhow::Result<()> {
        let changes = self.between.changes().await?;
        let mut out = Out::new();
        for change in &changes {
            if self.json.json { out.json(&change.json())? } else { out.line(&change.to_string())? }
        }
        out.flush()?;
        match changes.len() {
            differences @ 1.. if self.check => {
                Err(Failure::new(Exit::Failed, format!("{differences} differences")).into())
            }
            _ => Ok(()),
        }
    }
}

impl Apply {
    async fn run(&self) -> anyhow::Result<()> {
        let target = match &self.between.to {
            None => self.between.executive.client()?,
            Some(TableSource::Executive(url)) => executive(url)?,
            Some(TableSource::File(path)) => {
                return Err(Failure::usage(format!(
                    "{} is no executive, nothing can be applied to it",
                    path.display()
                ))
                .into());
            }
        };
        let changes = self.between.changes().await?;
        let mut out = Out::new();
        changes.iter().try_for_each(|change| out.line(&change.to_string()))?;
        if changes.is_empty() {
            out.line("nothing is missing")?;
        }
        out.flush()?;
        let conflicts = changes.iter().filter(|change| matches!(change, Change::Conflict(..))).count();
        if conflicts > 0 {
            return Err(Failure::refused(format!("{conflicts} conflicts, nothing was done")).into());
        }
        if changes.is_empty() || !self.agreed(changes.len())? {
            return Ok(());
        }
        for change in &changes {
            change.apply(&target).await?;
        }
        out.line(&format!("done: {}", changes.len()))?;
        out.flush()
    }

    fn agreed(&self, changes: usize) -> anyhow::Result<bool> {
        if self.yes {
            return Ok(true);
        }
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Err(Failure::usage("nothing was done: give --yes to do it").into());
        }
        let mut stderr = std::io::stderr();
        write!(stderr, "apply these {changes} changes? [y/N] ")
            .and_then(|()| stderr.flush())
            .context("standard error")?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).context("standard input")?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}

impl Between {
    async fn changes(&self) -> anyhow::Result<Vec<Change>> {
        let wanted = self.from.tables(&self.families.families).await?;
        let mut families: Vec<FamilyName> = wanted.iter().map(|schema| schema.table().family.clone()).collect();
        families.sort();
        families.dedup();
        let there = match &self.to {
            _ if families.is_empty() => Vec::new(),
            None => tables_at(&self.executive.client()?, &families).await?,
            Some(place) => place.tables(&families).await?,
        };
        Ok(wanted.into_iter().flat_map(|wanted| changes(wanted, &there)).collect())
    }
}
