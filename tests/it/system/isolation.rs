//! PostgreSQL's own line between tenants, tried with raw SQL.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use trunkline::domain::TenantId;
use trunkline::store::{ClaimLimits, ImportStep, RequestKey, Store};

use crate::support::{TestDatabase, job, make_tenant, new_run, settings, worker};

/// Two tenants with rows in every table, and a superuser's connection.
async fn filled() -> (TestDatabase, PgConnection, [TenantId; 2]) {
    let database = TestDatabase::postgres().await;
    let engine = Store::open(&database.url).await.unwrap();
    let mut tenants = Vec::new();
    for name in ["mine", "yours"] {
        let tenant = make_tenant(&engine, name, 9, 1_000.0).await;
        let key = trunkline::store::ApiKey {
            key_id: name.into(),
            tenant: tenant.clone(),
            secret_hash: [7; 32],
            scopes: vec!["admin".into()],
            expires_at: None,
            revoked_at: None,
        };
        engine.put_key(&key).await.unwrap();
        let request =
            RequestKey { method: "CreateRun", request_id: "one".into(), payload_hash: [7; 32] };
        let unsealed = trunkline::store::NewRun { seal: false, ..new_run(settings(), 0..3) };
        let run = engine.create_run(&tenant, unsealed, Some(request)).await.unwrap().run.id;
        let step = ImportStep { import_id: "a", offset: 0, taken: 1 };
        engine.import_jobs(&tenant, run, step, vec![job(50)]).await.unwrap();
        tenants.push(tenant);
    }
    // One call each, and jobs that stay queued.
    let limits = ClaimLimits { max_calls: 1, horizon: std::time::Duration::from_millis(100) };
    let mut claimed = Vec::new();
    while claimed.len() < 2 {
        let claim = engine.claim(&worker("1"), limits).await.unwrap();
        claimed.extend(
            claim.tenant.filter(|tenant| !claimed.contains(tenant) && !claim.calls.is_empty()),
        );
    }
    drop(engine);
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    for tenant in &tenants {
        // What maintenance leaves behind.
        for row in [
            format!(
                "audit_log VALUES ('{tenant}', gen_random_uuid(), 0, 'key', '{tenant}', '', 'ReconcileRuns', 'run', '{{}}')"
            ),
            format!("lead_events VALUES ('{tenant}', gen_random_uuid(), gen_random_uuid(), 0, '{{}}')"),
            format!(
                "tasks (tenant_id, task_id, kind, subject, payload, state, run_at, created_at, updated_at)
                 VALUES ('{tenant}', gen_random_uuid(), 'erase_lead', '', '[]', 'queued', 0, 0, 0)"
            ),
            format!(
                "transfers (tenant_id, transfer_id, mode, state, settings, progress, revision, created_at, updated_at)
                 VALUES ('{tenant}', gen_random_uuid(), 'direct', 'requested', '', '', 1, 0, 0)"
            ),
            format!("transfer_events VALUES ('{tenant}', gen_random_uuid(), 1, 0, 'requested', '[]')"),
            format!(
                "webhooks (tenant_id, webhook_id, url, event_types, description, state, secret_sealed, sealed_with,
                     created_at, updated_at)
                 VALUES ('{tenant}', gen_random_uuid(), '', '[]', '', 'enabled', '', 'k', 0, 0)"
            ),
            format!(
                "webhook_deliveries (tenant_id, webhook_id, delivery_id, subject, position, event_type, body, state,
                     next_at, created_at, updated_at)
                 VALUES ('{tenant}', gen_random_uuid(), gen_random_uuid(), '', 1, 'x', '', 'dead', 0, 0, 0)"
            ),
            format!(
                "suppressions VALUES ('{tenant}', '', gen_random_uuid(), 'asked', 'api', '', NULL, NULL, 0, '')"
            ),
            format!(
                "run_populations (tenant_id, run_id, filter, seal, after_lead_id)
                 VALUES ('{tenant}', gen_random_uuid(), '', false, gen_random_uuid())"
            ),
            format!("maintenance VALUES ('{tenant}', 'reconcile_runs', 0)"),
            format!(
                "run_retries (tenant_id, run_id, parent_run_id, states, outcomes, start_run, after_job_id)
                 VALUES ('{tenant}', gen_random_uuid(), gen_random_uuid(), '', '', false, gen_random_uuid())"
            ),
        ] {
            run(&mut connection, format!("INSERT INTO {row}")).await.unwrap();
        }
    }
    let tenants = [tenants.remove(0), tenants.remove(0)];
    (database, connection, tenants)
}

