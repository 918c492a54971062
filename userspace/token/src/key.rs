//! A key in a token.

use std::sync::{Mutex, PoisonError};

use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use sha2::{Digest, Sha256};

use crate::der::{self, ED25519, EDWARDS25519, P256};
use crate::module::{self, Open, calling, refused};
use crate::{TokenError, TokenUri};

/// The kinds of key objects that ours are among.
const KINDS: [KeyType; 2] = [KeyType::EC, KeyType::EC_EDWARDS];

/// Keys of one kind in a token at most that are looked through: a node's 520, and as many of others' on the way, each a call of
/// about a millisecond.
pub const LISTED_MAX: usize = 4_096;

/// What kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ECDSA on P-256, over SHA-256.
    P256,
    /// Ed25519 (RFC 8032).
    Ed25519,
}

/// A key's public half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Public {
    /// An uncompressed point on P-256: a tag and two coordinates (SEC 1 §2.3.3).
    P256([u8; 65]),
    /// As RFC 8032 has it.
    Ed25519([u8; 32]),
}

/// A key that a token holds, in a session of its own. Where the token was away, it is looked for again.
pub struct TokenKey {
    uri: TokenUri,
    public: Public,
    held: Mutex<Option<Held>>,
}

/// The key in a session.
struct Held {
    open: Open,
    private: ObjectHandle,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl TokenKey {
    /// The key that `uri` names.
    ///
    /// # Errors
    /// If there is not one such key, or the token does not let its owner in.
    pub fn open(uri: &TokenUri) -> Result<Self, TokenError> {
        let (held, public) = with_room(uri, || hold(uri))?;
        Ok(Self { uri: uri.clone(), public, held: Mutex::new(Some(held)) })
    }

    /// Makes a key that can't leave the token, unless there is one of this name: of the first of `kinds` that the
    /// token makes.
    ///
    /// # Errors
    /// If it makes none of these, or does not let its owner in.
    pub fn make(uri: &TokenUri, kinds: &[Kind]) -> Result<(), TokenError> {
        with_room(uri, || Self::make_now(uri, kinds))
    }

    fn make_now(uri: &TokenUri, kinds: &[Kind]) -> Result<(), TokenError> {
        let _calling = calling();
        let open = module::open(uri)?;
        if !find(&open.session, uri, ObjectClass::PRIVATE_KEY)?.is_empty() {
            return Ok(());
        }
        let makes = open.module.get_mechanism_list(open.slot);
        let makes = makes.map_err(refused("asking what the token does"))?;
        let can = |kind: &&Kind| match kind {
            Kind::P256 => makes.contains(&MechanismType::ECC_KEY_PAIR_GEN),
            Kind::Ed25519 => makes.contains(&MechanismType::ECC_EDWARDS_KEY_PAIR_GEN),
        };
        let made = match kinds.iter().find(can).ok_or(TokenError::NoKind)? {
            Kind::P256 => generate(&open.session, uri, &Mechanism::EccKeyPairGen, &P256),
            Kind::Ed25519 => {
                let edwards = Mechanism::EccEdwardsKeyPairGen;
                generate(&open.session, uri, &edwards, &ED25519)
                    .or_else(|_| generate(&open.session, uri, &edwards, EDWARDS25519))
            }
        };
        made.map_err(refused("making a key"))
    }

    /// The public halves of keys in the token that are understood, each with its name there, whether their private halves are
    /// there or not; `uri` names the token, not the key. At most [`LISTED_MAX`].
    ///
    /// # Errors
    /// If the token does not let its owner in, or holds more.
    pub fn all(uri: &TokenUri) -> Result<Vec<(String, Public)>, TokenError> {
        with_room(uri, || Self::all_now(uri))
    }

    fn all_now(uri: &TokenUri) -> Result<Vec<(String, Public)>, TokenError> {
        let _calling = calling();
        let open = module::open(uri)?;
        let mut found = Vec::new();
        for kind in KINDS {
            let wanted = [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::KeyType(kind)];
            let listed = open.session.find_objects(&wanted).map_err(refused("listing keys"))?;
            if listed.len() > LISTED_MAX {
                return Err(TokenError::TooMany(listed.len()));
            }
            for half in listed {
                let named = open.session.get_attributes(half, &[AttributeType::Label]);
                let named = named.map_err(refused("reading a key's name"))?;
                // What has no name that could be given here, or is on another curve, is no key that was made for us.
                let name = named.into_iter().find_map(|attribute| match attribute {
                    Attribute::Label(bytes) => String::from_utf8(bytes).ok(),
                    _ => None,
                });
                if let (Some(name), Some(public)) = (name, read(&open.session, half)?) {
                    found.push((name, public));
                }
            }
        }
        Ok(found)
    }

    /// Removes the key that `uri` names from the token for good, both halves, the private one first: what a crash leaves can be
    /// removed again.
    ///
    /// # Errors
    /// If its public half is another than `expected`, or the token does not remove it.
    pub fn destroy(uri: &TokenUri, expected: &Public) -> Result<(), TokenError> {
        with_room(uri, || Self::destroy_now(uri, expected))
    }

    fn destroy_now(uri: &TokenUri, expected: &Public) -> Result<(), TokenError> {
        let _calling = calling();
        let open = module::open(uri)?;
        if public(&open.session, uri)? != *expected {
            return Err(TokenError::Exchanged(uri.object.clone()));
        }
        // Of two by one name, one may be another's.
        let privates = find(&open.session, uri, ObjectClass::PRIVATE_KEY)?;
        if privates.len() > 1 {
            let (object, count) = (uri.object.clone(), privates.len());
            return Err(TokenError::NoKey { object, count });
        }
        for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
            for half in find(&open.session, uri, class)? {
                open.session.destroy_object(half).map_err(refused("destroying the key"))?;
            }
            // Some tokens say that they did and keep what an officer protected.
            if !find(&open.session, uri, class)?.is_empty() {
                return Err(TokenError::Kept(uri.object.clone()));
            }
        }
        Ok(())
    }

