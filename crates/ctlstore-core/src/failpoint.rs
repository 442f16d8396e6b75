//! Places where a test can make the process die, as a power cut would.
//!
//! `CTLSTORE_FAILPOINT=name` aborts the process when it first comes by the failpoint
//! `name`, `name:3` when it comes by for the third time. Without the variable a
//! failpoint costs one load. The names: `ddl-after-intent`, `ddl-after-ddl`,
//! `ddl-after-ledger` and `ddl-after-commit` in a schema change on MySQL;
//! `apply-after-begin`, `apply-after-statements`, `apply-after-seq`,
//! `apply-after-history`, `apply-after-commit` and `apply-after-changelog` in the LDB's applier;
//! `bootstrap-after-download`, `bootstrap-after-check`, `bootstrap-after-adoption`,
//! `bootstrap-before-link` and `bootstrap-after-link` where an LDB is fetched;
//! `snapshot-after-copy` and `snapshot-after-flush` while a snapshot is made,
//! `snapshot-before-rename`, `snapshot-after-rename` and `snapshot-after-manifest` while
//! it is put in place at a destination; `versioned-before-rename`, `versioned-after-rename`
//! and `versioned-before-removal` where a version of the LDB appears and an old one goes;
//! `prune-after-mark`, `prune-after-delete` and
//! `prune-after-commit` where the ledger is pruned; `restore-copied`, `restore-set-aside`
//! and `restore-done` in the restore of a ctldb. `store-panics` panics in a request to a
//! store, as its client might. Compiled in always, so that what is
//! tested is what runs.
//! Knows no other module.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable that arms one failpoint.
pub const VARIABLE: &str = "CTLSTORE_FAILPOINT";

struct Armed {
    name: String,
    /// How often the failpoint is still passed unharmed, plus one.
    left: AtomicU64,
}

static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| std::env::var(VARIABLE).ok().map(|value| read(&value)));

fn read(value: &str) -> Armed {
    let (name, hit) = match value.split_once(':') {
        Some((name, hit)) => (name, hit.parse().unwrap_or(1)),
        None => (value, 1),
    };
    Armed { name: name.to_owned(), left: AtomicU64::new(hit) }
}

impl Armed {
    fn fires(&self, name: &str) -> bool {
        self.name == name && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

/// Aborts the process when the environment has armed this failpoint.
pub fn hit(name: &str) {
    if let Some(armed) = &*ARMED
        && armed.fires(name)
    {
        eprintln!("failpoint {name} reached, aborting");
        std::process::abort();
    }
}

/// Panics where [`hit`] aborts, as a library may that this program calls.
///
/// # Panics
/// When the environment has armed this failpoint.
pub fn panics(name: &str) {
    if let Some(armed) = &*ARMED {
        assert!(!armed.fires(name), "failpoint {name} reached");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failpoint_fires_at_its_hit_and_at_no_other_name() {
        let armed = read("ddl-after-intent:2");
        assert!(!armed.fires("ddl-after-ddl"));
        assert!(!armed.fires("ddl-after-intent"));
        assert!(armed.fires("ddl-after-intent"));
        assert!(!armed.fires("ddl-after-intent"));
        assert!(read("apply-after-seq").fires("apply-after-seq"));
    }
}
