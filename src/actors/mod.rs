//! The node's actors, one file each. An actor keeps its state, answers messages and
//! owns the threads, servers and connections that its role needs; the work itself is
//! in the domain rooms. Nothing here blocks: SQLite runs on threads of its own.

pub mod applier;
pub mod download;
pub mod executive;
pub mod failures;
pub mod fetcher;
pub mod heartbeat;
pub mod poller;
pub mod reader;
pub mod snapshotter;
pub mod task;
