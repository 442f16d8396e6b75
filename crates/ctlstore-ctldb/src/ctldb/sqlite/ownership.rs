//! Decides whether an executive may write the file at an embedded ctldb's path. It may if that is
//! a ctldb of this program or of the original, or if nothing is there yet. Entry points:
//! [`refuse_foreign`], and [`refuse_other_database`] for tools that leave the file as it is, also
//! if it is unreadable. The module writes nothing.

use std::path::Path;

use crate::ctldb::error::CtldbError;
use crate::ctldb::own_tables::LedgerTable;
use ctlstore_core::disk::refuse_strangers_link;
use ctlstore_sqlite::{Contents, ExamineError, Examined, examine_database};

use super::{error, open_mark};

/// A table and the columns that it has at least.
type Mark<'a> = (&'a str, &'a [&'a str]);

/// Each of the two lists is enough to recognise a ctldb. The original's are the two tables that it makes first.
const OURS: &[Mark<'_>] = &[("ctlstore_meta", &["name", "value"])];
const ORIGINALS: &[Mark<'_>] = &[("families", &["id", "name"]), ("mutators", &["writer", "secret", "cookie", "clock"])];
/// Further tables of a ctldb. A program that ended early may have made only some of them. For three of
/// them the name is enough, since no other program would choose it; a missing column is reported later.
const FURTHER: &[Mark<'_>] =
    &[("locks", &["id", "clock"]), ("max_table_sizes", &[]), ("max_writer_rates", &[]), ("writer_usage", &[])];
const LEDGER: &[&str] = &["seq", "leader_ts", "statement"];
/// Tables that other programs' databases may have as well. A database with only these is no ctldb.
const COMMON_NAMES: [&str; 2] = ["families", "locks"];
/// The tables of an LDB.
const LDB: [&str; 2] = ["_ldb_seq", "_ldb_last_update"];

/// Fails if the file at `path` belongs to another program, and says what it is.
///
/// # Errors
/// [`CtldbError::Failed`], also if the file can't be read.
pub fn refuse_foreign(path: &Path, ledger: &LedgerTable) -> Result<(), CtldbError> {
    let shown = path.display();
    refuse_strangers_link(path).map_err(|error| CtldbError::Failed(error.to_string()))?;
    match examine(path, ledger) {
        Ok(Examined::Missing | Examined::Empty) => open_mark::refuse_lost_wal(path, true),
        Ok(Examined::NotADatabase) => Err(CtldbError::Failed(format!("{shown}: file is not a database"))),
        Ok(Examined::Database(contents)) => {
            judge(path, &contents, ledger)?;
            open_mark::refuse_lost_wal(path, !has_any(&contents, all_tables(ledger)))
        }
        Err(ExamineError::Io(error)) => Err(CtldbError::Failed(format!("look into {shown}: {error}"))),
        Err(ExamineError::Sqlite(error)) => Err(CtldbError::Failed(format!("{shown}: {}", error::reason(&error)))),
    }
}

/// Fails if another program's database, or an LDB, is at `path`.
///
/// # Errors
/// [`CtldbError::Failed`].
pub fn refuse_other_database(path: &Path, ledger: &LedgerTable) -> Result<(), CtldbError> {
    match examine(path, ledger) {
        Ok(Examined::Database(contents)) => judge(path, &contents, ledger),
        _ => Ok(()),
    }
}

fn examine(path: &Path, ledger: &LedgerTable) -> Result<Examined, ExamineError> {
    let tables: Vec<&str> = all_tables(ledger).chain(LDB).collect();
    examine_database(path, &tables)
}

/// The tables of a ctldb that count here.
fn all_tables(ledger: &LedgerTable) -> impl Iterator<Item = &str> {
    let marks = OURS.iter().chain(ORIGINALS).chain(FURTHER).map(|(table, _)| *table);
    marks.chain([ledger.as_str()])
}

fn has_any<'a>(contents: &Contents, mut tables: impl Iterator<Item = &'a str>) -> bool {
    tables.any(|table| contents.has(table))
}

fn judge(path: &Path, contents: &Contents, ledger: &LedgerTable) -> Result<(), CtldbError> {
    let has_all = |marks: &[Mark<'_>]| marks.iter().all(|(table, columns)| contents.has_columns(table, columns));
    let is_ldb = LDB.iter().any(|table| contents.has(table));
    if !is_ldb && (has_all(OURS) || has_all(ORIGINALS)) {
        return Ok(());
    }
    // A database without any table is none of another program's either.
    let is_told = has_any(contents, all_tables(ledger).filter(|table| !COMMON_NAMES.contains(table)))
        || !has_any(contents, COMMON_NAMES.into_iter());
    let ledger = [(ledger.as_str(), LEDGER)];
    let mut marks = OURS.iter().chain(ORIGINALS).chain(FURTHER).chain(&ledger);
    let is_begun =
        is_told && marks.all(|(table, columns)| !contents.has(table) || contents.has_columns(table, columns));
    if !is_ldb && is_begun && contents.has_nothing_else() {
        return Ok(());
    }
    let shown = path.display();
    let what = if is_ldb { "an ldb".to_owned() } else { contents.to_string() };
    Err(CtldbError::Failed(format!(
        "{shown} is not a ctldb but {what}; name another file in ctldb.url, or move this one away"
    )))
}
