//! `[[identity]]`: credentials of agents' own that the daemon holds (RFC 6749 §4.4). It has a token by them, for as
//! long as an agent acts by one; no agent ever sees it.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use identity::oidc::client_credentials::Target;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::task::JoinSet;
use tracing::{info, warn};
use types::clock::Timestamp;
use types::control::Verdict;
use types::identity::Way;

use super::client::{ClientRule, OwnClient};
use super::config::IssuerRule;
use super::doctor;
use super::renewal::Renewal;
use super::tokens::Proven;
use super::{EXPIRED, INTERVAL, Keeper, Refused, ends, every, name};
use crate::secret::{Place, Stores, VaultSecret};

/// Identities at most: each has a task, a token of 16 KiB at most, and asks its issuer once a minute where that is away.
const IDENTITIES_MAX: usize = 256;

/// A client at an issuer that agents act as: `vestibule run --as NAME`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentityRule {
    /// Its name here.
    name: String,
    /// The issuer: the url of an `[[issuer]]`.
    issuer: String,
    /// The client's id there.
    client_id: String,
    /// The file that holds its secret; root's alone, mode 0600 or 0400. Read again each time it is used.
    secret_file: Option<PathBuf>,
    /// The same by its name among systemd's credentials (`LoadCredential=`).
    secret_credential: Option<String>,
    /// The variable of the daemon's environment that holds it; the daemon takes it out of there.
    secret_env: Option<String>,
    /// Where it is in the vault.
    secret_vault: Option<VaultSecret>,
    /// Scopes to ask for, separated by blanks; what the client has anyhow where absent.
    #[serde(default)]
    scope: String,
    /// The resource that its tokens are for (RFC 8707); one of the issuer's audiences.
    resource: Option<String>,
}

impl IdentityRule {
    /// Its name here.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn client(&self) -> ClientRule {
        let Self { client_id, secret_file, secret_credential, secret_env, secret_vault, .. } =
            self.clone();
        ClientRule {
            id: client_id,
            secret_file,
            secret_credential,
            secret_env,
            secret_vault,
            scope: None,
            resource: None,
        }
    }

    /// Where its secret is said to be.
    fn place(&self) -> Place<'_> {
        Place {
            file: self.secret_file.as_ref(),
            credential: self.secret_credential.as_ref(),
            env: self.secret_env.as_ref(),
            vault: self.secret_vault.as_ref(),
        }
    }

    fn check(&self, issuers: &[IssuerRule], has_vault: bool) -> Result<()> {
        let is_name = |name: &str| !name.is_empty() && !name.contains(char::is_control);
        ensure!(is_name(&self.name) && self.name.len() <= 63, "name: 1 to 63 bytes");
        let is_known = issuers.iter().any(|issuer| issuer.url() == self.issuer);
        ensure!(is_known, "issuer: `{}` is no [[issuer]]'s url", self.issuer);
        self.client().check(has_vault)?;
        self.place().check()
    }
}

/// Checks them all, without what their secrets are; `has_vault` where there is one to ask.
pub(crate) fn check(rules: &[IdentityRule], issuers: &[IssuerRule], has_vault: bool) -> Result<()> {
    ensure!(rules.len() <= IDENTITIES_MAX, "identity: at most {IDENTITIES_MAX}");
    for (at, rule) in rules.iter().enumerate() {
        let context = || format!("identity `{}`", rule.name);
        rule.check(issuers, has_vault).with_context(context)?;
        let is_twice = rules.iter().take(at).any(|other| other.name == rule.name);
        ensure!(!is_twice, "identity `{}`: a name that no other has", rule.name);
    }
    Ok(())
}

/// Where their secrets are said to be.
pub(crate) fn places(rules: &[IdentityRule]) -> impl Iterator<Item = Place<'_>> {
    rules.iter().map(IdentityRule::place)
}

