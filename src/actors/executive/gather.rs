//! When the next group goes: at once, or when the writers who were just answered are back
//! with their next requests. Without that, writers who each wait for their answer fall
//! into two halves, one of which waits while the other's group commits, and every commit
//! carries half of what it could. Pure.
//!
//! A group is held back only right after a commit that showed more than one writer, for a
//! part of that commit's time, and not for a while after that was in vain. Whoever
//! writes alone never waits.

use std::time::{Duration, Instant};

/// The part of the last commit's time that the next one may be held back for.
const PART: u32 = 2;

/// However long the last commit took.
const LONGEST: Duration = Duration::from_millis(5);

/// Groups that go at once after one was held back in vain: doubled each time, up to this.
const MOST_AT_ONCE: u32 = 64;

#[derive(Debug, Default)]
pub struct Gathering {
    held: Option<Hold>,
    /// Groups that were held in vain, one after the other.
    in_vain: u32,
    /// Groups that still go at once for that.
    at_once: u32,
}

/// The next group is held until so many requests wait, or until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hold {
    requests: usize,
    until: Instant,
}

impl Gathering {
    /// A group of `group` requests was answered at `now`, `took` after it set out, while
    /// `waiting` others wait. No group is larger than `most`.
    pub fn answered(&mut self, now: Instant, took: Duration, group: usize, waiting: usize, most: usize) {
        self.held = None;
        // Who waited while the group was on its way is none of those who were answered.
        let writers = (group + waiting).min(most);
        if writers < 2 || waiting >= writers {
            return;
        }
        if self.at_once > 0 {
            self.at_once -= 1;
            return;
        }
        self.held = Some(Hold { requests: writers, until: now + (took / PART).min(LONGEST) });
    }

    /// How long the next group is to be held back at `now`, where `waiting` requests wait;
    /// `None` when it goes at once.
    pub fn hold(&mut self, now: Instant, waiting: usize) -> Option<Duration> {
        let hold = self.held?;
        if waiting >= hold.requests {
            (self.held, self.in_vain) = (None, 0);
            return None;
        }
        let left = hold.until.saturating_duration_since(now);
        if !left.is_zero() {
            return Some(left);
        }
        self.held = None;
        self.in_vain = (self.in_vain + 1).min(MOST_AT_ONCE.ilog2() + 1);
        self.at_once = 1 << (self.in_vain - 1);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: Duration = Duration::from_millis(4);
    const MOST: usize = 64;

    fn held(gathering: &mut Gathering, now: Instant, waiting: usize) -> bool {
        gathering.hold(now, waiting).is_some()
    }

    #[test]
    fn whoever_writes_alone_never_waits() {
        let (mut gathering, mut now) = (Gathering::default(), Instant::now());
        for _ in 0..100 {
            assert!(!held(&mut gathering, now, 1));
            now += COMMIT;
            gathering.answered(now, COMMIT, 1, 0, MOST);
            assert!(!held(&mut gathering, now, 0));
        }
    }

    #[test]
    fn halves_become_one_group_as_soon_as_all_are_back() {
        let (mut gathering, now) = (Gathering::default(), Instant::now());
        gathering.answered(now, COMMIT, 4, 4, MOST);
        for waiting in 4..8 {
            assert!(held(&mut gathering, now, waiting), "{waiting} of 8 wait");
        }
        assert!(!held(&mut gathering, now, 8));
        gathering.answered(now, COMMIT, 8, 0, MOST);
        assert!(held(&mut gathering, now, 7));
        assert!(!held(&mut gathering, now, 9));
    }

    #[test]
    fn what_is_held_goes_after_a_part_of_the_commits_time() {
        let (mut gathering, now) = (Gathering::default(), Instant::now());
        gathering.answered(now, COMMIT, 4, 4, MOST);
        assert_eq!(gathering.hold(now, 5), Some(COMMIT / PART));
        assert!(!held(&mut gathering, now + COMMIT / PART, 5));
        let slow = Duration::from_secs(3);
        let mut gathering = Gathering::default();
        gathering.answered(now, slow, 4, 4, MOST);
        assert_eq!(gathering.hold(now, 5), Some(LONGEST));
    }

    #[test]
    fn who_comes_later_than_that_does_not_wait() {
        let (mut gathering, now) = (Gathering::default(), Instant::now());
        gathering.answered(now, COMMIT, 8, 0, MOST);
        assert!(!held(&mut gathering, now + COMMIT, 1));
    }

    #[test]
    fn writers_who_do_not_come_back_in_time_are_waited_for_ever_less_often() {
        let (mut gathering, mut now) = (Gathering::default(), Instant::now());
        let mut in_vain = 0;
        for _ in 0..1_000 {
            gathering.answered(now, COMMIT, 4, 4, MOST);
            if held(&mut gathering, now, 4) {
                in_vain += 1;
                now += COMMIT;
                assert!(!held(&mut gathering, now, 4));
            }
        }
        assert!((8..30).contains(&in_vain), "{in_vain} of 1,000 groups waited in vain");
        // Once all come back in time they are waited for each time.
        while {
            gathering.answered(now, COMMIT, 8, 0, MOST);
            !held(&mut gathering, now, 7)
        } {}
        assert!(!held(&mut gathering, now, 8));
        for _ in 0..10 {
            gathering.answered(now, COMMIT, 8, 0, MOST);
            assert!(held(&mut gathering, now, 7));
            assert!(!held(&mut gathering, now, 8));
        }
    }

    #[test]
    fn a_full_group_is_not_held() {
        let (mut gathering, now) = (Gathering::default(), Instant::now());
        gathering.answered(now, COMMIT, MOST, MOST, MOST);
        assert!(!held(&mut gathering, now, MOST));
    }
}
