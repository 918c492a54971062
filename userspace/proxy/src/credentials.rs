//! Credentials that authenticate agents' sessions at targets: who may use which, and their secrets.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use proto::postgres::{Credential, Injection, KeysWanted, Methods, Nonce, ScramKeys, Verifier};
use tokio::sync::Semaphore;
use tracing::warn;
use types::id::AgentName;
use types::principal::Principal;
use types::secret::Secret;
use types::target::Target;

use crate::bearer::TokenPassword;
use crate::ephemeral::EphemeralRule;
use crate::secret::{Found, Source, Stamp};

/// Keys computed of one secret that are kept: one for each server (and its salt) behind a target.
const KEYS_KEPT: usize = 16;

/// Keys computed at once on a node: a hostile server may ask for a million rounds, half a second.
const DERIVATIONS_MAX: usize = 2;

/// The configured credentials, first match wins.
#[derive(Debug)]
pub struct Credentials {
    rules: Vec<Arc<Rule>>,
    catalogs: Vec<Arc<Rule>>,
    derivations: Semaphore,
}

/// One configured credential.
#[derive(Clone, Debug)]
pub struct CredentialRule {
    /// Its name in records.
    pub name: Arc<str>,
    /// The name of the target it is for.
    pub target: Arc<str>,
    /// Whose sessions; everybody's where empty.
    pub agents: Vec<AgentName>,
    /// Sessions that ask for this role; any where absent.
    pub user: Option<Arc<str>>,
    /// The role that is used.
    pub account: Arc<str>,
    /// Where its secret is.
    pub secret: Source,
    /// Where the password is that agents must have; they need none where absent.
    pub placeholder: Option<Source>,
    /// Whether agents are asked for a token in the place of a password.
    pub token_password: Option<TokenPassword>,
    /// How the target may ask for the secret, besides SCRAM-SHA-256.
    pub methods: Methods,
    /// What roles the account makes for sessions, where they don't log in with it themselves.
    pub ephemeral: Option<Arc<EphemeralRule>>,
}

/// A credential and what was read for it.
#[derive(Debug)]
struct Rule {
    rule: CredentialRule,
    loaded: Mutex<Option<Arc<Loaded>>>,
}

/// A credential as its sources were.
#[derive(Debug)]
pub(crate) struct Loaded {
    stamps: (Stamp, Option<Stamp>),
    credential: Arc<Credential>,
    ephemeral: Option<Arc<EphemeralRule>>,
    keys: Mutex<VecDeque<(KeysWanted, Arc<ScramKeys>)>>,
}

/// What a session may be authenticated with, by the role that it asks for.
#[derive(Debug, Default)]
pub(crate) struct Candidates(Vec<(Arc<Rule>, Option<Arc<Loaded>>)>);

/// A credential is configured, and can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unusable;

impl Credentials {
    /// Credentials in the order in which they are tried; and those of the daemon itself, one for a
    /// target, with which it reads catalogs there.
    pub fn new(rules: Vec<CredentialRule>, catalogs: Vec<CredentialRule>) -> Self {
        let rule = |rule| Arc::new(Rule { rule, loaded: Mutex::default() });
        let rules = rules.into_iter().map(rule).collect();
        let catalogs = catalogs.into_iter().map(rule).collect();
        Self { rules, catalogs, derivations: Semaphore::new(DERIVATIONS_MAX) }
    }

    /// Reads all of them once; an error names the source that can't be used and why. What is in a vault
    /// is only sent for: that it can't be reached keeps nobody from anything else.
    pub fn check(&self) -> io::Result<()> {
        for Rule { rule, .. } in self.rules.iter().chain(&self.catalogs).map(AsRef::as_ref) {
            rule.secret.check()?;
            rule.placeholder.as_ref().map_or(Ok(()), Source::check)?;
        }
        Ok(())
    }

