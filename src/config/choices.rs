//! Settings that are one of a few words: roles and log formats.

use std::str::FromStr;

use serde::Serialize;

/// A role that a node plays; a node may play several at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Executive,
    Reflector,
    Reader,
    Snapshotter,
    Heartbeat,
}

impl FromStr for Role {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "executive" => Ok(Self::Executive),
            "reflector" => Ok(Self::Reflector),
            "reader" => Ok(Self::Reader),
            "snapshotter" => Ok(Self::Snapshotter),
            "heartbeat" => Ok(Self::Heartbeat),
            _ => Err(format!(
                "no role is called {name:?}, there are executive, reflector, reader, snapshotter and heartbeat"
            )),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, &'static str> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("neither text nor json"),
        }
    }
}
