-- The schema, in SQLite's words; migrations/postgres holds the same under the same name.
-- Instants are microseconds since the Unix epoch, UTC. The tenant leads every key.

CREATE TABLE IF NOT EXISTS meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- A Twilio account. Tenants may share one, so it has no tenant; its pace is metered here for all of them.
-- breaker_open_until: the circuit breaker is open until then, and lets single probes through after it.
-- managed: changed over the API, so that settings of a process do not replace it.
-- secrets_sealed: its credentials, encrypted under the master key sealed_with; hints says what is told of them.
CREATE TABLE IF NOT EXISTS carrier_accounts (
    account_sid        TEXT PRIMARY KEY,
    calls_per_second   REAL NOT NULL CHECK (calls_per_second > 0),
    base_url           TEXT,
    managed            INTEGER NOT NULL DEFAULT 0,
    next_call_at       INTEGER NOT NULL DEFAULT 0,
    breaker_open_until INTEGER,
    secrets_sealed     BLOB,
    sealed_with        TEXT,
    hints              TEXT,
    revision           INTEGER NOT NULL DEFAULT 1,
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL,
    CONSTRAINT sealed_as_a_whole CHECK
        ((secrets_sealed IS NULL) = (sealed_with IS NULL) AND (secrets_sealed IS NULL) = (hints IS NULL))
) STRICT;

-- managed: changed over the API, so that settings of a process do not replace it.
CREATE TABLE IF NOT EXISTS tenants (
    tenant_id            TEXT PRIMARY KEY,
    state                TEXT NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled')),
    name                 TEXT NOT NULL DEFAULT '',
    max_concurrent_calls INTEGER NOT NULL CHECK (max_concurrent_calls BETWEEN 1 AND 10000),
    calls_per_second     REAL NOT NULL CHECK (calls_per_second > 0),
    account_sid          TEXT NOT NULL REFERENCES carrier_accounts (account_sid),
    caller_ids           TEXT NOT NULL,
    time_zone            TEXT NOT NULL,
    calling_window       TEXT NOT NULL,
    region               TEXT,
    plan                 TEXT NOT NULL,
    greeting             TEXT,
    managed              INTEGER NOT NULL DEFAULT 0,
    revision             INTEGER NOT NULL DEFAULT 1,
    created_at           INTEGER NOT NULL,
    updated_at           INTEGER NOT NULL
) STRICT;
-- Whose a called number is, is looked for among the tenants of its account.
CREATE INDEX IF NOT EXISTS tenants_account ON tenants (account_sid, tenant_id);

-- One row a tenant. The lock on it, held to commit, makes a claim the tenant's only one.
-- caller_turn: whose turn it is in the tenant's pool of caller ids.
CREATE TABLE IF NOT EXISTS tenant_dispatch (
    tenant_id    TEXT PRIMARY KEY REFERENCES tenants (tenant_id),
    ready_at     INTEGER NOT NULL,
    next_call_at INTEGER NOT NULL DEFAULT 0,
    virtual_time INTEGER NOT NULL DEFAULT 0,
    caller_turn  INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS tenant_dispatch_ready ON tenant_dispatch (ready_at);

CREATE TABLE IF NOT EXISTS api_keys (
    key_id       TEXT PRIMARY KEY,
    tenant_id    TEXT NOT NULL REFERENCES tenants (tenant_id),
    name         TEXT NOT NULL DEFAULT '',
    secret_hash  TEXT NOT NULL,
    scopes       TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    revoked_at   INTEGER,
    last_used_at INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS api_keys_tenant ON api_keys (tenant_id, key_id);

-- heartbeat_at is not indexed: it changes all the time.
CREATE TABLE IF NOT EXISTS workers (
    worker_id    TEXT PRIMARY KEY,
    started_at   INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL
) STRICT;

-- revision grows when what a client may change does; its calls leave it alone. tags: a JSON array, sorted.
CREATE TABLE IF NOT EXISTS leads (
    tenant_id           TEXT NOT NULL,
    lead_id             TEXT NOT NULL,
    phone               TEXT NOT NULL,
    name                TEXT NOT NULL,
    time_zone           TEXT,
    attributes          TEXT NOT NULL,
    tags                TEXT NOT NULL DEFAULT '[]',
    status              TEXT NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'attempted', 'contacted', 'converted',
                            'lost')),
    source              TEXT NOT NULL DEFAULT 'api' CHECK (source IN ('api', 'import', 'run', 'call')),
    revision            INTEGER NOT NULL DEFAULT 1,
    last_call_id        TEXT,
    last_call_direction TEXT CHECK (last_call_direction IN ('outbound', 'inbound')),
    last_call_state     TEXT,
    last_call_at        INTEGER,
    created_at          INTEGER NOT NULL,
    updated_at          INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, lead_id),
    UNIQUE (tenant_id, phone)
) STRICT;

