//! Whether the file at an embedded ctldb's path is one that an executive may write: a ctldb of
//! this program or of the original, or nothing yet. Decided before anything is written there.
//! Entry points: [`refuse_foreign`], and [`refuse_other_database`] for tools that keep what is
//! there, readable or not.

use std::path::Path;

use crate::ctldb::{CtldbError, LedgerTable};
use ctlstore_core::disk::refuse_strangers_link;
use ctlstore_sqlite::{Contents, ExamineError, Examined, examine_database};

use super::error;

/// A table and the columns that it has at least.
type Mark<'a> = (&'a str, &'a [&'a str]);

/// Each makes a ctldb alone: ours, or the original's by the two that it makes first.
const OURS: &[Mark<'_>] = &[("ctlstore_meta", &["name", "value"])];
const ORIGINALS: &[Mark<'_>] = &[("families", &["id", "name"]), ("mutators", &["writer", "secret", "cookie", "clock"])];
/// What else may be there when a program has ended before all its tables were made. Names that
/// nobody else would choose count alone; what their tables lack is told later, by column.
const FURTHER: &[Mark<'_>] =
    &[("locks", &["id", "clock"]), ("max_table_sizes", &[]), ("max_writer_rates", &[]), ("writer_usage", &[])];
const LEDGER: &[&str] = &["seq", "leader_ts", "statement"];
/// What an LDB has.
const LDB: [&str; 2] = ["_ldb_seq", "_ldb_last_update"];

/// Fails where somebody else's file is at `path`, and says what it is.
///
/// # Errors
/// [`CtldbError::Failed`], also where the file can't be read.
pub fn refuse_foreign(path: &Path, ledger: &LedgerTable) -> Result<(), CtldbError> {
    let shown = path.display();
    refuse_strangers_link(path).map_err(|error| CtldbError::Failed(error.to_string()))?;
    match examine(path, ledger) {
        Ok(Examined::Missing | Examined::Empty) => Ok(()),
        Ok(Examined::NotADatabase) => Err(CtldbError::Failed(format!("{shown}: file is not a database"))),
        Ok(Examined::Database(contents)) => judge(path, &contents, ledger),
        Err(ExamineError::Io(error)) => Err(CtldbError::Failed(format!("look into {shown}: {error}"))),
        Err(ExamineError::Sqlite(error)) => Err(CtldbError::Failed(format!("{shown}: {}", error::reason(&error)))),
    }
}

/// Fails where another program's database is at `path`, or an LDB.
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
    let ours = OURS.iter().chain(ORIGINALS).chain(FURTHER).map(|(table, _)| *table);
    let tables: Vec<&str> = ours.chain(LDB).chain([ledger.as_str()]).collect();
    examine_database(path, &tables)
}

fn judge(path: &Path, contents: &Contents, ledger: &LedgerTable) -> Result<(), CtldbError> {
    let has_all = |marks: &[Mark<'_>]| marks.iter().all(|(table, columns)| contents.has_columns(table, columns));
    let is_ldb = LDB.iter().any(|table| contents.has(table));
    if !is_ldb && (has_all(OURS) || has_all(ORIGINALS)) {
        return Ok(());
    }
    let ledger = [(ledger.as_str(), LEDGER)];
    let mut marks = OURS.iter().chain(ORIGINALS).chain(FURTHER).chain(&ledger);
    let is_begun = marks.all(|(table, columns)| !contents.has(table) || contents.has_columns(table, columns));
    if !is_ldb && is_begun && contents.has_nothing_else() {
        return Ok(());
    }
    let (shown, what) = (path.display(), if is_ldb { "an ldb".to_owned() } else { contents.to_string() });
    Err(CtldbError::Failed(format!(
        "{shown} is not a ctldb but {what}; name another file in ctldb.url, or move this one away"
    )))
}
