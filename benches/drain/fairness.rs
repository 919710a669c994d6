//! What one tenant with a long queue costs nine with a short one.

use std::time::{Duration, Instant};

use trunkline::domain::tenant::Tenant;
use trunkline::store::Store;

use super::Options;
use super::http::Running;
use super::world::{self, Backend, World};

/// Tenants with a short queue, and how short.
const SMALL_TENANTS: usize = 9;
const SMALL_JOBS: usize = 20;
/// What a small tenant may do: 20 calls take it about four seconds.
const SMALL_CALLS_PER_SECOND: f64 = 5.0;
const SMALL_CONCURRENT: u32 = 3;
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
    let (mut alone, mut beside) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..options.repeat {
        alone = alone.min(run(backend, 0).await);
        beside = beside.min(run(backend, options.queued).await);
    }
    println!(
        "{:<40} {alone:>9.2} {beside:>9.2} {:>6.2}",
        "until the last small tenant is done",
        beside / alone
    );
    println!();
}

/// Seconds from the server's start to the end of the last small tenant's run.
async fn run(backend: &Backend, queued: usize) -> f64 {
    let (world, engine) = World::new(backend).await;
    // All through one account, like tenants of one business: the server knows the credentials of one.
    let large = world::make_tenant(&*engine, 0).await;
    world::make_run(&*engine, &large, 0..queued).await;
    for n in 1..=SMALL_TENANTS {
        let small = Tenant {
            account_sid: world::account(0),
            max_concurrent_calls: SMALL_CONCURRENT,
            calls_per_second: SMALL_CALLS_PER_SECOND,
            ..world::tenant(n)
        };
        engine.put_tenant(&small).await.expect("a tenant");
        world::make_run(&*engine, &small.id, 0..SMALL_JOBS).await;
    }
    drop(engine);
    let running = Running::start(&world, PERMITS).await;
    let began = Instant::now();
    let open = format!("SELECT count(*) FROM runs WHERE ended_at IS NULL AND tenant_id <> '{large}'");
    while world.number(&open).await != Some(0) {
        assert!(began.elapsed() < PATIENCE, "small tenants that never end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    running.stop().await;
    let completed = format!("SELECT CAST(sum(completed) AS BIGINT) FROM runs WHERE tenant_id <> '{large}'");
    let all = i64::try_from(SMALL_TENANTS * SMALL_JOBS).ok();
    assert_eq!(world.number(&completed).await, all, "every small tenant's job was called");
    took.as_secs_f64()
}
