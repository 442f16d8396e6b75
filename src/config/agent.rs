//! The form of settings that name a metrics agent: its address and the tags that it
//! gets. It resolves and opens nothing.

use serde::Deserializer;
use serde::de::Error;

use super::codec::{list, text};

/// The longest tag that Datadog keeps, in characters.
const MAX_TAG_CHARS: usize = 200;
const MAX_TAGS: usize = 32;

/// `name:value` texts that a Dogstatsd datagram can carry.
pub fn tags<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    let tags = list(input)?;
    if tags.len() > MAX_TAGS {
        return Err(D::Error::custom(format!("more than {MAX_TAGS} tags")));
    }
    match tags.iter().find(|tag| !is_tag(tag)) {
        Some(tag) => Err(D::Error::custom(format!("{tag:?} is no tag such as team:billing"))),
        None => Ok(tags),
    }
}

fn is_tag(tag: &str) -> bool {
    let has_name = tag.split_once(':').is_some_and(|(name, value)| !name.is_empty() && !value.is_empty());
    has_name
        && tag.chars().count() <= MAX_TAG_CHARS
        && !tag.contains(['|', ',', '#'])
        && !tag.contains(char::is_control)
}

/// `host:port`, or nothing for the empty string.
pub mod host_port {
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
        let text = super::text(input)?;
        if text.is_empty() {
            return Ok(None);
        }
        let (host, port) = text.rsplit_once(':').unwrap_or((&text, ""));
        let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)),
        };
        let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
        if is_host && is_port {
            Ok(Some(text))
        } else {
            Err(D::Error::custom("not a host and port such as localhost:8125"))
        }
    }

    pub fn serialize<S: Serializer>(value: &Option<String>, output: S) -> Result<S::Ok, S::Error> {
        output.serialize_str(value.as_deref().unwrap_or(""))
    }
}
