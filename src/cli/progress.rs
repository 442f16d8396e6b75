//! How far a long command is: a moving line on a terminal, now and then a plain
//! one elsewhere, always on standard error.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(120);

pub struct Progress {
    what: &'static str,
    bar: Option<ProgressBar>,
    said: Instant,
    count: u64,
}

impl Progress {
    /// `what` is counted, such as `rows written`.
    pub fn start(what: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} {prefix}, {per_sec} {msg}") {
                bar.set_style(style);
            }
            bar.set_prefix(what);
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { what, bar, said: Instant::now(), count: 0 }
    }

    pub fn at(&mut self, count: u64) {
        self.count = count;
        match &self.bar {
            Some(bar) => {
                bar.set_position(count);
                bar.set_message("");
            }
            None if self.said.elapsed() >= PLAIN_EVERY => self.plain(&format!("{count} {}", self.what)),
            None => {}
        }
    }

    /// Why it stands still.
    pub fn waiting(&mut self, why: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("({why})")),
            None => self.plain(&format!("{} {}, {why}", self.count, self.what)),
        }
    }

    fn plain(&mut self, line: &str) {
        self.said = Instant::now();
        // Nobody may be listening; the work goes on.
        let _ = writeln!(std::io::stderr(), "ctlstore: {line}");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
