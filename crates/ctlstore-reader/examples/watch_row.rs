//! Prints a row of the LDB, and prints it again whenever it changes.
//!
//! ```text
//! cargo run -p ctlstore-reader --example watch_row -- data/ldb.db shop flags dark-mode
//! ```
//!
//! Each value after the table's name is a key column. With `--once` the program ends after the first
//! print.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use ctlstore_reader::{ReadError, Reader, Seq, Value};

/// The longest wait before the row is read again. Another LDB with a smaller seq may have replaced
/// this one, so the awaited seq may not come.
const WAIT: Duration = Duration::from_secs(5);

type Row = BTreeMap<String, Value>;

fn main() -> Result<(), Box<dyn Error>> {
    let (flags, words): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|word| word == "--once");
    let [path, family, table, key @ ..] = words.as_slice() else {
        return Err("usage: watch_row LDB FAMILY TABLE KEY... [--once]".into());
    };
    let reader = Reader::open(path)?;
    let (mut seq, mut row) = read(&reader, family, table, key)?;
    show(seq, row.as_ref());
    while flags.is_empty() {
        match reader.wait_for(Seq(seq.0 + 1), WAIT) {
            Ok(_) | Err(ReadError::SeqNotReached { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let (new_seq, new_row) = read(&reader, family, table, key)?;
        if new_row != row {
            show(new_seq, new_row.as_ref());
        }
        seq = new_seq;
        row = new_row;
    }
    Ok(())
}

/// The row and the LDB's seq, both at one point in time.
fn read(reader: &Reader, family: &str, table: &str, key: &[String]) -> Result<(Seq, Option<Row>), ReadError> {
    reader.read_transaction(|transaction| Ok((transaction.last_seq()?, transaction.get(family, table, key)?)))
}

fn show(seq: Seq, row: Option<&Row>) {
    match row {
        None => println!("{seq}: no such row"),
        Some(row) => {
            let columns: Vec<_> = row.iter().map(|(name, value)| format!("{name}={}", shown(value))).collect();
            println!("{seq}: {}", columns.join(" "));
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Integer(integer) => integer.to_string(),
        Value::Real(real) => real.to_string(),
        Value::Text(text) => format!("{text:?}"),
        Value::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
