//! Reads and prints the value of one key, such as durations and sizes with units, lists that come from
//! one environment variable, and secrets, which are never printed. `settings` names a function or a module
//! of this file for each key. `validate` judges several keys together.
//!
//! Values are read strictly. The loader's own conversions would round 1.5 to 2 and read any number
//! as a boolean.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use config::{Value, ValueKind};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use tracing_subscriber::EnvFilter;

use ctlstore_ctldb::LedgerTable;
use ctlstore_ldb::snapshot::SnapshotUrl;

use super::choices::{LogFormat, Role};
use super::problem::shown_url;

pub fn text<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    match Value::deserialize(input)?.kind {
        ValueKind::String(text) => Ok(text),
        _ => Err(D::Error::custom("not a string")),
    }
}

/// A text that the value's own type checks, such as a name.
pub fn parsed<'de, D, T>(input: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    text(input)?.parse().map_err(D::Error::custom)
}

/// The name of the ledger's table.
pub fn ledger_table<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let name = text(input)?;
    LedgerTable::check(&name).map(|()| name).map_err(D::Error::custom)
}

/// A list of strings, or one string that separates them with commas.
pub fn list<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    let not_a_list = || D::Error::custom("not a list of strings");
    match Value::deserialize(input)?.kind {
        ValueKind::String(text) => {
            Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
        }
        ValueKind::Array(items) => items
            .into_iter()
            .map(|item| match item.kind {
                ValueKind::String(text) => Ok(text),
                _ => Err(not_a_list()),
            })
            .collect(),
        _ => Err(not_a_list()),
    }
}

/// Reads every item of a list. The error names every bad item, and not only the first.
fn each<T, E: Error>(items: &[String], read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, E> {
    let mut good = Vec::with_capacity(items.len());
    let mut reasons = Vec::new();
    for item in items {
        match read(item) {
            Ok(value) => good.push(value),
            Err(reason) => reasons.push(reason),
        }
    }
    if reasons.is_empty() { Ok(good) } else { Err(E::custom(reasons.join("; "))) }
}

pub fn boolean<'de, D: Deserializer<'de>>(input: D) -> Result<bool, D::Error> {
    let bad = || D::Error::custom("neither true nor false");
    match Value::deserialize(input)?.kind {
        ValueKind::Boolean(value) => Ok(value),
        ValueKind::String(text) => text.parse().map_err(|_| bad()),
        _ => Err(bad()),
    }
}

pub fn whole<'de, D: Deserializer<'de>, T: TryFrom<i64>>(input: D) -> Result<T, D::Error> {
    let bad = || D::Error::custom("not a whole number of 0 or more");
    let number: i64 = match Value::deserialize(input)?.kind {
        ValueKind::I64(number) => number,
        ValueKind::String(text) => text.parse().map_err(|_| bad())?,
        _ => return Err(bad()),
    };
    T::try_from(number).map_err(|_| bad())
}

pub fn fraction<'de, D: Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
    let bad = || D::Error::custom("not a number from 0 to 1");
    let number = match Value::deserialize(input)?.kind {
        ValueKind::Float(number) => number,
        ValueKind::I64(number) => number as f64,
        ValueKind::String(text) => text.parse().map_err(|_| bad())?,
        _ => return Err(bad()),
    };
    if (0.0..=1.0).contains(&number) { Ok(number) } else { Err(bad()) }
}

pub fn path<'de, D: Deserializer<'de>>(input: D) -> Result<PathBuf, D::Error> {
    match text(input)? {
        empty if empty.is_empty() => Err(D::Error::custom("an empty path")),
        path => Ok(PathBuf::from(path)),
    }
}

pub fn paths<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<PathBuf>, D::Error> {
    let paths = list(input)?;
    if paths.iter().any(String::is_empty) {
        Err(D::Error::custom("an empty path"))
    } else {
        Ok(paths.into_iter().map(PathBuf::from).collect())
    }
}

pub fn address<'de, D: Deserializer<'de>>(input: D) -> Result<SocketAddr, D::Error> {
    text(input)?.parse().map_err(|_| D::Error::custom("not an address and port such as 127.0.0.1:3000"))
}

pub fn roles<'de, D: Deserializer<'de>>(input: D) -> Result<BTreeSet<Role>, D::Error> {
    let roles: BTreeSet<Role> = each::<_, D::Error>(&list(input)?, |name| name.parse())?.into_iter().collect();
    if roles.is_empty() { Err(D::Error::custom("a node without a role has nothing to do")) } else { Ok(roles) }
}

