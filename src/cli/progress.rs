//! Shows how far a long command is, always on standard error: a bar on a terminal, else a plain line
//! now and then. Entry points: [`RowProgress`] for commands that count rows, and [`PhaseProgress`] for
//! the phases of a snapshot. Both print through [`Meter`].

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use ctlstore_ldb::snapshot::{Phase, SnapshotProgress};

use super::output::note;

/// How a bar moves on while nothing is counted.
const TICK: Duration = Duration::from_millis(120);

/// How one kind of progress looks.
struct Look {
    /// The bar's template, and the one to use if the end is not known.
    of_total: &'static str,
    open: &'static str,
    /// The shortest time between two plain lines.
    interval: Duration,
    /// Writes a plain line.
    print: fn(&str),
}

const ROWS: Look = Look {
    of_total: "{bar:30} {human_pos}/{human_len} {prefix}, {rate}/s, {eta} left {msg}",
    open: "{spinner} {human_pos} {prefix}, {rate}/s {msg}",
    interval: Duration::from_secs(10),
    print: note,
};
const BYTES_OF_PHASE: Look = Look {
    of_total: "{prefix:>8} {bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left",
    open: "{prefix:>8} {spinner} {bytes}, {bytes_per_sec}",
    interval: Duration::from_secs(5),
    print: print_line,
};
const ROWS_OF_PHASE: Look = Look {
    of_total: "{prefix:>8} {bar:30} {human_pos}/{human_len} rows, {per_sec}, {eta} left",
    open: "{prefix:>8} {spinner} {human_pos} rows",
    ..BYTES_OF_PHASE
};

/// One count that grows: a bar on a terminal, else plain lines. The bar goes when this is dropped.
struct Meter {
    look: &'static Look,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Meter {
    /// `name` stands in the bar. Of `total`, if the end is known.
    fn start(look: &'static Look, name: &'static str, total: Option<u64>) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let template = if total.is_some() { look.of_total } else { look.open };
            let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.with_key("rate", write_rate));
            }
            bar.set_prefix(name);
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { look, bar, last_line: Instant::now() }
    }

    /// Shows the count: in the bar, or as `line` if the last line is old enough.
    fn at(&mut self, count: u64, line: impl FnOnce() -> String) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(count);
                bar.set_message("");
            }
            None if self.last_line.elapsed() >= self.look.interval => self.print(&line()),
            None => {}
        }
    }

    /// Shows why the count stands still: in the bar, or as `line` at once.
    fn wait(&mut self, why: &str, line: impl FnOnce() -> String) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("({why})")),
            None => self.print(&line()),
        }
    }

    fn print(&mut self, line: &str) {
        self.last_line = Instant::now();
        (self.look.print)(line);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn write_rate(state: &ProgressState, to: &mut dyn std::fmt::Write) {
    // A rate that can't be written is left out.
    let _ = write!(to, "{:.0}", state.per_sec());
}

/// Standard error may be closed. The work goes on without the line.
fn print_line(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Progress of a command that counts rows.
pub struct RowProgress {
    /// The name of the count, such as `rows written`.
    what: &'static str,
    total: Option<u64>,
    count: u64,
    meter: Meter,
}

impl RowProgress {
    /// `what` is counted, such as `rows written`. Of `total`, if the end is known.
    pub fn start(what: &'static str, total: Option<u64>) -> Self {
        Self { what, total, count: 0, meter: Meter::start(&ROWS, what, total) }
    }

    pub fn at(&mut self, count: u64) {
        self.count = count;
        self.meter.at(count, || counted(count, self.total, self.what));
    }

    /// Says why the count stands still.
    pub fn waiting(&mut self, why: &str) {
        self.meter.wait(why, || format!("{}, {why}", counted(self.count, self.total, self.what)));
    }
}

fn counted(count: u64, total: Option<u64>, what: &str) -> String {
    match total {
        Some(total) => format!("{count} of {total} {what}"),
        None => format!("{count} {what}"),
    }
}

/// Progress of a snapshot: each phase as it comes.
#[derive(Default)]
pub struct PhaseProgress(Mutex<Option<ShownPhase>>);

struct ShownPhase {
    phase: Phase,
    total: Option<u64>,
    meter: Meter,
}

impl PhaseProgress {
    /// Takes the last bar away.
    pub fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl SnapshotProgress for PhaseProgress {
    fn at(&self, phase: Phase, done: u64, total: Option<u64>) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = shown.as_ref().is_none_or(|shown| shown.phase != phase);
        if is_new || shown.as_ref().is_some_and(|shown| shown.total != total) {
            // The bar of the last phase goes before the next one is drawn.
            shown.take();
            *shown = Some(ShownPhase::begin(phase, total, is_new));
        }
        if let Some(ShownPhase { meter, .. }) = &mut *shown {
            meter.at(done, || line_of_phase(phase, done, total));
        }
    }
}

impl ShownPhase {
    fn begin(phase: Phase, total: Option<u64>, is_new: bool) -> Self {
        let look = if phase == Phase::Check { &ROWS_OF_PHASE } else { &BYTES_OF_PHASE };
        let mut meter = Meter::start(look, name(phase), total);
        if is_new && meter.bar.is_none() {
            meter.print(doing(phase));
        }
        Self { phase, total, meter }
    }
}

fn line_of_phase(phase: Phase, done: u64, total: Option<u64>) -> String {
    let total = total.map_or(String::new(), |total| format!(" of {}", amount(phase, total)));
    format!("{}: {}{total}", doing(phase), amount(phase, done))
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