-- A lead's history but for its creation, which its own row tells: ids and names of fields, nothing personal.
CREATE TABLE IF NOT EXISTS lead_events (
    tenant_id TEXT NOT NULL,
    lead_id   TEXT NOT NULL,
    event_id  TEXT NOT NULL,
    at        INTEGER NOT NULL,
    detail    TEXT NOT NULL,
    PRIMARY KEY (tenant_id, lead_id, event_id)
) STRICT, WITHOUT ROWID;

-- The lock on a run's row is the lock on its jobs and their calls: whoever changes one holds it.
-- claimable_at is a hint for claims: no job of the run is eligible before it.
-- job_priorities has bit p set once the run had a job of priority p.
CREATE TABLE IF NOT EXISTS runs (
    tenant_id      TEXT NOT NULL,
    run_id         TEXT NOT NULL,
    state          TEXT NOT NULL CHECK (state IN ('draft', 'pending', 'running', 'paused', 'canceling',
                       'stopping', 'completed', 'canceled', 'stopped', 'failed', 'expired')),
    sealed         INTEGER NOT NULL,
    settings       TEXT NOT NULL,
    concurrency    INTEGER NOT NULL CHECK (concurrency > 0),
    weight         INTEGER NOT NULL CHECK (weight > 0),
    priority       INTEGER NOT NULL,
    starts_at      INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    parent_run_id  TEXT,
    last_error     TEXT,
    revision       INTEGER NOT NULL,
    pass           INTEGER NOT NULL DEFAULT 0,
    claimable_at   INTEGER NOT NULL,
    job_priorities INTEGER NOT NULL DEFAULT 0,
    jobs_total     INTEGER NOT NULL,
    queued         INTEGER NOT NULL CHECK (queued >= 0),
    dialing        INTEGER NOT NULL CHECK (dialing >= 0),
    in_call        INTEGER NOT NULL CHECK (in_call >= 0),
    completed      INTEGER NOT NULL CHECK (completed >= 0),
    failed         INTEGER NOT NULL CHECK (failed >= 0),
    canceled       INTEGER NOT NULL CHECK (canceled >= 0),
    skipped        INTEGER NOT NULL CHECK (skipped >= 0),
    expired        INTEGER NOT NULL CHECK (expired >= 0),
    outcomes       TEXT NOT NULL,
    worker_id      TEXT,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    started_at     INTEGER,
    ended_at       INTEGER,
    log_trimmed    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, run_id),
    CONSTRAINT nothing_lost CHECK
        (jobs_total = queued + dialing + in_call + completed + failed + canceled + skipped + expired),
    CONSTRAINT ended_when_final CHECK
        ((ended_at IS NOT NULL) = (state IN ('completed', 'canceled', 'stopped', 'failed', 'expired')))
) STRICT;
CREATE INDEX IF NOT EXISTS runs_open ON runs (tenant_id, run_id) WHERE ended_at IS NULL;
-- Whose log is to be deleted some day, of all tenants.
CREATE INDEX IF NOT EXISTS runs_logged ON runs (ended_at) WHERE ended_at IS NOT NULL AND NOT log_trimmed;

