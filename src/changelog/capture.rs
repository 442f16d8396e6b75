//! Which rows a statement really changed, from SQLite's pre-update hook. The hook
//! is not in the bundled library unless it was compiled with
//! SQLITE_ENABLE_PREUPDATE_HOOK, and rusqlite's own wrapper for it needs libclang
//! to build; so this file, and no other, calls SQLite directly.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use rusqlite::ffi;
use rusqlite::types::ValueRef;

use crate::sql::Statement;

use super::changes::Changes;
use super::entry::{self, TableKey};

const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table'";
const SCHEMA_VERSION: &str = "PRAGMA schema_version";

/// The applier's own tables, which no follower caches.
const OWN_TABLES: &[u8] = b"_ldb_";

/// The name under which the connection owns what the hook writes to.
const CLIENT_DATA: &CStr = c"ctlstore changelog";

/// The keys of tables that statements were about.
#[derive(Debug, Default)]
struct Tables {
    by_name: HashMap<String, usize>,
    /// By SQL name; `None` for tables whose rows can't be named.
    keys: Vec<(String, Option<TableKey>)>,
    /// Where the last one was found: most statements are about the same table as the
    /// one before.
    last: usize,
}

impl Tables {
    fn find(&mut self, name: &str) -> Option<&Option<TableKey>> {
        if self.keys.get(self.last).is_none_or(|(last, _)| last != name) {
            self.last = *self.by_name.get(name)?;
        }
        Some(&self.keys[self.last].1)
    }

    /// Looks up the key of `name`, unless it is known.
    fn learn(&mut self, connection: &Connection, name: &str) -> rusqlite::Result<()> {
        if self.find(name).is_none() {
            let key = TableKey::load(connection, name)?;
            self.by_name.insert(name.to_owned(), self.keys.len());
            self.keys.push((name.to_owned(), key));
        }
        Ok(())
    }
}

/// What the hook knows and what it has seen.
#[derive(Debug, Default)]
struct Collector {
    is_armed: bool,
    tables: Tables,
    changes: Changes,
}

/// The hook of one connection.
#[derive(Debug)]
pub struct Capture {
    collector: Arc<Mutex<Collector>>,
    /// What the last statement changed.
    changes: Changes,
    /// The schema's version before a statement that is not in a known form.
    schema_before: Option<i64>,
}

impl Capture {
    pub fn install(connection: &Connection) -> rusqlite::Result<Self> {
        let collector = Arc::new(Mutex::new(Collector::default()));
        // SAFETY: the connection owns the clone until it is closed, under a name that
        // nobody else uses, so the pointer to it is good for as long as the hook can
        // be called. The hook reads it as the type that it has here.
        unsafe {
            let owned: *mut Arc<Mutex<Collector>> =
                connection.set_clientdata(CLIENT_DATA, Some(Arc::clone(&collector)))?;
            ffi::sqlite3_preupdate_hook(connection.handle(), Some(on_change), owned.cast::<c_void>());
        }
        Ok(Self { collector, changes: Changes::default(), schema_before: None })
    }

    fn collector(&self) -> MutexGuard<'_, Collector> {
        self.collector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn forget_tables(&mut self) {
        *self.collector() = Collector::default();
    }

    /// Gets ready for one statement. The hook itself can't ask SQLite anything, so
    /// the keys of the tables to come are looked up here.
    pub fn before(&mut self, connection: &Connection, statement: &Statement<'_>) -> rusqlite::Result<()> {
        self.schema_before = None;
        match statement {
            Statement::Begin | Statement::Commit => return Ok(()),
            Statement::Upsert(_) | Statement::Delete(_) | Statement::Clear { .. } => {
                // One lock for all of it: this is what nearly every statement comes by.
                let mut collector = self.collector();
                collector.tables.learn(connection, statement.table().unwrap_or_default())?;
                collector.is_armed = true;
                return Ok(());
            }
            // All of them, since the same table may be spelled in another case.
            Statement::CreateTable { .. } | Statement::AddColumn { .. } => self.collector().tables = Tables::default(),
            Statement::DropTable { table } => {
                // SQLite does not report the rows that go with a table.
                let entry = entry::of_one_row(connection, table)?;
                let mut collector = self.collector();
                collector.tables = Tables::default();
                if let Some(entry) = entry {
                    collector.changes.jump = true;
                    collector.changes.push(|out| out.extend_from_slice(&entry));
                }
                return Ok(());
            }
            Statement::Other => {
                self.schema_before = Some(schema_version(connection)?);
                let tables = connection
                    .prepare_cached(TABLES)?
                    .query_map([], |row| row.get(0))?
                    .collect::<rusqlite::Result<Vec<String>>>()?;
                let mut collector = self.collector();
                tables.iter().try_for_each(|table| collector.tables.learn(connection, table))?;
            }
        }
        self.collector().is_armed = true;
        Ok(())
    }

