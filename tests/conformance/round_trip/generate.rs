//! Rows to write: every type, every plane of Unicode, what SQL quotes and what it might trip over, extremes of
//! numbers, empty and maximal sizes.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value};

/// The table's fields, the key among them not first and not in column order.
pub const FIELDS: [(&str, &str); 8] = [
    ("id", "string"),
    ("flag", "integer"),
    ("raw", "bytestring"),
    ("name", "string"),
    ("num", "integer"),
    ("real", "decimal"),
    ("body", "text"),
    ("data", "binary"),
];
pub const KEY: [&str; 3] = ["raw", "id", "flag"];
/// Where the key's columns stand in [`FIELDS`].
const KEY_COLUMNS: [usize; 3] = [0, 1, 2];

/// A value as every database holds it. Text is compared by its bytes, whatever type holds it.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Bytes(Vec<u8>),
}

/// All rows by their keys.
pub type Rows = BTreeMap<String, Vec<Cell>>;

/// One row, and how it is sent.
#[derive(Debug, Clone)]
pub struct Row {
    pub cells: [Cell; 8],
    /// Whether `num` is sent as a boolean.
    boolean: bool,
}

impl Row {
    /// A text that is one key's and no other's.
    pub fn key(&self) -> String {
        key_of(&self.cells)
    }

    pub fn json(&self) -> Value {
        self.members(0..FIELDS.len())
    }

    pub fn key_json(&self) -> Value {
        self.members(KEY_COLUMNS)
    }

    fn members(&self, columns: impl IntoIterator<Item = usize>) -> Value {
        let member = |column: usize| {
            let (name, field_type) = FIELDS[column];
            let value = match &self.cells[column] {
                Cell::Null => Value::Null,
                Cell::Integer(integer) if name == "num" && self.boolean => Value::from(*integer == 1),
                Cell::Integer(integer) => Value::from(*integer),
                Cell::Real(real) => Value::from(*real),
                Cell::Bytes(bytes) if matches!(field_type, "binary" | "bytestring") => STANDARD.encode(bytes).into(),
                Cell::Bytes(text) => String::from_utf8(text.clone()).expect("text").into(),
            };
            (name.to_owned(), value)
        };
        Value::Object(columns.into_iter().map(member).collect::<Map<_, _>>())
    }
}

pub fn key_of(cells: &[Cell]) -> String {
    format!("{:?}", &cells[..KEY_COLUMNS.len()])
}

/// The rows of one request.
pub fn rows(keys_end_in_spaces: bool) -> impl Strategy<Value = Vec<Row>> {
    vec(row(keys_end_in_spaces), 1..6)
}

fn row(keys_end_in_spaces: bool) -> impl Strategy<Value = Row> {
    let id = text(191).prop_map(move |text| {
        let text = text.replace('\0', "");
        if keys_end_in_spaces { text } else { text.trim_end_matches(' ').to_owned() }
    });
    let key = (id, integer(), vec(any::<u8>(), 0..40));
    let rest = (text(191), integer(), any::<bool>(), real(), text(600), vec(any::<u8>(), 0..600));
    (key, rest, any::<[bool; 5]>()).prop_map(|((id, flag, raw), (name, num, boolean, real, body, data), nulls)| {
        let or_null = |index: usize, cell: Cell| if nulls[index] && nulls[(index + 1) % 5] { Cell::Null } else { cell };
        let num = if boolean { num & 1 } else { num };
        let cells = [
            Cell::Bytes(id.into_bytes()),
            Cell::Integer(flag),
            Cell::Bytes(raw),
            or_null(0, Cell::Bytes(name.into_bytes())),
            or_null(1, Cell::Integer(num)),
            or_null(2, Cell::Real(real)),
            or_null(3, Cell::Bytes(body.into_bytes())),
            or_null(4, Cell::Bytes(data)),
        ];
        Row { cells, boolean }
    })
}

