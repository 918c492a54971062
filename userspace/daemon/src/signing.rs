//! The token that keeps the key of checkpoints, where one is configured: a hardware security module or a TPM, by PKCS#11.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use archive::key::{Keep, Sign, TokenFailure};
use archive::note::VerifierKey;
use schemars::JsonSchema;
use serde::Deserialize;
use token::{Kind, Public, TokenKey, TokenUri};

use crate::secret::Place;

/// A token that keeps the key that signs checkpoints, in the place of a file below the state directory. One that was in a
/// file before is replaced at the next start. The key is of the name below, made where there is none: Ed25519, or ECDSA on
/// P-256 where the token has no Ed25519, as TPMs.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRule {
    /// The token's PKCS#11 module, such as `/usr/lib/softhsm/libsofthsm2.so`; it is loaded into the daemon.
    module: PathBuf,
    /// The token's label.
    token: String,
    /// The key's label; keys that follow it have a number behind it.
    #[serde(default = "label")]
    label: String,
    /// The file that holds the PIN of the token's user; root's alone.
    pin_file: Option<PathBuf>,
    /// The same by its name among systemd's credentials.
    pin_credential: Option<String>,
}

fn label() -> String {
    "vestibule-checkpoints".into()
}

impl TokenRule {
    /// The file with the PIN.
    pub(crate) fn pin(&self) -> Result<PathBuf> {
        let (file, credential) = (self.pin_file.as_ref(), self.pin_credential.as_ref());
        let place = Place { file, credential, env: None, vault: None };
        let what = "archive.key: one of pin_file and pin_credential";
        place.file_path().context(what)?.context(what)
    }

    /// What agents may not change: who loads a module runs it.
    pub(crate) fn module(&self) -> &Path {
        &self.module
    }

    /// Makes the key where there is none: the token is at hand, and lets its user in.
    pub(crate) fn try_out(&self) -> Result<()> {
        let made = self.token()?.make(&self.label).map_err(|error| anyhow::anyhow!(error));
        made.map(drop).with_context(|| format!("the token `{}`", self.token))
    }

    /// The token, for whoever signs.
    pub(crate) fn token(&self) -> Result<Box<dyn Keep>> {
        let uri = TokenUri::new(&self.token, &self.label, self.module.clone(), self.pin()?);
        Ok(Box::new(Token(uri)))
    }
}

struct Token(TokenUri);

impl Keep for Token {
    fn name(&self) -> &str {
        self.0.object()
    }

    fn open(&self, name: &str) -> Result<Box<dyn Sign>, TokenFailure> {
        let key = TokenKey::open(&self.0.with_object(name))?;
        let public = verifier(name, key.public())?;
        Ok(Box::new(Key { key, public }))
    }

    fn make(&self, name: &str) -> Result<Box<dyn Sign>, TokenFailure> {
        TokenKey::make(&self.0.with_object(name), &[Kind::Ed25519, Kind::P256])?;
        self.open(name)
    }

    fn all(&self) -> Result<Vec<(String, VerifierKey)>, TokenFailure> {
        let mut found = Vec::new();
        for (name, public) in TokenKey::all(&self.0)? {
            // What is no point on its curve signed nothing of ours.
            if let Ok(public) = verifier(&name, &public) {
                found.push((name, public));
            }
        }
        Ok(found)
    }

    fn destroy(&self, name: &str, public: VerifierKey) -> Result<(), TokenFailure> {
        let all = TokenKey::all(&self.0)?;
        let is_it = |(called, key): &&(String, Public)| {
            called == name && verifier(name, key).is_ok_and(|key| key == public)
        };
        let (_, found) = all.iter().find(is_it).ok_or_else(|| {
            format!("the token has no such key by the name `{name}`, or another than before")
        })?;
        Ok(TokenKey::destroy(&self.0.with_object(name), found)?)
    }
}

/// A public half as notes have it.
fn verifier(name: &str, public: &Public) -> Result<VerifierKey, TokenFailure> {
    let key = match public {
        Public::Ed25519(bytes) => VerifierKey::ed25519(bytes),
        Public::P256(point) => VerifierKey::p256(point),
    };
    key.ok_or_else(|| format!("`{name}` is no point on its curve").into())
}

struct Key {
    key: TokenKey,
    public: VerifierKey,
}

impl Sign for Key {
    fn public(&self) -> VerifierKey {
        self.public
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, TokenFailure> {
        Ok(self.key.sign(text)?)
    }

    fn is_there(&self) -> Result<(), TokenFailure> {
        Ok(self.key.is_there()?)
    }
}
