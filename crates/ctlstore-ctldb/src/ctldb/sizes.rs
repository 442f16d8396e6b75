//! The sizes of all tables as they were last measured, shared between whoever
//! measures and the sessions that ask; and which tables somebody has written to since.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ctlstore_core::schema::TableRef;

/// What a table was written to by hand shows after this at the latest.
const ALL_AGAIN: Duration = Duration::from_secs(60 * 60);

/// Bytes of data and indexes by a table's SQL name. Clones share the figures.
#[derive(Debug, Clone, Default)]
pub(super) struct TableSizes(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    bytes: HashMap<String, u64>,
    /// Tables that the open transaction writes to: nobody else sees that yet.
    writing: HashSet<String>,
    /// Tables written to since they were measured.
    written: HashSet<String>,
    /// When all tables were last up for measuring.
    all_at: Option<Instant>,
}

/// What a round of measuring goes by: a table that was not written to is as large as it was.
#[derive(Debug, Default)]
pub(super) struct MeasuredSizes {
    pub bytes: HashMap<String, u64>,
    pub written: HashSet<String>,
}

impl MeasuredSizes {
    /// The size of a table that needs no measuring.
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

    /// Notes that the open transaction writes to a table.
    pub fn writes(&self, table: &TableRef) {
        self.lock().writing.insert(table.sql_name());
    }

    /// Ends the open transaction.
    pub fn transaction_ended(&self) {
        let mut state = self.lock();
        let tables = std::mem::take(&mut state.writing);
        state.written.extend(tables);
    }

    /// Begins a round of measuring. What is written from here on is for the next one.
    pub fn begin(&self) -> MeasuredSizes {
        let mut state = self.lock();
        let mut known = MeasuredSizes { bytes: state.bytes.clone(), written: std::mem::take(&mut state.written) };
        if state.all_at.is_none_or(|at| at.elapsed() >= ALL_AGAIN) {
            state.all_at = Some(Instant::now());
            known.written.extend(state.bytes.keys().cloned());
        }
        known
    }

    /// Ends a round that did not get to the end of these tables.
    pub fn unfinished(&self, tables: impl IntoIterator<Item = String>) {
        self.lock().written.extend(tables);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each of these is put in place as a whole: a panic elsewhere leaves it complete.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_to_is_measured_again() {
        let (sizes, table) = (TableSizes::default(), TableRef::parse("fam", "tab").unwrap());
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
