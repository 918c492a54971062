//! Keys in a token that others have followed: nothing needs their private halves any more.

use std::fs;
use std::path::Path;

use super::held::failed;
use super::{KeyError, Signer};
use crate::layout;
use crate::note::{self, PublicKey};

/// A key that is in the token still, though another has followed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired {
    /// Its name in the token.
    pub name: String,
    /// Its public half, by which its checkpoints verify for ever.
    pub public: PublicKey,
}

impl Signer {
    /// This node's keys in the token that others have followed, by whatever names they have there: what a key is called may have been
    /// changed since. None where keys are in files. The oldest first.
    ///
    /// # Errors
    /// If the token can't be looked into.
    pub fn retired(&self) -> Result<Vec<Retired>, KeyError> {
        let Some(token) = &self.token else { return Ok(Vec::new()) };
        let next = self.next.as_ref().map(|(_, public, _)| public);
        let is_used = |key: &PublicKey| {
            std::iter::once(self.public()).chain(next).any(|used| used.key == key.key)
        };
        let there = token.all().map_err(failed(token.name()))?;
        let mut found = Vec::new();
        for public in self.keys.iter().filter(|known| !is_used(known)) {
            let its = there.iter().filter(|(_, key)| *key == public.key);
            found.extend(
                its.map(|(name, _)| Retired { name: name.clone(), public: public.clone() }),
            );
        }
        Ok(found)
    }

    /// Whether the newest checkpoint of the log `origin` in `archive` is signed with the key in force: what was before it is not
    /// needed to go on.
    pub fn signs(&self, archive: &Path, origin: &str) -> bool {
        let path = archive.join(layout::log_dir(origin)).join(layout::CHECKPOINT);
        let newest = fs::read_to_string(path).unwrap_or_default();
        note::open(&newest, self.public()).is_some()
    }

    /// Removes a retired key from the token for good. One that is gone already is no error.
    ///
    /// # Errors
    /// If it is not retired, or the token does not remove it.
    pub fn destroy(&self, retired: &Retired) -> Result<(), KeyError> {
        let Some(token) = &self.token else { return Ok(()) };
        if !self.retired()?.contains(retired) {
            return Err(KeyError::InUse(retired.name.clone()));
        }
        token.destroy(&retired.name, retired.public.key).map_err(failed(&retired.name))
    }
}
