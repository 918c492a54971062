//! The tokens themselves that agents act by, in memory alone: issuers are asked about them and for others by them.
//!
//! They are wiped when they are forgotten, which is when the agent is, or when its identity has ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use identity::oidc::Verified;
use types::identity::Identity;
use types::secret::Secret;

use super::Binding;

/// A token that was verified.
#[derive(Debug)]
pub(super) struct Raw {
    /// Its issuer.
    pub(super) issuer: Arc<str>,
    /// The token itself; the issuer's signature is in it, so that nobody else may see it.
    pub(super) token: Secret<String>,
}

/// Whom an agent acts for, and the token that says so.
#[derive(Clone, Debug)]
pub(crate) struct Proven {
    /// Whom.
    pub(super) identity: Arc<Identity>,
    /// None where nobody but the agent's starter says so.
    pub(super) raw: Option<Arc<Raw>>,
}

/// Tokens by their agents' names and instances: at most one of 16 KiB for each of
/// [`identity::enrollment::ENROLLMENTS_MAX`] agents, 256 MiB; a usual one has 1.5 KiB, and agents share theirs.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<HashMap<String, Proven>>);

impl From<Identity> for Proven {
    /// By no token.
    fn from(identity: Identity) -> Self {
        Self { identity: Arc::new(identity), raw: None }
    }
}

impl Proven {
    /// The same, with whoever answers for an agent of this binding.
    pub(super) fn owned(mut self, binding: &Binding) -> Self {
        if let Some(owner) = &binding.owner {
            let owner = Some(owner.as_str().into());
            self.identity = Arc::new(Identity { owner, ..Identity::clone(&self.identity) });
        }
        self
    }
}

impl Raw {
    /// A token with what it said when it was verified.
    pub(super) fn of(token: Secret<String>, verified: &Verified) -> Self {
        Self { issuer: Arc::clone(&verified.issuer), token }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.token.expose() == other.token.expose()
    }
}

impl Tokens {
    /// Keeps what an agent acts by, in the place of what it was before.
    pub(super) fn keep(&self, agent: &str, mut proven: Proven) {
        let mut kept = self.kept();
        let Some(raw) = &proven.raw else {
            kept.remove(agent);
            return;
        };
        // Several agents of one person have one token: it is held once, and asked about once.
        let others = kept.values().filter_map(|one| one.raw.as_ref());
        if let Some(same) = others.into_iter().find(|other| other.is_same(raw)).map(Arc::clone) {
            proven.raw = Some(same);
        }
        kept.insert(agent.to_owned(), proven);
    }

    /// Forgets an agent's.
    pub(super) fn forget(&self, agent: &str) {
        self.kept().remove(agent);
    }

    /// Forgets those of all but these agents.
    pub(super) fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.kept().retain(|agent, _| is_there(agent));
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, Proven>> {
        // No code that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proven(token: &str) -> Proven {
        let issuer = "https://idp.example".into();
        let token = Secret::new(token.to_owned());
        let raw = Raw { issuer, token };
        Proven { identity: Arc::default(), raw: Some(raw.into()) }
    }

    #[test]
    fn one_token_is_held_once_and_forgotten_with_its_last_agent() {
        let tokens = Tokens::default();
        tokens.keep("a.1", proven("t"));
        tokens.keep("b.1", proven("t"));
        tokens.keep("c.1", proven("u"));
        let held = |agent: &str| tokens.kept().get(agent).and_then(|one| one.raw.clone());
        let (a, b, c) = (held("a.1").unwrap(), held("b.1").unwrap(), held("c.1").unwrap());
        assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &c));
        let left = Arc::downgrade(&a);
        drop((a, b));
        tokens.forget("a.1");
        assert!(left.upgrade().is_some());
        tokens.keep("b.1", Proven { identity: Arc::default(), raw: None });
        assert!(left.upgrade().is_none());
        tokens.retain(|agent| agent != "c.1");
        assert!(tokens.kept().is_empty());
        assert!(!format!("{c:?}").contains("\"u\""));
    }
}
