//! What a node seals recordings with: its name, and the public keys of those who may read them.

use aws_lc_rs::rand;
use types::clock::{Timestamp, utc};
use types::id::SessionId;
use types::secret::Secret;

use crate::keys::PublicKey;
use crate::tape::Tape;
use crate::vault::{Entry, SUITE, Vault, VaultError};
use crate::wrap::{self, WrapError};

/// Seals the recordings of a node's sessions.
#[derive(Debug)]
pub struct Sealing {
    node: String,
    epoch: u32,
    recipients: Vec<PublicKey>,
    vault: Vault,
}

/// Why a session can't be recorded: it must not go on.
#[derive(Debug, thiserror::Error)]
pub enum NotSealed {
    /// The system has no random numbers.
    #[error("no random numbers")]
    Random,
    /// The key could not be wrapped.
    #[error(transparent)]
    Wrap(#[from] WrapError),
    /// The wrapped key could not be kept.
    #[error("the vault can't keep a session's key")]
    Vault(#[from] VaultError),
}

impl Sealing {
    /// To `recipients`, of which there is at least one; wrapped keys go to `vault`.
    pub fn new(node: String, epoch: u32, recipients: Vec<PublicKey>, vault: Vault) -> Self {
        Self { node, epoch, recipients, vault }
    }

    /// The wrapped keys.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// A session's recording, under a new key: wrapped to every recipient and on disk when this returns, so it blocks.
    /// Here, the key itself is in the tape's memory alone.
    pub fn open(
        &self,
        session: SessionId,
        stream: &'static str,
        now: Timestamp,
    ) -> Result<Tape, NotSealed> {
        let mut dek = Secret::new([0; 32]);
        dek.expose_mut(|dek| rand::fill(dek)).map_err(|_| NotSealed::Random)?;
        let place = (self.node.as_str(), self.epoch);
        let wrapped = self.recipients.iter().map(|to| wrap::wrap(dek.expose(), place, session, to));
        self.vault.keep(&Entry {
            version: 1,
            dek_id: session,
            node: self.node.clone(),
            epoch: self.epoch,
            created: utc(now.unix_us),
            suite: SUITE.to_owned(),
            wrapped: wrapped.collect::<Result<_, _>>()?,
        })?;
        Ok(Tape::new(dek.expose(), place, session, stream))
    }
}
