//! Decides whether a host may use a snapshot: by its ledger, its seq and its last row.
//! Entry point: [`Wanted::judge`]. It sees a position only, so it serves before and after
//! a download alike. It opens no store and no file.

use ctlstore_core::ledger::{CannotFollow, HistoryCheck, LastRow, LdbPosition, LedgerInfo, Seq, may_follow};

use super::error::{BadSnapshot, Unwanted};

/// The demands on a snapshot, besides that it is sound.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// It belongs to this ledger. A snapshot that names no ledger passes.
    pub ledger_id: Option<String>,
    /// It can follow this ledger.
    pub ledger: Option<LedgerInfo>,
    /// Its last row is also a row of this ledger.
    pub history: Option<HistoryCheck>,
    /// Its seq is this one or a higher one.
    pub from: Option<Seq>,
}

impl Wanted {
    /// # Errors
    /// [`BadSnapshot::Unwanted`], with the reason.
    pub(super) fn judge(&self, position: &LdbPosition) -> Result<(), BadSnapshot> {
        let unwanted = |reason| BadSnapshot::Unwanted { position: position.clone(), reason };
        if let (Some(wanted), Some(found)) = (&self.ledger_id, &position.ledger_id)
            && wanted != found
        {
            return Err(unwanted(Unwanted::OtherLedger { found: found.clone(), wanted: wanted.clone() }));
        }
        if let Some(wanted) = self.from.filter(|wanted| position.seq < *wanted) {
            return Err(unwanted(Unwanted::Behind { found: position.seq, wanted }));
        }
        let followed = self.ledger.as_ref().map_or(Ok(()), |ledger| may_follow(ledger, position));
        // The ledger may have grown since `ledger` was read. The history check below asks it now.
        let may_have_grown = self.history.is_some() && matches!(followed, Err(CannotFollow::AheadOfLedger { .. }));
        if !may_have_grown {
            followed.clone().map_err(|reason| unwanted(reason.into()))?;
        }
        match self.history.as_ref().map(|history| history.ask(position)) {
            Some(LastRow::Other | LastRow::Missing) => {
                Err(unwanted(Unwanted::OtherHistory { seq: position.seq, at: position.leader_ts }))
            }
            Some(LastRow::Unknown) => followed.map_err(|reason| unwanted(reason.into())),
            // A host that starts while the control plane is away can't ask, and takes the snapshot.
            Some(LastRow::Same) | None => Ok(()),
        }
    }

    /// Whether a snapshot at `position` is wanted.
    pub fn accepts(&self, position: &LdbPosition) -> bool {
        self.judge(position).is_ok()
    }

    /// Whether the ledger is known to have all of its rows.
    pub fn has_whole_ledger(&self) -> bool {
        self.ledger.as_ref().is_some_and(|ledger| may_follow(ledger, &LdbPosition::default()).is_ok())
    }
}
