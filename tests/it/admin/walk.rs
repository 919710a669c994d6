//! Every RPC of every service, with another tenant's key on a tenant's ids; and what each leaves in
//! the audit log.

mod tenants;
mod webhooks;

use prost::Message as _;
use tonic::{Code, Status};
use trunkline::cli::client::Client;
use trunkline::grpc::methods::Scope;
use trunkline::grpc::pb::{self, import_jobs_request as import, list_calls_request, new_job::Who};

use super::walk_transfers;
use super::{audited, client, make_key, make_tenant, sealing, tenant_settings};
use crate::support::{ACCOUNT, TestDatabase, on_both_databases, phone};
use crate::system::world::{World, create, ended, job_to, jobs, list_calls, list_jobs, settings};

on_both_databases!(nobody_reaches_anothers_and_every_change_is_audited);

/// Ids of one tenant.
struct Ids {
    /// A run that has ended, and one of its jobs and calls.
    ended: String,
    job: String,
    call: String,
    sid: String,
    lead: String,
    /// A run in the state that the method needs.
    run: String,
    open_job: String,
    /// A key of the other tenant that nobody uses.
    key: String,
    /// A lead that nothing else here needs.
    spare_lead: String,
    /// A task that waits for a minute.
    task: String,
    /// A transfer, and a call that it could be made of.
    transfer: String,
    caller: String,
    /// An endpoint for webhooks, and one of its deliveries.
    webhook: String,
    delivery: String,
    /// An endpoint that nothing else here needs.
    spare_webhook: String,
}

impl Ids {
    /// What must not be told to others.
    fn secret(&self) -> Vec<String> {
        let ids =
            [&self.ended, &self.job, &self.call, &self.sid, &self.lead, &self.run, &self.open_job];
        let ids =
            ids.into_iter().chain([&self.spare_lead, &self.task, &self.webhook, &self.delivery]);
        let ids = ids.chain([&self.transfer, &self.caller]).filter(|id| !id.is_empty());
        ids.cloned().chain([phone(1).expose().to_owned()]).collect()
    }
}

/// The methods of our services, from the descriptors that clients see.
fn methods() -> Vec<(String, String)> {
    let files = prost_types::FileDescriptorSet::decode(pb::DESCRIPTORS).unwrap().file;
    let ours = files.iter().filter(|file| file.package() == "trunkline.v1");
    let services = ours.flat_map(|file| &file.service);
    services
        .flat_map(|service| {
            service
                .method
                .iter()
                .map(|method| (service.name().to_owned(), method.name().to_owned()))
        })
        .collect()
}

/// A draft of the world's own tenant in the state that `method` asks for, not to be dialed for an
/// hour.
async fn run_for(world: &World, method: &str) -> (String, String) {
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3_600);
    let settings = pb::RunSettings { starts_at: Some(later.into()), ..settings() };
    let start = matches!(method, "PauseRun" | "ResumeRun" | "CancelRun" | "StopRun");
    let jobs = jobs(7..9);
    let request =
        pb::CreateRunRequest { settings: Some(settings), jobs, start, ..Default::default() };
    let created = world.queue().create_run(request).await.unwrap().into_inner();
    let run_id = created.run.unwrap().run_id;
    if method == "ResumeRun" {
        let pause = pb::PauseRunRequest { run_id: run_id.clone(), ..Default::default() };
        world.queue().pause_run(pause).await.unwrap();
    }
    (run_id, created.results[0].job_id.clone())
}

pub fn told<T: std::fmt::Debug>(
    answer: Result<tonic::Response<T>, Status>,
) -> Result<String, Status> {
    answer.map(|answer| format!("{:?}", answer.into_inner()))
}

