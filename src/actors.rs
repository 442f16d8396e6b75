//! The node's actors; a part of the node with a mailbox is a file here, or a file and a directory.
//! An actor keeps its state, answers messages and owns the threads and connections that it needs.
//! The crates below do the work itself. SQLite, downloads and uploads run on threads of their own;
//! on its own thread an actor touches a file for a moment at most. HTTP servers belong to `node`.
//!
//! `task`, `failures` and `download` are what several actors share.

pub mod applier;
pub mod dogstatsd;
pub mod download;
pub mod executive;
pub mod failures;
pub mod fetcher;
pub mod heartbeat;
pub mod poller;
pub mod reader;
pub mod snapshotter;
pub mod task;
