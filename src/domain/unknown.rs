//! What became of a create request whose answer was lost: decided from the account's list of calls.

use std::time::Duration;

use super::call::CarrierStatus;
use super::{CallSid, Timestamp};

/// The carrier's clock and ours, and the seconds that its dates are cut to.
const SLACK: Duration = Duration::from_secs(5);
/// A request can be under way this long after its intent: the lease of 20 s and the request's own
/// 15 s.
pub const DEADLINE: Duration = Duration::from_secs(35);
/// Nothing is given up sooner after the intent.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);
/// An unknown call of which nothing was heard for this long is given up, whatever the look-ups
/// said.
pub const STALE_AFTER: Duration = Duration::from_secs(15 * 60);
/// No request for an intent can be under way this long after it: [`DEADLINE`], and a little for
/// commits.
pub const ABANDONED_AFTER: Duration = Duration::from_secs(45);
/// Nothing is given up on fewer empty look-ups.
const EMPTY_LOOKUPS: u32 = 2;

/// A call of the account's list between the same two numbers, in no row of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub sid: CallSid,
    /// Where it stands.
    pub status: CarrierStatus,
    /// When it was created, if the carrier says so.
    pub created_at: Option<Timestamp>,
}

/// What a successful look-up means for an unknown call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This is it.
    Adopt(Candidate),
    /// It was never created.
    GiveUp,
    /// Nothing yet: too early, or more than one call or unknown fits.
    Wait {
        /// Whether the look-up counts as an empty one.
        empty: bool,
    },
}

/// Decides about the unknown call whose intent was committed at `created_at`.
///
/// `candidates` are what the list holds, `rivals` how many other unknown calls the same candidates
/// would fit, `empty_lookups` how many successful look-ups found nothing before this one.
pub fn decide(
    created_at: Timestamp,
    candidates: &[Candidate],
    rivals: usize,
    empty_lookups: u32,
    now: Timestamp,
) -> Verdict {
    let span = created_at - SLACK..=created_at + DEADLINE + SLACK;
    // One without a date may be it, so it stands in the way of any other decision.
    let fitting: Vec<&Candidate> = candidates
        .iter()
        .filter(|call| call.created_at.is_none_or(|at| span.contains(&at)))
        .collect();
    match fitting.as_slice() {
        [only] if rivals == 0 && only.created_at.is_some() => Verdict::Adopt((*only).clone()),
        [] if empty_lookups + 1 >= EMPTY_LOOKUPS && now >= created_at + GIVE_UP_AFTER => {
            Verdict::GiveUp
        }
        [] => Verdict::Wait { empty: true },
        _ => Verdict::Wait { empty: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(n: u8, at: u64) -> Candidate {
        Candidate {
            sid: format!("CA{n:032x}").parse().unwrap(),
            status: CarrierStatus::Ringing,
            created_at: Some(Timestamp(0) + Duration::from_secs(at)),
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(0) + Duration::from_secs(seconds)
    }

    #[test]
    fn exactly_one_for_exactly_one_is_adopted() {
        let one = [candidate(1, 101)];
        assert_eq!(decide(at(100), &one, 0, 0, at(110)), Verdict::Adopt(candidate(1, 101)));
        assert_eq!(decide(at(100), &one, 1, 0, at(110)), Verdict::Wait { empty: false });
        let two = [candidate(1, 101), candidate(2, 102)];
        assert_eq!(decide(at(100), &two, 0, 9, at(500)), Verdict::Wait { empty: false });
    }

    #[test]
    fn what_was_created_at_another_time_is_another_call() {
        let others = [candidate(1, 94), candidate(2, 141)];
        assert_eq!(decide(at(100), &others, 0, 0, at(110)), Verdict::Wait { empty: true });
        let edges = [candidate(1, 95)];
        assert!(matches!(decide(at(100), &edges, 0, 0, at(110)), Verdict::Adopt(_)));
    }

    #[test]
    fn given_up_only_after_two_empty_look_ups_and_a_minute() {
        assert_eq!(decide(at(0), &[], 0, 0, at(70)), Verdict::Wait { empty: true });
        assert_eq!(decide(at(0), &[], 0, 1, at(59)), Verdict::Wait { empty: true });
        assert_eq!(decide(at(0), &[], 0, 1, at(60)), Verdict::GiveUp);
    }

    #[test]
    fn a_call_without_a_date_decides_nothing() {
        let undated = [Candidate { created_at: None, ..candidate(1, 0) }];
        assert_eq!(decide(at(0), &undated, 0, 5, at(90)), Verdict::Wait { empty: false });
    }
}
