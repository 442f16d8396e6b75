//! Tells how far a long piece of work has come. [`SnapshotProgress`] is what callers implement
//! to show it; nothing here draws, logs or keeps anything.

/// A part of the work, counted on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Copying the LDB, in bytes of the copy. The total is what the LDB's file has in use. A
    /// compact copy needs less.
    Copy,
    /// Checking a copy, in rows.
    Check,
    /// Hashing a finished file, in bytes.
    Hash,
    /// Sending to a destination, in bytes.
    Publish,
    /// Downloading from a source, in bytes.
    Fetch,
}

/// Hears of progress, often and from any thread, so it may not block.
pub trait SnapshotProgress: Send + Sync {
    /// `done` of `total` in the phase's unit; `None` if the total is not known. `done` begins
    /// at 0 in every phase and does not go back.
    fn at(&self, phase: Phase, done: u64, total: Option<u64>);
}

/// Shows nothing.
impl SnapshotProgress for () {
    fn at(&self, _: Phase, _: u64, _: Option<u64>) {}
}
