//! Bounds how many connections one client address has, over all workers of a server. Entry point:
//! [`AddressLimit::enter`]. Clients on this host are exempt, since all its programs have one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The bound, and the connections of each address that has any.
#[derive(Debug)]
pub struct AddressLimit {
    max: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// The place of one connection of an address.
#[derive(Debug)]
pub struct AddressPlace {
    limit: Arc<AddressLimit>,
    address: IpAddr,
}

/// The address has as many connections as are allowed.
#[derive(Debug)]
pub struct TooMany;

impl AddressLimit {
    /// At most `max` connections of each address; 0 is no bound.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, open: Mutex::default() })
    }

    /// A place for a connection from `address`; `None` if it needs none.
    pub fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Option<AddressPlace>, TooMany> {
        // On a socket for both, an IPv4 client has an IPv6 address.
        let Some(address) = address.map(|address| address.to_canonical()) else { return Ok(None) };
        if self.max == 0 || address.is_loopback() {
            return Ok(None);
        }
        let mut open = self.open();
        let count = open.entry(address).or_default();
        if *count >= self.max {
            return Err(TooMany);
        }
        *count += 1;
        Ok(Some(AddressPlace { limit: Arc::clone(self), address }))
    }

    /// Locks also after a panic: no panic leaves a count half changed.
    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut open = self.limit.open();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_places_in_either_spelling_and_this_host_has_all() {
        let limit = AddressLimit::new(2);
        let enter = |text: &str| limit.enter(Some(text.parse().unwrap()));
        let first = enter("192.0.2.1").unwrap();
        let _second = enter("::ffff:192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_err());
        assert!(enter("192.0.2.2").unwrap().is_some());
        drop(first);
        assert!(enter("::ffff:192.0.2.1").unwrap().is_some());
        for _ in 0..9 {
            for here in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
                assert!(enter(here).unwrap().is_none());
            }
        }
    }
}
