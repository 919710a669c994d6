//! Lead files: CSV in, one record at a time, so that memory stays flat whatever the size of the
//! file.
//!
//! The header row names the columns. `phone` is required; `name`, `time_zone`, `region` (ISO 3166-1
//! alpha-2, for national phones) and `tags` (separated by `|`) are known; every other column
//! becomes an attribute of the lead, where it is not empty. A file that names them otherwise is
//! read through a [`Map`]. A byte order mark, CRLF and quoted fields are fine.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use csv::{ByteRecord, ErrorKind, ReaderBuilder, Terminator};
use prost_types::value::Kind;

use crate::domain::lead::ATTRIBUTES_MAX_BYTES;
use crate::grpc::pb;

/// The most columns in a file.
const COLUMNS_MAX: usize = 256;
/// The longest field, in bytes: no lead can carry more.
const FIELD_MAX_BYTES: usize = ATTRIBUTES_MAX_BYTES;
/// The longest record, in bytes. A quote that is never closed would otherwise read the file into
/// memory.
const RECORD_MAX_BYTES: usize = 64 * 1_024;
/// What is read from the file at a time, in bytes.
const BUFFER_BYTES: usize = 64 * 1_024;

/// A lead file that cannot be used. Never contains what is in the file.
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
    Tags,
    Attribute(String),
}

/// The fields that a column can be, besides attributes.
const FIELDS: [&str; 5] = ["phone", "name", "time_zone", "region", "tags"];

/// A field, and what the file calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    field: &'static str,
    /// In lower case.
    column: String,
}

/// Reads `FIELD=COLUMN`.
pub fn mapping(text: &str) -> Result<Map, String> {
    let (field, column) = text.split_once('=').ok_or("must be FIELD=COLUMN")?;
    let field = FIELDS.into_iter().find(|known| *known == field);
    let field = field.ok_or_else(|| format!("FIELD must be one of {}", FIELDS.join(", ")))?;
    let column = column.trim().to_ascii_lowercase();
    if column.is_empty() { Err("COLUMN is empty".into()) } else { Ok(Map { field, column }) }
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
    /// Bytes read so far.
    total: u64,
    /// The last of them.
    last: u8,
}

impl<R> Bounded<R> {
    const fn new(inner: R) -> Self {
        Self { inner, budget: RECORD_MAX_BYTES + BUFFER_BYTES, total: 0, last: b'\n' }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.budget);
        if most == 0 && !buffer.is_empty() {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let count = self.inner.read(&mut buffer[..most])?;
        self.budget -= count;
        self.total += count as u64;
        if let Some(last) = buffer[..count].last() {
            self.last = *last;
        }
        Ok(count)
    }
}

impl Leads<File> {
    /// Opens `path` and reads its header row; `maps` say what it calls its columns.
    pub fn open(path: &Path, maps: &[Map]) -> Result<Self, Error> {
        let file = path.display().to_string();
        match File::open(path) {
            Ok(inner) => Self::new(file, inner, maps),
            Err(source) => Err(Error::Io { file, source }),
        }
    }
}

impl<R: Read> Leads<R> {
    /// Reads the header row of `inner`, which is called `file` in messages.
    pub fn new(file: String, inner: R, maps: &[Map]) -> Result<Self, Error> {
        // Records end with LF alone, because the crate's own CRLF mode loses count of the lines;
        // the CR before it is trimmed with the last field. Widths are checked here, for the same
        // reason.
        let mut reader = ReaderBuilder::new()
            .terminator(Terminator::Any(b'\n'))
            .flexible(true)
            .buffer_capacity(BUFFER_BYTES)
            .from_reader(Bounded::new(inner));
        let header = match reader.byte_headers() {
            Ok(header) => header.clone(),
            Err(error) => return Err(located(&file, 1, error)),
        };
        let columns = columns(&header, maps)
            .map_err(|reason| Error::Header { file: file.clone(), reason })?;
        Ok(Self { file, reader, columns, record: ByteRecord::new(), failed: false })
    }

