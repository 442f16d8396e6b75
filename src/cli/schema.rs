//! `schema show`, `schema diff`, `schema apply`: the tables of an executive, an LDB or
//! a file, and what one lacks of another.

use std::fs::File;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::schema::{FamilyName, Field, TableRef, TableSchema};

use super::args::{ExecutiveArg, JsonArg};
use super::client::{self, Client};
use super::export::Head;
use super::failure::{Exit, Failure};
use super::ldb::Ldb;
use super::output::{Out, Piped, Table};
use super::shape::{self, Shape};

/// The largest schema file, in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

#[derive(Debug, Subcommand)]
pub enum Schema {
    /// Print tables, as JSON where standard output is no terminal
    Show(Show),
    /// Print what one place lacks of another's tables
    Diff(Diff),
    /// Create what is missing; shows it first
    Apply(Apply),
}

/// Somewhere that tables are known.
#[derive(Debug, Clone)]
enum Place {
    Executive(String),
    /// An LDB, the output of `schema show`, or an export.
    File(PathBuf),
}

impl FromStr for Place {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_url = text.starts_with("http://") || text.starts_with("https://");
        Ok(if is_url { Self::Executive(text.to_owned()) } else { Self::File(PathBuf::from(text)) })
    }
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
    from: Place,
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
    from: Place,
    /// Where it should be, if not at --executive
    #[arg(value_name = "TO")]
    to: Option<Place>,
    #[command(flatten)]
    executive: ExecutiveArg,
    #[command(flatten)]
    families: FamiliesArg,
}

/// One thing that is missing, or can't be had.
enum Change {
    CreateTable(TableSchema),
    AddField(TableRef, Field),
    Conflict(TableRef, String),
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
            out.json(&tables.iter().map(Shape::from).collect::<Vec<_>>())?;
            return out.flush();
        }
        let mut table = Table::new(["FAMILY", "TABLE", "KEY", "FIELDS"]);
        for schema in &tables {
            let Shape { family, name, fields, key_fields } = Shape::from(schema);
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
            Some(Place::Executive(url)) => executive(url)?,
            Some(Place::File(path)) => {
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

fn executive(url: &str) -> anyhow::Result<Client> {
    Client::new("executive", "its URL", url)
}

impl Place {
    async fn tables(&self, families: &[FamilyName]) -> anyhow::Result<Vec<TableSchema>> {
        let of_file = |path: &PathBuf| tables_in(path, families);
        match self {
            Self::File(path) => of_file(path),
            Self::Executive(url) => tables_at(&executive(url)?, families).await,
        }
    }
}

async fn tables_at(executive: &Client, families: &[FamilyName]) -> anyhow::Result<Vec<TableSchema>> {
    if families.is_empty() {
        return Err(Failure::usage("an executive must be told which families: give --family").into());
    }
    let mut tables = Vec::new();
    for family in families {
        tables.extend(shape::family_of(executive, family).await?);
    }
    Ok(tables)
}

fn tables_in(path: &Path, families: &[FamilyName]) -> anyhow::Result<Vec<TableSchema>> {
    let shown = path.display();
    let mut file = File::open(path).map_err(|error| Failure::absent(format!("{shown}: {error}")))?;
    let mut start = Vec::new();
    (&mut file).take(SQLITE_MAGIC.len() as u64).read_to_end(&mut start).with_context(|| shown.to_string())?;
    let tables = if start == SQLITE_MAGIC {
        Ldb::open(path)?.tables(None)?
    } else {
        let mut text = String::from_utf8_lossy(&start).into_owned();
        file.take(MAX_FILE).read_to_string(&mut text).with_context(|| shown.to_string())?;
        let wrong = |why: String| Failure::usage(format!("{shown} is no schema file: {why}"));
        let shapes = shapes(&text).map_err(|error| wrong(error.to_string()))?;
        shapes.iter().map(Shape::schema).collect::<Result<_, _>>().map_err(wrong)?
    };
    let wanted = |schema: &TableSchema| families.is_empty() || families.contains(&schema.table().family);
    Ok(tables.into_iter().filter(wanted).collect())
}

/// All tables of a file of `schema show`, or of an export's first line.
fn shapes(text: &str) -> serde_json::Result<Vec<Shape>> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text);
    }
    serde_json::from_str::<Head>(text.lines().next().unwrap_or_default()).map(|head| head.tables)
}

impl Between {
    async fn changes(&self) -> anyhow::Result<Vec<Change>> {
        let wanted = self.from.tables(&self.families.families).await?;
        let mut families: Vec<FamilyName> = wanted.iter().map(|schema| schema.table().family.clone()).collect();
        families.dedup();
        let there = match &self.to {
            _ if families.is_empty() => Vec::new(),
            None => tables_at(&self.executive.client()?, &families).await?,
            Some(place) => place.tables(&families).await?,
        };
        Ok(wanted.into_iter().flat_map(|wanted| changes(wanted, &there)).collect())
    }
}

/// What is missing of one table.
fn changes(wanted: TableSchema, there: &[TableSchema]) -> Vec<Change> {
    let Some(there) = there.iter().find(|schema| schema.table() == wanted.table()) else {
        return vec![Change::CreateTable(wanted)];
    };
    let table = wanted.table();
    let key = |schema: &TableSchema| schema.key_fields().map(|f| f.name.to_string()).collect::<Vec<_>>().join(",");
    let mut changes = Vec::new();
    if key(&wanted) != key(there) {
        changes.push(Change::Conflict(table.clone(), format!("the key is {}, not {}", key(there), key(&wanted))));
    }
    for field in wanted.fields() {
        match there.position(&field.name).map(|index| there.fields()[index].field_type) {
            None => changes.push(Change::AddField(table.clone(), field.clone())),
            Some(of) if of != field.field_type => {
                let why = format!("field {} is {of}, not {}", field.name, field.field_type);
                changes.push(Change::Conflict(table.clone(), why));
            }
            Some(_) => {}
        }
    }
    changes
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::CreateTable(schema) => {
                let Shape { fields, key_fields, .. } = Shape::from(schema);
                let fields: Vec<String> = fields.into_iter().map(|(name, of)| format!("{name}:{of}")).collect();
                write!(f, "+ table {}: {}; key {}", schema.table(), fields.join(" "), key_fields.join(","))
            }
            Self::AddField(table, field) => write!(f, "+ field of {table}: {}:{}", field.name, field.field_type),
            Self::Conflict(table, why) => write!(f, "! table {table}: {why}"),
        }
    }
}

impl Change {
    fn json(&self) -> serde_json::Value {
        match self {
            Self::CreateTable(schema) => json!({ "change": "create-table", "table": Shape::from(schema) }),
            Self::AddField(table, field) => {
                let pair = (&field.name, field.field_type.api_name());
                json!({ "change": "add-field", "family": table.family, "name": table.table, "field": pair })
            }
            Self::Conflict(table, why) => {
                json!({ "change": "conflict", "family": table.family, "name": table.table, "reason": why })
            }
        }
    }

    async fn apply(&self, target: &Client) -> anyhow::Result<()> {
        match self {
            Self::CreateTable(schema) => {
                shape::create_family(target, &schema.table().family).await?;
                shape::create_table(target, schema).await?.success()?;
            }
            Self::AddField(table, field) => {
                shape::add_fields(target, table, std::slice::from_ref(field)).await?;
            }
            // Where there is one nothing is applied.
            Self::Conflict(..) => {}
        }
        Ok(())
    }
}
