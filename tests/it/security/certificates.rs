//! TLS: who is served, who is let in by certificate, and certificates that change under a running
//! server.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Code, Request};
use trunkline::cli::client::Client;
use trunkline::domain::access::ClientAuth;
use trunkline::domain::tenant::TenantState;
use trunkline::grpc::auth::Rules;
use trunkline::grpc::pb::outbound_queue_client::OutboundQueueClient;
use trunkline::grpc::{Config, tls};

use super::{Server, list, new_run, server, until, with};
use crate::support::TestStore;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key, PEM.
fn signed(by: &Authority, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut params = CertificateParams::default();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, by).unwrap().pem(), key.serialize_pem())
}

fn for_server(by: &Authority) -> (String, String) {
    signed(by, |params| {
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::from([127, 0, 0, 1])));
    })
}

fn for_tenant(by: &Authority, tenant: &str) -> (String, String) {
    signed(by, |params| params.subject_alt_names.push(spiffe(tenant)))
}

fn spiffe(tenant: &str) -> SanType {
    SanType::URI(format!("spiffe://example.org/tenant/{tenant}").try_into().unwrap())
}

/// Files of a server, in a directory of its own.
struct Files(TempDir);

impl Files {
    fn new((cert, key): &(String, String), client_ca: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write(&(cert.clone(), key.clone()));
        std::fs::write(files.path("ca.pem"), client_ca).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, (cert, key): &(String, String)) {
        std::fs::write(self.path("cert.pem"), cert).unwrap();
        std::fs::write(self.path("key.pem"), key).unwrap();
    }

    async fn serve(&self, client_auth: ClientAuth) -> Server {
        let config = tls::Config {
            cert_file: self.path("cert.pem"),
            key_file: self.path("key.pem"),
            client_ca_file: (client_auth != ClientAuth::None).then(|| self.path("ca.pem")),
            client_auth,
            reload_every: Duration::from_millis(50),
        };
        let tls = Some(tls::Tls::new(config).await.unwrap());
        server(
            TestStore::sqlite().await,
            Config { tls, rules: Rules::default(), ..Config::default() },
        )
        .await
    }
}

/// A connection to a server that `ca` signed, with a certificate or without.
async fn connect(
    server: &Server,
    ca: &Authority,
    identity: Option<&(String, String)>,
) -> Result<OutboundQueueClient<Channel>, String> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca.pem()));
    if let Some((cert, key)) = identity {
        tls = tls.identity(Identity::from_pem(cert, key));
    }
    let endpoint = Channel::from_shared(format!("https://{}", server.addr)).unwrap();
    let channel =
        endpoint.tls_config(tls).unwrap().connect().await.map_err(|error| format!("{error:?}"))?;
    Ok(OutboundQueueClient::new(channel))
}

/// Whether the server lets a request through to where keys are asked for. TLS 1.3 tells a client of
/// a refused certificate only after the handshake.
async fn code(
    server: &Server,
    ca: &Authority,
    identity: Option<&(String, String)>,
    key: Option<&str>,
) -> Result<Code, String> {
    let mut queue = connect(server, ca, identity).await?;
    let request = key.map_or_else(|| Request::new(list()), |key| with(key, list()));
    match queue.list_runs(request).await {
        Ok(_) => Ok(Code::Ok),
        // Made here out of a broken connection.
        Err(status) if std::error::Error::source(&status).is_some() => Err(format!("{status:?}")),
        Err(status) => Ok(status.code()),
    }
}

#[tokio::test]
async fn tls_serves_who_speaks_it() {
    let (ca, other) = (authority("ca"), authority("other"));
    let files = Files::new(&for_server(&ca), &ca.pem());
    let server = files.serve(ClientAuth::None).await;
    assert_eq!(code(&server, &ca, None, Some("one")).await, Ok(Code::Ok));
    assert_eq!(code(&server, &ca, None, None).await, Ok(Code::Unauthenticated));
    // A certificate that nobody asked for stands for nothing.
    assert_eq!(
        code(&server, &ca, Some(&for_tenant(&ca, "one")), None).await,
        Ok(Code::Unauthenticated)
    );
    assert!(connect(&server, &other, None).await.is_err(), "a client takes any server");
    let plain = server.endpoint().connect().await.map(OutboundQueueClient::new);
    let plain = match plain {
        Ok(mut queue) => queue.list_runs(with("one", list())).await.map(drop).map_err(|_| ()),
        Err(_) => Err(()),
    };
    assert!(plain.is_err(), "plain text is served");
}