    /// Its public half.
    pub fn public(&self) -> &Public {
        &self.public
    }

    /// Whether the token has it now.
    ///
    /// # Errors
    /// If not, why.
    pub fn is_there(&self) -> Result<(), TokenError> {
        self.with(|held| {
            let wanted = [AttributeType::KeyType];
            let found = held.open.session.get_attributes(held.private, &wanted);
            found.map(drop).map_err(refused("looking for the key"))
        })
    }

    /// The signature of `message`: with Ed25519 64 bytes (RFC 8032), with ECDSA over SHA-256 in DER (RFC 3279).
    ///
    /// # Errors
    /// If the token does not sign.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let signed = |session: &Session, mechanism, private, data: &[u8]| {
            session.sign(&mechanism, private, data).map_err(refused("signing"))
        };
        self.with(|Held { open: Open { session, .. }, private }| match self.public {
            Public::P256(_) => {
                let digest = Sha256::digest(message);
                let bytes = signed(session, Mechanism::Ecdsa, *private, &digest)?;
                // PKCS#11 has r and s.
                let numbers = bytes.split_first_chunk::<32>();
                let numbers = numbers.and_then(|(r, s)| Some((r, s.try_into().ok()?)));
                let (r, s) = numbers.ok_or(TokenError::Signature(bytes.len()))?;
                Ok(der::signature(r, s))
            }
            Public::Ed25519(_) => {
                let params = EddsaParams::new(EddsaSignatureScheme::Ed25519);
                let bytes = signed(session, Mechanism::Eddsa(params), *private, message)?;
                if bytes.len() == 64 { Ok(bytes) } else { Err(TokenError::Signature(bytes.len())) }
            }
        })
    }

    /// Does something with the key; where that fails, once more in a new session, and with the module started anew.
    fn with<T>(&self, act: impl Fn(&Held) -> Result<T, TokenError>) -> Result<T, TokenError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.as_ref().filter(|held| held.open.is_of_now()) {
            let _calling = calling();
            // It may have been started anew on the way here.
            if held.open.is_of_now()
                && let Ok(done) = act(held)
            {
                return Ok(done);
            }
        }
        if let Some(old) = held.take() {
            let _calling = calling();
            old.open.let_go();
        }
        let again = self.hold_again().or_else(|error| {
            // A PIN that is refused often is locked.
            if module::is_of_login(&error) {
                return Err(error);
            }
            module::start_anew(&self.uri)?;
            self.hold_again()
        })?;
        let done = {
            let _calling = calling();
            act(held.insert(again))
        };
        if !done.as_ref().is_err_and(module::is_for_room) {
            return done;
        }
        if let Some(full) = held.take() {
            let _calling = calling();
            full.open.let_go();
        }
        module::start_anew(&self.uri)?;
        let again = self.hold_again()?;
        let _calling = calling();
        act(held.insert(again))
    }

    fn hold_again(&self) -> Result<Held, TokenError> {
        let (held, public) = hold(&self.uri)?;
        if public != self.public {
            return Err(TokenError::Exchanged(self.uri.object.clone()));
        }
        Ok(held)
    }
}