    /// Whether the daemon has a role of its own at a target, to read catalogs with.
    pub(crate) fn has_catalog_role(&self, target: &str) -> bool {
        self.catalogs.iter().any(|rule| *rule.rule.target == *target)
    }

    /// The daemon's own role at a target; read anew where it changed.
    pub(crate) async fn catalog_role(&self, target: &str) -> io::Result<Arc<Loaded>> {
        let found = self.catalogs.iter().find(|rule| *rule.rule.target == *target);
        let rule = Arc::clone(found.ok_or(io::ErrorKind::NotFound)?);
        tokio::task::spawn_blocking(move || rule.load()).await.map_err(io::Error::other)?
    }

    /// A credential of sessions by its name; read anew where it changed.
    pub(crate) async fn named(&self, name: &str) -> io::Result<Arc<Loaded>> {
        let found = self.rules.iter().find(|rule| *rule.rule.name == *name);
        let rule = Arc::clone(found.ok_or(io::ErrorKind::NotFound)?);
        tokio::task::spawn_blocking(move || rule.load()).await.map_err(io::Error::other)?
    }

    /// Reads what may be used by an agent's session at a target, where it changed.
    pub(crate) async fn candidates(&self, principal: &Principal, target: &Target) -> Candidates {
        let fits = |one: &&Arc<Rule>| {
            let CredentialRule { target: of, agents, .. } = &one.rule;
            *of == target.name && (agents.is_empty() || agents.contains(&principal.agent))
        };
        let rules: Vec<Arc<Rule>> = self.rules.iter().filter(fits).map(Arc::clone).collect();
        if rules.is_empty() {
            return Candidates::default();
        }
        // Files, a vault, and the placeholder's keys where it changed: not on a worker's thread.
        let spare = rules.clone();
        let read = move || rules.into_iter().map(Rule::candidate).collect();
        match tokio::task::spawn_blocking(read).await {
            Ok(candidates) => Candidates(candidates),
            Err(_) => Candidates::unread(spare),
        }
    }

    /// The keys of a login; computed off the worker's thread, the first time.
    pub(crate) async fn keys(
        &self,
        loaded: Arc<Loaded>,
        wanted: KeysWanted,
    ) -> Option<Arc<ScramKeys>> {
        if let Some(keys) = loaded.keys_for(&wanted) {
            return Some(keys);
        }
        let _permit = self.derivations.acquire().await.ok()?;
        let derive = move || {
            // Another login may have had them computed meanwhile.
            loaded.keys_for(&wanted).unwrap_or_else(|| loaded.derive(wanted))
        };
        tokio::task::spawn_blocking(derive).await.ok()
    }
}

impl Rule {
    fn candidate(rule: Arc<Self>) -> (Arc<Self>, Option<Arc<Loaded>>) {
        let loaded = rule.load();
        if let Err(error) = &loaded {
            warn!(credential = %rule.rule.name, %error, "a credential can't be used");
        }
        (rule, loaded.ok())
    }

    /// What its sources hold; read anew where they changed.
    fn load(&self) -> io::Result<Arc<Loaded>> {
        let secret = self.rule.secret.find()?;
        let placeholder = self.rule.placeholder.as_ref().map(Source::find).transpose()?;
        let stamps = (secret.stamp(), placeholder.as_ref().map(Found::stamp));
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = loaded.as_ref().filter(|known| known.stamps == stamps) {
            return Ok(Arc::clone(known));
        }
        let verifier = |found: Found| -> io::Result<Verifier> {
            let mut salt = [0; 16];
            getrandom::fill(&mut salt).map_err(io::Error::other)?;
            Ok(Verifier::new(&found.read()?, salt))
        };
        let credential = Arc::new(Credential {
            name: Arc::clone(&self.rule.name),
            account: Arc::clone(&self.rule.account),
            secret: secret.read()?,
            methods: self.rule.methods,
            placeholder: placeholder.map(verifier).transpose()?,
        });
        let ephemeral = self.rule.ephemeral.clone();
        let new = Arc::new(Loaded { stamps, credential, ephemeral, keys: Mutex::default() });
        *loaded = Some(Arc::clone(&new));
        Ok(new)
    }
}

