//! Background work: tasks, and webhooks that go out.

use std::time::Duration;

use metrics::{counter, histogram};

use super::catalog;
use crate::domain::state_words;
use crate::domain::task::TaskKind;

state_words! {
    /// How an attempt at a task ended.
    pub enum TaskEnd {
        /// It is done.
        Done = "done",
        /// It is tried again.
        Failed = "failed",
        /// It is given up.
        Dead = "dead",
        /// Its claim had lapsed.
        Lapsed = "lapsed",
    }
}

state_words! {
    /// How an attempt to deliver a webhook ended.
    pub enum Delivered {
        /// The receiver answered 2xx.
        Delivered = "delivered",
        /// It did not; tried again.
        Failed = "failed",
        /// The target is one that may not be called.
        Refused = "refused",
        /// The receiver answered 410: nothing more is sent.
        Gone = "gone",
        /// Given up.
        Dead = "dead",
    }
}

/// An attempt at a task ended after `took`.
pub fn task(kind: TaskKind, end: TaskEnd, took: Duration) {
    counter!(catalog::TASKS, "kind" => kind.as_str(), "result" => end.as_str()).increment(1);
    histogram!(catalog::TASK_SECONDS, "kind" => kind.as_str()).record(took);
}

/// So many deliveries were given up: each after a last attempt that is counted as what it was.
pub fn deliveries_dead(count: u32) {
    counter!(catalog::DELIVERIES, "result" => Delivered::Dead.as_str()).increment(count.into());
}

/// An attempt to deliver a webhook ended after `took`.
pub fn delivery(result: Delivered, took: Duration) {
    counter!(catalog::DELIVERIES, "result" => result.as_str()).increment(1);
    histogram!(catalog::DELIVERY_SECONDS).record(took);
}
