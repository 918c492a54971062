//! An issuer's public keys (RFC 7517): read once, kept decoded.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use super::http::{Http, HttpError};
use super::issuer::Algorithm;
use super::json;

/// A key set: 64 keys of 1 KiB with a certificate chain of 3 KiB each.
pub const KEYS_BYTES_MAX: usize = 256 * 1024;

/// Keys in a set: large issuers have 2 to 10.
pub const KEYS_MAX: usize = 64;

/// A key's id.
const KID_BYTES_MAX: usize = 256;

/// RSA moduli, in bytes: 2,048 to 8,192 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// A public key with the algorithms that it is for.
pub struct Key {
    family: Family,
    /// What the issuer says it is for; with none, any of its family.
    only: Option<Algorithm>,
    decoded: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("family", &self.family).finish_non_exhaustive()
    }
}

/// Kinds of keys (RFC 7518 §6.1, RFC 8037 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Rsa,
    P256,
    Ed25519,
}

impl Key {
    /// Whether it is for this algorithm.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        let family = match algorithm {
            Algorithm::Rs256 | Algorithm::Ps256 => Family::Rsa,
            Algorithm::Es256 => Family::P256,
            Algorithm::EdDsa => Family::Ed25519,
        };
        family == self.family && self.only.is_none_or(|only| only == algorithm)
    }

    /// Whether a signature (base64url, without padding) is this key's over a message.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &str) -> bool {
        let algorithm = match algorithm {
            Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::Ps256 => jsonwebtoken::Algorithm::PS256,
            Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        };
        jsonwebtoken::crypto::verify(signature, message, &self.decoded, algorithm).unwrap_or(false)
    }
}

/// Why there are no keys to go by.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// They can't be had.
    #[error("{}", .0.reason())]
    Http(#[from] HttpError),
    /// The document is no key set.
    #[error("keys_malformed")]
    Malformed,
    /// Over [`KEYS_MAX`].
    #[error("too_many_keys")]
    TooMany,
    /// Two keys have one id.
    #[error("duplicate_key")]
    Duplicate,
}

impl KeysError {
    /// The word for the record.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Http(error) => error.reason(),
            Self::Malformed => "keys_malformed",
            Self::TooMany => "too_many_keys",
            Self::Duplicate => "duplicate_key",
        }
    }
}

/// Keys by their ids.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: HashMap<String, Key>,
}

