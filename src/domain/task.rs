//! Durable background work: what there is, and when it is tried again.

use std::time::Duration;

use super::Timestamp;

/// A task is begun at most this often, executors that died included; after that it is dead, and
/// kept.
pub const ATTEMPTS_MAX: u32 = 12;
/// Before the second attempt; each further delay is twice the one before.
pub const DELAY_MIN: Duration = Duration::from_secs(1);
/// No delay is longer. With [`ATTEMPTS_MAX`] attempts a task is dead half an hour after its first
/// failure.
pub const DELAY_MAX: Duration = Duration::from_secs(600);
/// Each delay is spread by up to this share of itself, either way, so that what failed together
/// comes back apart.
const JITTER: f64 = 0.2;
/// The longest error kept, in characters.
pub const ERROR_MAX_CHARS: usize = 300;

super::state_words! {
    /// What a task does. All of it may be done twice with the same result.
    pub enum TaskKind {
        /// Brings calls that ended to their leads.
        LeadsFromCalls = "leads_from_calls",
        /// Erases what came up of a lead after it was deleted.
        EraseLead = "erase_lead",
        /// Goes on with a transfer, if there is something to go on with.
        TransferStep = "transfer_step",
        /// Deletes the queue at the carrier in which the caller of a transfer that is over waited.
        CloseQueue = "close_queue",
        /// Tells an endpoint what waits for it.
        DeliverWebhooks = "deliver_webhooks",
        /// Adds the next page of jobs to a run that is made of leads.
        PopulateRun = "populate_run",
        /// Looks again at the next page of jobs that were put off, because windows or caps have
        /// changed.
        Reschedule = "reschedule",
    }
}

super::state_words! {
    /// Where a task stands. One that is done is there no more.
    pub enum TaskState {
        /// To be done, or being done.
        Queued = "queued",
        /// Given up; nothing happens to it unless somebody asks.
        Dead = "dead",
    }
}

super::state_words! {
    /// What a task waits for, so that what waits for somebody else's server holds up nothing of
    /// ours.
    pub enum Lane {
        /// The database.
        Inside = "inside",
        /// Tenants' own servers.
        Outside = "outside",
        /// The carrier, while a caller waits.
        Transfers = "transfers",
    }
}

impl TaskKind {
    /// Where it is done.
    pub const fn lane(self) -> Lane {
        match self {
            Self::LeadsFromCalls | Self::EraseLead | Self::PopulateRun | Self::Reschedule => {
                Lane::Inside
            }
            Self::DeliverWebhooks => Lane::Outside,
            Self::TransferStep | Self::CloseQueue => Lane::Transfers,
        }
    }
}

/// When a task whose `attempts`th attempt failed is tried again; none when it is given up. `draw`
/// is uniform in 0.0..1.0.
pub fn again_at(attempts: u32, now: Timestamp, draw: f64) -> Option<Timestamp> {
    if attempts >= ATTEMPTS_MAX {
        return None;
    }
    let doublings = attempts.saturating_sub(1).min(30);
    let delay = DELAY_MIN.saturating_mul(1 << doublings).min(DELAY_MAX);
    Some(now + delay.mul_f64(1.0 + JITTER * (2.0 * draw.clamp(0.0, 1.0) - 1.0)))
}

/// An error as it is kept.
pub fn clip(error: &str) -> String {
    error.chars().take(ERROR_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn delays_grow_are_bounded_and_end(attempts in 1u32..1_000, draw in 0.0f64..1.0) {
            let now = Timestamp::from_secs(1_000);
            match again_at(attempts, now, draw) {
                None => prop_assert!(attempts >= ATTEMPTS_MAX),
                Some(at) => {
                    prop_assert!(attempts < ATTEMPTS_MAX);
                    let delay = at.since(now).as_secs_f64();
                    let planned = f64::from(1u32 << (attempts - 1)).min(DELAY_MAX.as_secs_f64());
                    prop_assert!((planned * 0.8..=planned * 1.2).contains(&delay), "{delay} for {planned}");
                }
            }
        }
    }

    #[test]
    fn jitter_goes_both_ways() {
        let at = |draw| again_at(1, Timestamp(0), draw).unwrap().micros();
        assert_eq!((at(0.0), at(0.5), at(1.0)), (800_000, 1_000_000, 1_200_000));
    }
}
