//! Whether what somebody gives for a secret is a token, before anybody believes a word of it.
//!
//! It is wider than what is verified: whatever some reader could take for a token is one here, so that it is refused
//! with a reason and not passed on as a password.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};
use types::secret::Secret;

/// Base64url as lax readers take it.
const LAX: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A secret that has a token's form: parts of base64url, of which the first is a JSON object that names an algorithm
/// (RFC 7515 §7.1; RFC 7516 §7.1 for one that is encrypted).
#[derive(Debug)]
pub struct Presented(Secret<String>);

impl Presented {
    /// The token that a secret is, without blanks around it; none where it has no token's form. The secret's length
    /// is the caller's to bound.
    pub fn read(secret: &Secret<Vec<u8>>) -> Option<Self> {
        let text = std::str::from_utf8(secret.expose()).ok()?.trim();
        let parts = text.split('.').count();
        let header = text.split('.').next()?;
        let has_form = matches!(parts, 3 | 5) && object(header)?.contains_key("alg");
        has_form.then(|| Self(Secret::new(text.to_owned())))
    }

    /// The token, not verified.
    pub fn token(&self) -> &Secret<String> {
        &self.0
    }

    /// Whether it says, or may say, that this issuer has issued it: anybody can.
    pub fn names(&self, issuer: &str) -> bool {
        let Some(payload) = self.0.expose().split('.').nth(1) else { return false };
        if let Some(claims) = object(payload) {
            return claims.get("iss").and_then(Value::as_str) == Some(issuer);
        }
        // No JSON to us; some reader may make sense of it.
        let Ok(payload) = LAX.decode(payload) else { return false };
        let payload = Secret::new(payload);
        payload.expose().windows(issuer.len().max(1)).any(|part| part == issuer.as_bytes())
    }
}

/// The JSON object that a part is; of members that stand twice the last.
fn object(part: &str) -> Option<Map<String, Value>> {
    let text = Secret::new(LAX.decode(part).ok()?);
    serde_json::from_slice(text.expose()).ok()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::*;

    const ISSUER: &str = "https://id.bank.example";

    fn part(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    fn read(text: &str) -> Option<Presented> {
        Presented::read(&Secret::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn what_any_reader_takes_for_a_token_is_one() {
        for header in [
            r#"{"alg":"RS256","kid":"1"}"#,
            r#"{"alg":"none"}"#,
            r#"{"alg":"RS256","alg":"none"}"#,
            r#"{"alg":7}"#,
            r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#,
        ] {
            for rest in ["e30.AA", "e30.", "..", "!.!", "a.b.c.d"] {
                let parts = rest.split('.').count();
                let token = format!("{}.{rest}", part(header));
                assert_eq!(read(&token).is_some(), matches!(parts, 2 | 4), "{token}");
            }
        }
        let token = format!("{}==.e30.AA", part(r#"{"alg":"ES256" }"#));
        assert!(read(&token).is_some() && read(&format!(" {token}\r\n")).is_some());
        assert_eq!(read(&format!("{token}\n")).unwrap().token().expose(), &token);
        assert!(!format!("{:?}", read(&token)).contains("e30"));
    }

    #[test]
    fn passwords_are_none() {
        for password in [
            "",
            "hunter2",
            "a.b.c",
            "..",
            "10.0.4.17",
            "md5a1b2c3",
            &format!("{}.e30", part(r#"{"alg":"ES256"}"#)),
            &format!("{}.e30.AA", part(r#"["alg"]"#)),
            &format!("{}.e30.AA", part(r#"{"algorithm":"x"}"#)),
        ] {
            assert!(read(password).is_none(), "{password}");
        }
        assert!(Presented::read(&Secret::new(vec![0xff, b'.', b'.'])).is_none());
    }

    #[test]
    fn an_issuer_is_found_where_some_reader_finds_it() {
        let token = |payload: &str| {
            read(&format!("{}.{}.AA", part(r#"{"alg":"ES256"}"#), part(payload))).unwrap()
        };
        assert!(token(&format!(r#"{{"iss":"{ISSUER}"}}"#)).names(ISSUER));
        assert!(token(r#"{"iss":"https:\/\/id.bank.example"}"#).names(ISSUER));
        assert!(token(&format!(r#"{{"iss":"x","iss":"{ISSUER}"}}"#)).names(ISSUER));
        let deep = "[".repeat(1000);
        assert!(token(&format!(r#"{{"iss":"{ISSUER}","x":{deep}"#)).names(ISSUER));
        assert!(!token(&format!(r#"{{"iss":"{ISSUER}/"}}"#)).names(ISSUER));
        assert!(!token(&format!(r#"{{"aud":"{ISSUER}"}}"#)).names(ISSUER));
        assert!(!token("{}").names(ISSUER));
    }

    proptest! {
        #[test]
        fn arbitrary_secrets_do_not_panic(secret in proptest::collection::vec(any::<u8>(), 0..300)) {
            let presented = Presented::read(&Secret::new(secret));
            prop_assert!(presented.is_none_or(|one| !one.names(ISSUER)));
        }

        #[test]
        fn arbitrary_parts_do_not_panic(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let payload = URL_SAFE_NO_PAD.encode(payload);
            let token = read(&format!("{}.{payload}.AA", part(r#"{"alg":"ES256"}"#)));
            prop_assert!(token.is_some_and(|one| !one.names(ISSUER)));
        }
    }
}
