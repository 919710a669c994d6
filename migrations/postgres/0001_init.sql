-- The schema, in PostgreSQL's words; migrations/sqlite holds the same under the same name.
-- Instants are microseconds since the Unix epoch, UTC. The tenant leads every key.

CREATE TABLE IF NOT EXISTS meta (
    name  TEXT COLLATE "C" PRIMARY KEY,
    value TEXT COLLATE "C" NOT NULL
);

-- A Twilio account. Tenants may share one, so it has no tenant; its pace is metered here for all of them.
-- breaker_open_until: the circuit breaker is open until then, and lets single probes through after it.
-- managed: changed over the API, so that settings of a process do not replace it.
-- secrets_sealed: its credentials, encrypted under the master key sealed_with; hints says what is told of them.
CREATE TABLE IF NOT EXISTS carrier_accounts (
    account_sid        TEXT COLLATE "C" PRIMARY KEY,
    calls_per_second   DOUBLE PRECISION NOT NULL CHECK (calls_per_second > 0),
    base_url           TEXT COLLATE "C",
    managed            BOOLEAN NOT NULL DEFAULT FALSE,
    next_call_at       BIGINT NOT NULL DEFAULT 0,
    breaker_open_until BIGINT,
    secrets_sealed     BYTEA,
    sealed_with        TEXT COLLATE "C",
    hints              TEXT COLLATE "C",
    revision           BIGINT NOT NULL DEFAULT 1,
    created_at         BIGINT NOT NULL,
    updated_at         BIGINT NOT NULL,
    CONSTRAINT sealed_as_a_whole CHECK
        ((secrets_sealed IS NULL) = (sealed_with IS NULL) AND (secrets_sealed IS NULL) = (hints IS NULL))
) WITH (fillfactor = 60);

-- managed: changed over the API, so that settings of a process do not replace it.
CREATE TABLE IF NOT EXISTS tenants (
    tenant_id            TEXT COLLATE "C" PRIMARY KEY,
    state                TEXT COLLATE "C" NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled')),
    name                 TEXT COLLATE "C" NOT NULL DEFAULT '',
    max_concurrent_calls BIGINT NOT NULL CHECK (max_concurrent_calls BETWEEN 1 AND 10000),
    calls_per_second     DOUBLE PRECISION NOT NULL CHECK (calls_per_second > 0),
    account_sid          TEXT COLLATE "C" NOT NULL REFERENCES carrier_accounts (account_sid),
    caller_ids           TEXT COLLATE "C" NOT NULL,
    time_zone            TEXT COLLATE "C" NOT NULL,
    calling_window       TEXT COLLATE "C" NOT NULL,
    region               TEXT COLLATE "C",
    plan                 TEXT COLLATE "C" NOT NULL,
    greeting             TEXT COLLATE "C",
    managed              BOOLEAN NOT NULL DEFAULT FALSE,
    revision             BIGINT NOT NULL DEFAULT 1,
    created_at           BIGINT NOT NULL,
    updated_at           BIGINT NOT NULL
);
-- Whose a called number is, is looked for among the tenants of its account.
CREATE INDEX IF NOT EXISTS tenants_account ON tenants (account_sid, tenant_id);

-- One row a tenant. The lock on it, held to commit, makes a claim the tenant's only one.
-- caller_turn: whose turn it is in the tenant's pool of caller ids.
CREATE TABLE IF NOT EXISTS tenant_dispatch (
    tenant_id    TEXT COLLATE "C" PRIMARY KEY REFERENCES tenants (tenant_id),
    ready_at     BIGINT NOT NULL,
    next_call_at BIGINT NOT NULL DEFAULT 0,
    virtual_time BIGINT NOT NULL DEFAULT 0,
    caller_turn  BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 60);
CREATE INDEX IF NOT EXISTS tenant_dispatch_ready ON tenant_dispatch (ready_at);

