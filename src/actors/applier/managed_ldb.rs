//! What the writer thread has of an LDB: an open one, none yet, or one that can't be
//! read, and how it comes by another. Blocking.

use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::messages::ledger::FollowedLedger;
use ctlstore_core::ledger::{Batch, LdbPosition};
use ctlstore_ldb::changelog::ChangelogCounts;
use ctlstore_ldb::snapshot::fetch::Wanted;
use ctlstore_ldb::{
    Applied, ApplyError, Checkpoint, ClaimedLdb, IntegrityCheck, IntegrityVerdict, Ldb, LdbError, LdbOptions, Replaced,
};

use super::bootstrap::{AllowEmpty, Bootstrap, NoSnapshot};

/// How long readers have to leave a file that was replaced before it is removed. They
/// look every 50 ms; one that is just opening it needs its WAL a moment longer.
const READERS_LEAVE: Duration = Duration::from_secs(60);

/// How long the whole LDB is not read again after it was found to be sound, however often
/// someone says that it is damaged: at first, and where each look finds nothing.
const BETWEEN_LOOKS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
/// What to do with a damaged LDB where nobody is to be asked for another.
const ADVICE: &str = "set bootstrap.urls to have another one fetched, or stop the node and move the file away \
                      to have it made again from the ledger";

