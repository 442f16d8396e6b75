//! Places that are asked again and again, until one of them has what is wanted. What
//! was found to be of no use is not downloaded again at once, and what was had before is
//! judged by what it was.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::snapshot::SnapshotUrl;
use crate::snapshot::progress::Progress;
use ctlstore_core::Abort;
use ctlstore_core::ledger::LdbPosition;

use super::error::{BadSnapshot, FetchError};
use super::{Fetch, Fetched, Places, Wanted};

/// How long a snapshot that was bad is taken to be so. What was damaged on its way is
/// then had once more.
const BAD_FOR: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub struct Sources(Vec<Source>);

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

/// What came of the last download.
#[derive(Debug)]
struct Seen {
    /// Names the snapshot: a hash, or an etag.
    identity: String,
    at: Instant,
    reason: BadSnapshot,
}

impl Sources {
    pub fn new(urls: Vec<SnapshotUrl>) -> Self {
        Self(urls.into_iter().map(|url| Source { url, seen: None, had: None }).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The address of a source, which shows no secrets.
    pub fn url(&self, index: usize) -> &SnapshotUrl {
        &self.0[index].url
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
        let Source { url, seen, had } = &mut self.0[index];
        let fetch = Fetch::new(&Places { url, to, digests: false }, wanted, abort, progress)?;
        let mut asked = None;
        let mut refuse = |identity: &str| {
            asked = Some(identity.to_owned());
            if let Some(had) = had.as_ref().filter(|had| had.identity == identity) {
                return wanted.judge(&had.position);
            }
            match seen {
                Some(seen) if seen.identity == identity && seen.still_counts() => seen.judge(wanted),
                _ => Ok(()),
            }
        };
        let outcome = fetch.run(&mut refuse);
        if let (Ok(fetched), Some(identity)) = (&outcome, &asked) {
            *had = Some(Had { identity: identity.clone(), position: fetched.position.clone() });
        }
        if let (Err(FetchError::Bad { reason, .. }), Some(identity)) = (&outcome, asked)
            && !matches!(**reason, BadSnapshot::Io(_))
            && seen.as_ref().is_none_or(|seen| seen.identity != identity || !seen.still_counts())
        {
            *seen = Some(Seen { identity, at: Instant::now(), reason: BadSnapshot::clone(reason) });
        }
        outcome
    }
}

impl Seen {
    /// What was sound and only not wanted stays what it is.
    fn still_counts(&self) -> bool {
        matches!(self.reason, BadSnapshot::Unwanted { .. }) || self.at.elapsed() < BAD_FOR
    }

    /// Whether it is still of no use: another ledger may want what one did not.
    fn judge(&self, wanted: &Wanted) -> Result<(), BadSnapshot> {
        match &self.reason {
            BadSnapshot::Unwanted { position, .. } => wanted.judge(position),
            reason => Err(reason.clone()),
        }
    }
}