    /// What the statement changed.
    pub fn after(&mut self, connection: &Connection) -> rusqlite::Result<&Changes> {
        self.changes.clear();
        {
            let mut collector = self.collector.lock().unwrap_or_else(PoisonError::into_inner);
            collector.is_armed = false;
            std::mem::swap(&mut collector.changes, &mut self.changes);
        }
        self.changes.drop_repeats();
        if let Some(before) = self.schema_before.take()
            && schema_version(connection)? != before
        {
            // Whatever it did to the tables, it may have taken rows along.
            self.collector().tables = Tables::default();
            self.changes.jump = true;
        }
        if self.changes.jump && self.changes.is_empty() {
            let entry = entry::of_any_row(connection)?;
            self.changes.push(|out| out.extend_from_slice(&entry));
        }
        Ok(&self.changes)
    }
}

fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row(SCHEMA_VERSION, [], |row| row.get(0))
}

/// Called by SQLite for each row, before it changes.
unsafe extern "C" fn on_change(
    context: *mut c_void,
    db: *mut ffi::sqlite3,
    operation: c_int,
    _database: *const c_char,
    table: *const c_char,
    _old_rowid: i64,
    _new_rowid: i64,
) {
    // SAFETY: see `install`; SQLite hands over a NUL-terminated name.
    let (collector, table) = unsafe { (&*context.cast::<Arc<Mutex<Collector>>>(), CStr::from_ptr(table)) };
    let mut collector = collector.lock().unwrap_or_else(PoisonError::into_inner);
    let Collector { is_armed, tables, changes } = &mut *collector;
    if !*is_armed || changes.has_overflowed() || table.to_bytes().starts_with(OWN_TABLES) {
        return;
    }
    let Some(key) = table.to_str().ok().and_then(|table| tables.find(table)?.as_ref()) else {
        changes.jump = true;
        return;
    };
    if operation != ffi::SQLITE_INSERT {
        // SAFETY: `db` is the connection whose hook is running, with a row to give.
        changes.push(|out| key.push(out, |column| unsafe { value(ffi::sqlite3_preupdate_old, db, column) }));
    }
    if operation != ffi::SQLITE_DELETE {
        // SAFETY: as above.
        changes.push(|out| key.push(out, |column| unsafe { value(ffi::sqlite3_preupdate_new, db, column) }));
    }
}

type RowValue = unsafe extern "C" fn(*mut ffi::sqlite3, c_int, *mut *mut ffi::sqlite3_value) -> c_int;

/// One value of the row that changes. It lives until the hook returns.
unsafe fn value<'v>(get: RowValue, db: *mut ffi::sqlite3, column: c_int) -> ValueRef<'v> {
    let mut value = std::ptr::null_mut();
    // SAFETY: called from within the hook, as the caller promises; SQLite owns what
    // the pointers lead to, and asking for a value's type before its bytes, and for
    // its bytes before their number, is the order that keeps them valid.
    unsafe {
        if get(db, column, &mut value) != ffi::SQLITE_OK || value.is_null() {
            return ValueRef::Null;
        }
        let bytes = |start: *const u8, value| match usize::try_from(ffi::sqlite3_value_bytes(value)) {
            Ok(length) if !start.is_null() => std::slice::from_raw_parts(start, length),
            _ => &[],
        };
        match ffi::sqlite3_value_type(value) {
            ffi::SQLITE_INTEGER => ValueRef::Integer(ffi::sqlite3_value_int64(value)),
            ffi::SQLITE_FLOAT => ValueRef::Real(ffi::sqlite3_value_double(value)),
            ffi::SQLITE_TEXT => ValueRef::Text(bytes(ffi::sqlite3_value_text(value), value)),
            ffi::SQLITE_BLOB => ValueRef::Blob(bytes(ffi::sqlite3_value_blob(value).cast(), value)),
            _ => ValueRef::Null,
        }
    }
}