impl Loaded {
    /// The credential's name.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.credential.name
    }

    /// The account that it is for.
    pub(crate) fn account(&self) -> &Arc<str> {
        &self.credential.account
    }

    /// What roles it makes for sessions, if it does.
    pub(crate) fn ephemeral(&self) -> Option<&Arc<EphemeralRule>> {
        self.ephemeral.as_ref()
    }

    /// What a session logs in with for which this one makes a role.
    pub(crate) fn guest(&self, role: Arc<str>, secret: Secret<Vec<u8>>) -> Self {
        let Credential { name, account: _, secret: _, methods: _, placeholder } = &*self.credential;
        let credential = Arc::new(Credential {
            name: Arc::clone(name),
            account: role,
            secret,
            // It has a verifier of SCRAM-SHA-256, so nothing else is asked of it by a good server.
            methods: Methods::default(),
            placeholder: placeholder.clone(),
        });
        Self { stamps: self.stamps, credential, ephemeral: None, keys: Mutex::default() }
    }

    /// Keeps keys that were computed elsewhere.
    pub(crate) fn keep(&self, wanted: KeysWanted, keys: Arc<ScramKeys>) {
        let mut kept = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        kept.truncate(KEYS_KEPT - 1);
        kept.push_front((wanted, keys));
    }

    /// The credential for one session.
    pub(crate) fn injection(&self) -> Result<Injection, Unusable> {
        Ok(Injection {
            credential: Arc::clone(&self.credential),
            upstream: nonce()?,
            downstream: nonce()?,
        })
    }

    /// Keys that were computed before.
    pub(crate) fn keys_for(&self, wanted: &KeysWanted) -> Option<Arc<ScramKeys>> {
        let kept = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(of, _)| of == wanted).map(|(_, keys)| Arc::clone(keys))
    }

    fn derive(&self, wanted: KeysWanted) -> Arc<ScramKeys> {
        let keys = Arc::new(ScramKeys::derive(&self.credential.secret, &wanted));
        self.keep(wanted, Arc::clone(&keys));
        keys
    }
}

impl Candidates {
    fn unread(rules: Vec<Arc<Rule>>) -> Self {
        Self(rules.into_iter().map(|rule| (rule, None)).collect())
    }

    /// The credential for sessions that ask for `role`; none where the agent authenticates itself.
    pub(crate) fn of(&self, role: &str) -> Option<Result<Arc<Loaded>, Unusable>> {
        let (_, loaded) = self.rule(role)?;
        Some(loaded.clone().ok_or(Unusable))
    }

    /// What agents are asked for that ask for `role`.
    pub(crate) fn token_password(&self, role: &str) -> Option<TokenPassword> {
        self.rule(role).and_then(|(rule, _)| rule.rule.token_password)
    }

    /// Whether agents that ask for some role are asked for a token.
    pub(crate) fn ask_for_tokens(&self) -> bool {
        self.0.iter().any(|(rule, _)| rule.rule.token_password.is_some())
    }

    fn rule(&self, role: &str) -> Option<&(Arc<Rule>, Option<Arc<Loaded>>)> {
        let fits = |rule: &Rule| rule.rule.user.as_deref().is_none_or(|user| user == role);
        self.0.iter().find(|(rule, _)| fits(rule))
    }
}

fn nonce() -> Result<Nonce, Unusable> {
    let mut bytes = [0; 18];
    getrandom::fill(&mut bytes).map_err(|_| Unusable)?;
    Ok(Nonce(bytes))
}

/// A random key for a session's cancel requests; none without random numbers.
pub(crate) fn cancel_key<const N: usize>() -> Option<Secret<[u8; N]>> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok()?;
    Some(Secret::new(bytes))
}
