//! Answers for the applier's part of `/status`. Entry point: the handler of [`GetStatus`]. It only shows what the actor
//! has recorded.

use actix::prelude::*;
use serde::Serialize;

use crate::messages::status::{ActorKind, GetStatus, RoleState, RoleStatus};
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::Timestamp;

use super::Applier;
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
    seq: Seq,
    /// For how long.
    seconds: f64,
}

impl Handler<GetStatus> for Applier {
    type Result = RoleStatus;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> RoleStatus {
        let at_work = self.watch.at_work();
        self.details.applying = at_work.map(|(seq, time)| Applying { seq, seconds: time.as_secs_f64() });
        self.details.failures = self.failures.count();
        self.details.applied_at = self.leader_ts.as_ref().map(ToString::to_string);
        self.details.bootstrap = self.record.as_ref().map(|record| record.details());
        let is_fetching = self.record.as_ref().is_some_and(|record| record.is_active());
        let state =
            if is_fetching && self.state != RoleState::Stopping { RoleState::Bootstrapping } else { self.state };
        let status = RoleStatus::new(ActorKind::Applier, state).with_error(self.failures.last());
        let mut status = status.with_details(&self.details);
        if let (Some(ldb), Some(reason)) = (&self.details.ldb, &mut status.not_ready) {
            *reason = format!("{ldb} {reason}");
        }
        status.last_seq = Some(self.seq);
        let lag = self.caught_up.lag(self.seq, self.leader_ts, Timestamp::now());
        status.lag_seconds = lag.map(|lag| lag.as_secs_f64());
        self.gauges.set_lag_seconds(status.lag_seconds.unwrap_or(f64::NAN));
        status
    }
}