-- No index holds a column that changes while a job moves, so that its updates stay on their page.
CREATE TABLE IF NOT EXISTS jobs (
    tenant_id     TEXT NOT NULL,
    job_id        TEXT NOT NULL,
    run_id        TEXT NOT NULL,
    lead_id       TEXT NOT NULL,
    state         TEXT NOT NULL CHECK (state IN ('queued', 'dialing', 'in_call', 'completed', 'failed',
                      'canceled', 'skipped', 'expired')),
    phone         TEXT NOT NULL,
    time_zone     TEXT,
    priority      INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 9),
    eligible_at   INTEGER NOT NULL,
    attempt       INTEGER NOT NULL DEFAULT 0,
    attempts_used INTEGER NOT NULL DEFAULT 0,
    outcome       TEXT CHECK (outcome IN ('answered', 'machine', 'busy', 'no_answer', 'failed', 'lead_dead',
                      'policy_block', 'unknown', 'canceled', 'expired', 'suppressed')),
    metadata      TEXT,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, job_id),
    UNIQUE (tenant_id, run_id, lead_id)
) STRICT;
CREATE INDEX IF NOT EXISTS jobs_by_run ON jobs (tenant_id, run_id, job_id);
CREATE INDEX IF NOT EXISTS jobs_by_lead ON jobs (tenant_id, lead_id, job_id);

-- Exactly the queued jobs; rows are inserted and deleted, never updated, and are all that a claim scans.
-- put_off: by a claim that met it before it might be dialed.
CREATE TABLE IF NOT EXISTS ready_jobs (
    tenant_id   TEXT NOT NULL,
    run_id      TEXT NOT NULL,
    priority    INTEGER NOT NULL,
    eligible_at INTEGER NOT NULL,
    job_id      TEXT NOT NULL,
    put_off     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, run_id, priority, eligible_at, job_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ready_jobs_put_off ON ready_jobs (tenant_id, run_id, job_id) WHERE put_off;

-- A row is committed as 'intent' before the request to the carrier is sent, and is never deleted.
-- check_at: when the carrier is to be asked about the call unless news comes first.
CREATE TABLE IF NOT EXISTS call_log (
    tenant_id       TEXT NOT NULL,
    call_id         TEXT NOT NULL,
    call_sid        TEXT,
    direction       TEXT NOT NULL CHECK (direction IN ('outbound', 'inbound', 'transfer')),
    run_id          TEXT,
    job_id          TEXT,
    transfer_id     TEXT,
    attempt         INTEGER NOT NULL DEFAULT 0,
    account_sid     TEXT NOT NULL,
    worker_id       TEXT,
    state           TEXT NOT NULL CHECK (state IN ('intent', 'unknown', 'submitted', 'ringing', 'answered',
                        'completed', 'busy', 'no_answer', 'failed', 'canceled')),
    presumed        INTEGER NOT NULL DEFAULT 0,
    sequence        INTEGER,
    phone_from      TEXT NOT NULL,
    phone_to        TEXT NOT NULL,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    answered_at     INTEGER,
    ended_at        INTEGER,
    duration_s      INTEGER,
    answered_by     TEXT CHECK (answered_by IN ('human', 'machine_start', 'machine_end_beep',
                        'machine_end_silence', 'machine_end_other', 'fax', 'unknown')),
    error_code      TEXT CHECK (length(error_code) <= 64),
    error_message   TEXT,
    time_limit_s    INTEGER NOT NULL DEFAULT 0,
    check_at        INTEGER,
    empty_lookups   INTEGER NOT NULL DEFAULT 0,
    orphaned        INTEGER NOT NULL DEFAULT 0,
    intervention    TEXT CHECK (intervention IN ('hang_up_orphan', 'hang_up_machine', 'leave_message', 'hang_up_leg')),
    hangup_asked_at INTEGER,
    PRIMARY KEY (tenant_id, call_id),
    CONSTRAINT ended_when_final CHECK
        ((ended_at IS NOT NULL) = (state IN ('completed', 'busy', 'no_answer', 'failed', 'canceled'))),
    CONSTRAINT named_when_submitted CHECK
        (call_sid IS NOT NULL OR state IN ('intent', 'unknown', 'failed'))
) STRICT;
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
    tenant_id TEXT NOT NULL,
    run_id    TEXT NOT NULL,
    revision  INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    progress  TEXT NOT NULL,
    events    TEXT NOT NULL,
    PRIMARY KEY (tenant_id, run_id, revision)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS request_ids (
    tenant_id    TEXT NOT NULL,
    method       TEXT NOT NULL,
    request_id   TEXT NOT NULL,
    payload_hash TEXT NOT NULL,
    answer       TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, method, request_id)
) STRICT;
CREATE INDEX IF NOT EXISTS request_ids_age ON request_ids (created_at);

