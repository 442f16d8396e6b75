//! The writer thread. It owns the connection that writes and the lock on the file, and runs jobs one after
//! the other in their order. Entry point: [`CtldbWriterThread::run`]. It knows no SQL.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use tokio::sync::oneshot;

use crate::ctldb::error::CtldbError;
use ctlstore_core::disk::ProcessLock;

use super::writer::CtldbWriter;

/// The jobs that may wait. The executive commits requests in groups, so there are few.
const QUEUE: usize = 256;

/// The time after its deadline in which work that has begun may end: a statement and a commit.
const GRACE: Duration = Duration::from_secs(2);

type Job = Box<dyn FnOnce(&mut CtldbWriter) + Send>;

/// A job's states. The side that first moves it out of `WAITING` decides whether it runs.
const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const GIVEN_UP: u8 = 2;

/// A handle to the thread, which ends when it is closed or the last handle is dropped.
pub(super) struct CtldbWriterThread {
    path: PathBuf,
    jobs: Mutex<Option<Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl CtldbWriterThread {
    /// `lock` is held for as long as the thread runs.
    pub fn start(path: &Path, writer: CtldbWriter, lock: ProcessLock) -> Result<Self, CtldbError> {
        let (sender, receiver) = crossbeam_channel::bounded(QUEUE);
        let thread = std::thread::Builder::new()
            .name("ctldb-writer".to_owned())
            .spawn(move || run(writer, &receiver, lock))
            .map_err(|e| CtldbError::Failed(format!("start the ctldb's writer thread: {e}")))?;
        Ok(Self { path: path.to_owned(), jobs: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on the thread and returns its result. If the work has not begun by `deadline`, it never
    /// runs. If it has begun and does not end soon after, its outcome is unknown.
    pub async fn run<T, F>(&self, deadline: Instant, work: F) -> Result<T, CtldbError>
    where
        T: Send + 'static,
        F: FnOnce(&mut CtldbWriter) -> Result<T, CtldbError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let state = Arc::new(AtomicU8::new(WAITING));
        let claimed = state.clone();
        self.send(Box::new(move |writer| {
            if claimed.compare_exchange(WAITING, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                // The receiver may have given up waiting. The work is done in any case.
                let _ = reply.send(work(writer));
            }
        }))?;
        let mut answer = answer;
        let mut answered = tokio::time::timeout_at(deadline.into(), &mut answer).await;
        if answered.is_err() {
            if state.compare_exchange(WAITING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Err(CtldbError::Contention("earlier writes take too long".to_owned()));
            }
            // It has begun, and watches the deadline itself.
            answered = tokio::time::timeout(GRACE, answer).await;
        }
        match answered {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(CtldbError::Failed("the ctldb's writer thread has ended".to_owned())),
            Err(_) => Err(CtldbError::OutcomeUnknown("the disk did not answer in time".to_owned())),
        }
    }

    fn send(&self, job: Job) -> Result<(), CtldbError> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(jobs) = jobs.as_ref() else {
            return Err(CtldbError::Unavailable("the ctldb is closed".to_owned()));
        };
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => CtldbError::Unavailable("too many writes are waiting".to_owned()),
            TrySendError::Disconnected(_) => CtldbError::Failed("the ctldb's writer thread has ended".to_owned()),
        })
    }

    /// Lets the queued jobs finish, and waits for the thread's end.
    pub fn close(&self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic on the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn run(mut writer: CtldbWriter, jobs: &Receiver<Job>, lock: ProcessLock) {
    for job in jobs {
        job(&mut writer);
    }
    // The connection is closed first, so that the next process which takes the lock finds the file closed.
    writer.close();
    drop(lock);
}