/// Why there is no LDB to work on.
#[derive(Debug, thiserror::Error)]
pub enum NoLdb {
    #[error(transparent)]
    Ldb(#[from] LdbError),
    #[error(transparent)]
    Snapshot(#[from] NoSnapshot),
}

pub struct ManagedLdb {
    home: ClaimedLdb,
    options: LdbOptions,
    bootstrap: Bootstrap,
    ldb: Option<Ldb>,
    /// Why the LDB that is there can't be read. It is closed then.
    unreadable: Option<String>,
    /// Whether whoever brings the ledger may begin with an LDB that is not made yet.
    may_begin_empty: bool,
    /// The ledger that was followed last.
    ledger_id: Option<String>,
    replaced_at: Option<Instant>,
    /// Before this the whole LDB is not looked at again.
    next_look: Option<Instant>,
    looks: Backoff,
    /// What those that are closed wrote to the changelog.
    written: ChangelogCounts,
}

impl ManagedLdb {
    /// Opens what is there. Where nothing is, or nothing that can be read, and
    /// snapshots can be asked for, that is left for [`position`](Self::position).
    pub fn open(home: ClaimedLdb, options: LdbOptions, bootstrap: Bootstrap) -> Result<Self, LdbError> {
        let mut ldb_slot = Self {
            home,
            options,
            bootstrap,
            ldb: None,
            unreadable: None,
            may_begin_empty: false,
            ledger_id: None,
            replaced_at: None,
            next_look: None,
            looks: Backoff::new(BETWEEN_LOOKS.0, BETWEEN_LOOKS.1),
            written: ChangelogCounts::default(),
        };
        let may_fetch = ldb_slot.bootstrap.has_sources();
        if may_fetch && ldb_slot.home.is_missing()? {
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

    /// Where the open LDB stands, `None` while none is open.
    pub fn open_position(&mut self) -> Result<Option<LdbPosition>, LdbError> {
        if self.ldb.is_none() { Ok(None) } else { self.with_ldb(|ldb| ldb.position()).map(Some) }
    }

    /// Where the LDB stands. Has one fetched first where there is none to be read, and
    /// only one that can follow `ledger`, if that is known.
    pub fn position(&mut self, ledger: Option<FollowedLedger>) -> Result<LdbPosition, NoLdb> {
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

    /// Replaces the LDB by a snapshot that can follow `ledger`.
    pub fn replace(&mut self, FollowedLedger { info, history }: FollowedLedger) -> Result<LdbPosition, NoLdb> {
        let (ledger_id, history) = (info.ledger_id.clone(), Some(history));
        let wanted = Wanted { ledger_id, ledger: Some(info), history, from: None };
        // Room is wanted now, and the readers of an earlier one have left it.
        self.home.tidy()?;
        match self.bootstrap.round(&self.home, &wanted)? {
            true => self.switch()?,
            false => return Err(self.bootstrap.nothing_there().into()),
        }
        self.position(None)
    }

    /// What finds out whether the LDB is sound, since someone who reads it found that it
    /// is not; `None` where it was found to be sound a moment ago.
    pub fn look(&mut self) -> Result<Option<IntegrityCheck>, LdbError> {
        if self.next_look.is_some_and(|next| Instant::now() < next) {
            return Ok(None);
        }
        let look = self.with_ldb(|ldb| ldb.look());
        look.map(Some).map_err(|error| self.advised(error))
    }

    /// What a look has found. A damaged LDB is closed where another can be fetched, for
    /// whoever next asks for its [`position`](Self::position).
    pub fn record_check(
        &mut self,
        look: &IntegrityCheck,
        outcome: Result<(), LdbError>,
    ) -> Result<IntegrityVerdict, LdbError> {
        let looked = self.with_ldb(|ldb| ldb.record_check(look, outcome));
        let verdict = looked.map_err(|error| self.advised(error))?;
        if verdict == IntegrityVerdict::NotLooked {
            // It says nothing of the file that is open now, which may be looked at at once.
            return Ok(verdict);
        }
        let now = Instant::now();
        if self.next_look.is_some_and(|next| now > next + BETWEEN_LOOKS.1) {
            // Nobody has complained for long.
            self.looks.reset();
        }
        self.next_look = Some(now + self.looks.next_pause());
        Ok(verdict)
    }

    /// What is to be done between jobs. Where the -wal is gone, what the applier still has
    /// of it is written to a file of its own, which readers then change to: some have the
    /// old WAL open, others would find a new one.
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

    /// The open LDB, to look after.
    pub fn ldb(&self) -> Option<&Ldb> {
        self.ldb.as_ref()
    }

    /// What was written to the changelog since the start.
    pub fn changelog_total(&self) -> ChangelogCounts {
        self.ldb.as_ref().map_or(self.written, |ldb| self.written + ldb.changelog_total())
    }

    /// Runs `work` on the open LDB, and remembers when that finds it damaged.
    pub fn with_ldb<T>(&mut self, work: impl FnOnce(&mut Ldb) -> Result<T, LdbError>) -> Result<T, LdbError> {
        let Some(ldb) = &mut self.ldb else { return Err(self.closed()) };
        work(ldb).map_err(|error| self.noted(error))
    }

    /// Removes the files that an LDB had which was replaced, once its readers have left.
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

    /// Opens an LDB, a fetched one where there is none to be read. False where there
    /// is nothing to fetch either and whoever brings the ledger may begin without.
    fn obtain(&mut self, ledger: Option<FollowedLedger>) -> Result<bool, NoLdb> {
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
        let is_fetched = match self.bootstrap.round(&self.home, &wanted) {
            // As good as none, where the ledger still has all of its own rows.
            Err(none) if none.is_lost_history && may_replay => {
                tracing::warn!(role = "applier", error = %none, "passed over, beginning with the ledger's first row");
                false
            }
            outcome => outcome?,
        };
        if is_fetched {
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

    /// Makes the empty LDB that was spoken of.
    fn begin_empty(&mut self) -> Result<(), LdbError> {
        if self.ldb.is_some() || !self.may_begin_empty {
            return Ok(());
        }
        self.home.start_empty()?;
        self.unreadable = None;
        self.open_ldb()?;
        // Once: should this one be lost, whoever brings the ledger has to ask anew where to begin.
        self.may_begin_empty = false;
        Ok(())
    }

    /// Puts what was fetched in the LDB's place and opens it.
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
        self.next_look = None;
        self.looks.reset();
        self.replaced_at = Some(Instant::now());
        if let Some(old) = self.take_ldb()
            && let Err(error) = old.close()
        {
            tracing::debug!(role = "applier", %error, "the replaced ldb was not closed cleanly");
        }
        self.open_ldb()
    }

    /// The open LDB, to be closed.
    fn take_ldb(&mut self) -> Option<Ldb> {
        self.written = self.changelog_total();
        self.ldb.take()
    }

    fn open_ldb(&mut self) -> Result<(), LdbError> {
        let ldb = self.home.open(&self.options)?;
        let triggers = ldb.triggers()?;
        if !triggers.is_empty() {
            let path = self.home.path().display();
            tracing::warn!(role = "applier", ldb = %path, ?triggers, "has triggers, which no ledger makes; they are off");
        }
        self.ledger_id = ldb.position()?.ledger_id;
        self.ldb = Some(ldb);
        Ok(())
    }

    /// A damaged LDB is closed where another one can be had. Where none can, the applier
    /// goes on as far as it gets, and the status says what is wrong.
    fn noted(&mut self, error: LdbError) -> LdbError {
        if error.is_corrupt() && self.bootstrap.has_sources() {
            self.unreadable = Some(error.to_string());
            drop(self.take_ldb());
        }
        error
    }

    /// As [`advised`], where nobody is to be asked for another LDB.
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
