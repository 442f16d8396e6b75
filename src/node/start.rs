//! What starts, in which order: against the data flow, so that each actor is handed
//! the addresses of those it talks to. Reads like the picture in ARCHITECTURE.md,
//! from its end.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::prelude::*;
use actix_web::dev::ServerHandle;

use crate::actors::applier::Applier;
use crate::actors::executive::{ExecutiveActor, ExecutiveSettings};
use crate::actors::heartbeat::{Heartbeat, HeartbeatOptions};
use crate::actors::poller::{Poller, PollerOptions, PollerPeers};
use crate::config::{CtldbUrl, Role, Settings};
use crate::http::ops::{self, OpsState};
use crate::ldb::{Ldb, LdbOptions};
use crate::ledger::BlockLimit;
use crate::messages::status::{GetStatus, Role as Actor};
use crate::messages::stop::Stop;
use crate::metrics::Metrics;

use super::NodeError;
use super::listeners::{Bound, Listeners};
use super::stop::Steps;

/// What runs. Fields stand in the order in which they are stopped.
pub struct Node {
    accepting: Arc<AtomicBool>,
    heartbeat: Option<Addr<Heartbeat>>,
    executive_http: Option<ServerHandle>,
    executive: Option<Recipient<Stop>>,
    poller: Option<Recipient<Stop>>,
    applier: Option<Recipient<Stop>>,
    ops: ServerHandle,
}
