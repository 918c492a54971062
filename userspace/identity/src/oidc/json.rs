//! JSON that means one thing: no member twice, and not deep.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Objects and arrays within each other. A token's claims take 3; [`types::identity::ACTORS_MAX`] actors 8 more.
pub(super) const DEPTH_MAX: usize = 16;

/// Why a text is no JSON to go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum JsonError {
    /// It is no JSON object.
    #[error("malformed")]
    Malformed,
    /// A member stands twice in one object: readers differ in which they take (RFC 8259 §4).
    #[error("duplicate_claim")]
    Duplicate,
    /// Over [`DEPTH_MAX`].
    #[error("too_deep")]
    TooDeep,
}

/// The object that a text is. Bound the text's length first.
///
/// # Errors
/// If it is none, has a member twice, or is too deep.
pub(super) fn object(text: &[u8]) -> Result<Map<String, Value>, JsonError> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let read = Depth(DEPTH_MAX).deserialize(&mut reader);
    let value = read.map_err(|error| reason(&error))?;
    reader.end().map_err(|_| JsonError::Malformed)?;
    let Value::Object(object) = value else { return Err(JsonError::Malformed) };
    Ok(object)
}

/// The library's errors are texts: ours come back out of them by how they begin.
fn reason(error: &serde_json::Error) -> JsonError {
    let text = error.to_string();
    if text.starts_with(DUPLICATE) {
        JsonError::Duplicate
    } else if text.starts_with(TOO_DEEP) {
        JsonError::TooDeep
    } else {
        JsonError::Malformed
    }
}

const DUPLICATE: &str = "duplicate member";
const TOO_DEEP: &str = "too deep";

/// How much deeper it may go.
#[derive(Clone, Copy)]
struct Depth(usize);

impl Depth {
    fn down<E: serde::de::Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom(TOO_DEEP))
    }
}

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Depth {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let below = self.down()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(below)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let below = self.down()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(DUPLICATE));
            }
            object.insert(name, members.next_value_seed(below)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_it_reads_is_what_the_library_reads() {
        let text = r#" {"a": [1, -2, 3.5, "\u00e9", null, true, {"b": {}}], "c": 18446744073709551615, "d": 1e400} "#;
        assert_eq!(object(text.as_bytes()), Err(JsonError::Malformed), "no number has that size");
        let text = text.replace("1e400", "1e4");
        let expected: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(Value::Object(object(text.as_bytes()).unwrap()), expected);
    }

    #[test]
    fn a_member_twice_is_refused_wherever_and_however_it_is_written() {
        for text in [
            r#"{"sub":"a","sub":"a"}"#,
            r#"{"sub":"a","s\u0075b":"b"}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":[{"b":1,"b":2}]}"#,
        ] {
            assert_eq!(object(text.as_bytes()), Err(JsonError::Duplicate), "{text}");
        }
        assert!(object(br#"{"a":{"b":1},"b":1}"#).is_ok());
    }

    #[test]
    fn depth_is_bounded() {
        let nested =
            |depth: usize| format!("{}{}", r#"{"a":"#.repeat(depth) + "1", "}".repeat(depth));
        assert!(object(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(object(nested(DEPTH_MAX + 1).as_bytes()), Err(JsonError::TooDeep));
        assert_eq!(object(nested(5_000).as_bytes()), Err(JsonError::TooDeep));
        assert_eq!(object(br#"{"a":["too deep"]"#), Err(JsonError::Malformed));
    }

    #[test]
    fn only_objects_are_read() {
        for text in ["", "1", "[]", "null", "{}{}", "{} x", "{\"a\":}", "\u{feff}{}", "{'a':1}"] {
            assert_eq!(object(text.as_bytes()), Err(JsonError::Malformed), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let library = serde_json::from_slice::<Value>(&bytes).ok();
            prop_assert!(object(&bytes).is_ok_and(|read| library == Some(Value::Object(read))) || object(&bytes).is_err());
        }
    }
}
