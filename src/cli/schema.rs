//! `schema show`, `schema diff` and `schema apply`: the tables of an executive, an LDB or a file, and
//! what one lacks of another. `source` reads tables, `change` finds and makes the difference.

mod change;
mod source;

use std::io::{BufRead, IsTerminal, Write};

use anyhow::Context;
use clap::{Args, Subcommand};

use ctlstore_core::schema::FamilyName;

use self::change::{Change, changes};
use self::source::{TableSource, executive, tables_at};
use super::args::{ExecutiveArg, JsonArg};
use super::client::{self, ServerClient};
use super::failure::{Exit, Failure};
use super::output::{Out, OutputTable, Piped};
use super::table_json::{self, TableJson};

#[derive(Debug, Subcommand)]
pub enum SchemaCommand {
    /// Print tables, as JSON if standard output is no terminal
    Show(ShowArgs),
    /// Print which tables and fields one place lacks
    Diff(DiffArgs),
    /// Create missing tables and fields, after showing them
    Apply(ApplyArgs),
}

#[derive(Debug, Args)]
struct FamiliesArg {
    /// Only this family; may be given several times. Required if FROM is an executive
    #[arg(short, long = "family", value_name = "FAMILY", value_delimiter = ',')]
    families: Vec<FamilyName>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore schema show http://127.0.0.1:3000 -f shop > shop.json
  ctlstore schema show data/ldb.db")]
pub struct ShowArgs {
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
  ctlstore schema diff shop.json                                what the executive lacks of a file
  ctlstore schema diff http://staging:3000 http://live:3000 -f shop

Tables and fields that only the other place has are not shown, since nothing would be dropped.")]
pub struct DiffArgs {
    #[command(flatten)]
    between: BetweenArgs,
    /// End with exit code 1 if there is a difference
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    json: JsonArg,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ctlstore schema apply shop.json          shows what it would create, and asks
  ctlstore schema apply shop.json --yes    for scripts")]
pub struct ApplyArgs {
    #[command(flatten)]
    between: BetweenArgs,
    /// Create without asking
    #[arg(short, long)]
    yes: bool,
}

#[derive(Debug, Args)]
struct BetweenArgs {
    /// The wanted tables: an executive's URL, an LDB, a file of `schema show`, or an export
    #[arg(value_name = "FROM")]
    from: TableSource,
    /// Where the tables should be, instead of at --executive
    #[arg(value_name = "TO")]
    to: Option<TableSource>,
    #[command(flatten)]
    executive: ExecutiveArg,
    #[command(flatten)]
    families: FamiliesArg,
}

impl SchemaCommand {
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

impl ShowArgs {
    async fn run(&self) -> anyhow::Result<()> {
        let tables = self.from.tables(&self.families.families).await?;
        if tables.iter().any(|schema| schema.key_fields().len() > 1) && !self.from.tells_key_order().await? {
            warn_of_key_order()?;
        }
        let mut out = Out::new();
        if self.json.json || !out.is_terminal() {
            out.json(&tables.iter().map(TableJson::from).collect::<Vec<_>>())?;
            return out.flush();
        }
        let mut table = OutputTable::new(["FAMILY", "TABLE", "KEY", "FIELDS"]);
        for schema in &tables {
            let TableJson { family, name, fields, key_fields } = TableJson::from(schema);
            let fields: Vec<String> = fields.into_iter().map(|(name, of)| format!("{name}:{of}")).collect();
            table.row([family, name, key_fields.join(","), fields.join(" ")]);
        }
        table.write(&mut out, Piped::Tabs)?;
        out.flush()
    }
}

impl DiffArgs {
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

impl ApplyArgs {
    async fn run(&self) -> anyhow::Result<()> {
        let target = self.target()?;
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

    /// The executive at which tables are created.
    fn target(&self) -> anyhow::Result<ServerClient> {
        match &self.between.to {
            None => self.between.executive.client(),
            Some(TableSource::Executive(url)) => executive(url),
            Some(TableSource::File(path)) => {
                let message = format!("{} is no executive, nothing can be applied to it", path.display());
                Err(Failure::usage(message).into())
            }
        }
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

impl BetweenArgs {
    async fn changes(&self) -> anyhow::Result<Vec<Change>> {
        if self.to.is_some() && self.executive.is_by_flag() {
            return Err(
                Failure::usage("TO and --executive both say where the tables should be: give one of them").into()
            );
        }
        let wanted = self.from.tables(&self.families.families).await?;
        let mut families: Vec<FamilyName> = wanted.iter().map(|schema| schema.table().family.clone()).collect();
        families.sort();
        families.dedup();
        let there = match &self.to {
            _ if families.is_empty() => Vec::new(),
            None => tables_at(&self.executive.client()?, &families).await?,
            Some(place) => place.tables(&families).await?,
        };
        let has_wide_key = wanted.iter().any(|schema| schema.key_fields().len() > 1);
        let key_order = !has_wide_key || self.is_key_order_known().await?;
        Ok(wanted.into_iter().flat_map(|wanted| changes(wanted, &there, key_order)).collect())
    }

    async fn is_key_order_known(&self) -> anyhow::Result<bool> {
        let there = match &self.to {
            Some(place) => place.tells_key_order().await?,
            None => table_json::tells_key_order(&self.executive.client()?).await?,
        };
        let wanted = self.from.tells_key_order().await?;
        if !wanted {
            warn_of_key_order()?;
        }
        Ok(there && wanted)
    }
}

/// On standard error, as what is printed or created may have another order than the tables.
fn warn_of_key_order() -> anyhow::Result<()> {
    let line = "ctlstore: the Go program's executive tells keys in column order: check the order of keys with several fields\n";
    std::io::stderr().write_all(line.as_bytes()).context("standard error")
}
