//! The scope of a statement: one row, all rows of a table, or anything. The changelog takes
//! changed rows as they are named; the history also tells what happened to them, and that is in
//! the statement. Entry points: [`StatementScope::of`] before it runs, and
//! [`StatementScope::enter`] after.

use rusqlite::Connection;

use ctlstore_core::ledger::Seq;
use ctlstore_core::sql::Statement;

use super::changes::ChangedRows;
use super::entry::SEPARATOR;
use super::history::{History, Op, TableChange};

const TRIGGERS: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'trigger'";

/// The scope of a statement, as far as the history has to know.
#[derive(Debug, Default)]
pub enum StatementScope {
    /// One row.
    Row(Option<Op>),
    /// All rows of a table, given by its SQL name.
    Table(TableChange, String),
    #[default]
    Anything,
}

impl StatementScope {
    pub fn of(statement: &Statement<'_>) -> Self {
        let table = || statement.table().unwrap_or_default().to_owned();
        match statement {
            Statement::Upsert(_) => Self::Row(Some(Op::Upsert)),
            Statement::Delete(_) => Self::Row(Some(Op::Delete)),
            Statement::Clear { .. } => Self::Table(TableChange::Cleared, table()),
            Statement::DropTable { .. } => Self::Table(TableChange::Dropped, table()),
            Statement::AddColumn { .. } => Self::Table(TableChange::Altered, table()),
            _ => Self::Anything,
        }
    }

    /// Enters the statement's changes into the history.
    pub fn enter(
        &self,
        connection: &Connection,
        history: &mut History,
        changes: &ChangedRows,
        ledger_seq: Seq,
    ) -> rusqlite::Result<()> {
        match self {
            Self::Table(change, name) => {
                let table = name.split_once(SEPARATOR).unwrap_or(("", name));
                // Another program may have made a trigger, and run it. It may change rows of other tables.
                if has_triggers(connection)? {
                    history.unknown(ledger_seq);
                } else {
                    history.table(*change, table, ledger_seq);
                }
            }
            Self::Row(_) | Self::Anything if changes.jump => history.unknown(ledger_seq),
            Self::Row(op) => {
                // With more than one changed row, nothing tells which one the statement named.
                let op = op.filter(|_| changes.len() == 1);
                changes.entries().for_each(|entry| history.row(op, entry, ledger_seq));
            }
            Self::Anything => changes.entries().for_each(|entry| history.row(None, entry, ledger_seq)),
        }
        Ok(())
    }
}

/// Whether a statement may change rows of tables that it does not name.
fn has_triggers(connection: &Connection) -> rusqlite::Result<bool> {
    connection.prepare_cached(TRIGGERS)?.exists([])
}
