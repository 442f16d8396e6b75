//! Checks the whole LDB on a thread of its own, one check at a time, while batches are applied. Entry
//! point: [`IntegrityChecks::start`]. The writer thread decides what to do about a finding.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::oneshot;

use ctlstore_ldb::{IntegrityCheck, IntegrityVerdict, LdbError};

/// The check calls it now and then. If it returns true, the check ends early.
pub type IsEnded = Box<dyn FnMut() -> bool + Send>;

/// Where the outcome goes. Its receiver may be gone by then.
pub type IntegrityAnswer = oneshot::Sender<Result<IntegrityVerdict, LdbError>>;

/// The result of a check.
pub struct Finding {
    pub look: IntegrityCheck,
    pub outcome: Result<(), LdbError>,
    pub answer: IntegrityAnswer,
}

/// The thread of the check that runs, if one does.
pub struct IntegrityChecks {
    found: Sender<Finding>,
    findings: Receiver<Finding>,
    thread: Option<JoinHandle<()>>,
}

impl IntegrityChecks {
    pub fn new() -> Self {
        let (found, findings) = bounded(1);
        Self { found, findings, thread: None }
    }

    /// Gives the findings.
    pub fn findings(&self) -> &Receiver<Finding> {
        &self.findings
    }

    /// Begins a check. The finding of the last one must have been taken before.
    pub fn start(&mut self, look: IntegrityCheck, is_ended: IsEnded, answer: IntegrityAnswer) {
        self.join();
        let path = look.file().to_owned();
        let found = self.found.clone();
        let work = move || {
            let outcome = look.run(is_ended);
            // If the writer thread has ended, no one takes it.
            let _ = found.try_send(Finding { look, outcome, answer });
        };
        match std::thread::Builder::new().name("ldb-look".to_owned()).spawn(work) {
            Ok(thread) => self.thread = Some(thread),
            // The answer was dropped with the thread that did not start, which tells its receiver.
            Err(error) => tracing::warn!(role = "applier", ldb = %path.display(), %error, "no thread to look at it"),
        }
    }

    /// Waits for the thread's end.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic there has ended the process already.
            let _ = thread.join();
        }
    }
}
