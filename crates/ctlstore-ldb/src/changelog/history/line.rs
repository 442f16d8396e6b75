//! The lines of a segment file: JSON objects, so that people can read them too.
//!
//! - `{"n":7,"op":"upsert","family":"fam","table":"tab","key":[…],"ledgerSeq":4711}`: a row.
//! - `{"n":8,"change":"cleared","family":"fam","table":"tab","ledgerSeq":4712}`: a whole table.
//! - `{"n":9,"resync":"…","ledgerSeq":4713}`: changes that are not known.
//! - `{"until":4713}`: the end of a transaction's group, with its last ledger seq.
//! - `{"commit":4713}`: the transaction has committed. `"ledger"` is added when the LDB's ledger
//!   became known. `"seen":4720` is added when the LDB went back: seqs up to that one are given
//!   again, perhaps to other rows.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use ctlstore_core::ledger::Seq;

/// The kind of a row's change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// It was inserted, or it replaced another row of its key.
    Upsert,
    Delete,
}

/// The kind of a change of a whole table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableChange {
    /// All its rows are gone.
    Cleared,
    /// It is gone, with its rows.
    Dropped,
    /// It has another column, so all its rows look different.
    Altered,
    /// More rows changed than are named. It has to be read again.
    Many,
}

/// One change.
#[derive(Debug, Clone)]
pub struct Record {
    /// Counts the records of a history.
    pub number: u64,
    /// The ledger row that made the change, or the seq of the snapshot that replaced the LDB.
    pub ledger_seq: Seq,
    pub what: What,
}

/// The content of a record.
#[derive(Debug, Clone)]
pub enum What {
    Row {
        /// `None` if the statement does not say.
        op: Option<Op>,
        family: String,
        table: String,
        /// The key as in the changelog: an array of objects with name, type and value.
        key: Box<RawValue>,
    },
    Table {
        change: TableChange,
        family: String,
        table: String,
    },
    /// Changes before this record are not known. Everything has to be read again.
    Resync {
        reason: String,
    },
}

/// Why clients have to start over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResyncReason {
    /// The LDB's seq is not the one that its history ends with.
    ChangedWithoutHistory,
    /// The LDB that takes the place is not as far as the one before.
    WentBack,
    OtherLedger,
    NotWritten,
    /// One transaction had more changes than the history takes.
    TooLarge,
    /// A statement changed rows that can't be named.
    UnknownRows,
}

impl ResyncReason {
    /// The text that clients get.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::ChangedWithoutHistory => "the local database was changed without its history",
            Self::WentBack => "an earlier local database took the place of this one",
            Self::OtherLedger => "the local database follows another ledger",
            Self::NotWritten => "changes could not be written to the history",
            Self::TooLarge => "one transaction had more changes than are kept",
            Self::UnknownRows => "a statement changed rows that it does not name",
        }
    }
}

impl Record {
    /// The memory that it takes, in bytes, about.
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + match &self.what {
                What::Row { family, table, key, .. } => family.len() + table.len() + key.get().len(),
                What::Table { family, table, .. } => family.len() + table.len(),
                What::Resync { reason } => reason.len(),
            }
    }
}

/// A line that was read.
#[derive(Debug)]
pub(super) enum Line {
    Record(Record),
    Until(Seq),
    Commit { at: Seq, ledger: Option<String>, seen: Option<Seq> },
}

#[derive(Deserialize)]
struct Members<'l> {
    n: Option<u64>,
    op: Option<Op>,
    #[serde(borrow)]
    family: Option<Cow<'l, str>>,
    #[serde(borrow)]
    table: Option<Cow<'l, str>>,
    #[serde(borrow)]
    key: Option<&'l RawValue>,
    change: Option<TableChange>,
    resync: Option<String>,
    #[serde(rename = "ledgerSeq")]
    ledger_seq: Option<Seq>,
    until: Option<Seq>,
    commit: Option<Seq>,
    ledger: Option<String>,
    seen: Option<Seq>,
}

impl Line {
    /// `None` if this is no line of a history.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let members: Members<'_> = serde_json::from_slice(line).ok()?;
        if let Some(at) = members.commit {
            return Some(Self::Commit { at, ledger: members.ledger, seen: members.seen });
        }
        if let Some(until) = members.until {
            return Some(Self::Until(until));
        }
        let number = members.n?;
        let ledger_seq = members.ledger_seq?;
        let what = match (members.resync, members.family, members.table) {
            (Some(reason), _, _) => What::Resync { reason },
            (None, Some(family), Some(table)) => {
                let family = family.into_owned();
                let table = table.into_owned();
                match members.change {
                    Some(change) => What::Table { change, family, table },
                    None => What::Row { op: members.op, family, table, key: members.key?.to_owned() },
                }
            }
            _ => return None,
        };
        Some(Self::Record(Record { number, ledger_seq, what }))
    }

    /// The number of the record in `line`. Reads only the beginning of the line.
    pub(super) fn number(line: &[u8]) -> Option<u64> {
        let digits = line.strip_prefix(b"{\"n\":")?;
        let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
        std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
    }
}

