//! SQL written once for both databases.
//!
//! A [`Sql`] is standard SQL with `$n` parameters and five marks that are rendered per dialect:
//! - `{rows N alias: a uuid, b text, c bigint}`: a table made of the [`Rows`] given as parameter N.
//!   PostgreSQL gets one array a column (`unnest`), so the rows take parameters N, N+1, …; SQLite
//!   one JSON text. It must be the last parameter.
//! - `{any N uuid}` / `{any N text}`: the list given as parameter N, for use after a column name.
//! - `{for_update}`, `{for_update_skip_locked}`: row locks; SQLite has one writer and needs none.
//! - `{now}`: database time in microseconds since the Unix epoch.

use std::fmt::Write as _;
use std::sync::OnceLock;

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Type};
use uuid::Uuid;

use crate::store::{Error, Result};

/// Which SQL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

/// A statement, rendered once per dialect.
pub struct Sql {
    template: &'static str,
    sqlite: OnceLock<&'static str>,
    postgres: OnceLock<&'static str>,
}

impl Sql {
    /// A statement from its template.
    pub const fn new(template: &'static str) -> Self {
        Self { template, sqlite: OnceLock::new(), postgres: OnceLock::new() }
    }

    /// The text for `dialect`. Statements are statics, so each is leaked at most once.
    pub fn text(&self, dialect: Dialect) -> &'static str {
        let cell = match dialect {
            Dialect::Sqlite => &self.sqlite,
            Dialect::Postgres => &self.postgres,
        };
        cell.get_or_init(|| Box::leak(render(self.template, dialect).into_boxed_str()))
    }
}

/// A statement that registered itself: [`every_statement`] finds it.
pub struct Registered {
    /// Its name and where it stands.
    pub name: &'static str,
    /// Itself.
    pub sql: &'static Sql,
}

inventory::collect!(Registered);

/// Every statement that [`statement!`] defined, so that a test can have databases prepare them all.
pub fn every_statement() -> impl Iterator<Item = &'static Registered> {
    inventory::iter::<Registered>.into_iter()
}

/// Defines a static [`Sql`] and registers it.
macro_rules! statement {
    ($name:ident, $template:expr) => {
        static $name: $crate::store::db::sql::Sql = $crate::store::db::sql::Sql::new($template);
        inventory::submit! {
            $crate::store::db::sql::Registered {
                name: concat!(stringify!($name), " in ", module_path!()),
                sql: &$name,
            }
        }
    };
}
pub(in crate::store) use statement;

fn render(template: &str, dialect: Dialect) -> String {
    let mut out = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let (mark, tail) = after.split_once('}').unwrap_or((after, ""));
        render_mark(mark, dialect, &mut out);
        rest = tail;
    }
    out.push_str(rest);
    out
}

fn render_mark(mark: &str, dialect: Dialect, out: &mut String) {
    let mut words = mark.split_whitespace();
    let text = match (words.next().unwrap_or_default(), dialect) {
        ("for_update", Dialect::Postgres) => "FOR UPDATE".to_owned(),
        ("for_update_skip_locked", Dialect::Postgres) => "FOR UPDATE SKIP LOCKED".to_owned(),
        ("for_update" | "for_update_skip_locked", Dialect::Sqlite) => String::new(),
        ("now", Dialect::Postgres) => {
            "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint".to_owned()
        }
        ("now", Dialect::Sqlite) => "CAST(unixepoch('subsec') * 1000000 AS INTEGER)".to_owned(),
        ("any", Dialect::Postgres) => {
            format!(
                "= ANY(${}::{}[])",
                words.next().unwrap_or_default(),
                words.next().unwrap_or_default()
            )
        }
        ("any", Dialect::Sqlite) => {
            format!("IN (SELECT value FROM json_each(${}))", words.next().unwrap_or_default())
        }
        ("rows", _) => render_rows(mark, dialect),
        (unknown, _) => unreachable!("no such mark in a statement of ours: {unknown}"),
    };
    out.push_str(&text);
}

fn render_rows(mark: &str, dialect: Dialect) -> String {
    let (head, columns) = mark.split_once(':').unwrap_or((mark, ""));
    let mut head = head.split_whitespace().skip(1);
    let first: usize = head.next().and_then(|n| n.parse().ok()).unwrap_or(1);
    let alias = head.next().unwrap_or("r");
    let columns: Vec<(&str, &str)> =
        columns.split(',').filter_map(|column| column.trim().split_once(' ')).collect();
    let mut out = String::new();
    match dialect {
        Dialect::Postgres => {
            out.push_str("unnest(");
            for (i, (_, kind)) in columns.iter().enumerate() {
                let comma = if i == 0 { "" } else { ", " };
                let _ = write!(out, "{comma}${}::{kind}[]", first + i);
            }
            let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
            let _ = write!(out, ") AS {alias}({})", names.join(", "));
        }
        Dialect::Sqlite => {
            out.push_str("(SELECT ");
            for (i, (name, kind)) in columns.iter().enumerate() {
                let comma = if i == 0 { "" } else { ", " };
                // Without an affinity that fits the column's, `(a, b) IN` uses no more than a
                // prefix of an index.
                let kind = if matches!(*kind, "uuid" | "text") { "TEXT" } else { "INTEGER" };
                let _ = write!(out, "{comma}CAST(value ->> {i} AS {kind}) AS {name}");
            }
            let _ = write!(out, " FROM json_each(${first})) AS {alias}");
        }
    }
    out
}

