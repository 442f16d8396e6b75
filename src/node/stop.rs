//! The steps of a stop: one after the other, each with a log line, all within one deadline. Entry
//! point: [`Steps::within`]. A write is in the ctldb before its answer, so a step that is cut short
//! loses nothing. A client can keep a server waiting. So that the later steps keep their time, the
//! stop gives that server up before the deadline.

use std::cell::Cell;
use std::future::Future;
use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_web::dev::ServerHandle;

use crate::messages::stop::Stop;

/// The part of the time that a server leaves to the steps after it.
const LEFT_BY_SERVERS: f64 = 0.25;

/// Runs the steps of a stop.
pub struct Steps {
    deadline: Instant,
    servers_deadline: Instant,
    is_late: Cell<bool>,
}

impl Steps {
    pub fn within(timeout: Duration) -> Self {
        let now = Instant::now();
        Self {
            deadline: now + timeout,
            servers_deadline: now + timeout.mul_f64(1.0 - LEFT_BY_SERVERS),
            is_late: Cell::new(false),
        }
    }

    /// Asks an actor to stop and waits until it has, if the node has it.
    pub async fn actor(&self, name: &'static str, actor: Option<Recipient<Stop>>) {
        if let Some(actor) = actor {
            self.step(name, self.deadline, actor.send(Stop)).await;
        }
    }

    /// Stops a server after its last answer, if the node has it, and leaves time for later steps.
    pub async fn server(&self, name: &'static str, server: Option<ServerHandle>) {
        self.server_until(self.servers_deadline, name, server).await;
    }

    /// The same for a server after which only other servers and threads stop.
    pub async fn last_server(&self, name: &'static str, server: Option<ServerHandle>) {
        self.server_until(self.deadline, name, server).await;
    }

    async fn server_until(&self, deadline: Instant, name: &'static str, server: Option<ServerHandle>) {
        if let Some(server) = server {
            self.step(name, deadline, server.stop(true)).await;
        }
    }

    /// Waits for an actor's thread, which was told to end.
    pub async fn thread(&self, name: &'static str, arbiter: Arbiter) {
        self.step(name, self.deadline, actix_rt::task::spawn_blocking(move || arbiter.join())).await;
    }

    /// Whether a step did not end in time. A server that was given up before the deadline does not
    /// count: its clients kept it waiting, and it ends with the process.
    pub fn are_late(&self) -> bool {
        self.is_late.get()
    }

    async fn step(&self, name: &'static str, deadline: Instant, work: impl Future) {
        let began = Instant::now();
        match tokio::time::timeout_at(deadline.into(), work).await {
            Ok(_) => tracing::info!(step = name, ms = began.elapsed().as_millis() as u64, "stopped"),
            Err(_) => {
                self.is_late.set(self.is_late.get() || deadline == self.deadline);
                tracing::warn!(step = name, "did not stop in time");
            }
        }
    }
}
