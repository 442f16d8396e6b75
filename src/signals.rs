//! The signals that stop a process: SIGTERM, SIGINT and SIGHUP. The first asks it to stop
//! and the second ends it at once. Entry point: [`StopSignal::listen`]. A thread of its
//! own takes them, so that nothing that is stuck elsewhere can hold it up.

use std::io;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::watch;

use crate::telemetry;

/// The first of these signals from when this was made on.
#[derive(Clone)]
pub struct StopSignal(watch::Receiver<Option<&'static str>>);

/// What ends a process that does not stop.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    /// The exit code when a second signal ends it.
    pub at_second: i32,
    /// How long a stop may take, and the exit code when it takes longer.
    pub late: Option<(Duration, i32)>,
}

impl StopSignal {
    /// From here on these signals no longer end the process by themselves. SIGHUP stays
    /// ignored where it is, as under nohup(1).
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

    /// Whether it has come.
    pub fn came(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Its name, once it has come.
    pub async fn wait(&mut self) -> &'static str {
        match self.0.wait_for(Option::is_some).await {
            Ok(signal) => signal.unwrap_or_default(),
            // The thread lives as long as the process.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Ends the process when it has not ended by itself until then.
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
