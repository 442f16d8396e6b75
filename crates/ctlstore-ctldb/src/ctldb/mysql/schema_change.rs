//! Changes the schema in an open transaction, in an order that can be finished after a kill at any place. Entry point:
//! [`OpenTransaction::change_schema`]. `ddl` has the parts, `finish_ddl` finishes what was left.
//!
//! A new table or column has its ledger row first. Ledger row and intent are written under the ledger lock, and the
//! DDL follows on the same connection: the server commits them and runs it, as one statement. So no executive ever
//! sees a column that the ledger lacks, even the original's, which knows no intents. A row that is written before the
//! column is there has no value for it, in the ctldb and in every LDB.
//!
//! A DROP TABLE comes before its ledger row, or rows of the table could follow that row. While one connection holds
//! the ledger lock, a second one commits the intent and drops the table. The first then writes the ledger row, deletes
//! the intent and commits.

use std::time::Instant;

use crate::ctldb::definition::Definition;
use crate::ctldb::dry_run;
use crate::ctldb::error::CtldbError;
use crate::ctldb::session::{SchemaChange, Session};
use ctlstore_core::failpoint;
use ctlstore_core::ledger::Seq;

use super::ddl::{self, DdlOutcome, Intent};
use super::definitions;
use super::open_transaction::{OpenTransaction, StateAfter};
use super::session::one;

/// Waits for rows that others have inserted and not yet committed, and sees what they committed since this
/// transaction began.
const LAST_SEQ_NOW: &str = "SELECT COALESCE(MAX(seq), 0) FROM {ledger} LOCK IN SHARE MODE";

/// How often a ledger row's seq may be taken by rows that others write without the lock.
const APPEND_TRIES: usize = 20;

impl OpenTransaction<'_> {
    /// Changes the schema and appends `statement` to the ledger. Gives its seq. Nothing can be written after it.
    pub async fn change_schema(&mut self, change: &SchemaChange, statement: &str) -> Result<Seq, CtldbError> {
        if let Some(seq) = self.finished(statement) {
            return Ok(seq);
        }
        let before = self.table(change.table()).await?;
        let after = dry_run::check(change, before.as_deref(), statement)?;
        let definition = after.map_or(Definition::Absent, Definition::Table);
        self.flush_deferred().await?;
        self.after = StateAfter::Unknown;
        let next = self.locked()?.last.next();
        let intent = Intent::new(change, statement, next, ddl::ddl(change, &self.server));
        self.shared.catalog.forget();
        match change {
            SchemaChange::DropTable(_) => self.drop_table(change, intent, &definition).await,
            SchemaChange::CreateTable(_) | SchemaChange::AddColumn(..) => {
                self.log_and_change(change, intent, &definition).await
            }
        }
    }

    /// Writes ledger row and intent, and has the DDL commit them.
    async fn log_and_change(
        &mut self,
        change: &SchemaChange,
        mut intent: Intent,
        definition: &Definition,
    ) -> Result<Seq, CtldbError> {
        let shared = self.shared;
        let deadline = self.deadline;
        let mut second = shared.connections.get(deadline).await?;
        ddl::take_named_lock(&mut self.connection, deadline).await?;
        self.has_named_lock = true;
        let database = shared.connections.database();
        let rehearsed = ddl::rehearse(&mut second, database, &intent, change, &self.server, deadline).await;
        second.give_back();
        rehearsed?;
        let seq = self.append_now(&intent.statement).await?;
        intent.seq = seq;
        self.hold_back(&intent.insert()).await?;
        self.hold_back(&definitions::upsert(change.table(), seq, definition)).await?;
        self.flush().await?;
        failpoint::hit("ddl-after-intent");
        // A late answer is better than none: the server gives up waiting for the table within this.
        let deadline = deadline.max(Instant::now() + ddl::LEAST_TIME);
        self.locked()?.begun.push(intent.clone());
        if let Err(error) = self.connection.query_until(&intent.ddl, deadline).await {
            let error = CtldbError::from(error);
            self.doom(&error);
            return Err(error);
        }
        for place in ["ddl-after-ddl", "ddl-after-ledger", "ddl-after-commit"] {
            failpoint::hit(place);
        }
        // The DDL has committed the transaction, and the ledger lock went with it.
        self.locked = None;
        // An intent that stays is found to be finished by whoever writes next.
        let end = format!("{};{}", intent.delete(), ddl::DROP_NAMED_LOCK);
        self.has_named_lock = self.connection.query(&end, deadline).await.is_err();
        Ok(seq)
    }

    /// Drops the table on a second connection, and then writes the ledger row.
    async fn drop_table(
        &mut self,
        change: &SchemaChange,
        intent: Intent,
        definition: &Definition,
    ) -> Result<Seq, CtldbError> {
        self.drop_beside(&intent).await?;
        let seq = self.append_now(&intent.statement).await?;
        failpoint::hit("ddl-after-ledger");
        self.hold_back(&definitions::upsert(change.table(), seq, definition)).await?;
        self.hold_back(&intent.delete()).await?;
        Ok(seq)
    }

    async fn drop_beside(&mut self, intent: &Intent) -> Result<(), CtldbError> {
        let shared = self.shared;
        let deadline = self.deadline;
        let mut second = shared.connections.get(deadline).await?;
        ddl::take_named_lock(&mut second, deadline).await?;
        let database = shared.connections.database();
        let still_locked = async || self.check_lock().await;
        let result = match ddl::carry_out(&mut second, database, intent, deadline, still_locked).await {
            DdlOutcome::Done => {
                self.locked()?.begun.push(intent.clone());
                Ok(())
            }
            DdlOutcome::NotDone(error) => Err(error),
            DdlOutcome::Unknown(error) => {
                self.locked()?.begun.push(intent.clone());
                self.doom(&error);
                return Err(error);
            }
        };
        // If letting go fails the connection is closed, and the lock with it.
        if ddl::drop_named_lock(&mut second, deadline).await.is_ok() {
            second.give_back();
        }
        result
    }

    /// Appends a ledger row and sends it. The original's DROP TABLE writes its ledger row without the lock, so the
    /// next seq may be taken; then the one after it is tried.
    async fn append_now(&mut self, statement: &str) -> Result<Seq, CtldbError> {
        let mut tries = 0;
        loop {
            let before = self.locked()?.last;
            let seq = self.append(&[statement.to_owned()]).await?;
            let sent = self.flush().await;
            tries += 1;
            match sent {
                Ok(()) => return Ok(seq),
                // Only this row failed, and the transaction goes on.
                Err(CtldbError::Contention(_)) if self.check().is_ok() && tries < APPEND_TRIES => {}
                Err(error) => return Err(error),
            }
            let last: i64 = one(self.ask(&self.shared.ledger.fill(LAST_SEQ_NOW)).await?)?;
            let locked = self.locked()?;
            locked.appended.pop();
            locked.last = before.max(Seq(last));
        }
    }
}
