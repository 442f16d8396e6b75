//! What stands beside a snapshot, in `<key>.json`: whose state it is, which object
//! holds it, and what its bytes must hash to. Pure: neither stores nor files.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_core::schema::Timestamp;

use super::take::{Snapshot, TableDigest};

/// The newest form that we know.
pub const FORMAT_VERSION: u32 = 1;

/// How a snapshot's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// By the ending of its key.
    pub fn of(key: &str) -> Self {
        match key.rsplit_once('.') {
            Some((_, "gz")) => Self::Gzip,
            Some((_, "zst")) => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// Members that it does not know are left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format_version: u32,
    pub ledger_id: Option<String>,
    pub seq: i64,
    /// As the LDB writes it: `2006-01-02 15:04:05.ffffff+00:00`.
    pub leader_ts: Option<String>,
    /// RFC 3339, UTC.
    pub taken_at: String,
    /// The name, beside the manifest, of the object that holds this very snapshot for
    /// as long as the manifest names it.
    pub key: String,
    pub compression: Compression,
    /// Of the uncompressed file, as are the next two.
    pub bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
    /// Standard base64, as the metadata `checksum` has it.
    pub sha1: String,
    /// Of what is stored under `key`, as is the next one.
    pub stored_bytes: u64,
    pub stored_sha256: String,
    pub sqlite_version: String,
    /// The user's tables, by name.
    pub tables: Vec<TableDigest>,
}

/// Why a file is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("manifest is not readable: {0}")]
    Json(#[from] serde_json::Error),
    #[error("manifest has format version {0}, newer than {FORMAT_VERSION}, the newest known")]
    Newer(u64),
    #[error("manifest has a bad {0}")]
    Bad(&'static str),
}

impl Manifest {
    /// The most bytes of a manifest: tens of thousands of tables.
    pub const MAX_BYTES: u64 = 16 << 20;

    /// The name of the manifest of the snapshot that is named `key`.
    pub fn name_of(key: &str) -> String {
        format!("{key}.json")
    }

    /// Of a snapshot stored under `key`, where it has `stored_bytes` and `stored_sha256`.
    pub fn new(
        snapshot: &Snapshot,
        key: String,
        compression: Compression,
        stored_bytes: u64,
        stored_sha256: String,
    ) -> Self {
        let position = &snapshot.position;
        Self {
            format_version: FORMAT_VERSION,
            ledger_id: position.ledger_id.clone(),
            seq: position.seq.0,
            leader_ts: position.leader_ts.map(|at| at.to_string()),
            taken_at: snapshot.taken_at.to_string().replacen(' ', "T", 1),
            key,
            compression,
            bytes: snapshot.bytes,
            sha256: snapshot.sha256.clone(),
            sha1: snapshot.sha1.clone(),
            stored_bytes,
            stored_sha256,
            sqlite_version: rusqlite::version().to_owned(),
            tables: snapshot.tables.clone(),
        }
    }

    /// Reads a manifest, whoever wrote it.
    ///
    /// # Errors
    /// Everything that whoever uses it would stumble over.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u64,
        }
        let Version { format_version } = serde_json::from_slice(bytes)?;
        if format_version > u64::from(FORMAT_VERSION) {
            return Err(ManifestError::Newer(format_version));
        }
        let this: Self = serde_json::from_slice(bytes)?;
        this.check()?;
        Ok(this)
    }

    /// # Errors
    /// None that a value made by [`Manifest::new`] has.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }

    /// Whose state the snapshot is.
    pub fn position(&self) -> LdbPosition {
        LdbPosition {
            seq: Seq(self.seq),
            leader_ts: self.leader_ts.as_deref().and_then(Timestamp::parse),
            ledger_id: self.ledger_id.clone(),
        }
    }

    pub fn taken_at(&self) -> Option<Timestamp> {
        Timestamp::parse(&self.taken_at)
    }

    /// Whether there is any row in it.
    pub fn has_rows(&self) -> bool {
        self.tables.iter().any(|table| table.rows > 0)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let good = [
            ("seq", self.seq >= 0),
            ("ledger_id", self.ledger_id.as_deref().is_none_or(|id| !id.is_empty() && is_short_text(id))),
            ("leader_ts", self.leader_ts.as_deref().is_none_or(|at| Timestamp::parse(at).is_some())),
            ("taken_at", self.taken_at().is_some()),
            ("key", is_sibling(&self.key)),
            // Sizes of files and offsets in them have 63 bits.
            ("bytes", i64::try_from(self.bytes).is_ok()),
            ("sha256", is_sha256(&self.sha256)),
            ("sha1", self.sha1.is_empty() || is_sha1(&self.sha1)),
            ("stored_bytes", i64::try_from(self.stored_bytes).is_ok()),
            ("stored_sha256", is_sha256(&self.stored_sha256)),
            ("sqlite_version", is_short_text(&self.sqlite_version)),
            ("name of a table", self.tables.iter().all(|table| !table.name.is_empty() && is_short_text(&table.name))),
        ];
        good.into_iter().find(|(_, good)| !good).map_or(Ok(()), |(name, _)| Err(ManifestError::Bad(name)))
    }
}

