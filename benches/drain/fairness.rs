//! What one tenant with a long queue costs nine with a short one.

use std::time::{Duration, Instant};

use trunkline::domain::tenant::Tenant;

use super::Options;
use super::backend::Backend;
use super::http::Running;
use super::world::{self, World};

/// Tenants with a short queue, and how short.
const SMALL_TENANTS: usize = 9;
const SMALL_JOBS: usize = 20;
/// What a tenant may do: 20 calls take it about four seconds.
const CALLS_PER_SECOND: f64 = 5.0;
const CONCURRENT: u32 = 3;
/// The default of `dialer.permits`: one worker shared by all.
const PERMITS: u32 = 32;
/// Small tenants that take longer than this never end.
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures and prints.
pub async fn measure(backend: &Backend, options: &Options) {
    println!(
        "{}: {SMALL_TENANTS} tenants of {SMALL_JOBS} jobs, alone and beside one of {}; {PERMITS} permits; best of {}",
        backend.name(),
        options.queued,
        options.repeat
    );
    println!("{:<40} {:>9} {:>9} {:>6}", "", "alone s", "beside s", "ratio");
    let mut best = [f64::INFINITY; 3];
    for _ in 0..options.repeat {
        let large = [(0, false), (options.queued, false), (options.queued, true)];
        for (best, (queued, unlimited)) in best.iter_mut().zip(large) {
            *best = best.min(run(backend, queued, unlimited).await);
        }
    }
    let [alone, same_limits, unlimited] = best;
    for (label, beside) in
        [("the large one has the same limits", same_limits), ("it has none", unlimited)]
    {
        println!("{label:<40} {alone:>9.2} {beside:>9.2} {:>6.2}", beside / alone);
    }
    println!();
}

/// Seconds from the server's start to the end of the last small tenant's run.
async fn run(backend: &Backend, queued: usize, unlimited: bool) -> f64 {
    let (world, engine) = World::new(backend).await;
    // All through one account, like tenants of one business: the server knows the credentials of
    // one.
    let limited = |n| Tenant {
        account_sid: world::account(0),
        max_concurrent_calls: CONCURRENT,
        calls_per_second: CALLS_PER_SECOND,
        ..world::tenant(n)
    };
    // Tenant 0 is the server's own, whose limits its settings give.
    world::make_tenant(&engine, 0).await;
    let mut large = limited(SMALL_TENANTS + 1);
    if unlimited {
        let Tenant { max_concurrent_calls, calls_per_second, .. } = world::tenant(0);
        large = Tenant { max_concurrent_calls, calls_per_second, ..large };
    }
    engine.put_tenant(&large).await.expect("a tenant");
    let large = large.id;
    world::make_run(&engine, &large, 0..queued).await;
    for n in 1..=SMALL_TENANTS {
        let small = limited(n);
        engine.put_tenant(&small).await.expect("a tenant");
        world::make_run(&engine, &small.id, 0..SMALL_JOBS).await;
    }
    drop(engine);
    let running = Running::start(&world, PERMITS).await;
    let began = Instant::now();
    let open =
        format!("SELECT count(*) FROM runs WHERE ended_at IS NULL AND tenant_id <> '{large}'");
    while world.number(&open).await != Some(0) {
        assert!(began.elapsed() < PATIENCE, "small tenants that never end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    running.stop().await;
    let completed =
        format!("SELECT CAST(sum(completed) AS BIGINT) FROM runs WHERE tenant_id <> '{large}'");
    let all = i64::try_from(SMALL_TENANTS * SMALL_JOBS).ok();
    assert_eq!(world.number(&completed).await, all, "every small tenant's job was called");
    took.as_secs_f64()
}