CREATE TABLE IF NOT EXISTS api_keys (
    key_id       TEXT COLLATE "C" PRIMARY KEY,
    tenant_id    TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant_id),
    name         TEXT COLLATE "C" NOT NULL DEFAULT '',
    secret_hash  TEXT COLLATE "C" NOT NULL,
    scopes       TEXT COLLATE "C" NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    revoked_at   BIGINT,
    last_used_at BIGINT
);
CREATE INDEX IF NOT EXISTS api_keys_tenant ON api_keys (tenant_id, key_id);

-- heartbeat_at is not indexed: it changes all the time.
CREATE TABLE IF NOT EXISTS workers (
    worker_id    TEXT COLLATE "C" PRIMARY KEY,
    started_at   BIGINT NOT NULL,
    heartbeat_at BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL
) WITH (fillfactor = 60);

-- revision grows when what a client may change does; its calls leave it alone. tags: a JSON array, sorted.
CREATE TABLE IF NOT EXISTS leads (
    tenant_id           TEXT COLLATE "C" NOT NULL,
    lead_id             UUID NOT NULL,
    phone               TEXT COLLATE "C" NOT NULL,
    name                TEXT COLLATE "C" NOT NULL,
    time_zone           TEXT COLLATE "C",
    attributes          TEXT COLLATE "C" NOT NULL,
    tags                TEXT COLLATE "C" NOT NULL DEFAULT '[]',
    status              TEXT COLLATE "C" NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'attempted', 'contacted', 'converted',
                            'lost')),
    source              TEXT COLLATE "C" NOT NULL DEFAULT 'api' CHECK (source IN ('api', 'import', 'run', 'call')),
    revision            BIGINT NOT NULL DEFAULT 1,
    last_call_id        UUID,
    last_call_direction TEXT COLLATE "C" CHECK (last_call_direction IN ('outbound', 'inbound')),
    last_call_state     TEXT COLLATE "C",
    last_call_at        BIGINT,
    created_at          BIGINT NOT NULL,
    updated_at          BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, lead_id),
    UNIQUE (tenant_id, phone)
) WITH (fillfactor = 70);

-- A lead's history but for its creation, which its own row tells: ids and names of fields, nothing personal.
CREATE TABLE IF NOT EXISTS lead_events (
    tenant_id TEXT COLLATE "C" NOT NULL,
    lead_id   UUID NOT NULL,
    event_id  UUID NOT NULL,
    at        BIGINT NOT NULL,
    detail    TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, lead_id, event_id)
);

-- The lock on a run's row is the lock on its jobs and their calls: whoever changes one holds it.
-- claimable_at is a hint for claims: no job of the run is eligible before it.
-- job_priorities has bit p set once the run had a job of priority p.
CREATE TABLE IF NOT EXISTS runs (
    tenant_id      TEXT COLLATE "C" NOT NULL,
    run_id         UUID NOT NULL,
    state          TEXT COLLATE "C" NOT NULL CHECK (state IN ('draft', 'pending', 'running', 'paused', 'canceling',
                       'stopping', 'completed', 'canceled', 'stopped', 'failed', 'expired')),
    sealed         BOOLEAN NOT NULL,
    settings       TEXT COLLATE "C" NOT NULL,
    concurrency    BIGINT NOT NULL CHECK (concurrency > 0),
    weight         BIGINT NOT NULL CHECK (weight > 0),
    priority       BIGINT NOT NULL,
    starts_at      BIGINT NOT NULL,
    expires_at     BIGINT NOT NULL,
    parent_run_id  UUID,
    last_error     TEXT COLLATE "C",
    revision       BIGINT NOT NULL,
    pass           BIGINT NOT NULL DEFAULT 0,
    claimable_at   BIGINT NOT NULL,
    job_priorities BIGINT NOT NULL DEFAULT 0,
    jobs_total     BIGINT NOT NULL,
    queued         BIGINT NOT NULL CHECK (queued >= 0),
    dialing        BIGINT NOT NULL CHECK (dialing >= 0),
    in_call        BIGINT NOT NULL CHECK (in_call >= 0),
    completed      BIGINT NOT NULL CHECK (completed >= 0),
    failed         BIGINT NOT NULL CHECK (failed >= 0),
    canceled       BIGINT NOT NULL CHECK (canceled >= 0),
    skipped        BIGINT NOT NULL CHECK (skipped >= 0),
    expired        BIGINT NOT NULL CHECK (expired >= 0),
    outcomes       TEXT COLLATE "C" NOT NULL,
    worker_id      TEXT COLLATE "C",
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    started_at     BIGINT,
    ended_at       BIGINT,
    log_trimmed    BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (tenant_id, run_id),
    CONSTRAINT nothing_lost CHECK
        (jobs_total = queued + dialing + in_call + completed + failed + canceled + skipped + expired),
    CONSTRAINT ended_when_final CHECK
        ((ended_at IS NOT NULL) = (state IN ('completed', 'canceled', 'stopped', 'failed', 'expired')))
) WITH (fillfactor = 60);
CREATE INDEX IF NOT EXISTS runs_open ON runs (tenant_id, run_id) WHERE ended_at IS NULL;
-- Whose log is to be deleted some day, of all tenants.
CREATE INDEX IF NOT EXISTS runs_logged ON runs (ended_at) WHERE ended_at IS NOT NULL AND NOT log_trimmed;

