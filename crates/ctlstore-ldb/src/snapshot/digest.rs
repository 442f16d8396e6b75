//! The digest of a table: 32 bytes that are equal for equal rows, in any order of writing and in
//! any database, and differ after any change. Entry points: [`digests`] for a database and
//! [`TableHasher`] for values from elsewhere.
//!
//! The normal form. A value is a tag byte and what follows:
//!
//! | value | tag | then |
//! | --- | --- | --- |
//! | NULL | 0 | nothing |
//! | integer | 1 | 8 bytes, two's complement, big-endian |
//! | real | 2 | 8 bytes, IEEE 754, big-endian; zero is always +0 |
//! | text | 3 | length in bytes as 8 bytes big-endian, then UTF-8 |
//! | bytes | 4 | length as 8 bytes big-endian, then the bytes |
//!
//! The kind of a value is the one that its column reads as: a decimal column's 10 is the real
//! 10.0, although SQLite stores an integer. Bytes in a column that is not declared BLOB or
//! VARBINARY are text, because the ledger writes text with a NUL that way. Zero has one sign,
//! because SQLite does not keep the other in every column.
//!
//! A row is the SHA-256 of its values in the table's column order. The rows are added up as
//! big-endian numbers modulo 2^256, so no order and no collation matters. The digest is the
//! SHA-256 of: `ctlstore table 1` and a NUL; the number of columns, 8 bytes big-endian; each
//! column's name as a text value; the number of rows, 8 bytes big-endian; the sum, 32 bytes
//! big-endian. The table's own name is not in it.

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use ctlstore_core::sql::quoted;

/// The tables with data. The applier's own tables hold numbers of one host, and SQLite's own
/// tables hold nothing of the ledger.
const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 \
AND substr(name, 1, 5) <> '_ldb_' AND substr(name, 1, 7) <> 'sqlite_' ORDER BY name";
const COLUMNS: &str = "SELECT name, type FROM pragma_table_info(?1) ORDER BY cid";

const HEAD: &[u8] = b"ctlstore table 1\0";

/// Rows between two calls that report progress.
const REPORT_EVERY: u64 = 4_096;

/// The content of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDigest {
    /// As SQL names it: `family___table`.
    pub name: String,
    pub rows: u64,
    /// Lower-case hex.
    pub digest: String,
}

/// Makes a digest from values, wherever they come from.
#[derive(Debug)]
pub struct TableHasher {
    head: Sha256,
    /// For each column, whether it is declared to hold bytes.
    holds_bytes: Vec<bool>,
    row: Sha256,
    /// The column of the next value.
    column: usize,
    sum: Sum,
    rows: u64,
}

impl TableHasher {
    /// `columns` are in the table's order: the name, and the declared type.
    pub fn new<'c>(columns: impl IntoIterator<Item = (&'c str, &'c str)>) -> Self {
        let mut names = Sha256::new();
        let mut holds_bytes = Vec::new();
        let columns: Vec<_> = columns.into_iter().collect();
        names.update(HEAD);
        names.update((columns.len() as u64).to_be_bytes());
        for (name, declared) in columns {
            push(&mut names, ValueRef::Text(name.as_bytes()), false);
            let declared = declared.trim_start().to_ascii_uppercase();
            holds_bytes.push(declared.starts_with("BLOB") || declared.starts_with("VARBINARY"));
        }
        Self { head: names, holds_bytes, row: Sha256::new(), column: 0, sum: Sum::default(), rows: 0 }
    }

    /// Adds the next value of the current row. The last column's value ends the row.
    pub fn value(&mut self, value: ValueRef<'_>) {
        push(&mut self.row, value, self.holds_bytes[self.column]);
        self.column += 1;
        if self.column == self.holds_bytes.len() {
            self.sum.add(&self.row.finalize_reset().into());
            self.column = 0;
            self.rows += 1;
        }
    }

    /// Whole rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn finish(mut self) -> [u8; 32] {
        self.head.update(self.rows.to_be_bytes());
        for limb in self.sum.0.iter().rev() {
            self.head.update(limb.to_be_bytes());
        }
        self.head.finalize().into()
    }
}

fn push(hash: &mut Sha256, value: ValueRef<'_>, holds_bytes: bool) {
    let mut fixed = |tag: u8, bytes: [u8; 8]| {
        let mut value = [tag; 9];
        value[1..].copy_from_slice(&bytes);
        hash.update(value);
    };
    match value {
        ValueRef::Null => hash.update([0]),
        ValueRef::Integer(integer) => fixed(1, integer.to_be_bytes()),
        // Adding +0 turns -0 into +0, and leaves all other numbers as they are.
        ValueRef::Real(real) => fixed(2, (real + 0.0).to_bits().to_be_bytes()),
        ValueRef::Blob(bytes) if holds_bytes => {
            fixed(4, (bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        }
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            fixed(3, (bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        }
    }
}

/// A number modulo 2^256, least significant limb first.
#[derive(Debug, Default)]
struct Sum([u64; 4]);

impl Sum {
    fn add(&mut self, big_endian: &[u8; 32]) {
        let mut carry = false;
        for (limb, bytes) in self.0.iter_mut().zip(big_endian.rchunks_exact(8)) {
            let mut addend = [0; 8];
            addend.copy_from_slice(bytes);
            (*limb, carry) = limb.carrying_add(u64::from_be_bytes(addend), carry);
        }
    }
}

/// The digests of all tables with data, by name, in one read transaction.
pub fn digests(connection: &Connection) -> rusqlite::Result<Vec<TableDigest>> {
    let transaction = connection.unchecked_transaction()?;
    let names = table_names(&transaction)?;
    names.into_iter().map(|name| table_digest(&transaction, name, &mut |_| ())).collect()
}

/// The names of the tables with data.
pub(super) fn table_names(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection.prepare(TABLES)?.query_map([], |row| row.get(0))?.collect()
}

/// Whether any table with data has a row.
pub(super) fn any_rows(connection: &Connection) -> rusqlite::Result<bool> {
    for name in table_names(connection)? {
        if connection.prepare(&format!("SELECT 1 FROM {} LIMIT 1", quoted(&name)))?.exists([])? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The digest of one table. `report` gets the number of rows read, every few thousand rows.
pub fn table_digest(
    connection: &Connection,
    name: String,
    report: &mut dyn FnMut(u64),
) -> rusqlite::Result<TableDigest> {
    let columns: Vec<(String, String)> = {
        let mut statement = connection.prepare(COLUMNS)?;
        statement.query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?
    };
    let mut hasher = TableHasher::new(columns.iter().map(|(name, declared)| (name.as_str(), declared.as_str())));
    let list: Vec<String> = columns.iter().map(|(name, _)| quoted(name)).collect();
    // NOT INDEXED reads the table itself, and not an index that has all of its columns.
    let select = format!("SELECT {} FROM {} NOT INDEXED", list.join(","), quoted(&name));
    let mut statement = connection.prepare(&select)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for column in 0..columns.len() {
            hasher.value(row.get_ref(column)?);
        }
        if hasher.rows().is_multiple_of(REPORT_EVERY) {
            report(hasher.rows());
        }
    }
    report(hasher.rows());
    Ok(TableDigest { name, rows: hasher.rows(), digest: hex::encode(hasher.finish()) })
}
