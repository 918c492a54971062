//! `[[credential]]`: what the daemon authenticates agents' sessions with.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto::postgres::Methods;
use proxy::bearer::TokenPassword;
use proxy::credentials::{CredentialRule, Credentials};
use proxy::ephemeral::EphemeralRule;
use proxy::secret::Source;
use proxy::secret::vault::Vault;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::approvals;
use crate::config::{Config, ProtocolName, Target};
use crate::secret::{Place, Stores, VaultSecret, VaultServer};
use crate::shipping;

/// A credential: agents' sessions at a target are authenticated with it, and no agent has it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "systemd calls it a credential too")]
pub(crate) struct Credential {
    /// Its name in records; `ACCOUNT@TARGET` where absent.
    name: Option<String>,
    /// The name of the target it is for.
    target: String,
    /// The agents whose sessions it is for; all where absent.
    #[serde(default)]
    agents: Vec<String>,
    /// The role that an agent asks for; any where absent. Others authenticate themselves, as far as
    /// no other credential is for them.
    user: Option<String>,
    /// The role that is used at the target.
    account: String,
    /// The file that holds the password; root's alone, mode 0600 or 0400. Read again when it changes.
    secret_file: Option<PathBuf>,
    /// The same by its name among systemd's credentials (`LoadCredential=`).
    secret_credential: Option<String>,
    /// The variable of the daemon's environment that holds it; the daemon takes it out of there.
    secret_env: Option<String>,
    /// Where it is in the vault.
    secret_vault: Option<VaultSecret>,
    /// The file that holds what the agent has for its password: it must prove that it has it, by
    /// SCRAM-SHA-256. Agents are asked for no password where absent.
    placeholder_file: Option<PathBuf>,
    /// Whether agents are asked for a token of an issuer in the place of a password: their sessions act for whom it
    /// names. Agents are asked for none where absent.
    token_password: Option<TokenPasswordName>,
    /// Where the account makes a role for each session, in the place of being used by all.
    ephemeral: Option<Ephemeral>,
    /// Whether the target may ask for an MD5 password.
    #[serde(default)]
    allow_md5: bool,
    /// Whether the target may ask for the password itself, inside TLS.
    #[serde(default)]
    allow_cleartext: bool,
    /// Whether it may do so outside of TLS.
    #[serde(default)]
    allow_cleartext_without_tls: bool,
    /// Whether it may ask for nothing, so that it proves nothing either.
    #[serde(default)]
    allow_none: bool,
}

impl Credential {
    /// Checks what it says, without what its secret is.
    fn check(&self, targets: &[Target]) -> Result<()> {
        let target = targets.iter().find(|target| target.name == self.target);
        let target = target.with_context(|| format!("target: `{}` is none", self.target))?;
        let is_database = target.protocol == ProtocolName::Postgresql;
        ensure!(is_database, "target: `{}` speaks HTTP, which has no accounts here", self.target);
        let is_name = |text: &str| !text.is_empty() && !text.contains('\0');
        ensure!(is_name(&self.account), "account: a role's name");
        ensure!(self.user.as_deref().is_none_or(is_name), "user: a role's name");
        self.ephemeral.as_ref().map_or(Ok(()), |ephemeral| ephemeral.rule().map(drop))?;
        // The agent has one password.
        let is_one = self.token_password.is_none() || self.placeholder_file.is_none();
        ensure!(is_one, "one of placeholder_file and token_password");
        self.place().check()
    }

    /// Its name in records.
    fn name(&self) -> String {
        let given = || format!("{}@{}", self.account, self.target);
        self.name.clone().unwrap_or_else(given)
    }

    fn rule(&self, targets: &[Target], stores: Stores<'_>) -> Result<CredentialRule> {
        self.check(targets)?;
        let agents = self.agents.iter().map(|agent| {
            agent.parse().with_context(|| format!("agents: `{agent}` is no agent's name"))
        });
        Ok(CredentialRule {
            name: self.name().into(),
            target: self.target.as_str().into(),
            agents: agents.collect::<Result<_>>()?,
            user: self.user.as_deref().map(Into::into),
            account: self.account.as_str().into(),
            secret: self.place().source(stores)?,
            placeholder: self.placeholder_file.clone().map(Source::File),
            token_password: self.token_password.map(Into::into),
            ephemeral: self.ephemeral.as_ref().map(Ephemeral::rule).transpose()?.map(Arc::new),
            methods: Methods {
                md5: self.allow_md5,
                cleartext: self.allow_cleartext,
                cleartext_without_tls: self.allow_cleartext_without_tls,
                none: self.allow_none,
            },
        })
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
}

/// When agents are asked for a token.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum TokenPasswordName {
    /// A token counts; any other password is as good as none.
    Optional,
    /// Without one there is no session.
    Required,
}

