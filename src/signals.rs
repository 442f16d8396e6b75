//! The signals that stop a process: SIGTERM, SIGINT and SIGHUP. The first one asks it to stop, and
//! the second one ends it at once. Entry point: [`StopSignal::listen`]. A thread of its own receives
//! them, so other threads that are stuck do not delay it.

use std::io;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::watch;

use crate::telemetry;

/// The first of these signals that came after this was made.
#[derive(Clone)]
pub struct StopSignal(watch::Receiver<Option<&'static str>>);

/// How a process ends if its stop does not.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    /// The exit code if a second signal ends it.
    pub at_second: i32,
    /// How long a stop may take, and the exit code if it takes longer.
    pub late: Option<(Duration, i32)>,
}

impl StopSignal {
    /// From now on these signals no longer end the process at once. SIGHUP stays ignored if it was,
    /// as under nohup(1).
    pub fn listen(ending: Ending) -> io::Result<Self> {
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        if !is_ignored(SIGHUP) {
            signals.add_signal(SIGHUP)?;
        }
        let (sender, came) = watch::channel(None);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                let signal = name_of(signal);
                if sender.borrow().is_some() {
                    tracing::warn!(signal, "ending at once");
                    telemetry::end_process(ending.at_second);
                }
                if let Some((most, code)) = ending.late {
                    end_after(most, code);
                }
                sender.send_replace(Some(signal));
            }
        })?;
        Ok(Self(came))
    }

    /// Whether the signal has come.
    pub fn came(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Waits for the signal. Returns its name.
    pub async fn wait(&mut self) -> &'static str {
        match self.0.wait_for(Option::is_some).await {
            Ok(signal) => signal.unwrap_or_default(),
            // The thread lives as long as the process.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Ends the process after `most`, unless it has ended before.
fn end_after(most: Duration, code: i32) {
    let late = move || {
        thread::sleep(most);
        tracing::error!(seconds = most.as_secs_f64(), "the stop took too long, ending the process");
        telemetry::end_process(code);
    };
    if let Err(error) = thread::Builder::new().name("stop-deadline".to_owned()).spawn(late) {
        tracing::warn!(%error, "no thread that keeps the stop's deadline");
    }
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: all zeroes are a value of sigaction, which is plain numbers and an optional function.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action the call only writes the present one to `action`.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    result == 0 && action.sa_sigaction == libc::SIG_IGN
}

fn name_of(signal: i32) -> &'static str {
    match signal {
        SIGTERM => "SIGTERM",
        SIGINT => "SIGINT",
        SIGHUP => "SIGHUP",
        _ => "a signal",
    }
}
