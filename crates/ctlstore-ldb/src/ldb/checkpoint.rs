//! Keeps the WAL small. Entry point: [`Checkpointer::run`]. SQLite's own checkpoints are off. They
//! would come in the middle of a batch, and would give up without a word if a reader is in the way.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use ctlstore_reader::read::Rotation;

use super::connection::BUSY_TIMEOUT;

const PAGE_SIZE: &str = "PRAGMA page_size";
const STATE: &str = "PRAGMA wal_checkpoint(NOOP)";
const PASSIVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";
const RESTART: &str = "PRAGMA wal_checkpoint(RESTART)";
const TRUNCATE: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// The bytes of a WAL frame besides its page.
const FRAME_HEADER: u64 = 24;
/// From this many thresholds of used WAL on, a checkpoint waits for readers.
const RESTART_AT: u64 = 2;
/// From this many thresholds of file size on, a checkpoint truncates the WAL.
const TRUNCATE_AT: u64 = 4;
/// How long a checkpoint waits for readers. The next batch waits as long.
const WAIT_FOR_READERS: Duration = Duration::from_millis(20);
/// The shortest time between two checkpoints that wait.
const WAIT_INTERVAL: Duration = Duration::from_secs(1);

/// After this time without a batch, a small WAL is checkpointed too. Readers use rows of the
/// database file in place; from the WAL they copy each page that they read.
const IDLE: Duration = Duration::from_millis(900);
/// The bytes in use that make an idle checkpoint worth it.
const IDLE_BYTES: u64 = 1024 * 1024;

/// How long readers may take to leave an LDB when its turn has ended.
const READERS_LEAVE: Duration = Duration::from_millis(250);

/// The aim of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointMode {
    /// Copies the pages that no reader needs, and waits for no reader.
    Passive,
    /// Waits for readers, so that the WAL is written from its start again.
    Restart,
    /// Waits for readers, and truncates the file.
    Truncate,
}

/// The result of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    pub mode: CheckpointMode,
    /// Whether all pages were copied, and readers did not keep the mode from its aim.
    pub is_complete: bool,
    /// Bytes of the WAL that are in use and not in the database file yet.
    pub remaining_bytes: u64,
    pub duration: Duration,
}

/// SQLite's answer to a checkpoint.
#[derive(Debug, Clone, Copy)]
struct Frames {
    is_busy: bool,
    in_wal: u64,
    copied: u64,
}

/// Decides when to checkpoint, and in which mode.
#[derive(Debug)]
pub struct Checkpointer {
    /// Bytes.
    threshold: u64,
    frame_bytes: Option<u64>,
    waited: Option<Instant>,
    /// When [`run`](Self::run) was called last. It is called after each batch.
    asked: Option<Instant>,
    /// The turns of several LDBs, and which of them this is.
    turns: Option<(Rotation, PathBuf)>,
}

impl Checkpointer {
    pub fn new(threshold: u64) -> Self {
        Self { threshold, frame_bytes: None, waited: None, asked: None, turns: None }
    }

    /// From now on the whole WAL is emptied while readers read another LDB than the one at `path`.
    pub fn rest_by(&mut self, rotation: Rotation, path: &Path) {
        self.turns = Some((rotation, path.to_owned()));
    }

    /// Checkpoints if the used WAL has passed the threshold, or if no batch came for a while.
    /// `None` if there was no need.
    pub fn run(&mut self, connection: &Connection, wal: &Path) -> rusqlite::Result<Option<Checkpoint>> {
        let file_bytes = std::fs::metadata(wal).map_or(0, |metadata| metadata.len());
        let is_idle = self.asked.replace(Instant::now()).is_some_and(|asked| asked.elapsed() >= IDLE);
        let idle_bytes = IDLE_BYTES.min(self.threshold);
        if file_bytes > 0 && self.is_at_rest() && self.may_wait() {
            self.waited = Some(Instant::now());
            return self.checkpoint(connection, CheckpointMode::Truncate).map(Some);
        }
        if file_bytes < if is_idle { idle_bytes } else { self.threshold } {
            return Ok(None);
        }
        let frame_bytes = self.frame_bytes(connection)?;
        let state = frames(connection, STATE)?;
        let used_bytes = state.in_wal * frame_bytes;
        let left_bytes = state.in_wal.saturating_sub(state.copied) * frame_bytes;
        let mut last = None;
        if (used_bytes >= self.threshold && left_bytes > 0) || (is_idle && left_bytes >= idle_bytes) {
            last = Some(self.checkpoint(connection, CheckpointMode::Passive)?);
        }
        let is_stuck = last.is_some_and(|passive| !passive.is_complete) && used_bytes >= self.threshold * RESTART_AT;
        let is_large = file_bytes >= self.threshold * TRUNCATE_AT;
        if self.may_wait() && (is_stuck || is_large) {
            self.waited = Some(Instant::now());
            let mode = if is_large { CheckpointMode::Truncate } else { CheckpointMode::Restart };
            last = Some(self.checkpoint(connection, mode)?);
        }
        Ok(last)
    }

    fn may_wait(&self) -> bool {
        self.waited.is_none_or(|waited| waited.elapsed() >= WAIT_INTERVAL)
    }

    fn is_at_rest(&self) -> bool {
        self.turns.as_ref().is_some_and(|(rotation, path)| rotation.is_at_rest(path, READERS_LEAVE))
    }

    /// Makes the last checkpoint before the file is closed. Readers may keep it from copying all
    /// pages. The rest stays in the WAL, and nothing is lost.
    pub fn finish(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.checkpoint(connection, CheckpointMode::Truncate).map(drop)
    }

    fn checkpoint(&mut self, connection: &Connection, mode: CheckpointMode) -> rusqlite::Result<Checkpoint> {
        let started = Instant::now();
        let sql = match mode {
            CheckpointMode::Passive => PASSIVE,
            CheckpointMode::Restart => RESTART,
            CheckpointMode::Truncate => TRUNCATE,
        };
        connection.busy_timeout(WAIT_FOR_READERS)?;
        let frames = frames(connection, sql);
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let frames = frames?;
        let remaining = frames.in_wal.saturating_sub(frames.copied);
        Ok(Checkpoint {
            mode,
            is_complete: !frames.is_busy && remaining == 0,
            remaining_bytes: remaining * self.frame_bytes(connection)?,
            duration: started.elapsed(),
        })
    }

    fn frame_bytes(&mut self, connection: &Connection) -> rusqlite::Result<u64> {
        if let Some(bytes) = self.frame_bytes {
            return Ok(bytes);
        }
        let page: u32 = connection.query_row(PAGE_SIZE, [], |row| row.get(0))?;
        Ok(*self.frame_bytes.insert(u64::from(page) + FRAME_HEADER))
    }
}

fn frames(connection: &Connection, sql: &str) -> rusqlite::Result<Frames> {
    connection.query_row(sql, [], |row| {
        // Both counts are -1 if SQLite could not find out.
        let count = |column| row.get::<_, i64>(column).map(|count| u64::try_from(count).unwrap_or(0));
        Ok(Frames { is_busy: row.get(0)?, in_wal: count(1)?, copied: count(2)? })
    })
}