-- No index holds a column that changes while a job moves, so that its updates stay on their page.
CREATE TABLE IF NOT EXISTS jobs (
    tenant_id     TEXT COLLATE "C" NOT NULL,
    job_id        UUID NOT NULL,
    run_id        UUID NOT NULL,
    lead_id       UUID NOT NULL,
    state         TEXT COLLATE "C" NOT NULL CHECK (state IN ('queued', 'dialing', 'in_call', 'completed', 'failed',
                      'canceled', 'skipped', 'expired')),
    phone         TEXT COLLATE "C" NOT NULL,
    time_zone     TEXT COLLATE "C",
    priority      BIGINT NOT NULL CHECK (priority BETWEEN 0 AND 9),
    eligible_at   BIGINT NOT NULL,
    attempt       BIGINT NOT NULL DEFAULT 0,
    attempts_used BIGINT NOT NULL DEFAULT 0,
    outcome       TEXT COLLATE "C" CHECK (outcome IN ('answered', 'machine', 'busy', 'no_answer', 'failed', 'lead_dead',
                      'policy_block', 'unknown', 'canceled', 'expired', 'suppressed')),
    metadata      TEXT COLLATE "C",
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, job_id),
    UNIQUE (tenant_id, run_id, lead_id)
) WITH (fillfactor = 60);
CREATE INDEX IF NOT EXISTS jobs_by_run ON jobs (tenant_id, run_id, job_id);
CREATE INDEX IF NOT EXISTS jobs_by_lead ON jobs (tenant_id, lead_id, job_id);

-- Exactly the queued jobs; rows are inserted and deleted, never updated, and are all that a claim scans.
-- put_off: by a claim that met it before it might be dialed.
CREATE TABLE IF NOT EXISTS ready_jobs (
    tenant_id   TEXT COLLATE "C" NOT NULL,
    run_id      UUID NOT NULL,
    priority    BIGINT NOT NULL,
    eligible_at BIGINT NOT NULL,
    job_id      UUID NOT NULL,
    put_off     BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (tenant_id, run_id, priority, eligible_at, job_id)
);
CREATE INDEX IF NOT EXISTS ready_jobs_put_off ON ready_jobs (tenant_id, run_id, job_id) WHERE put_off;