pub fn log_format<'de, D: Deserializer<'de>>(input: D) -> Result<LogFormat, D::Error> {
    parsed(input)
}

pub fn log_level<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let level = text(input)?;
    // The filter takes a bare word for the name of a module, so a mistyped level would silence the node.
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word.trim()));
    let no_bare_word = level.contains('[') || level.split(',').all(|part| part.contains('=') || is_level(part));
    if no_bare_word && EnvFilter::builder().parse(&level).is_ok() {
        Ok(level)
    } else {
        Err(D::Error::custom("neither a level (off, error, warn, info, debug, trace) nor module=level"))
    }
}

/// A list of URLs. A text separates them with commas, and a URL may contain commas too. So a part
/// that does not begin as a URL belongs to the web address, or the data, before it.
fn urls<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    let value = Value::deserialize(input)?;
    let ValueKind::String(text) = &value.kind else { return list(value).map_err(D::Error::custom) };
    let mut urls: Vec<String> = Vec::new();
    for piece in text.split(',') {
        let takes_more = |url: &String| {
            let url = url.to_ascii_lowercase();
            url.contains(['?', '#']) || ["data:", "http:", "https:"].iter().any(|scheme| url.starts_with(scheme))
        };
        match urls.last_mut() {
            Some(last) if takes_more(last) && !SnapshotUrl::is_begun_by(piece.trim()) => {
                last.push(',');
                last.push_str(piece);
            }
            _ if piece.trim().is_empty() => {}
            _ => urls.push(piece.trim().to_owned()),
        }
    }
    Ok(urls.iter().map(|url| url.trim_end_matches([',', ' ']).to_owned()).collect())
}

/// Names or addresses of hosts, in lower case.
pub fn host_names<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    each(&list(input)?, host_name)
}

fn host_name(name: &str) -> Result<String, String> {
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    if bare.parse::<std::net::IpAddr>().is_ok() || name.split('.').all(is_label) {
        return Ok(bare.to_ascii_lowercase());
    }
    Err(format!("{name:?} is no host's name or address; it goes without scheme, port and wildcard"))
}

/// Where snapshots come from: every kind of URL.
pub fn snapshot_urls<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<SnapshotUrl>, D::Error> {
    each(&urls(input)?, |url| url.parse().map_err(|why| refused_url(url, why)))
}

/// Where snapshots go: the kinds that can be written to.
pub fn snapshot_destinations<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<SnapshotUrl>, D::Error> {
    let read = |url: &str| match url.parse::<SnapshotUrl>() {
        Ok(parsed) if parsed.is_writable() => Ok(parsed),
        Ok(_) => Err(refused_url(url, "can only be read from, so it is no destination")),
        Err(why) => Err(refused_url(url, why)),
    };
    each(&urls(input)?, read)
}

fn refused_url(url: &str, why: &str) -> String {
    format!("{}: {why}", shown_url(url))
}

/// A region of a store, or nothing for the empty string.
pub fn region<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    const LONGEST: usize = 64;
    let region = text(input)?;
    let is_region = region.len() <= LONGEST && region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if is_region { Ok(region) } else { Err(D::Error::custom("no region, such as us-east-1")) }
}

/// Auto, or a boolean.
pub mod allow_empty {
    use config::{Value, ValueKind};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use ctlstore_core::ledger::AllowEmpty;

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<AllowEmpty, D::Error> {
        let value = Value::deserialize(input)?.kind;
        match value {
            ValueKind::Boolean(true) => Ok(AllowEmpty::Always),
            ValueKind::Boolean(false) => Ok(AllowEmpty::Never),
            ValueKind::String(text) if text == "auto" => Ok(AllowEmpty::Auto),
            ValueKind::String(text) if text == "true" => Ok(AllowEmpty::Always),
            ValueKind::String(text) if text == "false" => Ok(AllowEmpty::Never),
            _ => Err(D::Error::custom("neither auto nor true nor false")),
        }
    }

    pub fn serialize<S: Serializer>(value: &AllowEmpty, output: S) -> Result<S::Ok, S::Error> {
        output.serialize_str(match value {
            AllowEmpty::Auto => "auto",
            AllowEmpty::Always => "true",
            AllowEmpty::Never => "false",
        })
    }
}

