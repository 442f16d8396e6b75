//! Follows the changelog from another program: entry by entry, through rotation, and from a kept
//! position. Entry point: [`Follower`]. It only reads the file, and needs no node.
//!
//! It also follows changelogs of the Go program, whose entries have no ledger seq.

mod entry;
mod file;
mod follower;
mod stream;

pub use entry::{ChangelogPosition, Entry, KeyColumn};
pub use follower::{FollowError, Follower};
pub use stream::FollowerStream;
