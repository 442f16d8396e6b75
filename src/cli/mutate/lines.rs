//! NDJSON in: one line after the other, each of bounded length, with its number.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::failure::Failure;

/// The longest line, in bytes: more than a request may have.
const MAX_LINE: u64 = 2 * 1024 * 1024;

/// The lines of a file or of standard input; empty ones are left out.
pub struct Lines {
    from: Box<dyn BufRead>,
    number: u64,
}

impl Lines {
    /// "-" is standard input.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let from: Box<dyn BufRead> = match path == Path::new("-") {
            true => Box::new(io::stdin().lock()),
            false => {
                let file = File::open(path).map_err(|error| {
                    let message = format!("{}: {error}", path.display());
                    if error.kind() == io::ErrorKind::NotFound {
                        Failure::absent(message)
                    } else {
                        Failure::usage(message)
                    }
                })?;
                Box::new(BufReader::new(file))
            }
        };
        Ok(Self { from, number: 0 })
    }

    /// The next line without its end, `None` behind the last.
    pub fn next(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            let mut line = Vec::new();
            let read = (&mut self.from).take(MAX_LINE).read_until(b'\n', &mut line).context("input")?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if line.len() as u64 >= MAX_LINE {
                return Err(self.wrong("is too long").into());
            }
            let line = String::from_utf8(line).map_err(|_| self.wrong("is not utf-8"))?;
            let line = line.trim();
            if !line.is_empty() {
                return Ok(Some(line.to_owned()));
            }
        }
    }

    /// What is wrong with the line that was read last.
    pub fn wrong(&self, why: impl std::fmt::Display) -> Failure {
        Failure::refused(format!("line {}: {why}", self.number))
    }
}

/// A mutation as a line has it, and as the executive takes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutation {
    table: Option<String>,
    #[serde(default)]
    delete: bool,
    values: Box<RawValue>,
}

/// The mutation of a line as JSON for the executive; `table` stands in where the
/// line names none.
pub fn mutation(line: &str, table: Option<&str>) -> Result<String, String> {
    let mutation: Mutation = serde_json::from_str(line).map_err(|error| error.to_string())?;
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
