//! Invariants 2, 3, 5 and 9 at every commit, whatever happens in whatever order.
//!
//! A case is a list of steps. The operations of one step run at the same time, on PostgreSQL in two
//! processes' stores. Every committed state that the checker can catch meanwhile, and the one after
//! each step, is read with SQL of the test's own and held against the invariants; at last every job
//! has to end.
//!
//! A failure prints the seed and the smallest list of steps that still fails. `INTERLEAVINGS_SEED`
//! repeats it, `INTERLEAVINGS_CASES` runs more.

mod facts;
mod ops;
mod replica;
mod world;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::support::TestDatabase;
use world::Stores;

/// Enough for every operation to meet every other; about a quarter of a minute on two cores.
const CASES: u32 = 24;
/// A failure is made smaller by at most so many further cases.
const SHRINKS_MAX: u32 = 100;

#[test]
fn on_sqlite() {
    hold(1, TestDatabase::sqlite());
}

#[test]
fn on_postgres() {
    hold(2, TestDatabase::postgres());
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().ok().unwrap_or_else(|| panic!("{name} is no number")))
}

fn hold(processes: usize, database: impl Future<Output = TestDatabase>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let stores = runtime.block_on(async { Stores::open(database.await, processes).await });
    let seed: u64 = setting("INTERLEAVINGS_SEED").unwrap_or_else(rand::random);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: setting("INTERLEAVINGS_CASES").unwrap_or(CASES),
        max_shrink_iters: SHRINKS_MAX,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let outcome = runner.run(&ops::steps(), |steps| {
        runtime.block_on(world::live_through(&stores, &steps)).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, steps)) => {
            let steps: Vec<_> = steps.iter().map(|step| format!("  {step:?}\n")).collect();
            panic!("{why}\nINTERLEAVINGS_SEED={seed} fails with these steps:\n{}", steps.concat());
        }
        Err(TestError::Abort(why)) => panic!("INTERLEAVINGS_SEED={seed}: {why}"),
    }
}
