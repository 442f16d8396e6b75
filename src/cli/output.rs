//! Standard output: tables and colours for a terminal, plain lines for a pipe,
//! JSON for programs. A reader that goes away (`| head`) ends the command quietly.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use anyhow::Context;
use serde::Serialize;

/// Standard output was closed by whoever read it.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub struct Closed;

/// The longest cell on a terminal, in characters.
const MAX_CELL_CHARS: usize = 60;
const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// Whether standard output may be coloured.
fn has_colours() -> bool {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    wanted && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Buffered standard output.
pub struct Out {
    to: BufWriter<StdoutLock<'static>>,
    is_terminal: bool,
}

impl Out {
    pub fn new() -> Self {
        let stdout = io::stdout();
        Self { is_terminal: stdout.is_terminal(), to: BufWriter::new(stdout.lock()) }
    }

    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    pub fn text(&mut self, text: &str) -> anyhow::Result<()> {
        written(self.to.write_all(text.as_bytes()))
    }

    pub fn line(&mut self, line: &str) -> anyhow::Result<()> {
        written(writeln!(self.to, "{line}"))
    }

    /// One JSON document on a line of its own.
    pub fn json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string(value).context("json")?;
        self.line(&text)
    }

    /// Values with tabs between them, what would break the line escaped.
    pub fn tabbed(&mut self, cells: &[&str]) -> anyhow::Result<()> {
        let cells: Vec<String> = cells.iter().map(|cell| printable(cell)).collect();
        self.line(&cells.join("\t"))
    }

    /// On a terminal `text` in red, elsewhere as it is.
    pub fn alarming(&self, text: &str) -> String {
        if self.is_terminal && has_colours() { format!("{RED}{text}{PLAIN}") } else { text.to_owned() }
    }

    /// Must be called at the end: what is still buffered may not be written.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        written(self.to.flush())
    }
}

fn written(outcome: io::Result<()>) -> anyhow::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        outcome => outcome.context("standard output"),
    }
}

/// One line that a command has to say.
pub fn say(line: &str) -> anyhow::Result<()> {
    let mut out = Out::new();
    out.line(line)?;
    out.flush()
}

/// One JSON document that a command has to say.
pub fn say_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = Out::new();
    out.json(value)?;
    out.flush()
}

/// A line for people beside what is printed. Standard error may be closed or full.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "ctlstore: {line}");
}

/// Text without characters that would steer a terminal or break a line.
pub fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len() + 8), |mut out, c| {
        if c.is_control() {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
        out
    })
}

/// Rows under headings.
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// How a table is written where there is no terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piped {
    /// With tabs between the values and no headings.
    Tabs,
    /// With headings, as the original's commands print their tables.
    Aligned,
    /// The same without headings.
    Bare,
}

impl Table {
    pub fn new<H: Into<String>>(headings: impl IntoIterator<Item = H>) -> Self {
        Self { headings: headings.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    pub fn row<C: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(|cell| printable(cell.as_ref())).collect());
    }

    pub fn write(mut self, out: &mut Out, piped: Piped) -> anyhow::Result<()> {
        if out.is_terminal {
            self.rows.iter_mut().flatten().for_each(cut);
        } else if piped == Piped::Tabs {
            return self.rows.iter().try_for_each(|row| out.line(&row.join("\t")));
        }
        let widths = self.widths(piped == Piped::Bare);
        if piped != Piped::Bare {
            let headings = aligned(&self.headings, &widths);
            match out.is_terminal {
                true if has_colours() => out.line(&format!("{BOLD}{headings}{PLAIN}"))?,
                true => out.line(&headings)?,
                false => {
                    let dashes: Vec<String> = self.headings.iter().map(|h| "-".repeat(h.chars().count())).collect();
                    out.line(&headings)?;
                    out.line(&aligned(&dashes, &widths))?;
                }
            }
        }
        self.rows.iter().try_for_each(|row| out.line(&aligned(row, &widths)))
    }

    fn widths(&self, bare: bool) -> Vec<usize> {
        let mut widths: Vec<usize> =
            self.headings.iter().map(|heading| if bare { 0 } else { heading.chars().count() }).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

fn cut(cell: &mut String) {
    if let Some((at, _)) = cell.char_indices().nth(MAX_CELL_CHARS) {
        cell.truncate(at);
        cell.push('…');
    }
}

fn aligned(cells: &[String], widths: &[usize]) -> String {
    let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
    padded.join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        assert_eq!(printable("a\tb\x1b[2J\nc\u{9b}d"), "a\\tb\\u{1b}[2J\\nc\\u{9b}d");
        assert_eq!(printable("näh"), "näh");
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut table = Table::new(["A", "LONGER"]);
        table.row(["wide cell", "x"]);
        assert_eq!(table.widths(false), [9, 6]);
        assert_eq!(table.widths(true), [9, 1]);
        assert_eq!(aligned(&table.rows[0], &[9, 6]), "wide cell  x");
    }
}