async fn tables(connection: &mut PgConnection) -> Vec<String> {
    let rows = connection
        .fetch_all(
            "SELECT table_name::text AS name FROM information_schema.columns
             WHERE table_schema = current_schema() AND column_name = 'tenant_id' ORDER BY 1",
        )
        .await
        .unwrap();
    rows.iter().map(|row: &PgRow| row.get("name")).collect()
}

async fn run(connection: &mut PgConnection, sql: String) -> Result<u64, sqlx::Error> {
    connection.execute(AssertSqlSafe(sql)).await.map(|done| done.rows_affected())
}

async fn count(connection: &mut PgConnection, table: &str, filter: &str) -> i64 {
    let sql = format!("SELECT count(*) AS n FROM {table} WHERE {filter}");
    connection.fetch_one(AssertSqlSafe(sql)).await.unwrap().get("n")
}

/// As the application, on behalf of nobody, or of one tenant.
async fn become_app(connection: &mut PgConnection, tenant: Option<&str>) {
    let tenant = tenant.map_or("RESET trunkline.tenant".to_owned(), |tenant| {
        format!("SET trunkline.tenant = '{tenant}'")
    });
    run(connection, format!("RESET ROLE; {tenant}; SET ROLE trunkline_app")).await.unwrap();
}

fn code(result: Result<u64, sqlx::Error>) -> String {
    let error = result.expect_err("it was allowed");
    error.as_database_error().expect("an answer of the server").code().unwrap().into_owned()
}

/// insufficient_privilege; row-level security reports its refusals so, too.
const REFUSED: &str = "42501";

#[tokio::test]
async fn a_tenant_sees_its_own_rows_only() {
    let (_database, mut sql, [mine, yours]) = filled().await;
    let tables = tables(&mut sql).await;
    assert!(tables.len() >= 11, "{tables:?}");
    for table in &tables {
        for tenant in [&mine, &yours] {
            let filter = format!("tenant_id = '{tenant}'");
            assert!(
                count(&mut sql, table, &filter).await > 0,
                "{table} has no row of {tenant}: no test"
            );
        }
        // Not even to see that there is nothing.
        let protected = format!("relname = '{table}' AND relrowsecurity");
        assert_eq!(count(&mut sql, "pg_class", &protected).await, 1, "{table}");
    }
    for table in &tables {
        become_app(&mut sql, Some(mine.as_str())).await;
        assert!(count(&mut sql, table, "true").await > 0, "{table}");
        assert_eq!(count(&mut sql, table, &format!("tenant_id <> '{mine}'")).await, 0, "{table}");
        for nobody in [None, Some(""), Some("nobody"), Some("MINE"), Some("mine' OR 'a' = 'a")] {
            let quoted = nobody.map(|name| name.replace('\'', "''"));
            become_app(&mut sql, quoted.as_deref()).await;
            assert_eq!(count(&mut sql, table, "true").await, 0, "{table} as {nobody:?}");
        }
    }
}

#[tokio::test]
async fn a_tenant_writes_its_own_rows_only() {
    let (_database, mut sql, [mine, yours]) = filled().await;
    for table in tables(&mut sql).await {
        // A copy of a row of ours in the other's name: refused before any key is looked at.
        run(&mut sql, "RESET ROLE".into()).await.unwrap();
        let stolen = format!(
            "CREATE TEMP TABLE stolen_{table} AS SELECT * FROM {table} WHERE tenant_id = '{mine}' LIMIT 1;
             UPDATE stolen_{table} SET tenant_id = '{yours}'; GRANT SELECT ON stolen_{table} TO trunkline_app"
        );
        run(&mut sql, stolen).await.unwrap();
        become_app(&mut sql, Some(mine.as_str())).await;
        let insert = format!("INSERT INTO {table} SELECT * FROM stolen_{table}");
        assert_eq!(code(run(&mut sql, insert).await), REFUSED, "{table}");
        if ["run_events", "transfer_events", "audit_log", "tenants", "api_keys"]
            .contains(&table.as_str())
        {
            let change = format!("UPDATE {table} SET tenant_id = tenant_id");
            assert_eq!(code(run(&mut sql, change).await), REFUSED, "{table}");
            continue;
        }
        let take = format!("UPDATE {table} SET tenant_id = tenant_id WHERE tenant_id = '{yours}'");
        assert_eq!(run(&mut sql, take).await.unwrap(), 0, "{table}");
        let give = format!("UPDATE {table} SET tenant_id = '{yours}'");
        assert_eq!(code(run(&mut sql, give).await), REFUSED, "{table}");
        let delete =
            run(&mut sql, format!("DELETE FROM {table} WHERE tenant_id = '{yours}'")).await;
        match table.as_str() {
            // Queue entries, tasks that are done, people who asked for it, phones that may be
            // dialed again, and what was told to others.
            "ready_jobs" | "tasks" | "leads" | "lead_events" | "suppressions" | "webhooks"
            | "webhook_deliveries" => {
                assert_eq!(delete.unwrap(), 0, "{table}");
            }
            _ => assert_eq!(code(delete), REFUSED, "rows of {table} are never deleted"),
        }
    }
}

