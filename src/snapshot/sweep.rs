//! What happens at a destination after a snapshot was published: some are kept under
//! timestamped names, and data that nobody needs any more is removed.

use crate::ledger::Seq;
use crate::schema::Timestamp;

use super::manifest::Manifest;
use super::names;
use super::store::{Condition, Store, StoreError};
use super::take::Abort;

/// Keeps the published snapshot under its time, and only the newest `count` of those.
/// With a count of 0 nothing is kept, and what was kept earlier is left alone.
pub(super) fn keep(
    store: &Store,
    published: &Manifest,
    taken_at: Timestamp,
    count: usize,
    abort: &Abort,
) -> Result<(), StoreError> {
    if count == 0 {
        return Ok(());
    }
    let key = store.name();
    let name = names::kept(key, taken_at);
    store.copy(&published.key, &name, abort)?;
    let manifest = Manifest { key: name.clone(), ..published.clone() };
    let json = manifest
        .to_json()
        .map_err(|error| StoreError::Other { place: store.place(&name), reason: error.to_string() })?;
    store.put(&Manifest::name_of(&name), json, &Condition::None, abort)?;

    let (prefix, _) = names::around_time(key);
    let listed = store.list(&prefix, abort)?;
    let mut kept: Vec<String> =
        listed.into_iter().map(|info| info.name).filter(|name| names::is_kept(key, name)).collect();
    kept.sort_unstable();
    let surplus = kept.len().saturating_sub(count);
    for name in &kept[..surplus] {
        // The manifest first: one without data would promise what is not there.
        store.delete(&Manifest::name_of(name), abort)?;
        store.delete(name, abort)?;
    }
    Ok(())
}

/// Removes the data of older snapshots, and what publishers that were killed have left.
/// `before` stays, which hosts may still be reading, and so does everything that is
/// not older: another publisher may be about to name it.
pub(super) fn remove_old(
    store: &Store,
    published: &Manifest,
    before: Option<&str>,
    abort: &Abort,
) -> Result<(), StoreError> {
    let key = store.name();
    for info in store.list(&format!("{key}."), abort)? {
        let is_older = names::seq_of(key, &info.name).is_some_and(|seq| seq < Seq(published.seq));
        if is_older && before != Some(info.name.as_str()) {
            store.delete(&info.name, abort)?;
        }
    }
    Ok(())
}
