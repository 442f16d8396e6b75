//! Finds the rows that a statement really changed, through SQLite's pre-update hook. Entry
//! point: [`Capture`]. The bundled library has the hook only if it was compiled with
//! SQLITE_ENABLE_PREUPDATE_HOOK, and rusqlite's own wrapper for it needs libclang to build. So
//! this file, and no other, calls SQLite directly.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use rusqlite::ffi;
use rusqlite::types::ValueRef;

use ctlstore_core::sql::Statement;

use super::changes::ChangedRows;
use super::entry::{self, TableKey};
use super::statement_entries::StatementEntries;

const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table'";
const SCHEMA_VERSION: &str = "PRAGMA main.schema_version";
const TEMP_SCHEMA_VERSION: &str = "PRAGMA temp.schema_version";

/// How the names of the applier's own tables begin. No follower caches those.
const OWN_TABLES: &[u8] = b"_ldb_";

/// The name under which the connection owns the data of the hook.
const CLIENT_DATA: &CStr = c"ctlstore changelog";

/// The keys of tables that statements named.
#[derive(Debug, Default)]
struct TableKeys {
    by_name: HashMap<String, usize>,
    /// By SQL name; `None` for tables whose rows can't be named.
    keys: Vec<(String, Option<TableKey>)>,
    /// The index of the one that was found last. Most statements name the same table as the
    /// statement before.
    last: usize,
}

impl TableKeys {
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

/// The state of the hook: the tables that it knows, and the changes that it found.
#[derive(Debug, Default)]
struct Collector {
    is_armed: bool,
    tables: TableKeys,
    changes: ChangedRows,
}

/// The hook of one connection. It is set only while it is needed, because calling it is much of
/// the cost of a row. A statement that names its row needs no hook.
#[derive(Debug)]
pub struct Capture {
    collector: Arc<Mutex<Collector>>,
    is_hooked: bool,
    direct: StatementEntries,
    /// Whether the current statement names its row.
    is_direct: bool,
    /// The changes of the last statement.
    changes: ChangedRows,
    /// As of which schema tables are known, and whether that was looked at in this transaction.
    /// The schema as of which the tables are known.
    schema: Option<SchemaVersion>,
    /// Whether that was compared with the schema in this transaction.
    is_schema_checked: bool,
    /// The schema's version before a statement in no known form.
    schema_before: Option<SchemaVersion>,
}

/// The versions of the database's schema and of the temporary one.
type SchemaVersion = (i64, i64);

impl Capture {
    pub fn install(connection: &Connection) -> rusqlite::Result<Self> {
        let collector = Arc::new(Mutex::new(Collector::default()));
        // SAFETY: the hook reads the data as the type that it has here, and is not set yet.
        // No other code uses the name.
        unsafe { connection.set_clientdata(CLIENT_DATA, Some(Arc::clone(&collector)))? };
        let mut capture = Self {
            collector,
            is_hooked: false,
            direct: StatementEntries::default(),
            is_direct: false,
            changes: ChangedRows::default(),
            schema: None,
            is_schema_checked: false,
            schema_before: None,
        };
        capture.hook(connection, true)?;
        Ok(capture)
    }

    /// Sets the hook, or removes it.
    fn hook(&mut self, connection: &Connection, wanted: bool) -> rusqlite::Result<()> {
        if self.is_hooked == wanted {
            return Ok(());
        }
        // SAFETY: the connection owns the data until it is closed. No other code uses the name,
        // and the type is the one that the data was set with. So the pointer to it is valid for
        // as long as the hook can be called.
        unsafe {
            let owned: Option<&Arc<Mutex<Collector>>> = connection.get_clientdata(CLIENT_DATA)?;
            let context = owned.map_or(std::ptr::null_mut(), |owned| std::ptr::from_ref(owned).cast_mut().cast());
            let callback = (wanted && owned.is_some()).then_some(on_change as PreUpdate);
            ffi::sqlite3_preupdate_hook(connection.handle(), callback, context);
        }
        self.is_hooked = wanted;
        Ok(())
    }

    fn collector(&self) -> MutexGuard<'_, Collector> {
        self.collector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a transaction. Other programs may have changed tables before it.
    pub fn begin(&mut self) {
        self.is_schema_checked = false;
    }

    pub fn forget_tables(&mut self) {
        *self.collector() = Collector::default();
        self.direct.forget();
    }

    /// Forgets the tables, if the schema is another one than that as of which they are known.
    fn check_schema(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let schema = Some(schema_version(connection)?);
        if self.schema != schema {
            self.forget_tables();
        }
        self.schema = schema;
        self.is_schema_checked = true;
        Ok(())
    }

