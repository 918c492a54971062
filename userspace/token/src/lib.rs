//! Keys in tokens (hardware security modules, TPMs, smart cards): made there, used there, never given away. PKCS#11,
//! versions 2.40 and 3.
//!
//! A token's module is loaded into this process; what it does there is its maker's business. It knows nothing of what is
//! signed.

mod der;
mod key;
mod module;
mod pin;
mod uri;

pub use self::key::{Kind, LISTED_MAX, Public, TokenKey};
pub use self::uri::{InvalidUri, TokenUri};

use std::path::PathBuf;

/// Why a token can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The module or the token refused.
    #[error("{action}: {source}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: Box<cryptoki::error::Error>,
    },
    /// The token refused the PIN, and would be locked by more tries with it.
    #[error(
        "the token `{token}` refused the PIN in {}; it is not tried again until that file is written", path.display()
    )]
    PinRefused {
        /// The token's label.
        token: String,
        /// The PIN's file.
        path: PathBuf,
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
    #[error(
        "the token's key `{0}` is on neither P-256 nor Ed25519, or its public half is not there"
    )]
    OtherKey(String),
    /// It holds more keys than are looked through.
    #[error("the token has {0} public keys, more than are looked through")]
    TooMany(usize),
    /// The token makes no key that is understood.
    #[error("the token makes keys neither on P-256 nor on Ed25519")]
    NoKind,
    /// Another key than before is there by this name.
    #[error("the token has another key by the name `{0}` than it had before")]
    Exchanged(String),
    /// The key is there though it was removed.
    #[error("the token keeps the key `{0}`, which was to be destroyed")]
    Kept(String),
    /// The signature is of no form that is understood.
    #[error("the token's signature has {0} bytes, not 64")]
    Signature(usize),
    /// The PIN can't be read.
    #[error("the token's PIN can't be read from {}", path.display())]
    Pin {
        /// Its file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Others may read the PIN.
    #[error("{} is open to others (mode {mode:o}, owner {owner}); it must be root's with mode 600", path.display())]
    Open {
        /// Its file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Its owner's uid.
        owner: u32,
    },
}
