//! An LDB's path is a symbolic link to a generation: a database file of its own,
//! with its own -wal and -shm. A new generation is finished and flushed before the
//! link is renamed over, so that no reader meets a new file under an old WAL. A
//! plain file at the path (other programs make those) is used as it is.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ctlstore_core::disk::{self, beside, directory_of};
use ctlstore_core::failpoint;

use super::error::LdbError;

/// Between an LDB's file name and the milliseconds that number its generations.
const GENERATION: &str = ".gen-";
/// The same where an LDB that could not be read is kept.
const UNREADABLE: &str = ".unreadable-";
/// The files that belong to a database file.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// The database file that `path` leads to, `None` where there is none; a link whose
/// file is gone counts as that.
pub fn find(path: &Path) -> Result<Option<PathBuf>, LdbError> {
    match fs::canonicalize(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LdbError::io(path, "looking for it", error)),
    }
}

/// Whether `path` is a link as [`publish`] makes it: to a generation beside it.
pub fn is_own_link(path: &Path) -> bool {
    let (Ok(target), Some(name)) = (fs::read_link(path), path.file_name().and_then(|name| name.to_str())) else {
        return false;
    };
    let number = target.to_str().and_then(|target| target.strip_prefix(name)?.strip_prefix(GENERATION));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// The database file that `path` leads to. Where there is none, `build` makes one:
/// it is handed a name for the file, and the link is set when it has succeeded.
/// The caller holds the applier's lock.
pub fn locate(path: &Path, build: impl FnOnce(&Path) -> Result<(), LdbError>) -> Result<PathBuf, LdbError> {
    if let Some(file) = find(path)? {
        return Ok(file);
    }
    let generation = unused_name(path)?;
    build(&generation)?;
    publish(path, &generation)?;
    find(path)?.ok_or_else(|| LdbError::Removed { path: path.to_owned() })
}

/// Makes `finished`, a database file without a -wal in the directory of `path`, the
/// generation that `path` leads to. Where that fails `finished` is gone, and `path`
/// leads where it led.
pub fn install(path: &Path, finished: &Path) -> Result<(), LdbError> {
    let generation = unused_name(path)?;
    fs::rename(finished, &generation).map_err(|error| LdbError::io(finished, "making it a generation", error))?;
    failpoint::hit("bootstrap-before-link");
    publish(path, &generation).inspect_err(|_| {
        // Unless the link was set and only its flush failed, nothing leads here.
        if !fs::canonicalize(path).is_ok_and(|file| file.file_name() == generation.file_name()) {
            let _ = fs::remove_file(&generation);
        }
    })
}

/// Keeps the database that `path` leads to, and what belongs to it, under names that
/// say that it could not be read. Its own names stay until something else has them.
/// Older ones that were kept are removed.
pub fn keep_unreadable(path: &Path) -> Result<(), LdbError> {
    let Some(file) = find(path)? else { return Ok(()) };
    let here = fs::canonicalize(directory_of(path)).map_err(|error| LdbError::io(path, "looking for it", error))?;
    if directory_of(&file) != here {
        // A link of someone else's making: the file stays where it is.
        return Ok(());
    }
    let kept = beside(path, &format!("{UNREADABLE}{:013}", unix_millis()));
    let failed = |error| LdbError::io(&kept, "keeping an unreadable ldb there", error);
    let older = names_behind(path, UNREADABLE).map_err(failed)?;
    fs::hard_link(&file, &kept).map_err(failed)?;
    for suffix in COMPANIONS {
        match fs::hard_link(beside(&file, suffix), beside(&kept, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    older.iter().try_for_each(|(_, older)| fs::remove_file(older)).map_err(failed)
}

/// A generation's name that neither a file has nor the -wal of one.
fn unused_name(path: &Path) -> Result<PathBuf, LdbError> {
    let mut number = unix_millis();
    loop {
        let generation = beside(path, &format!("{GENERATION}{number:013}"));
        let is_taken = |suffix: &str| fs::symlink_metadata(beside(&generation, suffix)).is_ok();
        if !["", "-wal", "-shm"].into_iter().any(is_taken) {
            return Ok(generation);
        }
        number += 1;
    }
}

/// Points `path` at `generation`, a finished database in the same directory. Atomic:
/// whoever opens `path` finds the old file or the new one, complete.
fn publish(path: &Path, generation: &Path) -> Result<(), LdbError> {
    if find(path)?.is_none() {
        // What a deleted database left is not to become part of this one.
        set_companions_aside(path)?;
    }
    flush(generation)?;
    let directory = directory_of(path);
    // The file's own entry must be durable before a link can lead to it.
    flush(directory)?;
    let link = beside(path, ".link");
    let failed = |error| LdbError::io(path, "linking a new generation", error);
    match fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // Relative, so that the directory can be moved or mounted elsewhere as a whole.
    let target = generation.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    symlink(target, &link).and_then(|()| fs::rename(&link, path)).map_err(failed)?;
    flush(directory)
}

fn flush(path: &Path) -> Result<(), LdbError> {
    disk::flush(path).map_err(|error| LdbError::io(path, "flushing it", error))
}

pub fn set_companions_aside(path: &Path) -> Result<(), LdbError> {
    for suffix in COMPANIONS {
        let left = beside(path, suffix);
        let aside = beside(&left, &format!(".aside-{:013}", unix_millis()));
        match fs::rename(&left, &aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(LdbError::io(&left, "moving aside what a deleted ldb left", error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Removes what nothing leads to: a download or a generation that a crash left
/// unfinished, a generation that was replaced, and the -wal of a plain file that was.
/// Readers that have it open keep it until they close it. The caller holds the
/// applier's lock.
pub fn tidy(path: &Path) -> Result<(), LdbError> {
    let current = find(path)?;
    let failed = |error| LdbError::io(path, "tidying up around it", error);
    let linked = current.as_deref().and_then(Path::file_name);
    let mut superfluous = vec![beside(path, ".link")];
    let mut is_generation = false;
    for (number, found) in names_behind(path, GENERATION).map_err(failed)? {
        let generation = beside(path, &format!("{GENERATION}{number}"));
        match generation.file_name() == linked {
            true => is_generation = true,
            false => superfluous.push(found),
        }
    }
    match current {
        None => set_companions_aside(path)?,
        Some(_) if is_generation => superfluous.extend(COMPANIONS.map(|suffix| beside(path, suffix))),
        Some(_) => {}
    }
    superfluous.iter().try_for_each(|path| remove(path)).map_err(failed)?;
    clear_incoming(path)
}

/// Removes an unfinished file, and what SQLite may have left beside it.
pub fn clear_incoming(path: &Path) -> Result<(), LdbError> {
    let left = ["", "-wal", "-shm", "-journal"].map(|suffix| beside(&incoming(path), suffix));
    left.iter().try_for_each(|left| remove(left)).map_err(|error| LdbError::io(path, "tidying up beside it", error))
}

/// Where an LDB that is fetched for `path` is made.
pub fn incoming(path: &Path) -> PathBuf {
    beside(path, ".incoming")
}

/// Files beside `path` that are numbered behind `middle`, as their number without a
/// companion's suffix, and their path.
fn names_behind(path: &Path, middle: &str) -> io::Result<Vec<(String, PathBuf)>> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
    let prefix = format!("{name}{middle}");
    let mut found = Vec::new();
    for entry in fs::read_dir(directory_of(path))? {
        let entry = entry?;
        let file_name = entry.file_name();
        let Some(number) = file_name.to_str().and_then(|name| name.strip_prefix(&prefix)) else { continue };
        let number = COMPANIONS.iter().find_map(|suffix| number.strip_suffix(suffix)).unwrap_or(number);
        if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) {
            found.push((number.to_owned(), entry.path()));
        }
    }
    Ok(found)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What numbers files, so that later ones come later.
pub fn unix_millis() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &'static str) -> impl FnOnce(&Path) -> Result<(), LdbError> {
        move |file| fs::write(file, text).map_err(|error| LdbError::io(file, "writing", error))
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_ldb_is_a_link_to_a_generation_that_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ldb.db");
        let file = locate(&path, write("first")).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(locate(&path, write("second")).unwrap(), file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
    }

    #[test]
    fn a_plain_file_is_used_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ldb.db");
        fs::write(&path, "plain").unwrap();
        fs::write(beside(&path, "-wal"), "its wal").unwrap();
        locate(&path, write("new")).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert_eq!(names(directory.path()), ["ldb.db", "ldb.db-wal"]);
    }

    #[test]
    fn what_a_deleted_ldb_left_is_moved_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ldb.db");
        fs::write(beside(&path, "-wal"), "old wal").unwrap();
        tidy(&path).unwrap();
        locate(&path, write("new")).unwrap();
        let names = names(directory.path());
        assert!(!names.contains(&"ldb.db-wal".to_owned()), "{names:?}");
        assert!(names.iter().any(|name| name.starts_with("ldb.db-wal.aside-")), "{names:?}");
    }

    #[test]
    fn a_generation_that_was_never_linked_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ldb.db");
        let unfinished = beside(&path, ".gen-0000000000001");
        fs::write(&unfinished, "half").unwrap();
        fs::write(beside(&unfinished, "-wal"), "half").unwrap();
        fs::write(beside(&path, ".gen-notes"), "not ours").unwrap();
        tidy(&path).unwrap();
        let file = locate(&path, write("new")).unwrap();
        let file = file.file_name().unwrap().to_str().unwrap();
        let mut expected = ["ldb.db", file, "ldb.db.gen-notes"];
        expected.sort();
        assert_eq!(names(directory.path()), expected);
        // A link whose generation was deleted counts as missing.
        fs::remove_file(directory.path().join(file)).unwrap();
        locate(&path, write("newer")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "newer");
    }

    #[test]
    fn a_build_that_fails_leaves_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ldb.db");
        locate(&path, |file| Err(LdbError::Removed { path: file.to_owned() })).unwrap_err();
        assert_eq!(names(directory.path()), [""; 0]);
    }

    #[test]
    fn an_installed_generation_replaces_a_plain_file_whose_wal_goes_with_the_next_tidying() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ldb.db");
        fs::write(&path, "plain").unwrap();
        fs::write(beside(&path, "-wal"), "its wal").unwrap();
        fs::write(incoming(&path), "new").unwrap();
        install(&path, &incoming(&path)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        let file = find(&path).unwrap().unwrap();
        assert!(!beside(&file, "-wal").exists());
        tidy(&path).unwrap();
        assert_eq!(names(directory.path()), ["ldb.db", file.file_name().unwrap().to_str().unwrap()]);
    }

    #[test]
    fn an_install_that_fails_leaves_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ldb.db");
        let file = locate(&path, write("old")).unwrap();
        install(&path, &incoming(&path)).unwrap_err();
        // The link's temporary name is taken by what can't be removed like a file.
        fs::create_dir(beside(&path, ".link")).unwrap();
        fs::write(incoming(&path), "new").unwrap();
        install(&path, &incoming(&path)).unwrap_err();
        assert_eq!(find(&path).unwrap(), Some(file.clone()));
        assert_eq!(names(directory.path()), ["ldb.db", file.file_name().unwrap().to_str().unwrap(), "ldb.db.link"]);
    }

    #[test]
    fn of_the_unreadable_files_the_newest_is_kept_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ldb.db");
        fs::write(beside(&path, ".unreadable-0000000000001"), "older").unwrap();
        fs::write(beside(&path, ".unreadable-0000000000001-wal"), "older").unwrap();
        fs::write(&path, "bad").unwrap();
        fs::write(beside(&path, "-wal"), "bad wal").unwrap();
        keep_unreadable(&path).unwrap();
        fs::write(incoming(&path), "new").unwrap();
        install(&path, &incoming(&path)).unwrap();
        tidy(&path).unwrap();
        let kept = names_behind(&path, UNREADABLE).unwrap();
        let mut texts: Vec<_> = kept.iter().map(|(_, kept)| fs::read_to_string(kept).unwrap()).collect();
        texts.sort();
        assert_eq!(texts, ["bad", "bad wal"]);
    }
}
