//! Reads tables as the ctldb's file has them. Entry points: [`read_physical`] and [`table_names`]. The
//! module does not know what the ledger says of them.

use rusqlite::{Connection, OptionalExtension};

use crate::ctldb::definition::{Column, Physical};
use crate::ctldb::error::CtldbError;

const KIND: &str = "SELECT type FROM sqlite_schema WHERE name = ? AND type IN ('table', 'view')";
const COLUMNS: &str = "SELECT name, type, pk, \"notnull\" = 0 OR dflt_value IS NOT NULL, hidden \
                       FROM pragma_table_xinfo(?) ORDER BY cid";
const UNIQUE_INDEXES: &str = "SELECT name FROM pragma_index_list(?) WHERE \"unique\" AND origin <> 'pk'";
const TRIGGERS: &str = "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?";
const NAMES: &str = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND instr(name, '___') > 1";

/// A table or view as the file has it.
pub(super) fn read_physical(db: &Connection, name: &str) -> Result<Option<Physical>, CtldbError> {
    let kind: Option<String> = db.prepare_cached(KIND)?.query_row([name], |row| row.get(0)).optional()?;
    let Some(kind) = kind else { return Ok(None) };
    let mut physical = Physical::default();
    if kind != "table" {
        physical.obstacles.push(format!("the ctldb has a {kind} of its name"));
    }
    let mut key: Vec<(i64, String)> = Vec::new();
    let mut statement = db.prepare_cached(COLUMNS)?;
    let mut rows = statement.query([name])?;
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let declared: String = row.get(1)?;
        let part: i64 = row.get(2)?;
        let is_optional: bool = row.get(3)?;
        let hidden: i64 = row.get(4)?;
        // 1 is hidden, 2 and 3 are generated.
        let is_generated = hidden > 1;
        if part > 0 {
            key.push((part, name.clone()));
        }
        let is_optional = is_optional || is_generated;
        physical.columns.push(Column { name, declared, is_optional, is_generated, collation: None });
    }
    key.sort_unstable();
    physical.key = key.into_iter().map(|(_, name)| name).collect();
    let mut statement = db.prepare_cached(UNIQUE_INDEXES)?;
    for index in statement.query_map([name], |row| row.get::<_, String>(0))? {
        physical.obstacles.push(format!("it has the unique index {}, which the ledger has not", index?));
    }
    let mut statement = db.prepare_cached(TRIGGERS)?;
    for trigger in statement.query_map([name], |row| row.get::<_, String>(0))? {
        physical.obstacles.push(format!("it has the trigger {}", trigger?));
    }
    Ok(Some(physical))
}

/// The names of all tables and views that a family may have.
pub(super) fn table_names(db: &Connection) -> Result<Vec<String>, CtldbError> {
    let mut statement = db.prepare_cached(NAMES)?;
    let names = statement.query_map([], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}
