//! Looks into a file that may be a database of any program, and leaves no trace. No byte of the
//! file changes, and no -wal or -shm appears or disappears. Entry point: [`examine_database`]. It
//! returns the [`Contents`]; the caller decides by them whose database it is.
//!
//! A subtle point: POSIX locks belong to the process. If the process closes any descriptor of a
//! file, it loses the locks of all its connections to that file. Another program can then remove
//! the file's WAL. A connection in WAL mode keeps a -shm beside the file, so a file with a -shm is
//! opened by SQLite alone. The other ways below are for files without one.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use ctlstore_core::disk::{IMMUTABLE, beside, check_database, file_uri, open_regular};

/// The first bytes of every SQLite database.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Bytes of the header that are read.
const HEADER_BYTES: u64 = 20;
/// The byte of the header that tells the journal mode, and its value for WAL mode.
const MODE_OFFSET: usize = 18;
const WAL_MODE: u8 = 2;

/// The URI parameter for a file that other programs may have open.
const SHARED: &str = "mode=ro";

/// How long to wait for a lock of another program.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// The most bytes that are copied to read a WAL that no program has open. If only the WAL has the
/// tables, there was no checkpoint yet; SQLite makes the first at about 4 MB by default.
const MAX_COPIED_BYTES: u64 = 256 * 1024 * 1024;

const TABLE_COLUMNS: &str = "SELECT info.name FROM sqlite_schema AS s, pragma_table_info(s.name) AS info \
                             WHERE s.type = 'table' AND s.name = ? ORDER BY info.cid";
const OBJECTS: &str =
    "SELECT name, tbl_name FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid";

/// How many names of another program's tables an error repeats, and how many characters of each.
const SHOWN_NAMES: usize = 3;
const SHOWN_CHARS: usize = 64;

/// The kind of file at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Examined {
    Missing,
    /// A file without a byte. SQLite opens it as a database without tables.
    Empty,
    NotADatabase,
    Database(Contents),
}

/// The facts about a database by which a caller recognises it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The columns of those tables that the caller asked for and that exist.
    columns: BTreeMap<String, Vec<String>>,
    /// The first names of other tables, indexes, views and triggers.
    others: Vec<String>,
    /// Numbers with which programs mark their files; 0 for none.
    application_id: i64,
    user_version: i64,
}

impl Contents {
    fn read(connection: &Connection, tables: &[&str]) -> rusqlite::Result<Self> {
        let mut columns = BTreeMap::new();
        let mut of_table = connection.prepare(TABLE_COLUMNS)?;
        for table in tables {
            let names = of_table.query_map([table], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
            if !names.is_empty() {
                columns.insert((*table).to_owned(), names);
            }
        }
        let mut others = Vec::new();
        let mut objects = connection.prepare(OBJECTS)?;
        let mut rows = objects.query([])?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            let table: String = row.get(1)?;
            if !columns.contains_key(&name) && !columns.contains_key(&table) && others.len() < SHOWN_NAMES {
                others.push(name);
            }
        }
        let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get(0));
        let application_id = number("PRAGMA application_id")?;
        let user_version = number("PRAGMA user_version")?;
        Ok(Self { columns, others, application_id, user_version })
    }

    /// Whether this table, one of those that the caller asked for, exists.
    pub fn has(&self, table: &str) -> bool {
        self.columns.contains_key(table)
    }

    /// Whether this table exists and has all of these columns.
    pub fn has_columns(&self, table: &str, columns: &[&str]) -> bool {
        let existing = self.columns.get(table);
        existing.is_some_and(|existing| columns.iter().all(|wanted| existing.iter().any(|column| column == wanted)))
    }

    /// Whether the database has only tables that the caller asked for, and no program's mark.
    pub fn has_nothing_else(&self) -> bool {
        self.others.is_empty() && self.application_id == 0 && self.user_version == 0
    }
}

/// Describes a database of another program in a line, by names only.
impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a database of another program")?;
        let shown = |name: &String| name.chars().take(SHOWN_CHARS).flat_map(char::escape_default).collect::<String>();
        let names: Vec<String> = self.others.iter().map(shown).collect();
        if names.is_empty() {
            return write!(f, " (application_id {}, user_version {})", self.application_id, self.user_version);
        }
        write!(f, " (it has {})", names.join(", "))
    }
}

/// Why the file could not be examined.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Examines the file at `path`, and reads the columns of those of its tables that `tables` names.
/// Links are followed.
///
/// # Errors
/// If the file is not a regular one, can't be read, or is damaged.
pub fn examine_database(path: &Path, tables: &[&str]) -> Result<Examined, ExamineError> {
    check_database(path)?;
    let file = match fs::canonicalize(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Examined::Missing);
        }
        Err(error) => return Err(error.into()),
    };
    if fs::metadata(&file)?.len() == 0 {
        return Ok(Examined::Empty);
    }
    let wal_bytes = length_of(&beside(&file, "-wal"))?;
    let has_shm = length_of(&beside(&file, "-shm"))?.is_some();
    if has_shm && wal_bytes.is_some() {
        return contents(&open(&file, SHARED)?, tables);
    }
    let header = header_of(&file)?;
    if !header.starts_with(MAGIC) {
        return Ok(Examined::NotADatabase);
    }
    if header.get(MODE_OFFSET) != Some(&WAL_MODE) {
        return contents(&open(&file, SHARED)?, tables);
    }
    match wal_bytes {
        // SQLite would make a -shm beside the file to read its WAL.
        Some(bytes) if bytes > 0 => {
            let copy = Copy::of(&file, bytes)?;
            contents(&open(&copy.file(), SHARED)?, tables)
        }
        _ => contents(&open(&file, IMMUTABLE)?, tables),
    }
}

