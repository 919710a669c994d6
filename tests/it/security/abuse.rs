//! Bad input and bad guests: the right status, nothing told, nobody else harmed.

use std::time::{Duration, Instant};

use http_body_util::Full;
use prost::bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use tower::{Service as _, ServiceExt as _};
use trunkline::domain::plan::Limits;
use trunkline::domain::tenant::TenantState;
use trunkline::grpc::pb;
use trunkline::grpc::pb::outbound_queue_client::OutboundQueueClient;

use super::{SECRET, Server, authorized, limited, list, new_run, over, put_key, with};
use crate::support::{self, TestStore, on_both_stores};

on_both_stores!(a_bad_key_is_refused_and_tells_nothing);

async fn refused(
    queue: &mut OutboundQueueClient<Channel>,
    request: Request<pb::ListRunsRequest>,
) -> Status {
    queue.list_runs(request).await.expect_err("it was let in")
}

async fn a_bad_key_is_refused_and_tells_nothing(test: TestStore) {
    let server = limited(test, Limits::default()).await;
    let store = &server.test.store;
    put_key(store, "expired", "one", &["admin"], [Some(1), None]).await;
    put_key(store, "revoked", "one", &["admin"], [None, Some(1)]).await;
    put_key(store, "reader", "one", &["outbound:read"], [None, None]).await;
    let gone = support::make_tenant(store, "gone", 3, 1.0).await;
    put_key(store, "disabled", "gone", &["admin"], [None, None]).await;
    store.set_tenant_state(&gone, TenantState::Disabled, None).await.unwrap();
    let mut queue = server.queue().await;
    let missing = refused(&mut queue, Request::new(list())).await;
    assert_eq!(missing.code(), Code::Unauthenticated);
    assert_eq!(missing.get_details_error_info().unwrap().reason, "UNAUTHENTICATED");
    let long = format!("Bearer {}.{}", "a".repeat(64), "b".repeat(256));
    for (what, header) in [
        ("no scheme", format!("one.{SECRET}")),
        ("another scheme", format!("Basic one.{SECRET}")),
        ("no dot", "Bearer one".to_owned()),
        ("no secret", "Bearer one.".to_owned()),
        ("unknown", format!("Bearer nobody.{SECRET}")),
        ("wrong secret", "Bearer one.secret".to_owned()),
        ("another's secret", "Bearer two.one".to_owned()),
        ("expired", format!("Bearer expired.{SECRET}")),
        ("revoked", format!("Bearer revoked.{SECRET}")),
        ("of a disabled tenant", format!("Bearer disabled.{SECRET}")),
        ("long", long),
        ("SQL", format!("Bearer ' OR ''='.{SECRET}")),
    ] {
        let status = refused(&mut queue, authorized(&header, list())).await;
        // The same to the last byte: which keys exist is not told.
        assert_eq!(
            (status.code(), status.message()),
            (missing.code(), missing.message()),
            "{what}"
        );
        assert_eq!(status.details(), missing.details(), "{what}");
    }
    let mut twice = with("one", list());
    twice.metadata_mut().append("authorization", format!("Bearer one.{SECRET}").parse().unwrap());
    assert_eq!(refused(&mut queue, twice).await.code(), Code::Unauthenticated);
    queue.list_runs(with("reader", list())).await.unwrap();
    let status = queue.create_run(with("reader", new_run(vec![]))).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("outbound:write"), "{status:?}");
    queue.list_runs(with("two", list())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_wrong_keys_a_second_harm_nobody_else() {
    let limits = Limits { peer: "100/s burst 200".parse().unwrap(), ..Limits::default() };
    let server = limited(TestStore::sqlite().await, limits).await;
    let guessing = OutboundQueueClient::new(server.connect_from(2).await);
    let guess = |n: usize| {
        let mut queue = guessing.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(n as u64)).await;
            queue.list_runs(authorized(&format!("Bearer key{n}.wrong"), list())).await.unwrap_err()
        })
    };
    let began = std::time::Instant::now();
    let guesses: Vec<_> = (0..1_000).map(guess).collect();
    let mut queue = OutboundQueueClient::new(server.connect_from(3).await);
    for _ in 0..50 {
        queue.list_runs(with("two", list())).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (mut looked_at, mut turned_away) = (0, 0);
    for guess in guesses {
        let status = guess.await.unwrap();
        match status.code() {
            Code::Unauthenticated => looked_at += 1,
            _ => {
                over(&status, "PEER_RATE_LIMIT", "peer:requests");
                turned_away += 1;
            }
        }
    }
    // The burst, and what came back while the guesses came.
    let most = 200 + 100 * i32::try_from(began.elapsed().as_secs() + 1).unwrap();
    assert!((200..=most).contains(&looked_at), "{looked_at} of 1,000 keys were looked at");
    assert!(turned_away > 0, "this machine is too slow for a flood");
    assert_eq!(looked_at + turned_away, 1_000);
}

