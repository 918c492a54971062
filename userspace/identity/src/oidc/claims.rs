//! Claims, read with their bounds: what has the wrong type is refused, never left out.

use std::sync::Arc;

use serde_json::{Map, Value};
use types::identity::GROUPS_MAX;

use super::issuer::ClaimPath;
use super::token::TokenError;

/// A subject (OpenID Connect Core 1.0 §2: 255 ASCII characters at most), and any other text.
pub(super) const TEXT_BYTES_MAX: usize = 255;

/// An issuer or an audience: a URL.
const URL_BYTES_MAX: usize = 2048;

/// Audiences, authentication methods.
const LIST_MAX: usize = 64;

/// The claims of one token.
#[derive(Clone, Copy)]
pub(super) struct Claims<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Claims<'a> {
    /// A claim's value; `null` is as good as none.
    pub(super) fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text that may be missing: not empty, nothing but printable characters.
    pub(super) fn text(self, name: &str) -> Result<Option<&'a str>, TokenError> {
        self.get(name).map(|value| sound(value, TEXT_BYTES_MAX)).transpose()
    }

    /// A URL that must be there.
    pub(super) fn url(self, name: &str) -> Result<&'a str, TokenError> {
        let value = self.get(name).ok_or(TokenError::MissingClaim)?;
        sound(value, URL_BYTES_MAX)
    }

    /// Seconds since 1970 that may be missing; fractions are cut (RFC 7519 §2, NumericDate).
    pub(super) fn time(self, name: &str) -> Result<Option<i64>, TokenError> {
        // The year 9999: beyond it nothing is meant.
        const LATEST: f64 = 253_402_300_800.0;
        let Some(value) = self.get(name) else { return Ok(None) };
        let seconds = value.as_f64().ok_or(TokenError::Malformed)?;
        if !(0.0..LATEST).contains(&seconds) {
            return Err(TokenError::Malformed);
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "between 0 and the year 9999; fractions are cut"
        )]
        let seconds = seconds as i64;
        Ok(Some(seconds))
    }

    /// One text or a list of them; none if missing.
    pub(super) fn texts(self, name: &str) -> Result<Vec<Arc<str>>, TokenError> {
        let mut found = Vec::new();
        if let Some(value) = self.get(name) {
            collect(value, &[], LIST_MAX, &mut found)?;
        }
        Ok(found)
    }

    /// The texts at a path; objects in lists on the way are looked into. None if there is nothing.
    pub(super) fn groups(self, path: &ClaimPath) -> Result<Vec<Arc<str>>, TokenError> {
        let mut found = Vec::new();
        if let [first, rest @ ..] = path.0.as_slice()
            && let Some(value) = self.get(first)
        {
            collect(value, rest, GROUPS_MAX, &mut found)?;
        }
        Ok(found)
    }

    /// Whether there is anything at a path, an empty list included.
    pub(super) fn has(self, path: &ClaimPath) -> bool {
        let [first, rest @ ..] = path.0.as_slice() else { return false };
        self.get(first).is_some_and(|value| reaches(value, rest))
    }

    /// The text at a path; none if there is none, or more than one.
    pub(super) fn name(self, path: &ClaimPath) -> Result<Option<Arc<str>>, TokenError> {
        let mut found = self.groups(path)?;
        Ok(if found.len() == 1 { found.pop() } else { None })
    }
}

fn sound(value: &Value, bytes_max: usize) -> Result<&str, TokenError> {
    let text = value.as_str().ok_or(TokenError::Malformed)?;
    let is_sound =
        !text.is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control);
    is_sound.then_some(text).ok_or(TokenError::Malformed)
}

/// Whether a path goes on in a value; lists on the way are something.
fn reaches(value: &Value, path: &[String]) -> bool {
    match (value, path) {
        (Value::Object(object), [first, rest @ ..]) => {
            object.get(first).is_some_and(|value| !value.is_null() && reaches(value, rest))
        }
        _ => true,
    }
}

/// Goes down a path, and down no further than the text's own depth.
fn collect(
    value: &Value,
    path: &[String],
    max: usize,
    found: &mut Vec<Arc<str>>,
) -> Result<(), TokenError> {
    match (value, path) {
        (Value::Array(items), _) => {
            items.iter().try_for_each(|item| collect(item, path, max, found))
        }
        (Value::Object(object), [first, rest @ ..]) => match object.get(first) {
            Some(value) if !value.is_null() => collect(value, rest, max, found),
            _ => Ok(()),
        },
        (Value::String(_), []) => {
            if found.len() == max {
                return Err(TokenError::TooMany);
            }
            found.push(sound(value, URL_BYTES_MAX)?.into());
            Ok(())
        }
        _ => Err(TokenError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    #[track_caller]
    fn groups(text: &str, path: &str) -> Result<Vec<String>, TokenError> {
        let object = json::object(text.as_bytes()).unwrap();
        let found = Claims(&object).groups(&ClaimPath::parse(path))?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn groups_are_found_by_name_and_by_path() {
        for (text, path) in [
            (r#"{"groups":["a","b"]}"#, "groups"),
            (r#"{"realm_access":{"roles":["a","b"]}}"#, "realm_access.roles"),
            (r#"{"r":[{"name":"a"},{"name":"b"},{"id":1}]}"#, "r.name"),
            (r#"{"https://bank.example/g":["a","b"]}"#, "https://bank.example/g"),
        ] {
            assert_eq!(groups(text, path).unwrap(), ["a", "b"], "{text}");
        }
        assert_eq!(groups(r#"{"groups":"a b"}"#, "groups").unwrap(), ["a b"]);
        for text in ["{}", r#"{"groups":null}"#, r#"{"groups":[]}"#] {
            assert!(groups(text, "groups").unwrap().is_empty(), "{text}");
        }
    }

    #[test]
    fn groups_of_another_type_are_refused() {
        for text in [
            r#"{"g":1}"#,
            r#"{"g":[1]}"#,
            r#"{"g":[""]}"#,
            r#"{"g":{"a":"b"}}"#,
            r#"{"g":["a\u0000"]}"#,
        ] {
            assert_eq!(groups(text, "g"), Err(TokenError::Malformed), "{text}");
        }
        let many = format!(r#"{{"g":[{}]}}"#, vec!["\"a\""; GROUPS_MAX + 1].join(","));
        assert_eq!(groups(&many, "g"), Err(TokenError::TooMany));
    }

    #[test]
    fn times_are_numbers_of_seconds() {
        let time = |text: &str| {
            let object = json::object(format!(r#"{{"t":{text}}}"#).as_bytes()).unwrap();
            Claims(&object).time("t")
        };
        assert_eq!(time("1.9"), Ok(Some(1)));
        assert_eq!(time("253402300799"), Ok(Some(253_402_300_799)));
        assert_eq!(time("null"), Ok(None));
        for wrong in ["-1", "1e300", "\"1\"", "true", "[1]", "18446744073709551615"] {
            assert_eq!(time(wrong), Err(TokenError::Malformed), "{wrong}");
        }
    }
}
