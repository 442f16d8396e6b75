//! Families and tables: made, widened, cleared, dropped. Each step is a ledger
//! transaction of its own; what can be checked beforehand is checked before the
//! first one, so that bad input changes nothing.

use std::time::Instant;

use crate::ctldb::{Ctldb, CtldbError, Operation, SchemaChange, Session};
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::{FamilyName, Field, TableRef, TableSchema};
use ctlstore_core::sql;

use super::error::{ExecutiveError, Refusal};
use super::{Executive, Request, Single};

/// Makes a family. The ledger does not know families.
#[derive(Debug)]
pub struct CreateFamily(pub FamilyName);

impl Single for CreateFamily {
    type Reply = ();
    const WRITES: bool = true;
}

impl Operation for CreateFamily {
    type Output = Result<(), Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        let made = session.insert_family(&self.0).await?;
        Ok(if made { Ok(()) } else { Err(Refusal::FamilyExists(self.0.clone())) })
    }
}

/// Makes tables in order and stops at the first that exists. The answer is the
/// last seq, `None` for no tables.
#[derive(Debug)]
pub struct CreateTables(pub Vec<TableSchema>);

impl Request for CreateTables {
    type Answer = Option<Seq>;

    fn ledger_seq(answer: &Option<Seq>) -> Option<Seq> {
        *answer
    }

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
        let steps: Vec<String> = self.0.iter().map(|table| table.table().sql_name()).collect();
        let mut last = None;
        for (index, table) in self.0.into_iter().enumerate() {
            let seq = executive.write(CreateTable(table), deadline).await;
            last = Some(seq.map_err(|error| error.at_step(&steps, index))?);
        }
        Ok(last)
    }
}

struct FamiliesExist(Vec<FamilyName>);

impl Operation for FamiliesExist {
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

impl Operation for CreateTable {
    type Output = Result<Seq, Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        let table = self.0.table();
        if !session.family_exists(&table.family).await? {
            return Ok(Err(Refusal::NoFamily(table.family.clone())));
        }
        if session.table(table).await?.is_some() {
            return Ok(Err(Refusal::TableExists(table.clone())));
        }
        session.alter(&SchemaChange::CreateTable(self.0.clone()), &sql::create_table(&self.0)).await.map(Ok)
    }
}

/// Adds columns in order, each in a transaction of its own, and stops at the
/// first that exists. The answer is the last seq.
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

    fn ledger_seq(answer: &Option<Seq>) -> Option<Seq> {
        *answer
    }

    async fn execute<C: Ctldb>(
        self,
        executive: &Executive<C>,
        deadline: Instant,
    ) -> Result<Option<Seq>, ExecutiveError> {
        let steps: Vec<String> = self.fields.iter().map(|field| field.name.to_string()).collect();
        let mut last = None;
        for (index, field) in self.fields.into_iter().enumerate() {
            let step = AddField { table: self.table.clone(), field };
            let seq = executive.write(step, deadline).await;
            last = Some(seq.map_err(|error| error.at_step(&steps, index))?);
        }
        Ok(last)
    }
}

struct AddField {
    table: TableRef,
    field: Field,
}

impl Operation for AddField {
    type Output = Result<Seq, Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        let Self { table, field } = self;
        let Some(stored) = session.table(table).await? else {
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
        session.alter(&change, &sql::add_column(table, field)).await.map(Ok)
    }
}

/// Names that InnoDB keeps for itself are taken on no ctldb: a table may move from one kind to another.
fn check_not_reserved(table: &TableRef, fields: &[Field]) -> Result<(), Refusal> {
    match fields.iter().find(|field| field.name.is_reserved_by_innodb()) {
        Some(field) => Err(Refusal::ReservedField { table: table.clone(), field: field.name.clone() }),
        None => Ok(()),
    }
}

