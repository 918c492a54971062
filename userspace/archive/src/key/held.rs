//! One key: its seed in a file, or its name there and itself in a token.

use std::fs;
use std::io;
use std::path::Path;

use ed25519_dalek::{Signer as _, SigningKey};

use super::{KEYS_MAX, KeyError};
use crate::files;
use crate::note::{PublicKey, VerifierKey};

/// What the name of a key in a token stands behind, in the place of a seed.
const IN_TOKEN: &str = "token ";

/// What a token says where it does not do what it should.
pub type TokenFailure = Box<dyn std::error::Error + Send + Sync>;

/// A private key that never leaves a token.
pub trait Sign: Send {
    /// Its public half.
    fn public(&self) -> VerifierKey;

    /// The signature of a note's text, as its kind of key has it in notes.
    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, TokenFailure>;

    /// Whether the token is at hand and has it.
    fn is_there(&self) -> Result<(), TokenFailure>;
}

/// A token that keys are made in.
pub trait Keep: Send {
    /// What the first of them is called; those that follow have a number behind it.
    fn name(&self) -> &str;

    /// The key of that name.
    fn open(&self, name: &str) -> Result<Box<dyn Sign>, TokenFailure>;

    /// The same, made where there is none.
    fn make(&self, name: &str) -> Result<Box<dyn Sign>, TokenFailure>;

    /// The public halves of all keys in it that are understood, each with its name there, whoever made them.
    fn all(&self) -> Result<Vec<(String, VerifierKey)>, TokenFailure>;

    /// Removes both halves of the key of that name for good; an error where its public half is another.
    fn destroy(&self, name: &str, public: VerifierKey) -> Result<(), TokenFailure>;
}

/// A key.
pub(super) enum Held {
    /// Its seed is in a file.
    File(SigningKey),
    /// It is in a token, by this name.
    Token(String, Box<dyn Sign>),
}

impl Held {
    /// The key that a file holds or names; `None` where there is no file.
    pub(super) fn read(path: &Path, token: Option<&dyn Keep>) -> Result<Option<Self>, KeyError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(KeyError::Io { path: path.to_owned(), source }),
        };
        // A seed reads so once in 2^48, and has no end of a line then.
        let text = std::str::from_utf8(&bytes).ok();
        let name = text.and_then(|text| text.strip_prefix(IN_TOKEN)?.strip_suffix('\n'));
        if let Some(name) = name {
            let token = token.ok_or_else(|| KeyError::NoToken(path.to_owned()))?;
            let key = token.open(name).map_err(failed(name))?;
            return Ok(Some(Self::Token(name.to_owned(), key)));
        }
        let seed: [u8; 32] = bytes.try_into().map_err(|_| KeyError::Malformed(path.to_owned()))?;
        Ok(Some(Self::File(SigningKey::from_bytes(&seed))))
    }

    /// Makes a key that is none of `known`, and the file that holds or names it.
    pub(super) fn make(
        path: &Path,
        token: Option<&dyn Keep>,
        known: &[PublicKey],
    ) -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        let (key, kept) = match token {
            None => {
                getrandom::fill(&mut seed).map_err(KeyError::Random)?;
                (Self::File(SigningKey::from_bytes(&seed)), seed.to_vec())
            }
            Some(token) => {
                let (name, key) = make_in(token, known)?;
                let kept = format!("{IN_TOKEN}{name}\n").into_bytes();
                (Self::Token(name, key), kept)
            }
        };
        files::write(path, &kept, 0o600)
            .map_err(|source| KeyError::Io { path: path.to_owned(), source })?;
        Ok(key)
    }

    /// Its public half by that name.
    pub(super) fn public(&self, name: String) -> PublicKey {
        let key = match self {
            Self::File(key) => key.verifying_key().into(),
            Self::Token(_, key) => key.public(),
        };
        PublicKey::of_notes(name, key)
    }

    pub(super) fn is_in_token(&self) -> bool {
        matches!(self, Self::Token(..))
    }

    pub(super) fn is_there(&self) -> Result<(), KeyError> {
        match self {
            Self::File(_) => Ok(()),
            Self::Token(name, key) => key.is_there().map_err(failed(name)),
        }
    }

    /// The line of its signature over a note's text; `public` is its public half.
    pub(super) fn line(&self, text: &str, public: &PublicKey) -> Result<String, KeyError> {
        let bytes = match self {
            Self::File(key) => key.sign(text.as_bytes()).to_bytes().to_vec(),
            Self::Token(name, key) => key.sign(text.as_bytes()).map_err(failed(name))?,
        };
        Ok(public.signature_line(bytes))
    }
}

/// The first key in the token that is none of `known`: one may have been made there before a crash, or by its officers.
fn make_in(token: &dyn Keep, known: &[PublicKey]) -> Result<(String, Box<dyn Sign>), KeyError> {
    let first = token.name();
    for number in 1..=KEYS_MAX {
        let name = numbered(first, number);
        let key = token.make(&name).map_err(failed(&name))?;
        if known.iter().all(|known| known.key != key.public()) {
            return Ok((name, key));
        }
    }
    Err(KeyError::Names(format!("{first}-{KEYS_MAX}")))
}

/// What the key of a number is called in a token.
fn numbered(first: &str, number: usize) -> String {
    if number == 1 { first.to_owned() } else { format!("{first}-{number}") }
}

pub(super) fn failed(name: &str) -> impl FnOnce(TokenFailure) -> KeyError {
    move |source| KeyError::Token { name: name.to_owned(), source }
}
