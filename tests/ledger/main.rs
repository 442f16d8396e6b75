//! The ledger kept short, by command and by the executives themselves; and a ledger that holds what none should.

mod faults;
mod hostile;
mod prune;
mod prune_command;
mod prune_crash;
mod prune_fleet;
mod retention;