impl KeySet {
    /// The key with an id.
    pub fn get(&self, kid: &str) -> Option<&Key> {
        self.keys.get(kid)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Reads a key set. Keys that can't be used here (another type, another use, no id) are left out, as new
    /// kinds appear beside the old ones (RFC 7517 §5).
    ///
    /// # Errors
    /// If it is none, has too many keys, or two usable ones with one id.
    pub fn read(text: &[u8]) -> Result<Self, KeysError> {
        let document = json::object(text).map_err(|_| KeysError::Malformed)?;
        let Some(Value::Array(listed)) = document.get("keys") else {
            return Err(KeysError::Malformed);
        };
        if listed.len() > KEYS_MAX {
            return Err(KeysError::TooMany);
        }
        let mut keys = HashMap::new();
        for (kid, key) in listed.iter().filter_map(Value::as_object).filter_map(usable) {
            if keys.insert(kid, key).is_some() {
                return Err(KeysError::Duplicate);
            }
        }
        Ok(Self { keys })
    }
}

/// Fetches a key set.
pub(super) async fn fetch(url: &reqwest::Url, http: &Http) -> Result<KeySet, KeysError> {
    let answer = http.get(url, KEYS_BYTES_MAX).await?;
    if answer.status != 200 {
        return Err(HttpError::Status(answer.status).into());
    }
    KeySet::read(&answer.body)
}

/// A key that signatures can be verified with, and its id.
fn usable(jwk: &Map<String, Value>) -> Option<(String, Key)> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let kid = text("kid").filter(|kid| !kid.is_empty() && kid.len() <= KID_BYTES_MAX)?;
    if jwk.contains_key("use") && text("use") != Some("sig") {
        return None;
    }
    if let Some(operations) = jwk.get("key_ops")
        && !operations.as_array()?.iter().any(|operation| operation == "verify")
    {
        return None;
    }
    let only = match jwk.get("alg") {
        None => None,
        Some(name) => Some(Algorithm::named(name.as_str()?)?),
    };
    let (family, decoded) = match (text("kty")?, text("crv")) {
        ("RSA", _) => (Family::Rsa, rsa(text("n")?, text("e")?)?),
        ("EC", Some("P-256")) => (Family::P256, p256(text("x")?, text("y")?)?),
        ("OKP", Some("Ed25519")) => (Family::Ed25519, ed25519(text("x")?)?),
        _ => return None,
    };
    let key = Key { family, only, decoded };
    // An algorithm of another family makes it a key for nothing.
    only.is_none_or(|only| key.fits(only)).then(|| (kid.to_owned(), key))
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn rsa(n: &str, e: &str) -> Option<DecodingKey> {
    let modulus = bytes(n)?;
    let exponent = bytes(e)?;
    let is_sound = MODULUS_BYTES.contains(&modulus.len())
        && modulus.first().is_some_and(|first| *first != 0)
        && !exponent.is_empty()
        && exponent.len() <= 8;
    is_sound.then(|| DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

fn p256(x: &str, y: &str) -> Option<DecodingKey> {
    let is_sound = bytes(x)?.len() == 32 && bytes(y)?.len() == 32;
    is_sound.then(|| DecodingKey::from_ec_components(x, y).ok())?
}

fn ed25519(x: &str) -> Option<DecodingKey> {
    (bytes(x)?.len() == 32).then(|| DecodingKey::from_ed_components(x).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7515 appendix A.3 and RFC 8037 appendix A.2: public examples.
    const P256: &str = r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;
    const ED25519: &str =
        r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;

    #[track_caller]
    fn count(keys: &[String]) -> Result<usize, &'static str> {
        let text = format!(r#"{{"keys":[{}]}}"#, keys.join(","));
        KeySet::read(text.as_bytes()).map(|set| set.len()).map_err(|error| error.reason())
    }

    fn key(more: &str) -> String {
        format!("{{{more}}}")
    }

    #[test]
    fn usable_keys_are_kept_and_others_left_out() {
        let mut keys =
            vec![key(&format!(r#""kid":"a",{P256}"#)), key(&format!(r#""kid":"b",{ED25519}"#))];
        assert_eq!(count(&keys), Ok(2));
        for other in [
            P256.to_owned(),
            format!(r#""kid":"",{P256}"#),
            format!(r#""kid":"c","use":"enc",{P256}"#),
            format!(r#""kid":"c","key_ops":["encrypt"],{P256}"#),
            format!(r#""kid":"c","alg":"RS256",{P256}"#),
            format!(r#""kid":"c","alg":"HS256",{P256}"#),
            r#""kid":"c","kty":"oct","k":"c2VjcmV0""#.to_owned(),
            r#""kid":"c","kty":"RSA","n":"AQAB","e":"AQAB""#.to_owned(),
            r#""kid":"c","kty":"EC","crv":"P-256","x":"AA","y":"AA""#.to_owned(),
            r#""kid":"c","kty":"AKP""#.to_owned(),
        ] {
            keys.push(key(&other));
        }
        assert_eq!(count(&keys), Ok(2));
    }

    #[test]
    fn two_keys_of_one_id_and_too_many_are_refused() {
        let one = key(&format!(r#""kid":"a",{P256}"#));
        assert_eq!(
            count(&[one.clone(), key(&format!(r#""kid":"a",{ED25519}"#))]),
            Err("duplicate_key")
        );
        assert_eq!(count(&vec!["{}".to_owned(); KEYS_MAX + 1]), Err("too_many_keys"));
        assert_eq!(KeySet::read(b"{}").map_err(|e| e.reason()).unwrap_err(), "keys_malformed");
    }

    #[test]
    fn a_key_fits_its_own_algorithms_only() {
        let text = format!(r#"{{"keys":[{{"kid":"a",{P256}}}]}}"#);
        let set = KeySet::read(text.as_bytes()).unwrap();
        let key = set.get("a").unwrap();
        assert!(key.fits(Algorithm::Es256));
        for other in [Algorithm::Rs256, Algorithm::Ps256, Algorithm::EdDsa] {
            assert!(!key.fits(other));
        }
        // r and s of zero (CVE-2022-21449).
        assert!(!key.verifies(Algorithm::Es256, b"a", &URL_SAFE_NO_PAD.encode([0; 64])));
    }
}
