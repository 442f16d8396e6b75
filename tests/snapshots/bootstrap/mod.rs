//! Hosts that start from a snapshot, as real processes: where they get it, what they refuse, and that neither bad
//! places nor crashes leave them with half an LDB.

mod bad;
mod damaged;
mod killed;
mod outside;
mod pruned;
mod restored;
mod s3;
mod sources;
mod web;
