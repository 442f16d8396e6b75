//! How far a prune is: a bar on a terminal, now and then a line elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::executive::PruneOutcome;

const PRUNING: &str = "{bar:30} {human_pos}/{human_len} rows, {per_sec}, {eta} left";
/// Between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// A bar on a terminal, and nothing elsewhere.
fn bar(template: &str, length: u64) -> Option<ProgressBar> {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    io::stderr().is_terminal().then(|| ProgressBar::new(length).with_style(style))
}

/// Nobody may be reading; the work goes on all the same.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// How far a prune is.
pub struct Pruning {
    bar: Option<ProgressBar>,
    rows: u64,
    said: Instant,
}

impl Pruning {
    /// `rows` are to go.
    pub fn new(rows: u64) -> Self {
        Self { bar: bar(PRUNING, rows), rows, said: Instant::now() }
    }

    pub fn show(&mut self, so_far: &PruneOutcome) {
        match &self.bar {
            Some(bar) => bar.set_position(so_far.rows),
            None if self.said.elapsed() >= LINE_INTERVAL => {
                self.said = Instant::now();
                let low_water = so_far.low_water.unwrap_or_default();
                say(&format!(
                    "{} of {} ledger rows deleted, row {low_water} is the first left",
                    so_far.rows, self.rows
                ));
            }
            None => {}
        }
    }

    pub fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
