//! Values of the original's flags, in the forms that Go and YAML give them, as settings
//! have them. Each function takes one value's text and says what is wrong with it.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::absolute;
use std::time::Duration;

use ctlstore_ctldb::executive::parse_go_duration;

use super::flags::Takes;

/// The value as a setting of its kind has it.
pub fn plain(takes: Takes, value: &str) -> Result<String, String> {
    match takes {
        Takes::Text => Ok(value.to_owned()),
        Takes::Path => path(value),
        Takes::Paths => list(value).iter().map(|one| path(one)).collect::<Result<Vec<_>, _>>().map(|all| all.join(",")),
        Takes::Address => address(value).map(|address| address.to_string()),
        Takes::Duration => duration(value).map(|duration| humantime::format_duration(duration).to_string()),
        Takes::Whole => whole(value).map(|number| number.to_string()),
        Takes::Number => number(value).map(|number| number.to_string()),
        Takes::Switch => switch(value).map(|is_on| is_on.to_string()),
    }
}

/// Taken from the current directory.
pub fn path(value: &str) -> Result<String, String> {
    if value.is_empty() { Err("an empty path".to_owned()) } else { absolute_text(value) }
}

/// As YAML reads a boolean.
pub fn switch(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" | "t" => Ok(true),
        "false" | "no" | "off" | "n" | "f" => Ok(false),
        _ => Err("neither true nor false".to_owned()),
    }
}

pub fn whole(value: &str) -> Result<i64, String> {
    value.trim().parse().map_err(|_| "not a whole number".to_owned())
}

pub fn number(value: &str) -> Result<f64, String> {
    let number: Option<f64> = value.trim().parse().ok();
    number.filter(|number| number.is_finite()).ok_or_else(|| "not a number".to_owned())
}

/// As Go writes it; a number alone is one of nanoseconds.
pub fn duration(value: &str) -> Result<Duration, String> {
    let alone = value.parse().ok().map(Duration::from_nanos);
    let duration = alone.or_else(|| parse_go_duration(value));
    duration.ok_or_else(|| "not a duration such as 1s or 1m30s".to_owned())
}

/// `a,b`, or a list of YAML: `[a, b]`, or a line with a dash for each.
pub fn list(value: &str) -> Vec<String> {
    let value = value.trim();
    let is_block = value.starts_with("- ");
    let inside = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(value);
    let bare = |item: &str| {
        let item = item.trim();
        let item = if is_block { item.strip_prefix("- ").unwrap_or(item).trim() } else { item };
        let quoted = |quote| item.strip_prefix(quote).and_then(|item| item.strip_suffix(quote));
        quoted('"').or_else(|| quoted('\'')).unwrap_or(item).to_owned()
    };
    inside.split(if is_block { '\n' } else { ',' }).map(bare).filter(|item| !item.is_empty()).collect()
}

/// Where a Go server listens: without a host, on every address of this machine.
pub fn address(value: &str) -> Result<SocketAddr, String> {
    let bad = || "not an address and port such as 0.0.0.0:3000".to_owned();
    let (host, port) = value.rsplit_once(':').ok_or_else(bad)?;
    let port: u16 = port.parse().map_err(|_| bad())?;
    if host.is_empty() {
        return Ok(everywhere(port));
    }
    if let Ok(address) = value.parse() {
        return Ok(address);
    }
    let mut found = (host, port).to_socket_addrs().map_err(|error| format!("{host} can't be resolved: {error}"))?;
    found.next().ok_or_else(|| format!("{host} has no address"))
}

/// The unspecified address of IPv6 stands for those of IPv4 too, if this machine has it.
fn everywhere(port: u16) -> SocketAddr {
    match UdpSocket::bind("[::]:0") {
        Ok(_) => SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), port),
        Err(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
    }
}

/// An agent's host and port; without a host it is this machine.
pub fn agent(value: &str) -> String {
    let value = value.strip_prefix("udp://").unwrap_or(value);
    if value.starts_with(':') { format!("localhost{value}") } else { value.to_owned() }
}

/// `path` from the current directory on, as text.
pub fn absolute_text(path: &str) -> Result<String, String> {
    let path = absolute(path).map_err(|error| error.to_string())?;
    path.into_os_string().into_string().map_err(|_| "the current directory is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_s() {
        for (text, millis) in [("1s", 1000), ("1m30s", 90_000), ("1.5h", 5_400_000), ("250ms", 250), ("0", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(duration("5000000000"), Ok(Duration::from_secs(5)));
        for text in ["", "1", "-1s", "1 s", "1d", "soon"] {
            assert_eq!(duration(text).is_ok(), text == "1", "{text}");
        }
    }

    #[test]
    fn lists_are_plain_or_yaml() {
        for text in ["/a,/b", "[/a, /b]", "[\"/a\",'/b']", "- /a\n- /b\n", " /a , /b ,"] {
            assert_eq!(list(text), ["/a", "/b"], "{text}");
        }
        assert!(list("").is_empty());
    }

    #[test]
    fn a_go_server_s_address_is_one_of_this_machine() {
        assert_eq!(address("0.0.0.0:3000").unwrap().to_string(), "0.0.0.0:3000");
        assert_eq!(address("[::1]:3000").unwrap().to_string(), "[::1]:3000");
        assert!(address("localhost:3000").unwrap().ip().is_loopback());
        let everywhere = address(":3000").unwrap();
        assert!(everywhere.ip().is_unspecified() && everywhere.port() == 3000);
        for text in ["3000", "0.0.0.0", "0.0.0.0:http", "0.0.0.0:70000", ""] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn switches_are_yaml_s() {
        assert_eq!((switch("true"), switch("Yes"), switch("off")), (Ok(true), Ok(true), Ok(false)));
        assert!(switch("1").is_err() && switch("").is_err());
    }

    #[test]
    fn an_agent_may_be_named_by_its_port_alone() {
        assert_eq!(agent(":8125"), "localhost:8125");
        assert_eq!(agent("udp://agent:8125"), "agent:8125");
    }
}
