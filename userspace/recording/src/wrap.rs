//! A session's key, or the journal's first sealing secret, wrapped to public keys: HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
//!
//! `info` is `vestibule/dek/v1`; what is authenticated beside is the node's name, a zero byte, the epoch (u32, big-endian)
//! and the session (16 bytes). The secret's `info` is `vestibule/seal-secret/v1`, and it has no session.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use serde::{Deserialize, Serialize};
use types::id::SessionId;
use types::secret::Secret;
use zeroize::Zeroize;

use crate::keys::{PrivateKey, PublicKey};

const INFO: &[u8] = b"vestibule/dek/v1";
const INFO_OF_SECRET: &[u8] = b"vestibule/seal-secret/v1";

/// A key as one recipient can have it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrapped {
    /// Whose public key: [`PublicKey::id`].
    pub recipient: String,
    /// The encapsulated secret, base64.
    pub enc: String,
    /// The sealed key, base64.
    pub key: String,
}

/// A key could not be wrapped or unwrapped.
#[derive(Debug, thiserror::Error)]
pub enum WrapError {
    /// The public key is none.
    #[error("the session's key can't be wrapped to `{0}`")]
    NotWrapped(String),
    /// The key was wrapped to others.
    #[error("the session's key is not wrapped to `{0}`, but to {1}")]
    OtherRecipients(String, String),
    /// It was altered, or is another session's.
    #[error("the session's wrapped key does not open: it was altered or is another session's")]
    Refused,
}

/// Wraps a session's key to one recipient.
pub fn wrap(
    dek: &[u8; 32],
    (node, epoch): (&str, u32),
    session: SessionId,
    to: &PublicKey,
) -> Result<Wrapped, WrapError> {
    seal((INFO, &aad(node, epoch, session.as_bytes())), dek, to)
}

/// Wraps the first secret of a journal's seals to one recipient.
pub fn wrap_secret(
    secret: &[u8; 32],
    (node, epoch): (&str, u32),
    to: &PublicKey,
) -> Result<Wrapped, WrapError> {
    seal((INFO_OF_SECRET, &aad(node, epoch, &[])), secret, to)
}

fn seal((info, aad): (&[u8], &[u8]), key: &[u8; 32], to: &PublicKey) -> Result<Wrapped, WrapError> {
    let public = HpkePublicKey(to.bytes().to_vec());
    let wrapped = SUITE.seal(info, aad, key, &public);
    let (EncapsulatedSecret(enc), key) = wrapped.map_err(|_| WrapError::NotWrapped(to.id()))?;
    Ok(Wrapped { recipient: to.id(), enc: STANDARD.encode(enc), key: STANDARD.encode(key) })
}

/// A session's key back, from what was wrapped to `with`.
pub fn unwrap(
    wrapped: &[Wrapped],
    (node, epoch): (&str, u32),
    session: SessionId,
    with: &PrivateKey,
) -> Result<Secret<[u8; 32]>, WrapError> {
    open((INFO, &aad(node, epoch, session.as_bytes())), wrapped, with)
}

/// The first secret of a journal's seals back, from what was wrapped to `with`.
pub fn unwrap_secret(
    wrapped: &[Wrapped],
    (node, epoch): (&str, u32),
    with: &PrivateKey,
) -> Result<Secret<[u8; 32]>, WrapError> {
    open((INFO_OF_SECRET, &aad(node, epoch, &[])), wrapped, with)
}

fn open(
    (info, aad): (&[u8], &[u8]),
    wrapped: &[Wrapped],
    with: &PrivateKey,
) -> Result<Secret<[u8; 32]>, WrapError> {
    let id = with.public().id();
    let Some(mine) = wrapped.iter().find(|one| one.recipient == id) else {
        let others: Vec<_> = wrapped.iter().map(|one| one.recipient.as_str()).collect();
        return Err(WrapError::OtherRecipients(id, others.join(", ")));
    };
    let enc = STANDARD.decode(&mine.enc).map_err(|_| WrapError::Refused)?;
    let key = STANDARD.decode(&mine.key).map_err(|_| WrapError::Refused)?;
    let private = HpkePrivateKey::from(with.secret().expose().to_vec());
    let opened = SUITE.open(&EncapsulatedSecret(enc), info, aad, &key, &private);
    let mut opened = opened.map_err(|_| WrapError::Refused)?;
    let mut dek = Secret::new([0; 32]);
    let is_key = dek.expose_mut(|dek| {
        let is_key = opened.len() == dek.len();
        if is_key {
            dek.copy_from_slice(&opened);
        }
        is_key
    });
    opened.zeroize();
    is_key.then_some(dek).ok_or(WrapError::Refused)
}

fn aad(node: &str, epoch: u32, session: &[u8]) -> Vec<u8> {
    [node.as_bytes(), &[0], &epoch.to_be_bytes(), session].concat()
}
