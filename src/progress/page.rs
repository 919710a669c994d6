//! What a page of the log means to a watcher that stands at a revision. Pure.

use super::OutOfRange;
use crate::domain::event::Commit;
use crate::store::{LogPage, TransferCommit};

/// What a log is made of.
pub(super) trait Revised {
    /// Its place in the log.
    fn revision(&self) -> i64;
}

impl Revised for Commit {
    fn revision(&self) -> i64 {
        self.revision
    }
}

impl Revised for TransferCommit {
    fn revision(&self) -> i64 {
        self.revision
    }
}

/// What a watcher does with a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judged<C = Commit> {
    /// To be sent, in order: each revision follows the one before.
    pub commits: Vec<C>,
    /// What comes after they are sent.
    pub then: Then,
}

/// What a watcher does after a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Read on at once.
    Read,
    /// Wait until something changes.
    Wait,
    /// End: the run is over and all of it was sent.
    End,
}

/// Judges `page`, read for a watcher that has seen everything up to `at`.
pub(super) fn judge<C: Revised>(at: i64, page: LogPage<C>) -> Result<Judged<C>, OutOfRange> {
    // The store may read rows and revision in two statements: a row in hand counts, whatever
    // `latest` says.
    let latest = page.commits.last().map_or(page.latest, |last| page.latest.max(last.revision()));
    if at > latest {
        return Err(OutOfRange::Future);
    }
    let mut commits = page.commits;
    let mut reached = at;
    let hole = commits.iter().position(|commit| {
        let follows = commit.revision() == reached + 1;
        reached += i64::from(follows);
        !follows
    });
    // A hole ends the page; read again from there, it stands first and shows as trimmed.
    commits.truncate(hole.unwrap_or(commits.len()));
    if hole == Some(0) || (latest > at && commits.is_empty() && page.oldest > at + 1) {
        return Err(OutOfRange::Trimmed);
    }
    let then = match (reached == latest, page.ended, commits.is_empty()) {
        (true, true, _) => Then::End,
        (true, false, _) => Then::Wait,
        // Nothing came although there is more: it committed between two statements. Not a reason to
        // spin.
        (false, _, true) => Then::Wait,
        (false, _, false) => Then::Read,
    };
    Ok(Judged { commits, then })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Timestamp;
    use crate::domain::event::Progress;
    use crate::domain::run::{JobCounts, OutcomeCounts, RunState};

    fn commit(revision: i64) -> Commit {
        let progress = Progress {
            state: RunState::Running,
            counts: JobCounts::default(),
            outcomes: OutcomeCounts::default(),
        };
        Commit { revision, at: Timestamp(revision), progress, events: Vec::new() }
    }

    fn page(
        revisions: impl IntoIterator<Item = i64>,
        oldest: i64,
        latest: i64,
        ended: bool,
    ) -> LogPage {
        LogPage { commits: revisions.into_iter().map(commit).collect(), latest, oldest, ended }
    }

    fn seen(judged: &Judged) -> Vec<i64> {
        judged.commits.iter().map(|commit| commit.revision).collect()
    }

    #[test]
    fn ends_only_when_all_was_sent() {
        assert_eq!(judge(2, page([3, 4], 1, 5, true)).unwrap().then, Then::Read);
        assert_eq!(judge(3, page([4, 5], 1, 5, true)).unwrap().then, Then::End);
        assert_eq!(judge(5, page([], 1, 5, true)).unwrap().then, Then::End);
        assert_eq!(judge(5, page([], 1, 5, false)).unwrap().then, Then::Wait);
    }

    #[test]
    fn refuses_what_cannot_be_continued() {
        assert_eq!(judge(6, page([], 1, 5, false)), Err(OutOfRange::Future));
        assert_eq!(judge(2, page([5, 6], 5, 6, false)), Err(OutOfRange::Trimmed));
        assert_eq!(judge(2, page([], 7, 6, false)), Err(OutOfRange::Trimmed));
        assert_eq!(judge(6, page([], 7, 6, false)).unwrap().then, Then::Wait);
        assert_eq!(judge(4, page([5, 6], 5, 6, false)).map(|judged| seen(&judged)), Ok(vec![5, 6]));
    }

    #[test]
    fn rows_newer_than_the_revision_read_before_them_count() {
        let judged = judge(4, page([5, 6], 1, 4, false)).unwrap();
        assert_eq!((seen(&judged), judged.then), (vec![5, 6], Then::Wait));
        assert_eq!(judge(4, page([], 1, 6, false)).unwrap().then, Then::Wait);
    }

    #[test]
    fn a_hole_is_never_stepped_over() {
        let judged = judge(1, page([2, 4], 1, 4, true)).unwrap();
        assert_eq!((seen(&judged), judged.then), (vec![2], Then::Read));
        assert_eq!(judge(2, page([4], 1, 4, true)), Err(OutOfRange::Trimmed));
    }

    proptest! {
        /// Wherever a watcher begins and however small its pages are, it sees each revision once,
        /// in order.
        #[test]
        fn each_revision_once(start in 0i64..40, length in 0i64..40, limit in 1i64..9, ended in any::<bool>()) {
            let latest = start + length;
            let (mut at, mut got) = (start, Vec::new());
            for _ in 0..=length {
                let judged = judge(at, page(at + 1..=latest.min(at + limit), 1, latest, ended)).unwrap();
                got.extend(seen(&judged));
                at = got.last().copied().unwrap_or(at);
                if judged.then != Then::Read {
                    prop_assert_eq!(judged.then == Then::End, ended);
                    break;
                }
            }
            prop_assert_eq!(got, (start + 1..=latest).collect::<Vec<_>>());
        }
    }
}