fn contents(connection: &Connection, tables: &[&str]) -> Result<Examined, ExamineError> {
    match Contents::read(connection, tables) {
        Ok(contents) => Ok(Examined::Database(contents)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => Ok(Examined::NotADatabase),
        Err(error) => Err(error.into()),
    }
}

fn open(file: &Path, parameters: &str) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(file_uri(file, parameters), flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // The schema may be another program's.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    Ok(connection)
}

fn length_of(path: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn header_of(file: &Path) -> io::Result<Vec<u8>> {
    let mut header = Vec::new();
    open_regular(File::options().read(true), file)?.take(HEADER_BYTES).read_to_end(&mut header)?;
    Ok(header)
}

/// A copy of a database with its WAL, in a directory that only this user can enter.
struct Copy {
    directory: PathBuf,
}

impl Copy {
    fn of(file: &Path, wal_bytes: u64) -> io::Result<Self> {
        let bytes = fs::metadata(file)?.len().saturating_add(wal_bytes);
        if bytes > MAX_COPIED_BYTES {
            let message = "its -wal was left by a program that has ended; open it with that program once";
            return Err(io::Error::other(message));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let directory = std::env::temp_dir().join(format!("ctlstore-{}-{now}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&directory)?;
        let copy = Self { directory };
        fs::copy(file, copy.file())?;
        fs::copy(beside(file, "-wal"), beside(&copy.file(), "-wal"))?;
        Ok(copy)
    }

    fn file(&self) -> PathBuf {
        self.directory.join("copy.db")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // If this fails, the system clears its directory of temporary files some time.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(path: &Path) -> Examined {
        examine_database(path, &["t"]).unwrap()
    }

    fn is_made(found: &Examined) -> bool {
        matches!(found, Examined::Database(contents) if contents.has_columns("t", &["a"]) && contents.others == ["u"])
    }

    /// Every file in the directory, with its bytes and the time of its last change.
    fn all(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
        let read = |path: PathBuf| {
            let changed = fs::metadata(&path).unwrap().modified().unwrap();
            (path.clone(), (fs::read(path).unwrap(), changed))
        };
        fs::read_dir(directory).unwrap().map(|entry| read(entry.unwrap().path())).collect()
    }

    fn made(directory: &Path, mode: &str) -> (PathBuf, Connection) {
        let path = directory.join("file.db");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(&format!("PRAGMA journal_mode = {mode}; CREATE TABLE t (a); CREATE TABLE u (a)"))
            .unwrap();
        (path, connection)
    }

    #[test]
    fn a_database_is_looked_into_without_a_trace_in_whatever_state_it_was_left() {
        for mode in ["DELETE", "PERSIST", "WAL"] {
            let directory = tempfile::tempdir().unwrap();
            let (path, connection) = made(directory.path(), mode);
            drop(connection);
            let before = all(directory.path());
            assert!(is_made(&look(&path)), "{mode}");
            assert_eq!(all(directory.path()), before, "{mode}");
        }
        // A killed program leaves everything in the WAL, with or without the -shm.
        let origin = tempfile::tempdir().unwrap();
        let (path, _open) = made(origin.path(), "WAL");
        for suffixes in [&["", "-wal"][..], &["", "-wal", "-shm"]] {
            let directory = tempfile::tempdir().unwrap();
            let copy = directory.path().join("copy.db");
            for suffix in suffixes {
                fs::copy(beside(&path, suffix), beside(&copy, suffix)).unwrap();
            }
            let before = all(directory.path());
            assert!(is_made(&look(&copy)), "{suffixes:?}");
            let mut after = all(directory.path());
            // A -shm is memory that readers share. It is not data.
            after.extend(
                before.iter().filter(|(path, _)| path.ends_with("copy.db-shm")).map(|(p, f)| (p.clone(), f.clone())),
            );
            assert_eq!(after, before, "{suffixes:?}");
        }
        assert!(is_made(&look(&path)));
    }

    #[test]
    fn what_is_no_database_is_told_from_what_is_empty_and_what_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert_eq!(look(&path), Examined::Missing);
        fs::write(&path, "").unwrap();
        assert_eq!(look(&path), Examined::Empty);
        for text in ["x".to_owned(), "some notes\n".repeat(1000), "SQLite format 4".to_owned()] {
            fs::write(&path, &text).unwrap();
            assert_eq!(look(&path), Examined::NotADatabase, "{text:.20}");
        }
        assert!(examine_database(directory.path(), &[]).unwrap_err().to_string().contains("is a directory"));
    }
}