-- A row is committed as 'intent' before the request to the carrier is sent, and is never deleted.
-- check_at: when the carrier is to be asked about the call unless news comes first.
CREATE TABLE IF NOT EXISTS call_log (
    tenant_id       TEXT COLLATE "C" NOT NULL,
    call_id         UUID NOT NULL,
    call_sid        TEXT COLLATE "C",
    direction       TEXT COLLATE "C" NOT NULL CHECK (direction IN ('outbound', 'inbound', 'transfer')),
    run_id          UUID,
    job_id          UUID,
    transfer_id     UUID,
    attempt         BIGINT NOT NULL DEFAULT 0,
    account_sid     TEXT COLLATE "C" NOT NULL,
    worker_id       TEXT COLLATE "C",
    state           TEXT COLLATE "C" NOT NULL CHECK (state IN ('intent', 'unknown', 'submitted', 'ringing', 'answered',
                        'completed', 'busy', 'no_answer', 'failed', 'canceled')),
    presumed        BOOLEAN NOT NULL DEFAULT FALSE,
    sequence        BIGINT,
    phone_from      TEXT COLLATE "C" NOT NULL,
    phone_to        TEXT COLLATE "C" NOT NULL,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    answered_at     BIGINT,
    ended_at        BIGINT,
    duration_s      BIGINT,
    answered_by     TEXT COLLATE "C" CHECK (answered_by IN ('human', 'machine_start', 'machine_end_beep',
                        'machine_end_silence', 'machine_end_other', 'fax', 'unknown')),
    error_code      VARCHAR(64) COLLATE "C",
    error_message   TEXT COLLATE "C",
    time_limit_s    BIGINT NOT NULL DEFAULT 0,
    check_at        BIGINT,
    empty_lookups   BIGINT NOT NULL DEFAULT 0,
    orphaned        BOOLEAN NOT NULL DEFAULT FALSE,
    intervention    TEXT COLLATE "C" CHECK (intervention IN ('hang_up_orphan', 'hang_up_machine', 'leave_message', 'hang_up_leg')),
    hangup_asked_at BIGINT,
    PRIMARY KEY (tenant_id, call_id),
    CONSTRAINT ended_when_final CHECK
        ((ended_at IS NOT NULL) = (state IN ('completed', 'busy', 'no_answer', 'failed', 'canceled'))),
    CONSTRAINT named_when_submitted CHECK
        (call_sid IS NOT NULL OR state IN ('intent', 'unknown', 'failed'))
) WITH (fillfactor = 60);
CREATE UNIQUE INDEX IF NOT EXISTS call_log_sid ON call_log (tenant_id, call_sid) WHERE call_sid IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS call_log_attempt ON call_log (tenant_id, job_id, attempt);
CREATE INDEX IF NOT EXISTS call_log_by_run ON call_log (tenant_id, run_id, call_id);
-- When a phone was tried: frequency caps count over all runs.
CREATE INDEX IF NOT EXISTS call_log_by_phone ON call_log (tenant_id, phone_to, created_at);
CREATE INDEX IF NOT EXISTS call_log_error ON call_log (tenant_id, error_code) WHERE error_code IS NOT NULL;
CREATE INDEX IF NOT EXISTS call_log_inbound ON call_log (tenant_id, phone_from) WHERE direction = 'inbound';
CREATE INDEX IF NOT EXISTS call_log_inbound_live ON call_log (tenant_id, call_id)
    WHERE ended_at IS NULL AND direction = 'inbound';
-- Calls about which something is to be done at the carrier.
CREATE INDEX IF NOT EXISTS call_log_interventions ON call_log (tenant_id, call_id) WHERE intervention IS NOT NULL;
-- One live call per phone; live counts are derived from it. The predicate names ended_at, not state, so that
-- a live call's updates touch no index.
CREATE UNIQUE INDEX IF NOT EXISTS call_log_live ON call_log (tenant_id, phone_to)
    WHERE ended_at IS NULL AND direction <> 'inbound';

-- The log of a run: one row a commit, its revision without gaps. Append-only.
CREATE TABLE IF NOT EXISTS run_events (
    tenant_id TEXT COLLATE "C" NOT NULL,
    run_id    UUID NOT NULL,
    revision  BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    progress  TEXT COLLATE "C" NOT NULL,
    events    TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, run_id, revision)
);

-- lz4 costs a commit of 500 events less than half of what pglz does. A server built without it keeps pglz.
DO $$
BEGIN
    ALTER TABLE run_events ALTER COLUMN events SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN NULL;
END $$;

