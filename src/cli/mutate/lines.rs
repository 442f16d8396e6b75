//! Reads NDJSON: line by line, each with a bounded length and its number. Entry points:
//! [`MutationLines`], and [`mutation`] for one line. A thread reads ahead, so that a signal ends the
//! command even while the input is silent.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::thread;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::http::json_error::explain_part;

use super::super::failure::Failure;

/// The longest line, in bytes. A request may have less.
const MAX_LINE: u64 = 2 * 1024 * 1024;
/// Lines that are read ahead.
const AHEAD: usize = 16;

/// The lines of a file or of standard input, without empty ones.
pub struct MutationLines {
    read: mpsc::Receiver<anyhow::Result<Option<Line>>>,
    number: u64,
}

struct Line {
    number: u64,
    text: String,
}

impl MutationLines {
    /// "-" is standard input.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let from: Box<dyn Read + Send> = if path == Path::new("-") {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(path).map_err(|error| not_opened(path, &error))?)
        };
        let (sender, read) = mpsc::channel(AHEAD);
        let mut input = Input { from: BufReader::new(from), number: 0 };
        let reading = move || {
            loop {
                let next = input.next();
                let is_last = !matches!(next, Ok(Some(_)));
                // The command has ended, or the input has.
                if sender.blocking_send(next).is_err() || is_last {
                    return;
                }
            }
        };
        thread::Builder::new().name("input".to_owned()).spawn(reading).context("the input's thread")?;
        Ok(Self { read, number: 0 })
    }

    /// The next line without its end; `None` after the last one. Dropping the future loses no line.
    pub async fn next(&mut self) -> anyhow::Result<Option<String>> {
        // The input's end is a message too, so that it differs from a thread that has ended.
        let Some(read) = self.read.recv().await else { bail!("the input was read to its end already") };
        Ok(read?.map(|line| {
            self.number = line.number;
            line.text
        }))
    }

    /// A failure of the line that was read last.
    pub fn wrong(&self, why: impl std::fmt::Display) -> Failure {
        wrong(self.number, why)
    }
}

fn not_opened(path: &Path, error: &io::Error) -> Failure {
    let message = format!("{}: {error}", path.display());
    if error.kind() == io::ErrorKind::NotFound { Failure::absent(message) } else { Failure::usage(message) }
}

fn wrong(number: u64, why: impl std::fmt::Display) -> Failure {
    Failure::refused(format!("line {number}: {why}"))
}

struct Input {
    from: BufReader<Box<dyn Read + Send>>,
    number: u64,
}

impl Input {
    fn next(&mut self) -> anyhow::Result<Option<Line>> {
        loop {
            let mut line = Vec::new();
            let read = (&mut self.from).take(MAX_LINE).read_until(b'\n', &mut line).context("input")?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            let number = self.number;
            if line.len() as u64 >= MAX_LINE {
                return Err(wrong(number, "is too long").into());
            }
            let line = String::from_utf8(line).map_err(|_| wrong(number, "is not utf-8"))?;
            let text = line.trim();
            if !text.is_empty() {
                return Ok(Some(Line { number, text: text.to_owned() }));
            }
        }
    }
}

/// A mutation as one line has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MutationLine {
    table: Option<String>,
    #[serde(default)]
    delete: bool,
    values: Box<RawValue>,
}

/// The mutation of a line as JSON for the executive. `table` is used if the line names none.
pub fn mutation(line: &str, table: Option<&str>) -> Result<String, String> {
    let mutation: MutationLine = serde_json::from_str(line).map_err(|error| explain_part(&error))?;
    let table = mutation.table.as_deref().or(table).ok_or("names no table, and neither does --table")?;
    let table = serde_json::to_string(table).map_err(|error| error.to_string())?;
    Ok(format!(r#"{{"table":{table},"delete":{},"values":{}}}"#, mutation.delete, mutation.values.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_mutation_and_keeps_its_digits() {
        let line = r#"{"table":"t1x","values":{"id":9223372036854775807,"x":1.10}}"#;
        assert_eq!(
            mutation(line, None).unwrap(),
            r#"{"table":"t1x","delete":false,"values":{"id":9223372036854775807,"x":1.10}}"#
        );
        assert_eq!(
            mutation(r#"{"delete":true,"values":{}}"#, Some("t2x")).unwrap(),
            r#"{"table":"t2x","delete":true,"values":{}}"#
        );
        for wrong in ["", "[]", "{}", r#"{"table":"t1x"}"#, r#"{"values":{}}"#, r#"{"table":"t1x","valeus":{}}"#] {
            assert!(mutation(wrong, None).is_err(), "{wrong}");
        }
    }
}
