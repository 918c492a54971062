//! Tokens for agents that agents start inside themselves (RFC 8693): of the same person, with who acts in between.
//!
//! The inner agent's token is had with the outer one's, for as long as that counts, and had anew before it ends; where
//! the outer one acts by another token, at once. It is kept nowhere: over a restart of the daemon it is had anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use identity::Enrollment;
use identity::oidc::client_credentials::Target;
use identity::oidc::exchange::Exchanged;
use identity::oidc::{Kind, Provider};
use identity::standing::Held;
use schemars::JsonSchema;
use serde::Deserialize;
use tracing::warn;
use types::identity::{Identity, Way};

use super::renewal::Renewal;
use super::tokens::{Proven, Raw};
use super::{Binding, Bindings, INTERVAL, Keeper, NOT_YET, Refused, ends, every, name};

/// What an issuer is asked for when an agent starts another.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExchangeRule {
    /// The resource that the inner agent's token is for (RFC 8707); one of the issuer's audiences.
    resource: Option<String>,
    /// The same by its name at the issuer (RFC 8693 §2.1).
    audience: Option<String>,
    /// Scopes to ask for, separated by blanks; what the issuer gives anyhow where absent.
    #[serde(default)]
    scope: String,
}

impl ExchangeRule {
    /// Checks what it says, with the audiences that tokens must be for.
    pub(super) fn check(&self, audiences: &[String]) -> Result<()> {
        let is_known = self.resource.as_ref().is_none_or(|resource| audiences.contains(resource));
        ensure!(is_known, "resource: one of the issuer's audiences, or its tokens do not count");
        let is_text = |text: &String| !text.is_empty() && !text.contains(char::is_control);
        ensure!(self.audience.as_ref().is_none_or(is_text), "audience: a name");
        Ok(())
    }
}

/// Which issuers exchange tokens, and for which agents they did.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    rules: HashMap<String, ExchangeRule>,
    /// By the inner agent's name and instance: as many as there are agents at most.
    agents: Mutex<HashMap<String, State>>,
}

/// How an inner agent's token stands.
#[derive(Debug)]
struct State {
    /// The outer one's that it was had with.
    subject: Arc<Raw>,
    renewal: Renewal,
    /// Why there is no newer one: said once each.
    failed: Option<Refused>,
}

impl Exchange {
    /// By issuers' identifiers.
    pub(super) fn new(rules: HashMap<String, ExchangeRule>) -> Self {
        Self { rules, agents: Mutex::default() }
    }

