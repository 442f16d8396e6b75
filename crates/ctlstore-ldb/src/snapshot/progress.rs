//! How far a long piece of work has come, told to whoever wants to show it. What
//! shows it stands elsewhere: nothing here draws, logs or keeps anything.

/// A stretch of the work, measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Copying the LDB; bytes of the copy. Its total is what the LDB's file has in use,
    /// of which a compact copy needs less.
    Copy,
    /// Checking a copy; rows.
    Check,
    /// Hashing a finished file; bytes.
    Hash,
    /// Sending to a destination; bytes.
    Publish,
    /// Getting from a destination; bytes.
    Fetch,
}

/// Is told of progress, often and from any thread, so it may not wait.
pub trait Progress: Send + Sync {
    /// `done` of `total`, where the total is known, in the phase's unit. It begins at
    /// 0 in every phase and does not go back.
    fn at(&self, phase: Phase, done: u64, total: Option<u64>);
}

/// Shows nothing.
impl Progress for () {
    fn at(&self, _: Phase, _: u64, _: Option<u64>) {}
}
