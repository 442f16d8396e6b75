//! The thread that owns the LDB's write connection. Entry point: [`LdbWriterThread::start`]. It takes
//! jobs from a bounded channel. Between jobs, and while there are none, it keeps the WAL small.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use actix::{Message, Recipient};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};
use tokio::sync::oneshot;

use crate::messages::ledger::{ApplyFailed, FollowedLedger};
use crate::metrics::{ErrorKind, LdbGauges, Metrics};
use ctlstore_core::ledger::{Batch, LdbPosition};
use ctlstore_ldb::changelog::ChangelogCounts;
use ctlstore_ldb::{Applied, ApplyError, Checkpoint, IntegrityVerdict, Ldb, LdbError};

use super::integrity_check::{Finding, IntegrityAnswer, IntegrityChecks, IsEnded};
use super::managed_ldb::{ManagedLdb, ObtainLdbError};

/// Jobs that may wait. The poller sends one batch at a time.
const QUEUE: usize = 4;

/// How often an idle thread maintains the WAL and the file.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The jobs of the thread. The receiver of an answer may be gone by then.
pub enum Job {
    Apply(Arc<Batch>, oneshot::Sender<Result<Applied, ApplyError>>),
    Position(Option<FollowedLedger>, oneshot::Sender<Result<LdbPosition, ObtainLdbError>>),
    Adopt(String, oneshot::Sender<Result<(), LdbError>>),
    Replace(FollowedLedger, oneshot::Sender<Result<LdbPosition, ObtainLdbError>>),
    Inspect(IsEnded, IntegrityAnswer),
}

/// Tells the applier how the maintenance of the files went.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Upkeep {
    pub wal_bytes: u64,
    pub outcome: Result<(), LdbError>,
    /// The lines written to the changelog since the start.
    pub changelog: ChangelogCounts,
    /// Why changelog entries or the history can't be written; `None` while they can.
    pub changelog_error: Option<String>,
    /// Why the seq file can't be touched; `None` while it can.
    pub seq_file_error: Option<String>,
}

/// The running thread. Once this is dropped or joined, it closes the LDB and ends.
pub struct LdbWriterThread {
    jobs: Sender<Job>,
    handle: JoinHandle<()>,
}

