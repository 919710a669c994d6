//! How fast leads come in and are listed:
//! `scripts/with-postgres cargo bench --bench leads [-- OPTIONS]`; see `docs/performance.md`.
//!
//! Prints figures and asserts that every row is there, never how long it took. `ImportLeads` goes
//! over gRPC on loopback; beside it stands the database's own fastest way in, in the same run: COPY
//! on PostgreSQL, one prepared INSERT in one transaction on SQLite.

#[path = "../support/backend.rs"]
mod backend;
mod floor;
mod people;
mod world;

use std::time::{Duration, Instant};

use trunkline::grpc::pb;
use trunkline::store::BATCH_MAX;

use backend::{Backend, POSTGRES_URL};
use world::World;

/// Pages that are walked before the last is timed.
const PAGES: usize = 1_000;
/// A page is at most 1,000 leads.
const ROWS_MAX: usize = PAGES * 1_000;
/// Each page is read this often; the median counts.
const READS: usize = 21;

const USAGE: &str = "\
scripts/with-postgres cargo bench --bench leads -- [sqlite] [postgres] [--rows N]
  --rows N  leads that are imported and listed, a multiple of 1000, at most 1000000 [1000000]";

struct Options {
    backends: Vec<String>,
    rows: usize,
}

impl Options {
    fn parse(args: impl Iterator<Item = String>) -> Result<Self, &'static str> {
        let mut options = Self { backends: Vec::new(), rows: 1_000_000 };
        let mut args = args.filter(|arg| arg != "--bench");
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "sqlite" | "postgres" => options.backends.push(arg),
                "--rows" => options.rows = args.next().and_then(|n| n.parse().ok()).ok_or(USAGE)?,
                _ => return Err(USAGE),
            }
        }
        let fits = (PAGES..=ROWS_MAX).contains(&options.rows) && options.rows.is_multiple_of(PAGES);
        if fits { Ok(options) } else { Err(USAGE) }
    }

    fn backends(&self) -> Vec<Backend> {
        let wanted =
            |name: &str| self.backends.is_empty() || self.backends.iter().any(|b| b == name);
        let mut backends = Vec::new();
        if wanted("sqlite") {
            backends.push(Backend::Sqlite);
        }
        if wanted("postgres") {
            match std::env::var(POSTGRES_URL) {
                Ok(url) => backends.push(Backend::Postgres(url)),
                Err(_) => println!("{POSTGRES_URL} is not set, so only SQLite is measured"),
            }
        }
        backends
    }
}

fn main() {
    // `cargo test --all-targets` runs benches too, without this argument.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(usage) => {
            eprintln!("{usage}");
            std::process::exit(2);
        }
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for backend in options.backends() {
            measure(&backend, options.rows).await;
        }
    });
}

async fn measure(backend: &Backend, rows: usize) {
    println!("{}, {rows} leads", backend.name());
    let floor = floor::run(backend, rows).await;
    println!("  {:<44} {floor:>9.0} rows/s", floor::name(backend));
    let world = World::start(backend).await;
    let (rate, memory) = import(&world, rows).await;
    println!(
        "  {:<44} {rate:>9.0} rows/s = {:.0} % of it",
        "ImportLeads, batches of 1,000",
        100.0 * rate / floor
    );
    println!(
        "  {:<44} {} MiB, {} MiB, {} MiB",
        "memory at a tenth, at half, at the end", memory[0], memory[1], memory[2]
    );
    let (again, _) = import_as(&world, rows, "again").await;
    println!("  {:<44} {again:>9.0} rows/s", "the same once more, nothing changed");
    let (first, last) = list(&world, rows).await;
    println!(
        "  ListLeads, {} a page: page 1 {}, page {PAGES} {}",
        rows / PAGES,
        millis(first),
        millis(last)
    );
    world.stop().await;
}

fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1_000.0)
}

async fn import(world: &World, rows: usize) -> (f64, [u64; 3]) {
    let (rate, memory) = import_as(world, rows, "first").await;
    let count = world.count().await;
    assert_eq!(count, rows as i64, "every row is a lead");
    (rate, memory)
}

/// Rows a second, and the resident memory of server and client together on the way.
async fn import_as(world: &World, rows: usize, import_id: &str) -> (f64, [u64; 3]) {
    use pb::import_leads_request::{Batch, Header, Part};
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let began = Instant::now();
    let header = Header { import_id: import_id.into(), ..Default::default() };
    let sending = tokio::spawn(async move {
        let mut memory = [0; 3];
        let header = pb::ImportLeadsRequest { part: Some(Part::Header(header)) };
        sender.send(header).await.expect("a server that listens");
        for offset in (0..rows).step_by(BATCH_MAX) {
            for (mark, tenths) in [(0, 1), (1, 5)] {
                if offset / BATCH_MAX == rows * tenths / 10 / BATCH_MAX {
                    memory[mark] = resident_mib();
                }
            }
            let leads = (offset..rows.min(offset + BATCH_MAX)).map(people::facts).collect();
            let batch = Batch { offset: offset as u64, leads };
            let message = pb::ImportLeadsRequest { part: Some(Part::Batch(batch)) };
            sender.send(message).await.expect("a server that listens");
        }
        memory
    });
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let answer =
        world.leads().import_leads(stream).await.expect("an import that works").into_inner();
    let elapsed = began.elapsed();
    let mut memory = sending.await.expect("a client that ends");
    memory[2] = resident_mib();
    assert_eq!((answer.offset, answer.rejected_count), (rows as u64, 0), "{answer:?}");
    (rows as f64 / elapsed.as_secs_f64(), memory)
}

/// Of this process, in MiB; 0 where the system does not say.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1_024
}

/// How long the first page takes, and the last.
async fn list(world: &World, rows: usize) -> (Duration, Duration) {
    let page_size = u32::try_from(rows / PAGES).expect("a page");
    let request =
        |page_token: String| pb::ListLeadsRequest { page_size, page_token, ..Default::default() };
    let first = median(world, request(String::new())).await;
    let mut token = String::new();
    for _ in 1..PAGES {
        let page = world.leads().list_leads(request(token)).await.expect("a page").into_inner();
        assert_eq!(page.leads.len(), rows / PAGES);
        token = page.next_page_token;
    }
    (first, median(world, request(token)).await)
}

async fn median(world: &World, request: pb::ListLeadsRequest) -> Duration {
    let mut times = Vec::with_capacity(READS);
    for _ in 0..READS {
        let began = Instant::now();
        let page = world.leads().list_leads(request.clone()).await.expect("a page").into_inner();
        times.push(began.elapsed());
        assert!(!page.leads.is_empty());
    }
    times.sort_unstable();
    times[READS / 2]
}
