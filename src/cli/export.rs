//! `export` and `import`: a family as NDJSON, its schema on the first line, then a
//! mutation for each row, and a last line that tells a whole export from a torn one.

use std::path::PathBuf;

use clap::Args;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};

use ctlstore_core::schema::{FamilyName, TableRef, TableSchema};
use ctlstore_reader::ReadTransaction;

use super::args::{CredentialsArg, ExecutiveArg, JsonArg, LdbArg};
use super::client::{self, ServerClient};
use super::failure::{Exit, Failure};
use super::ldb;
use super::mutate::lines::{self, MutationLines};
use super::mutate::report;
use super::mutate::sender::{Sender, To};
use super::output::Out;
use super::table_json::{self, TableJson};

/// What this program writes and reads.
const FORMAT: u32 = 1;

/// The first line.
#[derive(Serialize, Deserialize)]
pub struct ExportHeader {
    /// The format's version.
    pub ctlstore_export: u32,
    pub family: String,
    /// The ledger seq that the rows belong to.
    pub seq: i64,
    pub tables: Vec<TableJson>,
}

/// The last line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    end: bool,
    rows: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ctlstore export -f shop > shop.ndjson

The first line is the schema, each line behind it one row as a mutation that `ctlstore mutate`
takes too, bytes in base64; the last line says how many there are. All rows belong to the one
ledger seq of the first line: the LDB is held in a read transaction until the last one, so
write to a file rather than to something slow.")]
pub struct Export {
    #[command(flatten)]
    ldb: LdbArg,
    /// The family
    #[arg(short, long, value_name = "FAMILY")]
    family: FamilyName,
}

impl Export {
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
        let (seq, shapes) = (ldb.last_seq()?.0, tables.iter().map(TableJson::from).collect());
        out.json(&ExportHeader { ctlstore_export: FORMAT, family: self.family.to_string(), seq, tables: shapes })?;
        let mut rows = 0;
        for schema in &tables {
            let table = schema.table().table.as_str();
            rows += ldb::rows(ldb, schema, &[], None, |row| {
                out.line(&format!(r#"{{"table":"{table}","values":{}}}"#, ldb::json_row(schema, row)?))
            })?;
        }
        out.json(&End { end: true, rows })?;
        out.flush()
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore import shop.ndjson
  ctlstore import shop.ndjson --family shop2      into another family

Creates the family and its tables where they are missing, then writes the rows in requests
of at most 100. Rows that are there are written over, others stay; so it can be run again.
With --resume it goes on where it ended, by the writer's cookie: see `ctlstore mutate --help`.")]
pub struct Import {
    #[command(flatten)]
    executive: ExecutiveArg,
    #[command(flatten)]
    credentials: CredentialsArg,
    /// The family to write to, if not the export's own
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

impl Import {
    pub fn run(&self) -> anyhow::Result<()> {
        let executive = self.executive.client()?;
        let (writer, secret) = (self.credentials.writer.clone(), self.credentials.secret()?);
        let mut lines = MutationLines::open(&self.file)?;
        let summary = client::run(async {
            let tables = self.head(&mut lines).await?;
            let Some(family) = tables.first().map(|schema| schema.table().family.clone()) else {
                return Err(lines.wrong("the export has no tables").into());
            };
            make_tables(&executive, &family, &tables).await?;
            let mut sender = Sender::begin(To { executive, family, writer, secret }, self.resume).await?;
            let mut rows = 0;
            let announced = loop {
                let Some(line) = sender.awaiting(lines.next()).await? else { break None };
                if let Ok(End { end: true, rows }) = serde_json::from_str(&line) {
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

    /// The tables of the first line, in the family that is written to.
    async fn head(&self, lines: &mut MutationLines) -> anyhow::Result<Vec<TableSchema>> {
        let line = lines.next().await?.ok_or_else(|| Failure::refused("the export is empty"))?;
        let head: ExportHeader =
            serde_json::from_str(&line).map_err(|error| lines.wrong(format!("no export: {error}")))?;
        if head.ctlstore_export > FORMAT {
            return Err(lines.wrong(format!("format {} is newer than this program", head.ctlstore_export)).into());
        }
        let family = self.family.as_ref().map_or(head.family.as_str(), FamilyName::as_str);
        let schema = |shape: TableJson| TableJson { family: family.to_owned(), ..shape }.schema();
        Ok(head.tables.into_iter().map(schema).collect::<Result<_, _>>().map_err(|why| lines.wrong(why))?)
    }
}

/// Creates what is missing, once it is known that what is there fits.
async fn make_tables(executive: &ServerClient, family: &FamilyName, tables: &[TableSchema]) -> anyhow::Result<()> {
    let there = table_json::family_of(executive, family).await?;
    let mut missing = Vec::new();
    for wanted in tables {
        match there.iter().find(|schema| schema.table() == wanted.table()) {
            // An upsert names every field, so neither side may have one more.
            Some(there) if table_json::covers(there, wanted) && table_json::covers(wanted, there) => {}
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
