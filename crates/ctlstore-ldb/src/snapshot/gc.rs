//! Cleans up at a destination after a snapshot was published. [`keep`] keeps some snapshots
//! under timestamped names; [`remove_old`] removes data that no host needs any more.

use std::collections::BTreeSet;
use std::time::Duration;

use ctlstore_core::Abort;
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::Timestamp;
use ctlstore_reader::read::LdbReader;

use super::fetch::is_compressed;
use super::manifest::{Compression, Manifest};
use super::names;
use super::store::{Condition, ObjectInfo, Store, StoreError};

/// Replaced data stays for this long, because a host may be downloading it. Of such data at
/// most [`MOST_LINGERING`] stay.
const LINGER: Duration = Duration::from_secs(60);
const MOST_LINGERING: usize = 3;

/// Keeps the published snapshot under its time, and removes all but the newest `count` of
/// those. With a count of 0 nothing is kept, and what was kept earlier stays.
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
    store.copy_by_any_way(&published.key, &name, &published.stored_object(), abort)?;
    let manifest = Manifest { key: name.clone(), ..published.clone() };
    let json = manifest
        .to_json()
        .map_err(|error| StoreError::Other { place: store.place(&name), reason: error.to_string() })?;
    store.put(&Manifest::name_of(&name), json, &Condition::None, abort)?;

    let (prefix, _) = names::around_time(key);
    let listed = store.list(&prefix, abort)?;
    let names_there: BTreeSet<String> = listed.into_iter().map(|info| info.name).collect();
    let mut kept: Vec<&String> = names_there.iter().filter(|name| names::is_kept(key, name)).collect();
    kept.sort_unstable();
    // A snapshot of ours has a manifest beside it; a file that only has such a name may be another program's.
    kept.retain(|name| names_there.contains(&Manifest::name_of(name)));
    let surplus = kept.len().saturating_sub(count);
    for name in &kept[..surplus] {
        // The manifest goes first, because a manifest without data would promise what is not there.
        store.delete(&Manifest::name_of(name), abort)?;
        store.delete(name, abort)?;
    }
    Ok(())
}

/// Whether the object with the name of a snapshot's data is data. Files are read; objects of
/// other stores count by their name.
pub(super) fn is_data(store: &Store, name: &str, seq: Seq) -> bool {
    let Some(path) = store.path(name) else { return true };
    match Compression::of(store.name()) {
        Compression::None => LdbReader::immutable(&path).position().is_ok_and(|position| position.seq == seq),
        Compression::Gzip | Compression::Zstd => is_compressed(&path),
    }
}

/// Removes the data of older snapshots, and what killed publishers left. Three things stay:
/// `before`, because hosts may still read it; a few objects that were replaced just now; and data
/// that is not older, because another publisher may be about to name it.
pub(super) fn remove_old(
    store: &Store,
    published: &Manifest,
    before: Option<&str>,
    abort: &Abort,
) -> Result<(), StoreError> {
    let key = store.name();
    let mut listed: Vec<(Seq, ObjectInfo)> = store
        .list(&format!("{key}."), abort)?
        .into_iter()
        .filter_map(|info| Some((names::seq_of(key, &info.name)?, info)))
        .filter(|(seq, _)| *seq <= Seq(published.seq))
        .collect();
    listed.sort_unstable_by(|(one, _), (other, _)| other.cmp(one));
    // All ages are by the store's clock.
    let now = listed.iter().map(|(_, info)| info.modified).max();
    let mut replaced_at = now;
    let mut left = 0;
    for (seq, info) in listed {
        if seq < Seq(published.seq) {
            let age = now.zip(replaced_at).and_then(|(now, at)| now.duration_since(at).ok());
            let lingers = left < MOST_LINGERING && age.is_some_and(|age| age < LINGER);
            if lingers || before == Some(info.name.as_str()) {
                left += 1;
            } else if is_data(store, &info.name, seq) {
                // Anything else only has such a name, and stays.
                store.delete(&info.name, abort)?;
            }
        }
        replaced_at = Some(info.modified);
    }
    Ok(())
}
