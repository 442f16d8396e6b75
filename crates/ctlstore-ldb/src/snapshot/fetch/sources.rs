//! Asks several places for a snapshot again and again, until one has what is wanted. Entry
//! point: [`SnapshotSources::fetch`]. A snapshot that was of no use is not downloaded again
//! at once, and one that was good before is judged by its old position.
//!
//! The published snapshot may be of a history that the ledger lost. Then the older ones are tried,
//! newest first, that `snapshotter.keep` left at the same place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ctlstore_core::Abort;
use ctlstore_core::disk::{self, directory_of};
use ctlstore_core::ledger::LdbPosition;

use crate::snapshot::manifest::Manifest;
use crate::snapshot::names;
use crate::snapshot::progress::SnapshotProgress;
use crate::snapshot::snapshot_url::SnapshotUrl;
use crate::snapshot::store::{Store, StoreError};

use super::download::{Download, DownloadOptions, Fetched};
use super::error::{BadSnapshot, FetchError};
use super::overwritten::KnownPlain;
use super::receive::ExpansionLimits;
use super::wanted::Wanted;

/// How long a bad snapshot counts as bad. The network may have damaged it, so it is then
/// downloaded once more.
const BAD_FOR: Duration = Duration::from_secs(300);
/// The most kept snapshots of one place that are tried in one call.
const MAX_KEPT_TRIED: usize = 16;

/// The places of `bootstrap.urls`.
#[derive(Debug)]
pub struct SnapshotSources {
    sources: Vec<Source>,
    limits: ExpansionLimits,
}

#[derive(Debug)]
struct Source {
    url: SnapshotUrl,
    published: ObjectMemory,
    plain: KnownPlain,
    /// By name, of the kept snapshots that the last call tried.
    kept: BTreeMap<String, ObjectMemory>,
}

/// The results of earlier downloads of one object.
#[derive(Debug, Default)]
struct ObjectMemory {
    rejected: Option<RejectedSnapshot>,
    good: Option<GoodSnapshot>,
}

/// The last snapshot that was good.
#[derive(Debug)]
struct GoodSnapshot {
    identity: String,
    position: LdbPosition,
}

/// The last snapshot that was of no use.
#[derive(Debug)]
struct RejectedSnapshot {
    /// A hash or an etag; `None` if the place tells neither.
    identity: Option<String>,
    at: Instant,
    reason: RejectReason,
}

#[derive(Debug)]
enum RejectReason {
    Bad(BadSnapshot),
    /// It needs more than so many bytes beside this path.
    NoRoom {
        path: PathBuf,
        more_than: u64,
    },
}

impl SnapshotSources {
    pub fn new(urls: Vec<SnapshotUrl>, limits: ExpansionLimits) -> Self {
        let source = |url| Source {
            url,
            published: ObjectMemory::default(),
            plain: KnownPlain::default(),
            kept: BTreeMap::new(),
        };
        Self { sources: urls.into_iter().map(source).collect(), limits }
    }

