//! Keys that a test presses on a live call.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// Keys that wait to be heard; more are not.
const WAITING_MAX: usize = 256;

/// The keypad of one call.
#[derive(Default)]
pub(crate) struct Keys {
    pressed: Mutex<VecDeque<char>>,
    more: Notify,
}

impl Keys {
    fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<char>> {
        // A queue of characters is whole after every change.
        self.pressed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn press(&self, digits: &str) {
        let mut waiting = self.waiting();
        let room = WAITING_MAX.saturating_sub(waiting.len());
        waiting.extend(digits.chars().take(room));
        drop(waiting);
        self.more.notify_one();
    }

    /// Nobody listened to what was pressed until now.
    pub fn forget(&self) {
        self.waiting().clear();
    }

    /// The next key, as soon as it is pressed. One call has one listener.
    pub async fn next(&self) -> char {
        loop {
            // Bound, so that the lock is not held while waiting.
            let next = self.waiting().pop_front();
            match next {
                Some(key) => return key,
                None => self.more.notified().await,
            }
        }
    }
}
