//! Sends the node's metrics to a Dogstatsd agent at an interval: UDP datagrams, which
//! nothing waits for and which may be lost. Entry point: [`Dogstatsd`]. The lines come from
//! `metrics::dogstatsd`.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures::future::join_all;
use tokio::net::lookup_host;

use crate::actors::failures::{Failures, failed};
use crate::actors::task::{Stopping, Task};
use crate::messages::status::GetStatus;
use crate::messages::stop::Stop;
use crate::metrics::dogstatsd::{Exporter, Identity, datagrams};
use crate::metrics::{Component, ErrorKind, Metrics};

/// How long the others may take to bring their gauges up to date, and the agent's name to be resolved.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where metrics go to, and how.
#[derive(Debug, Clone)]
pub struct DogstatsdOptions {
    /// `host:port`; the name is resolved anew for each flush, as agents move.
    pub agent: String,
    pub max_datagram_bytes: usize,
    pub interval: Duration,
    pub identity: Identity,
}

/// Sends metrics until it is stopped, and once more then.
pub struct Dogstatsd {
    sender: Option<Sender>,
    task: Option<Task>,
}

struct Sender {
    options: DogstatsdOptions,
    metrics: Arc<Metrics>,
    /// Asked before each flush: gauges that grow with time are set then.
    actors: Vec<Recipient<GetStatus>>,
    exporter: Exporter,
    failures: Failures,
}

impl Dogstatsd {
    pub fn new(options: DogstatsdOptions, metrics: Arc<Metrics>, actors: Vec<Recipient<GetStatus>>) -> Self {
        let exporter = Exporter::new(options.identity.clone());
        let failures = Failures::new(Component::Dogstatsd, Arc::clone(&metrics));
        Self { sender: Some(Sender { options, metrics, actors, exporter, failures }), task: None }
    }
}

impl Actor for Dogstatsd {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        if let Some(sender) = self.sender.take() {
            self.task = Some(Task::spawn(|stopping| run(sender, stopping)));
        }
    }
}

impl Handler<Stop> for Dogstatsd {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Stop, _: &mut Self::Context) -> Self::Result {
        Task::then_stop(self.task.take())
    }
}

async fn run(mut sender: Sender, mut stopping: Stopping) {
    loop {
        let is_last = stopping.unless(tokio::time::sleep(sender.options.interval)).await.is_none();
        match sender.flush().await {
            Ok(()) => sender.failures.end(),
            Err(error) => {
                let agent = &sender.options.agent;
                let error = format!("metrics.dogstatsd {agent}: {error}");
                failed!(sender.failures, ErrorKind::Unavailable, error, "metrics are not sent, trying again");
            }
        }
        if is_last {
            return;
        }
    }
}

impl Sender {
    /// Sends the changes since the last flush. A datagram that can't be sent is lost.
    async fn flush(&mut self) -> io::Result<()> {
        let asked = join_all(self.actors.iter().map(|actor| actor.send(GetStatus)));
        // One that does not answer leaves its gauges as they are.
        let _ = tokio::time::timeout(PATIENCE, asked).await;
        let text = self.metrics.encode().map_err(io::Error::other)?;
        let lines = self.exporter.lines(&text);
        let (datagrams, too_long) = datagrams(&lines, self.options.max_datagram_bytes);
        let resolved = tokio::time::timeout(PATIENCE, lookup_host(&self.options.agent)).await;
        let agent =
            resolved.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "its name is not resolved in time"))??;
        let agent = preferred(agent).ok_or_else(|| io::Error::other("its name has no address"))?;
        // It takes a datagram at once or not at all, so it holds this thread up no more than one of the runtime's.
        let socket = UdpSocket::bind(unspecified(&agent))?;
        socket.set_nonblocking(true)?;
        socket.connect(agent)?;
        for datagram in &datagrams {
            // A full socket loses it; waiting would only make the next flush late.
            match socket.send(datagram.as_bytes()) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        match too_long {
            0 => Ok(()),
            lines => Err(io::Error::other(format!("{lines} lines are longer than metrics.dogstatsd_buffer_bytes"))),
        }
    }
}

/// An address of IPv4, if the agent has one: many agents listen on no other.
fn preferred(mut addresses: impl Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    let first = addresses.next()?;
    Some(std::iter::once(first).chain(addresses).find(SocketAddr::is_ipv4).unwrap_or(first))
}

fn unspecified(agent: &SocketAddr) -> SocketAddr {
    match agent {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}