/// A time with its unit: "250ms", "1m 30s".
pub mod duration {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    /// Longer than any use. Added to a time it does not overflow.
    const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
        let duration = super::text(input).ok().and_then(|text| humantime::parse_duration(&text).ok());
        match duration {
            Some(duration) if duration <= LONGEST => Ok(duration),
            Some(_) => Err(D::Error::custom("longer than a year")),
            None => Err(D::Error::custom("not a duration with its unit, such as \"250ms\" or \"1m\"")),
        }
    }

    pub fn serialize<S: Serializer>(value: &Duration, output: S) -> Result<S::Ok, S::Error> {
        output.collect_str(&humantime::format_duration(*value))
    }
}

/// A time with its unit, or nothing for the empty string.
pub mod maybe_duration {
    use std::time::Duration;

    use serde::de::IntoDeserializer;
    use serde::{Deserializer, Serializer};

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
        match super::text(input)? {
            none if none.is_empty() => Ok(None),
            text => super::duration::deserialize(text.into_deserializer()).map(Some),
        }
    }

    pub fn serialize<S: Serializer>(value: &Option<Duration>, output: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(duration) => super::duration::serialize(duration, output),
            None => output.serialize_str(""),
        }
    }
}

/// A size in bytes: "50 MiB" or a plain number.
pub mod bytes {
    use bytesize::ByteSize;
    use config::{Value, ValueKind};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<u64, D::Error> {
        let size = match Value::deserialize(input)?.kind {
            ValueKind::I64(number) => u64::try_from(number).ok(),
            ValueKind::String(text) => text.parse::<ByteSize>().ok().map(|size| size.as_u64()),
            _ => None,
        };
        // TOML and SQLite count in signed numbers.
        size.filter(|size| i64::try_from(*size).is_ok())
            .ok_or_else(|| D::Error::custom("not a size such as \"50 MiB\" or a number of bytes"))
    }

    /// Writes the largest unit that is exact, so that reading gives the same number.
    pub fn serialize<S: Serializer>(value: &u64, output: S) -> Result<S::Ok, S::Error> {
        match UNITS.iter().find(|(unit, _)| *value > 0 && value.is_multiple_of(*unit)) {
            Some((unit, name)) => output.collect_str(&format_args!("{} {name}", value / unit)),
            None => output.serialize_u64(*value),
        }
    }
}

/// A path, or nothing for the empty string.
pub mod maybe_path {
    use std::path::PathBuf;

    use serde::{Deserializer, Serialize, Serializer};

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<PathBuf>, D::Error> {
        Ok(Some(super::text(input)?).filter(|path| !path.is_empty()).map(PathBuf::from))
    }

    pub fn serialize<S: Serializer>(value: &Option<PathBuf>, output: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(path) => path.serialize(output),
            None => output.serialize_str(""),
        }
    }
}

/// The base URL of an HTTP server, or nothing for the empty string.
pub mod maybe_url {
    use serde::de::Error;
    use serde::{Deserializer, Serializer};
    use url::Url;

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Url>, D::Error> {
        let text = super::text(input)?;
        if text.is_empty() {
            return Ok(None);
        }
        let plain = |url: &Url| {
            url.scheme() == "http" && url.username().is_empty() && url.password().is_none() && url.query().is_none()
        };
        match Url::parse(&text) {
            Ok(url) if plain(&url) => Ok(Some(url)),
            _ => Err(D::Error::custom("not a URL such as http://host:3000")),
        }
    }

    pub fn serialize<S: Serializer>(value: &Option<Url>, output: S) -> Result<S::Ok, S::Error> {
        output.serialize_str(value.as_ref().map_or("", Url::as_str))
    }
}

/// A secret, or nothing for the empty string. It is printed as a mask.
pub mod maybe_secret {
    use secrecy::SecretString;
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<SecretString>, D::Error> {
        match super::text(input)? {
            mask if mask == ctlstore_core::MASK => Err(D::Error::custom("a mask where the secret itself is wanted")),
            none if none.is_empty() => Ok(None),
            secret => Ok(Some(secret.into())),
        }
    }

    pub fn serialize<S: Serializer>(value: &Option<SecretString>, output: S) -> Result<S::Ok, S::Error> {
        output.serialize_str(if value.is_some() { ctlstore_core::MASK } else { "" })
    }
}
