//! `create-family`, `create-table` and `add-fields`: make schemas from flags, at an executive.

use clap::Args;
use reqwest::StatusCode;

use ctlstore_core::schema::{FamilyName, Field, FieldName, TableName, TableSchema};

use super::args::{self, ExecutiveArg, FamilyArg, TableArg};
use super::failure::Failure;
use super::output::say;
use super::{client, table_json};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ctlstore create-family shop\n\nA family that exists stays as it is.")]
pub struct CreateFamilyArgs {
    #[command(flatten)]
    executive: ExecutiveArg,
    /// The new family: letters, digits and single underscores, 3 to 30 characters
    #[arg(value_name = "NAME")]
    name: FamilyName,
}

impl CreateFamilyArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        client::run(async {
            if !table_json::create_family(&self.executive.client()?, &self.name).await? {
                say(&format!("family {} exists already", self.name))?;
            }
            Ok(())
        })
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ctlstore create-table -f shop --field name:string --field on:integer --key-field name flags

Types: string (191 characters), integer, decimal, text, binary, bytestring (255 bytes).
String, integer and bytestring can be keys. A table that exists with these fields and
this key stays as it is.")]
pub struct CreateTableArgs {
    #[command(flatten)]
    executive: ExecutiveArg,
    #[command(flatten)]
    family: FamilyArg,
    /// A field, in the table's order; given once for each field
    #[arg(long = "field", value_name = "NAME:TYPE", value_parser = args::field, required = true)]
    fields: Vec<Field>,
    /// A field of the key, in the key's order; given once for each field
    #[arg(long = "key-field", value_name = "NAME", required = true)]
    key_fields: Vec<FieldName>,
    /// The new table's name within its family
    #[arg(value_name = "NAME")]
    name: TableName,
}

impl CreateTableArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        let table = args::table_ref(&self.family.family, &self.name)?;
        let schema = TableSchema::new(table, self.fields.clone(), &self.key_fields)
            .map_err(|error| Failure::usage(error.to_string()))?;
        client::run(async {
            let executive = self.executive.client()?;
            let answer = table_json::create_table(&executive, &schema).await?;
            if answer.status != StatusCode::CONFLICT {
                answer.success()?;
                return Ok(());
            }
            let there = table_json::table_of(&executive, schema.table()).await?;
            if !table_json::covers_at(&executive, &there, &schema).await? {
                let table = schema.table();
                return Err(Failure::refused(format!("table {table} exists with other fields or another key")).into());
            }
            say(&format!("table {} exists already", schema.table()))
        })
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ctlstore add-fields -f shop -t flags --field note:text")]
pub struct AddFieldsArgs {
    #[command(flatten)]
    executive: ExecutiveArg,
    #[command(flatten)]
    table: TableArg,
    /// A new field; given once for each field
    #[arg(long = "field", value_name = "NAME:TYPE", value_parser = args::field, required = true)]
    fields: Vec<Field>,
}

impl AddFieldsArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        let table = self.table.table()?;
        client::run(async {
            table_json::add_fields(&self.executive.client()?, &table, &self.fields).await?;
            Ok(())
        })
    }
}