CREATE TABLE IF NOT EXISTS request_ids (
    tenant_id    TEXT COLLATE "C" NOT NULL,
    method       TEXT COLLATE "C" NOT NULL,
    request_id   TEXT COLLATE "C" NOT NULL,
    payload_hash TEXT COLLATE "C" NOT NULL,
    answer       TEXT COLLATE "C" NOT NULL,
    created_at   BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, method, request_id)
);
CREATE INDEX IF NOT EXISTS request_ids_age ON request_ids (created_at);

-- How far an import got. Jobs are imported into a run; an import of leads has the run of zeros, one of suppressions the
-- run of ones, and both count.
CREATE TABLE IF NOT EXISTS imports (
    tenant_id   TEXT COLLATE "C" NOT NULL,
    run_id      UUID NOT NULL,
    import_id   TEXT COLLATE "C" NOT NULL,
    next_offset BIGINT NOT NULL,
    created     BIGINT NOT NULL DEFAULT 0,
    updated     BIGINT NOT NULL DEFAULT 0,
    unchanged   BIGINT NOT NULL DEFAULT 0,
    rejected    BIGINT NOT NULL DEFAULT 0,
    updated_at  BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, run_id, import_id)
) WITH (fillfactor = 60);

-- Durable work, for every tenant in one table: inserted by the transaction that causes it, deleted by the one that
-- does it. run_at: not before; of a claimed task, when its claim lapses. claims only grows, and is what a claim is known
-- by: who finishes or puts off a task names it, so a claim that has lapsed changes nothing.
-- payload: ids, nothing personal.
CREATE TABLE IF NOT EXISTS tasks (
    tenant_id  TEXT COLLATE "C" NOT NULL,
    task_id    UUID NOT NULL,
    kind       TEXT COLLATE "C" NOT NULL,
    subject    TEXT COLLATE "C" NOT NULL,
    payload    TEXT COLLATE "C" NOT NULL,
    state      TEXT COLLATE "C" NOT NULL CHECK (state IN ('queued', 'dead')),
    attempts   BIGINT NOT NULL DEFAULT 0,
    claims     BIGINT NOT NULL DEFAULT 0,
    run_at     BIGINT NOT NULL,
    claimed_by TEXT COLLATE "C",
    last_error TEXT COLLATE "C",
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, task_id)
) WITH (fillfactor = 60);
CREATE INDEX IF NOT EXISTS tasks_due ON tasks (run_at) WHERE state = 'queued';

-- Moving a live caller to a human. call_id: the caller's call. caller_phone: of a caller who is yet to dial in, until they do.
-- acting_until: somebody is asking the carrier for something until then. wants_leg: it waits for a slot for a call to its
-- target. settings, progress: see domain::transfer.
CREATE TABLE IF NOT EXISTS transfers (
    tenant_id    TEXT COLLATE "C" NOT NULL,
    transfer_id  UUID NOT NULL,
    incident_id  UUID,
    call_id      UUID,
    caller_phone TEXT COLLATE "C",
    mode         TEXT COLLATE "C" NOT NULL CHECK (mode IN ('direct', 'warm')),
    state        TEXT COLLATE "C" NOT NULL CHECK (state IN ('requested', 'redirecting', 'dequeuing', 'ringing', 'bridged',
                     'returned', 'failed', 'caller_gone', 'canceled')),
    outcome      TEXT COLLATE "C" CHECK (outcome IN ('bridged', 'busy', 'no_answer', 'declined', 'target_failed', 'caller_gone',
                     'returned', 'canceled')),
    settings     TEXT COLLATE "C" NOT NULL,
    progress     TEXT COLLATE "C" NOT NULL,
    revision     BIGINT NOT NULL,
    acting_until BIGINT,
    wants_leg    BOOLEAN NOT NULL DEFAULT FALSE,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    ended_at     BIGINT,
    log_trimmed  BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (tenant_id, transfer_id),
    CONSTRAINT ended_when_final CHECK
        ((ended_at IS NOT NULL) = (state IN ('bridged', 'returned', 'failed', 'caller_gone', 'canceled'))),
    CONSTRAINT outcome_when_ended CHECK ((ended_at IS NOT NULL) = (outcome IS NOT NULL))
) WITH (fillfactor = 60);
-- One live transfer per caller.
CREATE UNIQUE INDEX IF NOT EXISTS transfers_live ON transfers (tenant_id, call_id)
    WHERE ended_at IS NULL AND call_id IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS transfers_incident ON transfers (tenant_id, incident_id)
    WHERE incident_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS transfers_logged ON transfers (ended_at) WHERE ended_at IS NOT NULL AND NOT log_trimmed;
