//! What a claim costs behind finished jobs, and while somebody's snapshot keeps dead queue rows
//! from being vacuumed.

use std::time::{Duration, Instant};

use trunkline::domain::call::{CarrierStatus, News};
use trunkline::domain::{RunId, TenantId, WorkerId};
use trunkline::store::{ClaimLimits, Store};

use super::Options;
use super::backend::Backend;
use super::lifecycle::new_sid;
use super::world::{self, Raw, World};

/// Calls of one claim: the default number of permits.
const CALLS: usize = 32;
/// Claims timed for one figure.
const CLAIMS: usize = 300;
/// Claims made untimed first: connections, prepared statements.
const WARM_UP: usize = 20;
/// Queue rows that are deleted under a held snapshot.
const DEAD: usize = 50_000;
/// Calls of one claim that only makes dead rows.
const DEAD_CALLS: usize = 500;

/// Measures and prints.
pub async fn measure(backend: &Backend, options: &Options) {
    println!(
        "{}: one claim of {CALLS} calls, in ms; {CLAIMS} claims each, all in one run of one tenant",
        backend.name()
    );
    println!("{:<58} {:>8} {:>8} {:>8}", "", "median", "p99", "max");
    let (world, store) = World::new(backend).await;
    let mut bench =
        Bench { tenant: world::make_tenant(&store, 0).await, run: None, world, next: 0 };
    bench.queue(&store, CALLS * (CLAIMS + WARM_UP)).await;
    bench.print("an empty store", &bench.claims(&store, CALLS, CLAIMS).await);
    let began = Instant::now();
    bench.finish(options.finished).await;
    let label = format!("behind {} finished jobs, and their calls, in the run", options.finished);
    eprintln!("(inserted them in {:.0} s)", began.elapsed().as_secs_f64());
    bench.queue(&store, CALLS * (CLAIMS + WARM_UP)).await;
    bench.print(&label, &bench.claims(&store, CALLS, CLAIMS).await);
    if let Raw::Postgres(pool) = &bench.world.raw {
        let pool = pool.clone();
        bench.queue(&store, DEAD + CALLS * (CLAIMS + WARM_UP)).await;
        let mut held = pool.begin().await.expect("a transaction");
        sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            .execute(&mut *held)
            .await
            .expect("a level");
        sqlx::query("SELECT count(*) FROM meta").execute(&mut *held).await.expect("a snapshot");
        bench.claims(&store, DEAD_CALLS, DEAD / DEAD_CALLS - WARM_UP).await;
        let label = format!("the same, {DEAD} dead queue rows held by a snapshot");
        bench.print(&label, &bench.claims(&store, CALLS, CLAIMS).await);
        held.rollback().await.expect("an end");
    }
    println!();
}

struct Bench {
    world: World,
    tenant: TenantId,
    run: Option<RunId>,
    next: usize,
}

impl Bench {
    /// Queues so many new jobs in the bench's run.
    async fn queue(&mut self, store: &Store, jobs: usize) {
        let jobs = self.next..self.next + jobs;
        self.next = jobs.end;
        match self.run {
            None => self.run = Some(world::make_open_run(store, &self.tenant, jobs).await),
            Some(run) => world::add_jobs(store, &self.tenant, run, jobs).await,
        }
    }

    /// How long each of so many claims took. Their calls are ended in between, so that none of them
    /// counts.
    async fn claims(&self, store: &Store, calls: usize, claims: usize) -> Vec<Duration> {
        let worker = WorkerId("bench:0".into());
        let limits = ClaimLimits { max_calls: calls, horizon: Duration::from_millis(250) };
        let mut took = Vec::new();
        while took.len() < claims + WARM_UP {
            let began = Instant::now();
            let claim = store.claim(&worker, limits).await.expect("a claim");
            let elapsed = began.elapsed();
            if claim.calls.len() < calls {
                // The pace, or a wake-up that is on its way.
                let news = ended(&claim);
                store.apply(&self.tenant, &news).await.expect("news that is stored");
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            took.push(elapsed);
            let news = ended(&claim);
            store.apply(&self.tenant, &news).await.expect("news that is stored");
        }
        took.split_off(WARM_UP)
    }

    /// Puts finished jobs and their calls into the run.
    async fn finish(&self, count: usize) {
        let (tenant, run) = (&self.tenant, self.run.expect("a run"));
        let (series, job, call, lead) = match self.world.raw {
            Raw::Postgres(_) => (
                format!("generate_series(1, {count}) AS s(n)"),
                "('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid",
                "('00000000-0000-7000-9000-' || lpad(to_hex(n), 12, '0'))::uuid",
                "('00000000-0000-7000-a000-' || lpad(to_hex(n), 12, '0'))::uuid",
            ),
            Raw::Sqlite(_) => (
                format!(
                    "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {count})
                      SELECT n FROM s) AS s"
                ),
                "printf('00000000-0000-7000-8000-%012x', n)",
                "printf('00000000-0000-7000-9000-%012x', n)",
                "printf('00000000-0000-7000-a000-%012x', n)",
            ),
        };
        self.world
            .execute(&format!(
                "BEGIN;
                 INSERT INTO jobs (tenant_id, job_id, run_id, lead_id, state, phone, priority, eligible_at, attempt,
                     attempts_used, outcome, created_at, updated_at)
                 SELECT '{tenant}', {job}, '{run}', {lead}, 'completed', '+1999' || n, 5, 0, 1, 1, 'answered', 0, 0
                 FROM {series};
                 INSERT INTO call_log (tenant_id, call_id, call_sid, direction, run_id, job_id, attempt, account_sid,
                     state, phone_from, phone_to, created_at, updated_at, ended_at)
                 SELECT '{tenant}', {call}, 'CA' || n, 'outbound', '{run}', {job}, 1, '{account}', 'completed',
                     '+15005550006', '+1999' || n, 0, 0, 1
                 FROM {series};
                 UPDATE runs SET jobs_total = jobs_total + {count}, completed = completed + {count}
                 WHERE tenant_id = '{tenant}' AND run_id = '{run}';
                 COMMIT;",
                account = world::account(0)
            ))
            .await;
    }

    fn print(&self, label: &str, took: &[Duration]) {
        let mut sorted = took.to_vec();
        sorted.sort_unstable();
        let at =
            |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        println!("{label:<58} {:>8.2} {:>8.2} {:>8.2}", at(0.5), at(0.99), at(1.0));
    }
}

fn ended(claim: &trunkline::store::Claim) -> Vec<(trunkline::domain::CallId, News)> {
    let completed = |call: &trunkline::store::ClaimedCall| {
        let news = News::Status {
            sid: new_sid(),
            status: CarrierStatus::Completed,
            sequence: Some(3),
            duration_s: Some(1),
            answered_by: None,
            error_code: None,
        };
        (call.call_id, news)
    };
    claim.calls.iter().map(completed).collect()
}