/// What is sent as it is, without a client that would refuse to.
async fn raw(channel: &Channel, headers: &[(&str, String)], body: Vec<u8>) -> Result<Code, String> {
    let mut request = http::Request::post("/trunkline.v1.OutboundQueue/ListRuns")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer one.{SECRET}"));
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(Body::new(Full::new(Bytes::from(body)))).unwrap();
    let mut channel = channel.clone();
    let response =
        channel.ready().await.unwrap().call(request).await.map_err(|error| error.to_string())?;
    let code =
        response.headers().get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()));
    Ok(code.unwrap_or(Code::Ok))
}

async fn works(server: &Server, host: u8) {
    let mut queue = OutboundQueueClient::new(server.connect_from(host).await);
    queue.list_runs(with("two", list())).await.unwrap();
}

#[tokio::test]
async fn header_bombs_end_their_own_request() {
    let server = limited(TestStore::sqlite().await, Limits::default()).await;
    let channel = server.connect_from(2).await;
    let empty = vec![0; 5];
    let large = [("x-bomb", "a".repeat(15 * 1024))];
    assert_eq!(raw(&channel, &large, empty.clone()).await, Ok(Code::Ok), "within the limit");
    for bomb in [
        vec![("x-bomb", "a".repeat(64 * 1024))],
        (0..1_000).map(|_| ("x-bomb", "a".repeat(64))).collect(),
    ] {
        let answer = raw(&channel, &bomb, empty.clone()).await;
        assert!(!matches!(answer, Ok(Code::Ok)), "{answer:?}");
    }
    works(&server, 2).await;
    works(&server, 3).await;
}

#[tokio::test]
async fn oversized_messages_are_refused_before_they_are_read() {
    let server = limited(TestStore::sqlite().await, Limits::default()).await;
    let channel = server.connect_from(2).await;
    let wide = || pb::ListRunsRequest { page_token: "a".repeat(5 << 20), ..Default::default() };
    let mut queue = OutboundQueueClient::new(channel.clone());
    assert_eq!(refused(&mut queue, with("one", wide())).await.code(), Code::OutOfRange);
    // Small on the wire, large once it is unpacked.
    let mut queue =
        OutboundQueueClient::new(channel.clone()).send_compressed(CompressionEncoding::Gzip);
    let bomb = pb::ListRunsRequest { page_token: "a".repeat(64 << 20), ..Default::default() };
    let status = refused(&mut queue, with("one", bomb)).await;
    assert!(
        !matches!(status.code(), Code::Ok | Code::InvalidArgument),
        "it was unpacked: {status:?}"
    );
    // A length that was never meant to come.
    let promise = [vec![0], u32::MAX.to_be_bytes().to_vec()].concat();
    assert_eq!(raw(&channel, &[], promise).await, Ok(Code::OutOfRange));
    works(&server, 2).await;
}

#[tokio::test]
async fn truncated_messages_are_refused() {
    let server = limited(TestStore::sqlite().await, Limits::default()).await;
    let channel = server.connect_from(2).await;
    // A length without its message, a header without its end, bytes that are no protobuf, a flag
    // that is none.
    for body in [
        vec![0, 0, 0, 0, 100, 1, 2],
        vec![0, 0],
        vec![0, 0, 0, 0, 2, 0xff, 0xff],
        vec![9, 0, 0, 0, 0],
    ] {
        let answer = raw(&channel, &[], body.clone()).await.unwrap();
        assert!(!matches!(answer, Code::Ok), "{body:?}: {answer:?}");
    }
    works(&server, 2).await;
}

/// Bytes that are no HTTP/2, and connections that say nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_on_the_socket_harms_nobody() {
    let server = limited(TestStore::sqlite().await, Limits::default()).await;
    let mut silent = Vec::new();
    for n in 0..200 {
        let mut stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
        if n % 2 == 0 {
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n\x00\xff").await.unwrap();
        }
        silent.push(stream);
    }
    let started = Instant::now();
    works(&server, 3).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}
