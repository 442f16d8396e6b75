//! The ledger: every change as one SQL statement, in order. This room says what a ledger row is,
//! how rows form transactions, which ledger an LDB may follow, and which rows may be pruned.
//! It reads and writes nothing itself; [`LedgerSource`] is the trait of what does.

mod assemble;
mod follow;
mod lag;
mod prune;
mod row;
mod source;

pub use assemble::{AssembleError, Assembler, Batch};
pub use follow::{AllowEmpty, CannotFollow, HistoryCheck, LastRow, LdbPosition, LedgerInfo, may_follow};
pub use lag::{CaughtUpAt, lag_of_rows};
pub use prune::{HeadRow, Marker, PruneBounds, PruneCutter, PruneLimit, VerifiedSnapshot};
pub use row::{LedgerRow, Seq};
pub use source::{Block, BlockLimit, LedgerSource, Replication, SourceError};