/// Up to `most` characters, weighted towards what is special to someone.
fn text(most: usize) -> impl Strategy<Value = String> {
    const SPECIAL: &[char] = &[
        '\'', '"', '\\', '`', '\0', '\n', '\r', '\t', '\u{1a}', '\u{7f}', '%', '_', ';', '-', ' ', 'x', '\u{feff}',
        '\u{2028}', '\u{fffd}', '\u{301}', 'ß', 'é', 'ı',
    ];
    let any_plane = (0..=16_u32, 0..0x1_0000_u32)
        .prop_filter_map("no surrogates", |(plane, offset)| char::from_u32(plane << 16 | offset));
    let character = prop_oneof![3 => prop::sample::select(SPECIAL), 2 => any_plane, 2 => any::<char>(), 1 => proptest::char::range(' ', '~')];
    vec(character, 0..=most).prop_map(|characters| characters.into_iter().collect())
}

fn integer() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), -3..4_i64, Just(i64::MIN), Just(i64::MAX), Just((1 << 53) + 1)]
}

fn real() -> impl Strategy<Value = f64> {
    let finite = any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |real| real.is_finite());
    let decimal = (any::<i32>(), -8..9_i32).prop_map(|(digits, exponent)| f64::from(digits) * 10_f64.powi(exponent));
    prop_oneof![3 => finite, 2 => decimal, 1 => prop::sample::select(REALS)]
}

const REALS: &[f64] = &[
    0.0,
    -0.0,
    f64::MAX,
    f64::MIN,
    f64::MIN_POSITIVE,
    5e-324,
    -5e-324,
    f64::EPSILON,
    1e15,
    1e16,
    1e22,
    1e23,
    1e65,
    1e66,
    1e100,
    0.1,
    1.0 / 3.0,
    9_007_199_254_740_993.0,
    2.225_073_858_507_201_4e-308,
];

/// Rows at the edges: each real, each size, everything null that may be.
pub fn extremes() -> Vec<Row> {
    let row = |number: usize, rest: [Cell; 5]| {
        let key = [Cell::Bytes(format!("row {number}").into_bytes()), Cell::Integer(0), Cell::Bytes(vec![])];
        let [id, flag, raw] = key;
        let [name, num, real, body, data] = rest;
        Row { cells: [id, flag, raw, name, num, real, body, data], boolean: false }
    };
    let empty = || [Cell::Bytes(vec![]), Cell::Integer(0), Cell::Real(0.0), Cell::Bytes(vec![]), Cell::Bytes(vec![])];
    let mut rests = vec![empty(), [Cell::Null, Cell::Null, Cell::Null, Cell::Null, Cell::Null]];
    for real in REALS {
        let [name, num, _, body, data] = empty();
        rests.push([name, num, Cell::Real(*real), body, data]);
    }
    let with = |column: usize, cell: Cell| {
        let mut rest = empty();
        rest[column] = cell;
        rest
    };
    rests.push(with(1, Cell::Integer(i64::MIN)));
    rests.push(with(1, Cell::Integer(i64::MAX)));
    rests.push(with(0, Cell::Bytes("\u{10ffff}".repeat(191).into_bytes())));
    rests.push(with(3, Cell::Bytes(vec![b'\''; 380 * 1024])));
    rests.push(with(3, Cell::Bytes("\u{1f600}".repeat(128 * 1024).into_bytes())));
    rests.push(with(3, Cell::Bytes(vec![0; 64 * 1024])));
    rests.push(with(4, Cell::Bytes((0..380 * 1024).map(|i| (i % 256) as u8).collect())));
    let mut rows: Vec<Row> = rests.into_iter().enumerate().map(|(number, rest)| row(number, rest)).collect();
    let mut longest = row(rows.len(), empty());
    longest.cells[0] = Cell::Bytes("\u{10000}".repeat(191).into_bytes());
    longest.cells[1] = Cell::Integer(i64::MIN);
    longest.cells[2] = Cell::Bytes(vec![0xff; 255]);
    rows.push(longest);
    rows
}
