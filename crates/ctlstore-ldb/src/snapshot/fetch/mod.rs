//! Getting a snapshot from where it was published: found by its manifest, or where
//! there is none by its key, downloaded in one pass, and checked before anyone uses it.
//!
//! - [`fetch`] keeps the file, [`verify`] does not, [`look`] reads the manifest alone, and
//!   [`find`] asks besides whether what it names is there.
//! - [`Sources`] are places that are asked again and again.

mod candidate;
mod check;
mod decode;
mod error;
mod receive;
mod resume;
mod sources;

use std::cell::Cell;
use std::fs;
use std::path::Path;

use crate::snapshot::SnapshotUrl;
use crate::snapshot::TableDigest;
use crate::snapshot::manifest::{FORMAT_VERSION, Manifest, ManifestError};
use crate::snapshot::store::{Object, ObjectInfo, Part, Store, StoreError, contained};
use crate::snapshot::{Phase, Progress};
use ctlstore_core::disk::TemporaryName;
use ctlstore_core::ledger::{CannotFollow, HistoryCheck, LastRow, LdbPosition, LedgerInfo, Seq, may_follow};
use ctlstore_core::{Abort, failpoint};

pub use candidate::{Candidate, find, still_has};
pub(in crate::snapshot) use decode::is_compressed;
pub use error::{BadSnapshot, FetchError, Unwanted};
pub use receive::Limits;
pub use sources::Sources;

use receive::{Received, Waiting, receive};
use resume::Resuming;

/// How often a place is asked again because someone was publishing meanwhile.
const MAX_RACES: u32 = 3;
/// How the names of files begin that are only looked at.
const VERIFYING: &str = "ctlstore-verify";

/// What a snapshot must be, besides whole.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Of this ledger. One that names no ledger is taken.
    pub ledger_id: Option<String>,
    /// Able to follow this ledger.
    pub ledger: Option<LedgerInfo>,
    /// With a last row that this ledger has, too.
    pub history: Option<HistoryCheck>,
    /// At this seq or further on.
    pub from: Option<Seq>,
}

impl Wanted {
    fn judge(&self, position: &LdbPosition) -> Result<(), BadSnapshot> {
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
        // The ledger may have grown since; the check below asks it as it is now.
        let may_have_grown = self.history.is_some() && matches!(followed, Err(CannotFollow::AheadOfLedger { .. }));
        if !may_have_grown {
            followed.clone().map_err(|reason| unwanted(reason.into()))?;
        }
        match self.history.as_ref().map(|history| history.ask(position)) {
            Some(LastRow::Other | LastRow::Missing) => {
                Err(unwanted(Unwanted::OtherHistory { seq: position.seq, at: position.leader_ts }))
            }
            Some(LastRow::Unknown) => followed.map_err(|reason| unwanted(reason.into())),
            // A host that starts while the control plane is away takes what it is given.
            Some(LastRow::Same) | None => Ok(()),
        }
    }

    /// Whether the ledger is known to have all of its rows.
    pub fn has_whole_ledger(&self) -> bool {
        self.ledger.as_ref().is_some_and(|ledger| may_follow(ledger, &LdbPosition::default()).is_ok())
    }
}

/// A snapshot that was downloaded and checked.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub position: LdbPosition,
    /// The size of the file, and of what was downloaded for it.
    pub bytes: u64,
    pub stored_bytes: u64,
    /// `None` where there is none, as for the original's snapshots.
    pub manifest: Option<Manifest>,
    /// Whether it was compared with the original's checksum, which counts where there is no manifest.
    pub has_checksum: bool,
    /// What each table holds, where it was looked at: by [`verify`], and wherever a
    /// manifest says what it should be.
    pub tables: Vec<TableDigest>,
}

/// The manifest of what is published at `url`, `None` where there is none. Nothing else
/// is looked at.
pub fn look(url: &SnapshotUrl, abort: &Abort) -> Result<Option<Manifest>, FetchError> {
    read_manifest(&Store::open(url)?, abort)
}

/// Downloads the snapshot at `url` to `to`, and checks it. The file says of itself by
/// its header that it is in WAL mode, and has no WAL beside it.
///
/// # Errors
/// When something is at `to`, which stays. Whatever else fails, nothing is left there.
pub fn fetch(
    url: &SnapshotUrl,
    to: &Path,
    wanted: &Wanted,
    abort: &Abort,
    progress: &dyn Progress,
) -> Result<Fetched, FetchError> {
    let places = Places { url, to, digests: false, limits: Limits::default() };
    Fetch::new(&places, wanted, abort, progress)?.run(&mut |_| Ok(()))
}

/// The same without keeping the file, which needs room in `directory` meanwhile. What a
/// process that was killed has left there goes at the next call.
pub fn verify(
    url: &SnapshotUrl,
    directory: &Path,
    wanted: &Wanted,
    abort: &Abort,
    progress: &dyn Progress,
) -> Result<Fetched, FetchError> {
    let name = TemporaryName::claim(&directory.join(VERIFYING), ".incoming");
    let name = name.map_err(FetchError::io("make a file in", directory))?;
    let places = Places { url, to: name.path(), digests: true, limits: Limits::default() };
    Fetch::new(&places, wanted, abort, progress)?.run(&mut |_| Ok(()))
}

