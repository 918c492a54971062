//! Whom agents act for: their tokens are read and verified, and end; people are cut off.
//!
//! An agent that was started with a token acts for nobody until that is verified, and for nobody any more once it
//! has ended: its sessions are told at once. One that was started without has what is around it, or nobody.

mod bearers;
mod bindings;
mod client;
mod config;
mod doctor;
mod exchange;
mod files;
mod introspection;
mod login;
mod logins;
mod logout;
mod obtained;
mod person;
mod presented;
mod renewal;
mod tokens;
mod visitors;
mod voter;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use identity::oidc::{Kind, Providers, TokenError, Verified};
use identity::standing::Held;
use identity::{Enrollment, Enrollments};
use journal::recorder::Recorder;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};
use tracing::{info, warn};
use types::clock::{Clock, Timestamp};
use types::control::ActingAgent;
use types::identity::{Identity, Way};
use types::secret::Secret;

use crate::secret::Stores;
pub(crate) use bearers::Bearers;
use bindings::Bindings;
pub(crate) use bindings::{Binding, Cut, CutBy};
use client::OwnClient;
use config::Issuers;
pub(crate) use config::{IssuerRule, Logout, Rules};
use exchange::Exchange;
use files::Read;
use introspection::{Introspection, UNCONFIRMED};
use logins::{LOG_IN_AGAIN, LOGIN_ENDED, Logins};
pub(crate) use logout::serve as serve_logout;
pub(crate) use obtained::IdentityRule;
use obtained::Obtained;
pub(crate) use tokens::Proven;
use tokens::{Raw, Tokens};
pub(crate) use visitors::{Visitors, people_of};

/// How long a token may live, in seconds: a cut is kept until every token of before it has ended.
pub(crate) const LIFE_S_MAX: i64 = 7 * 86_400;

/// How often files and ends are looked at. A look is a stat(2) for each agent that has a file.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often keys are looked after.
const KEYS_INTERVAL: Duration = Duration::from_mins(1);

/// Why an agent with a token acts for nobody: it has expired.
const EXPIRED: &str = "expired";

/// The same: nobody has looked at it yet.
const NOT_YET: &str = "not_yet_verified";

/// Keeps identities.
pub(crate) struct Keeper {
    enrollments: Arc<Enrollments>,
    providers: Providers,
    /// The daemon's own clients, by their issuers.
    clients: HashMap<String, OwnClient>,
    /// The identities that it holds credentials of.
    obtained: Vec<Arc<Obtained>>,
    introspection: Introspection,
    exchange: Exchange,
    /// People logged in on this host.
    logins: Logins,
    tokens: Tokens,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    path: PathBuf,
    bindings: Mutex<Bindings>,
    /// Sessions that act by a token of their own.
    sessions: bearers::Sessions,
    /// How each agent's file was when it was last read.
    read: Mutex<HashMap<String, Read>>,
}

/// Why a token file gives no identity; the words in records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// It can't be read.
    Unreadable,
    /// What is in it is no token that counts.
    Token(TokenError),
    /// It lives longer than [`LIFE_S_MAX`].
    LivesTooLong,
    /// Its person was cut off.
    Cut(CutBy),
    /// No credential of that name is held here.
    NoSuchIdentity,
    /// The issuer gave none for a credential that is held here; why.
    NotObtained(&'static str),
    /// Its issuer does not say whether it stands; why.
    Unconfirmed(&'static str),
    /// Of two tokens of one login, each is of another person.
    OtherPerson,
}

impl Refused {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "no_token",
            Self::Token(error) => error.reason(),
            Self::LivesTooLong => "lives_too_long",
            Self::Cut(cut) => cut.as_str(),
            Self::NoSuchIdentity => "no_such_identity",
            Self::NotObtained(why) | Self::Unconfirmed(why) => why,
            Self::OtherPerson => "other_person",
        }
    }

    /// Whether the same file may count later: its issuer could not be asked.
    fn may_pass(self) -> bool {
        match self {
            Self::Token(error) => error.reason() == "issuer_unreachable",
            Self::Unconfirmed(_) => true,
            Self::Unreadable
            | Self::LivesTooLong
            | Self::Cut(_)
            | Self::NoSuchIdentity
            | Self::NotObtained(_)
            | Self::OtherPerson => false,
        }
    }
}

