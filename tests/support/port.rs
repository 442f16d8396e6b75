//! Ports that stay reserved while no server listens on them, for servers that are stopped and started again.

use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// A port of 127.0.0.1 that belongs to this process until it is dropped, even while no server listens on it.
///
/// The port is below the ephemeral range, so no outgoing connection takes it while the server is stopped. An abstract
/// socket name claims it, so no other test binary takes it either. The kernel ends the claim with the process.
pub struct Port {
    pub number: u16,
    _claim: UnixListener,
}

impl Port {
    pub fn claim() -> Self {
        (20_000..30_000).find_map(Self::try_claim).expect("one port of 10,000 is free")
    }

    fn try_claim(number: u16) -> Option<Self> {
        let name = SocketAddr::from_abstract_name(format!("ctlstore-test-port-{number}")).expect("a short name");
        let claim = UnixListener::bind_addr(&name).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _claim: claim })
    }
}
