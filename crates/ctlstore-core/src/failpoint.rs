//! Ends the process at a named place, as a power cut would. Only tests use it. Entry points: [`hit`]
//! and [`panics`]. It uses no other module.
//!
//! `CTLSTORE_FAILPOINT=name` aborts the process when it first reaches the failpoint `name`;
//! `name:3` when it reaches it for the third time. Failpoints are always compiled in, so that the
//! tests run the program that ships. Without the variable a failpoint costs one load.
//!
//! | where | names |
//! | --- | --- |
//! | a schema change on MySQL | `ddl-after-intent`, `ddl-after-ddl`, `ddl-after-ledger`, `ddl-after-commit` |
//! | the LDB's applier | `apply-after-begin`, `apply-after-statements`, `apply-after-seq`, `apply-after-history`, `apply-after-commit`, `apply-after-changelog` |
//! | fetching an LDB | `bootstrap-after-download`, `bootstrap-after-check`, `bootstrap-after-adoption`, `bootstrap-before-link`, `bootstrap-after-link` |
//! | bringing an LDB forward in its own file | `catch-up-after-begin`, `catch-up-amid-rows`, `catch-up-after-rows`, `catch-up-after-seq`, `catch-up-after-history`, `catch-up-after-commit`, `catch-up-after-changelog` |
//! | making a snapshot | `snapshot-after-copy`, `snapshot-after-flush` |
//! | putting a snapshot in place at a destination | `snapshot-before-rename`, `snapshot-after-rename`, `snapshot-after-manifest` |
//! | adding and removing versions of the LDB | `versioned-before-rename`, `versioned-after-rename`, `versioned-before-removal` |
//! | pruning the ledger | `prune-after-mark`, `prune-after-delete`, `prune-after-commit` |
//! | restoring a ctldb | `restore-copied`, `restore-set-aside`, `restore-done` |
//! | a request to a store, which panics instead | `store-panics` |

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable that arms one failpoint.
pub const VARIABLE: &str = "CTLSTORE_FAILPOINT";

struct Armed {
    name: String,
    /// The failpoint fires when this count, which each pass lowers, is 1.
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

/// Aborts the process if the environment has armed this failpoint.
pub fn hit(name: &str) {
    if let Some(armed) = &*ARMED
        && armed.fires(name)
    {
        eprintln!("failpoint {name} reached, aborting");
        std::process::abort();
    }
}

/// Panics if the environment has armed this failpoint. It stands for a panic in a library that
/// this program calls.
///
/// # Panics
/// If the environment has armed this failpoint.
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
