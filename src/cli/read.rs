//! `read-keys`, `read-seq` and `rows`: print what is in this host's LDB, or what a reader has.

use clap::Args;
use reqwest::Method;
use serde_json::json;

use crate::http::json::Members;
use crate::http::json_error::explain_part;
use ctlstore_core::schema::TableSchema;
use ctlstore_reader::{ReadTransaction, Row};

use super::args::{JsonArg, LdbArg, TableArg, is_by_flag};
use super::client::{self, ServerClient};
use super::failure::{Exit, Failure};
use super::ldb::{self, KeyText};
use super::output::{Out, OutputTable, Piped, say, say_json};

/// The most rows of a table on a terminal, unless --limit says another number. All rows are held in
/// memory, since each column is as wide as its widest cell.
const ON_TERMINAL: u64 = 1000;
const READER_VARIABLE: &str = "CTLSTORE_READER";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore read-keys -f shop -t flags dark-mode
  ctlstore read-keys -f shop -t blobs 0x00ff --json

Exit code 3 if there is no such row or table.")]
pub struct ReadKeysArgs {
    #[command(flatten)]
    ldb: LdbArg,
    #[command(flatten)]
    table: TableArg,
    /// Print no headings
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    json: JsonArg,
    /// The key's values, in the key's order; 0x… for bytes
    #[arg(value_name = "KEY", required = true, value_parser = KeyText::parse, allow_negative_numbers = true)]
    keys: Vec<KeyText>,
}

impl ReadKeysArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        ldb::read(&self.ldb.path(), |ldb| self.of(ldb))
    }

    fn of(&self, ldb: &ReadTransaction<'_>) -> anyhow::Result<()> {
        let schema = ldb::known(ldb, &self.table.table()?)?;
        let wanted = schema.key_fields().len();
        if self.keys.len() != wanted {
            return Err(arity(&schema, self.keys.len()).into());
        }
        let mut out = Out::new();
        let found = ldb::rows(ldb, &schema, &self.keys, None, |row| {
            if self.json.json {
                return out.line(&ldb::json_row(&schema, row)?);
            }
            let mut cells: Vec<(&str, String)> = row.columns().map(|(name, value)| (name, ldb::shown(value))).collect();
            cells.sort();
            let mut table = OutputTable::new(["COLUMN", "VALUE"]).whole();
            cells.iter().for_each(|(name, value)| table.row([*name, value]));
            table.write(&mut out, if self.quiet { Piped::Bare } else { Piped::Aligned })
        })?;
        if found == 0 {
            return Err(Failure::absent(format!("no such row in table {}", schema.table())).into());
        }
        out.flush()
    }
}

