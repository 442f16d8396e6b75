//! Follows the changelog from another program: entry by entry, through rotation, and
//! from a position on that was kept. Reads the file and nothing else; needs no node.
//!
//! Works on changelogs of the original too, whose entries name no ledger seq.

mod entry;
mod file;
mod position;
mod stream;

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

pub use entry::{Entry, KeyColumn};
pub use position::ChangelogPosition;
pub use stream::FollowerStream;

use file::{File, Line};
use position::LocatedPosition;

/// The pause between two looks at a file that has not grown: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// Why there is no entry.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// Entries were missed: whatever was cached of any table may be stale. The entry
    /// that comes next is the first one behind the gap.
    #[error("changelog {} lacks entries: {} was to come, {} came", path.display(), shown(*.expected), shown(*.found))]
    OutOfSync {
        path: PathBuf,
        /// The number that was to come, where one was.
        expected: Option<u64>,
        /// The number that came; `None` where a line was no entry, or a kept position was
        /// not found.
        found: Option<u64>,
    },
    /// The file could not be read. It is tried again when the next entry is asked for.
    #[error("changelog {} can't be read: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

fn shown(number: Option<u64>) -> String {
    number.map_or_else(|| "something else".to_owned(), |number| format!("entry {number}"))
}

/// A program's place in a changelog.
///
/// As an iterator it blocks until there is an entry, or, with a
/// [`timeout`](Self::timeout), gives `None` when none came in time; it may be asked
/// again then.
///
/// ```no_run
/// use ctlstore_reader::changelog::{FollowError, Follower};
///
/// for entry in Follower::at_end("/var/spool/ctlstore/change.log").family("shop") {
///     match entry {
///         Ok(entry) => println!("{}.{} {:?}", entry.family, entry.table, entry.key),
///         Err(FollowError::OutOfSync { .. }) => println!("drop all that is cached"),
///         Err(error) => return eprintln!("{error}"),
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Follower {
    file: File,
    family: Option<String>,
    table: Option<String>,
    timeout: Option<Duration>,
    begin: Begin,
    /// The entry that was passed last, given or not asked for.
    position: Option<ChangelogPosition>,
    /// An entry that comes behind an [`FollowError::OutOfSync`].
    held: Option<(Entry, ChangelogPosition)>,
}

/// What is to be done before the first entry.
#[derive(Debug)]
enum Begin {
    Done,
    SkipAll,
    Resume(ChangelogPosition),
}

impl Follower {
    /// Begins with what the file holds now. It need not exist yet.
    pub fn at_start(path: impl Into<PathBuf>) -> Self {
        Self::new(path.into(), Begin::Done)
    }

    /// Begins with the entry that is written next.
    pub fn at_end(path: impl Into<PathBuf>) -> Self {
        let mut this = Self::new(path.into(), Begin::SkipAll);
        // What is there now is no news. What fails here fails again when it is read.
        let _ = this.begin();
        this
    }

    /// Goes on behind a position that was kept. Where that place can't be found any
    /// more, or not without doubt, [`FollowError::OutOfSync`] comes first.
    pub fn resume(path: impl Into<PathBuf>, position: ChangelogPosition) -> Self {
        Self::new(path.into(), Begin::Resume(position))
    }

    fn new(path: PathBuf, begin: Begin) -> Self {
        Self { file: File::new(path), family: None, table: None, timeout: None, begin, position: None, held: None }
    }

    /// Only entries of this family. What is missed is missed in any family.
    pub fn family(mut self, family: &str) -> Self {
        self.family = Some(family.to_owned());
        self
    }

    /// Only entries of this table.
    pub fn table(self, family: &str, table: &str) -> Self {
        Self { table: Some(table.to_owned()), ..self.family(family) }
    }

