//! Names that nobody guesses.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// The system gives no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers")]
pub(crate) struct NoRandom;

/// 256 random bits, as text of 43 characters.
pub(crate) fn name() -> Result<String, NoRandom> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|_| NoRandom)?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}

/// SHA-256 of a text: what is kept of a name, so that memory gives none away.
pub(crate) fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// The same as text.
pub(crate) fn digest_text(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(text))
}

/// Whether two texts are the same, in time that does not say where they differ.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    use subtle::ConstantTimeEq as _;
    bool::from(digest(one).ct_eq(&digest(other)))
}