    fn read(&mut self) -> Result<Option<Row>, Error> {
        loop {
            self.reader.get_mut().budget = RECORD_MAX_BYTES + BUFFER_BYTES;
            let line = self.reader.position().line();
            match self.reader.read_byte_record(&mut self.record) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => return Err(located(&self.file, line, error)),
            }
            if self.record.len() == 1 && self.record[0].trim_ascii().is_empty() {
                continue;
            }
            let line = self.first_line();
            let facts = facts(&self.columns, &self.record).map_err(|reason| Error::Record {
                file: self.file.clone(),
                line,
                reason,
            })?;
            return Ok(Some(Row { line, facts }));
        }
    }

    /// Where the record just read begins: counted back from its end, because the crate's own
    /// position is that of the blank lines before it.
    fn first_line(&self) -> u64 {
        let end = self.reader.position();
        let bounded = self.reader.get_ref();
        let open_ended = end.byte() == bounded.total && bounded.last != b'\n';
        let inside = self.record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
        end.line().saturating_sub(inside + u64::from(!open_ended))
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

/// Reads the whole file and counts its records, so that a broken one is refused before anything is
/// sent.
pub fn count(path: &Path, maps: &[Map]) -> Result<u64, Error> {
    let mut count = 0;
    for row in Leads::open(path, maps)? {
        row?;
        count += 1;
    }
    Ok(count)
}

/// The lines of the records at `offsets`, counted from 0, in order.
pub fn lines_at(path: &Path, maps: &[Map], offsets: &BTreeSet<u64>) -> Result<Vec<u64>, Error> {
    let mut lines = Vec::with_capacity(offsets.len());
    for (offset, row) in (0u64..).zip(Leads::open(path, maps)?) {
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

fn columns(header: &ByteRecord, maps: &[Map]) -> Result<Vec<Column>, String> {
    if header.len() > COLUMNS_MAX {
        return Err(format!("has more than {COLUMNS_MAX} columns"));
    }
    let mut seen = BTreeSet::new();
    let mut columns = Vec::with_capacity(header.len());
    for (position, name) in (1..).zip(header) {
        let name = std::str::from_utf8(name)
            .map_err(|_| format!("column {position} is not UTF-8"))?
            .trim();
        if name.is_empty() {
            return Err(format!("column {position} has no name"));
        }
        let lower = name.to_ascii_lowercase();
        if !seen.insert(lower.clone()) {
            return Err(format!("column {position} has a name that was there before"));
        }
        let mapped = maps.iter().find(|map| map.column == lower).map(|map| map.field);
        // A field that another column was named for is not this column's by its name.
        let by_name = FIELDS.into_iter().find(|field| *field == lower);
        let by_name = by_name.filter(|field| maps.iter().all(|map| map.field != *field));
        columns.push(match mapped.or(by_name) {
            Some("phone") => Column::Phone,
            Some("name") => Column::Name,
            Some("time_zone") => Column::TimeZone,
            Some("region") => Column::Region,
            Some("tags") => Column::Tags,
            Some(_) | None => Column::Attribute(name.to_owned()),
        });
    }
    if let Some(map) = maps.iter().find(|map| !seen.contains(&map.column)) {
        return Err(format!("has no column for {}: --map names one that is not there", map.field));
    }
    if columns.iter().any(|column| matches!(column, Column::Phone)) {
        Ok(columns)
    } else {
        Err("has no column \"phone\": the first line must name the columns".into())
    }
}

fn facts(columns: &[Column], record: &ByteRecord) -> Result<pb::LeadFacts, String> {
    if record.len() != columns.len() {
        return Err(format!("has {} fields where the header has {}", record.len(), columns.len()));
    }
    let mut facts = pb::LeadFacts::default();
    let mut attributes = prost_types::Struct::default();
    for (position, (column, field)) in (1..).zip(columns.iter().zip(record)) {
        if field.len() > FIELD_MAX_BYTES {
            return Err(format!("column {position} is longer than {FIELD_MAX_BYTES} bytes"));
        }
        let text = std::str::from_utf8(field)
            .map_err(|_| format!("column {position} is not UTF-8"))?
            .trim();
        match column {
            Column::Phone => text.clone_into(&mut facts.phone),
            Column::Name => text.clone_into(&mut facts.name),
            Column::TimeZone => text.clone_into(&mut facts.time_zone),
            Column::Region => text.clone_into(&mut facts.default_region),
            Column::Tags => {
                let tags = text.split('|').map(str::trim).filter(|tag| !tag.is_empty());
                facts.tags.extend(tags.map(str::to_owned));
            }
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
    match error.into_kind() {
        ErrorKind::Io(source) if source.kind() == io::ErrorKind::FileTooLarge => {
            let reason =
                format!("is longer than {RECORD_MAX_BYTES} bytes; is a quote never closed?");
            Error::Record { file, line, reason }
        }
        ErrorKind::Io(source) => Error::Io { file, source },
        _ => Error::Record { file, line, reason: "is not CSV".into() },
    }
}
