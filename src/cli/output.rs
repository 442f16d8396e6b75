//! Standard output: tables and colours for a terminal, plain lines for a pipe, JSON for programs. Entry
//! points: [`Out`], [`OutputTable`], and [`say`] for one line. If the reader of a pipe goes away
//! (`| head`), the command ends quietly.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use anyhow::Context;
use serde::Serialize;

/// The reader of standard output has closed it.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub struct Closed;

/// The width of a terminal that does not tell its width.
const COLUMNS: usize = 80;
/// Spaces between two columns.
const GAP: usize = 2;
/// A column is not cut below this width, in characters.
const NARROW: usize = 8;
const PLAIN: &str = "\x1b[0m";

/// How a terminal shows a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Bold,
    Red,
    Green,
    Yellow,
    Magenta,
}

impl Colour {
    const fn code(self) -> &'static str {
        match self {
            Self::Bold => "\x1b[1m",
            Self::Red => "\x1b[31m",
            Self::Green => "\x1b[32m",
            Self::Yellow => "\x1b[33m",
            Self::Magenta => "\x1b[35m",
        }
    }
}

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

    /// Values with tabs between them; control characters are escaped.
    pub fn tabbed(&mut self, cells: &[&str]) -> anyhow::Result<()> {
        let cells: Vec<String> = cells.iter().map(|cell| printable(cell)).collect();
        self.line(&cells.join("\t"))
    }

    /// The terminal's width in characters.
    pub fn columns(&self) -> usize {
        terminal_size::terminal_size().map_or(COLUMNS, |(width, _)| usize::from(width.0)).max(1)
    }

    /// `text` in this colour on a terminal, and unchanged elsewhere.
    pub fn coloured(&self, colour: Colour, text: &str) -> String {
        let code = colour.code();
        if self.is_terminal && has_colours() { format!("{code}{text}{PLAIN}") } else { text.to_owned() }
    }

    /// `text` in red on a terminal, and unchanged elsewhere.
    pub fn alarming(&self, text: &str) -> String {
        self.coloured(Colour::Red, text)
    }

    /// Writes the rest of the buffer. It must be called at the end, since dropping hides errors.
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

/// Prints one line.
pub fn say(line: &str) -> anyhow::Result<()> {
    let mut out = Out::new();
    out.line(line)?;
    out.flush()
}

/// Prints one JSON document.
pub fn say_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = Out::new();
    out.json(value)?;
    out.flush()
}

/// Prints a line for people on standard error, which may be closed or full.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "ctlstore: {line}");
}

/// A number of bytes, for people.
pub fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).to_string()
}

/// Text whose control characters are escaped, so that it can't control a terminal or break a line.
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
pub struct OutputTable {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
    is_whole: bool,
}

/// How a table is written if standard output is no terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piped {
    /// With tabs between the values and no headings.
    Tabs,
    /// With headings, as the original's commands print their tables.
    Aligned,
    /// The same without headings.
    Bare,
}

impl OutputTable {
    pub fn new<H: Into<String>>(headings: impl IntoIterator<Item = H>) -> Self {
        Self { headings: headings.into_iter().map(Into::into).collect(), rows: Vec::new(), is_whole: false }
    }

    /// Lets long cells continue in the terminal's next line, instead of cutting them.
    pub fn whole(self) -> Self {
        Self { is_whole: true, ..self }
    }

    pub fn row<C: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(|cell| printable(cell.as_ref())).collect());
    }

    pub fn write(mut self, out: &mut Out, piped: Piped) -> anyhow::Result<()> {
        if !out.is_terminal && piped == Piped::Tabs {
            return self.rows.iter().try_for_each(|row| out.line(&row.join("\t")));
        }
        let mut widths = self.widths(piped == Piped::Bare);
        if out.is_terminal && !self.is_whole {
            fit(&mut widths, out.columns());
            for row in self.rows.iter_mut().chain([&mut self.headings]) {
                row.iter_mut().zip(&widths).for_each(|(cell, width)| cut(cell, *width));
            }
        }
        if piped != Piped::Bare {
            let headings = aligned(&self.headings, &widths);
            if out.is_terminal {
                out.line(&out.coloured(Colour::Bold, &headings))?;
            } else {
                let dashes: Vec<String> = self.headings.iter().map(|h| "-".repeat(h.chars().count())).collect();
                out.line(&headings)?;
                out.line(&aligned(&dashes, &widths))?;
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

/// Makes the widest columns narrower until the line fits, or all are as narrow as they may be.
fn fit(widths: &mut [usize], room: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(room);
    while excess > 0
        && let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > NARROW)
    {
        *widest -= 1;
        excess -= 1;
    }
}

/// Cuts a text to `most` characters, at least 1, and marks the cut.
pub fn cut(text: &mut String, most: usize) {
    if text.chars().nth(most).is_some()
        && let Some((at, _)) = text.char_indices().nth(most.saturating_sub(1))
    {
        text.truncate(at);
        text.push('…');
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
    fn what_controls_a_terminal_is_escaped() {
        assert_eq!(printable("a\tb\x1b[2J\nc\u{9b}d"), "a\\tb\\u{1b}[2J\\nc\\u{9b}d");
        assert_eq!(printable("näh"), "näh");
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut table = OutputTable::new(["A", "LONGER"]);
        table.row(["wide cell", "x"]);
        assert_eq!(table.widths(false), [9, 6]);
        assert_eq!(table.widths(true), [9, 1]);
        assert_eq!(aligned(&table.rows[0], &[9, 6]), "wide cell  x");
    }

    #[test]
    fn the_widest_columns_give_way_to_a_narrow_terminal() {
        let fitted = |widths: &[usize], room| {
            let mut widths = widths.to_vec();
            fit(&mut widths, room);
            widths
        };
        assert_eq!(fitted(&[10, 20], 32), [10, 20]);
        assert_eq!(fitted(&[10, 60, 60], 80), [10, 33, 33]);
        assert_eq!(fitted(&[5, 200], 10), [5, 8]);
        let mut text = "näh und fern".to_owned();
        cut(&mut text, 12);
        assert_eq!(text, "näh und fern");
        cut(&mut text, 3);
        assert_eq!(text, "nä…");
    }
}
