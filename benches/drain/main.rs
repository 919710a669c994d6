//! How fast a queue drains: `scripts/with-postgres cargo bench --bench drain [-- OPTIONS]`; see
//! `docs/performance.md`.
//!
//! Prints figures and asserts that every job ended, never how long it took. Each figure stands
//! beside a floor measured in the same run on the same database: hand-written statements, or bare
//! HTTP.

#[path = "../support/backend.rs"]
mod backend;
mod behind;
mod fairness;
mod floor;
mod http;
mod lifecycle;
mod world;

use backend::{Backend, POSTGRES_URL};

/// What is measured, and how much of it.
pub struct Options {
    /// Parts to run: `store`, `http`, `behind`, `fairness`; empty means all.
    parts: Vec<String>,
    /// `sqlite`, `postgres`; empty means both.
    backends: Vec<String>,
    /// Jobs of one lifecycle measurement.
    pub jobs: usize,
    /// Tenants that they are spread over, two runs each.
    pub tenants: usize,
    /// Calls in a batch.
    pub batches: Vec<usize>,
    /// Tasks that bring batches at the same time.
    pub tasks: usize,
    /// Calls of one end-to-end measurement.
    pub calls: usize,
    /// Finished jobs behind which claims are timed.
    pub finished: usize,
    /// Jobs that one tenant has queued while nine others want a few.
    pub queued: usize,
    /// Each measurement is repeated this often; the best counts.
    pub repeat: usize,
}

const USAGE: &str = "\
scripts/with-postgres cargo bench --bench drain -- [store] [http] [behind] [fairness] [sqlite] [postgres] [OPTIONS]
  --jobs N       jobs of one lifecycle measurement [20000]
  --tenants N    tenants that they are spread over [4]
  --batch N,…    calls in a batch [32,200,500]
  --tasks N      tasks that bring batches at the same time [4]
  --calls N      calls end to end [6000]
  --finished N   finished jobs to claim behind [1000000]
  --queued N     jobs of the large tenant beside nine small ones [50000]
  --repeat N     times each is measured; the best counts [3]";

impl Options {
    fn parse(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            parts: Vec::new(),
            backends: Vec::new(),
            jobs: 20_000,
            tenants: 4,
            batches: vec![32, 200, 500],
            tasks: 4,
            calls: 6_000,
            finished: 1_000_000,
            queued: 50_000,
            repeat: 3,
        };
        let mut args = args.filter(|arg| arg != "--bench");
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "store" | "http" | "behind" | "fairness" => options.parts.push(arg),
                "sqlite" | "postgres" => options.backends.push(arg),
                _ => {
                    let value = args.next().ok_or(USAGE)?;
                    let numbers: Vec<usize> = value
                        .split(',')
                        .map(|n| n.parse().map_err(|_| USAGE))
                        .collect::<Result<_, _>>()?;
                    match (arg.as_str(), numbers.as_slice()) {
                        ("--batch", _) => options.batches = numbers,
                        ("--jobs", [n]) => options.jobs = *n,
                        ("--tenants", [n]) => options.tenants = *n,
                        ("--tasks", [n]) => options.tasks = *n,
                        ("--calls", [n]) => options.calls = *n,
                        ("--finished", [n]) => options.finished = *n,
                        ("--queued", [n]) => options.queued = *n,
                        ("--repeat", [n]) => options.repeat = *n,
                        _ => return Err(USAGE.to_owned()),
                    }
                }
            }
        }
        Ok(options)
    }

    fn wants(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part)
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
                Err(_) => println!(
                    "{POSTGRES_URL} is not set, so only SQLite is measured; for both:\n  \
                     scripts/with-postgres cargo bench --bench drain\n"
                ),
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
    if let Ok(filter) = std::env::var("RUST_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for backend in options.backends() {
            if options.wants("store") {
                lifecycle::measure(&backend, &options).await;
            }
            if options.wants("behind") {
                behind::measure(&backend, &options).await;
            }
            if options.wants("http") {
                http::measure(&backend, &options).await;
            }
            if options.wants("fairness") {
                fairness::measure(&backend, &options).await;
            }
        }
    });
}
