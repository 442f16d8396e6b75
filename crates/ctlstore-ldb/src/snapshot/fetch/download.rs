//! Downloads one snapshot and checks it. Entry points: [`fetch`] and [`verify`], and
//! [`Download`] for callers that decide by a snapshot's identity whether it is worth a
//! download. A download leaves a checked file or none; it knows no other place than its own.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::Path;

use ctlstore_core::disk::TemporaryName;
use ctlstore_core::ledger::LdbPosition;
use ctlstore_core::{Abort, failpoint};

use crate::snapshot::digest::TableDigest;
use crate::snapshot::manifest::Manifest;
use crate::snapshot::progress::{Phase, SnapshotProgress};
use crate::snapshot::snapshot_url::SnapshotUrl;
use crate::snapshot::store::{Object, ObjectInfo, Part, Store, StoreError, contained};

use super::candidate::find_manifest;
use super::check;
use super::error::{BadSnapshot, FetchError};
use super::overwritten::{self, KnownPlain};
use super::receive::{ExpansionLimits, ReceiveContext, Received, receive, remove};
use super::resume::Resuming;
use super::wanted::Wanted;

/// How often a download is tried again because a publisher replaced the snapshot meanwhile.
const MAX_RACES: u32 = 3;
/// How the names of files begin that are removed after the check.
const VERIFYING: &str = "ctlstore-verify";

/// A snapshot that was downloaded and checked.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub position: LdbPosition,
    /// Its address, without secrets.
    pub place: String,
    /// Why others at the same source were passed over before it.
    pub passed_over: Vec<String>,
    /// The size of the file.
    pub bytes: u64,
    /// The bytes that were downloaded for it.
    pub stored_bytes: u64,
    /// `None` if there is none, as with the original's snapshots.
    pub manifest: Option<Manifest>,
    /// Whether the file was compared with the original's checksum. Only snapshots without a manifest are.
    pub has_checksum: bool,
    /// The digest of each table. Only [`verify`] makes them, or a manifest that has digests to compare.
    pub tables: Vec<TableDigest>,
}

/// Downloads the snapshot at `url` to `to`, and checks it. The file's header says that it is
/// in WAL mode; no WAL is beside it.
///
/// # Errors
/// If a file is at `to`, which stays. After every other error nothing is left there.
pub fn fetch(
    url: &SnapshotUrl,
    to: &Path,
    wanted: &Wanted,
    abort: &Abort,
    progress: &dyn SnapshotProgress,
) -> Result<Fetched, FetchError> {
    let options = DownloadOptions { to, digests: false, limits: ExpansionLimits::default(), wanted, abort, progress };
    Download::of_url(url, options)?.run(&mut |_| Ok(()))
}

/// Checks the snapshot at `url` and removes the file again. It needs room in `directory`
/// for the time of the check. The next call removes what a killed process left there.
pub fn verify(
    url: &SnapshotUrl,
    directory: &Path,
    wanted: &Wanted,
    abort: &Abort,
    progress: &dyn SnapshotProgress,
) -> Result<Fetched, FetchError> {
    let name = TemporaryName::claim(&directory.join(VERIFYING), ".incoming");
    let name = name.map_err(FetchError::io("make a file in", directory))?;
    let limits = ExpansionLimits::default();
    let options = DownloadOptions { to: name.path(), digests: true, limits, wanted, abort, progress };
    Download::of_url(url, options)?.run(&mut |_| Ok(()))
}

