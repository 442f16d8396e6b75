//! Families and tables over HTTP.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path, Payload};
use serde::Serialize;

use crate::executive::{
    AddFields, ClearFamily, ClearTable, CreateFamily, CreateTables, DropTable, ReadFamily, ReadTable,
};
use crate::http::error::HttpError;
use crate::http::json::Members;
use crate::http::{body, json};
use crate::schema::{FamilyName, Field, FieldName, FieldType, TableRef, TableSchema};

use super::{Api, done, written};

/// Family and table as they stand in the path.
type InPath = Path<(String, String)>;

fn table_in(path: &InPath) -> Result<TableRef, HttpError> {
    TableRef::parse(&path.0, &path.1).map_err(HttpError::bad_request)
}

pub(super) async fn create_family(api: Data<Api>, family: Path<String>) -> Result<HttpResponse, HttpError> {
    let family = FamilyName::new(&family).map_err(HttpError::bad_request)?;
    api.ask(&api.to.create_family, CreateFamily(family)).await?;
    Ok(done())
}

pub(super) async fn create(api: Data<Api>, path: InPath, body: Payload) -> Result<HttpResponse, HttpError> {
    let table = table_in(&path)?;
    let definition: Members = json::parse(&body::read(body).await?)?;
    let tables = CreateTables(vec![schema(table, &definition)?]);
    Ok(written(api.ask(&api.to.create_tables, tables).await?))
}

pub(super) async fn create_many(api: Data<Api>, body: Payload) -> Result<HttpResponse, HttpError> {
    let definitions: Option<Vec<Members>> = json::parse(&body::read(body).await?)?;
    let mut tables = Vec::new();
    for definition in definitions.unwrap_or_default() {
        let (family, name): (String, String) = (definition.required("family")?, definition.required("name")?);
        let table = TableRef::parse(&family, &name).map_err(HttpError::bad_request)?;
        tables.push(schema(table, &definition)?);
    }
    Ok(written(api.ask(&api.to.create_tables, CreateTables(tables)).await?))
}

pub(super) async fn add_fields(api: Data<Api>, path: InPath, body: Payload) -> Result<HttpResponse, HttpError> {
    let table = table_in(&path)?;
    let definition: Members = json::parse(&body::read(body).await?)?;
    let request = AddFields::new(table, fields(&definition)?)?;
    Ok(written(api.ask(&api.to.add_fields, request).await?))
}

pub(super) async fn drop(api: Data<Api>, path: InPath) -> Result<HttpResponse, HttpError> {
    Ok(written(api.ask(&api.to.drop_table, DropTable(table_in(&path)?)).await?))
}

pub(super) async fn clear(api: Data<Api>, path: InPath) -> Result<HttpResponse, HttpError> {
    Ok(written(api.ask(&api.to.clear_table, ClearTable(table_in(&path)?)).await?))
}

pub(super) async fn clear_family(api: Data<Api>, family: Path<String>) -> Result<HttpResponse, HttpError> {
    let family = FamilyName::new(&family).map_err(HttpError::bad_request)?;
    Ok(written(api.ask(&api.to.clear_family, ClearFamily(family)).await?))
}

pub(super) async fn read(api: Data<Api>, path: InPath) -> Result<HttpResponse, HttpError> {
    let schema = api.ask(&api.to.read_table, ReadTable(table_in(&path)?)).await?;
    json::answer(&Shown::from(&schema))
}

pub(super) async fn read_family(api: Data<Api>, family: Path<String>) -> Result<HttpResponse, HttpError> {
    let family = FamilyName::new(&family).map_err(HttpError::bad_request)?;
    let schemas = api.ask(&api.to.read_family, ReadFamily(family)).await?;
    json::answer(&schemas.iter().map(Shown::from).collect::<Vec<_>>())
}

/// A table's definition from its members `fields` and `keyFields`.
fn schema(table: TableRef, definition: &Members) -> Result<TableSchema, HttpError> {
    let fields = fields(definition)?;
    let names: Vec<String> = definition.optional("keyfields")?.unwrap_or_default();
    let key: Vec<FieldName> =
        names.iter().map(|name| FieldName::new(name)).collect::<Result<_, _>>().map_err(HttpError::bad_request)?;
    TableSchema::new(table, fields, &key).map_err(HttpError::bad_request)
}

/// `[["name","type"],…]`; none where the member is absent.
fn fields(definition: &Members) -> Result<Vec<Field>, HttpError> {
    let pairs: Vec<Vec<String>> = definition.optional("fields")?.unwrap_or_default();
    pairs.iter().map(|pair| field(pair)).collect()
}

fn field(pair: &[String]) -> Result<Field, HttpError> {
    let [name, type_name] = pair else {
        return Err(HttpError::bad_request(format!("a field is a name and a type, not {} strings", pair.len())));
    };
    let name = FieldName::new(name).map_err(HttpError::bad_request)?;
    let field_type = FieldType::from_api_name(type_name).ok_or_else(|| {
        let shown: String = type_name.chars().take(40).collect();
        HttpError::bad_request(format!("field {name}: no type {shown:?}"))
    })?;
    Ok(Field { name, field_type })
}

/// A table as `/schema` shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    family: &'a str,
    name: &'a str,
    fields: Vec<(&'a str, &'static str)>,
    key_fields: Vec<&'a str>,
}

impl<'a> From<&'a TableSchema> for Shown<'a> {
    fn from(schema: &'a TableSchema) -> Self {
        Self {
            family: schema.table().family.as_str(),
            name: schema.table().table.as_str(),
            fields: schema.fields().iter().map(|f| (f.name.as_str(), f.field_type.api_name())).collect(),
            key_fields: schema.key_fields().map(|f| f.name.as_str()).collect(),
        }
    }
}
