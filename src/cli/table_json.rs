//! A table's definition in JSON, as the executive's API, exports and schema files have it. Entry points:
//! [`TableJson`], and the functions that ask an executive for tables or create them.

use std::collections::BTreeSet;

use reqwest::Method;
use serde::{Deserialize, Serialize};

use ctlstore_core::schema::{FamilyName, Field, FieldName, FieldType, TableRef, TableSchema};

use super::client::{self, ServerClient};
use super::failure::{Exit, Failure};

/// The form that `/schema` answers and `POST /tables` accepts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableJson {
    pub family: String,
    pub name: String,
    #[serde(deserialize_with = "client::or_empty")]
    pub fields: Vec<(String, String)>,
    #[serde(deserialize_with = "client::or_empty")]
    pub key_fields: Vec<String>,
}

impl From<&TableSchema> for TableJson {
    fn from(schema: &TableSchema) -> Self {
        let pair = |field: &Field| (field.name.to_string(), field.field_type.api_name().to_owned());
        Self {
            family: schema.table().family.to_string(),
            name: schema.table().table.to_string(),
            fields: schema.fields().iter().map(pair).collect(),
            key_fields: schema.key_fields().map(|field| field.name.to_string()).collect(),
        }
    }
}

impl TableJson {
    /// The definition, checked.
    pub fn schema(&self) -> Result<TableSchema, String> {
        let table = TableRef::parse(&self.family, &self.name).map_err(|error| error.to_string())?;
        let field = |(name, field_type): &(String, String)| {
            let name = FieldName::new(name).map_err(|error| error.to_string())?;
            let field_type = FieldType::from_api_name(field_type)
                .ok_or_else(|| format!("table {table}: field {name}: no type {field_type:?}"))?;
            Ok::<_, String>(Field { name, field_type })
        };
        let fields = self.fields.iter().map(field).collect::<Result<_, _>>()?;
        let key: Vec<FieldName> = self
            .key_fields
            .iter()
            .map(|name| FieldName::new(name))
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        TableSchema::new(table, fields, &key).map_err(|error| error.to_string())
    }
}

/// All tables of a family that an executive has; none for an unknown family.
pub async fn family_of(executive: &ServerClient, family: &FamilyName) -> Result<Vec<TableSchema>, Failure> {
    let answer = executive.ask(executive.request(Method::GET, &["schema", "family", family.as_str()])).await?;
    answer.json::<Option<Vec<TableJson>>>()?.unwrap_or_default().iter().map(of_server).collect()
}

/// One table that an executive has.
pub async fn table_of(executive: &ServerClient, table: &TableRef) -> Result<TableSchema, Failure> {
    let path = ["schema", "table", table.family.as_str(), table.table.as_str()];
    of_server(&executive.ask(executive.request(Method::GET, &path)).await?.json()?)
}

fn of_server(shape: &TableJson) -> Result<TableSchema, Failure> {
    shape.schema().map_err(|error| Failure::new(Exit::Failed, format!("the executive's schema: {error}")))
}

/// Creates the family; false if it exists already.
pub async fn create_family(executive: &ServerClient, family: &FamilyName) -> Result<bool, Failure> {
    let answer = executive.send(executive.request(Method::POST, &["families", family.as_str()])).await?;
    match answer.status {
        reqwest::StatusCode::CONFLICT => Ok(false),
        _ => answer.success().map(|_| true),
    }
}

/// Asks to create a table. The caller judges the answer.
pub async fn create_table(
    executive: &ServerClient,
    schema: &TableSchema,
) -> Result<super::client::ServerAnswer, Failure> {
    let shape = TableJson::from(schema);
    let table = schema.table();
    let body = serde_json::json!({ "fields": shape.fields, "keyFields": shape.key_fields });
    let path = ["families", table.family.as_str(), "tables", table.table.as_str()];
    executive.send(executive.request(Method::POST, &path).json(&body)).await
}

/// Adds fields to a table.
pub async fn add_fields(
    executive: &ServerClient,
    table: &TableRef,
    fields: &[Field],
) -> Result<super::client::ServerAnswer, Failure> {
    let pairs: Vec<(&str, &str)> = fields.iter().map(|f| (f.name.as_str(), f.field_type.api_name())).collect();
    let path = ["families", table.family.as_str(), "tables", table.table.as_str()];
    executive.ask(executive.request(Method::PUT, &path).json(&serde_json::json!({ "fields": pairs }))).await
}

/// Whether an executive tells a key's columns in the key's order. One of the original tells
/// them in the table's order, and has no document of its routes.
pub async fn tells_key_order(executive: &ServerClient) -> Result<bool, Failure> {
    let answer = executive.send(executive.request(Method::GET, &["openapi.json"])).await?;
    Ok(answer.status != reqwest::StatusCode::NOT_FOUND)
}

/// Whether the executive's table has at least the fields of `wanted`, and the same key.
pub async fn covers_at(executive: &ServerClient, there: &TableSchema, wanted: &TableSchema) -> Result<bool, Failure> {
    let is_covered = |ordered| covers(there, wanted, ordered);
    Ok(is_covered(true) || (is_covered(false) && !tells_key_order(executive).await?))
}

/// Whether `there` has at least the fields of `wanted`, and the same key; in the same order
/// only if the order of both keys is known.
pub fn covers(there: &TableSchema, wanted: &TableSchema, key_order: bool) -> bool {
    let fields: BTreeSet<(&FieldName, &str)> =
        there.fields().iter().map(|f| (&f.name, f.field_type.api_name())).collect();
    is_same_key(there, wanted, key_order)
        && wanted.fields().iter().all(|f| fields.contains(&(&f.name, f.field_type.api_name())))
}

/// Whether two tables have one key.
pub fn is_same_key(one: &TableSchema, other: &TableSchema, key_order: bool) -> bool {
    let names = |schema: &TableSchema| {
        let mut names: Vec<String> = schema.key_fields().map(|field| field.name.to_string()).collect();
        if !key_order {
            names.sort();
        }
        names
    };
    names(one) == names(other)
}
