//! A program's place in a changelog. Entry points: [`Follower::try_next`], [`Follower::next_within`], and
//! the iterator. `file` reads lines across rotations; `entry` finds a kept place.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::entry::{self, ChangelogPosition, Entry, LocatedPosition};
use super::file::ChangelogFile;

/// The first pause between two looks at a file that has not grown. Each pause is twice as long as
/// the one before, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Why there is no entry.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// Entries were missed, so a cached row of any table may be stale. The next entry is the first one
    /// after the gap.
    #[error("changelog {} lacks entries: {} was to come, {} came", path.display(), shown(*.expected), shown(*.found))]
    OutOfSync {
        path: PathBuf,
        /// The number that was expected; `None` if any was possible.
        expected: Option<u64>,
        /// The number that came; `None` if a line was not an entry, or a kept position was not found.
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
/// As an iterator it blocks until there is an entry. With a [`timeout`](Self::timeout) it returns
/// `None` if no entry comes in time; the program can then call it again.
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
    file: ChangelogFile,
    family: Option<String>,
    table: Option<String>,
    timeout: Option<Duration>,
    begin: Begin,
    /// The place after the last entry that was read, also if the caller does not want that entry.
    position: Option<ChangelogPosition>,
    /// An entry that is returned after a [`FollowError::OutOfSync`].
    held: Option<(Entry, ChangelogPosition)>,
}

/// The step before the first entry.
#[derive(Debug)]
enum Begin {
    /// No step is left.
    Done,
    /// Skip the present entries.
    SkipAll,
    /// Find a kept position.
    Resume(ChangelogPosition),
}

impl Follower {
    /// Begins with the first entry of the file. The file need not exist yet.
    pub fn at_start(path: impl Into<PathBuf>) -> Self {
        Self::new(path.into(), Begin::Done)
    }

    /// Begins with the entry that is written next.
    pub fn at_end(path: impl Into<PathBuf>) -> Self {
        let mut this = Self::new(path.into(), Begin::SkipAll);
        // The entries that are there now are skipped. An error here is repeated by the first read.
        let _ = this.begin();
        this
    }

    /// Goes on after a kept position. If that place can't be found for certain,
    /// [`FollowError::OutOfSync`] comes first.
    pub fn resume(path: impl Into<PathBuf>, position: ChangelogPosition) -> Self {
        Self::new(path.into(), Begin::Resume(position))
    }

    fn new(path: PathBuf, begin: Begin) -> Self {
        Self {
            file: ChangelogFile::new(path),
            family: None,
            table: None,
            timeout: None,
            begin,
            position: None,
            held: None,
        }
    }

    /// Returns only entries of this family. Missed entries of any family are still reported.
    pub fn family(mut self, family: &str) -> Self {
        self.family = Some(family.to_owned());
        self
    }

    /// Returns only entries of this table.
    pub fn table(self, family: &str, table: &str) -> Self {
        Self { table: Some(table.to_owned()), ..self.family(family) }
    }

    /// Sets how long the iterator waits for an entry. Without it, the iterator waits forever.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The place after the last entry; `None` before the first. A program keeps it when it has dealt
    /// with that entry, for [`resume`](Self::resume).
    pub fn position(&self) -> Option<&ChangelogPosition> {
        self.position.as_ref()
    }

    /// The path of the changelog.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The next entry; `None` if there is none yet.
    pub fn try_next(&mut self) -> Result<Option<Entry>, FollowError> {
        loop {
            match self.pass() {
                Ok(Some(entry)) if self.wants(&entry) => return Ok(Some(entry)),
                Ok(Some(_)) => {}
                other => return other,
            }
        }
    }

    /// The next entry; `None` if none comes within `timeout`.
    pub fn next_within(&mut self, timeout: Duration) -> Result<Option<Entry>, FollowError> {
        self.wait(Instant::now().checked_add(timeout))
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<Option<Entry>, FollowError> {
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(entry) = self.try_next()? {
                return Ok(Some(entry));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match left {
                Some(Duration::ZERO) => return Ok(None),
                left => thread::sleep(left.map_or(pause, |left| left.min(pause))),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
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
        let parsed = self.file.next_line().map(|line| line.map(|line| entry::parse(&line)));
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
                // The line's number is unknown, so any number may follow.
                self.position = None;
                Err(self.out_of_sync(expected, None))
            }
        }
    }

    /// Finds the place to begin at. Returns false while there is no file.
    fn begin(&mut self) -> Result<bool, FollowError> {
        let begun = match &self.begin {
            Begin::Done => return Ok(true),
            Begin::SkipAll => entry::last(&mut self.file).map(|last| last.map(LocatedPosition::At)),
            Begin::Resume(position) => entry::find(&mut self.file, position),
        };
        let found = match begun.map_err(|source| self.failed(source))? {
            Some(found) => found,
            // All entries of a file that appears later are new.
            None if matches!(self.begin, Begin::SkipAll) => LocatedPosition::NotFound,
            None => return Ok(false),
        };
        let begin = std::mem::replace(&mut self.begin, Begin::Done);
        match (found, begin) {
            (LocatedPosition::At(position), _) => self.position = Some(position),
            (LocatedPosition::NotFound, Begin::Resume(lost)) => {
                return Err(self.out_of_sync(Some(lost.seq.wrapping_add(1)), None));
            }
            (LocatedPosition::NotFound, _) => {}
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
