//! Decides whether an applier may write the file at an LDB's path, before anything is written there. It must be an
//! LDB of this program or of the original, or there must be no file yet. Entry point: [`refuse_foreign`].

use std::fs;
use std::path::Path;

use ctlstore_core::disk::{beside, refuse_strangers_link};
use ctlstore_sqlite::{Contents, ExamineError, Examined, examine_database};

use super::error::LdbError;
use super::generation;

/// The tables of every LDB, with the columns that make it one.
const SEQ: (&str, &[&str]) = ("_ldb_seq", &["id", "seq"]);
const LAST_UPDATE: (&str, &[&str]) = ("_ldb_last_update", &["name", "timestamp"]);
/// The table that only our LDBs have, and two tables of a ctldb.
const META: &str = "_ldb_meta";
const MUTATORS: &str = "mutators";
const FAMILIES: &str = "families";
const TABLES: &[&str] = &[SEQ.0, LAST_UPDATE.0, META, MUTATORS, FAMILIES];

/// The kind of file at an LDB's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileAtPath {
    Nothing,
    /// A file without a byte, as a program leaves it that ends early.
    Empty,
    Ldb,
    /// An LDB that can't be read.
    Damaged,
}

/// Examines the file at `path`, and refuses another program's.
///
/// # Errors
/// [`LdbError::NotAnLdb`] for any file that is no LDB and never was one; those of the filesystem.
pub fn refuse_foreign(path: &Path) -> Result<FileAtPath, LdbError> {
    let not_ours = |what: String| LdbError::NotAnLdb { path: path.to_owned(), what };
    let is_link_of_ours = generation::is_own_link(path);
    if !is_link_of_ours {
        refuse_strangers_link(path).map_err(|error| LdbError::io(path, "following it", error))?;
    }
    // An applier makes the file beside it when it has opened the LDB.
    let was_ldb =
        || is_link_of_ours || fs::symlink_metadata(beside(path, ".seq")).is_ok_and(|metadata| metadata.is_file());
    match examine_database(path, TABLES) {
        Ok(Examined::Missing) => Ok(FileAtPath::Nothing),
        Ok(Examined::Empty) if is_link_of_ours || !is_link(path) => Ok(FileAtPath::Empty),
        Ok(Examined::Empty) => Err(not_ours("an empty file that a link leads to".to_owned())),
        Ok(Examined::Database(contents)) => judge(&contents).map_err(not_ours),
        Ok(Examined::NotADatabase) if was_ldb() => Ok(FileAtPath::Damaged),
        Ok(Examined::NotADatabase) => Err(not_ours("a file of another kind".to_owned())),
        Err(ExamineError::Io(error)) => Err(LdbError::io(path, "looking into it", error)),
        Err(ExamineError::Sqlite(error)) => match LdbError::sqlite(path, "looking into it", &error) {
            LdbError::Corrupt { .. } if was_ldb() => Ok(FileAtPath::Damaged),
            LdbError::Corrupt { reason, .. } => Err(not_ours(format!("a damaged database ({reason})"))),
            other => Err(other),
        },
    }
}

/// Fails if another program's database is at `path`, or a ctldb. Opening the file tells
/// everything else that is wrong with it.
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

/// The error is a description of the database, which is none of ours.
fn judge(contents: &Contents) -> Result<FileAtPath, String> {
    let has = |(table, columns)| contents.has_columns(table, columns);
    if has(SEQ) && has(LAST_UPDATE) {
        return Ok(FileAtPath::Ldb);
    }
    if contents.has(MUTATORS) && contents.has(FAMILIES) {
        return Err("a ctldb".to_owned());
    }
    // A program that ended before it had made all of its first tables leaves it so.
    let is_begun = [SEQ, LAST_UPDATE].iter().all(|mark| !contents.has(mark.0) || has(*mark));
    if contents.has_nothing_else() && is_begun && !contents.has(MUTATORS) && !contents.has(FAMILIES) {
        return Ok(FileAtPath::Empty);
    }
    Err(contents.to_string())
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}
