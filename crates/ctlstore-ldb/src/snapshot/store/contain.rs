//! Keeps a panic in the work on a store from ending the node. [`contained`] runs such
//! work and turns a panic into a [`StoreError`]. [`is_contained`] tells the process's
//! panic hook that the panic stays here. The threads of the stores' runtime are marked for
//! their whole life, because the runtime catches panics in its tasks.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};

use super::error::StoreError;

/// The characters of a panic's message that an error shows.
const SHOWN_CHARS: usize = 160;

thread_local! {
    /// How many [`contained`] calls this thread is within.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Whether a panic on this thread would now be the failure of one store, and not of the process.
pub fn is_contained() -> bool {
    DEPTH.get() > 0
}

/// Makes the standard panic hook silent for contained panics. An error tells of them.
pub fn quiet_contained_panics() {
    let standard = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !is_contained() {
            standard(info);
        }
    }));
}

/// Marks this thread for as long as it lives.
pub(super) fn contain_thread() {
    DEPTH.set(DEPTH.get() + 1);
}

/// Counts one level until it is dropped; a panic drops it too.
struct ContainmentLevel;

impl ContainmentLevel {
    fn enter() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self
    }
}

impl Drop for ContainmentLevel {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Runs work on a store. After a panic, callers drop the store, the upload or the download,
/// so no value that the work changed half is used again.
///
/// # Errors
/// Those of the work, and [`StoreError::Panicked`].
pub fn contained<T, E: From<StoreError>>(
    place: impl FnOnce() -> String,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let level = ContainmentLevel::enter();
    let outcome = catch_unwind(AssertUnwindSafe(work));
    drop(level);
    outcome.unwrap_or_else(|panic| Err(StoreError::Panicked { place: place(), reason: message(&*panic) }.into()))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let line = text.unwrap_or("without a message").lines().next().unwrap_or_default();
    line.chars().take(SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_the_stores_failure_and_the_thread_is_marked_only_meanwhile() {
        let failed = contained::<(), StoreError>(|| "s3://b/a.db".to_owned(), || panic!("bad uri {}", 7));
        assert_eq!(failed.unwrap_err().to_string(), "s3://b/a.db: the store's client panicked: bad uri 7");
        assert!(!is_contained());
        let nested = contained::<_, StoreError>(String::new, || {
            let _ = contained::<(), StoreError>(String::new, || panic!("inner"));
            Ok(is_contained())
        });
        assert!(nested.unwrap() && !is_contained());
    }
}
