//! The session on SQLite: each call of [`Session`] runs a few statements on the writer's connection, in
//! its open transaction. Nothing here waits, so the futures are ready at once.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use crate::ctldb::definition::Definition;
use crate::ctldb::dry_run;
use crate::ctldb::error::CtldbError;
use crate::ctldb::own_tables::LedgerTable;
use crate::ctldb::session::{
    LedgerIdentity, RowChange, SchemaChange, Session, StoredTable, TableFault, TableLimit, WriterRow,
};
use crate::ctldb::sizes::TableSizes;
use ctlstore_core::ledger::{HeadRow, Seq};
use ctlstore_core::schema::{FamilyName, FieldValue, TableRef, WriterName};
use ctlstore_core::{failpoint, sql};

use super::catalog::{self, Catalog};
use super::{definitions, ledger_head, rows};
use crate::ctldb::own_tables;

const NOW: &str = "SELECT unixepoch()";
const FAMILY: &str = "SELECT 1 FROM families WHERE name = ?";
const ADD_FAMILY: &str = "INSERT OR IGNORE INTO families (name) VALUES (?)";
const WRITER: &str = "SELECT secret, cookie, (SELECT max_rows_per_minute FROM max_writer_rates WHERE writer_name = ?1) \
                      FROM mutators WHERE writer = ?1";
const ADD_WRITER: &str = "INSERT INTO mutators (writer, secret, cookie) VALUES (?, ?, ?)";
const SET_SECRET: &str = "UPDATE mutators SET secret = ?2, clock = clock + 1 WHERE writer = ?1";
const DELETE_WRITER: &str = "DELETE FROM mutators WHERE writer = ?";
const SET_COOKIE: &str = "UPDATE mutators SET cookie = ?2, clock = clock + 1 WHERE writer = ?1";
const USAGE: &str = "SELECT amount FROM writer_usage WHERE writer_name = ? AND bucket = ?";
const ADD_USAGE: &str = "INSERT INTO writer_usage (writer_name, bucket, amount) VALUES (?1, ?2, ?3) \
                         ON CONFLICT (writer_name, bucket) DO UPDATE SET amount = amount + ?3";
const PRUNE_USAGE: &str = "DELETE FROM writer_usage WHERE bucket < ?";
const TABLE_LIMIT: &str =
    "SELECT warn_size_bytes, max_size_bytes FROM max_table_sizes WHERE family_name = ? AND table_name = ?";
const TABLE_LIMITS: &str = "SELECT family_name, table_name, warn_size_bytes, max_size_bytes FROM max_table_sizes \
                            ORDER BY family_name, table_name";
const SET_TABLE_LIMIT: &str = "REPLACE INTO max_table_sizes \
                               (family_name, table_name, warn_size_bytes, max_size_bytes) VALUES (?, ?, ?, ?)";
const DELETE_TABLE_LIMIT: &str = "DELETE FROM max_table_sizes WHERE family_name = ? AND table_name = ?";
const WRITER_LIMITS: &str = "SELECT writer_name, max_rows_per_minute FROM max_writer_rates ORDER BY writer_name";
const SET_WRITER_LIMIT: &str = "REPLACE INTO max_writer_rates (writer_name, max_rows_per_minute) VALUES (?, ?)";
const DELETE_WRITER_LIMIT: &str = "DELETE FROM max_writer_rates WHERE writer_name = ?";
const SET_LOW_WATER: &str = "REPLACE INTO ctlstore_meta (name, value) VALUES ('low_water_seq', ?)";
const SAVEPOINT: &str = "SAVEPOINT request";
const ROLLBACK_TO: &str = "ROLLBACK TO request";
const RELEASE: &str = "RELEASE request";

/// The statements on the ledger table, whose name is a setting.
pub(super) struct LedgerSql {
    table: LedgerTable,
    last: String,
    pub append: String,
    prune: String,
}

impl LedgerSql {
    pub fn new(ledger: &LedgerTable) -> Self {
        Self {
            table: ledger.clone(),
            // If all rows were pruned, the seqs still go on after the last one.
            last: ledger.fill(
                "SELECT COALESCE(MAX(seq), (SELECT CAST(value AS INTEGER) - 1 FROM ctlstore_meta \
                 WHERE name = 'low_water_seq'), 0) FROM {ledger}",
            ),
            append: ledger.fill("INSERT INTO {ledger} (seq, statement) VALUES (?, ?)"),
            prune: ledger.fill("DELETE FROM {ledger} WHERE seq < ?"),
        }
    }
}

pub(super) struct SqliteSession<'a> {
    db: &'a Connection,
    catalog: &'a mut Catalog,
    ledger: &'a LedgerSql,
    sizes: &'a TableSizes,
    has_savepoint: bool,
}

impl<'a> SqliteSession<'a> {
    pub fn new(db: &'a Connection, catalog: &'a mut Catalog, ledger: &'a LedgerSql, sizes: &'a TableSizes) -> Self {
        Self { db, catalog, ledger, sizes, has_savepoint: false }
    }