impl From<TokenPasswordName> for TokenPassword {
    fn from(name: TokenPasswordName) -> Self {
        match name {
            TokenPasswordName::Optional => Self::Optional,
            TokenPasswordName::Required => Self::Required,
        }
    }
}

/// Roles that are made for sessions, one for each.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Ephemeral {
    /// Roles that are granted to them; the account must be allowed to.
    #[serde(default)]
    grants: Vec<String>,
    /// Seconds for which their passwords are good; 3600 where absent.
    valid_s: Option<u64>,
    /// What their names begin with; `vst_` where absent.
    prefix: Option<String>,
}

impl Ephemeral {
    fn rule(&self) -> Result<EphemeralRule> {
        let valid_s = self.valid_s.unwrap_or(VALID_S);
        ensure!((60..=VALID_S_MAX).contains(&valid_s), "valid_s: from 60 to {VALID_S_MAX}");
        let prefix = self.prefix.as_deref().unwrap_or("vst_");
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let is_good = (1..=16).contains(&prefix.len()) && prefix.bytes().all(good);
        // PostgreSQL keeps `pg_` to itself.
        ensure!(
            is_good && !prefix.starts_with("pg_"),
            "prefix: 1 to 16 lower-case letters, digits and underscores"
        );
        let is_name = |name: &String| !name.is_empty() && name.len() <= 63 && !name.contains('\0');
        ensure!(self.grants.iter().all(is_name), "grants: names of roles");
        Ok(EphemeralRule {
            grants: self.grants.iter().map(|name| name.as_str().into()).collect(),
            valid: Duration::from_secs(valid_s),
            prefix: prefix.into(),
        })
    }
}

/// An hour: a session that is open goes on after it.
const VALID_S: u64 = 3_600;

/// A day.
const VALID_S_MAX: u64 = 86_400;

/// The role with which the daemon itself reads what relations there are at a target.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Catalog {
    /// The role; where absent, catalogs are read on agents' own connections, with their rights.
    account: Option<String>,
    /// The file that holds its password; root's alone, mode 0600 or 0400. Read again when it changes.
    secret_file: Option<PathBuf>,
    /// The same by its name among systemd's credentials (`LoadCredential=`).
    secret_credential: Option<String>,
    /// The variable of the daemon's environment that holds it; the daemon takes it out of there.
    secret_env: Option<String>,
    /// Where it is in the vault.
    secret_vault: Option<VaultSecret>,
    /// Whether the target may ask for an MD5 password.
    allow_md5: bool,
    /// Whether the target may ask for the password itself, inside TLS.
    allow_cleartext: bool,
    /// Whether it may do so outside of TLS.
    allow_cleartext_without_tls: bool,
    /// Whether it may ask for nothing, so that it proves nothing either.
    allow_none: bool,
    /// Seconds after which what was defined elsewhere is looked for; 300 where absent.
    interval_s: Option<u64>,
}

impl Catalog {
    /// After which time a catalog is read again.
    pub(crate) fn interval(&self) -> Result<Duration> {
        let seconds = self.interval_s.unwrap_or(INTERVAL_S);
        ensure!((1..=INTERVAL_S_MAX).contains(&seconds), "interval_s: from 1 to {INTERVAL_S_MAX}");
        Ok(Duration::from_secs(seconds))
    }

    /// The credential of its role, if it has one.
    fn credential(&self, target: &str) -> Result<Option<Credential>> {
        let Self { account, secret_file, secret_credential, secret_env, secret_vault, .. } =
            self.clone();
        let Some(account) = account else {
            let is_none = secret_file.is_none() && secret_credential.is_none();
            let is_none = is_none && secret_env.is_none() && secret_vault.is_none();
            ensure!(is_none, "account: the role that the secret is of");
            return Ok(None);
        };
        Ok(Some(Credential {
            name: None,
            target: target.to_owned(),
            agents: Vec::new(),
            user: None,
            account,
            secret_file,
            secret_credential,
            secret_env,
            secret_vault,
            placeholder_file: None,
            token_password: None,
            ephemeral: None,
            allow_md5: self.allow_md5,
            allow_cleartext: self.allow_cleartext,
            allow_cleartext_without_tls: self.allow_cleartext_without_tls,
            allow_none: self.allow_none,
        }))
    }
}