impl Keeper {
    /// Keeps the identities of these agents, as before the last end of the daemon.
    pub(crate) fn open(
        (rules, stores): (Rules<'_>, Stores<'_>),
        state_dir: &Path,
        enrollments: Arc<Enrollments>,
        recorder: Recorder,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let path = state_dir.join("identities.json");
        let bindings = Mutex::new(Bindings::load(&path)?);
        let issuers = Issuers::open(rules.issuers, stores)?;
        let Issuers { providers, clients, introspection, exchange } = issuers;
        let obtained = Obtained::open(rules.identities, stores)?;
        let (read, tokens, logins) = (Mutex::default(), Tokens::default(), Logins::default());
        let sessions = bearers::Sessions::default();
        Ok(Self {
            enrollments,
            providers,
            clients,
            obtained,
            introspection,
            exchange,
            logins,
            tokens,
            recorder,
            clock,
            path,
            bindings,
            sessions,
            read,
        })
    }

    /// Whom an agent would act for that has this binding; an error where it must not be started. May block.
    pub(crate) fn check(&self, binding: &Binding) -> Result<Option<Proven>> {
        let Binding { token_file, identity, owner, login, presented: _, inside: _ } = binding;
        if let Some(file) = token_file {
            ensure!(file.is_absolute(), "the token file's path must be absolute");
        }
        let runtime = tokio::runtime::Handle::current();
        let found = match (token_file, identity) {
            (Some(file), _) => runtime.block_on(self.identity(file.clone())),
            (None, Some(identity)) => runtime.block_on(self.obtained(identity)),
            (None, None) if let Some(login) = login => {
                let proven = self.logins.proven(login).context("the login has ended")?;
                return Ok(Some(proven.owned(binding)));
            }
            (None, None) => {
                return Ok(owner.as_deref().map(|owner| person::owned(owner).into()));
            }
        };
        match found {
            Ok(proven) => Ok(Some(proven.owned(binding))),
            Err(refused) => {
                let why = refused.as_str();
                let detail = serde_json::json!({
                    "token_file": token_file, "as": identity, "why": why,
                });
                self.recorder.control("identity.refused", &detail.to_string())?;
                let whose = || identity.as_ref().map(|identity| format!("of `{identity}`"));
                let held = token_file.as_ref().map(|file| format!("in {}", file.display()));
                bail!("the token {} does not count: {why}", held.or_else(whose).unwrap_or_default())
            }
        }
    }

    /// Has an agent act for whom [`Keeper::check`] found, and follow its token from here on; durable before it
    /// returns.
    pub(crate) fn bind(
        &self,
        enrollment: &Enrollment,
        binding: Binding,
        proven: Option<Proven>,
    ) -> Result<()> {
        if !binding.is_given() {
            return Ok(());
        }
        let mut bindings = self.bindings();
        bindings.agents.insert(name(enrollment), binding);
        bindings.store(&self.path).context("who the agent acts for can't be kept")?;
        drop(bindings);
        if let Some(proven) = proven {
            self.act_by(enrollment, proven);
        }
        Ok(())
    }

    /// Has an agent that a rule has enrolled act for whom the rule says: by a token, once that was verified, which the
    /// next looks do; until then, for nobody.
    pub(crate) fn bind_by_rule(&self, enrollment: &Enrollment, binding: Binding) {
        let owner = binding.owner.as_deref().filter(|_| !binding.has_token());
        let proven = owner.map(|owner| person::owned(owner).into());
        if let Err(error) = self.bind(enrollment, binding, proven) {
            let (agent, error) = (&enrollment.agent, format!("{error:#}"));
            warn!(%agent, error, "whom an agent acts for is not kept over a restart");
        }
    }

