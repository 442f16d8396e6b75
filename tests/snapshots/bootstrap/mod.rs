//! Hosts that start from a snapshot, as real processes: where they get it, what they refuse, and that neither bad
//! places nor crashes leave them with half an LDB.

mod bad;
mod damaged;
mod killed;
mod pruned;
mod s3;
mod sources;
