//! What one query may take of memory. SQLite's own heap limits hold for the whole
//! process, where the applier must not go without because of a query; so its allocator
//! is told to count for the thread that runs one. It must be told before anything uses
//! SQLite, and is only where queries are enabled.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use rusqlite::ffi;

type Malloc = unsafe extern "C" fn(c_int) -> *mut c_void;
type Realloc = unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void);
type Size = unsafe extern "C" fn(*mut c_void) -> c_int;

/// SQLite was in use before, and its allocator can't be exchanged any more.
#[derive(Debug, thiserror::Error)]
#[error("sqlite's memory can't be bounded for queries: {0}")]
pub struct NotBounded(&'static str);

/// What counts, and then leaves the work to these.
struct Inner {
    malloc: Malloc,
    realloc: Realloc,
    free: Free,
    size: Size,
}

static INNER: OnceLock<Inner> = OnceLock::new();

#[derive(Clone, Copy)]
struct Left {
    /// Bytes; `None` on threads that run no query.
    bytes: Option<i64>,
    was_refused: bool,
}

thread_local! {
    static LEFT: Cell<Left> = const { Cell::new(Left { bytes: None, was_refused: false }) };
}

/// Makes [`Budget`]s count, in all of this process. To be called once, before SQLite is used.
///
/// # Errors
/// When SQLite has been used.
pub fn bound() -> Result<(), NotBounded> {
    if is_bounded() {
        return Ok(());
    }
    // SAFETY: a struct of function pointers and one data pointer, all of them optional.
    let mut methods: ffi::sqlite3_mem_methods = unsafe { std::mem::zeroed() };
    // SAFETY: this option takes a pointer to such a struct, and fills it.
    let rc = unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_GETMALLOC, &raw mut methods) };
    let (Some(malloc), Some(realloc), Some(free), Some(size)) =
        (methods.xMalloc, methods.xRealloc, methods.xFree, methods.xSize)
    else {
        return Err(NotBounded("it has no allocator"));
    };
    if rc != ffi::SQLITE_OK {
        return Err(NotBounded(ffi::code_to_str(rc)));
    }
    // Before SQLite can call what needs it.
    INNER.set(Inner { malloc, realloc, free, size }).map_err(|_| NotBounded("it is being bounded already"))?;
    methods.xMalloc = Some(counted_malloc);
    methods.xRealloc = Some(counted_realloc);
    methods.xFree = Some(counted_free);
    // SAFETY: this option takes a pointer to such a struct, and copies it.
    let rc = unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, &raw const methods) };
    BOUNDED.set(rc == ffi::SQLITE_OK).ok();
    if is_bounded() { Ok(()) } else { Err(NotBounded(ffi::code_to_str(rc))) }
}

static BOUNDED: OnceLock<bool> = OnceLock::new();

/// Whether [`bound`] was successful.
pub fn is_bounded() -> bool {
    BOUNDED.get().is_some_and(|bounded| *bounded)
}

/// While it lives, SQLite may hold so much more on this thread than when it began.
pub struct Budget(());

impl Budget {
    /// `bytes`: the most, as the allocator rounds them.
    pub fn begin(bytes: usize) -> Self {
        LEFT.set(Left { bytes: Some(i64::try_from(bytes).unwrap_or(i64::MAX)), was_refused: false });
        Self(())
    }

    /// Whether SQLite asked for more, and did not get it.
    pub fn was_exceeded(&self) -> bool {
        LEFT.get().was_refused
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        LEFT.set(Left { bytes: None, was_refused: false });
    }
}

/// Whether there is room for so much more; `None` where nothing is counted.
fn has_room(bytes: i64) -> Option<bool> {
    let left = LEFT.get();
    let has_room = left.bytes? >= bytes;
    if !has_room {
        LEFT.set(Left { was_refused: true, ..left });
    }
    Some(has_room)
}

/// Takes so much off what is left; what is given back is less than nothing.
fn take(bytes: i64) {
    let left = LEFT.get();
    LEFT.set(Left { bytes: left.bytes.map(|before| before.saturating_sub(bytes)), ..left });
}

/// SQLite calls these only after it was handed them, which is after `INNER` was set.
fn inner() -> &'static Inner {
    INNER.get().expect("set before SQLite is told of what uses it")
}

unsafe extern "C" fn counted_malloc(bytes: c_int) -> *mut c_void {
    let inner = inner();
    let Some(has_room) = has_room(i64::from(bytes)) else {
        // SAFETY: as SQLite calls it.
        return unsafe { (inner.malloc)(bytes) };
    };
    if !has_room {
        return std::ptr::null_mut();
    }
    // SAFETY: as SQLite calls it; the size is asked for what was just allocated.
    unsafe {
        let made = (inner.malloc)(bytes);
        if !made.is_null() {
            take(i64::from((inner.size)(made)));
        }
        made
    }
}

unsafe extern "C" fn counted_realloc(old: *mut c_void, bytes: c_int) -> *mut c_void {
    let inner = inner();
    if LEFT.get().bytes.is_none() {
        // SAFETY: as SQLite calls it.
        return unsafe { (inner.realloc)(old, bytes) };
    }
    // SAFETY: `old` is this allocator's, and is looked at before it is given away.
    let before = unsafe { i64::from((inner.size)(old)) };
    if has_room(i64::from(bytes) - before) == Some(false) {
        return std::ptr::null_mut();
    }
    // SAFETY: as SQLite calls it; what has failed has left `old` as it was.
    unsafe {
        let made = (inner.realloc)(old, bytes);
        if !made.is_null() {
            take(i64::from((inner.size)(made)) - before);
        }
        made
    }
}

unsafe extern "C" fn counted_free(old: *mut c_void) {
    let inner = inner();
    // SAFETY: as SQLite calls it; the size is asked for before it is gone.
    unsafe {
        if LEFT.get().bytes.is_some() && !old.is_null() {
            take(-i64::from((inner.size)(old)));
        }
        (inner.free)(old);
    }
}