/// What others defined is seen within five minutes.
const INTERVAL_S: u64 = 300;

/// A day: longer, and it is as good as never.
const INTERVAL_S_MAX: u64 = 86_400;

/// Checks all of them, without what their secrets are.
pub(crate) fn check(config: &Config) -> Result<()> {
    if let Some(vault) = &config.vault {
        vault.rules().context("vault")?;
    }
    for (context, one) in all(config)? {
        let check = || {
            one.check(&config.target)?;
            let is_there = one.secret_vault.is_none() || config.vault.is_some();
            ensure!(is_there, "secret_vault: there is no [vault]");
            let is_there = one.token_password.is_none() || !config.issuer.is_empty();
            ensure!(is_there, "token_password: there is no [[issuer]]");
            Ok(())
        };
        check().context(context)?;
    }
    let named =
        |one: &Credential| config.credential.iter().filter(|c| c.name() == one.name()).count();
    let mut makers = config.credential.iter().filter(|one| one.ephemeral.is_some());
    ensure!(
        makers.all(|one| named(one) == 1),
        "ephemeral: the credential needs a name that no other has"
    );
    Ok(())
}

/// The vault, where there is one; its thread starts here.
pub(crate) fn vault(config: &Config) -> Result<Option<Vault>> {
    let start = |vault: &VaultServer| anyhow::Ok(Vault::start(vault.rules()?)?);
    config.vault.as_ref().map(start).transpose().context("vault")
}

/// The credentials, in order.
pub(crate) fn credentials(config: &Config, stores: Stores<'_>) -> Result<Credentials> {
    let rules = |all: Vec<(String, Credential)>| -> Result<Vec<CredentialRule>> {
        let rule = |(context, one): (String, Credential)| {
            one.rule(&config.target, stores).context(context)
        };
        all.into_iter().map(rule).collect()
    };
    Ok(Credentials::new(rules(of_sessions(config))?, rules(of_catalogs(config)?)?))
}

/// The variables of the environment that hold secrets.
pub(crate) fn variables(config: &Config) -> Result<Vec<String>> {
    let of_clients = config.identities().places().filter_map(|place| place.env.cloned());
    let of_webhooks = approvals::places(config).filter_map(|place| place.env.cloned());
    let own = all(config)?.into_iter().filter_map(|(_, one)| one.secret_env);
    let of_ship = shipping::variables(config.archive.ship.as_ref());
    Ok(own.chain(of_clients).chain(of_webhooks).chain(of_ship).collect())
}

/// What guarded agents may not see: each secret's file, with its directory where that is root's alone,
/// since a file that is replaced is another one.
pub(crate) fn hidden(config: &Config) -> Result<Vec<PathBuf>> {
    let is_private = |path: &Path| {
        let others = fs::metadata(path).map(|metadata| metadata.mode() & 0o077);
        others.is_ok_and(|others| others == 0)
    };
    let mut files = Vec::new();
    for (context, one) in all(config)? {
        files.extend(one.place().file_path().context(context)?);
        files.extend(one.placeholder_file);
    }
    for place in config.identities().places() {
        files.extend(place.file_path().context("an issuer's client")?);
    }
    for place in approvals::places(config) {
        files.extend(place.file_path().context("a webhook")?);
    }
    if let Some(vault) = &config.vault {
        files.push(vault.file().context("vault")?);
    }
    let mut hidden = Vec::new();
    for file in files {
        hidden.extend(file.parent().filter(|dir| is_private(dir)).map(Path::to_owned));
        hidden.push(file);
    }
    Ok(hidden)
}

/// All credentials, each with what an error is about.
fn all(config: &Config) -> Result<Vec<(String, Credential)>> {
    let mut all = of_sessions(config);
    all.extend(of_catalogs(config)?);
    Ok(all)
}

fn of_sessions(config: &Config) -> Vec<(String, Credential)> {
    let numbered = config.credential.iter().enumerate();
    numbered.map(|(at, one)| (format!("credential {}", at + 1), one.clone())).collect()
}

fn of_catalogs(config: &Config) -> Result<Vec<(String, Credential)>> {
    let mut all = Vec::new();
    for target in &config.target {
        let context = format!("target `{}`: catalog", target.name);
        let one = target.catalog.credential(&target.name).with_context(|| context.clone())?;
        all.extend(one.map(|one| (context, one)));
    }
    Ok(all)
}
