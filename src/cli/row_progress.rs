//! How far a long command is: a moving line on a terminal, now and then a plain
//! one elsewhere, always on standard error.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::output::note;

/// Between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// Where the end is known, and where it is not.
const CLOSED: &str = "{bar:30} {human_pos}/{human_len} {prefix}, {rate}/s, {eta} left {msg}";
const OPEN: &str = "{spinner} {human_pos} {prefix}, {rate}/s {msg}";
const TICK: Duration = Duration::from_millis(120);

pub struct RowProgress {
    what: &'static str,
    bar: Option<ProgressBar>,
    said: Instant,
    count: u64,
    total: Option<u64>,
}

impl RowProgress {
    /// `what` is counted, such as `rows written`; of so many, where that is known.
    pub fn start(what: &'static str, total: Option<u64>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = if total.is_some() { CLOSED } else { OPEN };
            let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.with_key("rate", rate));
            }
            bar.set_prefix(what);
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { what, bar, said: Instant::now(), count: 0, total }
    }

    pub fn at(&mut self, count: u64) {
        self.count = count;
        match &self.bar {
            Some(bar) => {
                bar.set_position(count);
                bar.set_message("");
            }
            None if self.said.elapsed() >= PLAIN_EVERY => self.plain(&self.counted()),
            None => {}
        }
    }

    /// Why it stands still.
    pub fn waiting(&mut self, why: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("({why})")),
            None => self.plain(&format!("{}, {why}", self.counted())),
        }
    }

    fn counted(&self) -> String {
        let total = self.total.map_or(String::new(), |total| format!(" of {total}"));
        format!("{}{total} {}", self.count, self.what)
    }

    fn plain(&mut self, line: &str) {
        self.said = Instant::now();
        note(line);
    }
}

fn rate(state: &ProgressState, to: &mut dyn std::fmt::Write) {
    // A rate that can't be written is left out.
    let _ = write!(to, "{:.0}", state.per_sec());
}

impl Drop for RowProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
