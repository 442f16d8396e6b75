//! The ledger: every change as one SQL statement, in order. What a ledger row is,
//! how rows group into transactions, which ledger an LDB may follow, and where
//! rows come from. Pure, but for the trait that sources implement.

mod assemble;
mod follow;
#[cfg(feature = "node")]
mod history;
mod lag;
mod prune;
mod row;
mod source;
#[cfg(feature = "node")]
mod tail;

pub use assemble::{AssembleError, Assembler, Batch, MAX_TRANSACTION_BYTES};
pub use follow::{CannotFollow, LdbPosition, LedgerInfo, may_follow};
#[cfg(feature = "node")]
pub use history::{HistoryCheck, LastRow, Questions, answer_while, last_row, questions};
#[cfg(feature = "node")]
pub use lag::CaughtUpAt;
pub use lag::lag_of_rows;
pub use prune::{Cutter, HeadRow, Limit, Marker, PruneBounds};
pub use row::{LedgerRow, Seq};
pub use source::{Block, BlockLimit, LedgerSource, Replication, SourceError};
#[cfg(feature = "node")]
pub use tail::{Found, Tail, TailError};
