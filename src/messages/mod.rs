//! What actors tell each other: typed messages with typed answers, nothing else.
//! No actor, no HTTP and no I/O here; a message's file is named after who receives it.

pub mod executive;
pub mod ledger;
pub mod status;
pub mod stop;
