//! What every actor says about itself: one message, one shape of answer, served
//! together as JSON at `/status` and looked at there by `/readyz`.

use std::fmt;

use actix::{Message, MessageResponse};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::metrics::ErrorKind;
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::Timestamp;

/// Asks an actor how it is. Answered at once from what the actor knows: nobody
/// reaches out to a database or a disk for it.
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
    /// Takes the place of poller and applier where the LDB is versioned.
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

/// What an actor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleState {
    /// Getting ready for the first time.
    Starting,
    /// Fetches the data that it works on.
    Bootstrapping,
    /// Doing its work, or waiting for some.
    Running,
    /// Its work fails; it tries again and again, with backoff. `last_error` says why. Not
    /// ready, but where it needs no more than it has.
    Retrying,
    /// Takes no new work and finishes what is in flight.
    Stopping,
}

impl RoleState {
    /// Why a role in this state is not ready, if it is not.
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
    /// Why a load balancer should not send work here; `None` when it may.
    pub not_ready: Option<String>,
    /// The last ledger seq that this role has dealt with, where it has one.
    pub last_seq: Option<Seq>,
    /// How far behind the ledger, in seconds; left out where that can't be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<f64>,
    pub last_error: Option<ErrorReport>,
    /// The role's own counters: an object, from the role's own struct.
    pub details: Value,
}

impl RoleStatus {
    /// A role without seq, lag, error or details; fill in what there is.
    pub fn new(role: ActorKind, state: RoleState) -> Self {
        let not_ready = state.not_ready().map(str::to_owned);
        Self { role, state, not_ready, last_seq: None, lag_seconds: None, last_error: None, details: Value::Null }
    }

    /// Puts in the last failure. While the role retries it is why the role is not ready.
    pub fn with_error(mut self, last: Option<ErrorReport>) -> Self {
        if let (RoleState::Retrying, Some(error)) = (self.state, &last) {
            self.not_ready = Some(format!("is retrying: {}", error.message));
        }
        self.last_error = last;
        self
    }

    /// Ready although it retries: what it works on is good as it is, and what fails is
    /// another's trouble, such as a ctldb that is away. State and last error show it.
    pub fn ready_all_the_same(mut self, is_ready: bool) -> Self {
        if is_ready && self.state == RoleState::Retrying {
            self.not_ready = None;
        }
        self
    }

    /// Puts in the role's own struct. One that JSON can't hold is shown as null.
    pub fn with_details(mut self, details: &impl Serialize) -> Self {
        self.details = serde_json::to_value(details).unwrap_or(Value::Null);
        self
    }
}

/// A failure, kept until the next one takes its place.
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
