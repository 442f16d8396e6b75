//! Places that are asked again and again, until one of them has what is wanted. What
//! was found to be of no use is not downloaded again at once, and what was had before is
//! judged by what it was.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::snapshot::SnapshotUrl;
use crate::snapshot::progress::Progress;
use ctlstore_core::Abort;
use ctlstore_core::disk::{self, directory_of};
use ctlstore_core::ledger::LdbPosition;

use super::error::{BadSnapshot, FetchError};
use super::{Fetch, Fetched, Limits, Places, Wanted};

/// How long a snapshot that was bad is taken to be so. What was damaged on its way is
/// then had once more.
const BAD_FOR: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub struct Sources {
    sources: Vec<Source>,
    limits: Limits,
}

#[derive(Debug)]
struct Source {
    url: SnapshotUrl,
    seen: Option<Seen>,
    had: Option<Had>,
}

/// The last one that was good.
#[derive(Debug)]
struct Had {
    identity: String,
    position: LdbPosition,
}

/// What came of the last download that was of no use.
#[derive(Debug)]
struct Seen {
    /// Names the snapshot: a hash, or an etag. `None` where the place has no such thing.
    identity: Option<String>,
    at: Instant,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Bad(BadSnapshot),
    /// It needs more than so many bytes beside this path.
    NoRoom {
        path: PathBuf,
        more_than: u64,
    },
}

impl Sources {
    pub fn new(urls: Vec<SnapshotUrl>, limits: Limits) -> Self {
        let sources = urls.into_iter().map(|url| Source { url, seen: None, had: None }).collect();
        Self { sources, limits }
    }

    pub fn len(&self) -> usize {
        self.sources.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// The address of a source, which shows no secrets.
    pub fn url(&self, index: usize) -> &SnapshotUrl {
        &self.sources[index].url
    }

    /// As [`fetch`](super::fetch), of one of the sources.
    pub fn fetch(
        &mut self,
        index: usize,
        to: &Path,
        wanted: &Wanted,
        abort: &Abort,
        progress: &dyn Progress,
    ) -> Result<Fetched, FetchError> {
        let Source { url, seen, had } = &mut self.sources[index];
        let places = Places { url, to, digests: false, limits: self.limits };
        let fetch = Fetch::new(&places, wanted, abort, progress)?;
        let shown = url.to_string();
        let mut asked = None;
        let mut refuse = |identity: Option<&str>| {
            asked = Some(identity.map(str::to_owned));
            if let Some(had) = had.as_ref().filter(|had| identity == Some(had.identity.as_str())) {
                return wanted.judge(&had.position).map_err(FetchError::bad(&shown));
            }
            match seen {
                Some(seen) if seen.identity.as_deref() == identity && seen.still_counts() => seen.judge(wanted, &shown),
                _ => Ok(()),
            }
        };
        let outcome = fetch.run(&mut refuse);
        // Not asked: nothing was reached that could be remembered.
        let Some(identity) = asked else { return outcome };
        match &outcome {
            Ok(fetched) => {
                let position = fetched.position.clone();
                *had = identity.map(|identity| Had { identity, position }).or(had.take());
            }
            Err(error) => {
                let is_known = |seen: &Seen| seen.identity == identity && seen.still_counts();
                if let Some(reason) = Reason::of(error, identity.is_some(), fetch.has_length.get())
                    && !seen.as_ref().is_some_and(is_known)
                {
                    *seen = Some(Seen { identity, at: Instant::now(), reason });
                }
            }
        }
        outcome
    }
}

impl Reason {
    /// Why the snapshot that was downloaded is not to be downloaded again at once; `None`
    /// where that may help.
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

impl Seen {
    /// What was sound and only not wanted stays what it is, as does what is too large. What
    /// nothing names may be another one by now.
    fn still_counts(&self) -> bool {
        let stays = matches!(
            self.reason,
            Reason::Bad(BadSnapshot::Unwanted { .. } | BadSnapshot::TooLarge { .. }) | Reason::NoRoom { .. }
        );
        (stays && self.identity.is_some()) || self.at.elapsed() < BAD_FOR
    }

    /// Whether it is still of no use: another ledger may want what one did not, and there may
    /// be room now.
    fn judge(&self, wanted: &Wanted, url: &str) -> Result<(), FetchError> {
        match &self.reason {
            Reason::Bad(BadSnapshot::Unwanted { position, .. }) => wanted.judge(position).map_err(FetchError::bad(url)),
            Reason::Bad(reason) => Err(FetchError::bad(url)(reason.clone())),
            Reason::NoRoom { path, more_than } => match disk::usable_bytes(directory_of(path)) {
                Ok(usable) if usable <= *more_than => {
                    Err(FetchError::NoRoom { path: path.clone(), more_than: *more_than })
                }
                _ => Ok(()),
            },
        }
    }
}
