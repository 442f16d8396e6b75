//! What operators and machines do to a ctldb: change its tables by hand, make it read-only, fill its disk, put a
//! replica in its place. The ledger stays what every LDB can apply, and what is wrong is told by its name.

mod changed_by_hand;
#[path = "../in_process/mod.rs"]
mod in_process;
mod names;
mod not_writable;
mod replica;
#[path = "../support/mod.rs"]
mod support;