/// What is missing when a table is not there.
async fn missing<S: Session>(session: &mut S, table: &TableRef) -> Result<Refusal, CtldbError> {
    let family_exists = session.family_exists(&table.family).await?;
    Ok(if family_exists { Refusal::NoTable(table.clone()) } else { Refusal::NoFamily(table.family.clone()) })
}

fn check_destructive<C>(executive: &Executive<C>) -> Result<(), Refusal> {
    if executive.options.destructive_schema_changes { Ok(()) } else { Err(Refusal::DestructiveChangesOff) }
}

/// Runs what can't be undone, where that is allowed at all.
async fn destroy<C, O>(executive: &Executive<C>, operation: O, deadline: Instant) -> Result<Option<Seq>, ExecutiveError>
where
    C: Ctldb,
    O: Operation<Output = Result<Seq, Refusal>>,
{
    check_destructive(executive)?;
    executive.write(operation, deadline).await.map(Some)
}

/// Drops a table. The answer is the statement's seq.
#[derive(Debug)]
pub struct DropTable(pub TableRef);

impl Request for DropTable {
    type Answer = Option<Seq>;

    fn ledger_seq(answer: &Option<Seq>) -> Option<Seq> {
        *answer
    }

    async fn execute<C: Ctldb>(
        self,
        executive: &Executive<C>,
        deadline: Instant,
    ) -> Result<Option<Seq>, ExecutiveError> {
        destroy(executive, self, deadline).await
    }
}

impl Operation for DropTable {
    type Output = Result<Seq, Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        if session.table(&self.0).await?.is_none() {
            return Ok(Err(missing(session, &self.0).await?));
        }
        session.alter(&SchemaChange::DropTable(self.0.clone()), &sql::drop_table(&self.0)).await.map(Ok)
    }
}

/// Deletes every row of a table. The answer is the statement's seq.
#[derive(Debug)]
pub struct ClearTable(pub TableRef);

impl Request for ClearTable {
    type Answer = Option<Seq>;

    fn ledger_seq(answer: &Option<Seq>) -> Option<Seq> {
        *answer
    }

    async fn execute<C: Ctldb>(
        self,
        executive: &Executive<C>,
        deadline: Instant,
    ) -> Result<Option<Seq>, ExecutiveError> {
        destroy(executive, self, deadline).await
    }
}

impl Operation for ClearTable {
    type Output = Result<Seq, Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        if session.table(&self.0).await?.is_none() {
            return Ok(Err(missing(session, &self.0).await?));
        }
        session.clear(&self.0).await?;
        session.append(&[sql::clear_table(&self.0)]).await.map(Ok)
    }
}

/// Clears every table of a family, one by one. The answer is the last seq, `None`
/// for a family without tables.
#[derive(Debug)]
pub struct ClearFamily(pub FamilyName);

impl Request for ClearFamily {
    type Answer = Option<Seq>;

    fn ledger_seq(answer: &Option<Seq>) -> Option<Seq> {
        *answer
    }

    async fn execute<C: Ctldb>(
        self,
        executive: &Executive<C>,
        deadline: Instant,
    ) -> Result<Option<Seq>, ExecutiveError> {
        check_destructive(executive)?;
        let tables = executive.read(TablesOf(self.0), deadline).await?;
        let steps: Vec<String> = tables.iter().map(TableRef::sql_name).collect();
        let mut last = None;
        for (index, table) in tables.into_iter().enumerate() {
            match executive.write(ClearTable(table), deadline).await {
                Ok(seq) => last = Some(seq),
                // Dropped since the tables were listed: it has no rows any more.
                Err(ExecutiveError::Refused(Refusal::NoTable(_))) => {}
                Err(error) => return Err(error.at_step(&steps, index)),
            }
        }
        Ok(last)
    }
}

struct TablesOf(FamilyName);

impl Operation for TablesOf {
    type Output = Result<Vec<TableRef>, Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        if !session.family_exists(&self.0).await? {
            return Ok(Err(Refusal::NoFamily(self.0.clone())));
        }
        // To clear all but some would look like having cleared all.
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
