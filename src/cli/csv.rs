//! Lead files: CSV in, one record at a time, so that memory stays flat whatever the size of the file.
//!
//! The header row names the columns. `phone` is required; `name`, `time_zone` and `region` (ISO 3166-1 alpha-2,
//! for national phones) are known; every other column becomes an attribute of the lead, where it is not empty.
//! A byte order mark, CRLF and quoted fields are fine.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use csv::{ByteRecord, ErrorKind, ReaderBuilder};
use prost_types::value::Kind;

use crate::domain::lead::ATTRIBUTES_MAX_BYTES;
use crate::grpc::pb;

/// The most columns in a file.
const COLUMNS_MAX: usize = 256;
/// The longest field, in bytes: no lead can carry more.
const FIELD_MAX_BYTES: usize = ATTRIBUTES_MAX_BYTES;
/// The longest record, in bytes. A quote that is never closed would otherwise read the file into memory.
const RECORD_MAX_BYTES: usize = 64 * 1_024;
/// What is read from the file at a time, in bytes.
const BUFFER_BYTES: usize = 64 * 1_024;

/// A lead file that cannot be used. Never contains what is in the file, but for the names of columns.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    Io {
        /// The file's name.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// The header row is wrong.
    #[error("{file} line 1: {reason}")]
    Header {
        /// The file's name.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A record is wrong.
    #[error("{file} line {line}: {reason}")]
    Record {
        /// The file's name.
        file: String,
        /// Where the record begins, counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// A person of the file.
#[derive(Clone, PartialEq)]
pub struct Row {
    /// Where the record begins, counted from 1.
    pub line: u64,
    /// What it says.
    pub facts: pb::LeadFacts,
}

/// What a column means.
enum Column {
    Phone,
    Name,
    TimeZone,
    Region,
    Attribute(String),
}

/// Reads a lead file record by record. After an error it ends.
pub struct Leads<R> {
    file: String,
    reader: csv::Reader<Bounded<R>>,
    columns: Vec<Column>,
    record: ByteRecord,
    failed: bool,
}

/// Reads no more than its budget; the budget is renewed with each record.
struct Bounded<R> {
    inner: R,
    budget: usize,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.budget);
        if most == 0 && !buffer.is_empty() {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let count = self.inner.read(&mut buffer[..most])?;
        self.budget -= count;
        Ok(count)
    }
}

impl Leads<File> {
    /// Opens `path` and reads its header row.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = path.display().to_string();
        match File::open(path) {
            Ok(inner) => Self::new(file, inner),
            Err(source) => Err(Error::Io { file, source }),
        }
    }
}

impl<R: Read> Leads<R> {
    /// Reads the header row of `inner`, which is called `file` in messages.
    pub fn new(file: String, inner: R) -> Result<Self, Error> {
        let bounded = Bounded { inner, budget: RECORD_MAX_BYTES + BUFFER_BYTES };
        let mut reader = ReaderBuilder::new().buffer_capacity(BUFFER_BYTES).from_reader(bounded);
        let header = match reader.byte_headers() {
            Ok(header) => header.clone(),
            Err(error) => return Err(located(&file, 1, error)),
        };
        let columns = columns(&header).map_err(|reason| Error::Header { file: file.clone(), reason })?;
        Ok(Self { file, reader, columns, record: ByteRecord::new(), failed: false })
    }

    fn read(&mut self) -> Result<Option<Row>, Error> {
        self.reader.get_mut().budget = RECORD_MAX_BYTES + BUFFER_BYTES;
        let line = self.reader.position().line();
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => return Err(located(&self.file, line, error)),
        }
        let line = self.record.position().map_or(line, csv::Position::line);
        let facts = facts(&self.columns, &self.record).map_err(|reason| Error::Record {
            file: self.file.clone(),
            line,
            reason,
        })?;
        Ok(Some(Row { line, facts }))
    }
}

impl<R: Read> Iterator for Leads<R> {
    type Item = Result<Row, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.read().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}

/// Reads the whole file and counts its records, so that a broken one is refused before anything is sent.
pub fn count(path: &Path) -> Result<u64, Error> {
    let mut count = 0;
    for row in Leads::open(path)? {
        row?;
        count += 1;
    }
    Ok(count)
}