CREATE INDEX IF NOT EXISTS transfers_wanting ON transfers (tenant_id) WHERE wants_leg;
-- Who is expected to dial in.
CREATE INDEX IF NOT EXISTS transfers_awaited ON transfers (tenant_id, caller_phone, transfer_id)
    WHERE caller_phone IS NOT NULL;

-- The log of a transfer, like that of a run.
CREATE TABLE IF NOT EXISTS transfer_events (
    tenant_id   TEXT COLLATE "C" NOT NULL,
    transfer_id UUID NOT NULL,
    revision    BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    state       TEXT COLLATE "C" NOT NULL,
    events      TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, transfer_id, revision)
);

-- Where a tenant is told what happens. event_types: a JSON array of filters, empty for everything. secret_sealed: the
-- secret, and the one before until previous_until, encrypted under the master key sealed_with. failures, retry_at: rounds
-- in a row of which every attempt failed, and until when it is left alone for that.
CREATE TABLE IF NOT EXISTS webhooks (
    tenant_id       TEXT COLLATE "C" NOT NULL,
    webhook_id      UUID NOT NULL,
    url             TEXT COLLATE "C" NOT NULL,
    event_types     TEXT COLLATE "C" NOT NULL,
    description     TEXT COLLATE "C" NOT NULL,
    state           TEXT COLLATE "C" NOT NULL CHECK (state IN ('enabled', 'disabled', 'deleted')),
    disabled_reason TEXT COLLATE "C" CHECK (disabled_reason IN ('client', 'failing', 'gone', 'overflow')),
    secret_sealed   BYTEA NOT NULL,
    sealed_with     TEXT COLLATE "C" NOT NULL,
    previous_until  BIGINT,
    failing_since   BIGINT,
    failures        BIGINT NOT NULL DEFAULT 0,
    retry_at        BIGINT NOT NULL DEFAULT 0,
    revision        BIGINT NOT NULL DEFAULT 1,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, webhook_id),
    CONSTRAINT disabled_for_a_reason CHECK ((disabled_reason IS NOT NULL) = (state = 'disabled'))
) WITH (fillfactor = 60);

-- One event for one endpoint, written by the transaction that caused it. position: the order among those of a subject,
-- from the subject's own revision. body: ids and states, nothing personal.
CREATE TABLE IF NOT EXISTS webhook_deliveries (
    tenant_id   TEXT COLLATE "C" NOT NULL,
    webhook_id  UUID NOT NULL,
    delivery_id UUID NOT NULL,
    subject     TEXT COLLATE "C" NOT NULL,
    position    BIGINT NOT NULL,
    event_type  TEXT COLLATE "C" NOT NULL,
    body        TEXT COLLATE "C" NOT NULL,
    state       TEXT COLLATE "C" NOT NULL CHECK (state IN ('queued', 'delivered', 'dead')),
    attempts    BIGINT NOT NULL DEFAULT 0,
    status_code BIGINT,
    latency_ms  BIGINT,
    last_error  TEXT COLLATE "C",
    next_at     BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, webhook_id, delivery_id)
) WITH (fillfactor = 60);
CREATE INDEX IF NOT EXISTS webhook_deliveries_due ON webhook_deliveries
    (tenant_id, webhook_id, next_at, delivery_id) WHERE state = 'queued';
CREATE INDEX IF NOT EXISTS webhook_deliveries_queued ON webhook_deliveries
    (tenant_id, webhook_id, subject, position, delivery_id) WHERE state = 'queued';

