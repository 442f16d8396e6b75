//! Trouble with a ctldb: its tables are changed by hand, it becomes read-only, its disk is full, a replica takes its
//! place. The ledger still has only statements that every LDB can apply, and the report names what is wrong.

mod changed_by_hand;
mod names;
mod not_writable;
mod replica;