#[tokio::test]
async fn a_certificate_stands_for_a_key() {
    let (ca, other) = (authority("ca"), authority("other"));
    let files = Files::new(&for_server(&ca), &ca.pem());
    let server = files.serve(ClientAuth::Required).await;
    let one = for_tenant(&ca, "one");
    let mut queue = connect(&server, &ca, Some(&one)).await.unwrap();
    let run =
        queue.create_run(Request::new(new_run(vec![]))).await.unwrap().into_inner().run.unwrap();
    let get = trunkline::grpc::pb::GetRunRequest { run_id: run.run_id };
    queue.get_run(Request::new(get.clone())).await.unwrap();
    // Of its own tenant only.
    let mut other_tenant = connect(&server, &ca, Some(&for_tenant(&ca, "two"))).await.unwrap();
    assert_eq!(
        other_tenant.get_run(Request::new(get.clone())).await.unwrap_err().code(),
        Code::NotFound
    );
    // A key that is given counts, right or wrong.
    assert_eq!(queue.get_run(with("two", get.clone())).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(queue.get_run(with("nobody", get)).await.unwrap_err().code(), Code::Unauthenticated);
    let store = &server.test.store;
    let gone = crate::support::make_tenant(store, "gone", 3, 1.0).await;
    store.set_tenant_state(&gone, TenantState::Disabled, None).await.unwrap();
    for (what, identity) in [
        ("a disabled tenant", for_tenant(&ca, "gone")),
        ("no such tenant", for_tenant(&ca, "three")),
        ("no tenant", signed(&ca, |_| ())),
        (
            "two tenants",
            signed(&ca, |params| params.subject_alt_names = vec![spiffe("one"), spiffe("two")]),
        ),
    ] {
        assert_eq!(
            code(&server, &ca, Some(&identity), None).await,
            Ok(Code::Unauthenticated),
            "{what}"
        );
    }
    let past = signed(&ca, |params| {
        params.subject_alt_names.push(spiffe("one"));
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
    });
    let forged = for_tenant(&other, "one");
    for (what, identity) in
        [("none", None), ("another authority's", Some(&forged)), ("expired", Some(&past))]
    {
        let answer = code(&server, &ca, identity, Some("one")).await;
        assert!(answer.is_err(), "{what} is let in: {answer:?}");
    }
}

#[tokio::test]
async fn an_optional_certificate_must_still_be_right() {
    let (ca, other) = (authority("ca"), authority("other"));
    let files = Files::new(&for_server(&ca), &ca.pem());
    let server = files.serve(ClientAuth::Optional).await;
    assert_eq!(code(&server, &ca, None, Some("one")).await, Ok(Code::Ok));
    assert_eq!(code(&server, &ca, None, None).await, Ok(Code::Unauthenticated));
    assert_eq!(code(&server, &ca, Some(&for_tenant(&ca, "one")), None).await, Ok(Code::Ok));
    let answer = code(&server, &ca, Some(&for_tenant(&other, "one")), Some("one")).await;
    assert!(answer.is_err(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_read_again() {
    let (old, new) = (authority("old"), authority("new"));
    let files = Files::new(&for_server(&old), &old.pem());
    let server = files.serve(ClientAuth::None).await;
    let mut before = connect(&server, &old, None).await.unwrap();
    assert!(connect(&server, &new, None).await.is_err());
    // Half of a change changes nothing.
    let renewed = for_server(&new);
    std::fs::write(files.path("cert.pem"), &renewed.0).unwrap();
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(300) {
        connect(&server, &old, None).await.unwrap();
    }
    files.write(&renewed);
    until(|| connect(&server, &new, None)).await;
    assert!(connect(&server, &old, None).await.is_err(), "the old certificate is still shown");
    // Who is connected stays so.
    before.list_runs(with("one", list())).await.unwrap();
}

#[tokio::test]
async fn files_that_do_not_fit_are_an_early_error() {
    let ca = authority("ca");
    let files = Files::new(&for_server(&ca), &ca.pem());
    let config = |cert: &Path, key: &Path| tls::Config {
        cert_file: cert.to_owned(),
        key_file: key.to_owned(),
        client_ca_file: None,
        client_auth: ClientAuth::None,
        reload_every: Duration::from_secs(1),
    };
    let (cert, key) = (files.path("cert.pem"), files.path("key.pem"));
    let error =
        |config| async { tls::Tls::new(config).await.err().expect("it was taken").to_string() };
    assert!(error(config(&files.path("none.pem"), &key)).await.contains("none.pem"));
    assert!(error(config(&key, &key)).await.contains("no certificate"));
    // Another certificate's key.
    std::fs::write(files.path("other.pem"), for_server(&ca).1).unwrap();
    let other = error(config(&cert, &files.path("other.pem"))).await;
    assert!(other.contains("other.pem") && !other.contains("PRIVATE"), "{other}");
    assert!(
        tls::Tls::new(tls::Config { client_auth: ClientAuth::Required, ..config(&cert, &key) })
            .await
            .is_err()
    );
}

/// Handshakes that never end hold up nobody at another address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_handshakes_harm_nobody() {
    let ca = authority("ca");
    let files = Files::new(&for_server(&ca), &ca.pem());
    let server = files.serve(ClientAuth::None).await;
    let mut silent: Vec<TcpStream> = Vec::new();
    for _ in 0..600 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(server.addr).await.unwrap());
    }
    let started = Instant::now();
    assert_eq!(code(&server, &ca, None, Some("one")).await, Ok(Code::Ok));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn the_command_line_comes_with_a_certificate() {
    let ca = authority("ca");
    let files = Files::new(&for_server(&ca), &ca.pem());
    let server = files.serve(ClientAuth::Required).await;
    let (cert, key) = for_tenant(&ca, "one");
    std::fs::write(files.path("client.pem"), cert).unwrap();
    std::fs::write(files.path("client-key.pem"), key).unwrap();
    let path = |name: &str| Some(files.path(name).display().to_string());
    let mut config = trunkline::config::Config::default();
    config.client.endpoint = format!("https://{}", server.addr);
    config.client.ca_file = path("ca.pem");
    assert!(config.check_client().is_err(), "neither key nor certificate");
    (config.client.cert_file, config.client.key_file) =
        (path("client.pem"), path("client-key.pem"));
    let client = Client::connect(&config.check_client().unwrap()).await.unwrap();
    client.queue.clone().list_runs(list()).await.unwrap();
    config.client.ca_file = None;
    assert!(Client::connect(&config.check_client().unwrap()).await.is_err(), "any server is taken");
}
