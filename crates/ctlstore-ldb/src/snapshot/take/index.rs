//! Checks that each index holds the same keys as its table. Entry point: [`differing`].
//! `PRAGMA integrity_check` looks up every row in every index, which takes ten times as long
//! as all other checks. Here table and index are read from end to end, and their sums compared.

use std::hash::{DefaultHasher, Hash, Hasher};

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use ctlstore_core::sql::quoted;

const WITHOUT_ROWID: &str = "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1";
/// A partial index holds only some rows, so it is not compared.
const INDEXES: &str = "SELECT name FROM pragma_index_list(?1) WHERE partial = 0";
/// The columns of an index. An expression has no name.
const COLUMNS: &str = "SELECT name FROM pragma_index_info(?1) ORDER BY seqno";
const IS_COLUMN: &str = "SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2 COLLATE NOCASE";

/// SQLite's names for the row's number. A column may have one of them.
const ROWID: [&str; 3] = ["rowid", "_rowid_", "oid"];

/// The first index of the table that holds other keys or rows than the table.
pub(super) fn differing(connection: &Connection, table: &str) -> rusqlite::Result<Option<String>> {
    // A table without row numbers is its own first index.
    if connection.query_row(WITHOUT_ROWID, [table], |row| row.get(0))? {
        return Ok(None);
    }
    let indexes: Vec<String> =
        connection.prepare(INDEXES)?.query_map([table], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let rowid = rowid(connection, table)?;
    for index in indexes {
        let mut columns: Vec<Option<String>> =
            connection.prepare(COLUMNS)?.query_map([&index], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        columns.push(rowid.map(str::to_owned));
        let list: Vec<String> = columns.iter().flatten().map(|name| quoted(name)).collect();
        let list = list.join(",");
        let table = quoted(table);
        let in_table = sum(connection, &format!("SELECT {list} FROM {table} NOT INDEXED"))?;
        let in_index = sum(connection, &format!("SELECT {list} FROM {table} INDEXED BY {}", quoted(&index)))?;
        if in_table != in_index {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

fn rowid(connection: &Connection, table: &str) -> rusqlite::Result<Option<&'static str>> {
    for name in ROWID {
        if !connection.prepare_cached(IS_COLUMN)?.exists([table, name])? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// The number of rows, and the sum of their hashes.
fn sum(connection: &Connection, select: &str) -> rusqlite::Result<(u64, u64)> {
    let mut statement = connection.prepare(select)?;
    let columns = statement.column_count();
    let mut count = 0;
    let mut sum = 0_u64;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut hash = DefaultHasher::new();
        for column in 0..columns {
            match row.get_ref(column)? {
                ValueRef::Null => hash.write_u8(0),
                ValueRef::Integer(integer) => (1_u8, integer).hash(&mut hash),
                ValueRef::Real(real) => (2_u8, real.to_bits()).hash(&mut hash),
                ValueRef::Text(bytes) => (3_u8, bytes).hash(&mut hash),
                ValueRef::Blob(bytes) => (4_u8, bytes).hash(&mut hash),
            }
        }
        sum = sum.wrapping_add(hash.finish());
        count += 1;
    }
    Ok((count, sum))
}
