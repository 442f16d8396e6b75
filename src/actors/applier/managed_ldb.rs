//! The LDB as the writer thread has it: open, not there yet, or unreadable. Entry points:
//! [`ManagedLdb::position`], `apply` and `replace`. It fetches, replaces and closes LDBs. It blocks,
//! so only the writer thread uses it. `catch_up` brings an LDB forward in its own file.

use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::messages::ledger::FollowedLedger;
use ctlstore_core::ledger::{AllowEmpty, Batch, LdbPosition};
use ctlstore_ldb::changelog::ChangelogCounts;
use ctlstore_ldb::snapshot::fetch::Wanted;
use ctlstore_ldb::{
    Applied, ApplyError, Checkpoint, ClaimedLdb, IntegrityCheck, IntegrityVerdict, Ldb, LdbError, LdbOptions, Replaced,
};
use ctlstore_reader::read::Rotation;

use super::bootstrap::{LdbFetch, NoSnapshot};

/// A checked snapshot that lies beside the LDB and waits for room. Without it every try would fetch it again.
#[derive(Debug)]
pub struct KeptSnapshot {
    pub(super) position: LdbPosition,
    /// So many free bytes were too few.
    pub(super) more_than: u64,
}

/// How long a replaced file stays for its readers. They look for a new one every 50 ms; a reader
/// that is just opening the old file needs its WAL a little longer.
const READERS_LEAVE: Duration = Duration::from_secs(60);

/// After a check found the LDB sound, no report of damage starts another check before this pause.
/// The first pause, and the longest one if each check finds nothing.
const BETWEEN_LOOKS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
/// What a new file means for programs that don't follow the path, such as the original's.
const ANOTHER_FILE: &str = "another file takes its place; programs that have the old one open need a restart, unless \
                            they look at the path again";
/// What to do with a damaged LDB if no source is set.
const ADVICE: &str = "set bootstrap.urls to have another one fetched, or stop the node and move the file away \
                      to have it made again from the ledger";

