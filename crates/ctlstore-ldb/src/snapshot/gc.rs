//! What happens at a destination after a snapshot was published: some are kept under
//! timestamped names, and data that nobody needs any more is removed.

use std::collections::BTreeSet;
use std::time::Duration;

use ctlstore_core::Abort;
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::Timestamp;
use ctlstore_reader::read::LdbReader;

use super::copy_object;
use super::fetch::is_compressed;
use super::manifest::{Compression, Manifest};
use super::names;
use super::store::{Condition, ObjectInfo, Store, StoreError};

/// Replaced data stays for so long, since a host may be downloading it, but no more of
/// it than so many where snapshots are taken all the time.
const LINGER: Duration = Duration::from_secs(60);
const MOST_LINGERING: usize = 3;

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
    copy_object::copy(store, published, &name, abort)?;
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
    // Each of ours has a manifest; what only has such a name is someone else's.
    kept.retain(|name| names_there.contains(&Manifest::name_of(name)));
    let surplus = kept.len().saturating_sub(count);
    for name in &kept[..surplus] {
        // The manifest first: one without data would promise what is not there.
        store.delete(&Manifest::name_of(name), abort)?;
        store.delete(name, abort)?;
    }
    Ok(())
}

/// Whether a file with the name of a snapshot's data is one; object stores are taken at
/// their word.
pub(super) fn is_data(store: &Store, name: &str, seq: Seq) -> bool {
    let Some(path) = store.path(name) else { return true };
    match Compression::of(store.name()) {
        Compression::None => LdbReader::immutable(&path).position().is_ok_and(|position| position.seq == seq),
        Compression::Gzip | Compression::Zstd => is_compressed(&path),
    }
}

/// Removes the data of older snapshots, and what publishers that were killed have left.
/// `before` stays, which hosts may still be reading, as do a few that were replaced just
/// now, and everything that is not older: another publisher may be about to name it.
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
    // By the store's own clock, whatever ours says.
    let now = listed.iter().map(|(_, info)| info.modified).max();
    let mut replaced_at = now;
    let mut left = 0;
    for (seq, info) in listed {
        if seq < Seq(published.seq) {
            let age = now.zip(replaced_at).and_then(|(now, at)| now.duration_since(at).ok());
            let lingers = left < MOST_LINGERING && age.is_some_and(|age| age < LINGER);
            match lingers || before == Some(info.name.as_str()) {
                true => left += 1,
                false if is_data(store, &info.name, seq) => store.delete(&info.name, abort)?,
                // It has such a name and is something else.
                false => {}
            }
        }
        replaced_at = Some(info.modified);
    }
    Ok(())
}
