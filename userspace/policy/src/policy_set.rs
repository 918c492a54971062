//! A compiled policy set, and the sessions it has been sliced for.
//!
//! Does not read files and does not watch them: a new set is a new value.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use cedar_policy::{Policy, PrincipalConstraint};
use lru::LruCache;
use mask::classification::Classification;
use sha2::{Digest, Sha256};
use types::addr::OrigDst;
use types::decision::Limit;
use types::id::AgentName;
use types::identity::{Identity, Subject, Token};
use types::principal::{Assurance, Principal};
use types::target::Target;

use crate::authorize::SessionPolicy;
use crate::load::{self, LoadError, Loaded};
use crate::obligation::{Annotations, SoftObligation};
use crate::request;

/// What a policy set is made from.
#[derive(Clone, Debug, Default)]
pub struct PolicySource {
    /// The Cedar schema, in Cedar's own syntax.
    pub schema: String,
    /// File name and text of each policy file.
    pub policies: Vec<(String, String)>,
    /// The classification, TOML.
    pub classification: String,
}

impl PolicySource {
    /// The source that the files of a policy directory make, each given by name and text:
    /// `vestibule.cedarschema`, `classification.toml`, and every `*.cedar` in the order of names.
    /// Other files are passed over.
    pub fn from_files(
        files: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, MissingFile> {
        let (mut schema, mut classification, mut policies) = (None, None, Vec::new());
        for (name, text) in files {
            match name.as_str() {
                "vestibule.cedarschema" => schema = Some(text),
                "classification.toml" => classification = Some(text),
                _ if Path::new(&name).extension().is_some_and(|e| e == "cedar") => {
                    policies.push((name, text));
                }
                _ => {}
            }
        }
        if policies.is_empty() {
            return Err(MissingFile("*.cedar"));
        }
        policies.sort();
        Ok(Self {
            schema: schema.ok_or(MissingFile("vestibule.cedarschema"))?,
            policies,
            classification: classification.ok_or(MissingFile("classification.toml"))?,
        })
    }
}

/// A policy directory lacks this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {0}")]
pub struct MissingFile(&'static str);

/// A compiled, validated policy set.
pub struct PolicySet {
    loaded: Arc<Loaded>,
    sessions: Mutex<LruCache<SessionKey, Arc<SessionPolicy>>>,
}

impl PolicySet {
    /// Compiles a source: strict validation, and every warning is an error.
    ///
    /// # Errors
    ///
    /// Says which file, policy and line is wrong.
    pub fn compile(source: &PolicySource) -> Result<Self, LoadError> {
        let loaded = Arc::new(load::load(source, digest(source))?);
        Ok(Self { loaded, sessions: Mutex::new(LruCache::new(SESSIONS_KEPT)) })
    }

    /// SHA-256 over schema, policies in the order of their names, and classification.
    pub fn digest(&self) -> [u8; 32] {
        self.loaded.digest
    }

    /// The classes of data and where they are.
    pub fn classification(&self) -> &Classification {
        &self.loaded.classification
    }

    /// The limits over windows that any policy sets.
    pub fn windows(&self) -> Vec<Limit> {
        let of = |annotations: &Annotations| match &annotations.obligation {
            Some(SoftObligation::Limit(limits)) => limits.to_vec(),
            _ => Vec::new(),
        };
        let limits = self.loaded.annotations.values().flat_map(of);
        limits.filter(|limit| limit.window_s.is_some()).collect()
    }

    /// Whether any policy has commands wait for people.
    pub fn asks_people(&self) -> bool {
        let asks = |one: &Annotations| matches!(one.obligation, Some(SoftObligation::Approve(_)));
        self.loaded.annotations.values().any(asks)
    }

    /// The policies that can matter to `principal` at `target`; equal ones share one answer and
    /// its memory of decisions.
    pub fn session(&self, principal: &Principal, target: &Target) -> Arc<SessionPolicy> {
        let key = SessionKey::new(principal, target);
        if let Some(known) = self.sessions().get(&key) {
            return Arc::clone(known);
        }
        // Two sessions may build the same at once; either is right.
        let session = Arc::new(SessionPolicy::new(Arc::clone(&self.loaded), principal, target));
        self.sessions().put(key, Arc::clone(&session));
        session
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, LruCache<SessionKey, Arc<SessionPolicy>>> {
        // No code that can panic runs under this lock.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a policy's scope can match this principal: `==` and `in` name an agent that is neither it nor in
/// its chain, a group or an actor that is not behind it, exactly when the scope is false for it, so leaving
/// it out changes nothing.
pub(crate) fn concerns(policy: &Policy, principal: &Principal) -> bool {
    match policy.principal_constraint() {
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => true,
        PrincipalConstraint::Eq(uid) => uid == request::agent_uid(&principal.agent),
        PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => {
            uid == request::agent_uid(&principal.agent)
                || principal.chain.iter().any(|agent| uid == request::agent_uid(agent))
                || request::behind(&principal.identity).any(|one| uid == one)
        }
    }
}

/// What a session's decisions can depend on: everything that goes into entities and context.
#[derive(PartialEq, Eq, Hash)]
struct SessionKey {
    agent: AgentName,
    chain: Arc<[AgentName]>,
    uid: u32,
    assurance: &'static str,
    identity: Identity,
    target: Arc<str>,
    addr: OrigDst,
    database: Option<Arc<str>>,
    account: Option<Arc<str>>,
    role: Option<Arc<str>>,
}

impl SessionKey {
    fn new(principal: &Principal, target: &Target) -> Self {
        let Principal { agent, instance: _, chain, identity, process, assurance } = principal;
        let Target { name, addr, host: _, protocol: _, database, account, credential: _, tls: _ } =
            target;
        let assurance: Assurance = *assurance;
        Self {
            agent: agent.clone(),
            chain: Arc::clone(chain),
            uid: process.uid,
            assurance: assurance.as_str(),
            identity: decisive(identity),
            target: Arc::clone(name),
            addr: *addr,
            database: database.clone(),
            account: account.clone(),
            role: target.role().cloned(),
        }
    }
}

/// What of an identity decisions can depend on: all but which token it is, and until when.
fn decisive(identity: &Identity) -> Identity {
    let subject = identity.subject.clone().map(|subject| {
        let Token { client, methods, class, .. } = (*subject.token).clone();
        let token = Token { client, methods, class, ..Token::default() };
        Subject { token: token.into(), ..subject }
    });
    Identity { subject, ..identity.clone() }
}

/// Sessions kept: 1,024 × (256 decisions × about 350 B + slice) is near 100 MiB at the very worst.
const SESSIONS_KEPT: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// Each part goes in behind its length, so that no two sources hash the same bytes.
fn digest(source: &PolicySource) -> [u8; 32] {
    let PolicySource { schema, policies, classification } = source;
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    part(schema);
    let mut sorted: Vec<&(String, String)> = policies.iter().collect();
    sorted.sort();
    for (name, text) in sorted {
        part(name);
        part(text);
    }
    part(classification);
    hash.finalize().into()
}
