//! Between the wire and the domain. What comes in is checked, and a violation names the field as
//! the proto does; what goes out cannot fail.

pub(super) mod account;
mod amd;
pub(super) mod call;
mod cap;
pub(super) mod event;
pub(super) mod forecast;
pub(super) mod job;
pub(super) mod json;
pub(super) mod key;
pub(super) mod lead;
pub(super) mod maintain;
pub(super) mod run;
pub(super) mod script;
pub(super) mod suppression;
pub(super) mod tenant;
pub(super) mod time;
pub(super) mod transfer;
pub(super) mod webhook;

use std::str::FromStr;

use crate::domain::Violation;

/// `text` as an id of type `T`; a violation names `field`.
pub(super) fn id<T: FromStr<Err = Violation>>(field: &str, text: &str) -> Result<T, Violation> {
    text.parse().map_err(|violation: Violation| Violation::new(field, violation.reason))
}

/// The value of a oneof or message that must be there.
pub(super) fn required<T>(field: &str, value: Option<T>) -> Result<T, Violation> {
    value.ok_or_else(|| Violation::new(field, "is required"))
}

/// Empty text, on the wire, is no text.
pub(super) fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// The fields that a mask names, each once; none named, or others than there are, is refused.
pub(super) fn masked<F: Ord>(
    mask: Option<prost_types::FieldMask>,
    most: usize,
    read: impl Fn(&str) -> Option<F>,
    not_a_field: &str,
) -> Result<Vec<F>, Violation> {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    if paths.is_empty() {
        return Err(Violation::new("update_mask", "is required"));
    }
    if paths.len() > most {
        return Err(Violation::new("update_mask", "names more fields than there are"));
    }
    let field = |(i, path): (usize, &String)| {
        read(path).ok_or_else(|| Violation::new(format!("update_mask.paths[{i}]"), not_a_field))
    };
    let mut fields: Vec<F> = paths.iter().enumerate().map(field).collect::<Result<_, _>>()?;
    fields.sort_unstable();
    fields.dedup();
    Ok(fields)
}

/// The revision that an etag stands for; none for an empty one.
pub(super) fn etag(text: &str) -> Result<Option<i64>, Violation> {
    let wrong = |_| Violation::new("etag", "is not an etag of this server");
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(wrong) }
}

/// The enum values of a repeated field; unset and unknown ones are refused.
pub(super) fn each<T>(
    field: &str,
    values: &[i32],
    read: impl Fn(i32) -> Option<T>,
) -> Result<Vec<T>, Violation> {
    let named = |(i, value): (usize, &i32)| {
        read(*value).ok_or_else(|| Violation::new(format!("{field}[{i}]"), "is not a known value"))
    };
    values.iter().enumerate().map(named).collect()
}

/// Maps a domain enum to its proto twin and back, each way exhaustive over the domain's values.
macro_rules! enum_pairs {
    ($to:ident, $from:ident: $domain:path => $proto:path { $($value:ident),+ $(,)? }) => {
        /// The wire's word for it.
        pub(in crate::grpc) fn $to(value: $domain) -> i32 {
            use $domain as D;
            use $proto as P;
            match value { $(D::$value => P::$value as i32,)+ }
        }

        /// What the wire's word stands for; none if it is unset or unknown.
        #[allow(dead_code)] // Not every enum comes in.
        pub(in crate::grpc) fn $from(value: i32) -> Option<$domain> {
            use $domain as D;
            use $proto as P;
            match P::try_from(value).ok()? {
                P::Unspecified => None,
                $(P::$value => Some(D::$value),)+
            }
        }
    };
}
pub(super) use enum_pairs;
