//! The requests on families and tables: create, add fields, read, clear, drop. Routes for them are in
//! `http/executive/tables.rs` of the node.
//!
//! Each step of a request is a ledger transaction of its own. Everything that can be checked beforehand is
//! checked before the first step, so that bad input changes nothing.

use std::time::Instant;

use crate::ctldb::{Ctldb, CtldbError, CtldbOperation, SchemaChange, Session};
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::{FamilyName, Field, TableRef, TableSchema};
use ctlstore_core::sql;

use super::error::{ExecutiveError, Refusal};
use super::request::{Executive, OperationRequest, Request, RequestAnswer};

/// Creates a family. The ledger has no families.
#[derive(Debug)]
pub struct CreateFamily(pub FamilyName);

impl OperationRequest for CreateFamily {
    type Reply = ();
}

impl CtldbOperation for CreateFamily {
    type Output = Result<(), Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        let is_new = session.insert_family(&self.0).await?;
        Ok(if is_new { Ok(()) } else { Err(Refusal::FamilyExists(self.0.clone())) })
    }
}

/// Creates tables in order, and stops at the first that exists. The answer is the last seq, `None` without
/// tables.
#[derive(Debug)]
pub struct CreateTables(pub Vec<TableSchema>);

impl Request for CreateTables {
    type Answer = Option<Seq>;

    async fn execute<C: Ctldb>(
        self,
        executive: &Executive<C>,
        deadline: Instant,
    ) -> Result<Option<Seq>, ExecutiveError> {
        for (index, table) in self.0.iter().enumerate() {
            check_not_reserved(table.table(), table.fields())?;
            if self.0[..index].iter().any(|other| other.table() == table.table()) {
                return Err(Refusal::TableTwice(table.table().clone()).into());
            }
        }
        let families = self.0.iter().map(|table| table.table().family.clone()).collect();
        executive.read(FamiliesExist(families), deadline).await?;
        let names = self.0.iter().map(|table| table.table().sql_name()).collect();
        write_steps(executive, names, self.0.into_iter().map(CreateTable), deadline).await
    }
}

/// Runs the steps in order, each in a transaction of its own, and returns the last seq. If a step fails, the
/// error says by `names` how far the request got.
async fn write_steps<C, O>(
    executive: &Executive<C>,
    names: Vec<String>,
    steps: impl Iterator<Item = O>,
    deadline: Instant,
) -> Result<Option<Seq>, ExecutiveError>
where
    C: Ctldb,
    O: CtldbOperation<Output = Result<Option<Seq>, Refusal>>,
{
    let mut last = None;
    for (index, step) in steps.enumerate() {
        let seq = executive.write(step, deadline).await.map_err(|error| error.at_step(&names, index))?;
        last = seq.or(last);
    }
    Ok(last)
}

struct FamiliesExist(Vec<FamilyName>);

impl CtldbOperation for FamiliesExist {
    type Output = Result<(), Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        for (index, family) in self.0.iter().enumerate() {
            if !self.0[..index].contains(family) && !session.family_exists(family).await? {
                return Ok(Err(Refusal::NoFamily(family.clone())));
            }
        }
        Ok(Ok(()))
    }
}

struct CreateTable(TableSchema);

impl CtldbOperation for CreateTable {
    type Output = Result<Option<Seq>, Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        let table = self.0.table();
        let statement = sql::create_table(&self.0);
        if let Some(seq) = session.finished(&statement) {
            return Ok(Ok(Some(seq)));
        }
        if !session.family_exists(&table.family).await? {
            return Ok(Err(Refusal::NoFamily(table.family.clone())));
        }
        if session.table(table).await?.is_some() {
            return Ok(Err(Refusal::TableExists(table.clone())));
        }
        let seq = session.alter(&SchemaChange::CreateTable(self.0.clone()), &statement).await?;
        Ok(Ok(Some(seq)))
    }
}

/// Adds fields in order, and stops at the first that exists. The answer is the last seq.
#[derive(Debug)]
pub struct AddFields {
    table: TableRef,
    fields: Vec<Field>,
}

impl AddFields {
    pub fn new(table: TableRef, fields: Vec<Field>) -> Result<Self, Refusal> {
        if fields.is_empty() {
            return Err(Refusal::NoFields(table));
        }
        check_not_reserved(&table, &fields)?;
        for (index, field) in fields.iter().enumerate() {
            if fields[..index].iter().any(|other| other.name == field.name) {
                return Err(Refusal::FieldTwice { table: table.sql_name(), field: field.name.to_string() });
            }
        }
        Ok(Self { table, fields })
    }
}

impl Request for AddFields {
    type Answer = Option<Seq>;

    async fn execute<C: Ctldb>(
        self,
        executive: &Executive<C>,
        deadline: Instant,
    ) -> Result<Option<Seq>, ExecutiveError> {
        let names = self.fields.iter().map(|field| field.name.to_string()).collect();
        let steps = self.fields.into_iter().map(|field| AddField { table: self.table.clone(), field });
        write_steps(executive, names, steps, deadline).await
    }
}

struct AddField {
    table: TableRef,
    field: Field,
}

impl CtldbOperation for AddField {
    type Output = Result<Option<Seq>, Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        let Self { table, field } = self;
        let statement = sql::add_column(table, field);
        if let Some(seq) = session.finished(&statement) {
            return Ok(Ok(Some(seq)));
        }
        // The operator may just have repaired the table after a refusal.
        let Some(stored) = session.table_again(table).await? else {
            return Ok(Err(missing(session, table).await?));
        };
        if stored.schema.position(&field.name).is_some() {
            return Ok(Err(Refusal::FieldExists { table: table.clone(), field: field.name.clone() }));
        }
        if stored.extra_columns.iter().any(|extra| extra == field.name.as_str()) {
            let reason = format!("the ctldb has a column {}, which the ledger has not", field.name);
            return Ok(Err(Refusal::ChangedByHand { table: table.clone(), reason }));
        }
        let change = SchemaChange::AddColumn(table.clone(), field.clone());
        let seq = session.alter(&change, &statement).await?;
        Ok(Ok(Some(seq)))
    }
}

