//! The sizes of all tables as they were last measured, shared between whoever
//! measures and the sessions that ask.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::schema::TableRef;

/// Bytes of data and indexes by a table's SQL name. Clones share the figures.
#[derive(Debug, Clone, Default)]
pub(super) struct TableSizes(Arc<Mutex<HashMap<String, u64>>>);

impl TableSizes {
    pub fn get(&self, table: &TableRef) -> Option<u64> {
        self.lock().get(&table.sql_name()).copied()
    }

    pub fn replace(&self, sizes: HashMap<String, u64>) {
        *self.lock() = sizes;
    }

    pub fn all(&self) -> HashMap<String, u64> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        // The map is replaced as a whole: a panic elsewhere leaves it complete.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
