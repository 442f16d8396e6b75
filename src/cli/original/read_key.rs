//! `ldb-read-key`: the original's command that names a row of the LDB by its key as JSON.
//! The original opens the LDB and prints no row; this prints it as the reader would.

use std::ffi::OsString;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::Value;

use ctlstore_core::schema::TableRef;

use super::OriginalArgs;
use super::command_line::CommandLine;
use super::flags::{Flag, Takes, unmapped};
use crate::cli::failure::Failure;
use crate::cli::ldb::{self, KeyText};
use crate::cli::output::{Out, say};

const HELP: &str = "\
Prints one row of an LDB as JSON.

Usage: ctlstore ldb-read-key [FLAGS]

  -ldb-path PATH   the LDB
  -family TEXT     the table's family
  -table TEXT      the table's name within its family
  -key-json JSON   the key's values as an array, in the key's order: '[\"a\",17]'

All are needed; the environment has each in capitals, such as CTLSTORE_LDB_PATH.
Exit code 3 when there is no such row or table.";

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct LdbReadKey {
    #[command(flatten)]
    arguments: OriginalArgs,
}

impl LdbReadKey {
    pub fn run(&self) -> anyhow::Result<()> {
        let flags: Vec<Flag> =
            [("ldb-path", Takes::Path), ("family", Takes::Text), ("table", Takes::Text), ("key-json", Takes::Text)]
                .into_iter()
                .map(|(name, takes)| unmapped(name, takes))
                .collect();
        let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        let of_command = |error: Failure| Failure::usage(format!("ldb-read-key: {error}"));
        let line = CommandLine::read(&flags, &self.arguments.flags, &environment).map_err(of_command)?;
        if line.wants_help {
            return say(HELP);
        }
        let of = |name: &str| {
            let text = line.get(name).map(|text| text.text.as_str()).filter(|text| !text.is_empty());
            text.ok_or_else(|| Failure::usage(format!("ldb-read-key: -{name} is missing; -help lists all flags")))
        };
        let table = TableRef::parse(of("family")?, of("table")?)
            .map_err(|error| of_command(Failure::usage(error.to_string())))?;
        let key = key_of(of("key-json")?).map_err(of_command)?;
        print_row(Path::new(of("ldb-path")?), &table, &key)
    }
}

fn print_row(path: &Path, table: &TableRef, key: &[KeyText]) -> anyhow::Result<()> {
    ldb::read(path, |ldb| {
        let schema = ldb::known(ldb, table)?;
        if key.len() != schema.key_fields().len() {
            return Err(crate::cli::read::arity(&schema, key.len()).into());
        }
        let mut out = Out::new();
        let found = ldb::rows(ldb, &schema, key, None, |row| out.line(&ldb::json_row(&schema, row)?))?;
        if found == 0 {
            return Err(Failure::absent(format!("no such row in table {table}")).into());
        }
        out.flush()
    })
}

/// The key's values: texts, numbers, which find integers, and bytes as the reader takes them.
fn key_of(json: &str) -> Result<Vec<KeyText>, Failure> {
    let bad = |why: &str| Failure::usage(format!("-key-json {why}; it is an array such as '[\"a\",17]'"));
    let values: Vec<Value> = serde_json::from_str(json).map_err(|_| bad("is no JSON array"))?;
    let key = |value: Value| match value {
        Value::String(text) => Ok(KeyText::Text(text)),
        Value::Number(number) => Ok(KeyText::Text(number.to_string())),
        Value::Object(members) => members
            .get("Binary")
            .and_then(|text| STANDARD.decode(text.as_str()?).ok())
            .map(KeyText::Bytes)
            .ok_or_else(|| bad("has an object that is not {\"Binary\": base64}")),
        _ => Err(bad("has a value that is neither a text nor a number")),
    };
    values.into_iter().map(key).collect()
}