-- How far an import got. Jobs are imported into a run; an import of leads has the run of zeros, one of suppressions the
-- run of ones, and both count.
CREATE TABLE IF NOT EXISTS imports (
    tenant_id   TEXT NOT NULL,
    run_id      TEXT NOT NULL,
    import_id   TEXT NOT NULL,
    next_offset INTEGER NOT NULL,
    created     INTEGER NOT NULL DEFAULT 0,
    updated     INTEGER NOT NULL DEFAULT 0,
    unchanged   INTEGER NOT NULL DEFAULT 0,
    rejected    INTEGER NOT NULL DEFAULT 0,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, run_id, import_id)
) STRICT;

-- Durable work, for every tenant in one table: inserted by the transaction that causes it, deleted by the one that
-- does it. run_at: not before; of a claimed task, when its claim lapses. claims only grows, and is what a claim is known
-- by: who finishes or puts off a task names it, so a claim that has lapsed changes nothing.
-- payload: ids, nothing personal.
CREATE TABLE IF NOT EXISTS tasks (
    tenant_id  TEXT NOT NULL,
    task_id    TEXT NOT NULL,
    kind       TEXT NOT NULL,
    subject    TEXT NOT NULL,
    payload    TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('queued', 'dead')),
    attempts   INTEGER NOT NULL DEFAULT 0,
    claims     INTEGER NOT NULL DEFAULT 0,
    run_at     INTEGER NOT NULL,
    claimed_by TEXT,
    last_error TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, task_id)
) STRICT;
CREATE INDEX IF NOT EXISTS tasks_due ON tasks (run_at) WHERE state = 'queued';

-- Moving a live caller to a human. call_id: the caller's call. caller_phone: of a caller who is yet to dial in, until they do.
-- acting_until: somebody is asking the carrier for something until then. wants_leg: it waits for a slot for a call to its
-- target. settings, progress: see domain::transfer.
CREATE TABLE IF NOT EXISTS transfers (
    tenant_id    TEXT NOT NULL,
    transfer_id  TEXT NOT NULL,
    incident_id  TEXT,
    call_id      TEXT,
    caller_phone TEXT,
    mode         TEXT NOT NULL CHECK (mode IN ('direct', 'warm')),
    state        TEXT NOT NULL CHECK (state IN ('requested', 'redirecting', 'dequeuing', 'ringing', 'bridged',
                     'returned', 'failed', 'caller_gone', 'canceled')),
    outcome      TEXT CHECK (outcome IN ('bridged', 'busy', 'no_answer', 'declined', 'target_failed', 'caller_gone',
                     'returned', 'canceled')),
    settings     TEXT NOT NULL,
    progress     TEXT NOT NULL,
    revision     INTEGER NOT NULL,
    acting_until INTEGER,
    wants_leg    INTEGER NOT NULL DEFAULT 0,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    ended_at     INTEGER,
    log_trimmed  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, transfer_id),
    CONSTRAINT ended_when_final CHECK
        ((ended_at IS NOT NULL) = (state IN ('bridged', 'returned', 'failed', 'caller_gone', 'canceled'))),
    CONSTRAINT outcome_when_ended CHECK ((ended_at IS NOT NULL) = (outcome IS NOT NULL))
) STRICT;
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
    tenant_id   TEXT NOT NULL,
    transfer_id TEXT NOT NULL,
    revision    INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    state       TEXT NOT NULL,
    events      TEXT NOT NULL,
    PRIMARY KEY (tenant_id, transfer_id, revision)
) STRICT, WITHOUT ROWID;

-- Where a tenant is told what happens. event_types: a JSON array of filters, empty for everything. secret_sealed: the
-- secret, and the one before until previous_until, encrypted under the master key sealed_with. failures, retry_at: rounds
-- in a row of which every attempt failed, and until when it is left alone for that.
CREATE TABLE IF NOT EXISTS webhooks (
    tenant_id       TEXT NOT NULL,
    webhook_id      TEXT NOT NULL,
    url             TEXT NOT NULL,
    event_types     TEXT NOT NULL,
    description     TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('enabled', 'disabled', 'deleted')),
    disabled_reason TEXT CHECK (disabled_reason IN ('client', 'failing', 'gone', 'overflow')),
    secret_sealed   BLOB NOT NULL,
    sealed_with     TEXT NOT NULL,
    previous_until  INTEGER,
    failing_since   INTEGER,
    failures        INTEGER NOT NULL DEFAULT 0,
    retry_at        INTEGER NOT NULL DEFAULT 0,
    revision        INTEGER NOT NULL DEFAULT 1,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, webhook_id),
    CONSTRAINT disabled_for_a_reason CHECK ((disabled_reason IS NOT NULL) = (state = 'disabled'))
) STRICT;