/// Refuses names that InnoDB reserves, on every kind of ctldb: a table may move from one kind to another.
fn check_not_reserved(table: &TableRef, fields: &[Field]) -> Result<(), Refusal> {
    match fields.iter().find(|field| field.name.is_reserved_by_innodb()) {
        Some(field) => Err(Refusal::ReservedField { table: table.clone(), field: field.name.clone() }),
        None => Ok(()),
    }
}

/// The refusal for a table that does not exist: its family may not exist either.
async fn missing<S: Session>(session: &mut S, table: &TableRef) -> Result<Refusal, CtldbError> {
    let family_exists = session.family_exists(&table.family).await?;
    Ok(if family_exists { Refusal::NoTable(table.clone()) } else { Refusal::NoFamily(table.family.clone()) })
}

/// Drops a table. The answer is the statement's seq.
#[derive(Debug)]
pub struct DropTable(pub TableRef);

impl OperationRequest for DropTable {
    type Reply = Option<Seq>;
    const IS_DESTRUCTIVE: bool = true;
}

impl CtldbOperation for DropTable {
    type Output = Result<Option<Seq>, Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        let statement = sql::drop_table(&self.0);
        if let Some(seq) = session.finished(&statement) {
            return Ok(Ok(Some(seq)));
        }
        if session.table(&self.0).await?.is_none() {
            return Ok(Err(missing(session, &self.0).await?));
        }
        let seq = session.alter(&SchemaChange::DropTable(self.0.clone()), &statement).await?;
        Ok(Ok(Some(seq)))
    }
}

/// Deletes every row of a table. The answer is the statement's seq.
#[derive(Debug)]
pub struct ClearTable(pub TableRef);

impl OperationRequest for ClearTable {
    type Reply = Option<Seq>;
    const IS_DESTRUCTIVE: bool = true;
}

impl CtldbOperation for ClearTable {
    type Output = Result<Option<Seq>, Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        match clear(session, &self.0).await? {
            Some(seq) => Ok(Ok(Some(seq))),
            None => Ok(Err(missing(session, &self.0).await?)),
        }
    }
}

/// Deletes every row of a table, and returns the statement's seq. `None` if there is no such table.
async fn clear<S: Session>(session: &mut S, table: &TableRef) -> Result<Option<Seq>, CtldbError> {
    if session.table(table).await?.is_none() {
        return Ok(None);
    }
    session.clear(table).await?;
    session.append(&[sql::clear_table(table)]).await.map(Some)
}

/// Clears every table of a family, one by one. The answer is the last seq, `None` for a family without
/// tables.
#[derive(Debug)]
pub struct ClearFamily(pub FamilyName);

impl Request for ClearFamily {
    type Answer = Option<Seq>;

    async fn execute<C: Ctldb>(
        self,
        executive: &Executive<C>,
        deadline: Instant,
    ) -> Result<Option<Seq>, ExecutiveError> {
        executive.check_destructive()?;
        let tables = executive.read(TablesToClear(self.0), deadline).await?;
        let names = tables.iter().map(TableRef::sql_name).collect();
        write_steps(executive, names, tables.into_iter().map(ClearListedTable), deadline).await
    }
}

struct TablesToClear(FamilyName);

impl CtldbOperation for TablesToClear {
    type Output = Result<Vec<TableRef>, Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        if !session.family_exists(&self.0).await? {
            return Ok(Err(Refusal::NoFamily(self.0.clone())));
        }
        // A table that can't be written to would keep its rows, and the answer would not show it.
        if let Some(fault) = session.faulty_tables_of(&self.0).await?.into_iter().next() {
            return match TableRef::from_sql_name(&fault.table) {
                Ok(table) => Ok(Err(Refusal::ChangedByHand { table, reason: fault.reason })),
                Err(error) => Err(CtldbError::Schema(error.to_string())),
            };
        }
        let tables = session.tables_of(&self.0).await?;
        Ok(Ok(tables.iter().map(|table| table.schema.table().clone()).collect()))
    }
}

/// Clears a table that was listed before. If it was dropped since, nothing is left to clear.
struct ClearListedTable(TableRef);

impl CtldbOperation for ClearListedTable {
    type Output = Result<Option<Seq>, Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        clear(session, &self.0).await.map(Ok)
    }
}

/// Reads one table's definition.
#[derive(Debug)]
pub struct ReadTable(pub TableRef);

impl OperationRequest for ReadTable {
    type Reply = TableSchema;
    const WRITES: bool = false;
}

impl RequestAnswer for TableSchema {}

impl CtldbOperation for ReadTable {
    type Output = Result<TableSchema, Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        let table = session.table(&self.0).await?;
        Ok(table.map(|table| table.schema.clone()).ok_or_else(|| Refusal::NoTable(self.0.clone())))
    }
}

/// Reads the definitions of a family's tables. An unknown family has none. Tables that can't be written to
/// because of a change by hand are left out.
#[derive(Debug)]
pub struct ReadFamily(pub FamilyName);

impl OperationRequest for ReadFamily {
    type Reply = Vec<TableSchema>;
    const WRITES: bool = false;
}

impl RequestAnswer for Vec<TableSchema> {}

impl CtldbOperation for ReadFamily {
    type Output = Result<Vec<TableSchema>, Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        let tables = session.tables_of(&self.0).await?;
        Ok(Ok(tables.into_iter().map(|table| table.schema.clone()).collect()))
    }
}
