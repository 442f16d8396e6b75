//! Events as they go over the wire, in the format of server-sent events.

use serde_json::json;
use serde_json::value::RawValue;

use ctlstore_core::ledger::Seq;
use ctlstore_ldb::changelog::history::{Op, Record, TableChange, What};

/// How long a client waits before it connects again, in milliseconds.
const RETRY: &str = "retry: 1000\n";

/// The row that a change is sent with.
pub enum Row {
    /// It was not asked for, or can't be said.
    Unknown,
    Deleted,
    /// As a JSON object.
    Now(Vec<u8>),
}

/// Writes the events of one history.
pub struct Events<'h> {
    pub history: &'h str,
    pub out: Vec<u8>,
}

impl<'h> Events<'h> {
    pub fn new(history: &'h str) -> Self {
        Self { history, out: Vec::new() }
    }

    /// The first event: where the client stands now.
    pub fn start(&mut self, last: u64, at: Seq) {
        self.text(RETRY);
        self.begin("start", last);
        self.data(&json!({ "ledgerSeq": at }).to_string());
    }

    /// What the client has of rows may be wrong.
    pub fn resync(&mut self, last: u64, reason: &str, at: Seq) {
        self.begin("resync", last);
        self.data(&json!({ "reason": reason, "ledgerSeq": at }).to_string());
    }

    /// A sign of life. The id without data moves the position of a client to whom
    /// nothing of what happened is sent, without being an event.
    pub fn heartbeat(&mut self, last: u64) {
        self.text(": heartbeat\n");
        self.id(last);
        self.text("\n");
    }

    pub fn record(&mut self, record: &Record, row: &Row) {
        match &record.what {
            What::Row { op, family, table, key } => {
                self.begin("change", record.number);
                self.row((family, table), key, *op, record.ledger_seq, row);
            }
            What::Table { change, family, table } => {
                self.begin("table", record.number);
                self.table(*change, family, table, record.ledger_seq);
            }
            What::Resync { reason } => self.resync(record.number, reason, record.ledger_seq),
        }
    }

    fn row(&mut self, (family, table): (&str, &str), key: &RawValue, op: Option<Op>, seq: Seq, row: &Row) {
        let (family, table) = (json!(family), json!(table));
        self.text(&format!("data: {{\"family\":{family},\"table\":{table},\"key\":{key},\"ledgerSeq\":{seq}"));
        if let Some(op) = op {
            self.text(&format!(",\"op\":{}", json!(op)));
        }
        match row {
            Row::Unknown => {}
            Row::Deleted => self.text(",\"row\":null"),
            Row::Now(object) => {
                self.text(",\"row\":");
                self.out.extend_from_slice(object);
            }
        }
        self.text("}\n\n");
    }

    fn table(&mut self, change: TableChange, family: &str, table: &str, seq: Seq) {
        self.data(&json!({ "family": family, "table": table, "change": change, "ledgerSeq": seq }).to_string());
    }

    fn begin(&mut self, event: &str, number: u64) {
        self.id(number);
        self.text(&format!("event: {event}\n"));
    }

    fn id(&mut self, number: u64) {
        self.text(&format!("id: {}-{number}\n", self.history));
    }

    /// JSON holds no line feed but an escaped one.
    fn data(&mut self, json: &str) {
        self.text(&format!("data: {json}\n\n"));
    }

    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }
}
