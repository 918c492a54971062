//! What an agent reaches: a configured target, and where on it.

use std::sync::Arc;

use crate::addr::OrigDst;

/// The target of one session; `database` and `account` are known once the agent's startup is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The address the agent asked for.
    pub addr: OrigDst,
    /// The name by which the agent knew the address: our resolver's answer to it, or the hosts file.
    pub host: Option<Arc<str>>,
    /// `postgresql`, …
    pub protocol: &'static str,
    /// The database.
    pub database: Option<Arc<str>>,
    /// The account at the target; never a secret.
    pub account: Option<Arc<str>>,
    /// TLS towards it, if there is.
    pub tls: Option<Tls>,
    /// Set where a credential of the daemon's authenticates the session at the target.
    pub credential: Option<UsedCredential>,
}

impl Target {
    /// The role that the agent asked for: the account's, unless a credential stands in.
    pub fn role(&self) -> Option<&Arc<str>> {
        self.credential.as_ref().map(|used| &used.role).or(self.account.as_ref())
    }
}

/// A connection's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: Arc<str>,
    /// SHA-256 of the server's certificate, in lower-case hexadecimal digits.
    pub peer: Arc<str>,
}

/// A credential in use; nothing of its secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UsedCredential {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The role that the agent asked for.
    pub role: Arc<str>,
}