/// One request of `OutboundQueue` about those ids.
async fn outbound(client: &Client, method: &str, ids: &Ids) -> Result<String, Status> {
    let mut queue = client.queue.clone();
    let (run_id, request_id) = (ids.run.clone(), String::new());
    let at_lead = pb::NewJob { who: Some(Who::LeadId(ids.lead.clone())), ..Default::default() };
    match method {
        "CreateRun" => {
            let (settings, jobs) = (Some(settings()), vec![at_lead]);
            told(
                queue
                    .create_run(pb::CreateRunRequest { settings, jobs, ..Default::default() })
                    .await,
            )
        }
        "UpdateRun" => {
            let update_mask = Some(prost_types::FieldMask { paths: vec!["name".into()] });
            let settings = Some(pb::RunSettings { name: "mine".into(), ..Default::default() });
            told(
                queue
                    .update_run(pb::UpdateRunRequest { request_id, run_id, settings, update_mask })
                    .await,
            )
        }
        "ForecastRun" => {
            let of = Some(pb::forecast_run_request::Of::RunId(run_id));
            told(queue.forecast_run(pb::ForecastRunRequest { settings: None, of }).await)
        }
        "StartRun" => told(queue.start_run(pb::StartRunRequest { request_id, run_id }).await),
        "PauseRun" => told(queue.pause_run(pb::PauseRunRequest { request_id, run_id }).await),
        "ResumeRun" => told(queue.resume_run(pb::ResumeRunRequest { request_id, run_id }).await),
        "CancelRun" => told(queue.cancel_run(pb::CancelRunRequest { request_id, run_id }).await),
        "StopRun" => told(queue.stop_run(pb::StopRunRequest { request_id, run_id }).await),
        "SealRun" => told(queue.seal_run(pb::SealRunRequest { request_id, run_id }).await),
        "GetRun" => told(queue.get_run(pb::GetRunRequest { run_id }).await),
        "ListRuns" => told(queue.list_runs(pb::ListRunsRequest::default()).await),
        "AddJobs" => {
            let jobs = vec![job_to(phone(40).expose())];
            told(queue.add_jobs(pb::AddJobsRequest { request_id, run_id, jobs }).await)
        }
        "ImportJobs" => {
            let header = import::Header { run_id, import_id: "walk".into(), seal: true };
            let batch = import::Batch { offset: 0, jobs: vec![job_to(phone(41).expose())] };
            let parts = [import::Part::Header(header), import::Part::Batch(batch)];
            let parts = parts.map(|part| pb::ImportJobsRequest { part: Some(part) });
            told(queue.import_jobs(tokio_stream::iter(parts)).await)
        }
        "ListJobs" => {
            told(queue.list_jobs(pb::ListJobsRequest { run_id, ..Default::default() }).await)
        }
        "GetJob" => told(queue.get_job(pb::GetJobRequest { job_id: ids.job.clone() }).await),
        "CancelJobs" => {
            let job_ids = vec![ids.open_job.clone()];
            told(queue.cancel_jobs(pb::CancelJobsRequest { request_id, run_id, job_ids }).await)
        }
        "ListCalls" => {
            let by_job = list_calls_request::Of::JobId(ids.job.clone());
            for of in [by_job, list_calls_request::Of::RunId(ids.ended.clone())] {
                let request = pb::ListCallsRequest { of: Some(of), ..Default::default() };
                told(queue.list_calls(request).await)?;
            }
            Ok(String::new())
        }
        "GetCall" => {
            let by_sid = pb::get_call_request::By::CallSid(ids.sid.clone());
            let known_by_sid = told(queue.get_call(pb::GetCallRequest { by: Some(by_sid) }).await);
            let by_id = pb::get_call_request::By::CallId(ids.call.clone());
            let known_by_id = told(queue.get_call(pb::GetCallRequest { by: Some(by_id) }).await);
            assert_eq!(known_by_sid.is_ok(), known_by_id.is_ok());
            known_by_id
        }
        "WatchRun" => {
            let request = pb::WatchRunRequest { run_id, ..Default::default() };
            queue
                .watch_run(request)
                .await?
                .into_inner()
                .message()
                .await
                .map(|first| format!("{first:?}"))
        }
        "ReconcileRuns" => {
            told(queue.reconcile_runs(pb::ReconcileRunsRequest { run_ids: vec![run_id] }).await)
        }
        "CleanupStaleCalls" => {
            told(queue.cleanup_stale_calls(pb::CleanupStaleCallsRequest {}).await)
        }
        "RetryJobs" => {
            let run_id = ids.ended.clone();
            let states = vec![pb::JobState::Completed.into(), pb::JobState::Failed.into()];
            let request = pb::RetryJobsRequest { run_id, states, ..Default::default() };
            told(queue.retry_jobs(request).await)
        }
        "ExplainJob" => {
            told(queue.explain_job(pb::ExplainJobRequest { job_id: ids.job.clone() }).await)
        }
        "ListTasks" => told(queue.list_tasks(pb::ListTasksRequest::default()).await),
        "RetryTask" => {
            told(queue.retry_task(pb::RetryTaskRequest { task_id: ids.task.clone() }).await)
        }
        other => panic!("OutboundQueue/{other} has no case here: add one"),
    }
}

