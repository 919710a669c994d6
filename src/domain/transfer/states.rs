//! States, phases and their like, each with one word.

crate::domain::state_words! {
    /// Which story it is.
    pub enum Mode {
        /// The caller hears the target ring.
        Direct = "direct",
        /// The target is told first, and accepts, while the caller waits in a queue.
        Warm = "warm",
    }
}

crate::domain::state_words! {
    /// Which way of connecting the two is being tried, in this order.
    pub enum Method {
        /// The caller's call is updated to dial the target.
        Redirect = "redirect",
        /// The target is called, and its call takes the caller out of a queue.
        Dequeue = "dequeue",
        /// The target is called into a conference, and the caller's call is moved there.
        Conference = "conference",
    }
}

crate::domain::state_words! {
    /// Where a transfer stands, as clients see it.
    pub enum State {
        /// Nothing was done yet but, in a warm transfer, putting the caller on hold.
        Requested = "requested",
        /// The caller's call is being updated to dial the target, or to be taken back.
        Redirecting = "redirecting",
        /// The caller is being put into the queue from which the target's call takes them.
        Dequeuing = "dequeuing",
        /// A target is being called, or accepted and is not connected yet.
        Ringing = "ringing",
        /// Caller and target are connected. An ending.
        Bridged = "bridged",
        /// The caller was handed back, to a queue or to a script of the client's. An ending.
        Returned = "returned",
        /// No target could be reached. An ending.
        Failed = "failed",
        /// The caller hung up first, or never came. An ending.
        CallerGone = "caller_gone",
        /// Canceled on request. An ending.
        Canceled = "canceled",
    }
}

impl State {
    /// Whether nothing more happens.
    pub const fn is_ended(self) -> bool {
        match self {
            Self::Bridged | Self::Returned | Self::Failed | Self::CallerGone | Self::Canceled => {
                true
            }
            Self::Requested | Self::Redirecting | Self::Dequeuing | Self::Ringing => false,
        }
    }
}

crate::domain::state_words! {
    /// How a transfer came out.
    pub enum Outcome {
        /// Caller and target were connected.
        Bridged = "bridged",
        /// The last target was busy.
        Busy = "busy",
        /// The last target, or its machine, did not answer in time, or pressed no key.
        NoAnswer = "no_answer",
        /// The last target declined.
        Declined = "declined",
        /// The last target could not be called, or the caller could not be moved.
        TargetFailed = "target_failed",
        /// The caller hung up first, or never came.
        CallerGone = "caller_gone",
        /// No target was reached, and the caller was handed back.
        Returned = "returned",
        /// Canceled on request.
        Canceled = "canceled",
    }
}

crate::domain::state_words! {
    /// Why a target was not reached.
    pub enum Miss {
        /// Busy.
        Busy = "busy",
        /// Did not answer in time.
        NoAnswer = "no_answer",
        /// A machine answered.
        Machine = "machine",
        /// Answered, and pressed no key.
        NoKey = "no_key",
        /// Pressed the key that declines.
        Declined = "declined",
        /// Could not be called.
        Failed = "failed",
    }
}

impl Miss {
    /// The outcome of a transfer whose last target was missed so.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Busy => Outcome::Busy,
            Self::NoAnswer | Self::Machine | Self::NoKey => Outcome::NoAnswer,
            Self::Declined => Outcome::Declined,
            Self::Failed => Outcome::TargetFailed,
        }
    }
}

crate::domain::state_words! {
    /// What a transfer is in the middle of: finer than [`State`].
    pub enum Phase {
        /// Nothing was done yet.
        Requested = "requested",
        /// The caller is being put on hold.
        Hold = "hold",
        /// The target is called and told of the incident.
        Notify = "notify",
        /// The target accepted; its notification is ending.
        Settle = "settle",
        /// The target accepted; the caller is yet to dial in.
        AwaitCaller = "await_caller",
        /// The caller's call is being updated to dial the target.
        Redirect = "redirect",
        /// The carrier dials the target for the caller.
        Dialing = "dialing",
        /// That should be over and nothing was heard: the carrier is asked about the caller.
        Check = "check",
        /// The caller is being put into the queue.
        Enqueue = "enqueue",
        /// The target is called, to take the caller out of the queue.
        QueueLeg = "queue_leg",
        /// The target is called into the conference.
        ConferenceLeg = "conference_leg",
        /// The caller is being moved to the conference.
        Move = "move",
        /// The caller is being taken back.
        Return = "return",
        /// It is over.
        Ended = "ended",
    }
}

crate::domain::state_words! {
    /// What is done to the caller's call at the carrier. Before what connects them with the target
    /// is done again, it is looked whether it was done.
    pub enum Action {
        /// Put the caller on hold, in the queue.
        Hold = "hold",
        /// Have the caller's call dial the target.
        Redirect = "redirect",
        /// Put the caller into the queue, from which the target's call takes them.
        Enqueue = "enqueue",
        /// Move the caller to the conference.
        Move = "move",
        /// Let the caller hear the way back.
        Return = "return",
        /// Ask whether the caller's call goes on.
        Check = "check",
    }
}

crate::domain::state_words! {
    /// What a call of ours to the target is for.
    pub enum Purpose {
        /// To tell of the incident, and ask.
        Notify = "notify",
        /// To take the caller out of the queue.
        Queue = "queue",
        /// To meet the caller in the conference.
        Conference = "conference",
    }
}
