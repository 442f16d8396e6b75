//! Finds out what became of a commit whose answer was lost. Entry point: [`look_up`]. It writes nothing
//! but the lock row's clock, and it never runs the transaction again.
//!
//! 1. A new transaction waits for the ledger lock, so the lost one is over.
//! 2. The lock row's clock shows whether any transaction came in between.
//! 3. The ledger shows the statements at the seqs that the lost transaction gave them.
//! 4. The writers' cookies show whose statements those are: another executive may have written the
//!    same ones at the same seqs.
//!
//! If these do not answer the question, the outcome is unknown, and the client is told so.

use std::time::Instant;

use crate::ctldb::error::CtldbError;

use super::begin::begin_again;
use super::finish_ddl::FinishedChange;
use super::open_transaction::{Locked, OpenTransaction};
use super::rows;
use super::shared::Shared;

const WITH_COOKIES: &str = "SELECT COUNT(*) FROM mutators WHERE {have}";
const ROWS_BETWEEN: &str = "SELECT seq, statement FROM {ledger} WHERE seq >= {from} AND seq <= {to} ORDER BY seq";

/// Succeeds if the transaction was committed. An error says that it was not, or that this is unknown.
pub(super) async fn look_up(shared: &Shared, reason: &str, lost: &Locked, deadline: Instant) -> Result<(), CtldbError> {
    let not_committed = || CtldbError::Contention(format!("the connection was lost at the commit: {reason}"));
    let unknown = || CtldbError::OutcomeUnknown(format!("the answer to the commit was lost: {reason}"));
    shared.counts.lost_commits.add(1);
    shared.catalog.forget();
    let (mut transaction, finished) = begin_again(shared, deadline).await.map_err(|_| unknown())?;
    let (clock, low_water) = transaction.locked.as_ref().map_or((0, None), |locked| (locked.clock, locked.low_water));
    let in_ledger = has_rows(&mut transaction, lost).await;
    let has_cookies =
        matches!(in_ledger, Ok(true)) && have_cookies(&mut transaction, lost).await.is_ok_and(|have| have);
    if lost.assumed {
        // The lost batch may still be on its way to the server, and its precondition may hold there. The
        // committed clock makes it fail.
        transaction.commit_lock().await.map_err(|_| unknown())?;
    } else {
        transaction.abandon().await;
    }
    // Its rows may have been pruned since, so their absence proves nothing.
    if low_water > lost.low_water && lost.appended.first().is_some_and(|(first, _)| Some(*first) < low_water) {
        return Err(unknown());
    }
    let is_ours = |finished: &FinishedChange| lost.begun.iter().any(|intent| intent.token == finished.token);
    if finished.iter().any(is_ours) {
        // The commit would have deleted the intent. Finishing it wrote the ledger row that it promised.
        return if in_ledger.map_err(|_| unknown())? && !lost.wrote_rows { Ok(()) } else { Err(unknown()) };
    }
    // This transaction has moved the clock by one. The commit would have moved it before.
    if finished.is_empty() && clock == lost.clock {
        return Err(not_committed());
    }
    match in_ledger {
        // Another executive may have finished the schema change, but not the rows that came with it.
        Ok(true) if !lost.begun.is_empty() && lost.wrote_rows => Err(unknown()),
        Ok(true) if !lost.appended.is_empty() && has_cookies => Ok(()),
        Ok(false) if lost.begun.is_empty() => Err(not_committed()),
        _ => Err(unknown()),
    }
}

/// Whether the writers have the cookies that `lost` gave them. True if it gave none.
async fn have_cookies(transaction: &mut OpenTransaction<'_>, lost: &Locked) -> Result<bool, CtldbError> {
    if lost.cookies.is_empty() {
        return Ok(true);
    }
    let have = lost.cookies.iter().map(|(writer, cookie)| {
        format!("(writer = {} AND cookie = {})", rows::quote(writer.as_str()), rows::blob(cookie))
    });
    let sql = WITH_COOKIES.replace("{have}", &have.collect::<Vec<_>>().join(" OR "));
    let have = transaction.ask::<usize>(&sql).await?;
    Ok(have == [lost.cookies.len()])
}

/// Whether the ledger has exactly the rows that `lost` appended. True if it appended none.
async fn has_rows(transaction: &mut OpenTransaction<'_>, lost: &Locked) -> Result<bool, CtldbError> {
    let (Some((first, _)), Some((last, _))) = (lost.appended.first(), lost.appended.last()) else { return Ok(true) };
    let sql = transaction.shared.ledger.fill(ROWS_BETWEEN);
    let sql = sql.replace("{from}", &first.to_string()).replace("{to}", &last.to_string());
    let rows = transaction.ask::<(i64, String)>(&sql).await?;
    Ok(rows.into_iter().eq(lost.appended.iter().map(|(seq, statement)| (seq.0, statement.clone()))))
}
