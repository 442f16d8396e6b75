//! The messages between actors, with typed answers. Actors tell each other nothing in any other way. No
//! actor, no HTTP and no I/O is here.
//!
//! `executive` has the messages about writing, `ledger` those between poller and applier, `status` and
//! `stop` those that every actor understands.

pub mod executive;
pub mod ledger;
pub mod status;
pub mod stop;