/// The lines of the records at `offsets`, counted from 0, in order.
pub fn lines_at(path: &Path, offsets: &BTreeSet<u64>) -> Result<Vec<u64>, Error> {
    let mut lines = Vec::with_capacity(offsets.len());
    for (offset, row) in (0u64..).zip(Leads::open(path)?) {
        if lines.len() == offsets.len() {
            break;
        }
        let row = row?;
        if offsets.contains(&offset) {
            lines.push(row.line);
        }
    }
    Ok(lines)
}

fn columns(header: &ByteRecord) -> Result<Vec<Column>, String> {
    if header.len() > COLUMNS_MAX {
        return Err(format!("has more than {COLUMNS_MAX} columns"));
    }
    let mut seen = BTreeSet::new();
    let mut columns = Vec::with_capacity(header.len());
    for (position, name) in (1..).zip(header) {
        let name = std::str::from_utf8(name).map_err(|_| format!("column {position} is not UTF-8"))?.trim();
        if name.is_empty() {
            return Err(format!("column {position} has no name"));
        }
        let lower = name.to_ascii_lowercase();
        if !seen.insert(lower.clone()) {
            return Err(format!("column {position} has a name that was there before: {name:?}"));
        }
        columns.push(match lower.as_str() {
            "phone" => Column::Phone,
            "name" => Column::Name,
            "time_zone" => Column::TimeZone,
            "region" => Column::Region,
            _ => Column::Attribute(name.to_owned()),
        });
    }
    if seen.contains("phone") {
        Ok(columns)
    } else {
        Err("has no column \"phone\": the first line must name the columns".into())
    }
}

fn facts(columns: &[Column], record: &ByteRecord) -> Result<pb::LeadFacts, String> {
    let mut facts = pb::LeadFacts::default();
    let mut attributes = prost_types::Struct::default();
    for (position, (column, field)) in (1..).zip(columns.iter().zip(record)) {
        if field.len() > FIELD_MAX_BYTES {
            return Err(format!("column {position} is longer than {FIELD_MAX_BYTES} bytes"));
        }
        let text = std::str::from_utf8(field).map_err(|_| format!("column {position} is not UTF-8"))?.trim();
        match column {
            Column::Phone => text.clone_into(&mut facts.phone),
            Column::Name => text.clone_into(&mut facts.name),
            Column::TimeZone => text.clone_into(&mut facts.time_zone),
            Column::Region => text.clone_into(&mut facts.default_region),
            Column::Attribute(_) if text.is_empty() => {}
            Column::Attribute(name) => {
                let value = prost_types::Value { kind: Some(Kind::StringValue(text.to_owned())) };
                attributes.fields.insert(name.clone(), value);
            }
        }
    }
    facts.attributes = (!attributes.fields.is_empty()).then_some(attributes);
    Ok(facts)
}

