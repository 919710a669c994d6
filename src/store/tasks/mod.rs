//! Tasks: put in by what causes them, claimed across tenants, finished in the transaction that does
//! them.

pub(super) mod model;

use std::time::Duration;

use uuid::Uuid;

use crate::domain::task::{self, ATTEMPTS_MAX, Lane, TaskKind, TaskState};
use crate::domain::{TaskId, TenantId, Timestamp, WorkerId};
use crate::store::db::sql::{Row, Rows, args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::{
    Error, Page, Paged, Result, Store, Task, TaskFate, TaskView, TasksClaimed, audit,
};

/// A task to be done.
pub struct NewTask {
    /// What it does.
    pub kind: TaskKind,
    /// What it is about, for people.
    pub subject: String,
    /// Ids, as JSON.
    pub payload: String,
    /// Not before.
    pub run_at: Timestamp,
}

/// Puts a task in, in the transaction that causes it.
pub async fn enqueue(tx: &mut Tx, tenant: &TenantId, new: NewTask, now: Timestamp) -> Result<()> {
    statement!(INSERT, "INSERT INTO tasks (tenant_id, task_id, kind, subject, payload, state, run_at, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, 'queued', $6, $7, $7)");
    let NewTask { kind, subject, payload, run_at } = new;
    let id = Uuid::now_v7();
    tx.execute(&INSERT, args![tenant, id, kind.as_str(), subject, payload, run_at, now]).await?;
    tx.has_tasks();
    Ok(())
}

impl Store {
    /// Takes up to `limit` due tasks of a lane, of all tenants. Nobody else is given them for as
    /// long as the claim `holds`.
    pub async fn claim_tasks(
        &self,
        worker: &WorkerId,
        lane: Lane,
        limit: u32,
        holds: Duration,
    ) -> Result<TasksClaimed> {
        statement!(
            DUE,
            "SELECT tenant_id, task_id, kind, subject, payload, attempts, claims FROM tasks
             WHERE state = 'queued' AND run_at <= {now} AND kind {any 1 text}
             ORDER BY run_at LIMIT $2 {for_update_skip_locked}"
        );
        statement!(TAKE, "UPDATE tasks SET attempts = tasks.attempts + 1, claims = tasks.claims + 1, run_at = {now} + $2,
                 claimed_by = $1, updated_at = {now}
             FROM {rows 3 r: tenant_id text, task_id uuid}
             WHERE tasks.tenant_id = r.tenant_id AND tasks.task_id = r.task_id");
        statement!(
            BURY,
            "UPDATE tasks SET state = 'dead', last_error = $1, updated_at = {now}
             FROM {rows 2 r: tenant_id text, task_id uuid}
             WHERE tasks.tenant_id = r.tenant_id AND tasks.task_id = r.task_id"
        );
        // A kind that only a newer version knows is left to it.
        let kinds = TaskKind::ALL.iter().filter(|kind| kind.lane() == lane);
        let kinds: Vec<String> = kinds.map(|kind| kind.as_str().to_owned()).collect();
        // Read first: on SQLite an idle executor must not take turns with the writer.
        if let Some(next_in) = idle_for(self, kinds.clone()).await? {
            return Ok(TasksClaimed { next_in: Some(next_in), ..TasksClaimed::default() });
        }
        let mut tx = self.db.begin(Scope::Scheduler).await?;
        let rows = tx.fetch(&DUE, args![kinds, i64::from(limit)]).await?;
        let due = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
        let (tasks, buried): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|task| task.attempt <= ATTEMPTS_MAX);
        let keys = |tasks: &[Task]| {
            Rows::new()
                .texts(tasks.iter().map(|task| task.tenant.as_str().to_owned()))
                .uuids(tasks.iter().map(|task| task.id.0))
        };
        if !tasks.is_empty() {
            tx.execute(&TAKE, args![worker.0.as_str(), micros(holds), keys(&tasks)]).await?;
        }
        if !buried.is_empty() {
            tx.execute(&BURY, args!["its executor died, every time", keys(&buried)]).await?;
        }
        tx.commit(&self.wakes).await?;
        // What is due may be somebody else's: that is no reason to spin.
        let nothing = tasks.is_empty() && buried.is_empty();
        Ok(TasksClaimed { tasks, buried, next_in: nothing.then_some(Duration::MAX) })
    }
}

/// How long until something is due; none if something is. Without any task, as long as there is.
async fn idle_for(store: &Store, kinds: Vec<String>) -> Result<Option<Duration>> {
    statement!(
        NEXT,
        "SELECT min(run_at) AS run_at, {now} AS now FROM tasks WHERE state = 'queued' AND kind {any 1 text}"
    );
    let mut tx = store.db.read(Scope::Scheduler).await?;
    let row = tx.fetch_one(&NEXT, args![kinds]).await?;
    let next = row.opt_int("run_at")?.map_or(Timestamp::NEVER, Timestamp);
    let wait = next.since(Timestamp(row.int("now")?));
    Ok((!wait.is_zero()).then_some(wait))
}

/// A due task, as it is once claimed.
fn read(row: &Row) -> Result<Task> {
    Ok(Task {
        tenant: row.text("tenant_id")?.parse()?,
        id: TaskId(row.uuid("task_id")?),
        kind: row.word("kind", TaskKind::from_word)?,
        subject: row.text("subject")?,
        payload: row.text("payload")?,
        attempt: row.narrow::<u32>("attempts")?.saturating_add(1),
        claim: row.int("claims")? + 1,
    })
}

/// The ids that a task is about.
pub fn ids(task: &Task) -> Result<Vec<Uuid>> {
    serde_json::from_str(&task.payload)
        .map_err(|error| Error::Internal(format!("payload: {error}")))
}

/// The payload of ids.
pub fn payload(ids: &[Uuid]) -> String {
    serde_json::json!(ids).to_string()
}

/// Takes a task that was done off the table, in the transaction that did it. [`Error::Lapsed`] if
/// the claim had lapsed: then the transaction must not be committed.
pub async fn finish(tx: &mut Tx, task: &Task) -> Result<()> {
    statement!(
        DELETE,
        "DELETE FROM tasks WHERE tenant_id = $1 AND task_id = $2 AND claims = $3 AND state = 'queued'"
    );
    match tx.execute(&DELETE, args![&task.tenant, task.id.0, task.claim]).await? {
        0 => Err(Error::Lapsed),
        _ => Ok(()),
    }
}

/// Has a task done once more, in the transaction that did what could be done now. Its attempts
/// begin anew.
pub async fn repeat(tx: &mut Tx, task: &Task, after: Duration) -> Result<()> {
    statement!(
        LATER,
        "UPDATE tasks SET run_at = {now} + $4, attempts = 0, claimed_by = NULL, updated_at = {now}
         WHERE tenant_id = $1 AND task_id = $2 AND claims = $3 AND state = 'queued'"
    );
    let values = args![&task.tenant, task.id.0, task.claim, micros(after)];
    match tx.execute(&LATER, values).await? {
        0 => Err(Error::Lapsed),
        _ => Ok(()),
    }
}

impl Store {
    /// Puts a task that failed off, or gives it up. `draw` is uniform in 0.0..1.0.
    pub async fn fail_task(&self, task: &Task, error: &str, draw: f64) -> Result<TaskFate> {
        statement!(FAIL, "UPDATE tasks SET state = $4, run_at = $5, claimed_by = NULL, last_error = $6, updated_at = $7
             WHERE tenant_id = $1 AND task_id = $2 AND claims = $3 AND state = 'queued'");
        let mut tx = self.db.begin(Scope::Tenant(&task.tenant)).await?;
        let now = tx.now().await?;
        let again = task::again_at(task.attempt, now, draw);
        let state = if again.is_some() { TaskState::Queued } else { TaskState::Dead };
        let values = args![
            &task.tenant,
            task.id.0,
            task.claim,
            state.as_str(),
            again.unwrap_or(now),
            task::clip(error),
            now,
        ];
        if tx.execute(&FAIL, values).await? == 0 {
            return Ok(TaskFate::Lapsed);
        }
        tx.commit(&self.wakes).await?;
        Ok(again.map_or(TaskFate::Dead, TaskFate::Again))
    }
}

impl Store {
    /// In order of creation. Empty `states` means all.
    pub async fn list_tasks(
        &self,
        tenant: &TenantId,
        states: &[TaskState],
        page: Page,
    ) -> Result<Paged<TaskView>> {
        statement!(SELECT, "SELECT task_id, kind, subject, state, attempts, run_at, last_error, created_at, updated_at FROM tasks
             WHERE tenant_id = $1 AND task_id > $2 AND state {any 3 text} ORDER BY task_id LIMIT $4");
        let all = if states.is_empty() { TaskState::ALL } else { states };
        let states: Vec<String> = all.iter().map(|state| state.as_str().to_owned()).collect();
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        let after = page.after.unwrap_or(Uuid::nil());
        let rows = tx.fetch(&SELECT, args![tenant, after, states, page.limit()]).await?;
        let items = rows.iter().map(view).collect::<Result<_>>()?;
        Ok(page.cut(items, |task: &TaskView| task.id.0))
    }
}

fn view(row: &Row) -> Result<TaskView> {
    Ok(TaskView {
        id: TaskId(row.uuid("task_id")?),
        kind: row.text("kind")?,
        subject: row.text("subject")?,
        state: row.word("state", TaskState::from_word)?,
        attempts: row.narrow("attempts")?,
        run_at: Timestamp(row.int("run_at")?),
        last_error: row.opt_text("last_error")?,
        created_at: Timestamp(row.int("created_at")?),
        updated_at: Timestamp(row.int("updated_at")?),
    })
}

impl Store {
    /// Has a task that was given up done after all; nothing to one that is queued.
    pub async fn retry_task(&self, tenant: &TenantId, task: TaskId) -> Result<()> {
        statement!(
            REVIVE,
            "UPDATE tasks SET state = 'queued', attempts = 0, run_at = {now}, updated_at = {now}
             WHERE tenant_id = $1 AND task_id = $2 AND state = 'dead'"
        );
        statement!(KNOWN, "SELECT task_id FROM tasks WHERE tenant_id = $1 AND task_id = $2");
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        let revived = tx.execute(&REVIVE, args![tenant, task.0]).await? > 0;
        if !revived {
            // One that is queued already is what was asked for.
            tx.fetch_optional(&KNOWN, args![tenant, task.0])
                .await?
                .ok_or(Error::NotFound("task"))?;
        }
        let now = tx.now().await?;
        let detail = serde_json::json!({ "revived": revived });
        audit::write(&mut tx, &self.actor, tenant, format!("task {task}"), &detail, now).await?;
        tx.has_tasks();
        tx.commit(&self.wakes).await
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