async fn leads(client: &Client, method: &str, ids: &Ids) -> Result<String, Status> {
    let mut leads = client.leads.clone();
    let lead = pb::LeadFacts { phone: phone(50).expose().into(), ..Default::default() };
    match method {
        "CreateLead" => {
            let request = pb::CreateLeadRequest { lead: Some(lead), ..Default::default() };
            told(leads.create_lead(request).await)
        }
        "BatchCreateLeads" => {
            let request = pb::BatchCreateLeadsRequest { leads: vec![lead], ..Default::default() };
            told(leads.batch_create_leads(request).await)
        }
        "GetLead" => told(leads.get_lead(pb::GetLeadRequest { lead_id: ids.lead.clone() }).await),
        "ListLeads" => {
            let phone = phone(1).expose().to_owned();
            told(leads.list_leads(pb::ListLeadsRequest { phone, ..Default::default() }).await)
        }
        "UpdateLead" => {
            let update_mask = Some(prost_types::FieldMask { paths: vec!["name".into()] });
            let (lead_id, lead) =
                (ids.lead.clone(), Some(pb::LeadFacts { name: "mine".into(), ..lead }));
            let request =
                pb::UpdateLeadRequest { lead_id, lead, update_mask, ..Default::default() };
            told(leads.update_lead(request).await)
        }
        "DeleteLead" => {
            let lead_id = ids.spare_lead.clone();
            told(leads.delete_lead(pb::DeleteLeadRequest { lead_id, ..Default::default() }).await)
        }
        "ListLeadEvents" => {
            let lead_id = ids.lead.clone();
            told(
                leads
                    .list_lead_events(pb::ListLeadEventsRequest { lead_id, ..Default::default() })
                    .await,
            )
        }
        "CreateLeadFromCall" => {
            let request = pb::CreateLeadFromCallRequest { call_sid: ids.sid.clone() };
            told(leads.create_lead_from_call(request).await)
        }
        "ImportLeads" => {
            use pb::import_leads_request::{Batch, Header, Part};
            let header = Header { import_id: "walk".into(), ..Default::default() };
            let batch = Batch { offset: 0, leads: vec![lead] };
            let parts = [Part::Header(header), Part::Batch(batch)];
            let parts = parts.map(|part| pb::ImportLeadsRequest { part: Some(part) });
            told(leads.import_leads(tokio_stream::iter(parts)).await)
        }
        "ExportLeads" => {
            let mut pages =
                leads.export_leads(pb::ExportLeadsRequest::default()).await?.into_inner();
            let mut text = String::new();
            while let Some(page) = pages.message().await? {
                text += &format!("{page:?}");
            }
            Ok(text)
        }
        other => super::suppressions::ask(client, other).await,
    }
}

async fn ask(client: &Client, service: &str, method: &str, ids: &Ids) -> Result<String, Status> {
    match service {
        "OutboundQueue" => outbound(client, method, ids).await,
        "Leads" => leads(client, method, ids).await,
        "Tenants" => tenants::ask(client, method, ids).await,
        "Transfers" => walk_transfers::ask(client, method, &ids.transfer, &ids.caller).await,
        "Webhooks" => webhooks::ask(client, method, ids).await,
        other => panic!("{other} has no cases here: add them"),
    }
}

/// Requests that name nothing of anybody's; what they answer to another is looked at instead.
const NAMELESS: [&str; 12] = [
    "ListTransfers",
    "CreateWebhook",
    "ListWebhooks",
    "CreateRun",
    "ListRuns",
    "CleanupStaleCalls",
    "ListTasks",
    "CreateLead",
    "BatchCreateLeads",
    "ListLeads",
    "ImportLeads",
    "ExportLeads",
];

/// A lead that was made for this, and a task that waits: that of another lead which was deleted.
async fn spare_lead_and_task(world: &World) -> (String, String) {
    let mut leads = world.client.leads.clone();
    let mut made = Vec::new();
    for n in [60, 61] {
        let lead = pb::LeadFacts { phone: phone(n).expose().into(), ..Default::default() };
        let request = pb::CreateLeadRequest { lead: Some(lead), ..Default::default() };
        made.push(leads.create_lead(request).await.unwrap().into_inner().lead.unwrap().lead_id);
    }
    let lead_id = made.remove(1);
    leads.delete_lead(pb::DeleteLeadRequest { lead_id, ..Default::default() }).await.unwrap();
    let tasks =
        world.queue().list_tasks(pb::ListTasksRequest::default()).await.unwrap().into_inner().tasks;
    let task = tasks.into_iter().find(|task| task.kind == "erase_lead").unwrap();
    (made.remove(0), task.task_id)
}

