//! An event of the change feed as a line: coloured columns on a terminal, values with
//! tabs between them in a pipe, JSON for programs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use ctlstore_core::schema::FieldType;

use super::super::output::{Colour, Out, cut, printable};
use super::events::Event;

/// On a terminal, so that most lines stand below one another: seq, what, family, table.
const WIDTHS: [usize; 4] = [8, 7, 10, 10];

/// What the events of the feed have in common; which is there depends on the event.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Data<'e> {
    pub ledger_seq: i64,
    family: Option<String>,
    table: Option<String>,
    #[serde(default)]
    key: Vec<Column>,
    op: Option<String>,
    /// What happened to all of a table.
    change: Option<String>,
    pub reason: Option<String>,
    /// A row that is gone is `null`, one that was not asked for is not there.
    #[serde(borrow, default, deserialize_with = "present")]
    row: Option<&'e RawValue>,
}

/// As it is where it is there, also `null`.
fn present<'de, D: Deserializer<'de>>(json: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(json).map(Some)
}

#[derive(Debug, Deserialize)]
struct Column {
    #[serde(rename = "type")]
    declared: String,
    value: Value,
}

#[derive(Serialize)]
struct Line<'e> {
    event: &'e str,
    id: Option<&'e str>,
    data: &'e RawValue,
}

/// Writes the event as one JSON object: its name, its id, and its data as they came.
pub fn json(out: &mut Out, event: &Event, data: &RawValue) -> anyhow::Result<()> {
    out.json(&Line { event: &event.name, id: event.id.as_deref(), data })
}

/// Writes the event for people, or for a pipe.
pub fn line(out: &mut Out, event: &Event, data: &Data<'_>) -> anyhow::Result<()> {
    let what = match event.name.as_str() {
        "change" => data.op.as_deref().unwrap_or("change"),
        "table" => data.change.as_deref().unwrap_or("table"),
        other => other,
    };
    let (family, table) = (data.family.as_deref().unwrap_or("-"), data.table.as_deref().unwrap_or("-"));
    let key: Vec<String> = data.key.iter().map(Column::shown).collect();
    let tail = data.reason.clone().unwrap_or_else(|| key.join(", "));
    let (seq, row) = (data.ledger_seq.to_string(), data.row.map(RawValue::get));
    if !out.is_terminal() {
        let cells = [Some(seq.as_str()), Some(what), Some(family), Some(table), Some(&tail), row];
        return out.tabbed(&cells.into_iter().flatten().collect::<Vec<_>>());
    }
    let [seq_width, what_width, family_width, table_width] = WIDTHS;
    let mut behind = format!("{family:family_width$}  {table:table_width$}  {}", printable(&tail));
    if let Some(row) = row {
        behind.push_str("  ");
        behind.push_str(&printable(row));
    }
    let before = seq_width + what_width + 4;
    cut(&mut behind, out.columns().saturating_sub(before).max(before));
    let what = out.coloured(colour(&event.name, what), &format!("{what:what_width$}"));
    out.line(&format!("{seq:>seq_width$}  {what}  {behind}"))
}

fn colour(name: &str, what: &str) -> Colour {
    match (name, what) {
        ("resync", _) => Colour::Red,
        ("table", _) => Colour::Yellow,
        (_, "delete") => Colour::Magenta,
        _ => Colour::Green,
    }
}

impl Column {
    /// Bytes as `0x…`, as elsewhere, text as it is.
    fn shown(&self) -> String {
        let Value::String(text) = &self.value else { return self.value.to_string() };
        let is_bytes = FieldType::from_column_type(&self.declared).is_some_and(FieldType::is_bytes);
        match STANDARD.decode(text) {
            Ok(bytes) if is_bytes => format!("0x{}", hex::encode(bytes)),
            _ => text.clone(),
        }
    }
}
