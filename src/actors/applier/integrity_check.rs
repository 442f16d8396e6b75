//! Checks the whole LDB, one at a time, on a thread of its own: what the ledger brings
//! is applied meanwhile. What is to be done about a finding is the writer thread's to say.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::oneshot;

use ctlstore_ldb::{IntegrityCheck, IntegrityVerdict, LdbError};

/// Asked now and then whether the look is to end early.
pub type IsEnded = Box<dyn FnMut() -> bool + Send>;

/// Where to the outcome goes. Who asked may be gone by then.
pub type IntegrityAnswer = oneshot::Sender<Result<IntegrityVerdict, LdbError>>;

/// What a look came to.
pub struct Finding {
    pub look: IntegrityCheck,
    pub outcome: Result<(), LdbError>,
    pub answer: IntegrityAnswer,
}

/// The thread of the look that is under way, if one is.
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

    /// Where findings come out.
    pub fn findings(&self) -> &Receiver<Finding> {
        &self.findings
    }

    /// Begins a look. Its finding must have come out before the next one begins.
    pub fn start(&mut self, look: IntegrityCheck, is_ended: IsEnded, answer: IntegrityAnswer) {
        self.join();
        let path = look.file().to_owned();
        let found = self.found.clone();
        let work = move || {
            let outcome = look.run(is_ended);
            // Nobody takes it when the writer thread has ended.
            let _ = found.try_send(Finding { look, outcome, answer });
        };
        match std::thread::Builder::new().name("ldb-look".to_owned()).spawn(work) {
            Ok(thread) => self.thread = Some(thread),
            // The answer went with the thread that did not start: who asked is told that there is none.
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
