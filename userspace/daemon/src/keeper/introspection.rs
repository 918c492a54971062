//! Whether tokens still stand, by their issuers' word (RFC 7662), asked again and again.
//!
//! Each access token is asked about before it counts, and then once in each interval. One that stands no longer ends
//! who acts by it; so does an issuer that has not said for the time of grace, until it says again.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use identity::oidc::introspection::{Hint, Introspected};
use identity::oidc::{Client, Issuer, Kind, Provider};
use identity::standing::{Held, Standing};
use tracing::warn;
use types::clock::Timestamp;
use types::identity::Identity;

use super::bindings::CutBy;
use super::tokens::{Proven, Raw};
use super::{EXPIRED, Keeper, Refused, every, name};

/// Why an agent acts for nobody for the time being: nobody said for too long whether its token stands.
pub(super) const UNCONFIRMED: &str = "unconfirmed";

/// Questions without an answer, of one round, after which the rest of it is left to the next.
const FAILURES_MAX: usize = 8;

/// An hour: longer, and it is no continuous evaluation.
const INTERVAL_S_MAX: u64 = 3_600;

/// A day.
const GRACE_S_MAX: u64 = 86_400;

/// How often an issuer is asked about its tokens, and how long they go on without its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) interval: Duration,
    pub(super) grace: Duration,
}

impl Rule {
    /// The rule of a configuration; none where issuers are not asked.
    pub(super) fn of(interval_s: Option<u64>, grace_s: Option<u64>) -> Result<Option<Self>> {
        let Some(interval) = interval_s else {
            ensure!(grace_s.is_none(), "introspect_grace_s: of introspect_interval_s");
            return Ok(None);
        };
        let bounds = 1..=INTERVAL_S_MAX;
        ensure!(bounds.contains(&interval), "introspect_interval_s: from 1 to {INTERVAL_S_MAX}");
        // Five questions may go without an answer.
        let grace = grace_s.unwrap_or(5 * interval);
        let bounds = interval..=GRACE_S_MAX;
        ensure!(
            bounds.contains(&grace),
            "introspect_grace_s: from introspect_interval_s to {GRACE_S_MAX}"
        );
        let (interval, grace) = (Duration::from_secs(interval), Duration::from_secs(grace));
        Ok(Some(Self { interval, grace }))
    }
}

/// The issuers that are asked, and how that went last.
#[derive(Debug, Default)]
pub(super) struct Introspection {
    issuers: HashMap<String, Asked>,
    questions: AtomicU64,
    unanswered: AtomicU64,
}

#[derive(Debug)]
struct Asked {
    rule: Rule,
    /// Why the last question went without an answer.
    failed: Mutex<Option<&'static str>>,
}

impl Introspection {
    /// Those with a rule, by their identifiers.
    pub(super) fn new(rules: HashMap<String, Rule>) -> Self {
        let asked = |(url, rule)| (url, Asked { rule, failed: Mutex::default() });
        Self { issuers: rules.into_iter().map(asked).collect(), ..Self::default() }
    }

    /// How an issuer is asked, where it is.
    pub(super) fn rule(&self, issuer: &str) -> Option<Rule> {
        self.issuers.get(issuer).map(|asked| asked.rule)
    }

