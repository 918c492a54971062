//! A token in its compact form (RFC 7515 §3.1), taken apart and not yet believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::issuer::Algorithm;
use super::json;
use super::token::{Kind, TokenError};

/// A token. Those with 200 groups of 64 bytes each have 13 KiB; servers take headers of 8 to 16 KiB.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// What a header may not say: keys or certificates of its own, or rules that must be understood (RFC 7515 §4.1).
const REFUSED: [&str; 8] = ["jku", "x5u", "jwk", "x5c", "x5t", "x5t#S256", "crit", "b64"];

/// A token taken apart. Nothing in it is true before its signature was verified.
pub(super) struct Compact<'a> {
    /// What the header says.
    pub(super) header: Header,
    /// What the payload says.
    pub(super) claims: Map<String, Value>,
    /// What is signed.
    pub(super) message: &'a str,
    /// The signature, in base64url.
    pub(super) signature: &'a str,
}

/// A header that may be gone by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) key: String,
    pub(super) kind: Kind,
}

impl<'a> Compact<'a> {
    /// Takes a token apart: its size first, then its three parts, its header, its payload.
    pub(super) fn read(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLarge);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed)?;
        // A part too many is in the payload and no base64url.
        let header = Header::read(&json::object(&decode(header)?)?)?;
        let claims = json::object(&decode(payload)?)?;
        // An empty signature is read as none, which fits no algorithm.
        decode(signature)?;
        Ok(Self { header, claims, message, signature })
    }

    /// Who says that it has issued it.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }
}

impl Header {
    fn read(header: &Map<String, Value>) -> Result<Self, TokenError> {
        if REFUSED.iter().any(|name| header.contains_key(*name)) {
            return Err(TokenError::Header);
        }
        let text = |name: &str| match header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(TokenError::Header),
        };
        let algorithm = text("alg")?.ok_or(TokenError::Algorithm)?;
        let algorithm = Algorithm::named(algorithm).ok_or(TokenError::Algorithm)?;
        let kind = Kind::typed(text("typ")?).ok_or(TokenError::WrongKind)?;
        let key = text("kid")?.ok_or(TokenError::UnknownKey)?.to_owned();
        Ok(Self { algorithm, key, kind })
    }
}

/// Base64url without padding, whose unused bits are zero (RFC 7515 §2).
fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    #[track_caller]
    fn header(text: &str) -> Result<Header, TokenError> {
        Compact::read(&format!("{}.{}.AA", encoded(text), encoded("{}")))
            .map(|compact| compact.header)
    }

    #[test]
    fn a_header_says_algorithm_key_and_kind() {
        let read = header(r#"{"alg":"ES256","kid":"a","typ":"at+jwt","cty":"x"}"#).unwrap();
        let expected =
            Header { algorithm: Algorithm::Es256, key: "a".into(), kind: Kind::AccessToken };
        assert_eq!(read, expected);
    }

    #[test]
    fn headers_that_bring_keys_or_rules_are_refused() {
        for name in REFUSED {
            let text = format!(r#"{{"alg":"ES256","kid":"a","{name}":["x"]}}"#);
            assert_eq!(header(&text), Err(TokenError::Header), "{name}");
        }
        assert_eq!(header(r#"{"alg":["ES256"],"kid":"a"}"#), Err(TokenError::Header));
        assert_eq!(header(r#"{"alg":"none","kid":"a"}"#), Err(TokenError::Algorithm));
        assert_eq!(header(r#"{"kid":"a"}"#), Err(TokenError::Algorithm));
        assert_eq!(header(r#"{"alg":"ES256"}"#), Err(TokenError::UnknownKey));
        assert_eq!(
            header(r#"{"alg":"ES256","kid":"a","typ":"dpop+jwt"}"#),
            Err(TokenError::WrongKind)
        );
        assert_eq!(header(r#"{"alg":"ES256","kid":"a","kid":"b"}"#), Err(TokenError::Duplicate));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let (header, payload) = (encoded(r#"{"alg":"ES256","kid":"a"}"#), encoded("{}"));
        for token in [
            String::new(),
            "..".to_owned(),
            "a.b".to_owned(),
            format!("{header}.{payload}"),
            format!("{header}.{payload}.AA.AA"),
            format!("{header}=.{payload}.AA"),
            format!("{header}.{payload}.AA=="),
            format!("{header}.{payload}.AB"),
            format!("{header}.{payload}.A\n"),
            format!(" {header}.{payload}.AA"),
            format!("{header}.{payload}.+/"),
            format!("{header}.{}.AA", encoded("[]")),
        ] {
            let refused = Compact::read(&token).map(|_| ()).unwrap_err();
            assert_eq!(refused, TokenError::Malformed, "{token}");
        }
        let long = "a".repeat(TOKEN_BYTES_MAX + 1);
        assert_eq!(Compact::read(&long).map(|_| ()), Err(TokenError::TooLarge));
    }

    proptest! {
        #[test]
        fn arbitrary_text_does_not_panic(text in ".{0,300}") {
            prop_assert!(Compact::read(&text).is_err());
        }

        #[test]
        fn arbitrary_parts_do_not_panic(
            header in proptest::collection::vec(any::<u8>(), 0..100),
            payload in proptest::collection::vec(any::<u8>(), 0..100),
            signature in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            let sound = encoded(r#"{"alg":"ES256","kid":"a"}"#);
            for header in [part(&header), sound] {
                let token = format!("{header}.{}.{}", part(&payload), part(&signature));
                let claims = Compact::read(&token).ok().map(|compact| compact.claims);
                // What is read is what stands there.
                prop_assert!(claims.is_none_or(|claims| serde_json::to_value(&claims).ok() == serde_json::from_slice(&payload).ok()));
            }
        }
    }
}
