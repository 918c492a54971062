//! A key in a token (a hardware security module, a smart card), by PKCS#11 version 2.40.
//!
//! An ECDSA key on P-256. The token's module is loaded into this process; what it does there is its
//! maker's business.

use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};
use sha2::{Digest, Sha256};

use crate::uri::TokenUri;

/// prime256v1 as an object identifier, DER (RFC 5480 §2.1.1.1).
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// An uncompressed point on P-256: a tag and two coordinates (SEC 1 §2.3.3).
const POINT_BYTES: usize = 65;

/// A key that a token holds, in a session of its own.
pub(crate) struct TokenKey {
    session: Mutex<Session>,
    private: ObjectHandle,
    point: Vec<u8>,
}

/// Why a token can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The module or the token refused.
    #[error("{action}: {source}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: Box<Error>,
    },
    /// No token of this label is there.
    #[error("no token is called `{0}`")]
    NoToken(String),
    /// There is not exactly one such key.
    #[error("the token has {count} private EC keys called `{object}`, not one")]
    NoKey {
        /// The label that was looked for.
        object: String,
        /// How many have it.
        count: usize,
    },
    /// The key is none that is understood.
    #[error("the token's key is not on the curve P-256, or its public half is not there")]
    OtherKey,
}

fn refused(action: &'static str) -> impl FnOnce(Error) -> TokenError {
    move |source| TokenError::Refused { action, source: Box::new(source) }
}

impl TokenKey {
    /// The key that `uri` names, with its owner's PIN.
    pub(crate) fn open(uri: &TokenUri, pin: &str) -> Result<Self, TokenError> {
        let session = open(uri, pin)?;
        let private = private_keys(&session, uri)?;
        let [private] = private.as_slice() else {
            let (object, count) = (uri.object.clone(), private.len());
            return Err(TokenError::NoKey { object, count });
        };
        let point = point(&session, uri)?;
        Ok(Self { session: Mutex::new(session), private: *private, point })
    }

    /// Makes a key that can't leave the token, unless there is one of this name.
    pub(crate) fn make(uri: &TokenUri, pin: &str) -> Result<(), TokenError> {
        let session = open(uri, pin)?;
        if !private_keys(&session, uri)?.is_empty() {
            return Ok(());
        }
        let label = || Attribute::Label(uri.object.clone().into_bytes());
        let public = [
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Verify(true),
            Attribute::EcParams(P256.to_vec()),
            label(),
        ];
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            label(),
        ];
        let made = session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private);
        made.map(drop).map_err(refused("making a key"))
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
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = Sha256::digest(message);
        let signed = session.sign(&Mechanism::Ecdsa, self.private, &digest);
        let signature = signed.map_err(|_| rcgen::Error::RemoteKeyError)?;
        // PKCS#11 has r and s, each of 32 bytes; a certificate has them as a sequence (RFC 3279 §2.2.3).
        let (r, s) = signature.split_at_checked(32).ok_or(rcgen::Error::RemoteKeyError)?;
        if s.len() != 32 {
            return Err(rcgen::Error::RemoteKeyError);
        }
        let numbers = [integer(r), integer(s)].concat();
        let length = u8::try_from(numbers.len()).map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok([&[0x30, length], numbers.as_slice()].concat())
    }
}

/// A positive INTEGER, DER: no zeros before it but one where the first bit is set.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let digits = bytes.get(zeros..).filter(|digits| !digits.is_empty()).unwrap_or(&[0]);
    let sign: &[u8] =
        if digits.first().is_some_and(|first| first & 0x80 != 0) { &[0] } else { &[] };
    let length = u8::try_from(sign.len() + digits.len()).expect("at most 33 bytes");
    [&[0x02, length], sign, digits].concat()
}

fn open(uri: &TokenUri, pin: &str) -> Result<Session, TokenError> {
    let module = Pkcs11::new(&uri.module).map_err(refused("loading the token's module"))?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // By an authority that was loaded before.
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(refused("starting the token's module")(error)),
    }
    let slots = module.get_slots_with_token().map_err(refused("listing tokens"))?;
    let called = |slot: &cryptoki::slot::Slot| {
        module.get_token_info(*slot).is_ok_and(|about| about.label() == uri.token)
    };
    let slot = slots.into_iter().find(called);
    let slot = slot.ok_or_else(|| TokenError::NoToken(uri.token.clone()))?;
    let session = module.open_rw_session(slot).map_err(refused("opening a session"))?;
    match session.login(UserType::User, Some(&AuthPin::from(pin.to_owned()))) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
        Err(error) => Err(refused("logging in to the token")(error)),
    }
}

fn private_keys(session: &Session, uri: &TokenUri) -> Result<Vec<ObjectHandle>, TokenError> {
    find(session, uri, ObjectClass::PRIVATE_KEY)
}

fn find(
    session: &Session,
    uri: &TokenUri,
    class: ObjectClass,
) -> Result<Vec<ObjectHandle>, TokenError> {
    let wanted = [
        Attribute::Class(class),
        Attribute::KeyType(KeyType::EC),
        Attribute::Label(uri.object.clone().into_bytes()),
    ];
    session.find_objects(&wanted).map_err(refused("looking for the key"))
}

/// The public half; an OCTET STRING around an uncompressed point (PKCS#11, "Elliptic curve public key
/// objects"), or the point alone as some tokens have it.
fn point(session: &Session, uri: &TokenUri) -> Result<Vec<u8>, TokenError> {
    let public = find(session, uri, ObjectClass::PUBLIC_KEY)?;
    let [public] = public.as_slice() else { return Err(TokenError::OtherKey) };
    let wanted = [AttributeType::EcParams, AttributeType::EcPoint];
    let found = session.get_attributes(*public, &wanted);
    let (mut is_p256, mut point) = (false, Vec::new());
    for attribute in found.map_err(refused("reading the public key"))? {
        match attribute {
            Attribute::EcParams(curve) => is_p256 = curve == P256,
            Attribute::EcPoint(bytes) => point = bytes,
            _ => {}
        }
    }
    let bare = match point.as_slice() {
        [0x04, 0x41, bare @ ..] if bare.len() == POINT_BYTES => bare.to_vec(),
        bare => bare.to_vec(),
    };
    let is_whole = bare.len() == POINT_BYTES && bare.first() == Some(&0x04);
    if is_p256 && is_whole { Ok(bare) } else { Err(TokenError::OtherKey) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_der() {
        for (bytes, der) in [
            (&[0, 0, 0][..], &[2, 1, 0][..]),
            (&[0, 0x7f], &[2, 1, 0x7f]),
            (&[0x80, 1], &[2, 3, 0, 0x80, 1]),
        ] {
            assert_eq!(integer(bytes), der);
        }
    }
}
