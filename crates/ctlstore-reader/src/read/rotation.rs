//! Tells whose turn it is among several LDBs of one host. Entry point: [`Rotation`]. The clock alone decides, so readers
//! and appliers of all processes agree without talking to each other.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Several LDBs of one ledger that are read in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    paths: Vec<PathBuf>,
    period_millis: u64,
}

impl Rotation {
    /// Each of `paths` is read for `period`, at least a millisecond, at a time.
    pub fn new(paths: Vec<PathBuf>, period: Duration) -> Self {
        Self { paths, period_millis: millis(period).max(1) }
    }

    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Whether readers are elsewhere now, and have been for so long that they have left `path`.
    pub fn is_at_rest(&self, path: &Path, leave: Duration) -> bool {
        let now = now_millis();
        let has_turn = |at: u64| self.paths.get(self.turn(at)).is_some_and(|turn| turn == path);
        !has_turn(now) && !has_turn(now.saturating_sub(millis(leave)))
    }

    /// The paths in the order in which they are to be tried now: the one whose turn it is comes first.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &PathBuf> {
        let turn = self.turn(now_millis());
        self.paths.iter().cycle().skip(turn).take(self.paths.len())
    }

    fn turn(&self, at_millis: u64) -> usize {
        let count = self.paths.len().max(1) as u64;
        usize::try_from(at_millis / self.period_millis % count).unwrap_or(0)
    }
}

/// The milliseconds since 1970 by which turns are told.
pub(crate) fn now_millis() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_turn_and_rests_in_between() {
        let rotation = Rotation::new(["a", "b", "c"].map(PathBuf::from).to_vec(), Duration::from_millis(100));
        let turns: Vec<_> = (0..7).map(|period| rotation.turn(period * 100 + 99)).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2, 0]);
        let first = rotation.in_order().next().unwrap().clone();
        assert_eq!(rotation.in_order().count(), 3);
        // Both look at the clock; a turn that ended in between is another one's.
        let is_resting = rotation.is_at_rest(&first, Duration::ZERO);
        assert!(!is_resting || rotation.in_order().next() != Some(&first));
        let alone = Rotation::new(vec![PathBuf::from("a")], Duration::from_secs(1));
        assert!(!alone.is_at_rest(Path::new("a"), Duration::ZERO));
    }
}
