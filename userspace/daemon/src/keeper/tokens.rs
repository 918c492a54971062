//! The tokens themselves that agents act by, in memory alone: issuers are asked about them and for others by them.
//!
//! They are wiped when they are forgotten, which is when the agent is, or when its identity has ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use identity::oidc::{Kind, Verified};
use types::clock::Timestamp;
use types::identity::{Identity, Subject};
use types::secret::Secret;

use super::Binding;
use super::bindings::CutBy;
use super::introspection::UNCONFIRMED;

/// A token that was verified.
#[derive(Debug)]
pub(super) struct Raw {
    /// Its issuer.
    pub(super) issuer: Arc<str>,
    /// What it is for.
    pub(super) kind: Kind,
    /// The token itself; the issuer's signature is in it, so that nobody else may see it.
    pub(super) token: Secret<String>,
    /// When its issuer last said that it stands, on the monotonic clock.
    confirmed_ns: AtomicU64,
    /// Nobody said so for too long.
    is_late: AtomicBool,
    /// Its issuer said that it does not.
    is_over: AtomicBool,
    /// Its person's groups by its issuer's last answer, where that had any.
    groups: Mutex<Option<Arc<[Arc<str>]>>>,
}

/// Whom an agent acts for, and the token that says so.
#[derive(Clone, Debug)]
pub(crate) struct Proven {
    /// Whom.
    pub(super) identity: Arc<Identity>,
    /// None where nobody but the agent's starter says so.
    pub(super) raw: Option<Arc<Raw>>,
}

/// Tokens by their agents' names and instances, and those of sessions that have one of their own: at most one of 16 KiB
/// for each of [`identity::enrollment::ENROLLMENTS_MAX`] agents and [`types::limits::SESSIONS_MAX`] sessions, 412 MiB; a
/// usual one has 1.5 KiB, and agents share theirs.
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

impl Proven {
    /// The same with its person in the groups that the issuer last said: a token that is kept may have been verified
    /// before that.
    pub(super) fn now(self) -> Self {
        let now = self.raw.as_ref().and_then(|raw| raw.regrouped(&self.identity));
        let identity = now.map_or(self.identity, Arc::new);
        Self { identity, ..self }
    }
}

impl Raw {
    /// A token with what it said when it was verified.
    pub(super) fn of(token: Secret<String>, verified: &Verified) -> Self {
        let Verified { issuer, kind, .. } = verified;
        Self {
            issuer: Arc::clone(issuer),
            kind: *kind,
            token,
            confirmed_ns: AtomicU64::new(0),
            is_late: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            groups: Mutex::default(),
        }
    }

    /// Its issuer said that its person is in these groups.
    pub(super) fn regroup(&self, groups: Arc<[Arc<str>]>) {
        *self.groups.lock().unwrap_or_else(PoisonError::into_inner) = Some(groups);
    }

    /// The identity with its person in the groups that its issuer last said, where those are others.
    pub(super) fn regrouped(&self, identity: &Identity) -> Option<Identity> {
        let (groups, subject) = (self.groups()?, identity.subject.as_ref()?);
        (subject.groups != groups).then(|| {
            let subject = Some(Subject { groups, ..subject.clone() });
            Identity { subject, ..identity.clone() }
        })
    }

    /// Its issuer said at `now` that it stands; answers whether that came too late for who acts by it.
    pub(super) fn confirm(&self, now: Timestamp) -> bool {
        self.confirmed_ns.fetch_max(now.mono_ns, Ordering::Relaxed);
        self.is_late.swap(false, Ordering::Relaxed)
    }

    /// For how long nobody said that it stands.
    pub(super) fn unconfirmed_for(&self, now: Timestamp) -> Duration {
        Duration::from_nanos(now.mono_ns.saturating_sub(self.confirmed_ns.load(Ordering::Relaxed)))
    }

    /// It counts no more until [`Raw::confirm`]; answers whether it did.
    pub(super) fn give_up(&self) -> bool {
        !self.is_late.swap(true, Ordering::Relaxed)
    }

