//! What there is to say of a snapshot, and what was checked of it.

use serde::Serialize;

use ctlstore_ldb::snapshot::fetch::Fetched;
use ctlstore_ldb::snapshot::{Manifest, TableDigest};

use super::super::output::{Out, Piped, Table, size};

/// The JSON of `snapshot inspect`, in the member `snapshot`.
#[derive(Debug, Serialize)]
pub struct SnapshotReport<'a> {
    seq: i64,
    ledger_id: Option<&'a str>,
    bytes: u64,
    stored_bytes: u64,
    /// `None` for a snapshot without one, such as the original's.
    manifest: Option<&'a Manifest>,
    /// What each table holds: as it was found, or as the manifest says where that is all that was read.
    tables: &'a [TableDigest],
    #[serde(skip)]
    seen: Seen,
}

/// How much of it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    ManifestAlone,
    /// All; and whether the original's checksum was there to compare with.
    Everything {
        has_checksum: bool,
    },
}

/// One of the checks that a snapshot passes before anyone uses it.
#[derive(Debug, Serialize)]
pub struct Check {
    check: &'static str,
    outcome: Outcome,
    /// What it was compared with; null where that is nothing.
    with: Option<&'static str>,
}

/// A check that fails is an error, and the snapshot's facts are not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Passed,
    /// There is nothing to compare with.
    Impossible,
    NotMade,
}

const MANIFEST: &str = "manifest";
const CHECKSUM: &str = "checksum";

impl<'a> SnapshotReport<'a> {
    pub fn of_manifest(manifest: &'a Manifest) -> Self {
        Self {
            seq: manifest.seq,
            ledger_id: manifest.ledger_id.as_deref(),
            bytes: manifest.bytes,
            stored_bytes: manifest.stored_bytes,
            manifest: Some(manifest),
            tables: &manifest.tables,
            seen: Seen::ManifestAlone,
        }
    }

    pub fn of_fetched(fetched: &'a Fetched) -> Self {
        Self {
            seq: fetched.position.seq.0,
            ledger_id: fetched.position.ledger_id.as_deref(),
            bytes: fetched.bytes,
            stored_bytes: fetched.stored_bytes,
            manifest: fetched.manifest.as_ref(),
            tables: &fetched.tables,
            seen: Seen::Everything { has_checksum: fetched.has_checksum },
        }
    }

    /// In the order in which they are made.
    pub fn checks(&self) -> Vec<Check> {
        let with_manifest = self.manifest.map(|_| MANIFEST);
        let with_digests = with_manifest.filter(|_| self.manifest.is_some_and(|said| !said.tables.is_empty()));
        let with_checksum = (self.seen == Seen::Everything { has_checksum: true }).then_some(CHECKSUM);
        let by_itself = Some("itself");
        let check = |check, with: Option<&'static str>| {
            let outcome = match (self.seen, with) {
                (Seen::ManifestAlone, _) => Outcome::NotMade,
                (_, Some(_)) => Outcome::Passed,
                (_, None) => Outcome::Impossible,
            };
            Check { check, outcome, with }
        };
        vec![
            check("sizes and hashes", with_manifest.or(with_checksum)),
            check("quick_check", by_itself),
            check("tables of an ldb", by_itself),
            check("seq and ledger", with_manifest),
            check("rows and digests", with_digests),
        ]
    }

    pub fn write(&self, out: &mut Out, url: &str) -> anyhow::Result<()> {
        self.facts(url).write(out, Piped::Tabs)?;
        out.line("")?;
        let mut checks = Table::new(["CHECK", "OUTCOME"]);
        for check in self.checks() {
            checks.row([check.check, &check.said()]);
        }
        checks.write(out, Piped::Tabs)?;
        if self.tables.is_empty() {
            return Ok(());
        }
        out.line("")?;
        let mut tables = Table::new(["TABLE", "ROWS", "DIGEST"]);
        for TableDigest { name, rows, digest } in self.tables {
            tables.row([name.as_str(), &rows.to_string(), digest.as_ref()]);
        }
        tables.write(out, Piped::Tabs)
    }

    fn facts(&self, url: &str) -> Table {
        let mut facts = Table::new(["SNAPSHOT", ""]).whole();
        facts.row(["url", url]);
        facts.row(["seq", &self.seq.to_string()]);
        facts.row(["ledger", self.ledger_id.unwrap_or("without an id")]);
        facts.row(["size", &size(self.bytes)]);
        facts.row(["stored size", &size(self.stored_bytes)]);
        match self.manifest {
            Some(manifest) => {
                facts.row(["taken at", &manifest.taken_at]);
                facts.row(["last change at", manifest.leader_ts.as_deref().unwrap_or("unknown")]);
                facts.row(["key", &manifest.key]);
                facts.row(["sha-256", &manifest.sha256]);
                facts.row(["sqlite", &manifest.sqlite_version]);
            }
            None => facts.row(["manifest", "none"]),
        }
        facts
    }
}

impl Check {
    fn said(&self) -> String {
        match (self.outcome, self.with) {
            (Outcome::Passed, Some(with @ (MANIFEST | CHECKSUM))) => format!("passed, as the {with} says"),
            (Outcome::Passed, _) => "passed".to_owned(),
            (Outcome::Impossible, _) => "nothing to compare with".to_owned(),
            (Outcome::NotMade, _) => "not made: only the manifest was read".to_owned(),
        }
    }
}
