-- Rows for ANALYZE to look at, deleted again by the same transaction: see pin_statistics in postgres.rs.
-- A twentieth is open: that is what the partial indexes are for. No two have one tenant, so that no value counts as
-- more common than another, and # begins no tenant's id.
DO $$
DECLARE pinned TEXT;
BEGIN
    FOREACH pinned IN ARRAY ARRAY['leads', 'runs', 'jobs', 'ready_jobs', 'call_log', 'run_events', 'suppressions']
    LOOP
        EXECUTE format('ALTER TABLE %I ALTER COLUMN tenant_id SET (n_distinct = 1)', pinned);
    END LOOP;
END $$;
INSERT INTO leads (tenant_id, lead_id, phone, name, attributes, created_at, updated_at)
    SELECT '#' || n, gen_random_uuid(), n, '', '', 0, 0 FROM generate_series(1, 2000) AS n;
INSERT INTO runs (tenant_id, run_id, state, sealed, settings, concurrency, weight, priority, starts_at, expires_at,
        revision, claimable_at, jobs_total, queued, dialing, in_call, completed, failed, canceled, skipped, expired,
        outcomes, created_at, updated_at, ended_at)
    SELECT '#' || n, gen_random_uuid(), CASE WHEN n % 20 = 0 THEN 'running' ELSE 'completed' END, true, '', 1, 1, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, '', 0, 0, NULLIF(n % 20, 0) FROM generate_series(1, 2000) AS n;
INSERT INTO jobs (tenant_id, job_id, run_id, lead_id, state, phone, priority, eligible_at, created_at, updated_at)
    SELECT '#' || n, gen_random_uuid(), '00000000-0000-0000-0000-000000000000', gen_random_uuid(), 'completed', n,
        5, n, 0, 0 FROM generate_series(1, 2000) AS n;
INSERT INTO ready_jobs (tenant_id, run_id, priority, eligible_at, job_id, put_off)
    SELECT '#' || n, '00000000-0000-0000-0000-000000000000', 5, n, gen_random_uuid(), n % 20 = 0
    FROM generate_series(1, 2000) AS n;
INSERT INTO call_log (tenant_id, call_id, call_sid, direction, run_id, job_id, account_sid, state, phone_from,
        phone_to, created_at, updated_at, ended_at)
    SELECT '#' || n, gen_random_uuid(), n, 'outbound', '00000000-0000-0000-0000-000000000000', gen_random_uuid(), '',
        CASE WHEN n % 20 = 0 THEN 'ringing' ELSE 'completed' END, '', n, 0, 0, NULLIF(n % 20, 0)
    FROM generate_series(1, 2000) AS n;
INSERT INTO run_events (tenant_id, run_id, revision, at, progress, events)
    SELECT '#' || n, '00000000-0000-0000-0000-000000000000', n, 0, '', '' FROM generate_series(1, 2000) AS n;
INSERT INTO suppressions (tenant_id, phone, suppression_id, reason, source, note, created_at, created_by)
    SELECT '#' || n, n, gen_random_uuid(), 'asked', 'api', '', 0, '' FROM generate_series(1, 2000) AS n;
ANALYZE leads, runs, jobs, ready_jobs, call_log, run_events, suppressions;
DELETE FROM leads WHERE tenant_id LIKE '#%';
DELETE FROM runs WHERE tenant_id LIKE '#%';
DELETE FROM jobs WHERE tenant_id LIKE '#%';
DELETE FROM ready_jobs WHERE tenant_id LIKE '#%';
DELETE FROM call_log WHERE tenant_id LIKE '#%';
DELETE FROM run_events WHERE tenant_id LIKE '#%';
DELETE FROM suppressions WHERE tenant_id LIKE '#%';
