//! The ledger: every change as one SQL statement, in order. What a ledger row is,
//! how rows group into transactions, which ledger an LDB may follow, and where
//! rows come from. Pure, but for the trait that sources implement.

mod assemble;
mod follow;
mod history;
mod lag;
mod prune;
mod row;
mod source;

pub use assemble::{AssembleError, Assembler, Batch};
pub use follow::{CannotFollow, LdbPosition, LedgerInfo, may_follow};
pub use history::{HistoryCheck, LastRow};
pub use lag::CaughtUpAt;
pub use lag::lag_of_rows;
pub use prune::{Cutter, HeadRow, Limit, Marker, PruneBounds, VerifiedSnapshot};
pub use row::{LedgerRow, Seq};
pub use source::{Block, BlockLimit, LedgerSource, Replication, SourceError};
