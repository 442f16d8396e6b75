//! [`TableSizes`] keeps the sizes of all tables as they were last measured, and the tables that were
//! written to since. The measuring task and the sessions share it. It measures nothing.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ctlstore_core::schema::TableRef;

/// All tables are measured again after this time, because a write by hand is not noticed.
const ALL_AGAIN: Duration = Duration::from_secs(60 * 60);

/// Bytes of data and indexes by a table's SQL name. Clones share the figures.
#[derive(Debug, Clone, Default)]
pub(super) struct TableSizes(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    bytes: HashMap<String, u64>,
    /// Tables that the open transaction writes to. No other connection sees that yet.
    writing: HashSet<String>,
    /// Tables written to since they were measured.
    written: HashSet<String>,
    /// When all tables were last due for measuring.
    all_at: Option<Instant>,
}

/// The state at the begin of a round of measuring. A table that was not written to has kept its size.
#[derive(Debug, Default)]
pub(super) struct MeasuredSizes {
    pub bytes: HashMap<String, u64>,
    pub written: HashSet<String>,
}

impl MeasuredSizes {
    /// The size of a table that need not be measured again.
    pub fn still(&self, table: &str) -> Option<u64> {
        self.bytes.get(table).copied().filter(|_| !self.written.contains(table))
    }
}

impl TableSizes {
    pub fn get(&self, table: &TableRef) -> Option<u64> {
        self.lock().bytes.get(&table.sql_name()).copied()
    }

    pub fn replace(&self, bytes: HashMap<String, u64>) {
        self.lock().bytes = bytes;
    }

    /// Records that the open transaction writes to a table.
    pub fn writes(&self, table: &TableRef) {
        self.lock().writing.insert(table.sql_name());
    }

    /// Records that the open transaction has ended.
    pub fn transaction_ended(&self) {
        let mut state = self.lock();
        let tables = std::mem::take(&mut state.writing);
        state.written.extend(tables);
    }

    /// Begins a round of measuring. Writes from here on are for the next round.
    pub fn begin(&self) -> MeasuredSizes {
        let mut state = self.lock();
        let mut known = MeasuredSizes { bytes: state.bytes.clone(), written: std::mem::take(&mut state.written) };
        if state.all_at.is_none_or(|at| at.elapsed() >= ALL_AGAIN) {
            state.all_at = Some(Instant::now());
            known.written.extend(state.bytes.keys().cloned());
        }
        known
    }

    /// Records that a round has not finished these tables.
    pub fn unfinished(&self, tables: impl IntoIterator<Item = String>) {
        self.lock().written.extend(tables);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each of these values is replaced as a whole, so a panic leaves nothing half-written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_to_is_measured_again() {
        let sizes = TableSizes::default();
        let table = TableRef::parse("fam", "tab").unwrap();
        assert_eq!(sizes.begin().still("fam___tab"), None, "never measured");
        sizes.replace(HashMap::from([("fam___tab".to_owned(), 7), ("fam___other".to_owned(), 8)]));
        assert_eq!(sizes.begin().still("fam___tab"), Some(7));
        sizes.writes(&table);
        assert_eq!(sizes.begin().still("fam___tab"), Some(7), "not committed yet");
        sizes.transaction_ended();
        let known = sizes.begin();
        assert_eq!([known.still("fam___tab"), known.still("fam___other")], [None, Some(8)]);
        assert_eq!(sizes.begin().still("fam___tab"), Some(7), "the round before has it");
        sizes.unfinished(known.written);
        assert_eq!(sizes.begin().still("fam___tab"), None);
    }

    #[test]
    fn all_are_measured_again_after_an_hour() {
        let sizes = TableSizes::default();
        sizes.replace(HashMap::from([("fam___tab".to_owned(), 7)]));
        sizes.lock().all_at = Instant::now().checked_sub(ALL_AGAIN);
        assert_eq!(sizes.begin().still("fam___tab"), None);
        assert_eq!(sizes.begin().still("fam___tab"), Some(7));
    }
}