-- A retry of an ended run's jobs: the new run's row of its filling, and how far it got (the parent's last job).
CREATE TABLE IF NOT EXISTS run_retries (
    tenant_id     TEXT COLLATE "C" NOT NULL,
    run_id        UUID NOT NULL,
    parent_run_id UUID NOT NULL,
    states        TEXT COLLATE "C" NOT NULL,
    outcomes      TEXT COLLATE "C" NOT NULL,
    start_run     BOOLEAN NOT NULL,
    after_job_id  UUID NOT NULL,
    filled        BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (tenant_id, run_id)
) WITH (fillfactor = 60);

-- A run made of leads: which, and how far it got (the last lead looked at). Nothing of the filter is kept once done.
-- suppressed: of those added. last_error: what it waits for, or why it ended early.
CREATE TABLE IF NOT EXISTS run_populations (
    tenant_id     TEXT COLLATE "C" NOT NULL,
    run_id        UUID NOT NULL,
    filter        TEXT COLLATE "C" NOT NULL,
    seal          BOOLEAN NOT NULL,
    after_lead_id UUID NOT NULL,
    done          BOOLEAN NOT NULL DEFAULT FALSE,
    added         BIGINT NOT NULL DEFAULT 0,
    duplicates    BIGINT NOT NULL DEFAULT 0,
    suppressed    BIGINT NOT NULL DEFAULT 0,
    last_error    TEXT COLLATE "C",
    PRIMARY KEY (tenant_id, run_id)
) WITH (fillfactor = 60);

-- When a tenant last had maintenance done on request, so that the limit holds across processes.
CREATE TABLE IF NOT EXISTS maintenance (
    tenant_id TEXT COLLATE "C" NOT NULL,
    kind      TEXT COLLATE "C" NOT NULL CHECK (kind IN ('reconcile_runs', 'cleanup_stale_calls')),
    last_at   BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, kind)
) WITH (fillfactor = 60);

-- Phones that the tenant must not dial; they outlive their leads. One that has expired holds nobody back, and is replaced.
-- call_id: the call during which the callee asked for it. created_by: a key's id, or 'system'.
CREATE TABLE IF NOT EXISTS suppressions (
    tenant_id      TEXT COLLATE "C" NOT NULL,
    phone          TEXT COLLATE "C" NOT NULL,
    suppression_id UUID NOT NULL,
    reason         TEXT COLLATE "C" NOT NULL CHECK (reason IN ('asked', 'registry', 'complaint', 'wrong_number', 'legal', 'other')),
    source         TEXT COLLATE "C" NOT NULL CHECK (source IN ('api', 'operator', 'import', 'opt_out')),
    note           TEXT COLLATE "C" NOT NULL,
    call_id        UUID,
    expires_at     BIGINT,
    created_at     BIGINT NOT NULL,
    created_by     TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, phone)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX IF NOT EXISTS suppressions_by_id ON suppressions (tenant_id, suppression_id);

-- Who changed what of the tenant. Append-only. actor: a key's id, or 'system'; actor_tenant: whose key; peer: the
-- address that asked.
CREATE TABLE IF NOT EXISTS audit_log (
    tenant_id    TEXT COLLATE "C" NOT NULL,
    audit_id     UUID NOT NULL,
    at           BIGINT NOT NULL,
    actor        TEXT COLLATE "C" NOT NULL,
    actor_tenant TEXT COLLATE "C",
    peer         TEXT COLLATE "C",
    method       TEXT COLLATE "C" NOT NULL,
    subject      TEXT COLLATE "C" NOT NULL,
    detail       TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, audit_id)
);

INSERT INTO meta (name, value) VALUES ('log_epoch', substr(md5(random()::text || clock_timestamp()::text), 1, 16))
    ON CONFLICT DO NOTHING;

-- Roles belong to the cluster, so another database of it may have made them already, or be making them now.
DO $$
DECLARE role TEXT;
BEGIN
    FOREACH role IN ARRAY ARRAY['trunkline_app', 'trunkline_scheduler'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOBYPASSRLS', role);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
            END;
        END IF;
        IF NOT pg_has_role(current_user, role, 'MEMBER') THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', role);
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), role);
    END LOOP;
END $$;

