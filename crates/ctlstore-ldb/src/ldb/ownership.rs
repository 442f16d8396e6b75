//! Whether the file at an LDB's path is one that an applier may write: an LDB of this program or
//! of the original, or nothing yet. Decided before anything is written there. Entry point:
//! [`refuse_foreign`].

use std::fs;
use std::path::Path;

use ctlstore_core::disk::{beside, refuse_strangers_link};
use ctlstore_sqlite::{Contents, ExamineError, Examined, examine_database};

use super::error::LdbError;
use super::generation;

/// What every LDB has, with the columns that make it one.
const SEQ: (&str, &[&str]) = ("_ldb_seq", &["id", "seq"]);
const LAST_UPDATE: (&str, &[&str]) = ("_ldb_last_update", &["name", "timestamp"]);
/// What only ours have, and what a ctldb has.
const META: &str = "_ldb_meta";
const MUTATORS: &str = "mutators";
const FAMILIES: &str = "families";
const TABLES: &[&str] = &[SEQ.0, LAST_UPDATE.0, META, MUTATORS, FAMILIES];

/// What an applier finds at an LDB's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum There {
    Nothing,
    /// A file without a byte, as programs leave it that end early.
    Empty,
    Ldb,
    /// It was an LDB, and can't be read.
    Damaged,
}

/// What is at `path`, unless it is somebody else's.
///
/// # Errors
/// [`LdbError::NotAnLdb`] for any file that is not an LDB and was none; those of the filesystem.
pub fn refuse_foreign(path: &Path) -> Result<There, LdbError> {
    let not_ours = |what: String| LdbError::NotAnLdb { path: path.to_owned(), what };
    let is_link_of_ours = generation::is_own_link(path);
    if !is_link_of_ours {
        refuse_strangers_link(path).map_err(|error| LdbError::io(path, "following it", error))?;
    }
    // The file beside it is made once an applier has opened the LDB.
    let was_ldb =
        || is_link_of_ours || fs::symlink_metadata(beside(path, ".seq")).is_ok_and(|metadata| metadata.is_file());
    match examine_database(path, TABLES) {
        Ok(Examined::Missing) => Ok(There::Nothing),
        Ok(Examined::Empty) if is_link_of_ours || !is_link(path) => Ok(There::Empty),
        Ok(Examined::Empty) => Err(not_ours("an empty file that a link leads to".to_owned())),
        Ok(Examined::Database(contents)) => judge(&contents).map_err(not_ours),
        Ok(Examined::NotADatabase) if was_ldb() => Ok(There::Damaged),
        Ok(Examined::NotADatabase) => Err(not_ours("a file of another kind".to_owned())),
        Err(ExamineError::Io(error)) => Err(LdbError::io(path, "looking into it", error)),
        Err(ExamineError::Sqlite(error)) => match LdbError::sqlite(path, "looking into it", &error) {
            LdbError::Corrupt { .. } if was_ldb() => Ok(There::Damaged),
            LdbError::Corrupt { reason, .. } => Err(not_ours(format!("a damaged database ({reason})"))),
            other => Err(other),
        },
    }
}

/// Fails where another program's database is at `path`, or a ctldb. Whatever else is wrong is
/// told by opening it.
///
/// # Errors
/// [`LdbError::NotAnLdb`].
pub fn refuse_other_database(path: &Path) -> Result<(), LdbError> {
    match examine_database(path, TABLES) {
        Ok(Examined::Database(contents)) => match judge(&contents) {
            Ok(_) => Ok(()),
            Err(what) => Err(LdbError::NotAnLdb { path: path.to_owned(), what }),
        },
        _ => Ok(()),
    }
}

/// What is said of a database that is none of ours.
fn judge(contents: &Contents) -> Result<There, String> {
    let has = |(table, columns)| contents.has_columns(table, columns);
    if has(SEQ) && has(LAST_UPDATE) {
        return Ok(There::Ldb);
    }
    if contents.has(MUTATORS) && contents.has(FAMILIES) {
        return Err("a ctldb".to_owned());
    }
    // As a program leaves it that ended before its first tables were all there.
    let is_begun = [SEQ, LAST_UPDATE].iter().all(|mark| !contents.has(mark.0) || has(*mark));
    match contents.has_nothing_else() && is_begun && !contents.has(MUTATORS) && !contents.has(FAMILIES) {
        true => Ok(There::Empty),
        false => Err(contents.to_string()),
    }
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}
