//! Writes an event of the change feed as a line. Entry points: [`line`], for a terminal with coloured
//! columns or for a pipe with tabs between the values, and [`json`] for programs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use ctlstore_core::schema::FieldType;

use super::super::output::{Colour, Out, cut, printable};
use super::events::FeedEvent;

/// Column widths on a terminal, wide enough for most lines: seq, what, family, table.
const WIDTHS: [usize; 4] = [8, 7, 10, 10];

/// The data of an event. Which members are there depends on the event.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventData<'e> {
    pub ledger_seq: i64,
    family: Option<String>,
    table: Option<String>,
    #[serde(default)]
    key: Vec<KeyColumnJson>,
    op: Option<String>,
    /// The change of a whole table.
    change: Option<String>,
    pub reason: Option<String>,
    /// `null` for a row that was deleted; absent if rows were not asked for.
    #[serde(borrow, default, deserialize_with = "present")]
    row: Option<&'e RawValue>,
}

/// A member that is present, even if it is `null`.
fn present<'de, D: Deserializer<'de>>(json: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(json).map(Some)
}

#[derive(Debug, Deserialize)]
struct KeyColumnJson {
    #[serde(rename = "type")]
    declared: String,
    value: Value,
}

#[derive(Serialize)]
struct EventJson<'e> {
    event: &'e str,
    id: Option<&'e str>,
    data: &'e RawValue,
}

/// Writes the event as one JSON object: its name, its id, and its data unchanged.
pub fn json(out: &mut Out, event: &FeedEvent, data: &RawValue) -> anyhow::Result<()> {
    out.json(&EventJson { event: &event.name, id: event.id.as_deref(), data })
}

/// Writes the event for people, or for a pipe.
pub fn line(out: &mut Out, event: &FeedEvent, data: &EventData<'_>) -> anyhow::Result<()> {
    let what = match event.name.as_str() {
        "change" => data.op.as_deref().unwrap_or("change"),
        "table" => data.change.as_deref().unwrap_or("table"),
        other => other,
    };
    let family = data.family.as_deref().unwrap_or("-");
    let table = data.table.as_deref().unwrap_or("-");
    let key: Vec<String> = data.key.iter().map(KeyColumnJson::text).collect();
    let tail = data.reason.clone().unwrap_or_else(|| key.join(", "));
    let seq = data.ledger_seq.to_string();
    let row = data.row.map(RawValue::get);
    if !out.is_terminal() {
        let cells = [Some(seq.as_str()), Some(what), Some(family), Some(table), Some(&tail), row];
        return out.tabbed(&cells.into_iter().flatten().collect::<Vec<_>>());
    }
    let [seq_width, what_width, family_width, table_width] = WIDTHS;
    let mut rest = format!("{family:family_width$}  {table:table_width$}  {}", printable(&tail));
    if let Some(row) = row {
        rest.push_str("  ");
        rest.push_str(&printable(row));
    }
    let before = seq_width + what_width + 4;
    cut(&mut rest, out.columns().saturating_sub(before).max(before));
    let what = out.coloured(colour(&event.name, what), &format!("{what:what_width$}"));
    out.line(&format!("{seq:>seq_width$}  {what}  {rest}"))
}

fn colour(name: &str, what: &str) -> Colour {
    match (name, what) {
        ("resync", _) => Colour::Red,
        ("table", _) => Colour::Yellow,
        (_, "delete") => Colour::Magenta,
        _ => Colour::Green,
    }
}

impl KeyColumnJson {
    /// The value for people: bytes as `0x…`, text unchanged.
    fn text(&self) -> String {
        let Value::String(text) = &self.value else { return self.value.to_string() };
        let is_bytes = FieldType::from_column_type(&self.declared).is_some_and(FieldType::is_bytes);
        match STANDARD.decode(text) {
            Ok(bytes) if is_bytes => format!("0x{}", hex::encode(bytes)),
            _ => text.clone(),
        }
    }
}
