//! The `Leads` service over a real socket.

use std::collections::BTreeMap;

use pb::import_leads_request as import;
use prost_types::value::Kind;
use prost_types::{FieldMask, Struct, Value};
use tonic::transport::Channel;
use tonic::{Code, Status};
use trunkline::domain::tenant::Tenant;
use trunkline::grpc::pb::leads_client::LeadsClient;
use trunkline::grpc::pb::{self, LeadStatus};

use super::{Server, field, server, with};
use crate::support::{TestStore, on_both_stores, phone, tenant_id};

on_both_stores!(
    updates_say_what_is_wrong_and_write_nothing,
    what_belongs_to_another_is_not_found,
    an_import_counts_and_names_what_it_refuses,
    a_cut_import_goes_on,
    an_export_is_the_list,
    national_phones_take_the_nearest_region,
);

fn client(server: &Server) -> LeadsClient<Channel> {
    LeadsClient::new(server.channel.clone())
}

fn person(n: usize) -> pb::LeadFacts {
    pb::LeadFacts {
        phone: phone(n).expose().into(),
        name: format!("Person {n}"),
        ..Default::default()
    }
}

async fn create(server: &Server, facts: pb::LeadFacts) -> pb::Lead {
    let request = pb::CreateLeadRequest { lead: Some(facts), ..Default::default() };
    client(server).create_lead(with("one", request)).await.unwrap().into_inner().lead.unwrap()
}

async fn get(server: &Server, lead_id: &str) -> pb::Lead {
    let request = pb::GetLeadRequest { lead_id: lead_id.into() };
    client(server).get_lead(with("one", request)).await.unwrap().into_inner().lead.unwrap()
}

async fn update(server: &Server, request: pb::UpdateLeadRequest) -> Result<pb::Lead, Status> {
    client(server)
        .update_lead(with("one", request))
        .await
        .map(|answer| answer.into_inner().lead.unwrap())
}

fn naming(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

fn attribute(name: &str, text: &str) -> Option<Struct> {
    let value = Value { kind: Some(Kind::StringValue(text.into())) };
    Some(Struct { fields: BTreeMap::from([(name.to_owned(), value)]) })
}

async fn updates_say_what_is_wrong_and_write_nothing(test: TestStore) {
    let server = server(test).await;
    let lead =
        create(&server, pb::LeadFacts { attributes: attribute("plan", "gold"), ..person(1) }).await;
    let facts = pb::LeadFacts {
        name: "Ann".into(),
        attributes: attribute("city", "Bonn"),
        ..Default::default()
    };
    let request = |paths: &[&str], etag: &str| pb::UpdateLeadRequest {
        lead_id: lead.lead_id.clone(),
        lead: Some(facts.clone()),
        status: LeadStatus::Converted.into(),
        update_mask: naming(paths),
        etag: etag.into(),
        ..Default::default()
    };
    let unknown = update(&server, request(&["name", "shoe_size"], "")).await.unwrap_err();
    assert_eq!(
        (unknown.code(), field(&unknown)),
        (Code::InvalidArgument, "update_mask.paths[1]".into())
    );
    let none = update(&server, request(&[], "")).await.unwrap_err();
    assert_eq!(field(&none), "update_mask");
    let stale = update(&server, request(&["name"], "999")).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);

    let nonsense = update(&server, request(&["name"], "nonsense")).await.unwrap_err();
    assert_eq!((nonsense.code(), field(&nonsense)), (Code::InvalidArgument, "etag".into()));
    assert_eq!(get(&server, &lead.lead_id).await, lead, "nothing was written");

    let once = pb::UpdateLeadRequest {
        request_id: "r".into(),
        ..request(&["name", "attributes.city", "status"], &lead.etag)
    };
    let changed = update(&server, once.clone()).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.status()), ("Ann", LeadStatus::Converted));
    assert_eq!(changed.attributes.as_ref().unwrap().fields.len(), 2);
    assert_ne!(changed.etag, lead.etag);
    assert_eq!(
        update(&server, once).await.unwrap(),
        changed,
        "the same request, whatever its etag is by now"
    );
    let stale = pb::DeleteLeadRequest {
        lead_id: lead.lead_id.clone(),
        etag: lead.etag.clone(),
        ..Default::default()
    };
    let stale = client(&server).delete_lead(with("one", stale)).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);
    let events = pb::ListLeadEventsRequest { lead_id: lead.lead_id.clone(), ..Default::default() };
    let events =
        client(&server).list_lead_events(with("one", events)).await.unwrap().into_inner().events;
    let Some(pb::lead_event::Kind::Updated(last)) = &events[1].kind else { panic!("{events:?}") };
    assert_eq!(
        (last.fields.join(" ").as_str(), last.actor.as_str()),
        ("name attributes status", "one")
    );
    let gone = pb::DeleteLeadRequest {
        lead_id: lead.lead_id.clone(),
        etag: changed.etag,
        ..Default::default()
    };
    client(&server).delete_lead(with("one", gone)).await.unwrap();
    let again = pb::GetLeadRequest { lead_id: lead.lead_id };
    assert_eq!(
        client(&server).get_lead(with("one", again)).await.unwrap_err().code(),
        Code::NotFound
    );
}