    pub fn len(&self) -> usize {
        self.sources.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// The address of a source. Displayed, it shows no secrets.
    pub fn url(&self, index: usize) -> &SnapshotUrl {
        &self.sources[index].url
    }

    /// Downloads the snapshot of one source to `to`, as [`fetch`](super::fetch()) does. If the
    /// ledger lost that snapshot's last row, tries the kept snapshots beside it: newest first,
    /// and at most 16. Web servers can't be asked for the names of kept snapshots.
    ///
    /// # Errors
    /// [`FetchError::LostHistory`] names the kept snapshots that were passed over as well.
    pub fn fetch(
        &mut self,
        index: usize,
        to: &Path,
        wanted: &Wanted,
        abort: &Abort,
        progress: &dyn SnapshotProgress,
    ) -> Result<Fetched, FetchError> {
        let options = DownloadOptions { to, digests: false, limits: self.limits, wanted, abort, progress };
        let source = &mut self.sources[index];
        let published = Download::of_url(&source.url, options)?.with_known_plain(std::mem::take(&mut source.plain));
        let outcome = source.published.download(&published, &source.url.to_string(), options);
        source.plain = published.into_known_plain();
        match outcome {
            Err(lost) if lost.is_lost_history() => source.fetch_kept(lost, options),
            outcome => outcome,
        }
    }
}

impl Source {
    /// Tries the kept snapshots, because the published one is `lost`.
    fn fetch_kept(&mut self, lost: FetchError, options: DownloadOptions<'_>) -> Result<Fetched, FetchError> {
        let store = Store::open(&self.url)?;
        let mut before = std::mem::take(&mut self.kept);
        let mut passed_over = Vec::new();
        match kept_names(&store, options.abort) {
            Ok(names) => {
                for name in names {
                    let place = store.place(&name);
                    let download = Download::new(store.clone(), name.clone(), place.clone(), options);
                    let memory = self.kept.entry(name.clone()).or_insert(before.remove(&name).unwrap_or_default());
                    match memory.download(&download, &place, options) {
                        Ok(mut fetched) => {
                            let earlier = std::iter::once(&lost).chain(&passed_over);
                            fetched.passed_over = earlier.map(ToString::to_string).collect();
                            return Ok(fetched);
                        }
                        Err(FetchError::Aborted) => return Err(FetchError::Aborted),
                        Err(error) => passed_over.push(error),
                    }
                }
            }
            Err(StoreError::Aborted) => return Err(FetchError::Aborted),
            // Web servers list nothing.
            Err(StoreError::Unsupported { .. }) => {}
            Err(error) => passed_over.push(error.into()),
        }
        if passed_over.is_empty() {
            return Err(lost);
        }
        Err(FetchError::LostHistory { published: Box::new(lost), kept: passed_over })
    }
}

/// The names of the snapshots that are kept at the store, newest first, a bounded number of them.
fn kept_names(store: &Store, abort: &Abort) -> Result<Vec<String>, StoreError> {
    let key = store.name();
    let (prefix, _) = names::around_time(key);
    let listed = store.list(&prefix, abort)?;
    let is_there = |name: &str| listed.iter().any(|info| info.name == name);
    // A snapshot of ours has a manifest beside it; a file that only has such a name may be another program's.
    let kept = listed.iter().map(|info| &info.name).filter(|name| names::is_kept(key, name));
    let mut kept: Vec<String> = kept.filter(|name| is_there(&Manifest::name_of(name))).cloned().collect();
    kept.sort_unstable_by(|one, other| other.cmp(one));
    kept.truncate(MAX_KEPT_TRIED);
    Ok(kept)
}

impl ObjectMemory {
    /// Runs the download, unless this object's identity is known and it is still of no use.
    fn download(
        &mut self,
        download: &Download<'_>,
        place: &str,
        options: DownloadOptions<'_>,
    ) -> Result<Fetched, FetchError> {
        let wanted = options.wanted;
        let mut asked = None;
        let mut refuse = |identity: Option<&str>| {
            asked = Some(identity.map(str::to_owned));
            if let Some(good) = self.good.as_ref().filter(|good| identity == Some(good.identity.as_str())) {
                return wanted.judge(&good.position).map_err(FetchError::bad(place));
            }
            match &self.rejected {
                Some(rejected) if rejected.identity.as_deref() == identity && rejected.still_counts() => {
                    rejected.judge(wanted, place)
                }
                _ => Ok(()),
            }
        };
        let outcome = download.run(&mut refuse);
        // If the download did not ask, it reached nothing that could be remembered.
        let Some(identity) = asked else { return outcome };
        match &outcome {
            Ok(fetched) => {
                let position = fetched.position.clone();
                self.good = identity.map(|identity| GoodSnapshot { identity, position }).or(self.good.take());
            }
            Err(error) => {
                let is_known = |rejected: &RejectedSnapshot| rejected.identity == identity && rejected.still_counts();
                if let Some(reason) = RejectReason::of(error, identity.is_some(), download.has_length())
                    && !self.rejected.as_ref().is_some_and(is_known)
                {
                    self.rejected = Some(RejectedSnapshot { identity, at: Instant::now(), reason });
                }
            }
        }
        outcome
    }
}

impl RejectReason {
    /// Why the snapshot is not to be downloaded again at once; `None` if a second download may help.
    fn of(error: &FetchError, has_identity: bool, has_length: bool) -> Option<Self> {
        match error {
            FetchError::NoRoom { path, more_than } => Some(Self::NoRoom { path: path.clone(), more_than: *more_than }),
            FetchError::Bad { reason, .. } => match &**reason {
                BadSnapshot::Io(_) => None,
                BadSnapshot::TooLarge { .. } => Some(Self::Bad(BadSnapshot::clone(reason))),
                // Without a length a broken connection looks like the end.
                BadSnapshot::Damaged(_) | BadSnapshot::NotADatabase if !has_length => None,
                _ => has_identity.then(|| Self::Bad(BadSnapshot::clone(reason))),
            },
            _ => None,
        }
    }
}

impl RejectedSnapshot {
    /// A sound snapshot that was not wanted stays what it is, and so does one that is too
    /// large. An object without an identity may be another one by now.
    fn still_counts(&self) -> bool {
        let stays = matches!(
            self.reason,
            RejectReason::Bad(BadSnapshot::Unwanted { .. } | BadSnapshot::TooLarge { .. })
                | RejectReason::NoRoom { .. }
        );
        (stays && self.identity.is_some()) || self.at.elapsed() < BAD_FOR
    }

    /// Whether it is still of no use. Another ledger may want what the last one did not, and
    /// the disk may have room now.
    fn judge(&self, wanted: &Wanted, place: &str) -> Result<(), FetchError> {
        match &self.reason {
            RejectReason::Bad(BadSnapshot::Unwanted { position, .. }) => {
                wanted.judge(position).map_err(FetchError::bad(place))
            }
            RejectReason::Bad(reason) => Err(FetchError::bad(place)(reason.clone())),
            RejectReason::NoRoom { path, more_than } => match disk::usable_bytes(directory_of(path)) {
                Ok(usable) if usable <= *more_than => {
                    Err(FetchError::NoRoom { path: path.clone(), more_than: *more_than })
                }
                _ => Ok(()),
            },
        }
    }
}
