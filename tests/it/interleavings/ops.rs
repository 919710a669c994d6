//! What can happen, and how it is drawn. Numbers stand for things that exist by then, modulo how
//! many there are.

use proptest::prelude::*;
use trunkline::domain::call::{AnsweredBy, CarrierStatus, RejectClass};
use trunkline::domain::run::Command;

/// What happens at the same time, after the clock moved.
#[derive(Debug, Clone)]
pub struct Step {
    pub time: Option<Time>,
    pub ops: Vec<Op>,
}

/// What only time brings.
#[derive(Debug, Clone)]
pub enum Time {
    /// Everything that was put off is due.
    Due,
    /// A run's expiry time passes.
    Expiry(u8),
}

#[derive(Debug, Clone)]
pub enum Op {
    Create {
        tenant: u8,
        concurrency: u32,
        weight: u32,
        attempts: u32,
        jobs: Phones,
        start: bool,
        seal: bool,
    },
    Add {
        run: u8,
        jobs: Phones,
    },
    Command {
        run: u8,
        command: Command,
    },
    Limit {
        run: u8,
        concurrency: u32,
    },
    /// Holidays around today, or none any more.
    Holidays {
        run: u8,
        shut: bool,
    },
    /// The pages that such changes put in.
    Reschedule,
    LimitTenant {
        tenant: u8,
        concurrent: u32,
    },
    CancelJobs {
        run: u8,
        jobs: Vec<u8>,
    },
    Retry {
        run: u8,
    },
    Claim {
        tenant: u8,
        worker: u8,
        max: usize,
    },
    /// One batch, in this order.
    News {
        tenant: u8,
        news: Vec<(u8, Piece)>,
    },
    /// A call of the other tenant.
    Foreign {
        call: u8,
        piece: Piece,
    },
    /// Every intent counts as abandoned.
    LoseIntents,
    /// Every unknown call counts as stale.
    PresumeStale,
    /// The account's list is read for every unknown call; does it hold the call?
    LookUp {
        found: bool,
    },
    HangUps,
    Sweep,
    Reconcile {
        tenant: u8,
    },
    CleanUp {
        tenant: u8,
    },
}

/// A range of people.
#[derive(Debug, Clone)]
pub struct Phones {
    pub first: usize,
    pub count: usize,
}

/// News of a call.
#[derive(Debug, Clone)]
pub enum Piece {
    Submitted,
    OtherSid,
    Rejected(RejectClass),
    NotSent,
    Lost,
    Status(CarrierStatus, Option<u32>),
    AnsweredBy(AnsweredBy),
    Gone,
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Something to work on from the first step.
    let begin = (create(), create()).prop_map(|(a, b)| {
        vec![Step { time: None, ops: vec![a] }, Step { time: None, ops: vec![b] }]
    });
    (begin, prop::collection::vec(step(), 8..32)).prop_map(|(mut steps, more)| {
        steps.extend(more);
        steps
    })
}

fn step() -> impl Strategy<Value = Step> {
    let time = prop_oneof![
        6 => Just(None),
        3 => Just(Some(Time::Due)),
        1 => any::<u8>().prop_map(|run| Some(Time::Expiry(run))),
    ];
    (time, prop::collection::vec(op(), 1..4)).prop_map(|(time, ops)| Step { time, ops })
}

fn op() -> impl Strategy<Value = Op> {
    let run = any::<u8>();
    let tenant = any::<u8>();
    prop_oneof![
        2 => create(),
        2 => (run, phones()).prop_map(|(run, jobs)| Op::Add { run, jobs }),
        3 => (run, command()).prop_map(|(run, command)| Op::Command { run, command }),
        2 => (run, 1..5u32).prop_map(|(run, concurrency)| Op::Limit { run, concurrency }),
        1 => (run, any::<bool>()).prop_map(|(run, shut)| Op::Holidays { run, shut }),
        2 => Just(Op::Reschedule),
        1 => (tenant, 1..6u32).prop_map(|(tenant, concurrent)| Op::LimitTenant { tenant, concurrent }),
        1 => (run, prop::collection::vec(any::<u8>(), 1..4)).prop_map(|(run, jobs)| Op::CancelJobs { run, jobs }),
        1 => run.prop_map(|run| Op::Retry { run }),
        9 => (tenant, any::<u8>(), 1..5usize).prop_map(|(tenant, worker, max)| Op::Claim { tenant, worker, max }),
        9 => (tenant, prop::collection::vec((any::<u8>(), piece()), 1..6))
            .prop_map(|(tenant, news)| Op::News { tenant, news }),
        1 => (any::<u8>(), piece()).prop_map(|(call, piece)| Op::Foreign { call, piece }),
        1 => Just(Op::LoseIntents),
        1 => Just(Op::PresumeStale),
        1 => any::<bool>().prop_map(|found| Op::LookUp { found }),
        1 => Just(Op::HangUps),
        1 => Just(Op::Sweep),
        1 => tenant.prop_map(|tenant| Op::Reconcile { tenant }),
        1 => tenant.prop_map(|tenant| Op::CleanUp { tenant }),
    ]
}

fn create() -> impl Strategy<Value = Op> {
    (any::<u8>(), 1..5u32, 1..4u32, 1..4u32, phones(), prop::bool::weighted(0.8), any::<bool>())
        .prop_map(|(tenant, concurrency, weight, attempts, jobs, start, seal)| Op::Create {
            tenant,
            concurrency,
            weight,
            attempts,
            jobs,
            start,
            seal,
        })
}

/// Few people, so that runs want the same.
fn phones() -> impl Strategy<Value = Phones> {
    (0..8usize, 0..6usize).prop_map(|(first, count)| Phones { first, count })
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        Just(Command::Start),
        Just(Command::Pause),
        Just(Command::Resume),
        Just(Command::Seal),
        Just(Command::Cancel),
        Just(Command::Stop),
    ]
}

fn piece() -> impl Strategy<Value = Piece> {
    let class = prop::sample::select(vec![
        RejectClass::LeadDead,
        RejectClass::PolicyBlock,
        RejectClass::Configuration,
        RejectClass::Defer,
        RejectClass::Other,
    ]);
    let status = prop::sample::select(CarrierStatus::ALL.to_vec());
    let sequence = prop::option::of(0..5u32);
    prop_oneof![
        6 => Just(Piece::Submitted),
        1 => Just(Piece::OtherSid),
        2 => class.prop_map(Piece::Rejected),
        1 => Just(Piece::NotSent),
        2 => Just(Piece::Lost),
        12 => (status, sequence).prop_map(|(status, sequence)| Piece::Status(status, sequence)),
        1 => prop::sample::select(AnsweredBy::ALL.to_vec()).prop_map(Piece::AnsweredBy),
        1 => Just(Piece::Gone),
    ]
}