    /// How long the iterator waits for an entry; forever, unless this is set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The entry that was passed last: to be kept once it is dealt with, for
    /// [`resume`](Self::resume). `None` before the first.
    pub fn position(&self) -> Option<&ChangelogPosition> {
        self.position.as_ref()
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The next entry, if it is there already.
    pub fn try_next(&mut self) -> Result<Option<Entry>, FollowError> {
        loop {
            match self.pass() {
                Ok(Some(entry)) if self.wants(&entry) => return Ok(Some(entry)),
                Ok(Some(_)) => {}
                other => return other,
            }
        }
    }

    /// The next entry, `None` when none comes within `timeout`.
    pub fn next_within(&mut self, timeout: Duration) -> Result<Option<Entry>, FollowError> {
        self.wait(Instant::now().checked_add(timeout))
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<Option<Entry>, FollowError> {
        let mut pause = PAUSE.0;
        loop {
            if let Some(entry) = self.try_next()? {
                return Ok(Some(entry));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match left {
                Some(Duration::ZERO) => return Ok(None),
                left => thread::sleep(left.map_or(pause, |left| left.min(pause))),
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    fn wants(&self, entry: &Entry) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        is(&self.family, &entry.family) && is(&self.table, &entry.table)
    }

    /// The next entry of any table.
    fn pass(&mut self) -> Result<Option<Entry>, FollowError> {
        if !self.begin()? {
            return Ok(None);
        }
        if let Some((entry, position)) = self.held.take() {
            self.position = Some(position);
            return Ok(Some(entry));
        }
        let parsed = self.file.next_line().map(|line| line.map(|line| Entry::parse(&line)));
        let Some(parsed) = parsed.map_err(|source| self.failed(source))? else { return Ok(None) };
        let expected = self.position.as_ref().map(|position| position.seq.wrapping_add(1));
        match parsed {
            Some((entry, position)) if expected.is_none_or(|expected| expected == entry.seq) => {
                self.position = Some(position);
                Ok(Some(entry))
            }
            Some((entry, position)) => {
                let found = Some(entry.seq);
                self.held = Some((entry, position));
                Err(self.out_of_sync(expected, found))
            }
            None => {
                // Whatever comes behind it, nobody knows what this was.
                self.position = None;
                Err(self.out_of_sync(expected, None))
            }
        }
    }

    /// Finds the place to begin at. False while there is no file.
    fn begin(&mut self) -> Result<bool, FollowError> {
        let begun = match &self.begin {
            Begin::Done => return Ok(true),
            Begin::SkipAll => position::last(&mut self.file).map(|last| last.map(LocatedPosition::At)),
            Begin::Resume(position) => position::find(&mut self.file, position),
        };
        let found = match begun.map_err(|source| self.failed(source))? {
            Some(found) => found,
            // A file that comes later is news from its beginning.
            None if matches!(self.begin, Begin::SkipAll) => LocatedPosition::Nothing,
            None => return Ok(false),
        };
        let begin = std::mem::replace(&mut self.begin, Begin::Done);
        match (found, begin) {
            (LocatedPosition::At(position), _) => self.position = Some(position),
            (LocatedPosition::Nothing, Begin::Resume(lost)) => {
                return Err(self.out_of_sync(Some(lost.seq.wrapping_add(1)), None));
            }
            (LocatedPosition::Nothing, _) => {}
        }
        Ok(true)
    }

    fn out_of_sync(&self, expected: Option<u64>, found: Option<u64>) -> FollowError {
        FollowError::OutOfSync { path: self.file.path().to_owned(), expected, found }
    }

    fn failed(&self, source: io::Error) -> FollowError {
        FollowError::Io { path: self.file.path().to_owned(), source }
    }
}

impl Iterator for Follower {
    type Item = Result<Entry, FollowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.wait(deadline).transpose()
    }
}

impl Entry {
    fn parse(line: &Line<'_>) -> Option<(Self, ChangelogPosition)> {
        let entry: Self = serde_json::from_slice(line.bytes).ok()?;
        let position = ChangelogPosition::of(&entry, line);
        Some((entry, position))
    }
}
