//! Brings a sound LDB to a fetched snapshot in its own file, so that programs which never open the file again get the new
//! rows. Entry point: [`ManagedLdb::catch_up`]. It says when another file has to take the LDB's place; `managed_ldb` sees
//! to that.

use std::time::Instant;

use ctlstore_core::disk::{directory_of, free_bytes};
use ctlstore_core::ledger::LdbPosition;
use ctlstore_ldb::snapshot::fetch::Wanted;
use ctlstore_ldb::{CatchUpError, LdbError};

use super::bootstrap::NoSnapshot;
use super::managed_ldb::{KeptSnapshot, ManagedLdb, ObtainLdbError};
use crate::metrics::ErrorKind;

impl ManagedLdb {
    /// The snapshot that was kept, if it is still wanted.
    ///
    /// # Errors
    /// If there is still no room to use it.
    pub(super) fn take_kept(&mut self, wanted: &Wanted) -> Result<Option<LdbPosition>, LdbError> {
        let is_there = self.home.incoming().exists();
        let Some(kept) = self.kept.take().filter(|kept| is_there && wanted.accepts(&kept.position)) else {
            return Ok(None);
        };
        if self.free_bytes().is_some_and(|free| free <= kept.more_than) {
            self.kept = Some(kept);
            return Err(LdbError::DiskFull { path: self.home.path().to_owned(), action: "bringing it forward" });
        }
        Ok(Some(kept.position))
    }

    /// Brings the open LDB to the snapshot that was fetched, which stands at `fetched`. False if another file has to take
    /// its place: no LDB is open, it is damaged, it follows another ledger, or it is further on.
    pub(super) fn catch_up(&mut self, fetched: &LdbPosition) -> Result<bool, ObtainLdbError> {
        let Some(ldb) = &mut self.ldb else { return Ok(false) };
        let began = Instant::now();
        let record = self.bootstrap.record().clone();
        let outcome = match ldb.can_catch_up(fetched) {
            Ok(false) => return Ok(false),
            Ok(true) => {
                let progress = |progress| record.catches_up(Some(progress));
                ldb.catch_up(&self.home.incoming(), self.bootstrap.abort(), &progress)
            }
            Err(error) => Err(error.into()),
        };
        record.catches_up(None);
        match outcome {
            Ok(done) => {
                record.caught_up(done, began);
                self.has_other_rows();
                self.home.clear_incoming()?;
                Ok(true)
            }
            Err(error @ CatchUpError::NotInPlace { .. }) => {
                tracing::warn!(role = "applier", %error, "not brought forward");
                Ok(false)
            }
            Err(CatchUpError::Ldb(error)) if error.is_corrupt() => {
                let error = self.noted(error);
                tracing::warn!(role = "applier", %error, "not brought forward");
                Ok(false)
            }
            Err(CatchUpError::Ldb(error)) => {
                if error.may_pass() {
                    let is_full = matches!(error, LdbError::DiskFull { .. });
                    let more_than = self.free_bytes().filter(|_| is_full).unwrap_or(0);
                    self.kept = Some(KeptSnapshot { position: fetched.clone(), more_than });
                }
                Err(error.into())
            }
            Err(CatchUpError::Aborted) => Err(NoSnapshot::aborted().into()),
            Err(error @ CatchUpError::FetchedDamaged { .. }) => {
                self.home.clear_incoming()?;
                Err(NoSnapshot::new(ErrorKind::Snapshot, error).into())
            }
        }
    }

    fn free_bytes(&self) -> Option<u64> {
        free_bytes(directory_of(self.home.path())).ok()
    }
}
