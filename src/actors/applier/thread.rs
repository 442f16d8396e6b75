//! The thread that owns the LDB's write connection. It takes jobs from a bounded
//! channel and, between them and when there are none, keeps the WAL small.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use actix::{Message, Recipient};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use tokio::sync::oneshot;

use crate::changelog::Written;
use crate::ldb::{Applied, ApplyError, Checkpoint, CheckpointMode, Ldb, LdbError};
use crate::ledger::{Batch, LdbPosition, LedgerInfo};
use crate::messages::ledger::ApplyFailed;
use crate::metrics::{self, ErrorKind, Metrics};
use crate::snapshot::Abort;

use super::holding::{Holding, NoLdb};

/// Jobs that may wait: the poller has one batch on its way at a time.
const QUEUE: usize = 4;

/// How often an idle thread looks after the WAL and the file.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What the thread can be asked to do. Who asked may be gone when it is done.
pub enum Job {
    Apply(Batch, oneshot::Sender<Result<Applied, ApplyError>>),
    Position(Option<LedgerInfo>, oneshot::Sender<Result<LdbPosition, NoLdb>>),
    Adopt(String, oneshot::Sender<Result<(), LdbError>>),
    Replace(LedgerInfo, oneshot::Sender<Result<LdbPosition, NoLdb>>),
    Inspect(Abort, oneshot::Sender<Result<(), LdbError>>),
}

/// To the applier, after the thread has looked after its files.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Upkeep {
    pub wal_bytes: u64,
    pub outcome: Result<(), LdbError>,
    /// What the changelog has got since the start.
    pub changelog: Written,
    /// Why changelog entries, or the history of them, can't be written, where they can't.
    pub changelog_error: Option<String>,
    /// Why the seq file can't be touched, where it can't.
    pub seq_file_error: Option<String>,
}

/// The running thread. It ends, and closes the LDB, when this is dropped or joined.
pub struct WriterThread {
    jobs: Sender<Job>,
    handle: JoinHandle<()>,
}

impl WriterThread {
    pub fn start(holding: Holding, upkeep: Recipient<Upkeep>, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let (jobs, queue) = bounded(QUEUE);
        let worker = Worker { holding, upkeep, counted: Written::default(), metrics };
        let handle = std::thread::Builder::new().name("ldb-writer".to_owned()).spawn(move || worker.run(&queue))?;
        Ok(Self { jobs, handle })
    }

    pub fn send(&self, job: Job) -> Result<(), ApplyFailed> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => {
                ApplyFailed { kind: ErrorKind::Contention, message: "too many batches wait for the ldb".to_owned() }
            }
            TrySendError::Disconnected(_) => super::ended(),
        })
    }

    /// Lets the jobs that wait finish and waits for the thread's end.
    pub async fn join(self) {
        drop(self.jobs);
        // A panic there has ended the process already.
        let _ = tokio::task::spawn_blocking(move || self.handle.join()).await;
    }
}

struct Worker {
    holding: Holding,
    upkeep: Recipient<Upkeep>,
    /// What the metrics have of the changelog.
    counted: Written,
    metrics: Arc<Metrics>,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(UPKEEP_INTERVAL) {
                Ok(job) => self.work(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.look_after();
        }
        if let Err(error) = self.holding.close() {
            tracing::warn!(role = "applier", %error, "the ldb was not closed cleanly");
        }
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Apply(batch, reply) => drop(reply.send(self.holding.apply(&batch))),
            Job::Position(ledger, reply) => drop(reply.send(self.holding.position(ledger))),
            Job::Adopt(id, reply) => drop(reply.send(self.holding.adopt(&id))),
            Job::Replace(ledger, reply) => drop(reply.send(self.holding.replace(ledger))),
            Job::Inspect(abort, reply) => drop(reply.send(self.holding.inspect(&abort))),
        }
    }

    fn look_after(&mut self) {
        self.holding.tidy();
        if self.holding.ldb().is_none() {
            return;
        }
        let outcome = self.holding.maintain().map(|checkpoint| {
            if let Some(checkpoint) = checkpoint {
                self.count(checkpoint);
            }
        });
        let ldb = self.holding.ldb();
        let wal_bytes = ldb.map_or(0, Ldb::wal_bytes);
        let history_error = || ldb.and_then(Ldb::history_error).map(ToString::to_string);
        let changelog_error = ldb.and_then(Ldb::changelog_error).map(ToString::to_string).or_else(history_error);
        let seq_file_error = ldb.and_then(Ldb::seq_file_error).map(ToString::to_string);
        let changelog = self.holding.changelog_total();
        self.metrics.applier.wal_bytes.set(wal_bytes as i64);
        self.count_changelog(changelog);
        // When the mailbox is full the next round says it again.
        let _ = self.upkeep.try_send(Upkeep { wal_bytes, outcome, changelog, changelog_error, seq_file_error });
    }

    fn count_changelog(&mut self, total: Written) {
        let before = std::mem::replace(&mut self.counted, total);
        let metrics = &self.metrics.changelog;
        metrics.entries.inc_by(total.entries - before.entries);
        metrics.resyncs.inc_by(total.jumps - before.jumps);
        metrics.rotations.inc_by(total.rotations - before.rotations);
    }

    fn count(&self, checkpoint: Checkpoint) {
        let mode = match checkpoint.mode {
            CheckpointMode::Passive => metrics::CheckpointMode::Passive,
            CheckpointMode::Restart => metrics::CheckpointMode::Restart,
            CheckpointMode::Truncate => metrics::CheckpointMode::Truncate,
        };
        self.metrics.applier.checkpoint(mode, checkpoint.is_complete);
    }
}
