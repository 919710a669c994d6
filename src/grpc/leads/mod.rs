//! The `Leads` service: one line per RPC; the work is in the functions and modules below.

mod export;
mod import;
mod suppression_import;
mod suppressions;

use tonic::{Request, Response, Status, Streaming};

use super::batch::{self, Batch};
use super::page::Pager;
use super::pb::batch_create_leads_response::Result as Created;
use super::pb::leads_server::Leads;
use super::service::{Call, Shared};
use super::status::{self, Refusal};
use super::{convert, idempotency, pb};
use crate::domain::LeadId;
use crate::store::LeadFilter;

/// The service.
pub(super) struct Service(pub Shared);

type Answer<A> = Result<Response<A>, Status>;

#[tonic::async_trait]
impl Leads for Service {
    async fn create_lead(
        &self,
        request: Request<pb::CreateLeadRequest>,
    ) -> Answer<pb::CreateLeadResponse> {
        self.0.unary(request, create).await
    }

    async fn batch_create_leads(
        &self,
        request: Request<pb::BatchCreateLeadsRequest>,
    ) -> Answer<pb::BatchCreateLeadsResponse> {
        self.0.unary(request, batch_create).await
    }

    async fn get_lead(&self, request: Request<pb::GetLeadRequest>) -> Answer<pb::GetLeadResponse> {
        self.0.unary(request, get).await
    }

    async fn list_leads(
        &self,
        request: Request<pb::ListLeadsRequest>,
    ) -> Answer<pb::ListLeadsResponse> {
        self.0.unary(request, list).await
    }

    async fn update_lead(
        &self,
        request: Request<pb::UpdateLeadRequest>,
    ) -> Answer<pb::UpdateLeadResponse> {
        self.0.unary(request, update).await
    }

    async fn delete_lead(
        &self,
        request: Request<pb::DeleteLeadRequest>,
    ) -> Answer<pb::DeleteLeadResponse> {
        self.0.unary(request, delete).await
    }

    async fn list_lead_events(
        &self,
        request: Request<pb::ListLeadEventsRequest>,
    ) -> Answer<pb::ListLeadEventsResponse> {
        self.0.unary(request, events).await
    }

    async fn create_lead_from_call(
        &self,
        request: Request<pb::CreateLeadFromCallRequest>,
    ) -> Answer<pb::CreateLeadFromCallResponse> {
        self.0.unary(request, from_call).await
    }

    async fn import_leads(
        &self,
        request: Request<Streaming<pb::ImportLeadsRequest>>,
    ) -> Answer<pb::ImportLeadsResponse> {
        import::import(&self.0, request).await
    }

    async fn add_suppressions(
        &self,
        request: Request<pb::AddSuppressionsRequest>,
    ) -> Answer<pb::AddSuppressionsResponse> {
        self.0.unary(request, suppressions::add).await
    }

    async fn remove_suppressions(
        &self,
        request: Request<pb::RemoveSuppressionsRequest>,
    ) -> Answer<pb::RemoveSuppressionsResponse> {
        self.0.unary(request, suppressions::remove).await
    }

    async fn list_suppressions(
        &self,
        request: Request<pb::ListSuppressionsRequest>,
    ) -> Answer<pb::ListSuppressionsResponse> {
        self.0.unary(request, suppressions::list).await
    }

    async fn import_suppressions(
        &self,
        request: Request<Streaming<pb::ImportSuppressionsRequest>>,
    ) -> Answer<pb::ImportSuppressionsResponse> {
        suppression_import::import(&self.0, request).await
    }

    type ExportLeadsStream = export::Pages;

    async fn export_leads(
        &self,
        request: Request<pb::ExportLeadsRequest>,
    ) -> Answer<export::Pages> {
        export::export(&self.0, request)
    }
}

async fn create(
    call: Call,
    request: pb::CreateLeadRequest,
) -> Result<pb::CreateLeadResponse, Refusal> {
    let key = idempotency::key(&request)?;
    let _turn = call.rows.take(1).await?;
    let facts = convert::required("lead", request.lead)?;
    let facts = convert::lead::read(facts, call.region.as_deref())
        .map_err(|violation| violation.under("lead"))?;
    let created = call.store.create_leads(&call.tenant, vec![facts], key).await?.pop();
    let created = created
        .ok_or_else(|| status::internal(&"the store gave another number of answers than asked"))?;
    Ok(pb::CreateLeadResponse {
        lead: Some(convert::lead::write(created.lead)),
        created: created.created,
    })
}

