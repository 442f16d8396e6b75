//! What is wrong with the settings, one line a finding, and what may be shown
//! of a value: never a secret.

use std::fmt;
use std::path::PathBuf;

use config::{Value, ValueKind};

use ctlstore_core::MASK;

/// The longest piece of a value that a line repeats, in characters.
const SHOWN_CHARS: usize = 200;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File(PathBuf),
    /// The variable's name, as it was spelt.
    Environment(String),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One thing that is wrong, as one line: key, value, origin and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub key: String,
    /// Ready to be printed; none where there is no value, or not one.
    pub value: Option<String>,
    pub origin: Origin,
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, " ({}): {}", self.origin, self.reason)
    }
}

/// Everything that is wrong with the settings. Never empty.
#[derive(Debug, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.0.iter();
        if let Some(first) = lines.next() {
            first.fmt(f)?;
        }
        lines.try_for_each(|line| write!(f, "\n{line}"))
    }
}

/// The value of `key` as it may be printed; none for a whole section.
pub fn shown(key: &str, value: &Value) -> Option<String> {
    if is_secret(key) {
        return Some(MASK.to_owned());
    }
    match &value.kind {
        ValueKind::Table(_) => None,
        ValueKind::Array(items) => {
            let items: Vec<String> = items.iter().filter_map(|item| shown(key, item)).collect();
            Some(format!("[{}]", items.join(", ")))
        }
        ValueKind::String(text) => Some(shown_text(text)),
        other => Some(other.to_string()),
    }
}

/// `text` in quotes, cut where it is long and without what a URL may hide: a
/// password, a signature in its query, data.
pub fn shown_text(text: &str) -> String {
    let masked = without_credentials(&without_signature(text));
    if masked == MASK {
        return masked;
    }
    match masked.char_indices().nth(SHOWN_CHARS) {
        Some((cut, _)) => format!("{:?}…", &masked[..cut]),
        None => format!("{masked:?}"),
    }
}

/// Goes by the key's name, mistyped ones included: those may hold a secret too.
fn is_secret(key: &str) -> bool {
    let name = key.rsplit('.').next().unwrap_or(key).to_ascii_lowercase();
    let tells = |word: &str| {
        ["secret", "password", "token"].iter().any(|secret| strsim::damerau_levenshtein(word, secret) <= 2)
    };
    !name.ends_with("file") && (name.split(['_', '-']).any(tells) || name.contains("secret") || name.contains("pass"))
}

/// `text` with everything up to its last `@` masked besides a URL's scheme,
/// also where it is too broken to parse; all of a `mysql:` URL without a `@`.
fn without_credentials(text: &str) -> String {
    let is_scheme = |scheme: &str| scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (&text[..scheme.len() + 3], rest),
        _ => ("", text),
    };
    match rest.rfind('@') {
        Some(at) => format!("{scheme}{MASK}{}", &rest[at..]),
        None if text.starts_with("mysql:") && rest.contains(':') => format!("mysql://{MASK}"),
        None => text.to_owned(),
    }
}

/// `text` with the query of an `http:` URL and the data of a `data:` URL masked,
/// in a list of several URLs with all that follows.
fn without_signature(text: &str) -> String {
    if let Some(at) = text.find("data:") {
        return format!("{}data:{MASK}", &text[..at]);
    }
    match (text.find("http"), text.find('?')) {
        (Some(scheme), Some(query)) if scheme < query => format!("{}?{MASK}", &text[..query]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_credential_is_shown() {
        for broken in [
            "mysql://root:hunter2@host/",
            "mysql://root:hunter2",
            "mysql:root:hunter2@host/db",
            "mysql:root:hunter2",
            "mysql://root:hun@ter2@host/db",
            "mysql://root:hunter2/x?y@host/db",
            "root:hunter2@tcp(host:3306)/db",
            "root:hunter2@tcp(host)/db://x@y",
            "https://host/a.db?sig=hunter2",
            "s3://b/a.db,https://host/a.db?sig=hunter2",
            "data:hunter2=",
        ] {
            assert!(!shown_text(broken).contains("ter2"), "{broken} is shown as {}", shown_text(broken));
        }
        assert_eq!(shown_text("mysql://host/db"), "\"mysql://host/db\"");
        assert_eq!(shown_text("mysql://u:p@host/db"), "\"mysql://***@host/db\"");
    }

    #[test]
    fn a_key_that_looks_like_a_secret_hides_its_value() {
        let value = Value::from("hunter2");
        for key in ["heartbeat.secret", "heartbeat.secert", "heartbeat.my_secret", "ctldb.password", "pasword"] {
            assert_eq!(shown(key, &value).as_deref(), Some(MASK), "{key}");
        }
        for key in ["heartbeat.secret_file", "reader.workers", "snapshotter.urls"] {
            assert_eq!(shown(key, &value).as_deref(), Some("\"hunter2\""), "{key}");
        }
    }
}
