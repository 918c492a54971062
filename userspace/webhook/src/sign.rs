//! Signatures as Standard Webhooks have them (standardwebhooks.com, version 1.0.0): HMAC-SHA256 over
//! `id.timestamp.body`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use types::secret::Secret;

/// What a key has at least, in bytes: 192 bits, as the specification says.
const BYTES_MIN: usize = 24;

/// How keys begin that are written in base64.
const PREFIX: &[u8] = b"whsec_";

/// A key that a receiver has, too.
#[derive(Clone, Debug)]
pub struct Key(Secret<Vec<u8>>);

/// Why a secret is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It begins as base64 does and is none.
    #[error("what follows whsec_ is no base64")]
    Base64,
    /// It is guessed too easily.
    #[error("a signing secret has at least {BYTES_MIN} bytes")]
    Short,
}

impl Key {
    /// Reads a secret: `whsec_` and base64, or any bytes.
    ///
    /// # Errors
    /// If it is too short, or no base64.
    pub fn parse(secret: &Secret<Vec<u8>>) -> Result<Self, KeyError> {
        let text = secret.expose().trim_ascii_end();
        let bytes = match text.strip_prefix(PREFIX) {
            Some(base64) => Secret::new(STANDARD.decode(base64).map_err(|_| KeyError::Base64)?),
            None => Secret::new(text.to_vec()),
        };
        if bytes.expose().len() < BYTES_MIN {
            return Err(KeyError::Short);
        }
        Ok(Self(bytes))
    }

    /// The value of `webhook-signature` for a message that is sent at `timestamp_s`.
    pub fn signature(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.expose()).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{timestamp_s}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Result<Key, KeyError> {
        Key::parse(&Secret::new(text.as_bytes().to_vec()))
    }

    /// The example of the specification's own libraries.
    #[test]
    fn the_specifications_example_is_met() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signature = key.signature(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn weak_keys_are_none() {
        assert_eq!(key("whsec_%%%").unwrap_err(), KeyError::Base64);
        assert_eq!(key("whsec_c2hvcnQ=").unwrap_err(), KeyError::Short);
        assert_eq!(key("twenty-three bytes long").unwrap_err(), KeyError::Short);
        assert!(key("a secret of twenty-six bytes").is_ok());
    }
}
