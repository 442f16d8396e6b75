//! The routes for families and tables. Their requests are in `tables.rs` of `ctlstore_ctldb::executive`.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::http::body::Incoming;
use crate::http::error::HttpError;
use crate::http::json;
use crate::http::json::Members;
use crate::http::openapi::{Operation, delete, get, post, put, shapes};
use ctlstore_core::schema::{FamilyName, Field, FieldName, FieldType, TableRef, TableSchema};
use ctlstore_ctldb::executive::{
    AddFields, ClearFamily, ClearTable, CreateFamily, CreateTables, DropTable, ReadFamily, ReadTable,
};

use super::api::{Api, asking, done, writing, written};

pub(super) fn operations() -> Vec<Operation> {
    let table = || json!({"fields": [["country", "string"], ["item", "integer"]], "keyFields": ["country"]});
    let named = || {
        let mut named = table();
        named["family"] = "shop".into();
        named["name"] = "prices".into();
        named
    };
    let changed = "the table was changed by hand, so that it is not what the ledger says";
    let clearing = "destructive changes are not enabled, or a bad name";
    vec![
        post("/families/{family}", "Creates a family", create_family)
            .gives_nothing("it exists now")
            .refuses(400, "bad name")
            .refuses(409, "it exists already")
            .with(asking),
        post("/families/{family}/tables/{table}", "Creates a table", create)
            .takes_json::<Definition>("fields in their order, and those of the key", table())
            .with(definition)
            .with(writing),
        put("/families/{family}/tables/{table}", "Adds fields to a table", add_fields)
            .describe("One transaction for each field. A conflict stops it; the answer says which were added.")
            .takes_json::<MoreFields>("fields in their order", json!({"fields": [["cents", "integer"]]}))
            .refuses(400, "not json, bad name, no fields, or a bad one")
            .refuses(404, "no such table")
            .refuses(409, "the field exists already, or the table was changed by hand")
            .with(writing),
        delete("/families/{family}/tables/{table}", "Drops a table", drop)
            .refuses(400, clearing)
            .refuses(404, "no such table")
            .refuses(409, changed)
            .with(writing),
        post("/tables", "Creates tables, in order", create_many)
            .describe("The first conflict stops it; the answer names the tables that were created before.")
            .takes_json::<Option<Vec<NamedDefinition>>>("the tables", json!([named()]))
            .with(definition)
            .with(writing),
        delete("/clear-rows/families/{family}", "Deletes all rows of a family", clear_family)
            .refuses(400, clearing)
            .refuses(404, "no such family")
            .refuses(409, changed)
            .with(writing),
        delete("/clear-rows/families/{family}/tables/{table}", "Deletes all rows of a table", clear)
            .refuses(400, clearing)
            .refuses(404, "no such table")
            .refuses(409, changed)
            .with(writing),
        get("/schema/table/{family}/{table}", "A table's fields", read)
            .gives_json::<Shown>("the table", named())
            .refuses(400, "bad name")
            .refuses(404, "no such table")
            .refuses(409, changed)
            .with(asking),
        get("/schema/family/{family}", "The fields of a family's tables", read_family)
            .gives_json::<Vec<Shown>>("the tables; none of a family that does not exist", json!([named()]))
            .refuses(400, "bad name")
            .with(asking),
    ]
    .into_iter()
    .map(|operation| operation.tag("tables"))
    .collect()
}

/// Describes the refusals of a table's definition.
fn definition(operation: Operation) -> Operation {
    operation
        .refuses(
            400,
            "not json, bad name, unknown type, no key or one that can't be, or a table that the ctldb can't hold",
        )
        .refuses(404, "no such family")
        .refuses(409, "the table exists already, or was made or changed by hand")
}

/// Family and table in the path.
type InPath = Path<(String, String)>;

fn table_in(path: &InPath) -> Result<TableRef, HttpError> {
    TableRef::parse(&path.0, &path.1).map_err(HttpError::bad_request)
}

pub(super) async fn create_family(api: Data<Api>, family: Path<String>) -> Result<HttpResponse, HttpError> {
    let family = FamilyName::new(&family).map_err(HttpError::bad_request)?;
    api.ask(CreateFamily(family)).await?;
    Ok(done())
}

