//! Measures the tables' sizes, page by page, on a connection of its own: never on
//! the writer's thread, never longer than a bounded time, and only the tables that were
//! written to since.

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
/// `dbstat` visits the pages of one tree as its rows are taken.
const PAGES: &str = "SELECT pgsize FROM dbstat WHERE name = ?";

/// What one round may take. Tables that it doesn't reach come first in the next.
const BUDGET: Duration = Duration::from_secs(3);
/// Beyond this, or a larger limit of its own, a table is over any limit: no need to know by how much.
const ENOUGH_BYTES: u64 = 1 << 30;
/// Pages between two looks at the clock.
const PAGES_PER_LOOK: usize = 64;

/// The sizes of all tables: measured anew where that is needed and as far as the time goes, else as
/// in `known`; and the tables that it did not come to the end of.
pub(super) fn measure(
    path: &Path,
    known: &MeasuredSizes,
) -> Result<(HashMap<String, u64>, Vec<String>), rusqlite::Error> {
    let db = file::open_reader(path)?;
    let deadline = Instant::now() + BUDGET;
    let limits = own_limits(&db)?;
    let (mut sizes, mut unfinished) = (HashMap::new(), Vec::new());
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
        // A table that was cut short is at least as large as it ever was known to be.
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

/// Each data table with the names of its trees (itself and its indexes), the never
/// measured ones first, then the small ones: a huge table starves no other.
fn tables(db: &Connection, known: &HashMap<String, u64>) -> Result<Vec<(String, Vec<String>)>, rusqlite::Error> {
    let mut tables: Vec<(String, Vec<String>)> = Vec::new();
    let mut statement = db.prepare(TREES)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (table, tree): (String, String) = (row.get(0)?, row.get(1)?);
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

/// Adds a tree's pages to `bytes`; true when the time ran out before the end.
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
        if seen.is_multiple_of(PAGES_PER_LOOK) && Instant::now() >= deadline {
            return Ok(true);
        }
        let Some(page) = pages.next()? else { break };
        *bytes += u64::try_from(page.get::<_, i64>(0)?).unwrap_or(0);
        seen += 1;
    }
    Ok(false)
}