pub fn arity(schema: &TableSchema, got: usize) -> Failure {
    let key: Vec<&str> = schema.key_fields().map(|field| field.name.as_str()).collect();
    let values = if got == 1 { "value" } else { "values" };
    Failure::usage(format!("the key of table {} is ({}), not {got} {values}", schema.table(), key.join(", ")))
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ctlstore read-seq")]
pub struct ReadSeqArgs {
    #[command(flatten)]
    ldb: LdbArg,
    #[command(flatten)]
    json: JsonArg,
}

impl ReadSeqArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        let seq = ldb::read(&self.ldb.path(), |ldb| Ok(ldb.last_seq()?))?;
        if self.json.json { say_json(&json!({ "seq": seq })) } else { say(&seq.to_string()) }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore rows -f shop -t flags                         every row of the table in this host's LDB
  ctlstore rows -f shop -t prices eu 17                  the rows whose key begins with eu, 17
  ctlstore rows -f shop -t flags --limit 10              the first ten rows
  ctlstore rows -f shop -t flags --reader host:1331      the rows that a reader has
  ctlstore rows -f shop -t flags --json | jq .name       one JSON object a line

In a pipe a line has the values in the table's column order, with tabs between them. A reader's
rows are JSON there, since a reader does not tell the types.")]
pub struct RowsArgs {
    #[command(flatten)]
    ldb: LdbArg,
    /// Ask this reader instead of reading the LDB file
    #[arg(short, long, value_name = "URL", env = READER_VARIABLE)]
    reader: Option<String>,
    #[command(flatten)]
    table: TableArg,
    /// The most rows to print (-l is --ldb)
    #[arg(long, value_name = "ROWS")]
    limit: Option<u64>,
    #[command(flatten)]
    json: JsonArg,
    /// The leading values of the key, in the key's order; 0x… for bytes
    #[arg(value_name = "KEY", value_parser = KeyText::parse, allow_negative_numbers = true)]
    prefix: Vec<KeyText>,
}

impl RowsArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        // A flag counts before both variables.
        let reader_by_flag = self.reader.as_ref().is_some_and(|reader| is_by_flag(reader, READER_VARIABLE));
        if reader_by_flag && self.ldb.is_by_flag() {
            let message = "--reader and --ldb (-l) both say where to read: give one of them; --limit bounds the rows";
            return Err(Failure::usage(message).into());
        }
        match &self.reader {
            Some(reader) if self.ldb.ldb.is_none() || reader_by_flag => self.of_reader(reader),
            _ => ldb::read(&self.ldb.path(), |ldb| self.of_file(ldb)),
        }
    }

    fn of_file(&self, ldb: &ReadTransaction<'_>) -> anyhow::Result<()> {
        let schema = ldb::known(ldb, &self.table.table()?)?;
        if self.prefix.len() > schema.key_fields().len() {
            return Err(arity(&schema, self.prefix.len()).into());
        }
        let mut out = Out::new();
        if self.json.json {
            ldb::rows(ldb, &schema, &self.prefix, self.limit, |row| out.line(&ldb::json_row(&schema, row)?))?;
            return out.flush();
        }
        let cells = |row: Row<'_>| -> Vec<String> { row.columns().map(|(_, value)| ldb::shown(value)).collect() };
        if !out.is_terminal() {
            ldb::rows(ldb, &schema, &self.prefix, self.limit, |row| {
                out.tabbed(&cells(row).iter().map(String::as_str).collect::<Vec<_>>())
            })?;
            return out.flush();
        }
        let mut table = OutputTable::new(schema.fields().iter().map(|field| field.name.to_string()));
        let limit = self.limit.unwrap_or(ON_TERMINAL);
        let count = ldb::rows(ldb, &schema, &self.prefix, Some(limit), |row| {
            table.row(cells(row));
            Ok(())
        })?;
        table.write(&mut out, Piped::Tabs)?;
        if self.limit.is_none() && count == ON_TERMINAL {
            out.line(&format!("(the first {ON_TERMINAL}; --limit shows more, and so does a pipe)"))?;
        }
        out.flush()
    }

    fn of_reader(&self, reader: &str) -> anyhow::Result<()> {
        let reader = ServerClient::new("reader", "--reader or CTLSTORE_READER", reader)?;
        let table = self.table.table()?;
        let rows: Vec<Box<serde_json::value::RawValue>> = client::run(async {
            let path = ["get-rows-by-key-prefix", table.family.as_str(), table.table.as_str()];
            let key: Vec<_> = self.prefix.iter().map(for_reader).collect();
            let answer = reader.ask(reader.request(Method::POST, &path).json(&json!({ "Key": key }))).await?;
            Ok(answer.json()?)
        })?;
        let rows =
            rows.iter().take(self.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)));
        let mut out = Out::new();
        if self.json.json || !out.is_terminal() {
            rows.into_iter().try_for_each(|row| out.line(row.get()))?;
            return out.flush();
        }
        let rows: Vec<Vec<(String, Box<serde_json::value::RawValue>)>> =
            rows.map(|row| Ok(members(row.get())?.into_inner())).collect::<anyhow::Result<_>>()?;
        let headings: Vec<String> = rows.first().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        let mut table = OutputTable::new(headings);
        rows.iter().for_each(|row| table.row(row.iter().map(|(_, value)| plain(value.get()))));
        table.write(&mut out, Piped::Tabs)?;
        out.flush()
    }
}

fn members(json: &str) -> Result<Members, Failure> {
    serde_json::from_str(json)
        .map_err(|error| Failure::new(Exit::Failed, format!("the reader's row: {}", explain_part(&error))))
}

/// A JSON string without its quotes; any other value unchanged.
fn plain(json: &str) -> String {
    serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned())
}

fn for_reader(key: &KeyText) -> serde_json::Value {
    use base64::Engine;
    match key {
        KeyText::Text(text) => json!({ "Value": text }),
        KeyText::Bytes(bytes) => json!({ "Binary": base64::engine::general_purpose::STANDARD.encode(bytes) }),
    }
}
