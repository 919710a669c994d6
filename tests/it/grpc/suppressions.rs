//! Suppressions over a real socket.

use pb::import_suppressions_request as import;
use tonic::{Code, Status};
use trunkline::grpc::pb::leads_client::LeadsClient;
use trunkline::grpc::pb::{
    self, SuppressionChange as Change, SuppressionReason, SuppressionSource,
};

use super::{Server, field, server, with};
use crate::support::{TestStore, on_both_stores, phone};

on_both_stores!(phones_are_suppressed_one_by_one, an_import_is_cut_and_goes_on);

fn new(phone: &str) -> pb::NewSuppression {
    pb::NewSuppression { phone: phone.into(), ..Default::default() }
}

async fn list(
    server: &Server,
    key: &str,
    request: pb::ListSuppressionsRequest,
) -> Vec<pb::Suppression> {
    let mut leads = LeadsClient::new(server.channel.clone());
    leads.list_suppressions(with(key, request)).await.unwrap().into_inner().suppressions
}

async fn phones_are_suppressed_one_by_one(test: TestStore) {
    let server = server(test).await;
    let mut leads = LeadsClient::new(server.channel.clone());
    let registry = pb::NewSuppression {
        default_region: "US".into(),
        reason: SuppressionReason::Registry.into(),
        note: "of May".into(),
        ..new("(212) 555-0123")
    };
    let request = pb::AddSuppressionsRequest {
        request_id: "r".into(),
        suppressions: vec![new(phone(1).expose()), new("12"), registry, new(phone(1).expose())],
        source: SuppressionSource::Operator.into(),
    };
    let answer = leads.add_suppressions(with("one", request.clone())).await.unwrap().into_inner();
    let changes: Vec<_> = answer.results.iter().map(|result| result.change()).collect();
    assert_eq!(changes, [Change::Added, Change::Unspecified, Change::Added, Change::Unchanged]);
    assert!(
        answer.results[1].error.starts_with("suppressions[1].phone: "),
        "{:?}",
        answer.results[1]
    );
    assert_eq!((answer.added_count, answer.unchanged_count, answer.rejected_count), (2, 1, 1));
    assert_eq!(leads.add_suppressions(with("one", request)).await.unwrap().into_inner(), answer);
    let kept = list(&server, "one", pb::ListSuppressionsRequest::default()).await;
    assert_eq!((kept[1].phone.as_str(), kept[1].note.as_str()), ("+12125550123", "of May"));
    assert_eq!(
        (kept[0].source(), kept[0].created_by.as_str()),
        (SuppressionSource::Operator, "one")
    );
    assert!(list(&server, "two", pb::ListSuppressionsRequest::default()).await.is_empty());
    // A job to it is told to be skipped.
    let who = pb::new_job::Who::Lead(pb::LeadFacts {
        phone: phone(1).expose().into(),
        ..Default::default()
    });
    let script = pb::Script {
        kind: Some(pb::script::Kind::Say(pb::script::Say {
            text: "a".into(),
            ..Default::default()
        })),
    };
    let run = pb::CreateRunRequest {
        settings: Some(pb::RunSettings { script: Some(script), ..Default::default() }),
        jobs: vec![pb::NewJob { who: Some(who), ..Default::default() }],
        ..Default::default()
    };
    let created = server.queue().create_run(with("one", run)).await.unwrap().into_inner();
    assert!(created.results[0].suppressed);
    let get = pb::GetJobRequest { job_id: created.results[0].job_id.clone() };
    let job = server.queue().get_job(with("one", get)).await.unwrap().into_inner().job.unwrap();
    assert_eq!((job.state(), job.outcome()), (pb::JobState::Skipped, pb::Outcome::Suppressed));
    for (wrong, name) in [
        (
            pb::AddSuppressionsRequest {
                source: SuppressionSource::OptOut.into(),
                suppressions: vec![new("1")],
                ..Default::default()
            },
            "source",
        ),
        (pb::AddSuppressionsRequest::default(), "suppressions"),
    ] {
        assert_eq!(field(&leads.add_suppressions(with("one", wrong)).await.unwrap_err()), name);
    }
    let read_only = pb::AddSuppressionsRequest {
        suppressions: vec![new(phone(1).expose())],
        ..Default::default()
    };
    let refused = leads.add_suppressions(with("reader", read_only)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let remove = |phones: &[&str]| pb::RemoveSuppressionsRequest {
        phones: phones.iter().map(|phone| (*phone).to_owned()).collect(),
        default_region: "US".into(),
        ..Default::default()
    };
    let refused =
        leads.remove_suppressions(with("one", remove(&["+12125550123", "12"]))).await.unwrap_err();
    assert_eq!(field(&refused), "phones[1]");
    let two = leads
        .remove_suppressions(with("two", remove(&["+12125550123"])))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(two.removed, [false]);
    let one = remove(&["212 555 0123", phone(9).expose()]);
    let one = leads.remove_suppressions(with("one", one)).await.unwrap().into_inner();
    assert_eq!((one.removed, one.removed_count), (vec![true, false], 1));
}

fn header(import_id: &str) -> pb::ImportSuppressionsRequest {
    let header = import::Header { import_id: import_id.into(), default_region: "US".into() };
    pb::ImportSuppressionsRequest { part: Some(import::Part::Header(header)) }
}

fn batch(offset: u64, suppressions: Vec<pb::NewSuppression>) -> pb::ImportSuppressionsRequest {
    pb::ImportSuppressionsRequest {
        part: Some(import::Part::Batch(import::Batch { offset, suppressions })),
    }
}

async fn send(
    server: &Server,
    messages: Vec<pb::ImportSuppressionsRequest>,
) -> Result<pb::ImportSuppressionsResponse, Status> {
    let mut leads = LeadsClient::new(server.channel.clone());
    leads
        .import_suppressions(with("one", tokio_stream::iter(messages)))
        .await
        .map(|answer| answer.into_inner())
}

async fn an_import_is_cut_and_goes_on(test: TestStore) {
    let server = server(test).await;
    let phones =
        |from: usize| (from..from + 100).map(|n| new(phone(n).expose())).collect::<Vec<_>>();
    let first = send(&server, vec![header("a"), batch(0, phones(0)), batch(100, vec![new("12")])])
        .await
        .unwrap();
    assert_eq!((first.offset, first.added_count, first.rejected_count), (101, 100, 1));
    assert_eq!(first.rejections[0].offset, 100);
    assert!(first.rejections[0].error.starts_with("phone: "));
    // Everything again, cut otherwise, and more.
    let all = [phones(0), vec![new("12")], phones(50)].concat();
    let again = send(&server, vec![header("a"), batch(0, all)]).await.unwrap();
    assert_eq!((again.offset, again.added_count, again.unchanged_count), (201, 150, 50));
    let imported = list(
        &server,
        "one",
        pb::ListSuppressionsRequest { page_size: 1_000, ..Default::default() },
    )
    .await;
    assert_eq!(imported.len(), 150);
    assert!(imported.iter().all(|one| one.source() == SuppressionSource::Import));
    for (parts, wrong) in [
        (vec![batch(0, phones(0))], "header"),
        (vec![header("a"), header("a")], "header"),
        (vec![header("a"), batch(202, phones(0))], "batch.offset"),
        (vec![header("a"), batch(201, vec![])], "batch.suppressions"),
        (vec![header("")], "header.import_id"),
    ] {
        let refused = send(&server, parts).await.unwrap_err();
        assert_eq!((refused.code(), field(&refused)), (Code::InvalidArgument, wrong.into()));
    }
}
