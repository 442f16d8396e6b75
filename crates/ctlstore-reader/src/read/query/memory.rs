//! Bounds the memory that SQLite takes on one thread, for a query or a ledger statement. Entry points:
//! [`bound`] once for the process, before it uses SQLite, and [`MemoryBudget::begin`] on the thread.
//!
//! SQLite's own heap limits hold for the whole process. With them, a query could leave the applier
//! without memory. So SQLite gets an allocator that counts for a thread which has a budget.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use rusqlite::ffi;

type Malloc = unsafe extern "C" fn(c_int) -> *mut c_void;
type Realloc = unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void);
type Size = unsafe extern "C" fn(*mut c_void) -> c_int;

/// The error of [`bound`]. SQLite was in use before, so its allocator can't be replaced any more.
#[derive(Debug, thiserror::Error)]
#[error("sqlite's memory can't be bounded for queries: {0}")]
pub struct NotBounded(&'static str);

/// SQLite's own allocator. The counting functions call it.
struct Inner {
    malloc: Malloc,
    realloc: Realloc,
    free: Free,
    size: Size,
}

static INNER: OnceLock<Inner> = OnceLock::new();

/// What is left of a thread's budget.
#[derive(Clone, Copy)]
struct Left {
    /// Bytes; `None` on a thread without a budget.
    bytes: Option<i64>,
    was_refused: bool,
}

thread_local! {
    static LEFT: Cell<Left> = const { Cell::new(Left { bytes: None, was_refused: false }) };
}

/// Makes [`MemoryBudget`]s count in this process. Call it once, before the process uses SQLite.
///
/// # Errors
/// If SQLite is in use already.
pub fn bound() -> Result<(), NotBounded> {
    if is_bounded() {
        return Ok(());
    }
    // SAFETY: a struct of function pointers and one data pointer, all of them optional.
    let mut methods: ffi::sqlite3_mem_methods = unsafe { std::mem::zeroed() };
    // SAFETY: this option takes a pointer to such a struct and fills the struct.
    let rc = unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_GETMALLOC, &raw mut methods) };
    let (Some(malloc), Some(realloc), Some(free), Some(size)) =
        (methods.xMalloc, methods.xRealloc, methods.xFree, methods.xSize)
    else {
        return Err(NotBounded("it has no allocator"));
    };
    if rc != ffi::SQLITE_OK {
        return Err(NotBounded(ffi::code_to_str(rc)));
    }
    // This is set before SQLite can call a function that needs it.
    INNER.set(Inner { malloc, realloc, free, size }).map_err(|_| NotBounded("it is being bounded already"))?;
    methods.xMalloc = Some(counted_malloc);
    methods.xRealloc = Some(counted_realloc);
    methods.xFree = Some(counted_free);
    // SAFETY: this option takes a pointer to such a struct and copies the struct.
    let rc = unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, &raw const methods) };
    BOUNDED.set(rc == ffi::SQLITE_OK).ok();
    if is_bounded() { Ok(()) } else { Err(NotBounded(ffi::code_to_str(rc))) }
}

static BOUNDED: OnceLock<bool> = OnceLock::new();

/// Whether [`bound`] was successful.
pub fn is_bounded() -> bool {
    BOUNDED.get().is_some_and(|bounded| *bounded)
}

/// A bound for the memory that SQLite takes on this thread. It holds as long as this value lives, and
/// counts from when it began.
pub struct MemoryBudget(());

impl MemoryBudget {
    /// Allows SQLite `bytes` more on this thread, counted as the allocator rounds them.
    pub fn begin(bytes: usize) -> Self {
        LEFT.set(Left { bytes: Some(i64::try_from(bytes).unwrap_or(i64::MAX)), was_refused: false });
        Self(())
    }

    /// Whether SQLite asked for more and did not get it.
    pub fn was_exceeded(&self) -> bool {
        LEFT.get().was_refused
    }
}

impl Drop for MemoryBudget {
    fn drop(&mut self) {
        LEFT.set(Left { bytes: None, was_refused: false });
    }
}

/// Whether the budget has room for `bytes` more; `None` on a thread without a budget.
fn has_room(bytes: i64) -> Option<bool> {
    let left = LEFT.get();
    let has_room = left.bytes? >= bytes;
    if !has_room {
        LEFT.set(Left { was_refused: true, ..left });
    }
    Some(has_room)
}

/// Takes `bytes` from the budget. A negative number gives bytes back.
fn take(bytes: i64) {
    let left = LEFT.get();
    LEFT.set(Left { bytes: left.bytes.map(|before| before.saturating_sub(bytes)), ..left });
}

/// SQLite's own allocator. SQLite got the counting functions after `INNER` was set, so it is there.
fn inner() -> &'static Inner {
    INNER.get().expect("set before SQLite gets the functions that use it")
}

unsafe extern "C" fn counted_malloc(bytes: c_int) -> *mut c_void {
    let inner = inner();
    let Some(has_room) = has_room(i64::from(bytes)) else {
        // SAFETY: SQLite calls this as it would call its own.
        return unsafe { (inner.malloc)(bytes) };
    };
    if !has_room {
        return std::ptr::null_mut();
    }
    // SAFETY: SQLite calls this as it would call its own. The size is that of the new allocation.
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
        // SAFETY: SQLite calls this as it would call its own.
        return unsafe { (inner.realloc)(old, bytes) };
    }
    // SAFETY: `old` belongs to this allocator, and its size is read before it is reallocated.
    let before = unsafe { i64::from((inner.size)(old)) };
    if has_room(i64::from(bytes) - before) == Some(false) {
        return std::ptr::null_mut();
    }
    // SAFETY: SQLite calls this as it would call its own. A failure leaves `old` as it was.
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
    // SAFETY: SQLite calls this as it would call its own. The size is read before `old` is freed.
    unsafe {
        if LEFT.get().bytes.is_some() && !old.is_null() {
            take(-i64::from((inner.size)(old)));
        }
        (inner.free)(old);
    }
}