    /// Prepares for one statement.
    pub fn before(&mut self, connection: &Connection, statement: &Statement<'_>) -> rusqlite::Result<()> {
        if !self.is_schema_checked {
            self.check_schema(connection)?;
        }
        self.changes.clear();
        self.is_direct = match statement {
            Statement::Upsert(row) => self.direct.enter(connection, true, row, &mut self.changes)?,
            Statement::Delete(row) => self.direct.enter(connection, false, row, &mut self.changes)?,
            _ => false,
        };
        self.hook(connection, !self.is_direct)?;
        if self.is_direct { Ok(()) } else { self.arm(connection, statement) }
    }

    /// Prepares the hook. The hook can't query SQLite, so the keys of the tables that the
    /// statement may change are looked up here.
    fn arm(&mut self, connection: &Connection, statement: &Statement<'_>) -> rusqlite::Result<()> {
        self.schema_before = None;
        match statement {
            Statement::Begin | Statement::Commit => return Ok(()),
            Statement::Upsert(_) | Statement::Delete(_) | Statement::Clear { .. } => {
                self.collector().tables.learn(connection, statement.table().unwrap_or_default())?;
            }
            // Forgets all tables, because the same table may be spelled in another case.
            Statement::CreateTable { .. } | Statement::AddColumn { .. } => self.forget_tables(),
            Statement::DropTable { table } => {
                // SQLite does not report the rows that a dropped table had.
                let entry = entry::of_one_row(connection, table)?;
                self.forget_tables();
                if let Some(entry) = entry {
                    let mut collector = self.collector();
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

    /// The changes of the statement.
    pub fn after(&mut self, connection: &Connection) -> rusqlite::Result<&ChangedRows> {
        if self.is_direct {
            // A delete may have found no row.
            if connection.changes() == 0 {
                self.changes.clear();
            }
            return Ok(&self.changes);
        }
        {
            let mut collector = self.collector.lock().unwrap_or_else(PoisonError::into_inner);
            collector.is_armed = false;
            std::mem::swap(&mut collector.changes, &mut self.changes);
        }
        self.changes.drop_repeats();
        if let Some(before) = self.schema_before.take() {
            let (main, temp) = schema_version(connection)?;
            if (main, temp) != before {
                self.forget_tables();
            }
            // A changed schema may have taken rows with it.
            self.changes.jump |= main != before.0;
        }
        if self.changes.jump && self.changes.is_empty() {
            let entry = entry::of_any_row(connection)?;
            self.changes.push(|out| out.extend_from_slice(&entry));
        }
        Ok(&self.changes)
    }
}

fn schema_version(connection: &Connection) -> rusqlite::Result<SchemaVersion> {
    let version = |sql| connection.prepare_cached(sql)?.query_row([], |row| row.get(0));
    Ok((version(SCHEMA_VERSION)?, version(TEMP_SCHEMA_VERSION)?))
}

type PreUpdate = unsafe extern "C" fn(*mut c_void, *mut ffi::sqlite3, c_int, *const c_char, *const c_char, i64, i64);

/// Is called by SQLite for each row, before it changes.
unsafe extern "C" fn on_change(
    context: *mut c_void,
    db: *mut ffi::sqlite3,
    operation: c_int,
    _database: *const c_char,
    table: *const c_char,
    _old_rowid: i64,
    _new_rowid: i64,
) {
    // SAFETY: `hook` sets the context; SQLite passes a NUL-terminated name.
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
        // SAFETY: `db` is the connection whose hook is running, and it has an old row.
        changes.push(|out| key.push(out, |column| unsafe { value(ffi::sqlite3_preupdate_old, db, column) }));
    }
    if operation != ffi::SQLITE_DELETE {
        // SAFETY: as above, with a new row.
        changes.push(|out| key.push(out, |column| unsafe { value(ffi::sqlite3_preupdate_new, db, column) }));
    }
}

type RowValue = unsafe extern "C" fn(*mut ffi::sqlite3, c_int, *mut *mut ffi::sqlite3_value) -> c_int;

/// One value of the row that changes. It is valid until the hook returns.
unsafe fn value<'v>(get: RowValue, db: *mut ffi::sqlite3, column: c_int) -> ValueRef<'v> {
    let mut value = std::ptr::null_mut();
    // SAFETY: the caller is the hook, as it promises. SQLite owns the memory that the
    // pointers lead to. Asking for a value's type before its bytes, and for its bytes before their
    // number, keeps them valid.
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
