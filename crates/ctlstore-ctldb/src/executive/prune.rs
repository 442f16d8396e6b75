//! Prunes the ledger: finds the rows that may go, and deletes them in small transactions. Entry points:
//! [`prune`] deletes, [`plan`] only shows what would go. The arithmetic of the cut is in core
//! (`ledger/prune`).
//!
//! Each transaction decides anew under the ledger lock: which ledger it is, which rows are old enough by
//! the ctldb's clock, and which row ends a ledger transaction. So no row is deleted because of an earlier
//! read. Several executives may prune one ctldb at a time, and if one dies, the ledger is still right.

mod order;
mod plan;
mod steps;

pub use order::{PruneError, PruneOrder, PruneRefusal, may_be_pruned};
pub use plan::{PrunePlan, plan};
pub use steps::{HasOldRows, PruneOutcome, prune};