/// Why there is no LDB to work on.
#[derive(Debug, thiserror::Error)]
pub enum ObtainLdbError {
    #[error(transparent)]
    Ldb(#[from] LdbError),
    #[error(transparent)]
    Snapshot(#[from] NoSnapshot),
}

pub struct ManagedLdb {
    pub(super) home: ClaimedLdb,
    options: LdbOptions,
    /// If readers read several LDBs in turn.
    rotation: Option<Rotation>,
    pub(super) bootstrap: LdbFetch,
    pub(super) ldb: Option<Ldb>,
    /// Why the LDB at the path can't be read. If it is set, the LDB is closed.
    unreadable: Option<String>,
    /// A snapshot that was fetched, and could not be used because the disk had no room.
    pub(super) kept: Option<KeptSnapshot>,
    /// Whether an empty LDB may be made as soon as the ledger's id or its first batch comes.
    may_begin_empty: bool,
    /// The id of the ledger that was followed last.
    ledger_id: Option<String>,
    replaced_at: Option<Instant>,
    /// The whole LDB is not checked again before this time.
    next_look: Option<Instant>,
    looks: Backoff,
    /// The lines that closed LDBs wrote to the changelog.
    written: ChangelogCounts,
}

impl ManagedLdb {
    /// Opens the LDB at the path. If it is missing or unreadable and there is a source, nothing is
    /// opened; [`position`](Self::position) then fetches a snapshot.
    pub fn open(
        home: ClaimedLdb,
        options: LdbOptions,
        rotation: Option<Rotation>,
        bootstrap: LdbFetch,
    ) -> Result<Self, LdbError> {
        let mut ldb_slot = Self {
            home,
            options,
            rotation,
            bootstrap,
            ldb: None,
            unreadable: None,
            kept: None,
            may_begin_empty: false,
            ledger_id: None,
            replaced_at: None,
            next_look: None,
            looks: Backoff::new(BETWEEN_LOOKS.0, BETWEEN_LOOKS.1),
            written: ChangelogCounts::default(),
        };
        let may_fetch = ldb_slot.bootstrap.has_sources();
        if ldb_slot.bootstrap.may_bring_the_first() && ldb_slot.home.is_missing()? {
            return Ok(ldb_slot);
        }
        match ldb_slot.open_ldb() {
            Err(error) if may_fetch && error.is_corrupt() => {
                ldb_slot.unreadable = Some(error.to_string());
                Ok(ldb_slot)
            }
            opened => opened.map(|_| ldb_slot).map_err(advised),
        }
    }

    /// The position of the open LDB; `None` while none is open.
    pub fn open_position(&mut self) -> Result<Option<LdbPosition>, LdbError> {
        if self.ldb.is_none() { Ok(None) } else { self.with_ldb(|ldb| ldb.position()).map(Some) }
    }

    /// The LDB's position. If there is no readable LDB, it fetches one first. If `ledger` is known,
    /// the fetched one can follow it.
    pub fn position(&mut self, ledger: Option<FollowedLedger>) -> Result<LdbPosition, ObtainLdbError> {
        if self.ldb.is_none() && !self.obtain(ledger)? {
            return Ok(LdbPosition::default());
        }
        let position = self.with_ldb(|ldb| ldb.position())?;
        self.ledger_id.clone_from(&position.ledger_id);
        Ok(position)
    }

    pub fn adopt(&mut self, id: &str) -> Result<(), LdbError> {
        self.begin_empty()?;
        self.with_ldb(|ldb| ldb.adopt_ledger_id(id))?;
        self.ledger_id = Some(id.to_owned());
        Ok(())
    }

    pub fn apply(&mut self, batch: &Batch) -> Result<Applied, ApplyError> {
        self.begin_empty()?;
        let Some(ldb) = &mut self.ldb else { return Err(self.closed().into()) };
        match ldb.apply(batch) {
            Err(ApplyError::Ldb(error)) => Err(self.noted(error).into()),
            other => other,
        }
    }

    /// Brings the LDB to a snapshot that can follow `ledger`, in its own file if it can be.
    pub fn replace(&mut self, FollowedLedger { info, history }: FollowedLedger) -> Result<LdbPosition, ObtainLdbError> {
        let ledger_id = info.ledger_id.clone();
        let history = Some(history);
        let wanted = Wanted { ledger_id, ledger: Some(info), history, from: None };
        let fetched = match self.take_kept(&wanted)? {
            Some(position) => position,
            None => {
                // The fetch needs space on the disk, and the readers of an earlier LDB have left it.
                self.home.tidy()?;
                let fetched = self.bootstrap.round(&self.home, &wanted)?;
                fetched.ok_or_else(|| self.bootstrap.nothing_there())?
            }
        };
        if !self.catch_up(&fetched)? {
            let path = self.home.path().display();
            tracing::warn!(role = "applier", ldb = %path, seq = %fetched.seq, "{ANOTHER_FILE}");
            self.switch()?;
        }
        self.position(None)
    }

    /// A check of the whole LDB, for a report that it is damaged; `None` if it was found sound a
    /// moment ago.
    pub fn look(&mut self) -> Result<Option<IntegrityCheck>, LdbError> {
        if self.next_look.is_some_and(|next| Instant::now() < next) {
            return Ok(None);
        }
        let look = self.with_ldb(|ldb| ldb.begin_integrity_check());
        look.map(Some).map_err(|error| self.advised(error))
    }

    /// Records the result of a check. A damaged LDB is closed if another one can be fetched; the next
    /// call of [`position`](Self::position) fetches it.
    pub fn record_check(
        &mut self,
        look: &IntegrityCheck,
        outcome: Result<(), LdbError>,
    ) -> Result<IntegrityVerdict, LdbError> {
        let looked = self.with_ldb(|ldb| ldb.record_check(look, outcome));
        let verdict = looked.map_err(|error| self.advised(error))?;
        if verdict == IntegrityVerdict::NotChecked {
            // It says nothing of the file that is open now, which may be looked at at once.
            return Ok(verdict);
        }
        let now = Instant::now();
        if self.next_look.is_some_and(|next| now > next + BETWEEN_LOOKS.1) {
            // No damage was reported for a long time.
            self.looks.reset();
        }
        self.next_look = Some(now + self.looks.next_pause());
        Ok(verdict)
    }

    /// Maintains the LDB between jobs. If the -wal file is gone, some readers have the old WAL open and
    /// others would find a new one. So the LDB is written to a new file, with the applier's part of
    /// the old WAL, and readers change to that.
    pub fn maintain(&mut self) -> Result<Option<Checkpoint>, LdbError> {
        match self.with_ldb(Ldb::maintain) {
            Err(LdbError::WalRemoved { path }) => {
                self.write_anew()?;
                tracing::warn!(role = "applier", wal = %path.display(), "was deleted or replaced, wrote the ldb anew");
                Ok(None)
            }
            other => other.map_err(|error| self.advised(error)),
        }
    }

    fn write_anew(&mut self) -> Result<(), LdbError> {
        self.home.clear_incoming()?;
        let incoming = self.home.incoming();
        self.with_ldb(|ldb| ldb.copy_to(&incoming)).inspect_err(|_| drop(self.home.clear_incoming()))?;
        self.put_in_place()
    }

    /// The open LDB, to ask how it is.
    pub fn ldb(&self) -> Option<&Ldb> {
        self.ldb.as_ref()
    }

    /// The lines written to the changelog since the start.
    pub fn changelog_total(&self) -> ChangelogCounts {
        self.ldb.as_ref().map_or(self.written, |ldb| self.written + ldb.changelog_total())
    }

    /// Runs `work` on the open LDB. If `work` finds damage, the LDB may be given up.
    pub fn with_ldb<T>(&mut self, work: impl FnOnce(&mut Ldb) -> Result<T, LdbError>) -> Result<T, LdbError> {
        let Some(ldb) = &mut self.ldb else { return Err(self.closed()) };
        work(ldb).map_err(|error| self.noted(error))
    }

    /// Removes the files of a replaced LDB after its readers have left.
    pub fn tidy(&mut self) {
        if self.replaced_at.is_some_and(|at| at.elapsed() >= READERS_LEAVE) {
            self.replaced_at = None;
            if let Err(error) = self.home.tidy() {
                tracing::warn!(role = "applier", %error, "the next start tries again");
            }
        }
    }

    pub fn close(self) -> Result<(), LdbError> {
        self.ldb.map_or(Ok(()), Ldb::close)
    }

    /// Opens the LDB. If there is no readable one, it fetches one. False if no source has a snapshot
    /// either, and an empty LDB may be made once the ledger is known.
    fn obtain(&mut self, ledger: Option<FollowedLedger>) -> Result<bool, ObtainLdbError> {
        self.may_begin_empty = false;
        let is_missing = self.home.is_missing()?;
        let may_fetch = self.bootstrap.has_sources() && (is_missing || self.unreadable.is_some());
        if !may_fetch {
            return self.open_ldb().map(|()| true).map_err(|error| self.noted(error).into());
        }
        let (ledger, history) = ledger.map(|ledger| (ledger.info, ledger.history)).unzip();
        let ledger_id = self.ledger_id.clone().or_else(|| ledger.as_ref()?.ledger_id.clone());
        let wanted = Wanted { ledger_id, ledger, history, from: None };
        let may_replay = wanted.has_whole_ledger() && self.bootstrap.allow_empty() != AllowEmpty::Never;
        let fetched = match self.bootstrap.round(&self.home, &wanted) {
            // The ledger still has all of its own rows, so such a snapshot is not needed.
            Err(none) if none.is_lost_history && may_replay => {
                tracing::warn!(role = "applier", error = %none, "passed over, beginning with the ledger's first row");
                None
            }
            outcome => outcome?,
        };
        if fetched.is_some() {
            self.switch()?;
            return Ok(true);
        }
        match self.bootstrap.allow_empty() {
            AllowEmpty::Never => Err(self.bootstrap.nothing_there().into()),
            AllowEmpty::Always => {
                self.may_begin_empty = true;
                self.begin_empty()?;
                Ok(true)
            }
            AllowEmpty::Auto => {
                self.may_begin_empty = true;
                Ok(false)
            }
        }
    }

    /// Makes an empty LDB, if none is open and it is allowed.
    fn begin_empty(&mut self) -> Result<(), LdbError> {
        if self.ldb.is_some() || !self.may_begin_empty {
            return Ok(());
        }
        self.home.start_empty()?;
        self.unreadable = None;
        self.open_ldb()?;
        // Only once. If this LDB is lost, the poller has to ask again where to begin.
        self.may_begin_empty = false;
        Ok(())
    }

    /// Replaces the LDB by the fetched one, as another file, and opens it.
    fn switch(&mut self) -> Result<(), LdbError> {
        if let Some(ldb) = &mut self.ldb
            && let Err(error) = ldb.bridge(&self.home.incoming())
        {
            tracing::warn!(role = "applier", %error, "clients of the change feed will be told to start over");
        }
        self.put_in_place()
    }

    fn put_in_place(&mut self) -> Result<(), LdbError> {
        let number = self.ldb.as_ref().and_then(Ldb::next_changelog_number);
        let replaced = if self.unreadable.is_some() { Replaced::KeptAside } else { Replaced::Discarded };
        self.home.install(&self.home.incoming(), replaced, number)?;
        self.unreadable = None;
        self.has_other_rows();
        self.replaced_at = Some(Instant::now());
        if let Some(old) = self.take_ldb()
            && let Err(error) = old.close()
        {
            tracing::debug!(role = "applier", %error, "the replaced ldb was not closed cleanly");
        }
        self.open_ldb()
    }

    /// Records that the rows were replaced, so earlier checks say nothing about the present ones.
    pub(super) fn has_other_rows(&mut self) {
        self.next_look = None;
        self.looks.reset();
    }

    /// Takes the open LDB away, to close it.
    fn take_ldb(&mut self) -> Option<Ldb> {
        self.written = self.changelog_total();
        self.ldb.take()
    }

    fn open_ldb(&mut self) -> Result<(), LdbError> {
        let mut ldb = self.home.open(&self.options)?;
        if let Some(rotation) = &self.rotation {
            ldb.rest_by(rotation.clone());
        }
        let triggers = ldb.triggers()?;
        if !triggers.is_empty() {
            let path = self.home.path().display();
            tracing::warn!(role = "applier", ldb = %path, ?triggers, "has triggers, which no ledger makes; they are off");
        }
        self.ledger_id = ldb.position()?.ledger_id;
        self.ldb = Some(ldb);
        Ok(())
    }

    /// Closes a damaged LDB if another one can be fetched. If not, the applier goes on as far as it
    /// can, and the status says what is wrong.
    pub(super) fn noted(&mut self, error: LdbError) -> LdbError {
        if error.is_corrupt() && self.bootstrap.has_sources() {
            self.unreadable = Some(error.to_string());
            drop(self.take_ldb());
        }
        error
    }

    /// As [`advised`], if no source is set.
    fn advised(&self, error: LdbError) -> LdbError {
        if self.bootstrap.has_sources() { error } else { advised(error) }
    }

    fn closed(&self) -> LdbError {
        let path = self.home.path().to_owned();
        match self.unreadable.clone() {
            Some(reason) => LdbError::Corrupt { path, reason },
            None => LdbError::Removed { path },
        }
    }
}

/// Says what to do about a damaged LDB.
fn advised(error: LdbError) -> LdbError {
    match error {
        LdbError::Corrupt { path, reason } => LdbError::Corrupt { path, reason: format!("{reason}; {ADVICE}") },
        other => other,
    }
}
