//! Tells whether a process has committed to the LDB, by the header of SQLite's wal-index. Entry
//! point: [`WatchedConnection::header`]. The wal-index is memory that SQLite's connections share, so
//! that each knows of the others' commits. This file only reads it.
//!
//! The header's first copy (48 bytes) is part of SQLite's file format
//! (<https://sqlite.org/walformat.html>): a count of commits, the WAL's length, salts and
//! checksums. A commit is complete when it is in the header. SQLite itself compares the header with
//! the one at the transaction's begin. The memory is read through SQLite's own mapping. To open the
//! file and close it again would lose the locks that this process has on it.

use std::ffi::c_void;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering, fence};

use rusqlite::{Connection, ffi};

const JOURNAL_MODE: &str = "PRAGMA journal_mode";
/// The size of a region of the wal-index that SQLite maps at once, in bytes. The number is SQLite's.
const REGION: i32 = 32 * 1024;
/// The header's length, in words of 32 bits.
const WORDS: usize = 12;

/// The header at one point in time. If two are equal, no process has committed in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WalIndexHeader([u32; WORDS]);

/// A read-only connection and the header of its wal-index. Its user must not change the
/// connection's journal mode.
pub(super) struct WatchedConnection {
    connection: Connection,
    /// A pointer into the connection's mapping. SQLite keeps the mapping in its place until the
    /// connection is closed or leaves WAL mode.
    header: Option<NonNull<[AtomicU32; WORDS]>>,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is only read.
unsafe impl Send for WatchedConnection {}

impl WatchedConnection {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, header: None }
    }

    /// Finds the header. Call it after a first read, which opens the wal-index if the file has one.
    pub(super) fn watch(&mut self) -> rusqlite::Result<()> {
        let mode: String = self.connection.query_row(JOURNAL_MODE, [], |row| row.get(0))?;
        if mode == "wal" {
            self.header = self.find_header();
        }
        Ok(())
    }

    /// The present header; `None` if there is none.
    pub(super) fn header(&self) -> Option<WalIndexHeader> {
        let header = self.header?;
        // SAFETY: the connection keeps the mapping, and is open as long as `self` lives. It is still
        // in WAL mode, as it was when the header was found: no process can change the mode of a
        // file that is open in WAL mode. Other processes write the memory; atomic loads read it.
        // A mix of words from two writes equals neither header.
        let words = unsafe { header.as_ref() };
        let header = WalIndexHeader(std::array::from_fn(|i| words[i].load(Ordering::Relaxed)));
        // Later reads, above all SQLite's own read of the header, must not be moved before this one.
        fence(Ordering::Acquire);
        Some(header)
    }

    /// The connection, for a caller that may change or replace it. After that there is no header.
    pub(super) fn unwatched(&mut self) -> &mut Connection {
        self.header = None;
        &mut self.connection
    }

    fn find_header(&self) -> Option<NonNull<[AtomicU32; WORDS]>> {
        let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
        let mut region: *mut c_void = ptr::null_mut();
        // SAFETY: the handle belongs to the open connection. No other thread uses it, since `self` is
        // not `Sync`. This operation's argument is a place for a pointer; SQLite writes there the
        // file that the connection has open. The file and its methods live as long as the
        // connection. `xShmMap` returns the first region if it is mapped already. It makes none,
        // since the call does not allow it to extend the file. If a reader may not write the -shm and
        // no writer has it open, SQLite uses a wal-index on the heap, which it may free. Then this
        // call returns SQLITE_READONLY_CANTINIT and no region, never that memory.
        let code = unsafe {
            let place = (&raw mut file).cast();
            let code =
                ffi::sqlite3_file_control(self.connection.handle(), ptr::null(), ffi::SQLITE_FCNTL_FILE_POINTER, place);
            if code != ffi::SQLITE_OK {
                return None;
            }
            let methods = file.as_ref()?.pMethods.as_ref()?;
            methods.xShmMap?(file, 0, REGION, 0, &raw mut region)
        };
        // A user who may only read the -shm gets a read-only mapping, which is enough.
        let is_mapped = code == ffi::SQLITE_OK || code == ffi::SQLITE_READONLY;
        NonNull::new(region).filter(|_| is_mapped).map(NonNull::cast)
    }
}

impl Deref for WatchedConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}
