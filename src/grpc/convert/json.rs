//! `google.protobuf.Struct` and JSON objects. Numbers are doubles on the wire; whole ones stay
//! whole in JSON.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde_json::{Map, Number, Value};

use crate::domain::Violation;

/// How deep objects and lists may nest.
const DEPTH_MAX: usize = 32;
/// Up to here every whole double is an exact integer: 2^53.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// An object from the wire, at most `max_bytes` of JSON.
pub(in crate::grpc) fn read(
    field: &str,
    from: Struct,
    max_bytes: usize,
) -> Result<Map<String, Value>, Violation> {
    let object = read_object(field, from, DEPTH_MAX)?;
    let size = serde_json::to_vec(&object).map_or(usize::MAX, |json| json.len());
    if size > max_bytes {
        return Err(Violation::new(field, format!("is larger than {max_bytes} bytes of JSON")));
    }
    Ok(object)
}

fn read_object(field: &str, from: Struct, depth: usize) -> Result<Map<String, Value>, Violation> {
    let value = |(key, value)| Ok((key, read_value(field, value, depth)?));
    from.fields.into_iter().map(value).collect()
}

fn read_value(field: &str, from: prost_types::Value, depth: usize) -> Result<Value, Violation> {
    let Some(inner) = depth.checked_sub(1) else {
        return Err(Violation::new(field, format!("is nested deeper than {DEPTH_MAX} levels")));
    };
    match from.kind {
        None | Some(Kind::NullValue(_)) => Ok(Value::Null),
        Some(Kind::BoolValue(value)) => Ok(Value::Bool(value)),
        Some(Kind::StringValue(value)) => Ok(Value::String(value)),
        Some(Kind::NumberValue(value)) => number(value)
            .map(Value::Number)
            .ok_or_else(|| Violation::new(field, "must not hold NaN or infinite numbers")),
        Some(Kind::StructValue(value)) => read_object(field, value, inner).map(Value::Object),
        Some(Kind::ListValue(list)) => {
            let items = list.values.into_iter().map(|value| read_value(field, value, inner));
            items.collect::<Result<_, _>>().map(Value::Array)
        }
    }
}

fn number(value: f64) -> Option<Number> {
    if value.fract() == 0.0
        && value.abs() < EXACT_MAX
        && !(value == 0.0 && value.is_sign_negative())
    {
        #[allow(clippy::cast_possible_truncation)] // Whole and below 2^53.
        return Some(Number::from(value as i64));
    }
    Number::from_f64(value)
}

/// An object for the wire; absent if it is empty.
pub(in crate::grpc) fn write(object: Map<String, Value>) -> Option<Struct> {
    (!object.is_empty()).then(|| write_object(object))
}

fn write_object(object: Map<String, Value>) -> Struct {
    Struct { fields: object.into_iter().map(|(key, value)| (key, write_value(value))).collect() }
}

fn write_value(value: Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or_default()),
        Value::String(value) => Kind::StringValue(value),
        Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.into_iter().map(write_value).collect() })
        }
        Value::Object(object) => Kind::StructValue(write_object(object)),
    };
    prost_types::Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i32>().prop_map(Value::from),
            (-1e9f64..1e9).prop_map(|f| Value::Number(number(f).unwrap())),
            "\\PC{0,10}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                prop::collection::btree_map("[a-z]{1,5}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn objects_round_trip(map in prop::collection::btree_map("[a-z]{1,5}", any_value(), 1..6)) {
            let object: Map<String, Value> = map.into_iter().collect();
            let wire = write(object.clone()).unwrap();
            prop_assert_eq!(read("metadata", wire, usize::MAX).unwrap(), object);
        }
    }

    fn of(kind: Kind) -> Struct {
        Struct { fields: [("a".to_owned(), prost_types::Value { kind: Some(kind) })].into() }
    }

    #[test]
    fn depth_size_and_numbers_are_bounded() {
        let mut deep = of(Kind::BoolValue(true));
        for _ in 0..DEPTH_MAX - 1 {
            deep = of(Kind::StructValue(deep));
        }
        assert!(read("m", deep.clone(), 1_000).is_ok());
        assert!(read("m", of(Kind::StructValue(deep)), 1_000).is_err());
        assert!(read("m", of(Kind::NumberValue(f64::NAN)), 1_000).is_err());
        assert!(read("m", of(Kind::StringValue("x".repeat(100))), 100).is_err());
        assert_eq!(read("m", of(Kind::NumberValue(5.0)), 100).unwrap()["a"].to_string(), "5");
    }
}