async fn nobody_reaches_anothers_and_every_change_is_audited(database: TestDatabase) {
    let world = World::start(database, sealing()).await;
    make_tenant(&world, "other", tenant_settings()).await;
    let own_scopes: Vec<&str> =
        Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin).map(Scope::as_str).collect();
    let (_, stranger) = make_key(&world, "other", &own_scopes).await;
    let (_, strange_admin) = make_key(&world, "other", &["admin"]).await;
    let (spare, _) = make_key(&world, "other", &["leads:read"]).await;
    let (stranger, strange_admin) =
        (client(&world, &stranger).await, client(&world, &strange_admin).await);
    let ended_run = create(&world.queue(), settings(), jobs(0..2)).await;
    ended(&world.queue(), &ended_run).await;
    let job = list_jobs(&world.queue(), &ended_run).await.remove(0);
    let call = list_calls(&world.queue(), &ended_run).await.remove(0);
    let (spare_lead, task) = spare_lead_and_task(&world).await;
    let (webhook, delivery, spare_webhook) = webhooks::make(&world).await;
    let mut ids = Ids {
        spare_lead,
        task,
        webhook,
        delivery,
        spare_webhook,
        job: job.job_id,
        lead: job.lead_id,
        call: call.call_id,
        sid: call.call_sid,
        ended: ended_run,
        run: String::new(),
        transfer: String::new(),
        caller: String::new(),
        open_job: String::new(),
        key: spare.key_id,
    };
    let mut seen = 0;
    for (service, method) in methods() {
        let name = format!("{service}/{method}");
        (ids.run, ids.open_job) = run_for(&world, &method).await;
        if service == "Transfers" {
            (ids.caller, ids.transfer) = walk_transfers::caller_and_transfer(&world, seen).await;
        }
        for (who, strange) in [("stranger", &stranger), ("admin", &strange_admin)] {
            if service == "Tenants" && who == "admin" {
                // The scope that acts across tenants.
                continue;
            }
            let answer = ask(strange, &service, &method, &ids).await;
            if service == "Tenants" {
                let denied = answer.unwrap_err();
                assert_eq!(denied.code(), Code::PermissionDenied, "{name}");
                assert!(denied.message().ends_with("scope admin"), "{name}: {denied}");
            } else if NAMELESS.contains(&method.as_str())
                || super::suppressions::METHODS.contains(&method.as_str())
            {
                let too_soon = |status: &Status| status.code() == Code::ResourceExhausted;
                let text =
                    answer.or_else(
                        |status| if too_soon(&status) { Ok(String::new()) } else { Err(status) },
                    );
                let text = text.unwrap();
                for id in ids.secret() {
                    assert!(!text.contains(&id), "{name} tells {who} of {id}: {text}");
                }
            } else {
                assert_eq!(answer.expect_err(&name).code(), Code::NotFound, "{name} as {who}");
            }
        }
        // The ids are real: their owner, who is an administrator, reaches them.
        let own = ask(&world.client, &service, &method, &ids).await;
        own.unwrap_or_else(|status| panic!("{name}: {status}"));
        let reads = ["Get", "List", "Watch", "Explain", "Export", "Forecast"]
            .iter()
            .any(|verb| method.starts_with(verb));
        assert_audited(&world, &method, reads).await;
        seen += 1;
    }
    assert!(seen >= 59, "hardly any method was seen");
    world.stop().await;
}

/// Whether the owner's change is in the log of whom it concerns, and nothing that was only read.
async fn assert_audited(world: &World, method: &str, reads: bool) {
    let own_key = world.key_id();
    let mut found = Vec::new();
    for tenant in ["acme", "other", "third"] {
        let request = pb::GetTenantRequest { tenant_id: tenant.into() };
        if world.client.tenants.clone().get_tenant(request).await.is_ok() {
            found.extend(audited(world, tenant, method).await);
        }
    }
    // There is nothing to be sealed anew, and so nothing that changed.
    if reads || method == "ResealCarrierAccounts" {
        assert!(found.is_empty(), "{method}");
        return;
    }
    let own = found.iter().find(|event| event.actor == own_key);
    let event = own.unwrap_or_else(|| panic!("{method} is not in the audit log: {found:?}"));
    assert_eq!(
        (event.actor_tenant_id.as_str(), event.peer.as_str()),
        ("acme", "127.0.0.1"),
        "{method}"
    );
    assert!(!event.subject.is_empty() && event.detail.is_some(), "{event:?}");
    let text = format!("{found:?}");
    for secret in ["+1", "0123456789abcdef", super::MASTER_KEY] {
        assert!(!text.contains(secret), "{method}: {secret} in {text}");
    }
}
