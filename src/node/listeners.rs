//! The sockets of a node. [`Listeners::bind`] binds all of them before any actor starts, so a port
//! that is taken fails the start, with the setting's name.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::config::{OpsSettings, Role, Settings};

use super::error::NodeError;

/// A bound socket that a server will listen on.
#[derive(Debug)]
pub struct Bound {
    pub listener: TcpListener,
    /// The real address. The setting's port may be 0, which means any free port.
    pub address: SocketAddr,
}

impl Bound {
    fn new(key: &'static str, address: SocketAddr) -> Result<Self, NodeError> {
        let bind = || -> io::Result<Self> {
            let listener = TcpListener::bind(address)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bind().map_err(|source| NodeError::Bind { key, address, source })
    }

    /// `http://host:port`, with an address that a client on this host can use.
    pub fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            let loopback = if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
            address.set_ip(loopback);
        }
        format!("http://{address}")
    }
}

/// The socket of the ops server, on a free port of loopback if that has to do.
fn bind_ops(ops: &OpsSettings) -> Result<Bound, NodeError> {
    match Bound::new("ops.bind", ops.bind) {
        Err(error) if ops.bind_fallback => {
            let bound = Bound::new("ops.bind", (Ipv4Addr::LOCALHOST, 0).into())?;
            tracing::warn!(%error, instead = %bound.address, "status and metrics are served on another port");
            Ok(bound)
        }
        bound => bound,
    }
}

/// The sockets of this node's servers.
#[derive(Debug)]
pub struct Listeners {
    pub executive: Option<Bound>,
    pub reader: Option<Bound>,
    pub ops: Bound,
}

impl Listeners {
    pub fn bind(settings: &Settings) -> Result<Self, NodeError> {
        let executive = settings.plays(Role::Executive).then(|| Bound::new("executive.bind", settings.executive.bind));
        let reader = settings.plays(Role::Reader).then(|| Bound::new("reader.bind", settings.reader.bind));
        let listeners =
            Self { executive: executive.transpose()?, reader: reader.transpose()?, ops: bind_ops(&settings.ops)? };
        listeners.warn_of_wide_binds();
        Ok(listeners)
    }

    /// Each server by its name, in the order of the data flow.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &Bound)> {
        let ops = Some(&self.ops);
        [("executive", self.executive.as_ref()), ("reader", self.reader.as_ref()), ("ops", ops)]
            .into_iter()
            .filter_map(|(name, bound)| Some((name, bound?)))
    }

    fn warn_of_wide_binds(&self) {
        for (name, bound) in self.named().filter(|(_, bound)| !bound.address.ip().is_loopback()) {
            let open = match name {
                "executive" => "whoever reaches it may change schemas and limits and register writers",
                "reader" => "whoever reaches it may read every row",
                _ => "whoever reaches it may see status and metrics",
            };
            tracing::warn!(server = name, address = %bound.address, "listens beyond this host: {open}");
        }
    }
}