pub(super) async fn create(api: Data<Api>, path: InPath, body: Incoming) -> Result<HttpResponse, HttpError> {
    let table = table_in(&path)?;
    let definition: Members = json::parse(&body.read().await?)?;
    let tables = CreateTables(vec![schema(table, &definition)?]);
    Ok(written(api.ask(tables).await?))
}

pub(super) async fn create_many(api: Data<Api>, body: Incoming) -> Result<HttpResponse, HttpError> {
    let definitions: Option<Vec<Members>> = json::parse(&body.read().await?)?;
    let mut tables = Vec::new();
    for definition in definitions.unwrap_or_default() {
        let family: String = definition.required("family")?;
        let name: String = definition.required("name")?;
        let table = TableRef::parse(&family, &name).map_err(HttpError::bad_request)?;
        tables.push(schema(table, &definition)?);
    }
    Ok(written(api.ask(CreateTables(tables)).await?))
}

pub(super) async fn add_fields(api: Data<Api>, path: InPath, body: Incoming) -> Result<HttpResponse, HttpError> {
    let table = table_in(&path)?;
    let definition: Members = json::parse(&body.read().await?)?;
    let request = AddFields::new(table, fields(&definition)?)?;
    Ok(written(api.ask(request).await?))
}

pub(super) async fn drop(api: Data<Api>, path: InPath) -> Result<HttpResponse, HttpError> {
    Ok(written(api.ask(DropTable(table_in(&path)?)).await?))
}

pub(super) async fn clear(api: Data<Api>, path: InPath) -> Result<HttpResponse, HttpError> {
    Ok(written(api.ask(ClearTable(table_in(&path)?)).await?))
}

pub(super) async fn clear_family(api: Data<Api>, family: Path<String>) -> Result<HttpResponse, HttpError> {
    let family = FamilyName::new(&family).map_err(HttpError::bad_request)?;
    Ok(written(api.ask(ClearFamily(family)).await?))
}

pub(super) async fn read(api: Data<Api>, path: InPath) -> Result<HttpResponse, HttpError> {
    let schema = api.ask(ReadTable(table_in(&path)?)).await?;
    json::answer(&Shown::from(&schema))
}

pub(super) async fn read_family(api: Data<Api>, family: Path<String>) -> Result<HttpResponse, HttpError> {
    let family = FamilyName::new(&family).map_err(HttpError::bad_request)?;
    let schemas = api.ask(ReadFamily(family)).await?;
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

/// Reads the fields from `[["name","type"],…]`. None if the member is absent.
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

/// A table with its fields, in their order.
#[derive(Serialize, ToSchema)]
#[schema(as = Table)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    family: &'a str,
    name: &'a str,
    /// Name and type.
    #[schema(schema_with = shapes::fields)]
    fields: Vec<(&'a str, &'static str)>,
    /// In the key's order.
    key_fields: Vec<&'a str>,
}

/// A table of its fields, in their order, and those of its key.
#[derive(ToSchema)]
#[schema(as = TableDefinition, rename_all = "camelCase")]
#[expect(dead_code, reason = "read member by member")]
struct Definition {
    /// Name and type of each.
    #[schema(schema_with = shapes::fields)]
    fields: Vec<Vec<String>>,
    /// In the key's order.
    #[schema(schema_with = shapes::key_fields)]
    key_fields: Vec<String>,
}

#[derive(ToSchema)]
#[schema(as = NamedTableDefinition, rename_all = "camelCase")]
#[expect(dead_code, reason = "read member by member")]
struct NamedDefinition {
    #[schema(schema_with = shapes::family)]
    family: String,
    #[schema(schema_with = shapes::table)]
    name: String,
    /// Name and type of each.
    #[schema(schema_with = shapes::fields)]
    fields: Vec<Vec<String>>,
    /// In the key's order.
    #[schema(schema_with = shapes::key_fields)]
    key_fields: Vec<String>,
}

/// More fields, in their order.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read member by member")]
struct MoreFields {
    /// Name and type of each.
    #[schema(schema_with = shapes::fields)]
    fields: Vec<Vec<String>>,
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
