//! How a node stops: one step after the other, each with a log line, all within one
//! deadline. What was acknowledged is in the ctldb before its answer, so a step that
//! is cut short loses nothing.

use std::future::Future;
use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_web::dev::ServerHandle;

use crate::messages::stop::Stop;

/// Runs the steps of a stop.
pub struct Steps {
    deadline: Instant,
}

impl Steps {
    pub fn within(timeout: Duration) -> Self {
        Self { deadline: Instant::now() + timeout }
    }

    /// Asks an actor to end and waits until it has, if the node has it.
    pub async fn actor(&self, name: &'static str, actor: Option<Recipient<Stop>>) {
        if let Some(actor) = actor {
            self.step(name, actor.send(Stop)).await;
        }
    }

    /// Lets a server finish what it is answering, if the node has it.
    pub async fn server(&self, name: &'static str, server: Option<ServerHandle>) {
        if let Some(server) = server {
            self.step(name, server.stop(true)).await;
        }
    }

    /// Waits for an actor's thread, which has been told to end.
    pub async fn thread(&self, name: &'static str, arbiter: Arbiter) {
        self.step(name, actix_rt::task::spawn_blocking(move || arbiter.join())).await;
    }

    async fn step(&self, name: &'static str, work: impl Future) {
        let began = Instant::now();
        match tokio::time::timeout_at(self.deadline.into(), work).await {
            Ok(_) => tracing::info!(step = name, ms = began.elapsed().as_millis() as u64, "stopped"),
            Err(_) => tracing::warn!(step = name, "did not stop in time"),
        }
    }
}