    /// Why the last question to an issuer went without an answer.
    pub(super) fn failed(&self, issuer: &str) -> Option<&'static str> {
        self.issuers.get(issuer).and_then(|asked| *asked.failed())
    }

    /// Questions so far, and how many of them went without an answer.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.questions.load(Ordering::Relaxed), self.unanswered.load(Ordering::Relaxed))
    }

    fn count(&self, word: &Word) {
        self.questions.fetch_add(1, Ordering::Relaxed);
        if word.missing().is_some() {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes how a question went; answers whether that is news.
    fn note(&self, issuer: &str, failed: Option<&'static str>) -> bool {
        let Some(asked) = self.issuers.get(issuer) else { return false };
        std::mem::replace(&mut *asked.failed(), failed) != failed
    }
}

impl Asked {
    fn failed(&self) -> MutexGuard<'_, Option<&'static str>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is said of a token.
enum Word {
    /// It stands; its person's groups of now, where they are said.
    Stands(Option<Arc<[Arc<str>]>>),
    /// It does not.
    Over,
    /// Nothing, and why.
    None(&'static str),
}

impl Word {
    /// Why there is none.
    fn missing(&self) -> Option<&'static str> {
        match self {
            Self::None(why) => Some(why),
            Self::Stands(_) | Self::Over => None,
        }
    }
}

impl Keeper {
    /// Asks about a token before it counts; whom it is of by the answer.
    pub(super) async fn confirmed(
        &self,
        raw: &Raw,
        identity: Identity,
        now: Timestamp,
    ) -> Result<Identity, Refused> {
        let is_asked = raw.kind == Kind::AccessToken;
        if !is_asked || self.introspection.rule(&raw.issuer).is_none() {
            return Ok(identity);
        }
        let (Some(provider), Some(client)) =
            (self.providers.get(&raw.issuer), self.clients.get(&*raw.issuer))
        else {
            return Err(Refused::Unconfirmed("no_client"));
        };
        let client = client.get().await.map_err(|_| Refused::Unconfirmed("client_secret"))?;
        let word = ask(provider, &client, raw, &identity, now).await;
        self.introspection.count(&word);
        self.note(&raw.issuer, word.missing());
        match word {
            Word::Stands(groups) => {
                raw.confirm(now);
                if let Some(groups) = groups {
                    raw.regroup(groups);
                }
                Ok(raw.regrouped(&identity).unwrap_or(identity))
            }
            Word::Over => Err(Refused::Cut(CutBy::TokenRevoked)),
            Word::None(why) => Err(Refused::Unconfirmed(why)),
        }
    }

    /// Asks an issuer about its tokens, again and again.
    pub(super) async fn introspect(self: Arc<Self>, provider: Arc<Provider>) {
        let Some(rule) = self.introspection.rule(&provider.issuer().url) else { return };
        let mut interval = every(rule.interval);
        loop {
            interval.tick().await;
            self.ask_all(&provider, rule).await;
        }
    }

    /// Asks once about each token that was not asked about just now, those first that were not for longest.
    async fn ask_all(&self, provider: &Provider, rule: Rule) {
        let url = &provider.issuer().url;
        let Some(client) = self.clients.get(url) else { return };
        let now = self.clock.now();
        let mut due = self.tokens.of(url);
        // With twice the interval between two questions at most.
        due.retain(|(raw, _)| raw.unconfirmed_for(now) >= rule.interval / 2);
        if due.is_empty() {
            return;
        }
        due.sort_by_key(|(raw, _)| std::cmp::Reverse(raw.unconfirmed_for(now)));
        let failed = match client.get().await {
            Ok(client) => self.ask_each(provider, &client, due.into()).await,
            Err(error) => {
                warn!(issuer = url, error = format!("{error:#}"), "nobody can be asked");
                Some("client_secret")
            }
        };
        self.note(url, failed);
    }

    /// Asks about each of these, four at once; why one went without an answer.
    async fn ask_each(
        &self,
        provider: &Provider,
        client: &Client,
        due: VecDeque<(Arc<Raw>, Vec<String>)>,
    ) -> Option<&'static str> {
        let (due, failures, failed) = (RefCell::new(due), Cell::new(0), Cell::new(None));
        let next = || due.borrow_mut().pop_front().filter(|_| failures.get() < FAILURES_MAX);
        let asks = || async {
            while let Some((raw, agents)) = next() {
                let whose = |agent: &String| self.tokens.identity(agent, &raw);
                let Some(identity) = agents.iter().find_map(whose) else { continue };
                let word = ask(provider, client, &raw, &identity, self.clock.now()).await;
                self.introspection.count(&word);
                if let Some(why) = word.missing() {
                    failures.set(failures.get() + 1);
                    failed.set(Some(why));
                }
                self.heed(provider.issuer(), (&raw, &agents), word);
            }
        };
        tokio::join!(asks(), asks(), asks(), asks());
        failed.get()
    }

    fn heed(&self, issuer: &Issuer, (raw, agents): (&Arc<Raw>, &[String]), word: Word) {
        match word {
            Word::Stands(groups) => {
                if let Some(groups) = groups {
                    raw.regroup(groups);
                }
                self.stands(raw, agents);
            }
            Word::Over => self.over(raw, agents, issuer.clock_skew_s),
            Word::None(_) => {}
        }
    }

    /// Says, in the log and the record, when an issuer can't be asked any more, and when it can again.
    fn note(&self, issuer: &str, failed: Option<&'static str>) {
        if !self.introspection.note(issuer, failed) {
            return;
        }
        let kind = match failed {
            Some(why) => {
                warn!(issuer, why, "an issuer does not say whether its tokens stand");
                "introspection.failed"
            }
            None => "introspection.restored",
        };
        let detail = serde_json::json!({ "idp": issuer, "why": failed });
        if let Err(error) = self.recorder.control(kind, &detail.to_string()) {
            warn!(%error, "not recorded");
        }
    }

    /// The issuer says that a token stands, and perhaps who its person is now.
    fn stands(&self, raw: &Arc<Raw>, agents: &[String]) {
        let was_late = raw.confirm(self.clock.now());
        for agent in agents {
            let Some(before) = self.tokens.identity(agent, raw) else { continue };
            let now = raw.regrouped(&before);
            if now.is_none() && !was_late {
                continue;
            }
            let identity = now.map_or(before, Arc::new);
            if let Some(standing) = self.sessions.standing(agent) {
                self.goes_on_for(agent, &standing, Proven { identity, raw: Some(Arc::clone(raw)) });
                continue;
            }
            let Some(enrollment) = self.enrollment(agent) else { continue };
            let bindings = self.bindings();
            // Under this lock, so that what ended it meanwhile is not taken back.
            if self.tokens.identity(agent, raw).is_some() {
                let raw = Some(Arc::clone(raw));
                self.act_by_in(&bindings, &enrollment, Proven { identity, raw });
            }
        }
    }

    /// The issuer says that a token stands no longer; `skew_s` is what its clock and ours may differ by.
    fn over(&self, raw: &Arc<Raw>, agents: &[String], skew_s: u64) {
        raw.end();
        let skew_us = i64::try_from(skew_s).unwrap_or(0).saturating_mul(1_000_000);
        let now_us = self.clock.now().unix_us.saturating_add(skew_us);
        for agent in agents {
            let Some(identity) = self.tokens.identity(agent, raw) else { continue };
            let is_expired = super::ends(&identity) <= now_us;
            let why = if is_expired { EXPIRED } else { CutBy::TokenRevoked.as_str() };
            self.end(agent, why);
        }
    }

    /// Ends who acts by a token of which nobody said for too long whether it stands.
    pub(super) fn end_those_unconfirmed(&self) {
        let now = self.clock.now();
        for url in self.introspection.issuers.keys() {
            let Some(rule) = self.introspection.rule(url) else { continue };
            for (raw, agents) in self.tokens.of(url) {
                if raw.unconfirmed_for(now) < rule.grace || !raw.give_up() {
                    continue;
                }
                for agent in agents {
                    self.end(&agent, UNCONFIRMED);
                }
            }
        }
    }

    /// Ends an agent's identity, or a session's own, which does not come back.
    fn end(&self, agent: &str, why: &'static str) {
        if let Some(standing) = self.sessions.standing(agent) {
            standing.set(Held::Ended(why));
            self.tokens.forget(agent);
        } else if let Some(enrollment) = self.enrollment(agent) {
            self.hold(&enrollment, Held::Ended(why));
        }
    }

    /// A session's own identity is another, by its issuer's word.
    fn goes_on_for(&self, session: &str, standing: &Standing, proven: Proven) {
        // Under this lock, so that what ended it meanwhile is not taken back.
        let bindings = self.bindings();
        let holds = matches!(standing.held(), Held::For(_));
        if holds && bindings.cut_of(&proven.identity).is_none() {
            standing.set(Held::For(Arc::clone(&proven.identity)));
            self.tokens.keep(session, proven);
        }
    }

    fn enrollment(&self, agent: &str) -> Option<identity::Enrollment> {
        self.enrollments.list().into_iter().find(|enrollment| name(enrollment) == agent)
    }
}

/// Asks about one token of which this was verified.
async fn ask(
    provider: &Provider,
    client: &Client,
    raw: &Raw,
    identity: &Identity,
    now: Timestamp,
) -> Word {
    match provider.introspect(client, &raw.token, Hint::Access, now).await {
        Ok(Introspected::Active { subject, groups, .. }) => {
            let own = identity.subject.as_ref().map(|subject| &*subject.sub);
            // Of somebody else, it is no answer to what was asked.
            let is_same = subject.is_none_or(|theirs| own.is_none_or(|own| *theirs == *own));
            if is_same { Word::Stands(groups.map(Into::into)) } else { Word::None("subject") }
        }
        Ok(Introspected::Inactive) => Word::Over,
        Err(error) => Word::None(error.reason()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_has_bounds_and_a_time_of_grace() {
        let s = Duration::from_secs;
        assert_eq!(Rule::of(None, None).unwrap(), None);
        let rule = Rule::of(Some(30), None).unwrap();
        assert_eq!(rule, Some(Rule { interval: s(30), grace: s(150) }));
        let rule = Rule::of(Some(3_600), Some(86_400)).unwrap();
        assert_eq!(rule, Some(Rule { interval: s(3_600), grace: s(86_400) }));
        for (interval, grace) in [
            (None, Some(5)),
            (Some(0), None),
            (Some(3_601), None),
            (Some(30), Some(29)),
            (Some(30), Some(86_401)),
        ] {
            assert!(Rule::of(interval, grace).is_err(), "{interval:?} {grace:?}");
        }
    }
}