-- The application sees one tenant at a time: the one that the transaction named.
DO $$
DECLARE owned TEXT;
BEGIN
    FOREACH owned IN ARRAY ARRAY['tenants', 'tenant_dispatch', 'api_keys', 'leads', 'runs', 'jobs', 'ready_jobs',
                                 'call_log', 'run_events', 'request_ids', 'imports', 'run_retries', 'maintenance',
                                 'audit_log', 'lead_events', 'tasks', 'suppressions', 'run_populations', 'transfers',
                                 'transfer_events', 'webhooks', 'webhook_deliveries'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', owned);
        EXECUTE format('DROP POLICY IF EXISTS own_rows ON %I', owned);
        EXECUTE format('CREATE POLICY own_rows ON %I TO trunkline_app
            USING (tenant_id = NULLIF(current_setting(''trunkline.tenant'', true), ''''))', owned);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %I TO trunkline_app', owned);
    END LOOP;
END $$;
GRANT DELETE ON ready_jobs, leads, lead_events, tasks, suppressions, webhooks, webhook_deliveries TO trunkline_app;
REVOKE UPDATE ON run_events, transfer_events FROM trunkline_app;
REVOKE UPDATE, DELETE ON audit_log FROM trunkline_app;
-- Tenants and keys are the administration's.
REVOKE INSERT, UPDATE ON tenants, api_keys FROM trunkline_app;
GRANT SELECT (account_sid, calls_per_second, next_call_at, breaker_open_until), UPDATE (next_call_at, breaker_open_until)
    ON carrier_accounts TO trunkline_app;
GRANT SELECT ON workers, meta TO trunkline_app;

-- The scheduler sees across tenants, and only what it needs to find whose turn it is.
DO $$
DECLARE routed TEXT;
BEGIN
    FOREACH routed IN ARRAY ARRAY['tenants', 'tenant_dispatch', 'api_keys', 'runs', 'call_log', 'request_ids',
                                  'tasks', 'run_events', 'transfers', 'transfer_events'] LOOP
        EXECUTE format('DROP POLICY IF EXISTS all_rows ON %I', routed);
        EXECUTE format('CREATE POLICY all_rows ON %I TO trunkline_scheduler USING (true)', routed);
    END LOOP;
END $$;
GRANT SELECT, UPDATE (ready_at) ON tenant_dispatch TO trunkline_scheduler;
GRANT SELECT, UPDATE (last_used_at) ON api_keys TO trunkline_scheduler;
GRANT SELECT (tenant_id, run_id, state, starts_at, expires_at, claimable_at, ended_at, queued, log_trimmed),
    UPDATE (log_trimmed) ON runs TO trunkline_scheduler;
-- It deletes old logs, unread.
GRANT SELECT (tenant_id, transfer_id, ended_at, log_trimmed), UPDATE (log_trimmed) ON transfers TO trunkline_scheduler;
GRANT SELECT (tenant_id, run_id, revision), DELETE ON run_events TO trunkline_scheduler;
GRANT SELECT (tenant_id, transfer_id, revision), DELETE ON transfer_events TO trunkline_scheduler;
GRANT SELECT (tenant_id, call_id, call_sid, run_id, state, worker_id, created_at, check_at, ended_at, direction,
    intervention) ON call_log TO trunkline_scheduler;
GRANT SELECT (tenant_id, account_sid, state, region, plan) ON tenants TO trunkline_scheduler;
GRANT SELECT (tenant_id, task_id, kind, subject, payload, state, attempts, claims, run_at),
    UPDATE (state, attempts, claims, run_at, claimed_by, last_error, updated_at) ON tasks TO trunkline_scheduler;
GRANT SELECT (tenant_id, method, request_id, created_at), DELETE ON request_ids TO trunkline_scheduler;
GRANT SELECT, INSERT, UPDATE, DELETE ON workers TO trunkline_scheduler;
GRANT SELECT ON meta TO trunkline_scheduler;
GRANT SELECT (account_sid, breaker_open_until), UPDATE (breaker_open_until) ON carrier_accounts TO trunkline_scheduler;
