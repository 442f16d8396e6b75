//! SIGTERM and SIGINT: the first asks the node to stop, the second ends it at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code when a second signal cuts a stop short.
const CUT_SHORT: i32 = 130;

pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on these signals no longer end the process by themselves.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next signal's name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Ends the process when one more signal comes.
    pub fn end_at_the_next(mut self) {
        actix::spawn(async move {
            let signal = self.next().await;
            tracing::warn!(signal, "ending at once");
            std::process::exit(CUT_SHORT);
        });
    }
}
