//! An LDB's path is a symbolic link to a generation: a database file of its own, with its own
//! -wal and -shm. A new generation is finished and flushed before the link is renamed, so no
//! reader ever reads a new file with an old WAL. A plain file at the path, as other programs make
//! it, is used as it is. Entry points: [`locate`], [`install`], [`tidy`].

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ctlstore_core::disk::{self, beside, directory_of};
use ctlstore_core::failpoint;

use super::error::LdbError;

/// Comes between an LDB's file name and the milliseconds that number its generations.
const GENERATION: &str = ".gen-";
/// Comes there in the name of an LDB that could not be read.
const UNREADABLE: &str = ".unreadable-";
/// The suffixes of the files that belong to a database file.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// The database file that `path` leads to; `None` if there is none. A link to a missing file
/// counts as none.
pub fn find(path: &Path) -> Result<Option<PathBuf>, LdbError> {
    match fs::canonicalize(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LdbError::io(path, "looking for it", error)),
    }
}

/// Whether `path` is a link as [`publish`] makes it, to a generation beside it.
pub fn is_own_link(path: &Path) -> bool {
    let (Ok(target), Some(name)) = (fs::read_link(path), path.file_name().and_then(|name| name.to_str())) else {
        return false;
    };
    let number = target.to_str().and_then(|target| target.strip_prefix(name)?.strip_prefix(GENERATION));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// The database file that `path` leads to. If there is none, `build` makes one under the name
/// that it gets, and then the link is set. The caller holds the applier's lock.
pub fn locate(path: &Path, build: impl FnOnce(&Path) -> Result<(), LdbError>) -> Result<PathBuf, LdbError> {
    if let Some(file) = find(path)? {
        return Ok(file);
    }
    let generation = unused_name(path)?;
    build(&generation)?;
    publish(path, &generation)?;
    find(path)?.ok_or_else(|| LdbError::Removed { path: path.to_owned() })
}

/// Makes `finished` the generation that `path` leads to: a database file without a -wal, in the
/// directory of `path`. After a failure `finished` is gone, and `path` leads to the same file as before.
pub fn install(path: &Path, finished: &Path) -> Result<(), LdbError> {
    let generation = unused_name(path)?;
    fs::rename(finished, &generation).map_err(|error| LdbError::io(finished, "making it a generation", error))?;
    failpoint::hit("bootstrap-before-link");
    publish(path, &generation).inspect_err(|_| {
        // If the link was set and only its flush failed, the generation is in use.
        if !fs::canonicalize(path).is_ok_and(|file| file.file_name() == generation.file_name()) {
            let _ = fs::remove_file(&generation);
        }
    })
}

/// Keeps the database that `path` leads to, and its companions, under names which say that it
/// could not be read. Its own names stay until another file takes them. Older kept files are
/// removed.
pub fn keep_unreadable(path: &Path) -> Result<(), LdbError> {
    let Some(file) = find(path)? else { return Ok(()) };
    let here = fs::canonicalize(directory_of(path)).map_err(|error| LdbError::io(path, "looking for it", error))?;
    if directory_of(&file) != here {
        // Another program made this link, so the file stays where it is.
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

/// A generation's name that no file has, and no -wal or -shm of one.
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

/// Points `path` at `generation`, a finished database in the same directory. Atomic: every
/// program that opens `path` finds the old file or the new one, complete.
fn publish(path: &Path, generation: &Path) -> Result<(), LdbError> {
    if find(path)?.is_none() {
        // The companions of a deleted database must not become a part of this one.
        set_companions_aside(path)?;
    }
    flush(generation)?;
    let directory = directory_of(path);
    // The file's own entry must be durable before a link leads to it.
    flush(directory)?;
    let link = beside(path, ".link");
    let failed = |error| LdbError::io(path, "linking a new generation", error);
    match fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // A relative link, so that the directory can be moved or mounted elsewhere as a whole.
    let target = generation.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    symlink(target, &link).and_then(|()| fs::rename(&link, path)).map_err(failed)?;
    flush(directory)
}

fn flush(path: &Path) -> Result<(), LdbError> {
    disk::flush(path).map_err(|error| LdbError::io(path, "flushing it", error))
}

/// Renames a -wal and a -shm at `path` whose database is gone.
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

/// Removes what no link leads to: an unfinished download or generation of a crash, a replaced
/// generation, and the -wal of a replaced plain file. Readers that have such a file open keep
/// it until they close it. The caller holds the applier's lock.
pub fn tidy(path: &Path) -> Result<(), LdbError> {
    let current = find(path)?;
    let failed = |error| LdbError::io(path, "tidying up around it", error);
    let linked = current.as_deref().and_then(Path::file_name);
    let mut superfluous = vec![beside(path, ".link")];
    let mut is_generation = false;
    for (number, found) in names_behind(path, GENERATION).map_err(failed)? {
        let generation = beside(path, &format!("{GENERATION}{number}"));
        if generation.file_name() == linked {
            is_generation = true;
        } else {
            superfluous.push(found);
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

/// Removes an unfinished file, and what SQLite left beside it.
pub fn clear_incoming(path: &Path) -> Result<(), LdbError> {
    let left = ["", "-wal", "-shm", "-journal"].map(|suffix| beside(&incoming(path), suffix));
    left.iter().try_for_each(|left| remove(left)).map_err(|error| LdbError::io(path, "tidying up beside it", error))
}

/// The path at which a fetched LDB for `path` is made.
pub fn incoming(path: &Path) -> PathBuf {
    beside(path, ".incoming")
}

/// Files beside `path` whose names have `middle` and a number after the LDB's name. Gives the
/// number without a companion's suffix, and the path.
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

/// The time as a number, so that later files get higher numbers.
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
