//! Hosts that start from a snapshot, as real processes: where they fetch it and what they refuse. Neither bad
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
