//! Getting what is published, again where that may help: the place may be away, or
//! someone may be publishing. Bootstrap does the same in a node, without an end.

use std::time::Duration;

use crate::backoff::Backoff;
use ctlstore_core::Abort;
use ctlstore_ldb::snapshot::Progress;
use ctlstore_ldb::snapshot::fetch::FetchError;

use super::super::interrupt::{Interrupt, Interrupted, abortable};
use super::super::output::note;

/// How often it is tried before the command gives up. Each try asks a few times within
/// itself, so this is some minutes.
const MAX_TRIES: u32 = 6;
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// What `work` gets, on a thread while its progress is shown.
pub async fn with_retries<T: Send + 'static>(
    interrupt: &Interrupt,
    work: impl Fn(&Abort, &dyn Progress) -> Result<T, FetchError> + Clone + Send + 'static,
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
