//! An LDB's path is a symbolic link to a generation: a database file of its own,
//! with its own -wal and -shm. A new generation is finished and flushed before the
//! link is renamed over, so that no reader meets a new file under an old WAL. A
//! plain file at the path (other programs make those) is used as it is.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::LdbError;
use super::filesystem::{beside, directory_of, flush};

/// Between an LDB's file name and the milliseconds that number its generations.
const GENERATION: &str = ".gen-";
/// The files that belong to a database file.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// The database file that `path` leads to. Where there is none, `build` makes one:
/// it is handed a name for the file, and the link is set when it has succeeded.
/// The caller holds the applier's lock.
pub fn locate(path: &Path, build: impl FnOnce(&Path) -> Result<(), LdbError>) -> Result<PathBuf, LdbError> {
    let failed = |error| LdbError::io(path, "looking for it", error);
    match fs::canonicalize(path) {
        Ok(file) => {
            remove_unlinked(path, Some(&file)).map_err(failed)?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // What a deleted database left is not to become part of the next one.
            set_companions_aside(path)?;
            remove_unlinked(path, None).map_err(failed)?;
            create(path, build)
        }
        Err(error) => Err(failed(error)),
    }
}

fn create(path: &Path, build: impl FnOnce(&Path) -> Result<(), LdbError>) -> Result<PathBuf, LdbError> {
    let generation = beside(path, &format!("{GENERATION}{:013}", unix_millis()));
    build(&generation)?;
    publish(path, &generation)?;
    fs::canonicalize(path).map_err(|error| LdbError::io(path, "looking for it", error))
}

/// Points `path` at `generation`, a finished database in the same directory. Atomic:
/// whoever opens `path` finds the old file or the new one, complete.
pub fn publish(path: &Path, generation: &Path) -> Result<(), LdbError> {
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

fn set_companions_aside(path: &Path) -> Result<(), LdbError> {
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

/// Removes generations that no link leads to: an unfinished one after a crash, or a
/// replaced one. Readers that have it open keep it until they close it.
fn remove_unlinked(path: &Path, linked: Option<&Path>) -> io::Result<()> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
    let prefix = format!("{name}{GENERATION}");
    let keep = linked.and_then(Path::file_name).and_then(|name| name.to_str());
    for entry in fs::read_dir(directory_of(path))? {
        let entry = entry?;
        let file_name = entry.file_name();
        let Some(number) = file_name.to_str().and_then(|name| name.strip_prefix(&prefix)) else { continue };
        let number = COMPANIONS.iter().find_map(|suffix| number.strip_suffix(suffix)).unwrap_or(number);
        let is_generation = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        if is_generation && keep != Some(&format!("{prefix}{number}")) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn unix_millis() -> u128 {
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
}