    fn groups(&self) -> Option<Arc<[Arc<str>]>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its issuer said that it stands no longer.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Why it does not count, by its issuer's word or for want of one.
    pub(super) fn ended(&self) -> Option<&'static str> {
        if self.is_over.load(Ordering::Relaxed) {
            return Some(CutBy::TokenRevoked.as_str());
        }
        self.is_late.load(Ordering::Relaxed).then_some(UNCONFIRMED)
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
            if let Some(groups) = raw.groups() {
                same.regroup(groups);
            }
            same.confirmed_ns
                .fetch_max(raw.confirmed_ns.load(Ordering::Relaxed), Ordering::Relaxed);
            proven.raw = Some(same);
        }
        kept.insert(agent.to_owned(), proven);
    }

    /// An issuer's access tokens, each with the agents that act by it.
    pub(super) fn of(&self, issuer: &str) -> Vec<(Arc<Raw>, Vec<String>)> {
        let mut found: HashMap<*const Raw, (Arc<Raw>, Vec<String>)> = HashMap::new();
        for (agent, one) in self.kept().iter() {
            let Some(raw) = &one.raw else { continue };
            if raw.kind == Kind::AccessToken && *raw.issuer == *issuer {
                let entry = found.entry(Arc::as_ptr(raw));
                entry.or_insert_with(|| (Arc::clone(raw), Vec::new())).1.push(agent.clone());
            }
        }
        found.into_values().collect()
    }

    /// How many agents act by ID tokens of an issuer.
    pub(super) fn by_id_token(&self, issuer: &str) -> usize {
        let kept = self.kept();
        let raws = kept.values().filter_map(|one| one.raw.as_ref());
        raws.filter(|raw| raw.kind == Kind::IdToken && *raw.issuer == *issuer).count()
    }

    /// The token that an agent acts by, and whom that is of.
    pub(super) fn get(&self, agent: &str) -> Option<(Arc<Raw>, Arc<Identity>)> {
        let kept = self.kept();
        let one = kept.get(agent)?;
        Some((Arc::clone(one.raw.as_ref()?), Arc::clone(&one.identity)))
    }

    /// Whom an agent acts for by this token, if it acts by it still.
    pub(super) fn identity(&self, agent: &str, raw: &Arc<Raw>) -> Option<Arc<Identity>> {
        let kept = self.kept();
        let one = kept.get(agent)?;
        let is_this = one.raw.as_ref().is_some_and(|own| Arc::ptr_eq(own, raw));
        is_this.then(|| Arc::clone(&one.identity))
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
        let raw = Raw {
            issuer: "https://idp.example".into(),
            kind: Kind::AccessToken,
            token: Secret::new(token.to_owned()),
            confirmed_ns: AtomicU64::new(0),
            is_late: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            groups: Mutex::default(),
        };
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
        let mut of: Vec<_> = tokens.of("https://idp.example");
        of.sort_by_key(|(_, agents)| agents.len());
        let agents: Vec<_> = of.into_iter().map(|(raw, agents)| (raw, agents.len())).collect();
        assert!(
            matches!(&agents[..], [(one, 1), (two, 2)] if Arc::ptr_eq(one, &c) && Arc::ptr_eq(two, &a))
        );
        drop(agents);
        assert!(tokens.of("https://other.example").is_empty());
        assert!(tokens.identity("a.1", &a).is_some() && tokens.identity("a.1", &c).is_none());
        let left = Arc::downgrade(&a);
        drop((a, b));
        tokens.forget("a.1");
        assert!(left.upgrade().is_some());
        tokens.keep("b.1", Proven { identity: Arc::default(), raw: None });
        assert!(left.upgrade().is_none());
        tokens.retain(|agent| agent != "c.1");
        assert!(tokens.kept().is_empty());
        let at = |seconds: u64| Timestamp { mono_ns: seconds * 1_000_000_000, unix_us: 0 };
        assert!(!c.confirm(at(5)) && c.ended().is_none());
        assert_eq!(c.unconfirmed_for(at(7)), Duration::from_secs(2));
        assert!(c.give_up() && !c.give_up() && c.ended() == Some(UNCONFIRMED));
        assert!(c.confirm(at(8)) && c.ended().is_none());
        let subject = Subject {
            user: "Carl".into(),
            idp: "https://idp.example".into(),
            sub: "carl".into(),
            groups: ["a".into(), "b".into()].into(),
            token: Arc::default(),
        };
        let identity = Identity { subject: Some(subject), ..Identity::default() };
        assert_eq!(c.regrouped(&identity), None, "nobody said");
        c.regroup(["a".into(), "b".into()].into());
        assert_eq!(c.regrouped(&identity), None);
        c.regroup(Arc::default());
        assert!(c.regrouped(&identity).unwrap().subject.unwrap().groups.is_empty());
        assert_eq!(c.regrouped(&Identity::default()), None);
        let kept = Proven { identity: identity.into(), raw: Some(Arc::clone(&c)) }.now();
        assert!(kept.identity.subject.as_ref().unwrap().groups.is_empty());
        c.end();
        assert_eq!(c.ended(), Some("token_revoked"));
        assert!(!format!("{c:?}").contains("\"u\""));
    }
}