/// A parameter.
#[derive(Debug, Clone)]
pub enum Value {
    /// Text or NULL.
    Text(Option<String>),
    /// An integer or NULL.
    Int(Option<i64>),
    /// A double.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A UUID or NULL.
    Uuid(Option<Uuid>),
    /// Bytes or NULL.
    Bytes(Option<Vec<u8>>),
    /// A list for `{any}`.
    Uuids(Vec<Uuid>),
    /// A list for `{any}`.
    Texts(Vec<String>),
    /// A table for `{rows}`.
    Rows(Rows),
}

macro_rules! value_from {
    ($($from:ty => |$v:ident| $to:expr;)+) => {
        $(impl From<$from> for Value {
            fn from($v: $from) -> Self { $to }
        })+
    };
}
value_from! {
    &str => |v| Self::Text(Some(v.to_owned()));
    String => |v| Self::Text(Some(v));
    Option<String> => |v| Self::Text(v);
    &crate::domain::TenantId => |v| Self::Text(Some(v.as_str().to_owned()));
    i64 => |v| Self::Int(Some(v));
    Option<i64> => |v| Self::Int(v);
    f64 => |v| Self::Float(v);
    bool => |v| Self::Bool(v);
    Uuid => |v| Self::Uuid(Some(v));
    Option<Uuid> => |v| Self::Uuid(v);
    Option<Vec<u8>> => |v| Self::Bytes(v);
    Vec<Uuid> => |v| Self::Uuids(v);
    Vec<String> => |v| Self::Texts(v);
    Rows => |v| Self::Rows(v);
    crate::domain::Timestamp => |v| Self::Int(Some(v.0));
    Option<crate::domain::Timestamp> => |v| Self::Int(v.map(|at| at.0));
}

/// Builds a parameter list.
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::store::db::sql::Value::from($value)),*] };
}
pub(in crate::store) use args;

/// A table of parameters, by column.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    columns: Vec<Column>,
}

/// One column of [`Rows`].
#[derive(Debug, Clone)]
pub enum Column {
    /// UUIDs.
    Uuid(Vec<Option<Uuid>>),
    /// Texts.
    Text(Vec<Option<String>>),
    /// Integers.
    Int(Vec<Option<i64>>),
    /// Truth values.
    Bool(Vec<bool>),
}

impl Rows {
    /// No columns yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a column of UUIDs.
    #[must_use]
    pub fn uuids(mut self, values: impl IntoIterator<Item = impl Into<Option<Uuid>>>) -> Self {
        self.columns.push(Column::Uuid(values.into_iter().map(Into::into).collect()));
        self
    }

    /// Adds a column of texts.
    #[must_use]
    pub fn texts(mut self, values: impl IntoIterator<Item = impl Into<Option<String>>>) -> Self {
        self.columns.push(Column::Text(values.into_iter().map(Into::into).collect()));
        self
    }

    /// Adds a column of integers.
    #[must_use]
    pub fn ints(mut self, values: impl IntoIterator<Item = impl Into<Option<i64>>>) -> Self {
        self.columns.push(Column::Int(values.into_iter().map(Into::into).collect()));
        self
    }

    /// Adds a column of truth values.
    #[must_use]
    pub fn bools(mut self, values: impl IntoIterator<Item = bool>) -> Self {
        self.columns.push(Column::Bool(values.into_iter().collect()));
        self
    }

    /// The columns, for PostgreSQL's arrays.
    pub fn into_columns(self) -> Vec<Column> {
        self.columns
    }

    /// A JSON array of rows, for SQLite's `json_each`.
    pub fn to_json(&self) -> String {
        let len = self.columns.first().map_or(0, Column::len);
        let mut out = String::with_capacity(len * self.columns.len() * CELL_BYTES + 2);
        out.push('[');
        for row in 0..len {
            out.push_str(if row == 0 { "[" } else { ",[" });
            for (i, column) in self.columns.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                column.write_json(row, &mut out);
            }
            out.push(']');
        }
        out.push(']');
        out
    }
}

/// About how long a cell is, in bytes: most are ids.
const CELL_BYTES: usize = 24;

impl Column {
    fn len(&self) -> usize {
        match self {
            Self::Uuid(values) => values.len(),
            Self::Text(values) => values.len(),
            Self::Int(values) => values.len(),
            Self::Bool(values) => values.len(),
        }
    }