async fn what_belongs_to_another_is_not_found(test: TestStore) {
    let server = server(test).await;
    let lead = create(&server, person(1)).await;
    let id = || lead.lead_id.clone();
    let mut two = client(&server);
    let code = |refused: Status| refused.code();
    let update = pb::UpdateLeadRequest {
        lead_id: id(),
        update_mask: naming(&["name"]),
        ..Default::default()
    };
    assert_eq!(code(two.update_lead(with("two", update)).await.unwrap_err()), Code::NotFound);
    let delete = pb::DeleteLeadRequest { lead_id: id(), ..Default::default() };
    assert_eq!(code(two.delete_lead(with("two", delete)).await.unwrap_err()), Code::NotFound);
    let events = pb::ListLeadEventsRequest { lead_id: id(), ..Default::default() };
    assert_eq!(code(two.list_lead_events(with("two", events)).await.unwrap_err()), Code::NotFound);
    let call = pb::CreateLeadFromCallRequest { call_sid: format!("CA{:032}", 1) };
    assert_eq!(
        code(two.create_lead_from_call(with("two", call)).await.unwrap_err()),
        Code::NotFound
    );
    let nonsense = pb::CreateLeadFromCallRequest { call_sid: "CA 1".into() };
    assert_eq!(
        field(&two.create_lead_from_call(with("two", nonsense)).await.unwrap_err()),
        "call_sid"
    );
    let list =
        two.list_leads(with("two", pb::ListLeadsRequest::default())).await.unwrap().into_inner();
    assert!(list.leads.is_empty());
    assert!(export(&server, "two", pb::ExportLeadsRequest::default()).await.0.is_empty());
    let tasks =
        server.queue().list_tasks(with("two", pb::ListTasksRequest::default())).await.unwrap();
    assert!(tasks.into_inner().tasks.is_empty());
    let task = pb::RetryTaskRequest { task_id: id() };
    assert_eq!(
        code(server.queue().retry_task(with("two", task)).await.unwrap_err()),
        Code::NotFound
    );
    // The other's import of the same name and the same phone is its own.
    let imported = send(&server, "two", "a", vec![batch(0, vec![person(1)])]).await.unwrap();
    assert_eq!((imported.created_count, imported.updated_count), (1, 0));
    // A key that may only read leads of none.
    let read_only =
        two.list_leads(with("reader", pb::ListLeadsRequest::default())).await.unwrap_err();
    assert_eq!(read_only.code(), Code::PermissionDenied);
}

fn batch(offset: u64, leads: Vec<pb::LeadFacts>) -> pb::ImportLeadsRequest {
    pb::ImportLeadsRequest { part: Some(import::Part::Batch(import::Batch { offset, leads })) }
}

fn header(import_id: &str) -> pb::ImportLeadsRequest {
    let (import_id, tags) = (import_id.into(), vec!["Spring".into()]);
    let header = import::Header { import_id, default_region: "US".into(), tags };
    pb::ImportLeadsRequest { part: Some(import::Part::Header(header)) }
}

