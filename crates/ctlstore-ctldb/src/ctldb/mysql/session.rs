//! The session on MySQL: which statements each call of [`Session`] sends. `open_transaction` sends them,
//! at once or held back.

use std::sync::Arc;

use crate::ctldb::definition::MISSING_IN_CTLDB;
use crate::ctldb::error::CtldbError;
use crate::ctldb::own_tables;
use crate::ctldb::session::{
    LedgerIdentity, RowChange, SchemaChange, Session, StoredTable, TableFault, TableLimit, WriterMark, WriterRow,
};
use ctlstore_core::ledger::{HeadRow, Seq};
use ctlstore_core::schema::{FamilyName, FieldValue, TableRef, WriterName};
use ctlstore_core::{failpoint, sql};

use super::catalog;
use super::ddl;
use super::definitions;
use super::error::{DUPLICATE_KEY, SqlError};
use super::ledger_head;
use super::open_transaction::{OpenTransaction, StateAfter};
use super::rows::{self, blob, quote};

const NOW: &str = "SELECT UNIX_TIMESTAMP()";
const SET_LOW_WATER: &str = "INSERT INTO ctlstore_meta (name, value) VALUES ('low_water_seq', '{first}') \
                             ON DUPLICATE KEY UPDATE value = '{first}'";
const PRUNE: &str = "DELETE FROM {ledger} WHERE seq < {first}";
const LAST_SEQ: &str = "SELECT COALESCE(MAX(seq), 0) FROM {ledger}";
/// The most writers that one statement marks. The statement has a cookie for each.
const MARKED_AT_ONCE: usize = 32;

/// A row without numbers is no limit. The columns of some ctldbs allow it.
const IS_LIMIT: &str = "warn_size_bytes IS NOT NULL AND max_size_bytes IS NOT NULL";
const TABLE_LIMITS: &str = "SELECT family_name, table_name, warn_size_bytes, max_size_bytes FROM max_table_sizes \
                            WHERE {is_limit} ORDER BY family_name, table_name";
const WRITER_LIMITS: &str = "SELECT writer_name, max_rows_per_minute FROM max_writer_rates ORDER BY writer_name";

