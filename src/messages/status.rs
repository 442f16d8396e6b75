//! The status of an actor: one message and one form of answer for all of them. `/status` serves the
//! answers as JSON, and `/readyz` decides by them.

use std::fmt;

use actix::{Message, MessageResponse};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::metrics::ErrorKind;
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::Timestamp;

/// Asks an actor for its status. It answers at once from what it knows, and asks no database and no disk.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "RoleStatus")]
pub struct GetStatus;

/// An actor's part within the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    Executive,
    Poller,
    Applier,
    /// Takes the place of poller and applier if the LDB is versioned.
    Fetcher,
    Reader,
    Snapshotter,
    Heartbeat,
}

impl ActorKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Executive => "executive",
            Self::Poller => "poller",
            Self::Applier => "applier",
            Self::Fetcher => "fetcher",
            Self::Reader => "reader",
            Self::Snapshotter => "snapshotter",
            Self::Heartbeat => "heartbeat",
        }
    }
}

impl fmt::Display for ActorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The state of an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleState {
    /// It gets ready for the first time.
    Starting,
    /// It fetches the data that it works on.
    Bootstrapping,
    /// It does its work, or waits for some.
    Running,
    /// Its work fails, and it tries again with backoff. `last_error` says why. It is not ready, unless it
    /// already has everything that it needs.
    Retrying,
    /// It takes no new work, and finishes its work in progress.
    Stopping,
}

impl RoleState {
    /// Why a role in this state is not ready, `None` if it is.
    const fn not_ready(self) -> Option<&'static str> {
        match self {
            Self::Starting => Some("is starting"),
            Self::Bootstrapping => Some("is bootstrapping"),
            Self::Running => None,
            Self::Retrying => Some("is retrying"),
            Self::Stopping => Some("is stopping"),
        }
    }
}

/// An actor's answer to [`GetStatus`].
#[derive(Debug, Clone, PartialEq, Serialize, MessageResponse)]
pub struct RoleStatus {
    pub role: ActorKind,
    pub state: RoleState,
    /// Why a load balancer should not send work here, `None` if it may.
    pub not_ready: Option<String>,
    /// The last ledger seq that this role has processed, if there is one.
    pub last_seq: Option<Seq>,
    /// The lag in seconds. Left out if it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<f64>,
    pub last_error: Option<ErrorReport>,
    /// The role's own counters: an object, from the role's own struct.
    pub details: Value,
}

impl RoleStatus {
    /// A status without seq, lag, error and details. The caller adds those that it has.
    pub fn new(role: ActorKind, state: RoleState) -> Self {
        let not_ready = state.not_ready().map(str::to_owned);
        Self { role, state, not_ready, last_seq: None, lag_seconds: None, last_error: None, details: Value::Null }
    }

    /// Adds the last failure. While the role retries, it is the reason why the role is not ready.
    pub fn with_error(mut self, last: Option<ErrorReport>) -> Self {
        if let Some(error) = last.as_ref().filter(|_| self.state == RoleState::Retrying) {
            self.not_ready = Some(format!("is retrying: {}", error.message));
        }
        self.last_error = last;
        self
    }

    /// Makes a retrying role ready if `is_ready`: its own data is good, and the failure is elsewhere, such as a
    /// ctldb that is away. State and last error still show the failure.
    pub fn ready_all_the_same(mut self, is_ready: bool) -> Self {
        if is_ready && self.state == RoleState::Retrying {
            self.not_ready = None;
        }
        self
    }

    /// Adds the role's own struct. If JSON can't hold it, null is shown.
    pub fn with_details(mut self, details: &impl Serialize) -> Self {
        self.details = serde_json::to_value(details).unwrap_or(Value::Null);
        self
    }
}

/// A failure. It is kept until the next one replaces it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorReport {
    /// Short, without secrets and without a statement's values.
    pub message: String,
    #[serde(serialize_with = "as_text")]
    pub at: Timestamp,
    #[serde(serialize_with = "as_label")]
    pub kind: ErrorKind,
}

impl ErrorReport {
    /// A failure that happened just now.
    pub fn now(kind: ErrorKind, message: impl ToString) -> Self {
        Self { message: message.to_string(), at: Timestamp::now(), kind }
    }
}

fn as_text<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(at)
}

fn as_label<S: Serializer>(kind: &ErrorKind, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(kind.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_flat_json_object() {
        #[derive(Serialize)]
        struct Details {
            commits: u64,
        }
        let mut status =
            RoleStatus::new(ActorKind::Executive, RoleState::Retrying).with_details(&Details { commits: 3 });
        status.last_seq = Some(Seq(7));
        let at = Timestamp::from_unix_micros(1_500_000);
        status = status.with_error(Some(ErrorReport { message: "away".into(), at, kind: ErrorKind::Unavailable }));
        let want = serde_json::json!({
            "role": "executive", "state": "retrying", "not_ready": "is retrying: away", "last_seq": 7,
            "details": {"commits": 3},
            "last_error": {"message": "away", "at": "1970-01-01 00:00:01.500000+00:00", "kind": "unavailable"},
        });
        assert_eq!(serde_json::to_value(status).unwrap(), want);
    }

    #[test]
    fn only_a_running_role_is_ready() {
        assert_eq!(RoleStatus::new(ActorKind::Applier, RoleState::Running).not_ready, None);
        for (state, reason) in [(RoleState::Starting, "is starting"), (RoleState::Stopping, "is stopping")] {
            assert_eq!(RoleStatus::new(ActorKind::Applier, state).not_ready.as_deref(), Some(reason));
        }
        // An error that is over is no reason.
        let over = Some(ErrorReport::now(ErrorKind::Storage, "over"));
        assert_eq!(RoleStatus::new(ActorKind::Applier, RoleState::Running).with_error(over).not_ready, None);
    }
}