/// The longest text of a member, in bytes, and so of an object's name: stores take keys of
/// 1,024 bytes.
const MAX_TEXT: usize = 1000;

/// A sibling of the manifest and nothing else, whatever it is opened with.
fn is_sibling(key: &str) -> bool {
    !key.is_empty() && is_short_text(key) && !key.contains(['/', '\\']) && key != "." && key != ".."
}

/// What can be shown in a line, and sent to a store.
fn is_short_text(text: &str) -> bool {
    text.len() <= MAX_TEXT && !text.chars().any(char::is_control)
}

fn is_sha1(text: &str) -> bool {
    BASE64.decode(text).is_ok_and(|sum| sum.len() == 20)
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        json!({
            "format_version": 1, "ledger_id": "a", "seq": 7, "leader_ts": null, "taken_at": "2026-01-01T00:00:00Z",
            "key": "a.db.7-0a1b2c3d", "compression": "none", "bytes": 1, "sha256": "0".repeat(64), "sha1": "",
            "stored_bytes": 1, "stored_sha256": "0".repeat(64), "sqlite_version": "3", "tables": [],
        })
    }

    #[test]
    fn no_member_of_a_hostile_manifest_gets_further_than_its_reading() {
        assert!(Manifest::parse(good().to_string().as_bytes()).is_ok());
        let long = "k".repeat(100_000);
        for (member, value) in [
            ("key", json!(long)),
            ("key", json!("../x")),
            ("key", json!("/etc/passwd")),
            ("key", json!("..")),
            ("key", json!("a\\b")),
            ("key", json!("a\u{0}b")),
            ("key", json!("a\r\nHost: x")),
            ("key", json!(["a"])),
            ("seq", json!(-1)),
            ("seq", json!(1e30)),
            ("seq", json!("7")),
            ("bytes", json!(u64::MAX)),
            ("stored_bytes", json!(-5)),
            ("sha256", json!("ab")),
            ("stored_sha256", json!("Z".repeat(64))),
            ("sha1", json!("short")),
            ("ledger_id", json!(long)),
            ("ledger_id", json!("a\nb")),
            ("leader_ts", json!("yesterday")),
            ("taken_at", json!("")),
            ("compression", json!("brotli")),
            ("sqlite_version", json!(long)),
            ("tables", json!([{"name": "a\u{7}", "rows": 1, "digest": "0".repeat(64)}])),
            ("tables", json!({})),
        ] {
            let mut manifest = good();
            manifest[member] = value;
            assert!(Manifest::parse(manifest.to_string().as_bytes()).is_err(), "{member} = {}", manifest[member]);
        }
        let deep = format!("{{\"format_version\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Manifest::parse(deep.as_bytes()).is_err());
        let ignored = format!("{{\"x\":{}{},\"format_version\":1}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Manifest::parse(ignored.as_bytes()).is_err());
    }
}
