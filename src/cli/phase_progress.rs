//! How far a snapshot's way is: on a terminal a bar for each stretch of it, elsewhere a
//! line for each and now and then one in between; always on standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};

use ctlstore_ldb::snapshot::{Phase, Progress};

const OF_BYTES: &str = "{prefix:>8} {bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
const OF_ROWS: &str = "{prefix:>8} {bar:30} {human_pos}/{human_len} rows, {per_sec}, {eta} left";
/// Where the end is not known.
const OPEN_BYTES: &str = "{prefix:>8} {spinner} {bytes}, {bytes_per_sec}";
const OPEN_ROWS: &str = "{prefix:>8} {spinner} {human_pos} rows";
/// Between two lines of one stretch.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Shows each stretch as it comes.
#[derive(Default)]
pub struct PhaseProgress(Mutex<Option<Shown>>);

struct Shown {
    phase: Phase,
    total: Option<u64>,
    bar: Option<ProgressBar>,
    said: Instant,
}

impl Progress for PhaseProgress {
    fn at(&self, phase: Phase, done: u64, total: Option<u64>) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.as_ref().is_none_or(|shown| shown.phase != phase || shown.total != total) {
            let is_new = shown.as_ref().is_none_or(|shown| shown.phase != phase);
            let begun = Shown::begin(phase, total, is_new);
            if let Some(Shown { bar: Some(before), .. }) = shown.replace(begun) {
                before.finish_and_clear();
            }
        }
        if let Some(shown) = &mut *shown {
            shown.at(done);
        }
    }
}

impl PhaseProgress {
    /// Takes the last bar away.
    pub fn end(&self) {
        if let Some(Shown { bar: Some(bar), .. }) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}

impl Shown {
    fn begin(phase: Phase, total: Option<u64>, is_new: bool) -> Self {
        let bar = io::stderr().is_terminal().then(|| bar(phase, total));
        if bar.is_none() && is_new {
            say(doing(phase));
        }
        Self { phase, total, bar, said: Instant::now() }
    }

    fn at(&mut self, done: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(done),
            None if self.said.elapsed() >= LINE_INTERVAL => {
                self.said = Instant::now();
                let total = self.total.map_or(String::new(), |total| format!(" of {}", amount(self.phase, total)));
                say(&format!("{}: {}{total}", doing(self.phase), amount(self.phase, done)));
            }
            None => {}
        }
    }
}

fn bar(phase: Phase, total: Option<u64>) -> ProgressBar {
    let template = match (phase, total) {
        (Phase::Check, Some(_)) => OF_ROWS,
        (Phase::Check, None) => OPEN_ROWS,
        (_, Some(_)) => OF_BYTES,
        (_, None) => OPEN_BYTES,
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new).with_style(style);
    bar.set_prefix(name(phase));
    bar
}

const fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Copy => "copy",
        Phase::Check => "check",
        Phase::Hash => "hash",
        Phase::Publish => "publish",
        Phase::Fetch => "fetch",
    }
}

const fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Copy => "copying the ldb",
        Phase::Check => "checking the snapshot",
        Phase::Hash => "hashing the snapshot",
        Phase::Publish => "publishing the snapshot",
        Phase::Fetch => "fetching the snapshot",
    }
}

fn amount(phase: Phase, count: u64) -> String {
    match phase {
        Phase::Check => format!("{count} rows"),
        _ => ByteSize(count).to_string(),
    }
}

/// Nobody may be reading; the work goes on all the same.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
