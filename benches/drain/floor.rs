//! What the same changes cost in hand-written SQL: the fewest statements, no indexes but keys, no
//! checks.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use sqlx::{Acquire, AssertSqlSafe, PgPool, SqlitePool};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::Options;
use super::backend::Backend;
use super::lifecycle::RUNS;
use super::world::{Raw, World};

/// A log has to say this much of a call that moved: its id, its job's, its state and SID.
const EVENT_BYTES: usize = 150;

const TABLES: &str = "
CREATE TABLE floor_runs (run_id BIGINT PRIMARY KEY, revision BIGINT NOT NULL, queued BIGINT NOT NULL,
    dialing BIGINT NOT NULL, in_call BIGINT NOT NULL, completed BIGINT NOT NULL);
CREATE TABLE floor_ready (run_id BIGINT, eligible_at BIGINT, job_id UUID, PRIMARY KEY (run_id, eligible_at, job_id));
CREATE TABLE floor_jobs (job_id UUID PRIMARY KEY, run_id BIGINT NOT NULL, state TEXT NOT NULL, phone TEXT NOT NULL,
    updated_at BIGINT NOT NULL);
CREATE TABLE floor_calls (call_id UUID PRIMARY KEY, job_id UUID NOT NULL, run_id BIGINT NOT NULL, state TEXT NOT NULL,
    sid TEXT, phone TEXT NOT NULL, updated_at BIGINT NOT NULL, ended_at BIGINT);
CREATE TABLE floor_events (run_id BIGINT, revision BIGINT, events TEXT NOT NULL, PRIMARY KEY (run_id, revision));";

/// The counters before and after each of the five transactions of a batch, and the calls' state
/// afterwards.
const STEPS: [(&str, &str, &str); 5] = [
    ("queued = queued - $2, dialing = dialing + $2", "intent", "dialing"),
    ("queued = queued + 0 * $2", "submitted", ""),
    ("queued = queued + 0 * $2", "ringing", ""),
    ("dialing = dialing - $2, in_call = in_call + $2", "answered", "in_call"),
    ("in_call = in_call - $2, completed = completed + $2", "completed", "completed"),
];

/// Lifecycles a second.
pub async fn run(backend: &Backend, options: &Options, batch: usize) -> f64 {
    let (world, engine) = World::new(backend).await;
    drop(engine);
    let runs = options.tenants * RUNS;
    let share = options.jobs / runs;
    fill(&world, runs, share).await;
    let raw = Arc::new(world);
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for n in 0..options.tasks {
        let world = raw.clone();
        // Each task has runs of its own, so that nobody waits for a lock.
        let own: Vec<i64> =
            (0..runs).filter(|run| run % options.tasks == n).map(|run| run as i64).collect();
        tasks.spawn(async move {
            for run in own {
                drain(&world, run, batch).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("a task that ends");
    }
    let rate = (share * runs) as f64 / began.elapsed().as_secs_f64();
    let left =
        raw.number("SELECT CAST(sum(queued + dialing + in_call) AS BIGINT) FROM floor_runs").await;
    assert_eq!(left, Some(0), "every job ended");
    rate
}

async fn fill(world: &World, runs: usize, share: usize) {
    let tables = match &world.raw {
        Raw::Sqlite(_) => TABLES.replace("UUID", "TEXT"),
        Raw::Postgres(_) => TABLES
            .replace(
                "updated_at BIGINT NOT NULL);",
                "updated_at BIGINT NOT NULL) WITH (fillfactor = 60);",
            )
            .replace("ended_at BIGINT);", "ended_at BIGINT) WITH (fillfactor = 60);"),
    };
    world.execute(&tables).await;
    for run in 0..runs {
        let mut sql = format!("INSERT INTO floor_runs VALUES ({run}, 0, {share}, 0, 0, 0);");
        let jobs: Vec<String> = (0..share).map(|_| Uuid::now_v7().to_string()).collect();
        for (table, rest) in
            [("floor_ready", ", 0, '{}')"), ("floor_jobs", ", 'queued', '+15005550006', 0)")]
        {
            let _ = write!(sql, "INSERT INTO {table} VALUES ");
            for (i, job) in jobs.iter().enumerate() {
                let comma = if i == 0 { "" } else { "," };
                if table == "floor_ready" {
                    let _ = write!(sql, "{comma}({run}{}", rest.replace("{}", job));
                } else {
                    let _ = write!(sql, "{comma}('{job}', {run}{rest}");
                }
            }
            sql.push(';');
        }
        world.execute(&sql).await;
    }
}

async fn drain(world: &World, run: i64, batch: usize) {
    let event = "x".repeat(EVENT_BYTES * batch);
    let batch = batch as i64;
    loop {
        let more = match &world.raw {
            Raw::Sqlite(pool) => sqlite(pool, run, batch, &event).await,
            Raw::Postgres(pool) => postgres(pool, run, batch, &event).await,
        };
        if !more.expect("statements that work") {
            return;
        }
    }
}

async fn postgres(pool: &PgPool, run: i64, batch: i64, event: &str) -> sqlx::Result<bool> {
    let mut calls: Vec<Uuid> = Vec::new();
    let mut sids: Vec<String> = Vec::new();
    let mut jobs: Vec<Uuid> = Vec::new();
    for (step, (counters, state, job_state)) in STEPS.into_iter().enumerate() {
        let mut connection = pool.acquire().await?;
        let mut tx = connection.begin().await?;
        if step == 0 {
            jobs = sqlx::query_scalar(
                "DELETE FROM floor_ready WHERE (run_id, eligible_at, job_id) IN (SELECT run_id, eligible_at, job_id
                 FROM floor_ready WHERE run_id = $1 ORDER BY eligible_at, job_id LIMIT $2) RETURNING job_id",
            )
            .bind(run)
            .bind(batch)
            .fetch_all(&mut *tx)
            .await?;
            if jobs.is_empty() {
                return Ok(false);
            }
            calls = jobs.iter().map(|_| Uuid::now_v7()).collect();
            sids = jobs.iter().map(|job| format!("CA{}", job.simple())).collect();
        }
        let revision: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
            "UPDATE floor_runs SET revision = revision + 1, {counters} WHERE run_id = $1 RETURNING revision"
        )))
        .bind(run)
        .bind(jobs.len() as i64)
        .fetch_one(&mut *tx)
        .await?;
        if !job_state.is_empty() {
            sqlx::query("UPDATE floor_jobs SET state = $1, updated_at = $2 WHERE job_id = ANY($3)")
                .bind(job_state)
                .bind(revision)
                .bind(&jobs)
                .execute(&mut *tx)
                .await?;
        }
        match step {
            0 => sqlx::query(
                "INSERT INTO floor_calls SELECT c, j, $1, 'intent', NULL, '+15005550006', $2, NULL
                 FROM unnest($3::uuid[], $4::uuid[]) AS r(c, j)",
            )
            .bind(run)
            .bind(revision)
            .bind(&calls)
            .bind(&jobs),
            1 => sqlx::query(
                "UPDATE floor_calls SET state = $1, updated_at = $2, sid = r.s
                 FROM unnest($3::uuid[], $4::text[]) AS r(c, s) WHERE call_id = r.c",
            )
            .bind(state)
            .bind(revision)
            .bind(&calls)
            .bind(&sids),
            _ => sqlx::query(
                "UPDATE floor_calls SET state = $1, updated_at = $2, ended_at = $4 WHERE call_id = ANY($3)",
            )
            .bind(state)
            .bind(revision)
            .bind(&calls)
            .bind((step == 4).then_some(revision)),
        }
        .execute(&mut *tx)
        .await?;
        sqlx::query("INSERT INTO floor_events VALUES ($1, $2, $3)")
            .bind(run)
            .bind(revision)
            .bind(event)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
    }
    Ok(true)
}