#[tokio::test]
async fn the_log_is_append_only() {
    let (_database, mut sql, [mine, _]) = filled().await;
    become_app(&mut sql, Some(mine.as_str())).await;
    for statement in
        ["UPDATE run_events SET events = '[]'", "DELETE FROM run_events", "TRUNCATE run_events"]
    {
        assert_eq!(code(run(&mut sql, statement.into()).await), REFUSED, "{statement}");
    }
    for statement in
        ["UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"]
    {
        assert_eq!(code(run(&mut sql, statement.into()).await), REFUSED, "{statement}");
    }
    for statement in ["UPDATE meta SET value = ''", "DELETE FROM call_log", "DROP TABLE runs"] {
        assert_eq!(code(run(&mut sql, statement.into()).await), REFUSED, "{statement}");
    }
    for column in ["secrets_sealed", "sealed_with", "hints"] {
        let read = run(&mut sql, format!("SELECT {column} FROM carrier_accounts")).await;
        assert_eq!(code(read), REFUSED, "{column}");
    }
}

#[tokio::test]
async fn the_scheduler_reads_no_person() {
    let (_database, mut sql, [mine, _]) = filled().await;
    run(&mut sql, "SET ROLE trunkline_scheduler".into()).await.unwrap();
    for (table, columns) in [
        ("runs", &["settings", "last_error", "outcomes"][..]),
        ("call_log", &["phone_to", "phone_from", "error_message"]),
        ("request_ids", &["answer", "payload_hash"]),
        ("leads", &["phone", "name", "attributes", "lead_id"]),
        ("jobs", &["phone", "metadata", "job_id"]),
        ("run_events", &["events", "progress"]),
        ("transfers", &["settings", "caller_phone", "progress", "call_id"]),
        ("transfer_events", &["events", "state"]),
        ("lead_events", &["lead_id", "detail"]),
        ("suppressions", &["phone", "note"]),
        ("run_populations", &["filter", "run_id"]),
        ("tasks", &["last_error", "claimed_by"]),
        ("webhooks", &["url", "secret_sealed", "webhook_id"]),
        ("webhook_deliveries", &["body", "subject"]),
        ("tenants", &["caller_ids", "calling_window", "greeting"]),
        ("carrier_accounts", &["secrets_sealed", "hints"]),
    ] {
        for column in columns {
            let read = run(&mut sql, format!("SELECT {column} FROM {table}")).await;
            assert_eq!(code(read), REFUSED, "{table}.{column}");
        }
        let write = run(&mut sql, format!("UPDATE {table} SET tenant_id = '{mine}'")).await;
        assert!(write.is_err(), "{table}");
    }
    // What it is for: whose turn it is, over all tenants.
    assert_eq!(count(&mut sql, "tenant_dispatch", "ready_at > 0").await, 2);
    assert_eq!(count(&mut sql, "call_log", "state = 'intent'").await, 2);
    for role in ["trunkline_app", "trunkline_scheduler"] {
        run(&mut sql, "RESET ROLE".into()).await.unwrap();
        let strong = format!(
            "rolname = '{role}' AND (rolsuper OR rolbypassrls OR rolcanlogin OR rolcreaterole OR rolcreatedb)"
        );
        assert_eq!(count(&mut sql, "pg_roles", &strong).await, 0, "{role}");
        let owned = format!("tableowner = '{role}'");
        assert_eq!(
            count(&mut sql, "pg_tables", &owned).await,
            0,
            "an owner passes row-level security"
        );
    }
}