    /// Forgets all agents but these.
    pub(super) fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.agents().retain(|agent, _| is_there(agent));
    }

    /// Whether an agent needs another token than it has: it has none that was had with this, or its time has come.
    fn is_due(&self, agent: &str, subject: &Arc<Raw>, now: types::clock::Timestamp) -> bool {
        let agents = self.agents();
        let state = agents.get(agent).filter(|state| Arc::ptr_eq(&state.subject, subject));
        state.is_none_or(|state| state.renewal.is_due(now))
    }

    fn agents(&self) -> MutexGuard<'_, HashMap<String, State>> {
        // No code that can panic runs under this lock.
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// Whom an agent acts for that `outer` starts inside itself, by a token of its own; none where the outer one has
    /// none, or its issuer exchanges none. An error, recorded, where there should be one. May block.
    pub(crate) fn inside(&self, outer: &Enrollment) -> Result<Option<Proven>> {
        let Some((raw, identity)) = self.tokens.get(&name(outer)) else { return Ok(None) };
        let runtime = tokio::runtime::Handle::current();
        let Some(asked) = self.exchange_of(&raw) else { return Ok(None) };
        match runtime.block_on(self.exchange(asked, (&raw, &identity), outer)) {
            Ok(proven) => Ok(Some(proven)),
            Err(refused) => {
                let why = refused.as_str();
                let detail = serde_json::json!({
                    "way": Way::Exchange.as_str(), "inside": name(outer), "idp": raw.issuer, "why": why,
                });
                self.recorder.control("identity.refused", &detail.to_string())?;
                bail!("no token is to be had for an agent inside `{}`: {why}", outer.agent)
            }
        }
    }

    /// Has an agent act for whom [`Keeper::inside`] found, and have new tokens from here on; durable before it
    /// returns.
    pub(crate) fn bind_inside(
        &self,
        enrollment: &Enrollment,
        outer: &Enrollment,
        proven: Proven,
    ) -> Result<()> {
        let binding = Binding { inside: Some(name(outer)), ..Binding::default() };
        let mut bindings = self.bindings();
        bindings.agents.insert(name(enrollment), binding);
        bindings.store(&self.path).context("who the agent acts for can't be kept")?;
        drop(bindings);
        match self.tokens.get(&name(outer)) {
            Some((subject, _)) => self.exchanged(enrollment, &subject, proven),
            // It has ended meanwhile, and what it brought with it.
            None => self.hold(enrollment, Held::Ended(NOT_YET)),
        }
        Ok(())
    }

    /// Has new tokens for agents inside others when it is time, until the runtime ends.
    pub(super) async fn keep_exchanged(self: Arc<Self>, provider: Arc<Provider>) {
        if !self.exchange.rules.contains_key(&provider.issuer().url) {
            return;
        }
        let mut interval = every(INTERVAL);
        loop {
            interval.tick().await;
            for (inner, outer) in self.those_inside() {
                self.keep_one_inside(&provider, &inner, &outer).await;
            }
        }
    }

    async fn keep_one_inside(&self, provider: &Provider, inner: &Enrollment, outer: &Enrollment) {
        // Without one that counts, the outer agent acts for nobody, and so does what is inside.
        let Some((raw, identity)) = self.tokens.get(&name(outer)) else { return };
        let now = self.clock.now();
        let is_of = *raw.issuer == *provider.issuer().url && raw.ended().is_none();
        if !is_of || !self.exchange.is_due(&name(inner), &raw, now) {
            return;
        }
        let Some(asked) = self.exchange_of(&raw) else { return };
        match self.exchange(asked, (&raw, &identity), outer).await {
            Ok(proven) => self.exchanged(inner, &raw, proven),
            Err(why) => {
                let now = self.clock.now();
                let mut agents = self.exchange.agents();
                let state = agents.entry(name(inner)).or_insert_with(|| State {
                    subject: Arc::clone(&raw),
                    renewal: Renewal::AT_ONCE,
                    failed: None,
                });
                state.subject = raw;
                state.renewal.failed(now);
                let is_news = state.failed.replace(why) != Some(why);
                drop(agents);
                if is_news {
                    self.not_exchanged(inner, why);
                }
            }
        }
    }

    /// Ends those inside an agent that is about to act for another person, until they have tokens of that one's.
    pub(super) fn part(&self, bindings: &Bindings, outer: &Enrollment, next: &Identity) {
        let outer = name(outer);
        let is_inside = |binding: &Binding| binding.inside.as_deref() == Some(&*outer);
        if !bindings.agents.values().any(is_inside) {
            return;
        }
        for inner in self.enrollments.list() {
            if bindings.agents.get(&name(&inner)).is_some_and(is_inside)
                && let Held::For(identity) = inner.standing.held()
                && person(&identity) != person(next)
            {
                self.hold(&inner, Held::Ended(NOT_YET));
            }
        }
    }

    fn not_exchanged(&self, inner: &Enrollment, why: Refused) {
        let why = why.as_str();
        warn!(agent = %inner.agent, why, "no token is to be had; the one at hand counts until it ends");
        let detail = serde_json::json!({
            "way": Way::Exchange.as_str(), "agent": inner.agent.as_str(), "instance": inner.instance, "why": why,
        });
        if let Err(error) = self.recorder.control("identity.not_renewed", &detail.to_string()) {
            warn!(%error, "not recorded");
        }
    }

    /// An agent acts by a token that was had with `subject`.
    fn exchanged(&self, inner: &Enrollment, subject: &Arc<Raw>, proven: Proven) {
        let renewal = Renewal::of(ends(&proven.identity) / 1_000_000, self.clock.now());
        let state = State { subject: Arc::clone(subject), renewal, failed: None };
        self.exchange.agents().insert(name(inner), state);
        self.act_by(inner, proven);
    }

    /// What to ask whom for with a token, where its issuer exchanges any.
    fn exchange_of(&self, raw: &Raw) -> Option<(&Arc<Provider>, &ExchangeRule)> {
        let rule = self.exchange.rules.get(&*raw.issuer)?;
        Some((self.providers.get(&raw.issuer)?, rule))
    }

    /// A token for an agent inside `outer`, whose own this is.
    async fn exchange(
        &self,
        (provider, rule): (&Arc<Provider>, &ExchangeRule),
        (raw, identity): (&Raw, &Identity),
        outer: &Enrollment,
    ) -> Result<Proven, Refused> {
        if raw.kind != Kind::AccessToken {
            return Err(Refused::NotObtained("id_token"));
        }
        let client = self.clients.get(&*raw.issuer).ok_or(Refused::NotObtained("no_client"))?;
        let client = client.get().await.map_err(|error| {
            warn!(issuer = %raw.issuer, error = format!("{error:#}"), "no token without the secret");
            Refused::NotObtained("client_secret")
        })?;
        // Who acts is the outer agent: by its own token where the daemon has credentials by its name.
        let named = outer.agent.as_str();
        let has_own = self.obtained_at(named, &raw.issuer);
        let actor = if has_own { self.obtained(named).await?.raw } else { None };
        let asked = Exchanged {
            subject: &raw.token,
            actor: actor.as_ref().map(|actor| &actor.token),
            target: Target { scope: &rule.scope, resource: rule.resource.as_deref() },
            audience: rule.audience.as_deref(),
        };
        let tokens = provider.exchange(&client, asked, self.clock.now()).await;
        let tokens = tokens.map_err(|error| Refused::NotObtained(error.reason()))?;
        let proven = self.believed(tokens.access, Way::Exchange).await?;
        if person(&proven.identity) != person(identity) {
            return Err(Refused::NotObtained("subject"));
        }
        // That somebody acts for the person is what it is for.
        if proven.identity.actors.len() <= identity.actors.len() {
            return Err(Refused::NotObtained("no_actor"));
        }
        let owner = identity.owner.clone();
        let identity = Arc::new(Identity { owner, ..Identity::clone(&proven.identity) });
        Ok(Proven { identity, ..proven })
    }

    /// Agents that have tokens by exchange, with those that they are inside of.
    fn those_inside(&self) -> Vec<(Enrollment, Enrollment)> {
        let bindings = self.bindings();
        if bindings.agents.values().all(|binding| binding.inside.is_none()) {
            return Vec::new();
        }
        let there: HashMap<String, Enrollment> =
            self.enrollments.list().into_iter().map(|one| (name(&one), one)).collect();
        let pair = |(inner, binding): (&String, &Binding)| {
            let outer = there.get(binding.inside.as_ref()?)?.clone();
            Some((there.get(inner)?.clone(), outer))
        };
        bindings.agents.iter().filter_map(pair).collect()
    }
}

/// Who it is: the issuer, and its key for the person.
fn person(identity: &Identity) -> Option<(&str, &str)> {
    identity.subject.as_ref().map(|subject| (&*subject.idp, &*subject.sub))
}
