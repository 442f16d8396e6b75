//! The changes that give one place the tables of another. Entry points: [`changes`] finds them, and
//! [`Change::apply`] makes one.

use std::fmt;

use serde_json::json;

use ctlstore_core::schema::{Field, TableRef, TableSchema};

use super::super::client::ServerClient;
use super::super::table_json::{self, TableJson};

/// A table or field that is missing, or that can't be made.
pub enum Change {
    CreateTable(TableSchema),
    AddField(TableRef, Field),
    Conflict(TableRef, String),
}

/// The changes for one table. Keys are compared with their order if it is known of both.
pub fn changes(wanted: TableSchema, there: &[TableSchema], key_order: bool) -> Vec<Change> {
    let Some(there) = there.iter().find(|schema| schema.table() == wanted.table()) else {
        return vec![Change::CreateTable(wanted)];
    };
    let table = wanted.table();
    let key = |schema: &TableSchema| schema.key_fields().map(|f| f.name.to_string()).collect::<Vec<_>>().join(",");
    let mut changes = Vec::new();
    if !table_json::is_same_key(&wanted, there, key_order) {
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

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateTable(schema) => {
                let TableJson { fields, key_fields, .. } = TableJson::from(schema);
                let fields: Vec<String> = fields.into_iter().map(|(name, of)| format!("{name}:{of}")).collect();
                write!(f, "+ table {}: {}; key {}", schema.table(), fields.join(" "), key_fields.join(","))
            }
            Self::AddField(table, field) => write!(f, "+ field of {table}: {}:{}", field.name, field.field_type),
            Self::Conflict(table, why) => write!(f, "! table {table}: {why}"),
        }
    }
}

impl Change {
    pub fn json(&self) -> serde_json::Value {
        match self {
            Self::CreateTable(schema) => json!({ "change": "create-table", "table": TableJson::from(schema) }),
            Self::AddField(table, field) => {
                let pair = (&field.name, field.field_type.api_name());
                json!({ "change": "add-field", "family": table.family, "name": table.table, "field": pair })
            }
            Self::Conflict(table, why) => {
                json!({ "change": "conflict", "family": table.family, "name": table.table, "reason": why })
            }
        }
    }

    /// Makes the change at an executive.
    pub async fn apply(&self, target: &ServerClient) -> anyhow::Result<()> {
        match self {
            Self::CreateTable(schema) => {
                table_json::create_family(target, &schema.table().family).await?;
                table_json::create_table(target, schema).await?.success()?;
            }
            Self::AddField(table, field) => {
                table_json::add_fields(target, table, std::slice::from_ref(field)).await?;
            }
            // If there is a conflict, nothing is applied.
            Self::Conflict(..) => {}
        }
        Ok(())
    }
}
