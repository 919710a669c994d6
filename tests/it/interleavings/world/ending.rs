//! The end of a case: whatever is open comes to its end.

use std::time::Instant;

use super::*;

/// A case whose jobs have not all ended by then, with the carrier answering everything, never ends
/// them.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// The carrier answers everything, every run is let go on, and every job ends.
pub(super) async fn end_everything(world: &World<'_>, watcher: &mut Watcher) -> Result<(), String> {
    let store = &world.stores.processes[0];
    let deadline = Instant::now() + ENDS_WITHIN;
    for tenant in &world.tenants {
        make_tenant(store, tenant.as_str(), 50, FAST).await;
    }
    watcher.asked = 50;
    loop {
        let runs = world.made.lock().unwrap().runs.clone();
        for (tenant, run) in &runs {
            keep_holidays(store, tenant, *run, false).await?;
            for command in [Command::Start, Command::Resume, Command::Seal] {
                expected(store.command_run(tenant, *run, command, None).await)?;
            }
        }
        world.pass(&mut watcher.raw, &Time::Due).await;
        for tenant in &world.tenants {
            world.claim(store, tenant, 0, 50).await?;
        }
        watcher.check().await?;
        for (id, call) in watcher.before.calls.iter().filter(|(_, call)| call.is_live()) {
            let id = CallId(id.parse().unwrap());
            let sid = if call.sid.is_empty() { sid(id) } else { call.sid.parse().unwrap() };
            let (status, sequence) = (CarrierStatus::Completed, Some(99));
            let (duration_s, answered_by, error_code) = (Some(1), None, None);
            let ended = News::Status { sid, status, sequence, duration_s, answered_by, error_code };
            expected(store.apply(&call.tenant.parse().unwrap(), &[(id, ended)]).await)?;
        }
        while expected(store.sweep().await)? == Some(true) {}
        watcher.check().await?;
        let open: Vec<_> = watcher.before.runs.iter().filter(|(_, run)| !run.ended).collect();
        if open.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let open: Vec<_> = open
                .iter()
                .map(|(id, run)| format!("{id} {} {:?}", run.state, run.counts))
                .collect();
            return Err(format!("runs that never end: {open:?}"));
        }
    }
}
