//! Decides whether a snapshot may take the place of what a destination has. It refuses a
//! snapshot that would take hosts back, to another ledger or to no rows at all. Entry points:
//! [`is_news`], [`refuse_empty_ldb`] and [`refuse_emptied`]. It reads and writes no
//! store: `destination_state` has read what the destination has.

use ctlstore_core::ledger::{LdbPosition, Seq};

use super::destination_state::DestinationState;
use super::digest::TableDigest;
use super::error::SnapshotError;
use super::snapshot_url::SnapshotUrl;

/// Whether a snapshot at position `taken` is newer than what `state` has. An equal one
/// counts as newer if the data at the destination is not whole, or names no ledger id and `taken` does.
///
/// # Errors
/// [`SnapshotError::Older`] and [`SnapshotError::OtherLedger`] if it would take hosts back or elsewhere.
pub(super) fn is_news(
    state: &DestinationState,
    destination: &SnapshotUrl,
    taken: &LdbPosition,
) -> Result<bool, SnapshotError> {
    let Some(published) = &state.position else { return Ok(true) };
    if let (Some(published), Some(taken)) = (&published.ledger_id, &taken.ledger_id)
        && published != taken
    {
        return Err(SnapshotError::OtherLedger {
            destination: destination.to_string(),
            published: published.clone(),
            taken: taken.clone(),
        });
    }
    if taken.seq < published.seq {
        return Err(SnapshotError::Older {
            destination: destination.to_string(),
            published: published.seq,
            taken: taken.seq,
        });
    }
    // Pruning and hosts need to know which ledger the rows are from.
    let names_ledger = published.ledger_id.is_none() && taken.ledger_id.is_some();
    Ok(published.seq < taken.seq || names_ledger || !state.is_whole)
}

/// Refuses an LDB at seq 0, unless the destination has nothing either.
///
/// # Errors
/// [`SnapshotError::Emptied`] if hosts may have got rows from there, and [`SnapshotError::Older`].
pub(super) fn refuse_empty_ldb(state: &DestinationState, destination: &SnapshotUrl) -> Result<(), SnapshotError> {
    let Some(position) = state.position.as_ref().filter(|position| position.seq > Seq::ZERO) else { return Ok(()) };
    let destination = destination.to_string();
    let taken = Seq::ZERO;
    if state.may_have_rows() {
        return Err(SnapshotError::Emptied { destination, taken });
    }
    Err(SnapshotError::Older { destination, published: position.seq, taken })
}

/// Refuses a snapshot without rows, if hosts may have got rows from the destination.
///
/// # Errors
/// [`SnapshotError::Emptied`].
pub(super) fn refuse_emptied(
    state: &DestinationState,
    destination: &SnapshotUrl,
    taken: Seq,
    tables: &[TableDigest],
) -> Result<(), SnapshotError> {
    if state.may_have_rows() && tables.iter().all(|table| table.rows == 0) {
        return Err(SnapshotError::Emptied { destination: destination.to_string(), taken });
    }
    Ok(())
}
