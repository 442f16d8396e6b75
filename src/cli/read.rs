//! `read-keys`, `read-seq`, `rows`: what is in the LDB of this host, or in a reader.

use clap::Args;
use reqwest::Method;
use serde_json::json;

use crate::http::json::Members;
use ctlstore_core::schema::TableSchema;
use ctlstore_reader::{ReadTransaction, Row};

use super::args::{JsonArg, LdbArg, TableArg};
use super::client::{self, ServerClient};
use super::failure::{Exit, Failure};
use super::ldb::{self, Key};
use super::output::{Out, Piped, Table, say, say_json};

/// The most rows of a table on a terminal, unless more are asked for: its columns are as
/// wide as the widest of them, so all are held.
const ON_TERMINAL: u64 = 1000;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore read-keys -f shop -t flags dark-mode
  ctlstore read-keys -f shop -t blobs 0x00ff --json

Exit code 3 when there is no such row or table.")]
pub struct ReadKeys {
    #[command(flatten)]
    ldb: LdbArg,
    #[command(flatten)]
    table: TableArg,
    /// No headings
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    json: JsonArg,
    /// The key's values, in the key's order; 0x… for bytes
    #[arg(value_name = "KEY", required = true, value_parser = Key::parse, allow_negative_numbers = true)]
    keys: Vec<Key>,
}

impl ReadKeys {
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
            let mut table = Table::new(["COLUMN", "VALUE"]).whole();
            cells.iter().for_each(|(name, value)| table.row([*name, value]));
            table.write(&mut out, if self.quiet { Piped::Bare } else { Piped::Aligned })
        })?;
        if found == 0 {
            return Err(Failure::absent(format!("no such row in table {}", schema.table())).into());
        }
        out.flush()
    }
}

fn arity(schema: &TableSchema, got: usize) -> Failure {
    let key: Vec<&str> = schema.key_fields().map(|field| field.name.as_str()).collect();
    let values = if got == 1 { "value" } else { "values" };
    Failure::usage(format!("the key of table {} is ({}), not {got} {values}", schema.table(), key.join(", ")))
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ctlstore read-seq")]
pub struct ReadSeq {
    #[command(flatten)]
    ldb: LdbArg,
    #[command(flatten)]
    json: JsonArg,
}

impl ReadSeq {
    pub fn run(&self) -> anyhow::Result<()> {
        let seq = ldb::read(&self.ldb.path(), |ldb| Ok(ldb.last_seq()?))?;
        if self.json.json { say_json(&json!({ "seq": seq })) } else { say(&seq.to_string()) }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore rows -f shop -t flags                         every row of the table in this host's LDB
  ctlstore rows -f shop -t prices eu 17                  those whose key begins with eu, 17
  ctlstore rows -f shop -t flags --reader host:1331      the same from a reader
  ctlstore rows -f shop -t flags --json | jq .name       one JSON object a line

In a pipe the values stand with tabs between them, in the table's column order; a reader's
rows are always JSON there, since it does not tell the types.")]
pub struct Rows {
    #[command(flatten)]
    ldb: LdbArg,
    /// Ask this reader instead of reading the file
    #[arg(short, long, value_name = "URL", env = "CTLSTORE_READER")]
    reader: Option<String>,
    #[command(flatten)]
    table: TableArg,
    /// At most so many rows
    #[arg(long, value_name = "ROWS")]
    limit: Option<u64>,
    #[command(flatten)]
    json: JsonArg,
    /// The leading values of the key, in the key's order; 0x… for bytes
    #[arg(value_name = "KEY", value_parser = Key::parse, allow_negative_numbers = true)]
    prefix: Vec<Key>,
}

impl Rows {
    pub fn run(&self) -> anyhow::Result<()> {
        // A flag goes over the environment, also over the environment's other way.
        let reader_by_flag = self.reader.is_some() && self.reader != std::env::var("CTLSTORE_READER").ok();
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
        let mut table = Table::new(schema.fields().iter().map(|field| field.name.to_string()));
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
        let mut table = Table::new(headings);
        rows.iter().for_each(|row| table.row(row.iter().map(|(_, value)| plain(value.get()))));
        table.write(&mut out, Piped::Tabs)?;
        out.flush()
    }
}

fn members(json: &str) -> Result<Members, Failure> {
    serde_json::from_str(json).map_err(|error| Failure::new(Exit::Failed, format!("the reader's row: {error}")))
}

/// A JSON text without its quotes, any other value as it is.
fn plain(json: &str) -> String {
    serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned())
}

fn for_reader(key: &Key) -> serde_json::Value {
    use base64::Engine;
    match key {
        Key::Text(text) => json!({ "Value": text }),
        Key::Bytes(bytes) => json!({ "Binary": base64::engine::general_purpose::STANDARD.encode(bytes) }),
    }
}
