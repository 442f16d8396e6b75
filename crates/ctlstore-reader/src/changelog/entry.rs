//! One entry of the changelog, as programs see it.

use serde::Deserialize;
use serde_json::Value;

/// A row that was inserted, changed or deleted.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Counts the entries by one.
    pub seq: u64,
    pub family: String,
    pub table: String,
    /// The columns of the primary key, in the table's column order.
    pub key: Vec<KeyColumn>,
    /// The ledger row that changed it; `None` in a changelog of the original.
    pub ledger_seq: Option<i64>,
}

/// One column of a key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct KeyColumn {
    pub name: String,
    /// As the table declares it, such as `VARCHAR(191)`.
    #[serde(rename = "type")]
    pub declared: String,
    /// A string, a number or null; bytes are padded base64.
    pub value: Value,
}
