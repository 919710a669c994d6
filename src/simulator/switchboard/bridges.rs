//! Who talks to whom.

use tokio_util::sync::CancellationToken;

use crate::domain::call::CarrierStatus;
use crate::simulator::ledger::{Bridge, ENTRIES_MAX, Via};

use super::{Change, Switchboard};

/// A bridge that stands.
pub(super) struct Open {
    /// Its place in the ledger; none when the ledger is full.
    record: Option<usize>,
    legs: [usize; 2],
    over: CancellationToken,
}

impl Switchboard {
    /// Lets two calls hear each other, and gives what is canceled when they do not any more; none
    /// when one of them has ended. A caller that heard it ring until now is answered by this.
    pub fn bridge(
        &mut self,
        dialing: usize,
        dialed: usize,
        via: Via,
        name: Option<&str>,
    ) -> Option<CancellationToken> {
        let legs = [dialing, dialed];
        if !legs.iter().all(|index| self.live.contains_key(index)) {
            return None;
        }
        if self.calls[dialing].status == CarrierStatus::Ringing {
            self.change(
                dialing,
                Change { status: CarrierStatus::InProgress, duration_s: None, sip: 200 },
            );
        }
        let now = self.clock.now();
        let record = (self.ledger.bridges.len() < ENTRIES_MAX).then(|| {
            self.ledger.bridges.push(Bridge {
                legs: legs.map(|index| self.calls[index].sid.clone()),
                via,
                name: name.map(str::to_owned),
                from_us: now.at,
                from_monotonic_us: now.monotonic_us,
                until_us: None,
                until_monotonic_us: None,
            });
            self.ledger.bridges.len() - 1
        });
        let over = CancellationToken::new();
        self.open.push(Open { record, legs, over: over.clone() });
        Some(over)
    }

    /// Ends every bridge of a call.
    pub fn part(&mut self, index: usize) {
        let now = self.clock.now();
        let ended = self.open.extract_if(.., |open| open.legs.contains(&index));
        for open in ended {
            open.over.cancel();
            if let Some(bridge) = open.record.and_then(|record| self.ledger.bridges.get_mut(record))
            {
                bridge.until_us = Some(now.at);
                bridge.until_monotonic_us = Some(now.monotonic_us);
            }
        }
    }
}