    /// After a start: agents that had a token act for nobody until it is read again.
    pub(crate) fn resume(&self) {
        let bindings = self.bindings().clone();
        for enrollment in self.enrollments.list() {
            match bindings.agents.get(&name(&enrollment)) {
                Some(Binding { login: Some(_), .. }) => {
                    enrollment.standing.set(Held::Ended(LOG_IN_AGAIN));
                }
                Some(Binding { identity: Some(identity), .. }) if !self.has(identity) => {
                    enrollment.standing.set(Held::Ended(Refused::NoSuchIdentity.as_str()));
                }
                Some(Binding { presented: true, .. }) => {
                    enrollment.standing.set(Held::Ended("daemon_restarted"));
                }
                Some(binding) if binding.has_token() => {
                    enrollment.standing.set(Held::Ended(NOT_YET));
                }
                Some(Binding { owner: Some(owner), .. }) => {
                    enrollment.standing.set(Held::For(Arc::new(person::owned(owner))));
                }
                Some(_) | None => {}
            }
        }
    }

    /// Looks at files, at ends and after issuers' keys, until the runtime ends. An issuer that hangs keeps no
    /// identity from ending.
    pub(crate) async fn watch(self: Arc<Self>) {
        let ends = async {
            let mut interval = every(INTERVAL);
            loop {
                interval.tick().await;
                self.end_those_over();
                self.end_those_unconfirmed();
                self.end_sessions_over();
                // Whoever could not write it has said so.
                self.bindings().store_again(&self.path);
            }
        };
        let files = async {
            let mut interval = every(INTERVAL);
            loop {
                interval.tick().await;
                self.follow_all().await;
            }
        };
        let keys = async {
            let mut interval = every(KEYS_INTERVAL);
            loop {
                interval.tick().await;
                self.tend().await;
            }
        };
        let mut asks = JoinSet::new();
        for provider in self.providers.iter() {
            asks.spawn_local(Arc::clone(&self).introspect(Arc::clone(provider)));
            asks.spawn_local(Arc::clone(&self).keep_exchanged(Arc::clone(provider)));
        }
        let obtained = Arc::clone(&self).keep_obtained();
        tokio::join!(ends, files, keys, obtained, asks.join_all());
    }

    /// Cuts somebody off, from now on. Answers the agents that it met, and whether it is kept over restarts:
    /// where it can't be, it counts all the same as long as the daemon runs.
    pub(crate) fn cut(&self, cut: &Cut) -> (Vec<String>, Result<()>) {
        let now = self.clock.now();
        let mut bindings = self.bindings();
        let kept = bindings.cut(cut.clone(), now.unix_us / 1_000_000);
        drop(bindings);
        let mut met = Vec::new();
        for enrollment in self.enrollments.list() {
            if let Held::For(identity) = enrollment.standing.held()
                && cut.meets(&identity)
            {
                self.hold(&enrollment, Held::Ended(cut.why.as_str()));
                met.push(name(&enrollment));
            }
        }
        met.extend(self.cut_logins(cut));
        met.extend(self.cut_sessions(cut));
        met.sort_unstable();
        met.dedup();
        let kept = kept.and_then(|()| self.bindings().store(&self.path));
        (met, kept.context("what was cut off is not kept over a restart"))
    }

    /// Takes back what [`Keeper::cut`] did for an operator; answers whether there was anything.
    pub(crate) fn lift(&self, subject: &str, idp: Option<&str>) -> Result<bool> {
        let mut bindings = self.bindings();
        let lifted = bindings.lift(subject, idp);
        bindings.store(&self.path)?;
        drop(bindings);
        // Files are read again with the next look.
        self.read().clear();
        self.obtained.iter().for_each(|one| one.look_again());
        Ok(lifted)
    }

    /// Who has logged out by a token of the issuer's, cut off; the agents that it met.
    pub(crate) async fn logged_out(
        &self,
        token: &Secret<String>,
    ) -> Result<Vec<String>, TokenError> {
        let out = self.providers.logout(token, self.clock.now()).await?;
        let cut = Cut {
            idp: Some(out.issuer.to_string()),
            subject: out.subject.as_ref().map(ToString::to_string),
            session: out.session_id.as_ref().map(ToString::to_string),
            before_s: Some(out.issued_at),
            why: CutBy::LoggedOut,
        };
        let (met, kept) = self.cut(&cut);
        if let Err(error) = &kept {
            warn!(error = format!("{error:#}"), "a logout");
        }
        let detail = serde_json::json!({
            "idp": out.issuer, "sub": out.subject, "sid": out.session_id, "token": out.token_id,
            "agents": met, "kept": kept.is_ok(),
        });
        if let Err(error) = self.recorder.control("identity.logged_out", &detail.to_string()) {
            warn!(%error, "a logout could not be recorded");
        }
        Ok(met)
    }

