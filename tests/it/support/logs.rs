//! What is logged, line by line, as JSON.

use std::io;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tracing::subscriber::DefaultGuard;

/// What this thread logs while it lives. Only in a test whose runtime has no other threads.
pub struct Logs {
    written: Written,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Logs {
    /// Everything of ours from DEBUG on.
    pub fn begin() -> Self {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_env_filter("trunkline=debug")
            .with_writer(move || writer.clone())
            .finish();
        Self { written, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// The fields of every line that has this `event`, with those of its spans.
    pub fn of(&self, event: &str) -> Vec<Value> {
        let written = self.written.0.lock().unwrap();
        let lines = std::str::from_utf8(&written).unwrap().lines();
        let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["fields"]["event"] == event).map(with_spans).collect()
    }
}

fn with_spans(line: Value) -> Value {
    let mut fields = line["fields"].clone();
    for span in line["spans"].as_array().into_iter().flatten() {
        for (name, value) in span.as_object().into_iter().flatten() {
            fields[name] = value.clone();
        }
    }
    fields
}