fn located(file: &str, line: u64, error: csv::Error) -> Error {
    let file = file.to_owned();
    let at = error.position().map_or(line, csv::Position::line);
    match error.into_kind() {
        ErrorKind::Io(source) if source.kind() == io::ErrorKind::FileTooLarge => {
            let reason = format!("is longer than {RECORD_MAX_BYTES} bytes; is a quote never closed?");
            Error::Record { file, line, reason }
        }
        ErrorKind::Io(source) => Error::Io { file, source },
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            let reason = format!("has {len} fields where the header has {expected_len}");
            Error::Record { file, line: at, reason }
        }
        _ => Error::Record { file, line: at, reason: "is not CSV".into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: impl AsRef<[u8]>) -> Result<Vec<Row>, Error> {
        Leads::new("leads.csv".into(), text.as_ref())?.collect()
    }

    fn error(text: impl AsRef<[u8]>) -> String {
        read(text).map(|_| ()).unwrap_err().to_string()
    }

    fn attribute<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
        match row.facts.attributes.as_ref()?.fields.get(name)?.kind.as_ref()? {
            Kind::StringValue(text) => Some(text),
            _ => None,
        }
    }

    #[test]
    fn mark_crlf_quotes_and_blank_lines() {
        let text = "\u{feff}Phone,name,Plan\r\n+14155550100,\"Doe, \"\"Jo\"\"\",gold\r\n\r\n+14155550101,\"two\nlines\",\r\n+14155550102,x,y";
        let rows = read(text).unwrap();
        assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 4, 6]);
        assert_eq!(rows[0].facts.phone, "+14155550100");
        assert_eq!(rows[0].facts.name, "Doe, \"Jo\"");
        assert_eq!(attribute(&rows[0], "Plan"), Some("gold"));
        assert!(rows[1].facts.attributes.is_none());
        assert_eq!(rows[2].facts.name, "x");
    }

    #[test]
    fn known_columns_in_any_order() {
        let rows = read("region,time_zone,phone,a\nUS,America/New_York,(212) 555-0100,1\n").unwrap();
        let facts = &rows[0].facts;
        assert_eq!((facts.default_region.as_str(), facts.time_zone.as_str()), ("US", "America/New_York"));
        assert_eq!(facts.phone, "(212) 555-0100");
        assert_eq!(attribute(&rows[0], "a"), Some("1"));
    }

    #[test]
    fn errors_name_the_line_and_not_the_data() {
        assert!(error("").contains("line 1: has no column \"phone\""));
        assert!(error("name\nx\n").contains("has no column \"phone\""));
        assert!(error("phone,,x\n").contains("column 2 has no name"));
        assert!(error("phone,a,A\n").contains("column 3 has a name that was there before"));
        let wide = error("phone,name\n+1,a\n+14155550100,a,b\n");
        assert_eq!(wide, "leads.csv line 3: has 3 fields where the header has 2");
        assert!(error("phone,name\n+1\n").contains("line 2: has 1 fields"));
        assert_eq!(error(b"phone,name\n+1,a\n+2,\xff\n"), "leads.csv line 3: column 2 is not UTF-8");
        let long = format!("phone,name\n+1,{}\n", "x".repeat(FIELD_MAX_BYTES + 1));
        assert!(error(long).contains("line 2: column 2 is longer than 8192 bytes"));
        assert!(error("phone\n".repeat(1) + &"x,".repeat(COLUMNS_MAX + 1)).contains("fields"));
    }

    #[test]
    fn a_quote_that_is_never_closed_is_found_early() {
        struct Endless<'a> {
            start: &'a [u8],
            given: usize,
        }
        impl Read for Endless<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.given += buffer.len();
                assert!(self.given < 10 * RECORD_MAX_BYTES, "read without bound");
                if self.start.is_empty() {
                    buffer.fill(b'x');
                    return Ok(buffer.len());
                }
                self.start.read(buffer)
            }
        }
        let inner = Endless { start: b"phone,name\n+1,a\n+2,\"", given: 0 };
        let error = Leads::new("leads.csv".into(), inner).unwrap().find_map(Result::err).unwrap();
        assert!(error.to_string().starts_with("leads.csv line 3: is longer than"), "{error}");
    }

    #[test]
    fn ends_after_an_error() {
        let mut leads = Leads::new("f".into(), "phone\n1,2\n3\n".as_bytes()).unwrap();
        assert!(leads.next().unwrap().is_err());
        assert!(leads.next().is_none());
    }

    #[test]
    fn the_example_is_sound() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/leads.csv");
        let rows: Vec<Row> = Leads::open(&path).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 500);
        let phones: BTreeSet<_> = rows
            .iter()
            .map(|row| row.facts.phone.parse::<crate::domain::Phone>().unwrap().expose().to_owned())
            .collect();
        assert_eq!(phones.len(), 500);
        for row in &rows {
            assert!(!row.facts.phone.starts_with("+1500555"));
            crate::domain::window::zone(&row.facts.time_zone).unwrap();
            assert!(attribute(row, "appointment").is_some());
        }
        let offsets = BTreeSet::from([0, 499]);
        assert_eq!(lines_at(&path, &offsets).unwrap(), [2, 501]);
        assert_eq!(count(&path).unwrap(), 500);
    }
}