async fn sqlite(pool: &SqlitePool, run: i64, batch: i64, event: &str) -> sqlx::Result<bool> {
    let list = |ids: &[String]| serde_json::to_string(ids).expect("a list of texts");
    let mut calls = String::new();
    let mut jobs: Vec<String> = Vec::new();
    for (step, (counters, state, job_state)) in STEPS.into_iter().enumerate() {
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
        if step == 0 {
            jobs = sqlx::query_scalar(
                "DELETE FROM floor_ready WHERE (run_id, eligible_at, job_id) IN (SELECT run_id, eligible_at, job_id
                 FROM floor_ready WHERE run_id = $1 ORDER BY eligible_at, job_id LIMIT $2) RETURNING job_id",
            )
            .bind(run)
            .bind(batch)
            .fetch_all(&mut *tx)
            .await?;
            if jobs.is_empty() {
                return Ok(false);
            }
            let ids: Vec<String> = jobs.iter().map(|_| Uuid::now_v7().to_string()).collect();
            calls = list(&ids);
            let pairs: Vec<(&String, &String)> = ids.iter().zip(&jobs).collect();
            sqlx::query(
                "INSERT INTO floor_calls SELECT value ->> 0, value ->> 1, $1, 'intent', NULL, '+15005550006', 0, NULL
                 FROM json_each($2)",
            )
            .bind(run)
            .bind(serde_json::to_string(&pairs).expect("pairs of texts"))
            .execute(&mut *tx)
            .await?;
        }
        let revision: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
            "UPDATE floor_runs SET revision = revision + 1, {counters} WHERE run_id = $1 RETURNING revision"
        )))
        .bind(run)
        .bind(jobs.len() as i64)
        .fetch_one(&mut *tx)
        .await?;
        if !job_state.is_empty() {
            sqlx::query(
                "UPDATE floor_jobs SET state = $1, updated_at = $2 WHERE job_id IN (SELECT value FROM json_each($3))",
            )
            .bind(job_state)
            .bind(revision)
            .bind(list(&jobs))
            .execute(&mut *tx)
            .await?;
        }
        if step > 0 {
            sqlx::query(
                "UPDATE floor_calls SET state = $1, updated_at = $2, ended_at = $3, sid = 'CA' || call_id
                 WHERE call_id IN (SELECT value FROM json_each($4))",
            )
            .bind(state)
            .bind(revision)
            .bind((step == 4).then_some(revision))
            .bind(&calls)
            .execute(&mut *tx)
            .await?;
        }
        sqlx::query("INSERT INTO floor_events VALUES ($1, $2, $3)")
            .bind(run)
            .bind(revision)
            .bind(event)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
    }
    Ok(true)
}
