//! The report of `snapshot inspect`: facts about a snapshot, and its checks. Entry point:
//! [`SnapshotReport`].

use serde::Serialize;

use ctlstore_ldb::snapshot::fetch::Fetched;
use ctlstore_ldb::snapshot::{Manifest, TableDigest};

use super::super::output::{Out, OutputTable, Piped, size};

/// The JSON of `snapshot inspect`, in the member `snapshot`.
#[derive(Debug, Serialize)]
pub struct SnapshotReport<'a> {
    seq: i64,
    ledger_id: Option<&'a str>,
    bytes: u64,
    stored_bytes: u64,
    /// `None` for a snapshot without one, such as the original's.
    manifest: Option<&'a Manifest>,
    /// The rows and digest of each table, as found. If only the manifest was read, as it says.
    tables: &'a [TableDigest],
    #[serde(skip)]
    extent: Extent,
}

/// How much of the snapshot was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    ManifestAlone,
    /// All of it. `has_checksum` tells whether the original's checksum was there to compare with.
    Everything {
        has_checksum: bool,
    },
}

/// One of the checks that a snapshot must pass before it is used.
#[derive(Debug, Serialize)]
pub struct SnapshotCheck {
    check: &'static str,
    outcome: CheckOutcome,
    /// The thing that it was compared with, or null.
    with: Option<&'static str>,
}

/// The outcome of a check. A check that fails is an error instead, and nothing is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum CheckOutcome {
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
            extent: Extent::ManifestAlone,
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
            extent: Extent::Everything { has_checksum: fetched.has_checksum },
        }
    }

    /// The checks, in their order.
    pub fn checks(&self) -> Vec<SnapshotCheck> {
        let with_manifest = self.manifest.map(|_| MANIFEST);
        let with_digests = with_manifest.filter(|_| self.manifest.is_some_and(|said| !said.tables.is_empty()));
        let with_checksum = (self.extent == Extent::Everything { has_checksum: true }).then_some(CHECKSUM);
        let alone = Some("itself");
        let check = |check, with: Option<&'static str>| {
            let outcome = match (self.extent, with) {
                (Extent::ManifestAlone, _) => CheckOutcome::NotMade,
                (_, Some(_)) => CheckOutcome::Passed,
                (_, None) => CheckOutcome::Impossible,
            };
            SnapshotCheck { check, outcome, with }
        };
        vec![
            check("sizes and hashes", with_manifest.or(with_checksum)),
            check("quick_check", alone),
            check("tables of an ldb", alone),
            check("seq and ledger", with_manifest),
            check("rows and digests", with_digests),
        ]
    }

    pub fn write(&self, out: &mut Out, url: &str) -> anyhow::Result<()> {
        self.facts(url).write(out, Piped::Tabs)?;
        out.line("")?;
        let mut checks = OutputTable::new(["CHECK", "OUTCOME"]);
        for check in self.checks() {
            checks.row([check.check, &check.text()]);
        }
        checks.write(out, Piped::Tabs)?;
        if self.tables.is_empty() {
            return Ok(());
        }
        out.line("")?;
        let mut tables = OutputTable::new(["TABLE", "ROWS", "DIGEST"]);
        for TableDigest { name, rows, digest } in self.tables {
            tables.row([name.as_str(), &rows.to_string(), digest.as_ref()]);
        }
        tables.write(out, Piped::Tabs)
    }

    fn facts(&self, url: &str) -> OutputTable {
        let mut facts = OutputTable::new(["SNAPSHOT", ""]).whole();
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

impl SnapshotCheck {
    fn text(&self) -> String {
        match (self.outcome, self.with) {
            (CheckOutcome::Passed, Some(with @ (MANIFEST | CHECKSUM))) => format!("passed, as the {with} says"),
            (CheckOutcome::Passed, _) => "passed".to_owned(),
            (CheckOutcome::Impossible, _) => "nothing to compare with".to_owned(),
            (CheckOutcome::NotMade, _) => "not made: only the manifest was read".to_owned(),
        }
    }
}
