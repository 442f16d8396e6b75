//! What tables there are.

use crate::ctldb::{CtldbError, Operation, Session};
use ctlstore_core::schema::{FamilyName, TableRef, TableSchema};

use super::Single;
use super::error::Refusal;

/// Reads one table's definition.
#[derive(Debug)]
pub struct ReadTable(pub TableRef);

impl Single for ReadTable {
    type Reply = TableSchema;
    const WRITES: bool = false;
}

impl Operation for ReadTable {
    type Output = Result<TableSchema, Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        let table = session.table(&self.0).await?;
        Ok(table.map(|table| table.schema.clone()).ok_or_else(|| Refusal::NoTable(self.0.clone())))
    }
}

/// Reads the definitions of a family's tables; none for an unknown family. Tables that were changed by hand are
/// left out: nothing can be written to them.
#[derive(Debug)]
pub struct ReadFamily(pub FamilyName);

impl Single for ReadFamily {
    type Reply = Vec<TableSchema>;
    const WRITES: bool = false;
}

impl Operation for ReadFamily {
    type Output = Result<Vec<TableSchema>, Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        let tables = session.tables_of(&self.0).await?;
        Ok(Ok(tables.into_iter().map(|table| table.schema.clone()).collect()))
    }
}
