//! Counts the rows of a table and the bytes of its pages, at one point in time. Entry point:
//! [`ReadTransaction::measure`].

use std::time::{Duration, Instant};

use ctlstore_core::schema::TableRef;

use super::error::ReadError;
use super::read_transaction::ReadTransaction;

/// Every page of the table and of its indexes. The rows are counted here, page by page, so that the
/// clock can be read in between. SQLite would make a `count(*)` in one step.
const PAGES: &str = "SELECT page.pgsize, page.ncell, page.pagetype, part.type = 'table'
    FROM sqlite_schema AS part CROSS JOIN dbstat AS page ON page.name = part.name WHERE part.tbl_name = ?1";
const WITHOUT_ROWID: &str = "SELECT wr FROM pragma_table_list(?1) WHERE schema = 'main'";

/// The size of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableSize {
    pub rows: u64,
    /// Bytes of all pages of the table and its indexes, with the free space in them.
    pub bytes: u64,
}

impl ReadTransaction<'_> {
    /// Counts rows and bytes. This reads every page of the table, which takes seconds if the table is
    /// large and not in memory. `None` if it took longer than `most`.
    ///
    /// # Errors
    /// [`ReadError::UnknownTable`].
    pub fn measure(&self, table: &TableRef, most: Duration) -> Result<Option<TableSize>, ReadError> {
        let until = Instant::now() + most;
        let sql_name = self.table(table)?.table.sql_name();
        let has_rowid = !self.file.prepare(WITHOUT_ROWID)?.query_row([&sql_name], |row| row.get::<_, bool>(0))?;
        let mut size = TableSize::default();
        let mut statement = self.file.prepare(PAGES)?;
        let mut pages = statement.query([&sql_name])?;
        while let Some(page) = pages.next()? {
            let bytes: u32 = page.get(0)?;
            let cells: u32 = page.get(1)?;
            size.bytes += u64::from(bytes);
            // Rows are in the leaves. A table WITHOUT ROWID has rows in its inner pages too.
            let has_rows = match page.get_ref(2)?.as_str().unwrap_or_default() {
                "leaf" => true,
                "internal" => !has_rowid,
                _ => false,
            };
            if has_rows && page.get(3)? {
                size.rows += u64::from(cells);
            }
            if Instant::now() >= until {
                return Ok(None);
            }
        }
        Ok(Some(size))
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::super::ldb_reader::LdbReader;
    use super::*;

    #[test]
    fn a_count_that_takes_longer_than_it_may_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ldb.db");
        let tables = "CREATE TABLE _ldb_seq (id INTEGER PRIMARY KEY, seq BIGINT); CREATE TABLE fam___tab (k TEXT);
            WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
            INSERT INTO fam___tab SELECT 'key ' || i FROM n";
        Connection::open(&path).unwrap().execute_batch(tables).unwrap();
        let table = TableRef::parse("fam", "tab").unwrap();
        let mut reader = LdbReader::new(path);
        let mut within = |most| reader.read_transaction(|now| now.measure(&table, most)).unwrap();
        assert_eq!(within(Duration::ZERO), None);
        assert_eq!(within(Duration::from_secs(600)).unwrap().rows, 10_000);
    }
}
