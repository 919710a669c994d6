//! The `Leads` service.

use tonic::{Request, Response, Status};

use super::batch::{self, Batch};
use super::page::Pager;
use super::pb::batch_create_leads_response::Result as Created;
use super::pb::leads_server::Leads;
use super::service::{Call, Shared};
use super::status::{self, Refusal};
use super::{convert, idempotency, pb};
use crate::domain::Phone;

/// The service.
pub(super) struct Service(pub Shared);

type Answer<A> = Result<Response<A>, Status>;

#[tonic::async_trait]
impl Leads for Service {
    async fn create_lead(&self, request: Request<pb::CreateLeadRequest>) -> Answer<pb::CreateLeadResponse> {
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

    async fn list_leads(&self, request: Request<pb::ListLeadsRequest>) -> Answer<pb::ListLeadsResponse> {
        self.0.unary(request, list).await
    }
}

async fn create(call: Call, request: pb::CreateLeadRequest) -> Result<pb::CreateLeadResponse, Refusal> {
    let key = idempotency::key(&request)?;
    call.rows.take(1)?;
    let facts = convert::required("lead", request.lead)?;
    let facts =
        convert::lead::read(facts, call.region.as_deref()).map_err(|violation| violation.under("lead"))?;
    let created = call.store.create_leads(&call.tenant, vec![facts], key).await?.pop();
    let created =
        created.ok_or_else(|| status::internal(&"the store gave another number of answers than asked"))?;
    Ok(pb::CreateLeadResponse { lead: Some(convert::lead::write(created.lead)), created: created.created })
}

async fn batch_create(
    call: Call,
    request: pb::BatchCreateLeadsRequest,
) -> Result<pb::BatchCreateLeadsResponse, Refusal> {
    let key = idempotency::key(&request)?;
    batch::check_len("leads", request.leads.len())?;
    call.rows.take(request.leads.len())?;
    let Batch { good, places } =
        Batch::read(request.leads, |lead| convert::lead::read(lead, call.region.as_deref()));
    let created = call.store.create_leads(&call.tenant, good, key).await?;
    let mut answer = pb::BatchCreateLeadsResponse::default();
    for (i, lead) in batch::join(places, created)?.into_iter().enumerate() {
        answer.results.push(match lead {
            Ok(lead) => {
                let count =
                    if lead.created { &mut answer.created_count } else { &mut answer.duplicate_count };
                *count += 1;
                Created { lead_id: lead.lead.id.to_string(), created: lead.created, error: String::new() }
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

async fn list(call: Call, request: pb::ListLeadsRequest) -> Result<pb::ListLeadsResponse, Refusal> {
    let (pager, page) = Pager::read(&request)?;
    let phone: Option<Phone> = if request.phone.is_empty() { None } else { Some(request.phone.parse()?) };
    let found = call.store.list_leads(&call.tenant, phone.as_ref(), page).await?;
    let (leads, next_page_token) = pager.answer(found, |view| (view.id.0, convert::lead::write(view)));
    Ok(pb::ListLeadsResponse { leads, next_page_token })
}
