//! The bounds of a request's parts, which refusals name. Bounds of queues and groups stand where they are
//! kept.

/// The most mutations in one request.
pub const MAX_MUTATIONS: usize = 100;
/// The longest statement for the ledger, in bytes.
pub(super) const MAX_STATEMENT_BYTES: usize = 768 * 1024;
/// The longest cookie, in bytes.
pub(super) const MAX_COOKIE_BYTES: usize = 1024;
/// The shortest and the longest secret, in bytes.
pub(super) const MIN_SECRET_BYTES: usize = 3;
pub(super) const MAX_SECRET_BYTES: usize = 100;
