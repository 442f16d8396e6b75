//! What stands beside a prune while it runs: signals that end it, and its progress on
//! standard error, as a bar on a terminal and as lines elsewhere.

use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::process;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::executive::PruneOutcome;
use crate::snapshot::{Phase, Progress};

const PRUNING: &str = "{bar:30} {human_pos}/{human_len} rows, {per_sec}, {eta} left";
const FETCHING: &str = "{bar:30} {bytes}/{total_bytes} of the snapshot, {bytes_per_sec}, {eta} left";
/// Between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// The exit code when a second signal does not wait for the first.
const CUT_SHORT: i32 = 130;

/// The first SIGINT or SIGTERM from when this was made on; a second one ends the
/// process at once.
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    pub fn listen() -> io::Result<Self> {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (sender, came) = watch::channel(false);
        tokio::spawn(async move {
            for _ in 0..2 {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if sender.send_replace(true) {
                    process::exit(CUT_SHORT);
                }
            }
        });
        Ok(Self(came))
    }

    pub fn came(&self) -> bool {
        *self.0.borrow()
    }

    /// What `work` gives, unless a signal comes first.
    pub async fn unless<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut came = self.0.clone();
        tokio::select! {
            biased;
            // The sender goes only after two signals.
            _ = came.wait_for(|came| *came) => None,
            done = work => Some(done),
        }
    }
}

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

/// How far the fetch of a snapshot is.
#[derive(Default)]
pub struct Fetching(Mutex<Option<(Phase, Option<ProgressBar>)>>);

impl Progress for Fetching {
    fn at(&self, phase: Phase, done: u64, total: Option<u64>) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.as_ref().is_none_or(|(showing, _)| *showing != phase) {
            let bar = bar(FETCHING, total.unwrap_or(done)).filter(|_| phase == Phase::Fetch);
            if bar.is_none() && !io::stderr().is_terminal() {
                say(if phase == Phase::Fetch { "fetching the snapshot" } else { "checking the snapshot" });
            }
            if let Some((_, Some(before))) = shown.replace((phase, bar)) {
                before.finish_and_clear();
            }
        }
        if let Some((_, Some(bar))) = &*shown {
            total.into_iter().for_each(|total| bar.set_length(total));
            bar.set_position(done);
        }
    }
}

impl Fetching {
    pub fn end(&self) {
        if let Some((_, Some(bar))) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}