async fn send(
    server: &Server,
    key: &str,
    import_id: &str,
    batches: Vec<pb::ImportLeadsRequest>,
) -> Result<pb::ImportLeadsResponse, Status> {
    let messages = [vec![header(import_id)], batches].concat();
    client(server)
        .import_leads(with(key, tokio_stream::iter(messages)))
        .await
        .map(|a| a.into_inner())
}

async fn an_import_counts_and_names_what_it_refuses(test: TestStore) {
    let server = server(test).await;
    create(&server, pb::LeadFacts { tags: vec!["spring".into()], ..person(0) }).await;
    let bad = |phone: &str| pb::LeadFacts { phone: phone.into(), ..Default::default() };
    let first = vec![person(0), person(1), bad("12"), bad("(212) 555-0123"), person(1)];
    let second = vec![bad("+1 212 555 0123"), pb::LeadFacts { name: "New".into(), ..person(1) }];
    let answer = send(&server, "one", "a", vec![batch(0, first), batch(5, second)]).await.unwrap();
    assert_eq!(answer.offset, 7);
    assert_eq!((answer.created_count, answer.updated_count), (2, 1));
    assert_eq!((answer.unchanged_count, answer.rejected_count), (3, 1));
    assert_eq!(answer.rejections.len(), 1);
    let refused = &answer.rejections[0];
    assert_eq!(refused.offset, 2);
    assert!(refused.error.starts_with("phone: "), "{refused:?}");
    let filter = pb::LeadFilter { tag: "SPRING".into(), ..Default::default() };
    let list = pb::ListLeadsRequest { filter: Some(filter), ..Default::default() };
    let leads = client(&server).list_leads(with("one", list)).await.unwrap().into_inner().leads;
    let names: Vec<_> = leads.iter().map(|lead| (lead.name.as_str(), lead.source())).collect();
    let (api, import) = (pb::LeadSource::Api, pb::LeadSource::Import);
    assert_eq!(names, [("Person 0", api), ("New", import), ("", import)]);
    for (parts, wrong) in [
        (vec![batch(0, vec![person(1)])], "header"),
        (vec![header("a"), header("a")], "header"),
        (vec![header("a"), batch(8, vec![person(1)])], "batch.offset"),
        (vec![header("a"), batch(7, vec![])], "batch.leads"),
        (vec![header("")], "header.import_id"),
    ] {
        let refused =
            client(&server).import_leads(with("one", tokio_stream::iter(parts))).await.unwrap_err();
        assert_eq!((refused.code(), field(&refused)), (Code::InvalidArgument, wrong.into()));
    }
}

