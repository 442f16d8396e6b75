//! The applier's part of `/status`. Entry point: [`Details`]. The actor fills it in.

use serde::Serialize;

use ctlstore_core::ledger::Seq;

use super::bootstrap::BootstrapDetails;

/// The applier's part of `/status`.
#[derive(Debug, Default, Serialize)]
pub(super) struct Details {
    /// The path of the LDB, if this host has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ldb: Option<String>,
    pub ledger_id: Option<String>,
    /// The ledger row that is being applied now, and for how long.
    pub applying: Option<Applying>,
    /// When the last applied statement was written, by the ctldb's clock.
    pub applied_at: Option<String>,
    pub statements: u64,
    pub rows: u64,
    pub commits: u64,
    pub failures: u64,
    pub changelog_entries: u64,
    pub wal_bytes: u64,
    /// Why changelog entries can't be written; `None` while they can.
    pub changelog_error: Option<String>,
    /// Why the seq file can't be touched; `None` while it can.
    pub seq_file_error: Option<String>,
    /// Why the `.caughtup` file can't be written; `None` while it can.
    pub caught_up_error: Option<String>,
    /// How fetching snapshots goes; `None` if there is no source.
    pub bootstrap: Option<BootstrapDetails>,
}

impl Details {
    pub(super) fn of(ldb: Option<String>) -> Self {
        Self { ldb, ..Self::default() }
    }
}

/// The ledger row that is being applied.
#[derive(Debug, Serialize)]
pub(super) struct Applying {
    pub seq: Seq,
    /// For how long.
    pub seconds: f64,
}
