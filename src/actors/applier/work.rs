//! The kinds of the applier's work, and the kinds of their failures. Entry points: [`Work`], [`kind_of`].

use crate::actors::failures::kind_of_ldb;
use crate::metrics::ErrorKind;
use ctlstore_ldb::ApplyError;

/// The kinds of the applier's work. Each fails and succeeds on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Work {
    Position,
    Bootstrap,
    Adopt,
    Apply,
    Inspect,
    Upkeep,
}

pub(super) fn kind_of(error: &ApplyError) -> ErrorKind {
    match error {
        ApplyError::Statement { .. } => ErrorKind::Statement,
        ApplyError::Ldb(error) => kind_of_ldb(error),
    }
}
