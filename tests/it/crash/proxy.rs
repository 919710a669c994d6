//! A wire between the servers and their database that can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

pub struct Proxy {
    address: SocketAddr,
    wire: Arc<Wire>,
}

struct Wire {
    /// The database.
    target: String,
    is_cut: AtomicBool,
    /// Every change resets the connections of before.
    resets: watch::Sender<u64>,
    /// COMMITs whose answers are still to be lost.
    commits: AtomicUsize,
}

impl Proxy {
    /// In front of the database at `url`.
    pub async fn start(url: &str) -> Self {
        let url = Url::parse(url).unwrap();
        let wire = Arc::new(Wire {
            target: format!("{}:{}", url.host_str().unwrap(), url.port().unwrap()),
            is_cut: AtomicBool::new(false),
            resets: watch::Sender::new(0),
            commits: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = wire.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(carry(client, accepting.clone()));
            }
        });
        Self { address, wire }
    }

    /// The database's URL by way of the proxy.
    pub fn url(&self, url: &str) -> String {
        let mut url = Url::parse(url).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(self.address.port())).unwrap();
        url.into()
    }

    /// Resets every connection; new ones are let through.
    pub fn reset(&self) {
        self.wire.resets.send_modify(|resets| *resets += 1);
    }

    /// Resets every connection, and every new one, until mended.
    pub fn cut(&self) {
        self.wire.is_cut.store(true, Ordering::SeqCst);
        self.reset();
    }

    pub fn mend(&self) {
        self.wire.is_cut.store(false, Ordering::SeqCst);
    }

    /// The next `count` COMMITs are carried out, but whoever asked for them hears a reset instead
    /// of the answer.
    pub fn lose_commits(&self, count: usize) {
        self.wire.commits.store(count, Ordering::SeqCst);
    }

    pub fn commits_to_lose(&self) -> usize {
        self.wire.commits.load(Ordering::SeqCst)
    }
}

impl Wire {
    fn loses(&self, sent: &[u8]) -> bool {
        sent.windows(6).any(|word| word == b"COMMIT")
            && self
                .commits
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok()
    }
}

async fn carry(client: TcpStream, wire: Arc<Wire>) {
    let mut resets = wire.resets.subscribe();
    // However the connection ends, it ends with a reset.
    client.set_zero_linger().unwrap();
    if wire.is_cut.load(Ordering::SeqCst) {
        return;
    }
    let server = TcpStream::connect(&wire.target).await.unwrap();
    server.set_zero_linger().unwrap();
    tokio::select! {
        // An error is the end of a connection like any other.
        _ = pump(client, server, &wire) => {}
        _ = resets.changed() => {}
    }
}

async fn pump(mut client: TcpStream, mut server: TcpStream, wire: &Wire) -> std::io::Result<()> {
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let sent = &asked[..read?];
                server.write_all(sent).await?;
                if sent.is_empty() {
                    return Ok(());
                }
                if wire.loses(sent) {
                    // Once there is an answer, it is carried out.
                    return server.read(&mut answered).await.map(drop);
                }
            }
            read = server.read(&mut answered) => {
                let read = read?;
                client.write_all(&answered[..read]).await?;
                if read == 0 {
                    return Ok(());
                }
            }
        }
    }
}
