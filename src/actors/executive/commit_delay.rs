//! Decides when the next group of requests commits: at once, or after a short delay. The entry
//! points are [`CommitDelay::answered`], after each commit, and [`CommitDelay::hold`].
//!
//! Writers that each wait for their answer fall into two halves without a delay. One half waits
//! while the other half's group commits, so every commit carries half of what it could. The delay
//! gives the writers that were just answered time to come back with their next requests.
//!
//! A group is delayed only after a commit that showed more than one writer, and for a part of that
//! commit's time at most. After a delay that gathered nobody, some groups commit at once. A writer
//! that writes alone never waits. The module keeps time and numbers only.

use std::time::{Duration, Instant};

/// The next commit is delayed for this part of the last commit's time at most.
const PART: u32 = 2;

/// The longest delay, however long the last commit took.
const LONGEST: Duration = Duration::from_millis(5);

/// Groups that commit at once after a delay that gathered nobody: doubled each time, up to this.
const MOST_AT_ONCE: u32 = 64;

#[derive(Debug, Default)]
pub struct CommitDelay {
    delay: Option<Delay>,
    /// Delays that gathered nobody, one after the other.
    misses: u32,
    /// Groups that still commit at once because of that.
    at_once: u32,
}

/// The next group waits until `requests` requests are there, or until the time `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Delay {
    requests: usize,
    until: Instant,
}

impl CommitDelay {
    /// Records a commit: `group` requests were answered at `now`, the commit took the time `took`, and
    /// `waiting` other requests wait. No group is larger than `most`.
    pub fn answered(&mut self, now: Instant, took: Duration, group: usize, waiting: usize, most: usize) {
        self.delay = None;
        // The requests that waited during the commit are from other writers than the answered ones.
        let writers = (group + waiting).min(most);
        if writers < 2 || waiting >= writers {
            return;
        }
        if self.at_once > 0 {
            self.at_once -= 1;
            return;
        }
        self.delay = Some(Delay { requests: writers, until: now + (took / PART).min(LONGEST) });
    }

    /// How long the next group must still wait at `now`, if `waiting` requests are there. `None` if it
    /// commits at once.
    pub fn hold(&mut self, now: Instant, waiting: usize) -> Option<Duration> {
        let delay = self.delay?;
        if waiting >= delay.requests {
            self.delay = None;
            self.misses = 0;
            return None;
        }
        let left = delay.until.saturating_duration_since(now);
        if !left.is_zero() {
            return Some(left);
        }
        self.delay = None;
        self.misses = (self.misses + 1).min(MOST_AT_ONCE.ilog2() + 1);
        self.at_once = 1 << (self.misses - 1);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: Duration = Duration::from_millis(4);
    const MOST: usize = 64;

    fn is_delayed(commit_delay: &mut CommitDelay, now: Instant, waiting: usize) -> bool {
        commit_delay.hold(now, waiting).is_some()
    }

    #[test]
    fn whoever_writes_alone_never_waits() {
        let mut commit_delay = CommitDelay::default();
        let mut now = Instant::now();
        for _ in 0..100 {
            assert!(!is_delayed(&mut commit_delay, now, 1));
            now += COMMIT;
            commit_delay.answered(now, COMMIT, 1, 0, MOST);
            assert!(!is_delayed(&mut commit_delay, now, 0));
        }
    }

    #[test]
    fn halves_become_one_group_as_soon_as_all_are_back() {
        let mut commit_delay = CommitDelay::default();
        let now = Instant::now();
        commit_delay.answered(now, COMMIT, 4, 4, MOST);
        for waiting in 4..8 {
            assert!(is_delayed(&mut commit_delay, now, waiting), "{waiting} of 8 wait");
        }
        assert!(!is_delayed(&mut commit_delay, now, 8));
        commit_delay.answered(now, COMMIT, 8, 0, MOST);
        assert!(is_delayed(&mut commit_delay, now, 7));
        assert!(!is_delayed(&mut commit_delay, now, 9));
    }

    #[test]
    fn what_is_held_goes_after_a_part_of_the_commits_time() {
        let mut commit_delay = CommitDelay::default();
        let now = Instant::now();
        commit_delay.answered(now, COMMIT, 4, 4, MOST);
        assert_eq!(commit_delay.hold(now, 5), Some(COMMIT / PART));
        assert!(!is_delayed(&mut commit_delay, now + COMMIT / PART, 5));
        let slow = Duration::from_secs(3);
        let mut commit_delay = CommitDelay::default();
        commit_delay.answered(now, slow, 4, 4, MOST);
        assert_eq!(commit_delay.hold(now, 5), Some(LONGEST));
    }

    #[test]
    fn who_comes_later_than_that_does_not_wait() {
        let mut commit_delay = CommitDelay::default();
        let now = Instant::now();
        commit_delay.answered(now, COMMIT, 8, 0, MOST);
        assert!(!is_delayed(&mut commit_delay, now + COMMIT, 1));
    }

    #[test]
    fn writers_who_do_not_come_back_in_time_are_waited_for_ever_less_often() {
        let mut commit_delay = CommitDelay::default();
        let mut now = Instant::now();
        let mut misses = 0;
        for _ in 0..1_000 {
            commit_delay.answered(now, COMMIT, 4, 4, MOST);
            if is_delayed(&mut commit_delay, now, 4) {
                misses += 1;
                now += COMMIT;
                assert!(!is_delayed(&mut commit_delay, now, 4));
            }
        }
        assert!((8..30).contains(&misses), "{misses} of 1,000 groups waited in vain");
        // Once all come back in time they are waited for each time.
        while {
            commit_delay.answered(now, COMMIT, 8, 0, MOST);
            !is_delayed(&mut commit_delay, now, 7)
        } {}
        assert!(!is_delayed(&mut commit_delay, now, 8));
        for _ in 0..10 {
            commit_delay.answered(now, COMMIT, 8, 0, MOST);
            assert!(is_delayed(&mut commit_delay, now, 7));
            assert!(!is_delayed(&mut commit_delay, now, 8));
        }
    }

    #[test]
    fn a_full_group_is_not_held() {
        let mut commit_delay = CommitDelay::default();
        let now = Instant::now();
        commit_delay.answered(now, COMMIT, MOST, MOST, MOST);
        assert!(!is_delayed(&mut commit_delay, now, MOST));
    }
}
