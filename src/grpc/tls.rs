//! TLS of the server: certificates that are read again when their files change, handshakes that
//! cannot hold up others.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::limits::{Open, Peer};
use crate::domain::access::ClientAuth;

/// The only protocol offered.
const ALPN_H2: &[u8] = b"h2";
/// How long a handshake may take; an honest one takes a few round trips.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Handshakes at once. Who waits here waits in the listener's backlog.
const HANDSHAKES_MAX: usize = 512;
/// Handshakes at once from one address: so that whoever starts many and ends none cannot take all
/// the places.
const HANDSHAKES_PER_PEER_MAX: u32 = 32;
/// The largest certificate or key file, in bytes.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// Where the server's certificate is, and what is asked of clients.
#[derive(Debug, Clone)]
pub struct Config {
    /// PEM: the server's certificate, then those that signed it.
    pub cert_file: PathBuf,
    /// PEM: its private key.
    pub key_file: PathBuf,
    /// PEM: authorities of client certificates; needed unless none is asked for.
    pub client_ca_file: Option<PathBuf>,
    /// What is asked of clients.
    pub client_auth: ClientAuth,
    /// How often it is looked whether the files have changed.
    pub reload_every: Duration,
}

/// Why there is no TLS. Names files, never what they hold.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    File(PathBuf, String),
    /// The files do not make a server.
    #[error("cannot serve TLS with {0}: {1}")]
    Unfit(PathBuf, String),
}

/// What the files held.
#[derive(PartialEq, Eq)]
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Files {
    async fn read(config: &Config) -> Result<Self, Error> {
        let client_ca = match (&config.client_ca_file, config.client_auth) {
            (None, _) | (_, ClientAuth::None) => None,
            (Some(path), ClientAuth::Optional | ClientAuth::Required) => Some(read(path).await?),
        };
        Ok(Self {
            cert: read(&config.cert_file).await?,
            key: read(&config.key_file).await?,
            client_ca,
        })
    }

    fn server(&self, config: &Config) -> Result<ServerConfig, Error> {
        let chain = certificates(&config.cert_file, &self.cert)?;
        let unfit = |error: &dyn std::fmt::Display| {
            Error::Unfit(config.key_file.clone(), error.to_string())
        };
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| unfit(&error))?;
        let builder =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| unfit(&error))?;
        let builder = match self.client_verifier(config)? {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        let mut server = builder.with_single_cert(chain, key).map_err(|error| unfit(&error))?;
        server.alpn_protocols = vec![ALPN_H2.to_vec()];
        Ok(server)
    }

    fn client_verifier(
        &self,
        config: &Config,
    ) -> Result<Option<Arc<dyn rustls::server::danger::ClientCertVerifier>>, Error> {
        let (Some(path), Some(pem)) = (&config.client_ca_file, &self.client_ca) else {
            return match config.client_auth {
                ClientAuth::None => Ok(None),
                // Settings are checked for this; without authorities nobody is let in by mistake.
                ClientAuth::Optional | ClientAuth::Required => Err(Error::Unfit(
                    config.cert_file.clone(),
                    "no authorities of client certificates".into(),
                )),
            };
        };
        let unfit = |error: &dyn std::fmt::Display| Error::Unfit(path.clone(), error.to_string());
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path, pem)? {
            roots.add(certificate).map_err(|error| unfit(&error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = match config.client_auth {
            ClientAuth::None => return Ok(None),
            ClientAuth::Optional => builder.allow_unauthenticated(),
            ClientAuth::Required => builder,
        };
        builder.build().map(Some).map_err(|error| unfit(&error))
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |error: std::io::Error| Error::File(path.to_owned(), error.to_string());
    if tokio::fs::metadata(path).await.map_err(failed)?.len() > FILE_MAX_BYTES {
        return Err(Error::File(path.to_owned(), "is larger than 1 MiB".into()));
    }
    tokio::fs::read(path).await.map_err(failed)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let unfit = |error: String| Error::Unfit(path.to_owned(), error);
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unfit(error.to_string()))?;
    if all.is_empty() { Err(unfit("it holds no certificate".into())) } else { Ok(all) }
}

/// Shakes hands with whoever connects. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    config: Arc<Config>,
    server: Arc<RwLock<Arc<ServerConfig>>>,
    handshakes: Open<Peer>,
}

impl Tls {
    /// Reads the files.
    pub async fn new(config: Config) -> Result<Self, Error> {
        let server = Files::read(&config).await?.server(&config)?;
        let server = Arc::new(RwLock::new(Arc::new(server)));
        Ok(Self { config: Arc::new(config), server, handshakes: Open::default() })
    }

    /// Reads the files again when they change, for ever. New connections use the new ones; files
    /// that do not fit together, as when only one of two is written yet, change nothing.
    pub async fn reload(&self) {
        let mut ticks = interval(self.config.reload_every);
        let mut last = None;
        loop {
            ticks.tick().await;
            let files = match Files::read(&self.config).await {
                Ok(files) => files,
                Err(error) => {
                    tracing::warn!(%error, "certificates stay as they are");
                    continue;
                }
            };
            if last.as_ref() == Some(&files) {
                continue;
            }
            match files.server(&self.config) {
                Ok(server) => {
                    *self.server.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(server);
                    if last.is_some() {
                        tracing::info!("certificates were read again");
                    }
                }
                Err(error) => tracing::warn!(%error, "certificates stay as they are"),
            }
            last = Some(files);
        }
    }

    /// The connections of `incoming` whose handshakes succeed.
    pub fn accept<I>(
        &self,
        incoming: I,
    ) -> impl Stream<Item = std::io::Result<TlsStream<TcpStream>>> + Send + use<I>
    where
        I: Stream<Item = std::io::Result<TcpStream>> + Send + 'static,
    {
        let tls = self.clone();
        incoming
            // Each in a task of its own: the arithmetic of one does not hold up the next.
            .map(move |stream| tokio::spawn(tls.clone().shake(stream)))
            .buffer_unordered(HANDSHAKES_MAX)
            .filter_map(|shaken| std::future::ready(shaken.ok().flatten().map(Ok)))
    }

    async fn shake(self, stream: std::io::Result<TcpStream>) -> Option<TlsStream<TcpStream>> {
        let stream = stream.ok()?;
        let address: SocketAddr = stream.peer_addr().ok()?;
        let Some(_guard) = self.handshakes.enter(&Peer::of(address.ip()), HANDSHAKES_PER_PEER_MAX)
        else {
            tracing::debug!("refused: too many handshakes from one address");
            return None;
        };
        let server = Arc::clone(&self.server.read().unwrap_or_else(PoisonError::into_inner));
        match timeout(HANDSHAKE_MAX, TlsAcceptor::from(server).accept(stream)).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!("a handshake took too long");
                None
            }
        }
    }
}
