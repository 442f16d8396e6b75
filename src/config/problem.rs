//! Problems of the settings, one line each, and how much of a value a line may show: never a secret.
//! Entry points: [`Problem`], [`shown`], [`shown_text`] and [`shown_url`].

use std::fmt;
use std::path::PathBuf;

use config::{Value, ValueKind};

use ctlstore_core::MASK;

/// The longest piece of a value that a line repeats, in characters.
const SHOWN_CHARS: usize = 200;

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File(PathBuf),
    /// The variable's name, in the given spelling.
    Environment(String),
    /// The flag as it is given, such as `--role`.
    Flag(String),
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

/// One problem. Its text is one line: key, value, origin and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub key: String,
    /// Ready to be printed. `None` if there is no value, or several.
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

/// All problems of the settings. Never empty.
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

/// The value of `key` as it may be printed; `None` for a whole section.
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
        ValueKind::String(text) if key.ends_with("urls") || key.ends_with("_snapshots") => Some(shown_url(text)),
        ValueKind::String(text) => Some(shown_text(text)),
        other => Some(other.to_string()),
    }
}

/// `text` in quotes, cut if it is long. Secrets that a URL may contain are masked: a password, a
/// signature in its query, data.
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

/// A URL, or a list of URLs, as `shown_text` shows it. A part that has no scheme and looks like a part
/// of a query is masked: it may belong to a signed URL with a comma in it.
pub fn shown_url(text: &str) -> String {
    // The text after ? or # of any URL may be a signature. A comma or an @ in it separates nothing.
    let query = text.find("://").and_then(|at| text[at..].find(['?', '#']).map(|query| at + query));
    if let Some(cut) = query {
        let is_odd = text[cut..].contains('@') || text[..cut].to_ascii_lowercase().contains("data:");
        return if is_odd { MASK.to_owned() } else { shown_text(&format!("{}?{MASK}", &text[..cut])) };
    }
    let masked = |part: &str| {
        let has_scheme = part.split_once(':').is_some_and(|(scheme, _)| !scheme.contains(['=', '&', '?']));
        if !has_scheme && part.contains(['=', '&']) { MASK.to_owned() } else { part.to_owned() }
    };
    if text.contains(['=', '&']) {
        shown_text(&text.split(',').map(masked).collect::<Vec<_>>().join(","))
    } else {
        shown_text(text)
    }
}

/// Judges by the key's name. A mistyped key may hold a secret too.
fn is_secret(key: &str) -> bool {
    let name = key.rsplit('.').next().unwrap_or(key).to_ascii_lowercase();
    let tells = |word: &str| {
        ["secret", "password", "token"].iter().any(|secret| strsim::damerau_levenshtein(word, secret) <= 2)
    };
    !name.ends_with("file") && (name.split(['_', '-']).any(tells) || name.contains("secret") || name.contains("pass"))
}

/// Masks everything up to the last `@` of `text` except for a URL's scheme, even if the text can't be
/// parsed. Masks all of a `mysql:` URL without a `@` that may contain a password.
fn without_credentials(text: &str) -> String {
    let is_scheme = |scheme: &str| scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (&text[..scheme.len() + 3], rest),
        _ => ("", text),
    };
    match rest.rfind('@') {
        Some(at) => format!("{scheme}{MASK}{}", &rest[at..]),
        None if !scheme.is_empty() && has_odd_port(rest) => format!("{scheme}{MASK}"),
        None if text.starts_with("mysql:") && rest.contains(':') => format!("mysql://{MASK}"),
        None => text.to_owned(),
    }
}

/// Whether the text at the place of a port is no number. It may be a password without a host.
fn has_odd_port(rest: &str) -> bool {
    let authority = rest.split('/').next().unwrap_or_default();
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    !authority.ends_with(']') && port.is_some_and(|port| !port.bytes().all(|b| b.is_ascii_digit()))
}

/// Masks the query or fragment of an `http:` URL and the data of a `data:` URL, and all text after
/// them.
fn without_signature(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    if let Some(at) = lower.find("data:") {
        return format!("{}data:{MASK}", &text[..at]);
    }
    let Some(scheme) = lower.find("http") else { return text.to_owned() };
    match text[scheme..].find(['?', '#']) {
        Some(query) => format!("{}?{MASK}", &text[..scheme + query]),
        None => text.to_owned(),
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
            "DATA:hunter2=",
            "HTTPS://host/a.db?sig=hunter2",
            "https://host/a.db#hunter2",
            "X-Amz-Signature=hunter2",
            "hun&sig=ter2",
            "https://u:hunter2",
            "https://u:hunter2/x",
        ] {
            assert!(!shown_url(broken).contains("ter2"), "{broken} is shown as {}", shown_url(broken));
        }
        assert_eq!(shown_text("warn,ctlstore=debug"), "\"warn,ctlstore=debug\"");
        assert_eq!(shown_url("s3://b/a.db,snapshot.db"), "\"s3://b/a.db,snapshot.db\"");
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
