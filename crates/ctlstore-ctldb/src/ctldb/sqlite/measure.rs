//! Measures the tables' sizes by counting pages. Entry point: [`measure`]. It uses a connection of its own
//! and never the writer's thread. One round has a bounded time, and measures only the tables that were
//! written to since the last one.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::ctldb::sizes::MeasuredSizes;
use ctlstore_core::schema::TableRef;

use super::file;

const TREES: &str = "SELECT tbl_name, name FROM sqlite_schema WHERE rootpage > 0 AND instr(tbl_name, '___') > 0 \
                     ORDER BY tbl_name";
const OWN_LIMITS: &str = "SELECT family_name || '___' || table_name, max_size_bytes FROM max_table_sizes";
/// `dbstat` visits the pages of one tree while its rows are read.
const PAGES: &str = "SELECT pgsize FROM dbstat WHERE name = ?";

/// The time for one round. Tables that it does not reach come first in the next round.
const BUDGET: Duration = Duration::from_secs(3);
/// A table is not measured beyond this size, or beyond its own limit if that is larger. It is then over its
/// limit, and it does not matter by how much.
const ENOUGH_BYTES: u64 = 1 << 30;
/// The pages between two checks of the time.
const PAGES_PER_CHECK: usize = 64;

/// Returns the sizes of all tables, and the tables that were not finished. A table is measured if it was
/// written to since `known` and the time suffices; otherwise its size is the known one.
pub(super) fn measure(
    path: &Path,
    known: &MeasuredSizes,
) -> Result<(HashMap<String, u64>, Vec<String>), rusqlite::Error> {
    let db = file::open_reader(path)?;
    let deadline = Instant::now() + BUDGET;
    let limits = own_limits(&db)?;
    let mut sizes = HashMap::new();
    let mut unfinished = Vec::new();
    let mut out_of_time = false;
    for (table, trees) in tables(&db, &known.bytes)? {
        if let Some(bytes) = known.still(&table) {
            sizes.insert(table, bytes);
            continue;
        }
        let enough = limits.get(&table).copied().unwrap_or(0).max(ENOUGH_BYTES);
        let mut bytes = 0;
        for tree in trees {
            out_of_time |= add_pages(&db, &tree, enough, deadline, &mut bytes)?;
        }
        // The size of a table that was not finished can only be too small, so an older, larger size stays.
        if out_of_time {
            bytes = bytes.max(known.bytes.get(&table).copied().unwrap_or(0));
            unfinished.push(table.clone());
        }
        if !out_of_time || bytes > 0 {
            sizes.insert(table, bytes);
        }
    }
    Ok((sizes, unfinished))
}

fn own_limits(db: &Connection) -> Result<HashMap<String, u64>, rusqlite::Error> {
    let mut statement = db.prepare(OWN_LIMITS)?;
    let limits = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?;
    limits.map(|limit| limit.map(|(table, bytes)| (table, u64::try_from(bytes).unwrap_or(0)))).collect()
}

/// Each data table with the names of its trees (itself and its indexes). Tables that were never measured
/// come first, then the small ones, so that a huge table delays no other.
fn tables(db: &Connection, known: &HashMap<String, u64>) -> Result<Vec<(String, Vec<String>)>, rusqlite::Error> {
    let mut tables: Vec<(String, Vec<String>)> = Vec::new();
    let mut statement = db.prepare(TREES)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let table: String = row.get(0)?;
        let tree: String = row.get(1)?;
        if TableRef::from_sql_name(&table).is_err() {
            continue;
        }
        match tables.last_mut() {
            Some((last, trees)) if *last == table => trees.push(tree),
            _ => tables.push((table, vec![tree])),
        }
    }
    tables.sort_by_key(|(table, _)| known.get(table).copied());
    Ok(tables)
}

/// Adds the size of a tree's pages to `bytes`. True if the time ran out before the end.
fn add_pages(
    db: &Connection,
    tree: &str,
    enough: u64,
    deadline: Instant,
    bytes: &mut u64,
) -> Result<bool, rusqlite::Error> {
    let mut statement = db.prepare_cached(PAGES)?;
    let mut pages = statement.query([tree])?;
    let mut seen = 0_usize;
    while *bytes <= enough {
        if seen.is_multiple_of(PAGES_PER_CHECK) && Instant::now() >= deadline {
            return Ok(true);
        }
        let Some(page) = pages.next()? else { break };
        *bytes += u64::try_from(page.get::<_, i64>(0)?).unwrap_or(0);
        seen += 1;
    }
    Ok(false)
}