/// One of them, with its token where there is one.
#[derive(Debug)]
pub(super) struct Obtained {
    name: String,
    issuer: String,
    client: OwnClient,
    scope: String,
    resource: Option<String>,
    /// Held while the issuer is asked: one token at a time.
    asking: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// By the last token.
    proven: Option<Proven>,
    renewal: Renewal,
    /// Why there is no newer one.
    failed: Option<Refused>,
    /// Which of that was said: once each.
    told: Option<Refused>,
    /// Agents, by name and instance, that act by this token already.
    acting: HashSet<String>,
}

impl Obtained {
    /// Those of the configuration, with secrets from these stores; no issuer is asked yet.
    pub(super) fn open(rules: &[IdentityRule], stores: Stores<'_>) -> Result<Vec<Arc<Self>>> {
        let open = |rule: &IdentityRule| {
            let client = rule.client().own(stores);
            let client = client.with_context(|| format!("identity `{}`", rule.name))?;
            let IdentityRule { name, issuer, scope, resource, .. } = rule.clone();
            let state = State {
                proven: None,
                renewal: Renewal::AT_ONCE,
                failed: None,
                told: None,
                acting: HashSet::new(),
            };
            let (asking, state) = (tokio::sync::Mutex::default(), Mutex::new(state));
            Ok(Arc::new(Self { name, issuer, client, scope, resource, asking, state }))
        };
        rules.iter().map(open).collect()
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How it stands.
    pub(super) async fn checked(&self) -> (Verdict, String) {
        let failed = self.state().failed;
        match failed {
            Some(why) => (Verdict::Fail, format!("no token is to be had: {}", why.as_str())),
            None => doctor::secret(&self.client).await,
        }
    }

    /// Has the agents that act by it looked at again.
    pub(super) fn look_again(&self) {
        self.state().acting.clear();
    }

    /// By its token, where that has not ended.
    fn at_hand(&self, now: Timestamp) -> Option<Proven> {
        let counts = |proven: &Proven| {
            let is_over = proven.raw.as_ref().is_some_and(|raw| raw.ended().is_some());
            ends(&proven.identity) > now.unix_us && !is_over
        };
        self.state().proven.clone().filter(counts)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// Whether there is an identity of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.obtained.iter().any(|one| one.name == name)
    }

    /// Whether there is one of that name at that issuer.
    pub(super) fn obtained_at(&self, name: &str, issuer: &str) -> bool {
        self.obtained.iter().any(|one| one.name == name && one.issuer == issuer)
    }

    /// Whom an agent acts for by one of the daemon's identities: by the token at hand, or by a new one.
    pub(super) async fn obtained(&self, name: &str) -> Result<Proven, Refused> {
        let one = self.obtained.iter().find(|one| one.name == name);
        let one = one.ok_or(Refused::NoSuchIdentity)?;
        if one.at_hand(self.clock.now()).is_none() {
            // Whoever starts an agent waits for no pause.
            one.state().renewal = Renewal::AT_ONCE;
        }
        let renewed = self.renew(one).await;
        // What holds counts though a newer one is not to be had.
        let at_hand = one.at_hand(self.clock.now());
        let missing = || renewed.err().unwrap_or(Refused::NotObtained(EXPIRED));
        self.uncut(at_hand.ok_or_else(missing)?)
    }

    /// Has new tokens when it is time, and agents act by them, until the runtime ends.
    pub(super) async fn keep_obtained(self: Arc<Self>) {
        let mut tasks = JoinSet::new();
        for one in &self.obtained {
            let (keeper, one) = (Arc::clone(&self), Arc::clone(one));
            tasks.spawn_local(async move {
                let mut interval = every(INTERVAL);
                loop {
                    interval.tick().await;
                    keeper.keep_one(&one).await;
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn keep_one(&self, one: &Obtained) {
        let agents = self.those_bound(|own| own.identity.as_deref() == Some(one.name.as_str()));
        if agents.is_empty() {
            one.state().acting.clear();
            return;
        }
        let renewed = self.renew(one).await;
        if let Err(why) = renewed
            && one.state().told.replace(why) != Some(why)
        {
            self.not_renewed(one, why, agents.len());
        }
        let Some(proven) = one.at_hand(self.clock.now()) else { return };
        for (enrollment, binding) in agents {
            let is_news = one.state().acting.insert(name(&enrollment));
            if is_news {
                self.act_by(&enrollment, proven.clone().owned(&binding));
            }
        }
    }

    /// Has a new token where it is time for one.
    async fn renew(&self, one: &Obtained) -> Result<(), Refused> {
        let _asking = one.asking.lock().await;
        let is_due = one.state().renewal.is_due(self.clock.now());
        if !is_due {
            return one.state().failed.map_or(Ok(()), Err);
        }
        let asked = self.ask_for(one).await;
        let now = self.clock.now();
        let mut state = one.state();
        match asked {
            Ok(proven) => {
                info!(identity = one.name, "a token was obtained");
                let expires_s = ends(&proven.identity) / 1_000_000;
                let renewal = Renewal::of(expires_s, now);
                *state = State {
                    proven: Some(proven),
                    renewal,
                    failed: None,
                    told: None,
                    acting: HashSet::new(),
                };
                Ok(())
            }
            Err(why) => {
                state.renewal.failed(now);
                state.failed = Some(why);
                Err(why)
            }
        }
    }

    async fn ask_for(&self, one: &Obtained) -> Result<Proven, Refused> {
        let provider = self.providers.get(&one.issuer).ok_or(Refused::NoSuchIdentity)?;
        let client = one.client.get().await.map_err(|error| {
            warn!(identity = one.name, error = format!("{error:#}"), "no token without the secret");
            Refused::NotObtained("client_secret")
        })?;
        let target = Target { scope: &one.scope, resource: one.resource.as_deref() };
        let asked = provider.client_credentials(&client, target, self.clock.now()).await;
        let tokens = asked.map_err(|error| Refused::NotObtained(error.reason()))?;
        self.prove(tokens.access, Way::Client).await
    }

    fn not_renewed(&self, one: &Obtained, why: Refused, agents: usize) {
        let (identity, why) = (&one.name, why.as_str());
        warn!(identity, why, agents, "no token is to be had; the one at hand counts until it ends");
        let detail = serde_json::json!({
            "as": identity, "idp": one.issuer, "why": why, "agents": agents,
        });
        if let Err(error) = self.recorder.control("identity.not_renewed", &detail.to_string()) {
            warn!(%error, "not recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        issuer: Vec<IssuerRule>,
        identity: Vec<IdentityRule>,
    }

    fn told(identity: &str) -> String {
        let issuer = "[[issuer]]\nurl='https://a'\naudiences=['x']\n";
        let File { issuer, identity } = toml::from_str(&format!("{issuer}{identity}")).unwrap();
        check(&identity, &issuer, false).map_or_else(|error| format!("{error:#}"), |()| "ok".into())
    }

    #[test]
    fn mistakes_are_named() {
        let one = "[[identity]]\nname='a'\nissuer='https://a'\nclient_id='c'\n";
        assert_eq!(told(&format!("{one}secret_env='X'\n")), "ok");
        for (text, wanted) in [
            (one.to_owned(), "one of secret_file"),
            (format!("{one}secret_env='X'\nsecret_file='/x'\n"), "one of secret_file"),
            (format!("{one}secret_vault={{path='x'}}\n"), "there is no [vault]"),
            (format!("{one}secret_env='X'\n{one}secret_env='X'\n"), "a name that no other has"),
            (
                "[[identity]]\nname='a'\nissuer='https://b'\nclient_id='c'\nsecret_env='X'".into(),
                "`https://b` is no [[issuer]]'s url",
            ),
            (
                "[[identity]]\nname=''\nissuer='https://a'\nclient_id='c'\nsecret_env='X'".into(),
                "name: 1 to 63",
            ),
        ] {
            let told = told(&text);
            assert!(told.contains(wanted), "{told}");
        }
    }
}