async fn a_cut_import_goes_on(test: TestStore) {
    let server = server(test).await;
    let people = |from: usize| (from..from + 100).map(person).collect::<Vec<_>>();
    // The client is gone in the middle of the stream: what it sent before is stored.
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut leads = client(&server);
    let sending = tokio::spawn(async move { leads.import_leads(with("one", stream)).await });
    for message in [header("a"), batch(0, people(0)), batch(100, people(100))] {
        sender.send(message).await.unwrap();
    }
    let store = server.test.store.clone();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while store.lead_import_stand(&tenant_id("one"), "a").await.unwrap().offset < 200 {
        assert!(std::time::Instant::now() < end, "what was sent is stored before the stream ends");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    sending.abort();
    let _ = sending.await;
    drop(sender);
    // It sends everything again, cut otherwise, and the answer tells of all of it.
    let again = vec![batch(0, people(0)), batch(100, people(100)), batch(200, people(200))];
    let answer = send(&server, "one", "a", again).await.unwrap();
    assert_eq!((answer.offset, answer.created_count, answer.unchanged_count), (300, 300, 0));
    let rest = send(&server, "one", "a", vec![batch(250, people(250))]).await.unwrap();
    assert_eq!((rest.offset, rest.created_count), (350, 350));
    assert_eq!(export(&server, "one", pb::ExportLeadsRequest::default()).await.0.len(), 350);
}

/// All leads of an export, and the tokens of its pages.
async fn export(
    server: &Server,
    key: &str,
    request: pb::ExportLeadsRequest,
) -> (Vec<pb::Lead>, Vec<String>) {
    let mut stream = client(server).export_leads(with(key, request)).await.unwrap().into_inner();
    let (mut leads, mut tokens) = (Vec::new(), Vec::new());
    while let Some(page) = stream.message().await.unwrap() {
        leads.extend(page.leads);
        tokens.push(page.next_page_token);
    }
    (leads, tokens)
}

async fn an_export_is_the_list(test: TestStore) {
    let server = server(test).await;
    let batches =
        (0..3).map(|n| batch(n * 500, (n as usize * 500..).take(500).map(person).collect()));
    send(&server, "one", "a", batches.collect()).await.unwrap();
    let (leads, tokens) = export(&server, "one", pb::ExportLeadsRequest::default()).await;
    let phones: Vec<_> = leads.iter().map(|lead| lead.phone.clone()).collect();
    assert_eq!(phones, (0..1_500).map(|n| phone(n).expose().to_owned()).collect::<Vec<_>>());
    assert_eq!((tokens.len(), tokens.last().unwrap().as_str()), (3, ""));
    // Cut after the first page, it goes on after it.
    let rest = pb::ExportLeadsRequest { page_token: tokens[0].clone(), ..Default::default() };
    assert_eq!(export(&server, "one", rest).await.0, leads[500..]);
    let filter = |text: &str| Some(pb::LeadFilter { text: text.into(), ..Default::default() });
    let some = pb::ExportLeadsRequest { filter: filter("person 77"), ..Default::default() };
    assert_eq!(export(&server, "one", some).await.0.len(), 11);
    let other = pb::ExportLeadsRequest { filter: filter("x"), page_token: tokens[0].clone() };
    let refused = client(&server).export_leads(with("one", other)).await.unwrap_err();
    assert_eq!(field(&refused), "page_token");
    let list =
        pb::ListLeadsRequest { page_size: 3, filter: filter("person 77"), ..Default::default() };
    let page = client(&server).list_leads(with("one", list.clone())).await.unwrap().into_inner();
    let other =
        pb::ListLeadsRequest { page_token: page.next_page_token, filter: filter("x"), ..list };
    let refused = client(&server).list_leads(with("one", other)).await.unwrap_err();
    assert_eq!(field(&refused), "page_token");
}

async fn national_phones_take_the_nearest_region(test: TestStore) {
    let server = server(test).await;
    let national = |phone: &str| pb::LeadFacts { phone: phone.into(), ..Default::default() };
    let request = |facts| pb::CreateLeadRequest { lead: Some(facts), ..Default::default() };
    let refused = client(&server)
        .create_lead(with("two", request(national("030 901820"))))
        .await
        .unwrap_err();
    assert_eq!(field(&refused), "lead.phone");
    let tenant = server.test.store.tenant(&tenant_id("one")).await.unwrap();
    let german = Tenant { region: Some("DE".into()), ..tenant };
    server.test.store.put_tenant(&german).await.unwrap();
    assert_eq!(create(&server, national("030 901820")).await.phone, "+4930901820");
    let same =
        create(&server, pb::LeadFacts { default_region: "DE".into(), ..national("(030) 90-1820") })
            .await;
    let other = create(
        &server,
        pb::LeadFacts { default_region: "US".into(), ..national("(212) 555-0123") },
    )
    .await;
    assert_eq!((same.phone.as_str(), other.phone.as_str()), ("+4930901820", "+12125550123"));
    let who = Some(pb::new_job::Who::Lead(national("030 901820")));
    let job = pb::NewJob { who, ..Default::default() };
    let run = pb::CreateRunRequest {
        settings: Some(super::settings()),
        jobs: vec![job],
        ..Default::default()
    };
    let created = server.queue().create_run(with("one", run)).await.unwrap().into_inner();
    assert_eq!(
        created.results[0].lead_id, same.lead_id,
        "one phone is one lead, however it is written"
    );
}
