//! What is logged, line by line, as JSON.
//!
//! One subscriber for the whole process, in place before the first line is logged, and it writes to
//! the thread that asks. One subscriber a thread would miss lines: `tracing` asks once, on the
//! thread that logs a line first, whether anybody wants it, and keeps the answer.

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::Value;

thread_local! {
    static HERE: RefCell<Option<Written>> = const { RefCell::new(None) };
}

/// What this thread logs while it lives. Only in a test whose runtime has no other threads.
pub struct Logs {
    written: Written,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

/// Where a line of this thread goes.
struct Here;

impl io::Write for Here {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        HERE.with_borrow(|here| {
            if let Some(written) = here {
                written.0.lock().unwrap().extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Puts the subscriber in place. Before the first store is opened.
pub fn listen() {
    static LISTENING: OnceLock<()> = OnceLock::new();
    LISTENING.get_or_init(|| {
        tracing_subscriber::fmt()
            .json()
            .with_env_filter("trunkline=debug")
            .with_writer(|| Here)
            .init();
    });
}

impl Drop for Logs {
    fn drop(&mut self) {
        HERE.set(None);
    }
}

impl Logs {
    /// Everything of ours from DEBUG on.
    pub fn begin() -> Self {
        listen();
        let written = Written::default();
        HERE.set(Some(written.clone()));
        Self { written }
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