    /// Straight into the text: a million rows would make as many trees of values first.
    fn write_json(&self, row: usize, out: &mut String) {
        let written = match self {
            Self::Uuid(values) => match values[row] {
                Some(id) => write!(out, "\"{id}\""),
                None => write!(out, "null"),
            },
            Self::Text(values) => match &values[row] {
                // A text is always JSON.
                Some(text) => write!(out, "{}", serde_json::to_string(text).unwrap_or_default()),
                None => write!(out, "null"),
            },
            Self::Int(values) => match values[row] {
                Some(number) => write!(out, "{number}"),
                None => write!(out, "null"),
            },
            Self::Bool(values) => write!(out, "{}", values[row]),
        };
        // Writing to a text cannot fail.
        debug_assert!(written.is_ok());
    }
}

/// A row of either database.
pub enum Row {
    /// SQLite's.
    Sqlite(SqliteRow),
    /// PostgreSQL's.
    Postgres(PgRow),
}

impl Row {
    fn get<T>(&self, column: &str) -> Result<T>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + Type<sqlx::Sqlite>,
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + Type<sqlx::Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
        .map_err(|error| Error::Internal(format!("column {column}: {error}")))
    }

    /// An integer.
    pub fn int(&self, column: &str) -> Result<i64> {
        self.get(column)
    }

    /// An integer or NULL.
    pub fn opt_int(&self, column: &str) -> Result<Option<i64>> {
        self.get(column)
    }

    /// An integer that fits the narrower type, which a CHECK or our own writes hold.
    pub fn narrow<T: TryFrom<i64>>(&self, column: &str) -> Result<T> {
        T::try_from(self.int(column)?)
            .map_err(|_| Error::Internal(format!("column {column} is out of range")))
    }

    /// A double.
    pub fn float(&self, column: &str) -> Result<f64> {
        self.get(column)
    }

    /// A truth value.
    pub fn bool(&self, column: &str) -> Result<bool> {
        self.get(column)
    }

    /// Text.
    pub fn text(&self, column: &str) -> Result<String> {
        self.get(column)
    }

    /// Text or NULL.
    pub fn opt_text(&self, column: &str) -> Result<Option<String>> {
        self.get(column)
    }

    /// Bytes or NULL.
    pub fn opt_bytes(&self, column: &str) -> Result<Option<Vec<u8>>> {
        self.get(column)
    }

    /// A UUID.
    pub fn uuid(&self, column: &str) -> Result<Uuid> {
        self.opt_uuid(column)?.ok_or_else(|| Error::Internal(format!("column {column} is null")))
    }

    /// A UUID or NULL. SQLite keeps UUIDs as text.
    pub fn opt_uuid(&self, column: &str) -> Result<Option<Uuid>> {
        match self {
            Self::Sqlite(_) => self
                .opt_text(column)?
                .map(|text| Uuid::try_parse(&text))
                .transpose()
                .map_err(|error| Error::Internal(format!("column {column}: {error}"))),
            Self::Postgres(row) => row
                .try_get(column)
                .map_err(|error| Error::Internal(format!("column {column}: {error}"))),
        }
    }

    /// A state by its word.
    pub fn word<T>(&self, column: &str, from_word: fn(&str) -> Option<T>) -> Result<T> {
        from_word(&self.text(column)?)
            .ok_or_else(|| Error::Internal(format!("column {column}: unknown word")))
    }

    /// A JSON value.
    pub fn json<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<T> {
        serde_json::from_str(&self.text(column)?)
            .map_err(|error| Error::Internal(format!("column {column}: {error}")))
    }
}

/// The JSON text of a value of ours.
pub fn to_json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Internal(format!("cannot encode: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_marks_per_dialect() {
        let sql = Sql::new(
            "UPDATE t SET b = r.b FROM {rows 2 r: a uuid, b text} WHERE t.a = r.a AND t.c {any 1 text}",
        );
        assert_eq!(
            sql.text(Dialect::Postgres),
            "UPDATE t SET b = r.b FROM unnest($2::uuid[], $3::text[]) AS r(a, b) WHERE t.a = r.a AND t.c = ANY($1::text[])"
        );
        assert_eq!(
            sql.text(Dialect::Sqlite),
            "UPDATE t SET b = r.b FROM (SELECT CAST(value ->> 0 AS TEXT) AS a, CAST(value ->> 1 AS TEXT) AS b \
             FROM json_each($2)) AS r WHERE t.a = r.a AND t.c IN (SELECT value FROM json_each($1))"
        );
    }

    #[test]
    fn rows_become_json() {
        let rows =
            Rows::new().texts([Some("a\"b".to_owned()), None]).ints([1, 2]).bools([true, false]);
        assert_eq!(rows.to_json(), r#"[["a\"b",1,true],[null,2,false]]"#);
    }
}
