//! Tables for people, JSON for scripts, on stdout.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table};
use serde_json::Value;

/// Prints answers the way that was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// JSON instead of tables.
    pub json: bool,
}

impl Output {
    /// Prints `value` as JSON, or else `rows` under `header`.
    pub fn show(self, value: &Value, header: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            return writeln!(out, "{value:#}");
        }
        writeln!(out, "{}", table(header, rows))
    }

    /// A line for people; nothing with JSON.
    pub fn note(self, line: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { writeln!(io::stdout().lock(), "{line}") }
    }
}

fn table(header: &[&str], rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic).add_rows(rows);
    // Names and values side by side need no header.
    if header.iter().any(|name| !name.is_empty()) {
        table.set_header(header.to_vec());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_holds_its_cells() {
        let text = table(&["run", "state"], vec![vec!["a".into(), "running".into()]]).to_string();
        assert!(text.contains("run") && text.contains("running"), "{text}");
    }
}