    /// Runs a cached statement and returns the number of rows that it changed.
    fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize, CtldbError> {
        Ok(self.db.prepare_cached(sql)?.execute(params)?)
    }
}

impl Session for SqliteSession<'_> {
    async fn now(&mut self) -> Result<i64, CtldbError> {
        Ok(self.db.prepare_cached(NOW)?.query_row([], |row| row.get(0))?)
    }

    async fn last_seq(&mut self) -> Result<Seq, CtldbError> {
        Ok(Seq(self.db.prepare_cached(&self.ledger.last)?.query_row([], |row| row.get(0))?))
    }

    async fn family_exists(&mut self, family: &FamilyName) -> Result<bool, CtldbError> {
        Ok(self.db.prepare_cached(FAMILY)?.exists([family.as_str()])?)
    }

    async fn table(&mut self, table: &TableRef) -> Result<Option<Arc<StoredTable>>, CtldbError> {
        self.catalog.table(self.db, &self.ledger.table, table)
    }

    async fn tables_of(&mut self, family: &FamilyName) -> Result<Vec<Arc<StoredTable>>, CtldbError> {
        self.catalog.tables_of(self.db, &self.ledger.table, family)
    }

    async fn faulty_tables_of(&mut self, family: &FamilyName) -> Result<Vec<TableFault>, CtldbError> {
        catalog::faults(self.db, &self.ledger.table, |table| &table.family == family)
    }

    async fn table_size(&mut self, table: &TableRef) -> Result<Option<u64>, CtldbError> {
        Ok(self.sizes.get(table))
    }

    async fn writer(&mut self, writer: &WriterName) -> Result<Option<WriterRow>, CtldbError> {
        let mut statement = self.db.prepare_cached(WRITER)?;
        let row = statement.query_row([writer.as_str()], |row| {
            // The original stored some cookies as text, which has the same bytes.
            let cookie = row.get_ref(1)?.as_bytes()?.to_vec();
            Ok(WriterRow { secret_hash: row.get(0)?, cookie, rows_per_minute: row.get(2)? })
        });
        Ok(row.optional()?)
    }

    async fn usage(&mut self, writer: &WriterName, bucket: i64) -> Result<i64, CtldbError> {
        let mut statement = self.db.prepare_cached(USAGE)?;
        Ok(statement.query_row(params![writer.as_str(), bucket], |row| row.get(0)).optional()?.unwrap_or(0))
    }

    async fn table_limit(&mut self, table: &TableRef) -> Result<Option<TableLimit>, CtldbError> {
        let mut statement = self.db.prepare_cached(TABLE_LIMIT)?;
        let limit = statement.query_row([table.family.as_str(), table.table.as_str()], |row| {
            Ok(TableLimit { warn_bytes: row.get(0)?, max_bytes: row.get(1)? })
        });
        Ok(limit.optional()?)
    }

    async fn table_limits(&mut self) -> Result<Vec<(String, String, TableLimit)>, CtldbError> {
        let mut statement = self.db.prepare_cached(TABLE_LIMITS)?;
        let limits = statement.query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, TableLimit { warn_bytes: row.get(2)?, max_bytes: row.get(3)? }))
        })?;
        Ok(limits.collect::<Result<_, _>>()?)
    }

    async fn writer_limits(&mut self) -> Result<Vec<(String, i64)>, CtldbError> {
        let mut statement = self.db.prepare_cached(WRITER_LIMITS)?;
        let limits = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(limits.collect::<Result<_, _>>()?)
    }

    async fn stored_key(
        &mut self,
        table: &StoredTable,
        key: &[FieldValue],
    ) -> Result<Option<Vec<FieldValue>>, CtldbError> {
        rows::stored_key(self.db, &table.schema, key)
    }

    async fn ledger_identity(&mut self) -> Result<LedgerIdentity, CtldbError> {
        Ok(ledger_head::identity(self.db, &self.ledger.table)?)
    }

    async fn ledger_head(&mut self, rows: usize) -> Result<Vec<HeadRow>, CtldbError> {
        Ok(ledger_head::rows(self.db, &self.ledger.table, None, rows)?)
    }

    async fn ledger_row_from(&mut self, seq: Seq) -> Result<Option<HeadRow>, CtldbError> {
        Ok(ledger_head::rows(self.db, &self.ledger.table, Some(Seq(seq.0.saturating_sub(1))), 1)?.pop())
    }

    async fn insert_family(&mut self, family: &FamilyName) -> Result<bool, CtldbError> {
        Ok(self.execute(ADD_FAMILY, [family.as_str()])? == 1)
    }

    async fn insert_writer(&mut self, writer: &WriterName, row: &WriterRow) -> Result<(), CtldbError> {
        self.execute(ADD_WRITER, params![writer.as_str(), row.secret_hash, row.cookie])?;
        if let Some(limit) = row.rows_per_minute {
            self.execute(SET_WRITER_LIMIT, params![writer.as_str(), limit])?;
        }
        Ok(())
    }

    async fn set_secret(&mut self, writer: &WriterName, secret_hash: &str) -> Result<(), CtldbError> {
        self.execute(SET_SECRET, (writer.as_str(), secret_hash)).map(drop)
    }

    async fn delete_writer(&mut self, writer: &WriterName) -> Result<(), CtldbError> {
        self.execute(DELETE_WRITER, [writer.as_str()])?;
        self.delete_writer_limit(writer).await.map(drop)
    }

    async fn set_cookie(&mut self, writer: &WriterName, cookie: &[u8]) -> Result<(), CtldbError> {
        match self.execute(SET_COOKIE, params![writer.as_str(), cookie])? {
            1 => Ok(()),
            _ => Err(CtldbError::Failed(format!("no writer {writer} to set the cookie of"))),
        }
    }

    async fn add_usage(&mut self, writer: &WriterName, bucket: i64, rows: i64) -> Result<(), CtldbError> {
        self.execute(ADD_USAGE, params![writer.as_str(), bucket, rows]).map(drop)
    }

    async fn prune_usage(&mut self, before: i64) -> Result<(), CtldbError> {
        self.execute(PRUNE_USAGE, [before]).map(drop)
    }

    async fn set_table_limit(&mut self, table: &TableRef, limit: TableLimit) -> Result<(), CtldbError> {
        let params = params![table.family.as_str(), table.table.as_str(), limit.warn_bytes, limit.max_bytes];
        // Its size may have been measured only up to the old limit.
        self.sizes.writes(table);
        self.execute(SET_TABLE_LIMIT, params).map(drop)
    }

    async fn delete_table_limit(&mut self, table: &TableRef) -> Result<bool, CtldbError> {
        self.sizes.writes(table);
        Ok(self.execute(DELETE_TABLE_LIMIT, [table.family.as_str(), table.table.as_str()])? > 0)
    }

    async fn set_writer_limit(&mut self, writer: &WriterName, rows_per_minute: i64) -> Result<(), CtldbError> {
        self.execute(SET_WRITER_LIMIT, params![writer.as_str(), rows_per_minute]).map(drop)
    }

    async fn delete_writer_limit(&mut self, writer: &WriterName) -> Result<bool, CtldbError> {
        Ok(self.execute(DELETE_WRITER_LIMIT, [writer.as_str()])? > 0)
    }

    async fn apply(&mut self, changes: &[RowChange]) -> Result<(), CtldbError> {
        let mut last = None;
        for table in changes.iter().map(|change| change.table().schema.table()) {
            if last.replace(table) != Some(table) {
                self.sizes.writes(table);
            }
        }
        rows::apply(self.db, changes)
    }

    async fn clear(&mut self, table: &TableRef) -> Result<(), CtldbError> {
        self.sizes.writes(table);
        self.execute(&sql::clear_table(table), []).map(drop)
    }

    async fn append(&mut self, statements: &[String]) -> Result<Seq, CtldbError> {
        let mut seq = self.last_seq().await?;
        own_tables::check_seqs_left(seq, statements.len())?;
        let mut insert = self.db.prepare_cached(&self.ledger.append)?;
        for statement in statements {
            seq = seq.next();
            insert.execute(params![seq.0, statement])?;
        }
        Ok(seq)
    }

    async fn alter(&mut self, change: &SchemaChange, statement: &str) -> Result<Seq, CtldbError> {
        let before = self.table(change.table()).await?;
        let after = dry_run::check(change, before.as_deref(), statement)?;
        self.catalog.forget();
        self.sizes.writes(change.table());
        self.db.execute_batch(&match change {
            SchemaChange::CreateTable(schema) => sql::create_table(schema),
            SchemaChange::AddColumn(table, field) => sql::add_column(table, field),
            SchemaChange::DropTable(table) => sql::drop_table(table),
        })?;
        let seq = self.append(&[statement.to_owned()]).await?;
        let definition = after.map_or(Definition::Absent, Definition::Table);
        definitions::put(self.db, change.table(), seq, &definition)?;
        Ok(seq)
    }

    async fn prune_ledger(&mut self, first: Seq) -> Result<u64, CtldbError> {
        // The pruned rows may be the only ones that define a table, so the definitions are recorded first.
        definitions::record(self.db, &self.ledger.table)?;
        self.execute(SET_LOW_WATER, [first.to_string()])?;
        failpoint::hit("prune-after-mark");
        let deleted = self.execute(&self.ledger.prune, [first.0])?;
        failpoint::hit("prune-after-delete");
        Ok(deleted as u64)
    }

    async fn savepoint(&mut self) -> Result<(), CtldbError> {
        // SQLite nests savepoints of one name. MySQL replaces the earlier one.
        if std::mem::replace(&mut self.has_savepoint, true) {
            self.execute(RELEASE, [])?;
        }
        self.execute(SAVEPOINT, []).map(drop)
    }

    async fn rollback_to_savepoint(&mut self) -> Result<(), CtldbError> {
        self.execute(ROLLBACK_TO, []).map(drop)
    }
}