-- One event for one endpoint, written by the transaction that caused it. position: the order among those of a subject,
-- from the subject's own revision. body: ids and states, nothing personal.
CREATE TABLE IF NOT EXISTS webhook_deliveries (
    tenant_id   TEXT NOT NULL,
    webhook_id  TEXT NOT NULL,
    delivery_id TEXT NOT NULL,
    subject     TEXT NOT NULL,
    position    INTEGER NOT NULL,
    event_type  TEXT NOT NULL,
    body        TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('queued', 'delivered', 'dead')),
    attempts    INTEGER NOT NULL DEFAULT 0,
    status_code INTEGER,
    latency_ms  INTEGER,
    last_error  TEXT,
    next_at     INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, webhook_id, delivery_id)
) STRICT;
CREATE INDEX IF NOT EXISTS webhook_deliveries_due ON webhook_deliveries
    (tenant_id, webhook_id, next_at, delivery_id) WHERE state = 'queued';
CREATE INDEX IF NOT EXISTS webhook_deliveries_queued ON webhook_deliveries
    (tenant_id, webhook_id, subject, position, delivery_id) WHERE state = 'queued';

-- A retry of an ended run's jobs: the new run's row of its filling, and how far it got (the parent's last job).
CREATE TABLE IF NOT EXISTS run_retries (
    tenant_id     TEXT NOT NULL,
    run_id        TEXT NOT NULL,
    parent_run_id TEXT NOT NULL,
    states        TEXT NOT NULL,
    outcomes      TEXT NOT NULL,
    start_run     INTEGER NOT NULL,
    after_job_id  TEXT NOT NULL,
    filled        INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, run_id)
) STRICT;

-- A run made of leads: which, and how far it got (the last lead looked at). Nothing of the filter is kept once done.
-- suppressed: of those added. last_error: what it waits for, or why it ended early.
CREATE TABLE IF NOT EXISTS run_populations (
    tenant_id     TEXT NOT NULL,
    run_id        TEXT NOT NULL,
    filter        TEXT NOT NULL,
    seal          INTEGER NOT NULL,
    after_lead_id TEXT NOT NULL,
    done          INTEGER NOT NULL DEFAULT 0,
    added         INTEGER NOT NULL DEFAULT 0,
    duplicates    INTEGER NOT NULL DEFAULT 0,
    suppressed    INTEGER NOT NULL DEFAULT 0,
    last_error    TEXT,
    PRIMARY KEY (tenant_id, run_id)
) STRICT;

-- When a tenant last had maintenance done on request, so that the limit holds across processes.
CREATE TABLE IF NOT EXISTS maintenance (
    tenant_id TEXT NOT NULL,
    kind      TEXT NOT NULL CHECK (kind IN ('reconcile_runs', 'cleanup_stale_calls')),
    last_at   INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, kind)
) STRICT;

