//! The manifest `<key>.json` beside a snapshot. It names the ledger and the seq, the object
//! that holds the data, and the hashes of its bytes. Pure: it opens no store and no file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_core::schema::Timestamp;

use super::digest::TableDigest;
use super::store::ExpectedObject;

/// The newest form that this program knows.
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
    /// Tells the compression by the ending of the key.
    pub fn of(key: &str) -> Self {
        match key.rsplit_once('.') {
            Some((_, "gz")) => Self::Gzip,
            Some((_, "zst")) => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// The content of a manifest. Members that it does not know are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format_version: u32,
    pub ledger_id: Option<String>,
    pub seq: i64,
    /// As the LDB writes it: `2006-01-02 15:04:05.ffffff+00:00`.
    pub leader_ts: Option<String>,
    /// RFC 3339, UTC.
    pub taken_at: String,
    /// The name of the object beside the manifest that holds this very snapshot, as long as the
    /// manifest names it.
    pub key: String,
    pub compression: Compression,
    /// The size of the uncompressed file. The next two are its hashes.
    pub bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
    /// Standard base64, as in the metadata `checksum`.
    pub sha1: String,
    /// The size of the object under `key`. The next one is its hash.
    pub stored_bytes: u64,
    pub stored_sha256: String,
    pub sqlite_version: String,
    /// The user's tables, by name.
    pub tables: Vec<TableDigest>,
}

/// Why a text is no manifest.
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
    /// The most bytes of a manifest, enough for tens of thousands of tables.
    pub const MAX_BYTES: u64 = 16 << 20;

    /// The name of the manifest of the snapshot that is named `key`.
    pub fn name_of(key: &str) -> String {
        format!("{key}.json")
    }

    /// The demands on the object under `key`.
    pub(super) fn stored_object(&self) -> ExpectedObject<'_> {
        ExpectedObject { bytes: self.stored_bytes, sha256: &self.stored_sha256, checksum: &self.sha1 }
    }

    /// Reads a manifest of any writer, and checks every member.
    ///
    /// # Errors
    /// For members that no reader of the manifest could use.
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
    /// None for a manifest that was parsed or made by this program.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }

    /// The position of the LDB that the snapshot is a copy of.
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

    /// Whether the snapshot has any row.
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
            // File sizes and file offsets have 63 bits.
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

/// The longest text of a member, in bytes, and so the longest name of an object. Stores take
/// keys of 1,024 bytes.
const MAX_TEXT: usize = 1000;

/// Whether the key is a sibling of the manifest, and nothing else by any way of opening it.
fn is_sibling(key: &str) -> bool {
    !key.is_empty() && is_short_text(key) && !key.contains(['/', '\\']) && key != "." && key != ".."
}

/// Whether the text fits into a line, and can be sent to a store.
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
