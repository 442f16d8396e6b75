//! Ports that stay known while nothing listens on them, for servers that are stopped and started again.

use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// A port of 127.0.0.1, this process's own until dropped, also while nothing listens on it.
///
/// It is below the ephemeral range, so no outgoing connection takes it while the server is stopped, and claimed
/// under an abstract socket name, so no other test binary takes it either; the kernel ends the claim.
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
