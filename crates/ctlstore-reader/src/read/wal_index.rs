//! Whether anybody, in whatever process, has committed to the LDB: told by the header
//! of SQLite's wal-index, the shared memory through which its connections know of each
//! other's commits. Reads it and nothing else; it is SQLite's to write.
//!
//! The header's first copy (48 bytes) is part of SQLite's file format
//! (<https://sqlite.org/walformat.html>): a count of commits, the WAL's length, salts and
//! checksums. A commit is complete once it stands there, and SQLite itself compares it
//! with what a transaction began with. The memory is SQLite's own mapping: to open the
//! file would, on closing it, lose the locks that this process has in it.

use std::ffi::c_void;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering, fence};

use rusqlite::{Connection, ffi};

const JOURNAL_MODE: &str = "PRAGMA journal_mode";
/// What a wal-index is mapped by, in bytes; SQLite's own constant.
const REGION: i32 = 32 * 1024;
const WORDS: usize = 12;

/// The header at one moment. Equal ones say that nobody has committed in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header([u32; WORDS]);

/// A read-only connection and the header of its wal-index. Who has it never changes its
/// journal mode.
pub(super) struct WatchedConnection {
    connection: Connection,
    /// Points into the mapping of the connection, which SQLite keeps where it is until the
    /// connection is closed or leaves WAL mode.
    header: Option<NonNull<[AtomicU32; WORDS]>>,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is only read.
unsafe impl Send for WatchedConnection {}

impl WatchedConnection {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, header: None }
    }

    /// Finds the header. To be called behind a first read, which opens the wal-index of a
    /// file that has one.
    pub(super) fn watch(&mut self) -> rusqlite::Result<()> {
        let mode: String = self.connection.query_row(JOURNAL_MODE, [], |row| row.get(0))?;
        if mode == "wal" {
            self.header = self.find_header();
        }
        Ok(())
    }

    /// The header as it is now; `None` where there is none.
    pub(super) fn header(&self) -> Option<Header> {
        let header = self.header?;
        // SAFETY: the connection that keeps the mapping is open as long as `self` is, in WAL
        // mode as it was when the header was found: others can't change the mode of a file
        // that is open in it. SQLite shares the mapping with other processes, whose writes
        // are seen as by any atomic load; words of two writes make no header of either.
        let words = unsafe { header.as_ref() };
        let header = Header(std::array::from_fn(|i| words[i].load(Ordering::Relaxed)));
        // What is read next, the transaction's own look at the header above all, is read behind it.
        fence(Ordering::Acquire);
        Some(header)
    }

    /// The connection, for whoever may change or replace it: the header is found no more.
    pub(super) fn unwatched(&mut self) -> &mut Connection {
        self.header = None;
        &mut self.connection
    }

    fn find_header(&self) -> Option<NonNull<[AtomicU32; WORDS]>> {
        let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
        let mut region: *mut c_void = ptr::null_mut();
        // SAFETY: the handle is the open connection's, and is used by no other thread, since
        // `self` is not `Sync`. For this operation the argument is a place for a pointer,
        // through which SQLite hands out the file that the connection has open; the file and
        // its methods live as long as the connection. `xShmMap` gives the first region where
        // it is mapped already and, told not to extend, makes none. A reader that may not write
        // the -shm, and finds no writer to vouch for it, has a wal-index of its own on the heap,
        // which comes and goes: this call then gives SQLITE_READONLY_CANTINIT and no region, never
        // that memory.
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
        // Of a user who may only read it, the mapping is read-only, and as good.
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