    /// Ends what is over its time.
    fn end_those_over(&self) {
        let now = self.clock.now();
        for enrollment in self.enrollments.list() {
            if let Held::For(identity) = enrollment.standing.held()
                && ends(&identity) <= now.unix_us
            {
                self.hold(&enrollment, Held::Ended(EXPIRED));
            }
        }
    }

    /// Fetches the keys of issuers before they are old.
    async fn tend(&self) {
        for provider in self.providers.iter() {
            if let Err(error) = provider.tend(self.clock.now()).await {
                let (issuer, why) = (&provider.issuer().url, error.reason());
                warn!(
                    issuer,
                    why,
                    "an issuer's keys are not to be had; those at hand count until their limit"
                );
            }
        }
    }

    /// Whom a token is of that came this way, where it counts and its person was not cut off.
    async fn believed(&self, token: Secret<String>, way: Way) -> Result<Proven, Refused> {
        self.uncut(self.prove(token, way).await?)
    }

    /// Whom a token is of that came this way, if it is sound.
    async fn prove(&self, token: Secret<String>, way: Way) -> Result<Proven, Refused> {
        let now = self.clock.now();
        let verified = self.verify(&token, now).await.map_err(Refused::Token)?;
        if verified.expires_at.saturating_sub(verified.issued_at) > LIFE_S_MAX {
            return Err(Refused::LivesTooLong);
        }
        let raw = Raw::of(token, &verified);
        let identity = self.confirmed(&raw, verified.identity(way), now).await?;
        Ok(Proven { identity: Arc::new(identity), raw: Some(Arc::new(raw)) })
    }

    /// The same, unless that person was cut off.
    fn uncut(&self, proven: Proven) -> Result<Proven, Refused> {
        match self.bindings().cut_of(&proven.identity) {
            Some(cut) => Err(Refused::Cut(cut)),
            None => Ok(proven),
        }
    }

    /// An access token, or an ID token: which one, its own header says.
    async fn verify(&self, token: &Secret<String>, now: Timestamp) -> Result<Verified, TokenError> {
        match self.providers.verify(token, Kind::AccessToken, now).await {
            Err(TokenError::WrongKind) => self.providers.verify(token, Kind::IdToken, now).await,
            verified => verified,
        }
    }

    /// Has an agent act by what was proven from here on, if nobody was cut off meanwhile.
    fn act_by(&self, enrollment: &Enrollment, proven: Proven) {
        self.act_by_in(&self.bindings(), enrollment, proven);
    }

    /// The same, under this lock: a cut comes before, or meets it.
    fn act_by_in(&self, bindings: &Bindings, enrollment: &Enrollment, proven: Proven) {
        let proven = proven.now();
        if let Some(cut) = bindings.cut_of(&proven.identity) {
            return self.hold(enrollment, Held::Ended(cut.as_str()));
        }
        let login = bindings.agents.get(&name(enrollment)).and_then(|own| own.login.as_deref());
        if login.is_some_and(|login| !self.logins.stands(login)) {
            // Where it has ended already, with the better word.
            if let Held::For(_) = enrollment.standing.held() {
                self.hold(enrollment, Held::Ended(LOGIN_ENDED));
            }
            return;
        }
        let ended = proven.raw.as_ref().and_then(|raw| raw.ended());
        let held = ended.map_or(Held::For(Arc::clone(&proven.identity)), Held::Ended);
        self.part(bindings, enrollment, &proven.identity);
        self.tokens.keep(&name(enrollment), proven);
        self.hold(enrollment, held);
    }

