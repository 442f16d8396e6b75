//! Writes the feed's events in the format of server-sent events. Entry point: [`FeedEvents`].

use serde_json::json;
use serde_json::value::RawValue;

use ctlstore_core::ledger::Seq;
use ctlstore_ldb::changelog::history::{Op, Record, TableChange, What};

/// How long a client waits before it connects again, in milliseconds.
const RETRY: &str = "retry: 1000\n";

/// The row that a change is sent with.
pub enum EventRow {
    /// The client did not ask for it, or JSON can't say it.
    Unknown,
    Deleted,
    /// As a JSON object.
    Now(Vec<u8>),
}

/// Writes the events of one history.
pub struct FeedEvents<'h> {
    pub history: &'h str,
    pub out: Vec<u8>,
}

impl<'h> FeedEvents<'h> {
    pub fn new(history: &'h str) -> Self {
        Self { history, out: Vec::new() }
    }

    /// The first event: the client's position.
    pub fn start(&mut self, last: u64, at: Seq) {
        self.text(RETRY);
        self.begin("start", last);
        self.data(&json!({ "ledgerSeq": at }).to_string());
    }

    /// Tells the client that the rows it has may be wrong.
    pub fn resync(&mut self, last: u64, reason: &str, at: Seq) {
        self.begin("resync", last);
        self.data(&json!({ "reason": reason, "ledgerSeq": at }).to_string());
    }

    /// A sign of life. Its id without data is no event. It moves the position of a client that gets
    /// none of the changes.
    pub fn heartbeat(&mut self, last: u64) {
        self.text(": heartbeat\n");
        self.id(last);
        self.text("\n");
    }

    pub fn record(&mut self, record: &Record, row: &EventRow) {
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

    fn row(&mut self, (family, table): (&str, &str), key: &RawValue, op: Option<Op>, seq: Seq, row: &EventRow) {
        let family = json!(family);
        let table = json!(table);
        self.text(&format!("data: {{\"family\":{family},\"table\":{table},\"key\":{key},\"ledgerSeq\":{seq}"));
        if let Some(op) = op {
            self.text(&format!(",\"op\":{}", json!(op)));
        }
        match row {
            EventRow::Unknown => {}
            EventRow::Deleted => self.text(",\"row\":null"),
            EventRow::Now(object) => {
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

    /// Writes JSON in one line: it holds line feeds only as escapes.
    fn data(&mut self, json: &str) {
        self.text(&format!("data: {json}\n\n"));
    }

    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }
}
