//! The authority's key in a token: ECDSA on P-256.

use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};
use token::{Kind, Public, TokenError, TokenUri};

/// A key that a token holds.
pub(crate) struct TokenKey {
    key: token::TokenKey,
    point: [u8; 65],
}

impl TokenKey {
    /// The key that `uri` names.
    pub(crate) fn open(uri: &TokenUri) -> Result<Self, TokenError> {
        let key = token::TokenKey::open(uri)?;
        let Public::P256(point) = *key.public() else {
            return Err(TokenError::OtherKey(uri.object().to_owned()));
        };
        Ok(Self { key, point })
    }

    /// Makes one that can't leave the token, unless there is one of this name.
    pub(crate) fn make(uri: &TokenUri) -> Result<(), TokenError> {
        token::TokenKey::make(uri, &[Kind::P256])
    }
}

impl PublicKeyData for TokenKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for TokenKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.key.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}