/// Does something with a token; where that has no room left, once more with its module started anew: what others have loaded there is
/// put out, and loaded again as they use it. A TPM without a resource manager holds three objects at once.
fn with_room<T>(uri: &TokenUri, act: impl Fn() -> Result<T, TokenError>) -> Result<T, TokenError> {
    let done = act();
    if !done.as_ref().is_err_and(module::is_for_room) {
        return done;
    }
    module::start_anew(uri)?;
    act()
}

fn hold(uri: &TokenUri) -> Result<(Held, Public), TokenError> {
    let _calling = calling();
    let open = module::open(uri)?;
    let private = find(&open.session, uri, ObjectClass::PRIVATE_KEY)?;
    let [private] = private.as_slice() else {
        let (object, count) = (uri.object.clone(), private.len());
        return Err(TokenError::NoKey { object, count });
    };
    let (private, public) = (*private, public(&open.session, uri)?);
    Ok((Held { open, private }, public))
}

fn generate(
    session: &Session,
    uri: &TokenUri,
    mechanism: &Mechanism<'_>,
    curve: &[u8],
) -> Result<(), cryptoki::error::Error> {
    let label = || Attribute::Label(uri.object.clone().into_bytes());
    // Some modules find the two halves of a pair by it alone.
    let id = || Attribute::Id(uri.object.clone().into_bytes());
    let public = [
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Verify(true),
        Attribute::EcParams(curve.to_vec()),
        label(),
        id(),
    ];
    let private = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        label(),
        id(),
    ];
    session.generate_key_pair(mechanism, &public, &private).map(drop)
}

fn find(
    session: &Session,
    uri: &TokenUri,
    class: ObjectClass,
) -> Result<Vec<ObjectHandle>, TokenError> {
    let mut found = Vec::new();
    for kind in KINDS {
        let label = Attribute::Label(uri.object.clone().into_bytes());
        let wanted = [Attribute::Class(class), Attribute::KeyType(kind), label];
        found.extend(session.find_objects(&wanted).map_err(refused("looking for the key"))?);
    }
    Ok(found)
}

/// The public half of the key that `uri` names.
fn public(session: &Session, uri: &TokenUri) -> Result<Public, TokenError> {
    let other = || TokenError::OtherKey(uri.object.clone());
    let found = find(session, uri, ObjectClass::PUBLIC_KEY)?;
    let [public] = found.as_slice() else { return Err(other()) };
    read(session, *public)?.ok_or_else(other)
}

/// A public half: its curve, and an OCTET STRING around the point (PKCS#11, "Elliptic curve public key objects"); `None` where it
/// is on no curve that is understood.
fn read(session: &Session, public: ObjectHandle) -> Result<Option<Public>, TokenError> {
    let wanted = [AttributeType::EcParams, AttributeType::EcPoint];
    let found = session.get_attributes(public, &wanted);
    let (mut curve, mut point) = (Vec::new(), Vec::new());
    for attribute in found.map_err(refused("reading the public key"))? {
        match attribute {
            Attribute::EcParams(bytes) => curve = bytes,
            Attribute::EcPoint(bytes) => point = bytes,
            _ => {}
        }
    }
    let bare = der::bare(&point);
    if curve == P256 && bare.first() == Some(&0x04) {
        return Ok(bare.try_into().map(Public::P256).ok());
    }
    if curve == ED25519 || curve == EDWARDS25519 {
        return Ok(bare.try_into().map(Public::Ed25519).ok());
    }
    Ok(None)
}
