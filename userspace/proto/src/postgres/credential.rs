//! What a session is given to authenticate with, in the place of the agent.

use std::sync::Arc;

use types::secret::Secret;

use super::scram::{Nonce, Verifier};

/// An account at a target and its secret.
#[derive(Debug)]
pub struct Credential {
    /// Its name in the configuration and in records.
    pub name: Arc<str>,
    /// The role that is used at the target.
    pub account: Arc<str>,
    /// Its password.
    pub secret: Secret<Vec<u8>>,
    /// How the target may ask for it, besides SCRAM-SHA-256.
    pub methods: Methods,
    /// What the agent must prove that it has for its password; it is asked for none where absent.
    pub placeholder: Option<Verifier>,
}

/// Authentication methods weaker than SCRAM-SHA-256; none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Methods {
    /// `md5`: what is overheard can be used at other servers of the same secret.
    pub md5: bool,
    /// `password`, inside TLS: the server learns the secret.
    pub cleartext: bool,
    /// `password`, outside of TLS: whoever listens learns the secret.
    pub cleartext_without_tls: bool,
    /// The server asks for nothing (`trust`, `cert`), so that it proves nothing either.
    pub none: bool,
}

/// A credential for one session, with random numbers of its own.
#[derive(Debug)]
pub struct Injection {
    /// The credential.
    pub credential: Arc<Credential>,
    /// For the exchange with the target.
    pub upstream: Nonce,
    /// For the exchange with the agent.
    pub downstream: Nonce,
}
