//! What a user sees when the server cannot start: the exit code, and what to do about it on stderr.

use tokio::net::TcpListener;

use super::child::Site;
use super::world::{Carrier, Port, quick_carrier, until};
use crate::support::TestDatabase;

const PASSWORD: &str = "hunter2hunter2";

async fn site() -> Site {
    Site::new(TestDatabase::sqlite().await, &Carrier::new(quick_carrier()))
}

/// Fails to start with `code`, says all of `words`, and none of the secrets.
async fn refused(site: &Site, code: i32, words: &[&str]) -> String {
    let (status, said) = site.serve().ended().await;
    assert_eq!(status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    for secret in [PASSWORD, super::world::TOKEN, "panicked", "RUST_BACKTRACE"] {
        assert!(!said.contains(secret), "{secret:?} is in: {said}");
    }
    said
}

#[tokio::test]
async fn missing_credentials_are_named_all_at_once() {
    let mut site = site().await;
    for name in ["TWILIO__ACCOUNT_SID", "TWILIO__AUTH_TOKEN", "TENANT__CALLER_ID", "PUBLIC_URL"] {
        site.unset(name);
    }
    let ways = [
        "twilio.account_sid",
        "TRUNKLINE_TWILIO__ACCOUNT_SID",
        "twilio.auth_token",
        "TRUNKLINE_TWILIO__AUTH_TOKEN",
        "TRUNKLINE_TENANT__CALLER_ID",
        "TRUNKLINE_PUBLIC_URL",
    ];
    refused(&site, 2, &ways).await;
}

#[tokio::test]
async fn a_database_of_another_kind() {
    let mut site = site().await;
    site.set("DATABASE_URL", &format!("mysql://root:{PASSWORD}@localhost/x"));
    refused(&site, 2, &["database_url", "sqlite:", "postgres:"]).await;
    site.set("DATABASE_URL", "sqlite::memory:");
    refused(&site, 1, &["database_url", "must name a file"]).await;
    site.set("DATABASE_URL", "sqlite:///nowhere/at/all/trunkline.db");
    refused(&site, 1, &["/nowhere/at/all/trunkline.db", "No such file"]).await;
    site.set("DATABASE_URL", &format!("postgres://u:{PASSWORD}@[bad/x"));
    refused(&site, 1, &["database_url"]).await;
}

#[tokio::test]
async fn a_database_that_is_not_there() {
    let mut site = site().await;
    let nobody = Port::reserve();
    site.set("DATABASE_URL", &format!("postgres://u:{PASSWORD}@{}/trunkline", nobody.address()));
    refused(&site, 1, &["cannot connect to PostgreSQL", "refused"]).await;
}

#[tokio::test]
async fn a_port_in_use() {
    let mut site = site().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    site.set("GRPC__LISTEN", &address);
    refused(&site, 1, &[&address, "gRPC", "grpc.listen"]).await;
    site.set("GRPC__LISTEN", &site.grpc.address());
    site.set("WEBHOOKS__LISTEN", &address);
    refused(&site, 1, &[&address, "webhooks", "webhooks.listen"]).await;
}

#[tokio::test]
async fn a_second_server_on_one_file() {
    let site = site().await;
    let first = site.serve();
    first.first_key().await;
    let ports = (Port::reserve(), Port::reserve());
    let mut second = self::site().await;
    second.set("DATABASE_URL", &site.database.url);
    second.set("GRPC__LISTEN", &ports.0.address());
    second.set("WEBHOOKS__LISTEN", &ports.1.address());
    let file = site.database.url.trim_start_matches("sqlite://").to_owned();
    refused(&second, 1, &["another trunkline process", &file]).await;
    first.terminate();
    let (status, log) = first.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    // The lock went with its holder.
    let second = second.serve();
    until("the second server to dial", async || second.stderr.get().contains("dialing")).await;
    second.kill().await;
}

#[tokio::test]
async fn settings_that_are_none() {
    let mut site = site().await;
    site.set("TWILIO_AUTH_TOKEN", PASSWORD);
    refused(
        &site,
        2,
        &["TRUNKLINE_TWILIO_AUTH_TOKEN", "did you mean TRUNKLINE_TWILIO__AUTH_TOKEN"],
    )
    .await;
    site.unset("TWILIO_AUTH_TOKEN");
    let file = site.folder.path().join("trunkline.toml");
    std::fs::write(&file, format!("[twilio]\nauth_tokn = \"{PASSWORD}\"\n")).unwrap();
    refused(&site, 2, &["twilio.auth_tokn", "trunkline.toml", "twilio.auth_token"]).await;
    std::fs::write(&file, format!("[twilio\nauth_token = \"{PASSWORD}\"\n")).unwrap();
    refused(&site, 2, &["trunkline.toml"]).await;
    std::fs::remove_file(&file).unwrap();
    for (name, value, key) in [
        ("TENANT__MAX_CONCURRENT_CALLS", "many", "tenant.max_concurrent_calls"),
        ("TENANT__MAX_CONCURRENT_CALLS", "0", "tenant.max_concurrent_calls"),
        ("PUBLIC_URL", "http://calls.example.com", "public_url"),
        ("TWILIO__BASE_URL", "ftp://127.0.0.1", "twilio.base_url"),
        ("TENANT__TIME_ZONE", "Mars/Olympus", "tenant.time_zone"),
        ("LOG__FILTER", "a=b=c", "log.filter"),
        ("SEALING__KEYS", PASSWORD, "sealing.keys"),
    ] {
        let mut site = self::site().await;
        site.set(name, value);
        refused(&site, 2, &[key]).await;
    }
}

/// The port helper's own promise: held, it refuses; then it listens.
#[tokio::test]
async fn a_reserved_port_refuses_until_somebody_listens() {
    let port = Port::reserve();
    let address = port.address();
    assert!(tokio::net::TcpStream::connect(&address).await.is_err());
    let other = TcpListener::bind(&address).await.unwrap();
    assert!(tokio::net::TcpStream::connect(&address).await.is_ok());
    drop(other);
    let _listener = port.listen();
    assert!(tokio::net::TcpStream::connect(&address).await.is_ok());
}