-- Phones that the tenant must not dial; they outlive their leads. One that has expired holds nobody back, and is replaced.
-- call_id: the call during which the callee asked for it. created_by: a key's id, or 'system'.
CREATE TABLE IF NOT EXISTS suppressions (
    tenant_id      TEXT NOT NULL,
    phone          TEXT NOT NULL,
    suppression_id TEXT NOT NULL,
    reason         TEXT NOT NULL CHECK (reason IN ('asked', 'registry', 'complaint', 'wrong_number', 'legal', 'other')),
    source         TEXT NOT NULL CHECK (source IN ('api', 'operator', 'import', 'opt_out')),
    note           TEXT NOT NULL,
    call_id        TEXT,
    expires_at     INTEGER,
    created_at     INTEGER NOT NULL,
    created_by     TEXT NOT NULL,
    PRIMARY KEY (tenant_id, phone)
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS suppressions_by_id ON suppressions (tenant_id, suppression_id);

-- Who changed what of the tenant. Append-only. actor: a key's id, or 'system'; actor_tenant: whose key; peer: the
-- address that asked.
CREATE TABLE IF NOT EXISTS audit_log (
    tenant_id    TEXT NOT NULL,
    audit_id     TEXT NOT NULL,
    at           INTEGER NOT NULL,
    actor        TEXT NOT NULL,
    actor_tenant TEXT,
    peer         TEXT,
    method       TEXT NOT NULL,
    subject      TEXT NOT NULL,
    detail       TEXT NOT NULL,
    PRIMARY KEY (tenant_id, audit_id)
) STRICT;
CREATE TRIGGER IF NOT EXISTS audit_log_keeps BEFORE UPDATE ON audit_log
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS audit_log_stays BEFORE DELETE ON audit_log
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

INSERT OR IGNORE INTO meta (name, value) VALUES ('log_epoch', lower(hex(randomblob(8))));

-- What SQLite's planner is to assume of sizes. Left alone it takes a tenant for ten rows, joins a batch of jobs by
-- going through all of the tenant's, and counts live calls by going through all calls. The second ANALYZE lets the
-- connection that runs this see it as well. PostgreSQL is told when it is opened.
ANALYZE sqlite_schema;
DELETE FROM sqlite_stat1;
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('jobs', 'sqlite_autoindex_jobs_1', '10000000 1000000 1'),
    ('jobs', 'sqlite_autoindex_jobs_2', '10000000 1000000 10000 1'),
    ('jobs', 'jobs_by_run', '10000000 1000000 10000 1'),
    ('jobs', 'jobs_by_lead', '10000000 1000000 10 1'),
    ('ready_jobs', 'ready_jobs', '10000000 1000000 10000 5000 100 1'),
    ('ready_jobs', 'ready_jobs_put_off', '500000 50000 500 1'),
    ('call_log', 'sqlite_autoindex_call_log_1', '10000000 1000000 1'),
    ('call_log', 'call_log_sid', '10000000 1000000 1'),
    ('call_log', 'call_log_attempt', '10000000 1000000 1 1'),
    ('call_log', 'call_log_by_run', '10000000 1000000 10000 1'),
    ('call_log', 'call_log_by_phone', '10000000 1000000 5 1'),
    ('call_log', 'call_log_live', '1000 100 1'),
    ('call_log', 'call_log_interventions', '1000 100 1'),
    ('call_log', 'call_log_inbound', '1000000 100000 10'),
    ('call_log', 'call_log_inbound_live', '1000 100 1'),
    ('lead_events', 'lead_events', '10000000 1000000 10 1'),
    ('suppressions', 'sqlite_autoindex_suppressions_1', '1000000 100000 1'),
    ('suppressions', 'suppressions_by_id', '1000000 100000 1'),
    ('tasks', 'sqlite_autoindex_tasks_1', '1000 100 1'),
    ('tasks', 'tasks_due', '1000 1'),
    ('transfers', 'sqlite_autoindex_transfers_1', '1000000 100000 1'),
    ('runs', 'runs_logged', '100000 1'),
    ('transfers', 'transfers_logged', '100000 1'),
    ('transfers', 'transfers_live', '1000 100 1'),
    ('transfers', 'transfers_wanting', '100 10'),
    ('transfers', 'transfers_incident', '100000 10000 1'),
    ('transfers', 'transfers_awaited', '1000 100 2 1'),
    ('transfer_events', 'transfer_events', '10000000 1000000 10 1'),
    ('webhooks', 'sqlite_autoindex_webhooks_1', '1000 2 1'),
    ('webhook_deliveries', 'sqlite_autoindex_webhook_deliveries_1', '10000000 100000 50000 1'),
    ('webhook_deliveries', 'webhook_deliveries_queued', '10000 1000 500 2 1 1'),
    ('webhook_deliveries', 'webhook_deliveries_due', '10000 1000 500 2 1'),
    ('leads', 'sqlite_autoindex_leads_1', '10000000 1000000 1'),
    ('leads', 'sqlite_autoindex_leads_2', '10000000 1000000 1'),
    ('runs', 'sqlite_autoindex_runs_1', '100000 10000 1'),
    ('runs', 'runs_open', '1000 100 1');
ANALYZE sqlite_schema;
