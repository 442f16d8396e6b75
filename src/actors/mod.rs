//! One file per actor: which messages it takes, what it holds, how it starts and
//! stops. What an actor does with data stands in the rooms to the left; here is
//! only who waits for whom.

pub mod backoff;
pub mod executive;
