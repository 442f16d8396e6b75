//! `export` and `import`: a family as NDJSON. The first line has its schema, each further line a
//! mutation for one row. The last line shows that the export is whole.

use std::path::PathBuf;

use clap::Args;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};

use crate::http::json_error::explain_part;
use ctlstore_core::schema::{FamilyName, TableRef, TableSchema};
use ctlstore_reader::ReadTransaction;

use super::args::{CredentialsArg, ExecutiveArg, JsonArg, LdbArg};
use super::client::{self, ServerClient};
use super::failure::{Exit, Failure};
use super::ldb;
use super::mutate::lines::{self, MutationLines};
use super::mutate::report;
use super::mutate::sender::{Sender, WriteTarget};
use super::output::Out;
use super::table_json::{self, TableJson};

/// The version of the format that this program writes and reads.
const FORMAT: u32 = 1;

/// The first line.
#[derive(Serialize, Deserialize)]
pub struct ExportHeader {
    /// The format version.
    pub ctlstore_export: u32,
    pub family: String,
    /// The ledger seq that the rows belong to.
    pub seq: i64,
    pub tables: Vec<TableJson>,
}

/// The last line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportEnd {
    end: bool,
    rows: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ctlstore export -f shop > shop.ndjson

The first line is the schema. Each further line is one row, as a mutation that `ctlstore mutate`
accepts too, with bytes in base64. The last line says how many rows there are. All rows belong to
the ledger seq of the first line. They are read in one read transaction, so write to a file rather
than to something slow.")]
pub struct ExportArgs {
    #[command(flatten)]
    ldb: LdbArg,
    /// The family
    #[arg(short, long, value_name = "FAMILY")]
    family: FamilyName,
}

impl ExportArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        ldb::read(&self.ldb.path(), |ldb| self.of(ldb))
    }

    fn of(&self, ldb: &ReadTransaction<'_>) -> anyhow::Result<()> {
        let tables = ldb::tables(ldb, Some(&self.family))?;
        if tables.is_empty() {
            let there = Vec::from_iter(ldb::families(ldb)?).join(", ");
            let message = format!("no tables of family {} in the ldb, which has the families: {there}", self.family);
            return Err(Failure::absent(message).into());
        }
        let mut out = Out::new();
        out.json(&ExportHeader {
            ctlstore_export: FORMAT,
            family: self.family.to_string(),
            seq: ldb.last_seq()?.0,
            tables: tables.iter().map(TableJson::from).collect(),
        })?;
        let mut rows = 0;
        for schema in &tables {
            let table = schema.table().table.as_str();
            rows += ldb::rows(ldb, schema, &[], None, |row| {
                out.line(&format!(r#"{{"table":"{table}","values":{}}}"#, ldb::json_row(schema, row)?))
            })?;
        }
        out.json(&ExportEnd { end: true, rows })?;
        out.flush()
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore import shop.ndjson
  ctlstore import shop.ndjson --family shop2      into another family

Creates the family and its tables if they are missing, then writes the rows in requests of at
most 100. Rows with these keys are replaced, other rows stay, so it can be run again. With
--resume it goes on where it ended, by the writer's cookie: see `ctlstore mutate --help`.")]
pub struct ImportArgs {
    #[command(flatten)]
    executive: ExecutiveArg,
    #[command(flatten)]
    credentials: CredentialsArg,
    /// The family to write to, instead of the export's own
    #[arg(short, long, value_name = "FAMILY")]
    family: Option<FamilyName>,
    /// Go on where an earlier import of the same file ended
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    json: JsonArg,
    /// The export; "-" is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl ImportArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        let executive = self.executive.client()?;
        let writer = self.credentials.writer.clone();
        let secret = self.credentials.secret()?;
        let mut lines = MutationLines::open(&self.file)?;
        let summary = client::run(async {
            let tables = self.head(&mut lines).await?;
            let Some(family) = tables.first().map(|schema| schema.table().family.clone()) else {
                return Err(lines.wrong("the export has no tables").into());
            };
            make_tables(&executive, &family, &tables).await?;
            let mut sender = Sender::begin(WriteTarget { executive, family, writer, secret }, self.resume).await?;
            let mut rows = 0;
            let announced = loop {
                let Some(line) = sender.awaiting(lines.next()).await? else { break None };
                if let Ok(ExportEnd { end: true, rows }) = serde_json::from_str(&line) {
                    break Some(rows);
                }
                rows += 1;
                sender.push(&line, lines::mutation(&line, None).map_err(|why| lines.wrong(why))?).await?;
            };
            let summary = sender.finish().await?;
            if announced != Some(rows) {
                let seq = summary.seq.map(|seq| format!(" up to seq {seq}")).unwrap_or_default();
                let message = format!(
                    "the export is not whole: it has {rows} rows and no last line that says so; these rows are \
                     written{seq}, what is missing is not known"
                );
                return Err(Failure::new(Exit::Failed, message).into());
            }
            Ok(summary)
        })?;
        report(&summary, &self.json)
    }

    /// The tables of the first line, moved to the family that is written to.
    async fn head(&self, lines: &mut MutationLines) -> anyhow::Result<Vec<TableSchema>> {
        let line = lines.next().await?.ok_or_else(|| Failure::refused("the export is empty"))?;
        let head: ExportHeader =
            serde_json::from_str(&line).map_err(|error| lines.wrong(format!("no export: {}", explain_part(&error))))?;
        if head.ctlstore_export > FORMAT {
            return Err(lines.wrong(format!("format {} is newer than this program", head.ctlstore_export)).into());
        }
        let family = self.family.as_ref().map_or(head.family.as_str(), FamilyName::as_str);
        let schema = |shape: TableJson| TableJson { family: family.to_owned(), ..shape }.schema();
        Ok(head.tables.into_iter().map(schema).collect::<Result<_, _>>().map_err(|why| lines.wrong(why))?)
    }
}

/// Creates missing tables, after it has checked that the existing ones fit.
async fn make_tables(executive: &ServerClient, family: &FamilyName, tables: &[TableSchema]) -> anyhow::Result<()> {
    let there = table_json::family_of(executive, family).await?;
    let mut missing = Vec::new();
    let key_order = table_json::tells_key_order(executive).await?;
    for wanted in tables {
        match there.iter().find(|schema| schema.table() == wanted.table()) {
            // An upsert names every field, so both tables must have the same fields.
            Some(there)
                if table_json::covers(there, wanted, key_order) && table_json::covers(wanted, there, key_order) => {}
            Some(_) => return Err(differs(wanted.table()).into()),
            None => missing.push(wanted),
        }
    }
    if !missing.is_empty() {
        table_json::create_family(executive, family).await?;
    }
    for schema in missing {
        let answer = table_json::create_table(executive, schema).await?;
        if answer.status == StatusCode::CONFLICT {
            return Err(differs(schema.table()).into());
        }
        answer.success()?;
    }
    Ok(())
}

fn differs(table: &TableRef) -> Failure {
    Failure::refused(format!("table {table} is there with other fields; `ctlstore schema diff` tells which"))
}