impl LdbWriterThread {
    pub fn start(
        ldb_slot: ManagedLdb,
        upkeep: Recipient<Upkeep>,
        metrics: Arc<Metrics>,
        gauges: Arc<LdbGauges>,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = bounded(QUEUE);
        let looks = IntegrityChecks::new();
        let counted = ChangelogCounts::default();
        let worker = Worker { ldb_slot, looks, upkeep, counted, metrics, gauges };
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

    /// Waits until the jobs in the queue are done and the thread has ended.
    pub async fn join(self) {
        drop(self.jobs);
        // A panic there has ended the process already.
        let _ = tokio::task::spawn_blocking(move || self.handle.join()).await;
    }
}

struct Worker {
    ldb_slot: ManagedLdb,
    looks: IntegrityChecks,
    upkeep: Recipient<Upkeep>,
    /// The changelog's counts as the metrics have them.
    counted: ChangelogCounts,
    metrics: Arc<Metrics>,
    gauges: Arc<LdbGauges>,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            select! {
                recv(jobs) -> job => match job {
                    Ok(job) => self.work(job),
                    Err(_) => break,
                },
                recv(self.looks.findings()) -> finding => finding.into_iter().for_each(|finding| self.record_check(finding)),
                default(UPKEEP_INTERVAL) => {}
            }
            self.look_after();
        }
        self.looks.join();
        if let Err(error) = self.ldb_slot.close() {
            tracing::warn!(role = "applier", %error, "the ldb was not closed cleanly");
        }
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Apply(batch, reply) => drop(reply.send(self.ldb_slot.apply(&batch))),
            Job::Position(ledger, reply) => drop(reply.send(self.ldb_slot.position(ledger))),
            Job::Adopt(id, reply) => drop(reply.send(self.ldb_slot.adopt(&id))),
            Job::Replace(ledger, reply) => drop(reply.send(self.ldb_slot.replace(ledger))),
            Job::Inspect(is_ended, reply) => match self.ldb_slot.look() {
                Ok(Some(look)) => self.looks.start(look, is_ended, reply),
                none_now => drop(reply.send(none_now.map(|_| IntegrityVerdict::NotChecked))),
            },
        }
    }

    fn record_check(&mut self, Finding { look, outcome, answer }: Finding) {
        let _ = answer.send(self.ldb_slot.record_check(&look, outcome));
    }

    fn look_after(&mut self) {
        self.ldb_slot.tidy();
        if self.ldb_slot.ldb().is_none() {
            return;
        }
        let outcome = self.ldb_slot.maintain().map(|checkpoint| {
            if let Some(checkpoint) = checkpoint {
                self.count(checkpoint);
            }
        });
        let ldb = self.ldb_slot.ldb();
        let wal_bytes = ldb.map_or(0, Ldb::wal_bytes);
        let history_error = || ldb.and_then(Ldb::history_error).map(ToString::to_string);
        let changelog_error = ldb.and_then(Ldb::changelog_error).map(ToString::to_string).or_else(history_error);
        let seq_file_error = ldb.and_then(Ldb::seq_file_error).map(ToString::to_string);
        let changelog = self.ldb_slot.changelog_total();
        self.gauges.set_wal_bytes(wal_bytes);
        self.count_changelog(changelog);
        // If the mailbox is full, the next round tells it again.
        let _ = self.upkeep.try_send(Upkeep { wal_bytes, outcome, changelog, changelog_error, seq_file_error });
    }

    fn count_changelog(&mut self, total: ChangelogCounts) {
        let before = std::mem::replace(&mut self.counted, total);
        let metrics = &self.metrics.changelog;
        metrics.entries.inc_by(total.entries - before.entries);
        metrics.resyncs.inc_by(total.jumps - before.jumps);
        metrics.rotations.inc_by(total.rotations - before.rotations);
    }

    fn count(&self, checkpoint: Checkpoint) {
        self.metrics.applier.checkpoint(checkpoint.mode, checkpoint.is_complete);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use actix::prelude::*;
    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::super::bootstrap::{BootstrapOptions, BootstrapRecord, LdbFetch};
    use super::*;
    use ctlstore_core::Abort;
    use ctlstore_core::ledger::{AllowEmpty, Assembler, LedgerRow, Seq};
    use ctlstore_ldb::snapshot::fetch::ExpansionLimits;
    use ctlstore_ldb::{ClaimedLdb, LdbOptions};

    /// Enough rows that a check of them asks whether it has to end.
    const TABLE: &str = "CREATE TABLE _ldb_seq (id INTEGER PRIMARY KEY NOT NULL, seq BIGINT NOT NULL);
        CREATE TABLE _ldb_last_update (name STRING PRIMARY KEY NOT NULL, timestamp DATETIME NOT NULL);
        CREATE TABLE fam___tab (id INTEGER PRIMARY KEY, v TEXT);
        WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n LIMIT 20000)
        INSERT INTO fam___tab SELECT id, 'value ' || id FROM n;";
    const DEADLINE: Duration = Duration::from_secs(30);

    /// Takes the messages of the thread's maintenance.
    struct Listener;

    impl Actor for Listener {
        type Context = Context<Self>;
    }

    impl Handler<Upkeep> for Listener {
        type Result = ();

        fn handle(&mut self, _: Upkeep, _: &mut Self::Context) {}
    }

    fn start() -> (TempDir, LdbWriterThread) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ldb.db");
        Connection::open(&path).unwrap().execute_batch(TABLE).unwrap();
        let metrics = Metrics::new();
        let urls = Vec::new();
        let limits = ExpansionLimits::default();
        let options =
            BootstrapOptions { urls, siblings: Vec::new(), is_first: true, allow_empty: AllowEmpty::Auto, limits };
        let bootstrap = LdbFetch::new(options, Abort::default(), BootstrapRecord::new(Arc::clone(&metrics)));
        let ldb_options = LdbOptions { wal_checkpoint_bytes: 1 << 20, changelog: None, history: None };
        let ldb_slot = ManagedLdb::open(ClaimedLdb::claim(&path).unwrap(), ldb_options, None, bootstrap).unwrap();
        let gauges = Arc::new(metrics.applier.ldb(true, None));
        (directory, LdbWriterThread::start(ldb_slot, Listener.start().recipient(), metrics, gauges).unwrap())
    }

    fn inspect(thread: &LdbWriterThread, is_ended: IsEnded) -> oneshot::Receiver<Result<IntegrityVerdict, LdbError>> {
        let (reply, answer) = oneshot::channel();
        thread.send(Job::Inspect(is_ended, reply)).unwrap();
        answer
    }

    async fn apply(thread: &LdbWriterThread, batch: Batch) -> Result<Applied, ApplyError> {
        let (reply, answer) = oneshot::channel();
        thread.send(Job::Apply(Arc::new(batch), reply)).unwrap();
        tokio::time::timeout(DEADLINE, answer).await.expect("an answer in time").unwrap()
    }

    fn batch(seq: i64, statement: &str) -> Batch {
        let mut assembler = Assembler::after(Seq(seq - 1));
        assembler.push(LedgerRow { seq: Seq(seq), leader_ts: None, statement: statement.to_owned() }).unwrap();
        assembler.take_complete().unwrap()
    }

    #[actix_web::test]
    async fn batches_are_applied_while_all_of_the_ldb_is_looked_at() {
        let (_directory, thread) = start();
        let (asked, began) = bounded(1);
        let (go_on, held) = bounded::<()>(0);
        let mut looking = inspect(
            &thread,
            Box::new(move || {
                let _ = asked.try_send(());
                // Until the other end is gone.
                let _ = held.recv();
                false
            }),
        );
        began.recv_timeout(DEADLINE).expect("the look begins");
        let applied = apply(&thread, batch(1, r#"REPLACE INTO fam___tab ("id","v") VALUES(1,'new')"#)).await.unwrap();
        assert_eq!((applied.seq, applied.rows_changed), (Seq(1), 1));
        assert!(looking.try_recv().is_err(), "the look is over");
        drop(go_on);
        let found = tokio::time::timeout(DEADLINE, looking).await.expect("an answer in time").unwrap();
        assert_eq!(found.unwrap(), IntegrityVerdict::Sound);
        // It was sound a moment ago, so it is not checked again at once; a newer report may still be true.
        let looks_again = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&looks_again);
        let again = inspect(
            &thread,
            Box::new(move || {
                asked.store(true, Ordering::Relaxed);
                false
            }),
        );
        let found = tokio::time::timeout(DEADLINE, again).await.expect("an answer in time").unwrap();
        assert_eq!(found.unwrap(), IntegrityVerdict::NotChecked);
        thread.join().await;
        assert!(!looks_again.load(Ordering::Relaxed));
    }

    #[actix_web::test]
    async fn a_look_that_is_told_to_end_does_not_hold_up_the_threads_end() {
        let (_directory, thread) = start();
        let (asked, began) = bounded(1);
        let is_over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&is_over);
        let looking = inspect(
            &thread,
            Box::new(move || {
                let _ = asked.try_send(());
                while !ended.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                true
            }),
        );
        began.recv_timeout(DEADLINE).expect("the look begins");
        is_over.store(true, Ordering::Relaxed);
        tokio::time::timeout(DEADLINE, thread.join()).await.expect("the end in time");
        assert!(!matches!(looking.await, Ok(Ok(_))), "nobody looked to the end");
    }
}