/// What stands at the store's own key, whatever a manifest says: whose state it is, and
/// whether there are rows in it; `None` where no host could start from it. Needs room at
/// `to` meanwhile.
pub(in crate::snapshot) fn inspect_plain(
    store: &Store,
    to: &Path,
    abort: &Abort,
) -> Result<Option<(LdbPosition, bool)>, FetchError> {
    let (url, store, wanted) = (store.url().to_string(), store.clone(), &Wanted::default());
    let limits = Limits::default();
    let (differed, has_length) = (Cell::new(false), Cell::new(true));
    let fetch = Fetch { store, url, to, digests: true, limits, wanted, abort, progress: &(), differed, has_length };
    match fetch.get(None, &mut |_| Ok(())) {
        Ok(fetched) => {
            fs::remove_file(to).map_err(FetchError::io("remove", to))?;
            Ok(Some((fetched.position, fetched.tables.iter().any(|table| table.rows > 0))))
        }
        Err(FetchError::Bad { reason, .. }) if reason.is_useless() => Ok(None),
        // What does not fit is not downloaded again and again.
        Err(FetchError::NoRoom { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Asked before a snapshot is downloaded, with what names it where there is such a thing; an
/// error ends the fetch.
type Refuse<'a> = dyn FnMut(Option<&str>) -> Result<(), FetchError> + 'a;

/// From where to where.
struct Places<'a> {
    url: &'a SnapshotUrl,
    to: &'a Path,
    /// Whether the tables are digested though no manifest wants it.
    digests: bool,
    limits: Limits,
}

struct Fetch<'a> {
    store: Store,
    /// As it may be shown.
    url: String,
    to: &'a Path,
    digests: bool,
    limits: Limits,
    wanted: &'a Wanted,
    abort: &'a Abort,
    progress: &'a dyn Progress,
    /// Whether what was received last is not what its manifest or checksum says.
    differed: Cell<bool>,
    /// Whether what was received last came with its length, so that its end is known to be one.
    has_length: Cell<bool>,
}

impl<'a> Fetch<'a> {
    fn new(
        places: &Places<'a>,
        wanted: &'a Wanted,
        abort: &'a Abort,
        progress: &'a dyn Progress,
    ) -> Result<Self, FetchError> {
        let Places { url, to, digests, limits } = *places;
        let (store, url) = (Store::open(url)?, url.to_string());
        let (differed, has_length) = (Cell::new(false), Cell::new(true));
        Ok(Self { store, url, to, digests, limits, wanted, abort, progress, differed, has_length })
    }

    /// Whatever panics on the way is this place's failure.
    fn run(&self, refuse: &mut Refuse<'_>) -> Result<Fetched, FetchError> {
        let was_there = self.to.symlink_metadata().is_ok();
        let outcome = contained(|| self.url.clone(), || self.run_with_races(refuse));
        if !was_there && matches!(outcome, Err(FetchError::Refused(StoreError::Panicked { .. }))) {
            remove(self.to);
        }
        outcome
    }

    fn run_with_races(&self, refuse: &mut Refuse<'_>) -> Result<Fetched, FetchError> {
        let mut manifest = self.manifest()?;
        let (mut races, mut has_read_again) = (0, false);
        loop {
            let outcome = self.get(manifest.as_ref(), refuse);
            let Err(error) = outcome else { return outcome };
            races += 1;
            if races > MAX_RACES || !error.may_be_a_race() {
                return Err(error);
            }
            // Data is published before its manifest, so a new one names what is there now.
            let again = self.manifest()?;
            if again == manifest && !matches!(error, FetchError::Changed(_)) {
                // It may have been damaged on its way.
                if !self.differed.get() || std::mem::replace(&mut has_read_again, true) {
                    return Err(error);
                }
            }
            manifest = again;
        }
    }

    /// A place that lets nobody ask for a manifest has none: object stores that hide
    /// what there is say "denied" where nothing is.
    fn manifest(&self) -> Result<Option<Manifest>, FetchError> {
        match read_manifest(&self.store, self.abort) {
            Err(FetchError::Refused(StoreError::Denied { .. })) => Ok(None),
            read => read,
        }
    }

    fn get(&self, manifest: Option<&Manifest>, refuse: &mut Refuse<'_>) -> Result<Fetched, FetchError> {
        let bad = FetchError::bad(&self.url);
        self.differed.set(false);
        if let Some(manifest) = manifest {
            self.wanted.judge(&manifest.position()).map_err(&bad)?;
        }
        let open = |part: &Part| self.open(manifest, part);
        let mut stream = Resuming::open(&open, manifest.is_some(), self.abort)?;
        let info = stream.info().clone();
        let is_told = manifest.is_some() || checksum_of(&info).is_some();
        let identity = match manifest {
            Some(manifest) => Some(manifest.stored_sha256.clone()),
            None => self.store.identity(&info),
        };
        self.has_length.set(info.size.is_some());
        refuse(identity.as_deref())?;
        let waiting = Waiting {
            abort: self.abort,
            progress: self.progress,
            stored_bytes: info.size,
            bytes: manifest.map(|manifest| manifest.bytes),
            limits: self.limits,
        };
        let received = receive(&self.url, &mut stream, self.to, &waiting);
        let received = received.inspect_err(|_| self.differed.set(is_told))?;
        failpoint::hit("bootstrap-after-download");
        let matched = match manifest {
            Some(manifest) => matches_manifest(&received, manifest),
            None => matches_checksum(&received, &info),
        };
        self.differed.set(matched.is_err());
        let checked = matched.and_then(|()| self.check(manifest));
        let (position, tables) = checked.map_err(&bad).inspect_err(|_| remove(self.to))?;
        failpoint::hit("bootstrap-after-check");
        let Received { bytes, stored_bytes, .. } = received;
        let has_checksum = manifest.is_none() && info.checksum.is_some_and(|checksum| !checksum.trim().is_empty());
        Ok(Fetched { position, bytes, stored_bytes, manifest: manifest.cloned(), has_checksum, tables })
    }

    /// What the manifest names; where that is not kept, what stands at the key itself.
    fn open(&self, manifest: Option<&Manifest>, part: &Part) -> Result<Object, StoreError> {
        let plain = |part| self.store.get(self.store.name(), part, self.abort);
        let Some(manifest) = manifest else { return plain(part) };
        match self.store.get(&manifest.key, part, self.abort) {
            Err(StoreError::NotFound { .. }) => plain(part),
            opened => opened,
        }
    }

    fn check(&self, manifest: Option<&Manifest>) -> Result<(LdbPosition, Vec<TableDigest>), BadSnapshot> {
        self.progress.at(Phase::Check, 0, None);
        let position = check::check(self.to, self.abort)?;
        if let Some(manifest) = manifest {
            let said = manifest.position();
            if said.seq != position.seq {
                let reason = format!("it is at seq {}, the manifest says {}", position.seq, said.seq);
                return Err(BadSnapshot::Mismatch(reason));
            }
            if said.ledger_id != position.ledger_id {
                return Err(BadSnapshot::Mismatch("it is of another ledger than the manifest says".to_owned()));
            }
        }
        self.wanted.judge(&position)?;
        check::mark_for_wal(self.to)?;
        // None at all is what a manifest says that does not tell.
        let said = manifest.map(|manifest| &manifest.tables).filter(|tables| !tables.is_empty());
        if said.is_none() && !self.digests {
            return Ok((position, Vec::new()));
        }
        let found = check::digests(self.to, self.abort, self.progress)?;
        said.map_or(Ok(()), |said| check::compare(&found, said))?;
        Ok((position, found))
    }
}

/// Removes what was downloaded. What led to that says more than an error here would.
fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

fn read_manifest(store: &Store, abort: &Abort) -> Result<Option<Manifest>, FetchError> {
    let json = match store.read(&Manifest::name_of(store.name()), Manifest::MAX_BYTES, abort) {
        Ok((json, _)) => json,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Manifest::parse(&json).map(Some).map_err(|error| {
        FetchError::bad(&store.url().to_string())(match error {
            ManifestError::Newer(found) => {
                BadSnapshot::NewerFormat { what: "manifest", found: found.to_string(), known: FORMAT_VERSION }
            }
            other => BadSnapshot::Mismatch(other.to_string()),
        })
    })
}

fn matches_manifest(received: &Received, manifest: &Manifest) -> Result<(), BadSnapshot> {
    let differs = |what: &str, found: &dyn ToString, said: &dyn ToString| {
        let (found, said) = (found.to_string(), said.to_string());
        Err(BadSnapshot::Mismatch(format!("{what} is {found}, the manifest says {said}")))
    };
    if received.stored_bytes != manifest.stored_bytes {
        return differs("its stored size", &received.stored_bytes, &manifest.stored_bytes);
    }
    if received.stored_sha256 != manifest.stored_sha256 {
        return differs("its stored sha-256", &received.stored_sha256, &manifest.stored_sha256);
    }
    if received.bytes != manifest.bytes {
        return differs("its size", &received.bytes, &manifest.bytes);
    }
    if received.sha256 != manifest.sha256 {
        return differs("its sha-256", &received.sha256, &manifest.sha256);
    }
    Ok(())
}

/// The checksum that the original puts beside what it uploads.
fn checksum_of(info: &ObjectInfo) -> Option<&str> {
    info.checksum.as_deref().map(str::trim).filter(|checksum| !checksum.is_empty())
}

fn matches_checksum(received: &Received, info: &ObjectInfo) -> Result<(), BadSnapshot> {
    match checksum_of(info) {
        Some(said) if said != received.sha1 => {
            Err(BadSnapshot::Mismatch(format!("its sha-1 is {}, its checksum says {said}", received.sha1)))
        }
        _ => Ok(()),
    }
}
