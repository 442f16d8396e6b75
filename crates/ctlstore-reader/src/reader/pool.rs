//! Connections shared out among threads: each thread has a place of its own, so that
//! reads of different threads meet in no lock.

use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use crate::read::LdbReader;

use super::threads;

/// Threads that have a connection each; with more than these at once, some share one.
const PLACES: usize = 128;

/// On a cache line of its own (two, which processors fetch together).
#[repr(align(128))]
#[derive(Default)]
struct Place(Mutex<Slot>);

/// Small where there is no connection.
type Slot = Option<Box<LdbReader>>;

/// The connections to one LDB. They are closed when their thread ends, and all of them
/// with the pool.
pub(super) struct Pool {
    make: Box<dyn Fn() -> LdbReader + Send + Sync>,
    places: Box<[Place]>,
}

impl Pool {
    pub(super) fn new(make: impl Fn() -> LdbReader + Send + Sync + 'static) -> Self {
        Self { make: Box::new(make), places: std::iter::repeat_with(Place::default).take(PLACES).collect() }
    }

    /// Runs `read` with a connection that no one else uses meanwhile.
    pub(super) fn with<T>(self: &Arc<Self>, read: impl FnOnce(&mut LdbReader) -> T) -> T {
        let number = threads::number();
        let mut held = number.and_then(|number| self.hold(number));
        let Some(place) = &mut held else {
            // All places are taken, as by reads within reads of very many threads: waiting
            // for one could be waiting for oneself.
            return read(&mut (self.make)());
        };
        let reader = place.get_or_insert_with(|| {
            threads::at_end_close(Arc::downgrade(self));
            Box::new((self.make)())
        });
        let outcome = read(reader);
        let has_switched = reader.take_switched();
        drop(held);
        if has_switched {
            self.let_go_of_replaced();
        }
        outcome
    }

    /// The thread's own place, or another when that is in use: by a read that this one
    /// runs within, or by a thread beyond the number of places. A connection that is made
    /// in another's place stays there, for that thread.
    fn hold(&self, number: usize) -> Option<MutexGuard<'_, Slot>> {
        (0..PLACES).find_map(|i| try_hold(&self.places[(number + i) % PLACES]))
    }

    /// Closes the connection of the thread with this number.
    pub(super) fn close(&self, number: usize) {
        if let Some(mut place) = try_hold(&self.places[number % PLACES]) {
            *place = None;
        }
    }

    /// Threads that don't read don't look either; their connections would keep the file
    /// that was replaced.
    fn let_go_of_replaced(&self) {
        for mut place in self.places.iter().filter_map(try_hold) {
            if let Some(reader) = &mut *place {
                reader.let_go_of_replaced();
            }
        }
    }
}

fn try_hold(place: &Place) -> Option<MutexGuard<'_, Slot>> {
    match place.0.try_lock() {
        Ok(held) => Some(held),
        Err(TryLockError::Poisoned(poisoned)) => {
            // A read panicked; its transaction is over, and the next begins with another connection.
            let mut held = poisoned.into_inner();
            *held = None;
            place.0.clear_poison();
            Some(held)
        }
        Err(TryLockError::WouldBlock) => None,
    }
}