async fn batch_create(
    call: Call,
    request: pb::BatchCreateLeadsRequest,
) -> Result<pb::BatchCreateLeadsResponse, Refusal> {
    let key = idempotency::key(&request)?;
    batch::check_len("leads", request.leads.len())?;
    let _turn = call.rows.take(request.leads.len()).await?;
    let Batch { good, places } =
        Batch::read(request.leads, |lead| convert::lead::read(lead, call.region.as_deref()));
    let created = call.store.create_leads(&call.tenant, good, key).await?;
    let mut answer = pb::BatchCreateLeadsResponse::default();
    for (i, lead) in batch::join(places, created)?.into_iter().enumerate() {
        answer.results.push(match lead {
            Ok(lead) => {
                let count = if lead.created {
                    &mut answer.created_count
                } else {
                    &mut answer.duplicate_count
                };
                *count += 1;
                Created {
                    lead_id: lead.lead.id.to_string(),
                    created: lead.created,
                    error: String::new(),
                }
            }
            Err(violation) => {
                answer.rejected_count += 1;
                let error = violation.under(&format!("leads[{i}]")).to_string();
                Created { error, ..Default::default() }
            }
        });
    }
    Ok(answer)
}

async fn get(call: Call, request: pb::GetLeadRequest) -> Result<pb::GetLeadResponse, Refusal> {
    let view = call.store.lead(&call.tenant, request.lead_id.parse()?).await?;
    Ok(pb::GetLeadResponse { lead: Some(convert::lead::write(view)) })
}

/// The filter of a request.
fn filter(from: Option<pb::LeadFilter>) -> Result<LeadFilter, Refusal> {
    let filter = from.map(convert::lead::filter).transpose();
    Ok(filter.map_err(|violation| violation.under("filter"))?.unwrap_or_default())
}

async fn list(call: Call, request: pb::ListLeadsRequest) -> Result<pb::ListLeadsResponse, Refusal> {
    let (pager, page) = Pager::read(&request)?;
    let phone = if request.phone.is_empty() { None } else { Some(request.phone.parse()?) };
    let filter = LeadFilter { phone, ..filter(request.filter)? };
    let found = call.store.list_leads(&call.tenant, &filter, page).await?;
    let (leads, next_page_token) =
        pager.answer(found, |view| (view.id.0, convert::lead::write(view)));
    Ok(pb::ListLeadsResponse { leads, next_page_token })
}

async fn update(
    call: Call,
    request: pb::UpdateLeadRequest,
) -> Result<pb::UpdateLeadResponse, Refusal> {
    let key = idempotency::key(&request)?;
    let lead: LeadId = request.lead_id.parse()?;
    let patch = convert::lead::patch(request)?;
    let view = call.store.update_lead(&call.tenant, lead, patch, key).await?;
    Ok(pb::UpdateLeadResponse { lead: Some(convert::lead::write(view)) })
}

async fn delete(
    call: Call,
    request: pb::DeleteLeadRequest,
) -> Result<pb::DeleteLeadResponse, Refusal> {
    let key = idempotency::key(&request)?;
    let (lead, seen) = (request.lead_id.parse()?, convert::etag(&request.etag)?);
    let erased = call.store.delete_lead(&call.tenant, lead, seen, key).await?;
    Ok(pb::DeleteLeadResponse {
        skipped_job_count: erased.jobs_skipped,
        erased_job_count: erased.jobs_erased,
        erased_call_count: erased.calls_erased,
    })
}

async fn events(
    call: Call,
    request: pb::ListLeadEventsRequest,
) -> Result<pb::ListLeadEventsResponse, Refusal> {
    let (pager, page) = Pager::read(&request)?;
    let found = call.store.lead_events(&call.tenant, request.lead_id.parse()?, page).await?;
    let (events, next_page_token) =
        pager.answer(found, |view| (view.id, convert::lead::event(view)));
    Ok(pb::ListLeadEventsResponse { events, next_page_token })
}

async fn from_call(
    call: Call,
    request: pb::CreateLeadFromCallRequest,
) -> Result<pb::CreateLeadFromCallResponse, Refusal> {
    let sid = convert::id("call_sid", &request.call_sid)?;
    let created = call.store.lead_from_call(&call.tenant, &sid).await?;
    let lead = Some(convert::lead::write(created.lead));
    Ok(pb::CreateLeadFromCallResponse { lead, created: created.created })
}