    /// Tells an agent's sessions, and writes it down; the token of an identity that ended is forgotten.
    fn hold(&self, enrollment: &Enrollment, held: Held) {
        if matches!(held, Held::Ended(why) if why != UNCONFIRMED) {
            self.tokens.forget(&name(enrollment));
        }
        let (kind, detail) = match &held {
            Held::For(identity) => ("identity.bound", person::detail(enrollment, identity, None)),
            Held::Ended(why) => {
                let identity = match enrollment.standing.held() {
                    Held::For(identity) => identity,
                    Held::Ended(_) => Arc::default(),
                };
                ("identity.ended", person::detail(enrollment, &identity, Some(why)))
            }
        };
        if !enrollment.standing.set(held) {
            return;
        }
        info!(agent = %enrollment.agent, instance = %enrollment.instance, kind, "identity");
        if let Err(error) = self.recorder.control(kind, &detail) {
            warn!(%error, "an identity could not be recorded");
        }
    }

    /// Forgets what agents had that are no more.
    fn forget(&self) {
        let mut bindings = self.bindings();
        // Under this lock: an agent is enrolled before it is bound.
        let mut there: HashSet<String> = self.enrollments.list().iter().map(name).collect();
        there.extend(self.sessions.keys());
        self.tokens.retain(|key| there.contains(key) || logins::is_token(key));
        self.exchange.retain(|agent| there.contains(agent));
        if bindings.agents.is_empty() {
            return;
        }
        let before = bindings.agents.len();
        bindings.agents.retain(|key, _| there.contains(key));
        if bindings.agents.len() < before
            && let Err(error) = bindings.store(&self.path)
        {
            warn!(error = format!("{error:#}"), "identities are not kept");
        }
        drop(bindings);
        self.read().retain(|key, _| there.contains(key));
    }

    /// The agents with bindings like that.
    fn those_bound(&self, is_meant: impl Fn(&Binding) -> bool) -> Vec<(Enrollment, Binding)> {
        let bindings = self.bindings();
        if !bindings.agents.values().any(&is_meant) {
            return Vec::new();
        }
        let of = |enrollment: Enrollment| {
            let binding = bindings.agents.get(&name(&enrollment))?;
            is_meant(binding).then(|| (enrollment, binding.clone()))
        };
        self.enrollments.list().into_iter().filter_map(of).collect()
    }

    fn bindings(&self) -> MutexGuard<'_, Bindings> {
        self.bindings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> MutexGuard<'_, HashMap<String, Read>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An agent, and whom it acts for.
pub(crate) fn acting(enrollment: &Enrollment) -> ActingAgent {
    let (identity, ended) = match enrollment.standing.held() {
        Held::For(identity) => (identity, None),
        Held::Ended(why) => (Arc::default(), Some(why.to_owned())),
    };
    let subject = identity.subject.as_ref();
    let text = |text: &Arc<str>| text.as_ref().to_owned();
    let links = identity.actors.iter().map(ToString::to_string);
    ActingAgent {
        agent: enrollment.agent.as_str().to_owned(),
        instance: text(&enrollment.instance),
        user: subject.map(|subject| text(&subject.user)),
        idp: subject.map(|subject| text(&subject.idp)),
        sub: subject.map(|subject| text(&subject.sub)),
        groups: subject.map_or_else(Vec::new, |one| one.groups.iter().map(text).collect()),
        expires_s: subject.map(|subject| subject.token.expires_s),
        owner: identity.owner.as_ref().map(text),
        chain: links.chain(enrollment.chain.iter().map(ToString::to_string)).collect(),
        ended,
        sessions: u64::try_from(enrollment.standing.sessions()).unwrap_or(u64::MAX),
    }
}

/// A tick in each period; late ones do not come in a row.
fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// An agent's name and instance, as `vestibule status` shows it.
fn name(enrollment: &Enrollment) -> String {
    format!("{}.{}", enrollment.agent, enrollment.instance)
}

/// When an identity ends, microseconds since 1970 UTC.
fn ends(identity: &Identity) -> i64 {
    let ends = identity.subject.as_ref().map(|subject| subject.token.expires_s);
    ends.map_or(i64::MAX, |seconds| seconds.saturating_mul(1_000_000))
}
