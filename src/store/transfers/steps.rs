//! The saga's own moves: facts from rows and time, and what is to be done next.

use crate::domain::transfer::{Action, Fact, Step, next_step, observe};
use crate::domain::{TenantId, TransferId};
use crate::store::db::sql::{args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::transfers::row::TransferRow;
use crate::store::{
    ACTING_MAX, Advanced, CallerCall, Error, Result, Store, Task, tasks, transfers,
};

/// The transfer that a task is about.
pub(in crate::store) fn transfer_of(task: &Task) -> Result<TransferId> {
    let ids = tasks::ids(task)?;
    ids.first()
        .copied()
        .map(TransferId)
        .ok_or_else(|| Error::Internal("a task about no transfer".to_owned()))
}

impl Store {
    /// Takes in what the rows of its calls, the time, and `fact` say of the transfer that the task
    /// is about, and says what to do next. Whoever is given something to do at the carrier brings
    /// the fact that comes of it; until then, but not for longer than [`ACTING_MAX`], nobody else
    /// is given anything. Who `may_act` no more only learns it.
    pub async fn advance_transfer(
        &self,
        task: &Task,
        fact: Option<Fact>,
        may_act: bool,
    ) -> Result<Advanced> {
        let tenant = &task.tenant;
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        let mut row = transfers::row::lock(&mut tx, tenant, transfer_of(task)?).await?;
        let now = tx.now().await?;
        let acted = row.acting_until;
        let again = fact.is_none() && acted.is_some_and(|until| until <= now);
        if let Some(fact) = &fact {
            // Brought by whoever acted.
            row.acting_until = None;
            row.take(fact, now)?;
        }
        let calls = transfers::calls_of(&mut tx, tenant, &row.view.transfer).await?;
        // What one fact changes may make another one matter, and each changes something or is the
        // last.
        loop {
            let transfer = row.view.transfer.clone();
            let leg =
                transfer.progress.leg.and_then(|leg| calls.iter().find(|call| call.id == leg));
            let leg = leg.map(|row| (row.id, &row.call));
            let caller = transfers::caller_state(&transfer, &calls);
            for fact in observe(&transfer, caller, leg, now) {
                // What became of it comes first: the caller may be talking with the target by now.
                let connects =
                    matches!(next_step(&transfer), Step::Act(Action::Redirect | Action::Move));
                if fact == Fact::Timeout && again && connects {
                    continue;
                }
                row.take(&fact, now)?;
            }
            if row.view.transfer == transfer {
                break;
            }
        }
        let (mut step, mut later) = (next_step(&row.view.transfer), None);
        if matches!(step, Step::Act(_) | Step::Call(_)) {
            match row.acting_until.filter(|until| *until > now) {
                Some(until) => (step, later) = (Step::Wait, Some(until.since(now))),
                None if may_act && matches!(step, Step::Act(_)) => {
                    row.acting_until = Some(now + ACTING_MAX)
                }
                None => {}
            }
        }
        let caller = caller(&mut tx, tenant, &row).await?;
        if row.has_changed() || row.acting_until != acted {
            transfers::row::save(&mut tx, tenant, &mut row, now).await?;
            transfers::row::commit(self, tx, tenant, &row).await?;
        }
        Ok(Advanced { view: row.view, step, caller, again, later })
    }
}

async fn caller(tx: &mut Tx, tenant: &TenantId, row: &TransferRow) -> Result<Option<CallerCall>> {
    statement!(
        SELECT,
        "SELECT call_sid, account_sid FROM call_log WHERE tenant_id = $1 AND call_id = $2"
    );
    let Some(call) = row.view.transfer.caller else { return Ok(None) };
    let row = tx.fetch_one(&SELECT, args![tenant, call.0]).await?;
    let Some(sid) = row.opt_text("call_sid")? else { return Ok(None) };
    Ok(Some(CallerCall { sid: sid.parse()?, account: row.text("account_sid")?.parse()? }))
}

impl Store {
    /// Takes a task that was done off the table, or has it done `again` after this long.
    pub async fn finish_task(&self, task: &Task, again: Option<std::time::Duration>) -> Result<()> {
        let mut tx = self.db.begin(Scope::Tenant(&task.tenant)).await?;
        match again {
            None => tasks::finish(&mut tx, task).await?,
            Some(after) => {
                tasks::repeat(&mut tx, task, after).await?;
                if after.is_zero() {
                    tx.has_tasks();
                }
            }
        }
        tx.commit(&self.wakes).await
    }
}