/// Appends the record of a row. `entry` is its changelog entry without the numbers.
pub(super) fn push_row(out: &mut Vec<u8>, number: u64, op: Option<Op>, entry: &[u8], ledger_seq: Seq) {
    push_number(out, number);
    match op {
        Some(Op::Upsert) => out.extend_from_slice(b"\"op\":\"upsert\","),
        Some(Op::Delete) => out.extend_from_slice(b"\"op\":\"delete\","),
        None => {}
    }
    out.extend_from_slice(entry);
    push_end(out, ledger_seq);
}

pub(super) fn push_table(out: &mut Vec<u8>, number: u64, change: TableChange, (family, table): (&str, &str), seq: Seq) {
    push_number(out, number);
    let members = format!(
        "\"change\":{},\"family\":{},\"table\":{}",
        serde_json::json!(change),
        serde_json::json!(family),
        serde_json::json!(table)
    );
    out.extend_from_slice(members.as_bytes());
    push_end(out, seq);
}

pub(super) fn push_resync(out: &mut Vec<u8>, number: u64, reason: ResyncReason, ledger_seq: Seq) {
    push_number(out, number);
    out.extend_from_slice(format!("\"resync\":{}", serde_json::json!(reason.as_str())).as_bytes());
    push_end(out, ledger_seq);
}

pub(super) fn push_until(out: &mut Vec<u8>, until: Seq) {
    out.extend_from_slice(format!("{{\"until\":{until}}}\n").as_bytes());
}

pub(super) fn push_commit(out: &mut Vec<u8>, at: Seq, ledger: Option<&str>) {
    let ledger = ledger.map(|id| format!(",\"ledger\":{}", serde_json::json!(id))).unwrap_or_default();
    out.extend_from_slice(format!("{{\"commit\":{at}{ledger}}}\n").as_bytes());
}

/// Appends the mark of an LDB that is at `at` and had reached `seen` before.
pub(super) fn push_back(out: &mut Vec<u8>, at: Seq, seen: Seq) {
    out.extend_from_slice(format!("{{\"commit\":{at},\"seen\":{seen}}}\n").as_bytes());
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(b"{\"n\":");
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.push(b',');
}

fn push_end(out: &mut Vec<u8>, ledger_seq: Seq) {
    out.extend_from_slice(b",\"ledgerSeq\":");
    out.extend_from_slice(itoa::Buffer::new().format(ledger_seq.0).as_bytes());
    out.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut out = Vec::new();
        let entry = br#""family":"fam","table":"tab","key":[{"name":"id","type":"INTEGER","value":1}]"#;
        push_row(&mut out, 7, Some(Op::Delete), entry, Seq(9));
        push_table(&mut out, 8, TableChange::Cleared, ("fam", "t\"b"), Seq(10));
        push_resync(&mut out, 9, ResyncReason::TooLarge, Seq(11));
        push_until(&mut out, Seq(11));
        push_commit(&mut out, Seq(11), Some("id"));
        let lines: Vec<_> = out.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect();
        assert_eq!(Line::number(lines[0]), Some(7));
        let shown: Vec<_> = lines.iter().map(|line| format!("{:?}", Line::parse(line).unwrap())).collect();
        assert!(shown[0].contains("op: Some(Delete)") && shown[0].contains("ledger_seq: Seq(9)"), "{shown:?}");
        assert!(shown[1].contains("Cleared") && shown[1].contains("t\\\"b"), "{shown:?}");
        assert!(shown[2].contains("more changes than are kept"), "{shown:?}");
        assert!(shown[3].contains("Until(Seq(11))"), "{shown:?}");
        assert!(shown[4].contains("Commit { at: Seq(11), ledger: Some(\"id\"), seen: None }"), "{shown:?}");
    }

    #[test]
    fn what_is_no_line_is_none() {
        for line in ["", "{}", "{\"n\":1}", "{\"n\":1,\"family\":\"f\",\"table\":\"t\",\"ledgerSeq\":1}", "\0\0\0"] {
            assert!(Line::parse(line.as_bytes()).is_none(), "{line:?}");
        }
        assert_eq!(Line::number(b"{\"commit\":1}"), None);
    }
}