/// Checks the object at the store's plain key, whatever a manifest says: its position, and
/// whether it has rows. `None` if no host could start from it. Needs room at `to` meanwhile.
pub(in crate::snapshot) fn check_plain_object(
    store: &Store,
    to: &Path,
    abort: &Abort,
) -> Result<Option<(LdbPosition, bool)>, FetchError> {
    let wanted = Wanted::default();
    let limits = ExpansionLimits::default();
    let options = DownloadOptions { to, digests: true, limits, wanted: &wanted, abort, progress: &() };
    let name = store.name().to_owned();
    match Download::new(store.clone(), name, store.url().to_string(), options).get(None, &mut |_| Ok(())) {
        Ok(fetched) => {
            fs::remove_file(to).map_err(FetchError::io("remove", to))?;
            Ok(Some((fetched.position, fetched.tables.iter().any(|table| table.rows > 0))))
        }
        Err(FetchError::Bad { reason, .. }) if reason.is_useless() => Ok(None),
        // A snapshot that does not fit on the disk is not downloaded again and again.
        Err(FetchError::NoRoom { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Is called before a download with the snapshot's identity, or `None` if it has none. An
/// error ends the download.
pub(super) type Refuse<'a> = dyn FnMut(Option<&str>) -> Result<(), FetchError> + 'a;

/// Where the file goes, and what it has to be.
#[derive(Clone, Copy)]
pub(super) struct DownloadOptions<'a> {
    pub to: &'a Path,
    /// Whether the tables are digested even if no manifest has digests.
    pub digests: bool,
    pub limits: ExpansionLimits,
    pub wanted: &'a Wanted,
    pub abort: &'a Abort,
    pub progress: &'a dyn SnapshotProgress,
}

/// One object of a store on its way to a file.
pub(super) struct Download<'a> {
    store: Store,
    /// The object's name at the store: that of the URL, or that of a kept snapshot.
    name: String,
    /// Its address, without secrets.
    place: String,
    options: DownloadOptions<'a>,
    /// Whether the bytes that came last differ from what their manifest or checksum says.
    differed: Cell<bool>,
    /// Whether the bytes that came last were sent with their length. Only then is their end known to be the end.
    has_length: Cell<bool>,
    /// What is known of the object at the plain key.
    plain: RefCell<KnownPlain>,
}

impl<'a> Download<'a> {
    /// The snapshot that is published at `url`.
    pub fn of_url(url: &SnapshotUrl, options: DownloadOptions<'a>) -> Result<Self, FetchError> {
        let store = Store::open(url)?;
        let name = store.name().to_owned();
        Ok(Self::new(store, name, url.to_string(), options))
    }

    pub fn new(store: Store, name: String, place: String, options: DownloadOptions<'a>) -> Self {
        let differed = Cell::new(false);
        let has_length = Cell::new(true);
        Self { store, name, place, options, differed, has_length, plain: RefCell::default() }
    }

    /// Gives the download what earlier ones found out about the plain key.
    pub fn with_known_plain(self, plain: KnownPlain) -> Self {
        Self { plain: RefCell::new(plain), ..self }
    }

    /// What is known of the plain key after the download, for the next one.
    pub fn into_known_plain(self) -> KnownPlain {
        self.plain.into_inner()
    }

    /// Whether the last download came with its length.
    pub fn has_length(&self) -> bool {
        self.has_length.get()
    }

    /// Downloads and checks. A panic on the way is this place's failure.
    pub fn run(&self, refuse: &mut Refuse<'_>) -> Result<Fetched, FetchError> {
        let was_there = self.options.to.symlink_metadata().is_ok();
        let outcome = contained(|| self.place.clone(), || self.run_newest(refuse));
        if !was_there && matches!(outcome, Err(FetchError::Refused(StoreError::Panicked { .. }))) {
            remove(self.options.to);
        }
        outcome
    }

    /// Downloads the newer sound one of the two: the object at the plain key, and the one that the manifest names.
    /// The original's programs write the plain key, and leave our manifest unchanged.
    fn run_newest(&self, refuse: &mut Refuse<'_>) -> Result<Fetched, FetchError> {
        let named = self.manifest()?;
        // A kept snapshot has another name, and no other program writes it.
        if self.name == self.store.name()
            && let Some((manifest, written)) = &named
            && self.plain.borrow_mut().is_due(manifest)
            && let Some(plain) = overwritten::newer_plain(&self.store, manifest, written, self.options.abort)?
            && let Some(newer) = self.get_plain(&plain, manifest, refuse)?
        {
            return Ok(newer);
        }
        self.run_with_races(named.map(|(manifest, _)| manifest), refuse)
    }

    /// Downloads the object at the plain key. `None` unless it is sound and newer than the one that the manifest names.
    fn get_plain(
        &self,
        plain: &ObjectInfo,
        manifest: &Manifest,
        refuse: &mut Refuse<'_>,
    ) -> Result<Option<Fetched>, FetchError> {
        let identity = self.store.identity(plain);
        if identity.is_some() && self.plain.borrow().passed_over == identity {
            return Ok(None);
        }
        match self.get(None, refuse) {
            Ok(fetched) if overwritten::is_news(&fetched.position, manifest) => return Ok(Some(fetched)),
            Ok(_) => remove(self.options.to),
            Err(FetchError::Bad { reason, .. }) if reason.is_useless() => {}
            Err(FetchError::Aborted) => return Err(FetchError::Aborted),
            // The next download may succeed, and another ledger may want the snapshot.
            Err(_) => return Ok(None),
        }
        self.plain.borrow_mut().passed_over = identity;
        Ok(None)
    }

    fn run_with_races(&self, mut manifest: Option<Manifest>, refuse: &mut Refuse<'_>) -> Result<Fetched, FetchError> {
        let mut races = 0;
        let mut has_read_again = false;
        loop {
            let outcome = self.get(manifest.as_ref(), refuse);
            let Err(error) = outcome else { return outcome };
            races += 1;
            if races > MAX_RACES || !error.may_be_a_race() {
                return Err(error);
            }
            // Publishers write the data before the manifest, so a new manifest names data that is there.
            let again = self.manifest()?.map(|(manifest, _)| manifest);
            if again == manifest && !matches!(error, FetchError::Changed(_)) {
                // The network may have damaged the bytes: read them once more, and not twice.
                if !self.differed.get() || std::mem::replace(&mut has_read_again, true) {
                    return Err(error);
                }
            }
            manifest = again;
        }
    }

    fn manifest(&self) -> Result<Option<(Manifest, ObjectInfo)>, FetchError> {
        find_manifest(&self.store, &self.name, self.options.abort)
    }

    fn get(&self, manifest: Option<&Manifest>, refuse: &mut Refuse<'_>) -> Result<Fetched, FetchError> {
        let DownloadOptions { to, limits, wanted, abort, progress, .. } = self.options;
        let bad = FetchError::bad(&self.place);
        self.differed.set(false);
        if let Some(manifest) = manifest {
            wanted.judge(&manifest.position()).map_err(&bad)?;
        }
        let open = |part: &Part| self.open(manifest, part);
        let mut stream = Resuming::open(&open, manifest.is_some(), abort)?;
        let info = stream.info().clone();
        let has_hash = manifest.is_some() || checksum_of(&info).is_some();
        let identity = match manifest {
            Some(manifest) => Some(manifest.stored_sha256.clone()),
            None => self.store.identity(&info),
        };
        self.has_length.set(info.size.is_some());
        refuse(identity.as_deref())?;
        let context = ReceiveContext {
            abort,
            progress,
            stored_bytes: info.size,
            bytes: manifest.map(|manifest| manifest.bytes),
            limits,
        };
        let received = receive(&self.place, &mut stream, to, &context);
        let received = received.inspect_err(|_| self.differed.set(has_hash))?;
        failpoint::hit("bootstrap-after-download");
        if manifest.is_none() {
            self.refuse_changed(&info).inspect_err(|_| remove(to))?;
        }
        let matched = match manifest {
            Some(manifest) => matches_manifest(&received, manifest),
            None => matches_checksum(&received, &info),
        };
        self.differed.set(matched.is_err());
        let checked = matched.and_then(|()| self.check(manifest));
        let (position, tables) = checked.map_err(&bad).inspect_err(|_| remove(to))?;
        failpoint::hit("bootstrap-after-check");
        Ok(Fetched {
            position,
            place: self.place.clone(),
            passed_over: Vec::new(),
            bytes: received.bytes,
            stored_bytes: received.stored_bytes,
            manifest: manifest.cloned(),
            has_checksum: manifest.is_none() && checksum_of(&info).is_some(),
            tables,
        })
    }

    /// Refuses a file that changed while it was read. The original's supervisor writes files in place, so the bytes
    /// may be a part of each.
    fn refuse_changed(&self, read: &ObjectInfo) -> Result<(), FetchError> {
        match self.store.path(&self.name) {
            Some(_) if self.store.head(&self.name, self.options.abort)?.etag != read.etag => {
                Err(StoreError::Changed { place: self.store.place(&self.name) }.into())
            }
            _ => Ok(()),
        }
    }

    /// Opens the object that the manifest names, or the one at the plain key if that is gone.
    fn open(&self, manifest: Option<&Manifest>, part: &Part) -> Result<Object, StoreError> {
        let plain = |part| self.store.get(&self.name, part, self.options.abort);
        let Some(manifest) = manifest else { return plain(part) };
        match self.store.get(&manifest.key, part, self.options.abort) {
            Err(StoreError::NotFound { .. }) => plain(part),
            opened => opened,
        }
    }

    /// Checks the file as a database, and holds it against its manifest and what is wanted.
    fn check(&self, manifest: Option<&Manifest>) -> Result<(LdbPosition, Vec<TableDigest>), BadSnapshot> {
        let DownloadOptions { to, digests, wanted, abort, progress, .. } = self.options;
        progress.at(Phase::Check, 0, None);
        let position = check::check(to, abort)?;
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
        wanted.judge(&position)?;
        check::mark_for_wal(to)?;
        // A manifest without tables has no digests to compare.
        let said = manifest.map(|manifest| &manifest.tables).filter(|tables| !tables.is_empty());
        if said.is_none() && !digests {
            return Ok((position, Vec::new()));
        }
        let found = check::digests(to, abort, progress)?;
        said.map_or(Ok(()), |said| check::compare(&found, said))?;
        Ok((position, found))
    }
}

fn matches_manifest(received: &Received, manifest: &Manifest) -> Result<(), BadSnapshot> {
    let differs = |what: &str, found: &dyn ToString, said: &dyn ToString| {
        let found = found.to_string();
        let said = said.to_string();
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

/// The checksum that the original stores as metadata of what it uploads.
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