impl Session for OpenTransaction<'_> {
    async fn now(&mut self) -> Result<i64, CtldbError> {
        if let Some(locked) = &self.locked {
            return Ok(locked.now);
        }
        one(self.ask(NOW).await?)
    }

    async fn last_seq(&mut self) -> Result<Seq, CtldbError> {
        if let Some(locked) = &self.locked {
            return Ok(locked.last);
        }
        one(self.ask(&self.shared.ledger.fill(LAST_SEQ)).await?).map(Seq)
    }

    async fn family_exists(&mut self, family: &FamilyName) -> Result<bool, CtldbError> {
        let sql = format!("SELECT name FROM families WHERE name = {}", quote(family.as_str()));
        Ok(self.ask::<String>(&sql).await?.iter().any(|name| name == family.as_str()))
    }

    async fn table(&mut self, table: &TableRef) -> Result<Option<Arc<StoredTable>>, CtldbError> {
        self.check()?;
        // Only a transaction with the lock has checked that the known definitions are still right.
        let may_use_known = self.locked.is_some();
        if may_use_known && let Some(stored) = self.shared.catalog.get(table) {
            return Ok(Some(stored));
        }
        self.flush_deferred().await?;
        let database = self.shared.connections.database();
        let ledger = &self.shared.ledger;
        let mut stored = catalog::read_table(&mut self.connection, database, ledger, table, self.deadline).await;
        if !may_use_known && is_changed_by_hand(&stored) {
            self.refuse_while_changing().await?;
            stored = catalog::read_table(&mut self.connection, database, ledger, table, self.deadline).await;
        }
        let stored = match stored {
            // The original's DROP TABLE frees the lock before its ledger row is there.
            Err(CtldbError::ChangedByHand { reason, .. })
                if reason == MISSING_IN_CTLDB && self.shared.catalog.may_be_dropped(table) =>
            {
                let error = CtldbError::Contention(format!("table {table} is gone, its ledger row may come"));
                self.doom(&error);
                return Err(error);
            }
            // The query has worked, and the connection is good.
            Err(error @ CtldbError::ChangedByHand { .. }) => return Err(error),
            stored => stored.inspect_err(|error| self.doom(error))?,
        };
        if let Some(stored) = stored.as_ref().filter(|_| may_use_known) {
            self.shared.catalog.keep(stored);
        }
        Ok(stored)
    }

    async fn table_again(&mut self, table: &TableRef) -> Result<Option<Arc<StoredTable>>, CtldbError> {
        self.shared.catalog.read_again();
        self.table(table).await
    }

    async fn tables_of(&mut self, family: &FamilyName) -> Result<Vec<Arc<StoredTable>>, CtldbError> {
        Ok(self.read_family(family).await?.0)
    }

    async fn faulty_tables_of(&mut self, family: &FamilyName) -> Result<Vec<TableFault>, CtldbError> {
        Ok(self.read_family(family).await?.1)
    }

    async fn table_size(&mut self, table: &TableRef) -> Result<Option<u64>, CtldbError> {
        Ok(self.shared.sizes.get(table))
    }

    async fn writer(&mut self, writer: &WriterName) -> Result<Option<WriterRow>, CtldbError> {
        if let Some(known) = self.ahead.writers.get(writer) {
            return Ok(known.clone());
        }
        let name = quote(writer.as_str());
        let bytes = blob(writer.as_str().as_bytes());
        let sql = format!(
            "SELECT writer, secret, cookie, (SELECT max_rows_per_minute FROM max_writer_rates \
             WHERE writer_name = {name} AND CAST(writer_name AS BINARY) = {bytes}) FROM mutators WHERE writer = {name}"
        );
        let found = self.ask::<(String, String, Vec<u8>, Option<i64>)>(&sql).await?;
        let row = found.into_iter().find(|(stored, ..)| stored == writer.as_str());
        Ok(row.map(|(_, secret_hash, cookie, rows_per_minute)| WriterRow { secret_hash, cookie, rows_per_minute }))
    }

    async fn usage(&mut self, writer: &WriterName, bucket: i64) -> Result<i64, CtldbError> {
        if let Some(known) = self.ahead.usage.get(&(writer.clone(), bucket)) {
            return Ok(*known);
        }
        let name = quote(writer.as_str());
        let sql =
            format!("SELECT COALESCE(amount, 0) FROM writer_usage WHERE writer_name = {name} AND bucket = {bucket}");
        Ok(self.ask(&sql).await?.pop().unwrap_or(0))
    }

    async fn table_limit(&mut self, table: &TableRef) -> Result<Option<TableLimit>, CtldbError> {
        if let Some(known) = self.ahead.limits.get(table) {
            return Ok(*known);
        }
        let sql = format!(
            "SELECT warn_size_bytes, max_size_bytes FROM max_table_sizes WHERE {} AND {IS_LIMIT}",
            limit_key(table)
        );
        let limit = self.ask::<(i64, i64)>(&sql).await?.pop();
        Ok(limit.map(|(warn_bytes, max_bytes)| TableLimit { warn_bytes, max_bytes }))
    }

    async fn table_limits(&mut self) -> Result<Vec<(String, String, TableLimit)>, CtldbError> {
        let limits = self.ask::<(String, String, i64, i64)>(&TABLE_LIMITS.replace("{is_limit}", IS_LIMIT)).await?;
        let limit = |(family, table, warn_bytes, max_bytes)| (family, table, TableLimit { warn_bytes, max_bytes });
        Ok(limits.into_iter().map(limit).collect())
    }

    async fn writer_limits(&mut self) -> Result<Vec<(String, i64)>, CtldbError> {
        Ok(self.ask(WRITER_LIMITS).await?)
    }

    async fn stored_key(
        &mut self,
        table: &StoredTable,
        key: &[FieldValue],
    ) -> Result<Option<Vec<FieldValue>>, CtldbError> {
        let found: Option<mysql_async::Row> = self.ask(&rows::select_key(table, key)).await?.pop();
        found.map(|row| rows::read_key(table, row)).transpose()
    }

    async fn ledger_identity(&mut self) -> Result<LedgerIdentity, CtldbError> {
        let meta = self.ask::<ledger_head::MetaRow>(ledger_head::META).await?;
        Ok(ledger_head::identity(&meta, self.ask(&ledger_head::columns(&self.shared.ledger)).await?))
    }

    async fn ledger_head(&mut self, rows: usize) -> Result<Vec<HeadRow>, CtldbError> {
        let heads = self.ask(&ledger_head::heads(&self.shared.ledger, None, rows)).await?;
        Ok(heads.into_iter().map(ledger_head::head_row).collect())
    }

    async fn ledger_row_from(&mut self, seq: Seq) -> Result<Option<HeadRow>, CtldbError> {
        let after = Some(Seq(seq.0.saturating_sub(1)));
        let heads = self.ask(&ledger_head::heads(&self.shared.ledger, after, 1)).await?;
        Ok(heads.into_iter().map(ledger_head::head_row).next())
    }

    async fn insert_family(&mut self, family: &FamilyName) -> Result<bool, CtldbError> {
        let sql = format!("INSERT INTO families (name) VALUES ({})", quote(family.as_str()));
        match self.change(&sql).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(DUPLICATE_KEY) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn insert_writer(&mut self, writer: &WriterName, row: &WriterRow) -> Result<(), CtldbError> {
        let name = quote(writer.as_str());
        let secret = quote(&row.secret_hash);
        let cookie = blob(&row.cookie);
        let sql = format!("INSERT INTO mutators (writer, secret, cookie) VALUES ({name}, {secret}, {cookie})");
        match self.change(&sql).await {
            Ok(_) => {}
            // In a table that the original made, names that differ only by case are equal.
            Err(error) if error.code() == Some(DUPLICATE_KEY) => {
                return Err(CtldbError::Refused(format!("the ctldb takes writer {writer} for one that it has")));
            }
            Err(error) => return Err(error.into()),
        }
        match row.rows_per_minute {
            Some(limit) => self.set_writer_limit(writer, limit).await,
            None => Ok(()),
        }
    }

    async fn set_secret(&mut self, writer: &WriterName, secret_hash: &str) -> Result<(), CtldbError> {
        let secret = quote(secret_hash);
        let name = quote(writer.as_str());
        self.defer(&format!("UPDATE mutators SET secret = {secret}, clock = clock + 1 WHERE writer = {name}")).await
    }

    async fn delete_writer(&mut self, writer: &WriterName) -> Result<(), CtldbError> {
        self.defer(&format!("DELETE FROM mutators WHERE writer = {}", quote(writer.as_str()))).await?;
        self.delete_writer_limit(writer).await.map(drop)
    }

    async fn set_cookie(&mut self, writer: &WriterName, cookie: &[u8]) -> Result<(), CtldbError> {
        self.locked()?.cookies.insert(writer.clone(), cookie.to_vec());
        let cookie = blob(cookie);
        let name = quote(writer.as_str());
        self.defer(&format!("UPDATE mutators SET cookie = {cookie}, clock = clock + 1 WHERE writer = {name}")).await
    }

    async fn add_usage(&mut self, writer: &WriterName, bucket: i64, rows: i64) -> Result<(), CtldbError> {
        let name = quote(writer.as_str());
        self.defer(&format!(
            "INSERT INTO writer_usage (writer_name, bucket, amount) VALUES ({name}, {bucket}, {rows}) \
             ON DUPLICATE KEY UPDATE amount = amount + {rows}"
        ))
        .await
    }

    async fn mark_writers(&mut self, bucket: i64, marks: &[WriterMark<'_>]) -> Result<(), CtldbError> {
        for marks in marks.chunks(MARKED_AT_ONCE) {
            let [cookies, usage] = rows::mark_writers(bucket, marks);
            let given = marks.iter().map(|mark| (mark.writer.clone(), mark.cookie.to_vec()));
            self.locked()?.cookies.extend(given);
            self.defer_with(&cookies, |after| after.mark(bucket, marks)).await?;
            self.defer_with(&usage, |_| {}).await?;
        }
        Ok(())
    }

    async fn prune_usage(&mut self, before: i64) -> Result<(), CtldbError> {
        self.defer(&format!("DELETE FROM writer_usage WHERE bucket < {before}")).await
    }

    async fn set_table_limit(&mut self, table: &TableRef, limit: TableLimit) -> Result<(), CtldbError> {
        let family = quote(table.family.as_str());
        let name = quote(table.table.as_str());
        let TableLimit { warn_bytes, max_bytes } = limit;
        self.defer(&format!(
            "REPLACE INTO max_table_sizes (family_name, table_name, warn_size_bytes, max_size_bytes) \
             VALUES ({family}, {name}, {warn_bytes}, {max_bytes})"
        ))
        .await
    }

    async fn delete_table_limit(&mut self, table: &TableRef) -> Result<bool, CtldbError> {
        Ok(self.change(&format!("DELETE FROM max_table_sizes WHERE {}", limit_key(table))).await? > 0)
    }

    async fn set_writer_limit(&mut self, writer: &WriterName, rows_per_minute: i64) -> Result<(), CtldbError> {
        let name = quote(writer.as_str());
        self.defer(&format!(
            "REPLACE INTO max_writer_rates (writer_name, max_rows_per_minute) VALUES ({name}, {rows_per_minute})"
        ))
        .await
    }

    async fn delete_writer_limit(&mut self, writer: &WriterName) -> Result<bool, CtldbError> {
        let name = quote(writer.as_str());
        let bytes = blob(writer.as_str().as_bytes());
        // In a table that the original made, the collation may equate other names with this one.
        let exact = format!("writer_name = {name} AND CAST(writer_name AS BINARY) = {bytes}");
        Ok(self.change(&format!("DELETE FROM max_writer_rates WHERE {exact}")).await? > 0)
    }

    async fn apply(&mut self, changes: &[RowChange]) -> Result<(), CtldbError> {
        self.apply_unanswered(changes).await?;
        // The caller wants to know here whether the server refuses a row.
        self.flush().await
    }

    async fn apply_unanswered(&mut self, changes: &[RowChange]) -> Result<(), CtldbError> {
        for statement in rows::statements(changes, self.server.text_bytes) {
            self.defer_with(&statement, |_| {}).await?;
        }
        Ok(())
    }

    async fn clear(&mut self, table: &TableRef) -> Result<(), CtldbError> {
        self.change(&sql::clear_table(table)).await?;
        Ok(())
    }

    async fn append(&mut self, statements: &[String]) -> Result<Seq, CtldbError> {
        let limit = self.server.text_bytes;
        let locked = self.locked()?;
        own_tables::check_seqs_left(locked.last, statements.len())?;
        let first = locked.last.next();
        for statement in statements {
            locked.last = locked.last.next();
            locked.appended.push((locked.last, statement.clone()));
        }
        let last = locked.last;
        for insert in rows::ledger_rows(&self.shared.ledger, first, statements, limit) {
            self.hold_back(&insert).await?;
        }
        Ok(last)
    }

    async fn alter(&mut self, change: &SchemaChange, statement: &str) -> Result<Seq, CtldbError> {
        self.change_schema(change, statement).await
    }

    fn finished(&self, statement: &str) -> Option<Seq> {
        self.done.iter().find(|(done, _)| done == statement).map(|(_, seq)| *seq)
    }

    async fn prune_ledger(&mut self, first: Seq) -> Result<u64, CtldbError> {
        self.flush_deferred().await?;
        let database = self.shared.connections.database();
        let ledger = &self.shared.ledger;
        // The pruned rows may be the only ones that define a table, so the definitions are recorded first.
        while definitions::record(&mut self.connection, database, ledger, self.deadline).await? {}
        let first = first.to_string();
        self.change(&SET_LOW_WATER.replace("{first}", &first)).await?;
        failpoint::hit("prune-after-mark");
        let deleted = self.change(&self.shared.ledger.fill(PRUNE).replace("{first}", &first)).await?;
        failpoint::hit("prune-after-delete");
        Ok(deleted)
    }

    async fn savepoint(&mut self) -> Result<(), CtldbError> {
        self.flush_deferred().await?;
        let locked = self.locked()?;
        locked.savepoint = Some((locked.last, locked.appended.len()));
        self.hold_back("SAVEPOINT request").await
    }

    async fn rollback_to_savepoint(&mut self) -> Result<(), CtldbError> {
        self.after = StateAfter::Unknown;
        let locked = self.locked()?;
        if let Some((last, appended)) = locked.savepoint {
            locked.last = last;
            locked.appended.truncate(appended);
        }
        self.hold_back("ROLLBACK TO SAVEPOINT request").await
    }
}

impl OpenTransaction<'_> {
    async fn read_family(
        &mut self,
        family: &FamilyName,
    ) -> Result<(Vec<Arc<StoredTable>>, Vec<TableFault>), CtldbError> {
        self.flush_deferred().await?;
        let database = self.shared.connections.database();
        let ledger = &self.shared.ledger;
        let mut tables = catalog::read_family(&mut self.connection, database, ledger, family, self.deadline).await;
        if self.locked.is_none() && tables.as_ref().is_ok_and(|(_, faulty)| !faulty.is_empty()) {
            self.refuse_while_changing().await?;
            tables = catalog::read_family(&mut self.connection, database, ledger, family, self.deadline).await;
        }
        tables.inspect_err(|error| self.doom(error))
    }

    /// Without the lock a table may be seen between its ledger row and its DDL, as if it was changed by hand.
    async fn refuse_while_changing(&mut self) -> Result<(), CtldbError> {
        if ddl::is_changing(&mut self.connection, self.deadline).await? {
            return Err(CtldbError::Contention("a schema change is running".to_owned()));
        }
        Ok(())
    }
}

fn is_changed_by_hand<T>(stored: &Result<T, CtldbError>) -> bool {
    matches!(stored, Err(CtldbError::ChangedByHand { .. }))
}

fn limit_key(table: &TableRef) -> String {
    format!("family_name = {} AND table_name = {}", quote(table.family.as_str()), quote(table.table.as_str()))
}

pub(super) fn one<T>(mut rows: Vec<T>) -> Result<T, CtldbError> {
    rows.pop().ok_or_else(|| SqlError::no_row().into())
}
