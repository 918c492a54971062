//! What a vault answers (HashiCorp Vault HTTP API: KV secrets engine version 2, AppRole).

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use types::secret::Secret;

/// The answer to `GET /v1/MOUNT/data/PATH`.
#[derive(Deserialize)]
pub(super) struct Read {
    /// Seconds for which it is good; 0 where the engine has no leases.
    #[serde(default)]
    pub(super) lease_duration: u64,
    /// One version of a secret.
    pub(super) data: Version,
}

/// One version of a secret.
#[derive(Deserialize)]
pub(super) struct Version {
    /// Its fields; none where the version is deleted.
    pub(super) data: Option<Fields>,
    /// What is known of it.
    pub(super) metadata: Metadata,
}

/// What is known of a version.
#[derive(Deserialize)]
pub(super) struct Metadata {
    /// Its number, from 1.
    pub(super) version: u64,
}

/// The answer to a login.
#[derive(Deserialize)]
pub(super) struct Login {
    /// The token.
    pub(super) auth: Auth,
}

/// A token.
#[derive(Deserialize)]
pub(super) struct Auth {
    /// The token itself.
    pub(super) client_token: Text,
    /// Seconds for which it is good; 0 for ever.
    #[serde(default)]
    pub(super) lease_duration: u64,
}

/// A text that is a secret; none where the value is no text.
pub(super) struct Text(pub(super) Option<Secret<Vec<u8>>>);

/// A secret's fields.
pub(super) struct Fields(Vec<(String, Text)>);

/// Fields of one secret that are kept while it is read.
const FIELDS_MAX: usize = 256;

impl Fields {
    /// Takes a field that is a text out.
    pub(super) fn take(self, key: &str) -> Option<Secret<Vec<u8>>> {
        self.0.into_iter().find(|(name, _)| name == key).and_then(|(_, text)| text.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text(Some(Secret::new(text.as_bytes().to_vec()))))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_unit<E>(self) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Text, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Text, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret's fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Fields, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = entries.next_entry::<String, Text>()? {
            if fields.len() >= FIELDS_MAX {
                return Err(serde::de::Error::custom("more than 256 fields"));
            }
            fields.push(field);
        }
        Ok(Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_and_others_may_be_anything() {
        let answer = r#"{"request_id":"x","lease_id":"","lease_duration":0,"data":{"data":
            {"n":1,"f":1.5,"t":true,"z":null,"l":[{"a":1}],"m":{"b":[2]},"password":"p\u00e9\"x"},
            "metadata":{"version":7,"deletion_time":""}},"auth":null}"#;
        for (key, text) in [("password", Some("pé\"x")), ("n", None), ("m", None), ("no", None)] {
            let read: Read = serde_json::from_str(answer).unwrap();
            assert_eq!((read.data.metadata.version, read.lease_duration), (7, 0));
            let found = read.data.data.unwrap().take(key);
            assert_eq!(found.map(|s| s.expose().clone()), text.map(|t| t.as_bytes().to_vec()));
        }
    }

    #[test]
    fn a_deleted_version_has_no_fields() {
        let answer = r#"{"data":{"data":null,"metadata":{"version":2,"deletion_time":"x"}}}"#;
        assert!(serde_json::from_str::<Read>(answer).unwrap().data.data.is_none());
    }

    #[test]
    fn a_token_is_read() {
        let answer = r#"{"auth":{"client_token":"s.abc","lease_duration":1200,"policies":[]}}"#;
        let Login { auth } = serde_json::from_str(answer).unwrap();
        assert_eq!(auth.client_token.0.unwrap().expose(), b"s.abc");
        assert_eq!(auth.lease_duration, 1200);
    }
}
