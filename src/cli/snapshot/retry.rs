//! Tries again to get a published snapshot, if that may help: the store may be away, or another
//! process may be publishing. Entry point: [`with_retries`]. A node's bootstrap tries without end.

use std::time::Duration;

use crate::backoff::Backoff;
use ctlstore_core::Abort;
use ctlstore_ldb::snapshot::SnapshotProgress;
use ctlstore_ldb::snapshot::fetch::FetchError;

use super::super::failure::Interrupted;
use super::super::interrupt::{Interrupt, abortable};
use super::super::output::note;

/// How often it is tried before the command gives up. Each try asks the store a few times, so this
/// takes some minutes.
const MAX_TRIES: u32 = 6;
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// Runs `work` on a thread and shows its progress, until it succeeds or fails for good.
pub async fn with_retries<T: Send + 'static>(
    interrupt: &Interrupt,
    work: impl Fn(&Abort, &dyn SnapshotProgress) -> Result<T, FetchError> + Clone + Send + 'static,
) -> anyhow::Result<T> {
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    for _ in 1..MAX_TRIES {
        let work = work.clone();
        match abortable(interrupt, move |abort, progress| work(abort, progress.as_ref())).await? {
            Err(error) if is_temporary(&error) => {
                let pause = backoff.next_pause();
                note(&format!("{error}; next try in {:.1} s", pause.as_secs_f32()));
                interrupt.unless(tokio::time::sleep(pause)).await.ok_or(Interrupted)?;
            }
            done => return Ok(done?),
        }
    }
    Ok(abortable(interrupt, move |abort, progress| work(abort, progress.as_ref())).await??)
}

fn is_temporary(error: &FetchError) -> bool {
    matches!(error, FetchError::Unavailable(_) | FetchError::Changed(_))
}
