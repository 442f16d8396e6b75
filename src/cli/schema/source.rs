//! Reads table definitions from an executive, an LDB, a schema file or an export. Entry point:
//! [`TableSource`].

use std::convert::Infallible;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;

use crate::http::json_error::explain;
use ctlstore_core::schema::{FamilyName, TableSchema};

use super::super::client::ServerClient;
use super::super::export::ExportHeader;
use super::super::failure::Failure;
use super::super::ldb;
use super::super::table_json::{self, TableJson};

/// The largest schema file, in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// A place that has table definitions.
#[derive(Debug, Clone)]
pub enum TableSource {
    Executive(String),
    /// An LDB, the output of `schema show`, or an export.
    File(PathBuf),
}

impl FromStr for TableSource {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_url = text.starts_with("http://") || text.starts_with("https://");
        Ok(if is_url { Self::Executive(text.to_owned()) } else { Self::File(PathBuf::from(text)) })
    }
}

pub fn executive(url: &str) -> anyhow::Result<ServerClient> {
    ServerClient::new("executive", "its URL", url)
}

impl TableSource {
    /// The tables of these families. If none is named, all of a file; an executive can't list all.
    pub async fn tables(&self, families: &[FamilyName]) -> anyhow::Result<Vec<TableSchema>> {
        match self {
            Self::File(path) => tables_in(path, families),
            Self::Executive(url) => tables_at(&executive(url)?, families).await,
        }
    }
}

impl TableSource {
    /// Whether it tells the order of a key.
    pub async fn tells_key_order(&self) -> anyhow::Result<bool> {
        match self {
            Self::File(_) => Ok(true),
            Self::Executive(url) => Ok(table_json::tells_key_order(&executive(url)?).await?),
        }
    }
}

pub async fn tables_at(executive: &ServerClient, families: &[FamilyName]) -> anyhow::Result<Vec<TableSchema>> {
    if families.is_empty() {
        return Err(Failure::usage("an executive must be told which families: give --family").into());
    }
    let mut tables = Vec::new();
    for family in families {
        tables.extend(table_json::family_of(executive, family).await?);
    }
    Ok(tables)
}

fn tables_in(path: &Path, families: &[FamilyName]) -> anyhow::Result<Vec<TableSchema>> {
    let shown = path.display();
    let mut file = File::open(path)
        .map_err(|error| Failure::absent(format!("{shown}: {error} (an executive is named by http://host:port)")))?;
    let mut start = Vec::new();
    (&mut file).take(SQLITE_MAGIC.len() as u64).read_to_end(&mut start).with_context(|| shown.to_string())?;
    let tables = if start == SQLITE_MAGIC {
        ldb::read(path, |ldb| ldb::tables(ldb, None))?
    } else {
        let mut text = start;
        file.take(MAX_FILE).read_to_end(&mut text).with_context(|| shown.to_string())?;
        let wrong = |why: String| Failure::usage(format!("{shown} is no schema file: {why}"));
        let shapes = shapes(&text).map_err(|error| wrong(explain(&error)))?;
        shapes.iter().map(TableJson::schema).collect::<Result<_, _>>().map_err(wrong)?
    };
    let wanted = |schema: &TableSchema| families.is_empty() || families.contains(&schema.table().family);
    Ok(tables.into_iter().filter(wanted).collect())
}

/// All tables of a file of `schema show`, or of an export's first line. The rest of an export is not
/// read.
fn shapes(text: &[u8]) -> serde_json::Result<Vec<TableJson>> {
    let text = text.trim_ascii_start();
    if text.starts_with(b"[") {
        return serde_json::from_slice(text);
    }
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    serde_json::from_slice::<ExportHeader>(first).map(|head| head.tables)
}
