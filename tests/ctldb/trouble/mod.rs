//! What operators and machines do to a ctldb: change its tables by hand, make it read-only, fill its disk, put a
//! replica in its place. The ledger stays what every LDB can apply, and what is wrong is told by its name.

mod changed_by_hand;
mod names;
mod not_writable;
mod replica;
