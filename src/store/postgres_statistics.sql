-- Rows for ANALYZE to look at, deleted again by the same transaction: see pin_statistics in postgres.rs.
-- A twentieth is open: that is what the partial indexes are for.
CREATE TEMP TABLE example ON COMMIT DROP AS
    SELECT gen_random_uuid() AS id, gen_random_uuid() AS other, '00000000-0000-0000-0000-000000000000'::uuid AS run_id,
        n::bigint AS n, n::text AS word, CASE WHEN n % 20 = 0 THEN NULL ELSE 1 END AS ended_at
    FROM generate_series(1, 2000) AS n;
DO $$
DECLARE pinned TEXT;
BEGIN
    FOREACH pinned IN ARRAY ARRAY['leads', 'runs', 'jobs', 'ready_jobs', 'call_log', 'run_events'] LOOP
        EXECUTE format('ALTER TABLE %I ALTER COLUMN tenant_id SET (n_distinct = 1)', pinned);
    END LOOP;
END $$;
INSERT INTO leads (tenant_id, lead_id, phone, name, attributes, created_at, updated_at)
    SELECT '', id, word, '', '', 0, 0 FROM example;
INSERT INTO runs (tenant_id, run_id, state, sealed, settings, concurrency, weight, priority, starts_at, expires_at,
        revision, claimable_at, jobs_total, queued, dialing, in_call, completed, failed, canceled, skipped, expired,
        outcomes, created_at, updated_at, ended_at)
    SELECT '', id, CASE WHEN ended_at IS NULL THEN 'running' ELSE 'completed' END, true, '', 1, 1, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, '', 0, 0, ended_at FROM example;
INSERT INTO jobs (tenant_id, job_id, run_id, lead_id, state, phone, priority, eligible_at, created_at, updated_at)
    SELECT '', id, run_id, other, 'completed', word, 5, n, 0, 0 FROM example;
INSERT INTO ready_jobs (tenant_id, run_id, priority, eligible_at, job_id)
    SELECT '', run_id, 5, n, id FROM example;
INSERT INTO call_log (tenant_id, call_id, call_sid, direction, run_id, job_id, account_sid, state, phone_from,
        phone_to, created_at, updated_at, ended_at)
    SELECT '', id, word, 'outbound', run_id, other, '', CASE WHEN ended_at IS NULL THEN 'ringing' ELSE 'completed' END,
        '', word, 0, 0, ended_at FROM example;
INSERT INTO run_events (tenant_id, run_id, revision, at, progress, events)
    SELECT '', run_id, n, 0, '', '' FROM example;
ANALYZE leads, runs, jobs, ready_jobs, call_log, run_events;
DELETE FROM leads WHERE tenant_id = '';
DELETE FROM runs WHERE tenant_id = '';
DELETE FROM jobs WHERE tenant_id = '';
DELETE FROM ready_jobs WHERE tenant_id = '';
DELETE FROM call_log WHERE tenant_id = '';
DELETE FROM run_events WHERE tenant_id = '';
