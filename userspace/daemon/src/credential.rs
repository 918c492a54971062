//! `[[credential]]`: what the daemon authenticates agents' sessions with.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use proto::postgres::Methods;
use proxy::credentials::{CredentialRule, Credentials};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::Target;

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
    /// The file that holds what the agent has for its password: it must prove that it has it, by
    /// SCRAM-SHA-256. Agents are asked for no password where absent.
    placeholder_file: Option<PathBuf>,
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
    fn rule(&self, targets: &[Target]) -> Result<CredentialRule> {
        ensure!(targets.iter().any(|t| t.name == self.target), "target: `{}` is none", self.target);
        let is_name = |text: &str| !text.is_empty() && !text.contains('\0');
        ensure!(is_name(&self.account), "account: a role's name");
        ensure!(self.user.as_deref().is_none_or(is_name), "user: a role's name");
        let agents = self.agents.iter().map(|agent| {
            agent.parse().with_context(|| format!("agents: `{agent}` is no agent's name"))
        });
        let name = self.name.clone();
        Ok(CredentialRule {
            name: name.unwrap_or_else(|| format!("{}@{}", self.account, self.target)).into(),
            target: self.target.as_str().into(),
            agents: agents.collect::<Result<_>>()?,
            user: self.user.as_deref().map(Into::into),
            account: self.account.as_str().into(),
            secret: self.secret()?,
            placeholder: self.placeholder_file.clone(),
            methods: Methods {
                md5: self.allow_md5,
                cleartext: self.allow_cleartext,
                cleartext_without_tls: self.allow_cleartext_without_tls,
                none: self.allow_none,
            },
        })
    }

    fn secret(&self) -> Result<PathBuf> {
        match (&self.secret_file, &self.secret_credential) {
            (Some(file), None) => Ok(file.clone()),
            (None, Some(name)) => {
                ensure!(!name.contains('/') && name != "..", "secret_credential: a name, no path");
                // systemd.exec(5), "Credentials".
                let directory = std::env::var_os("CREDENTIALS_DIRECTORY")
                    .context("secret_credential: systemd gave this service no credentials")?;
                Ok(Path::new(&directory).join(name))
            }
            _ => bail!("one of secret_file and secret_credential"),
        }
    }
}

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
        let Self { account, secret_file, secret_credential, .. } = self.clone();
        let Some(account) = account else {
            let is_none = secret_file.is_none() && secret_credential.is_none();
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
            placeholder_file: None,
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

/// The credentials, in order.
pub(crate) fn credentials(all: &[Credential], targets: &[Target]) -> Result<Credentials> {
    Ok(Credentials::new(rules(all, targets)?, catalog_rules(targets)?))
}

/// What guarded agents may not see: each secret's file, with its directory where that is root's alone,
/// since a file that is replaced is another one.
pub(crate) fn hidden(all: &[Credential], targets: &[Target]) -> Result<Vec<PathBuf>> {
    let is_private = |path: &Path| {
        let others = fs::metadata(path).map(|metadata| metadata.mode() & 0o077);
        others.is_ok_and(|others| others == 0)
    };
    let mut hidden = Vec::new();
    for rule in rules(all, targets)?.into_iter().chain(catalog_rules(targets)?) {
        for file in [Some(rule.secret), rule.placeholder].into_iter().flatten() {
            hidden.extend(file.parent().filter(|dir| is_private(dir)).map(Path::to_owned));
            hidden.push(file);
        }
    }
    Ok(hidden)
}

fn catalog_rules(targets: &[Target]) -> Result<Vec<CredentialRule>> {
    let mut rules = Vec::new();
    for target in targets {
        let context = || format!("target `{}`: catalog", target.name);
        if let Some(credential) = target.catalog.credential(&target.name).with_context(context)? {
            rules.push(credential.rule(targets).with_context(context)?);
        }
    }
    Ok(rules)
}

fn rules(all: &[Credential], targets: &[Target]) -> Result<Vec<CredentialRule>> {
    let rule = |(at, one): (usize, &Credential)| {
        one.rule(targets).with_context(|| format!("credential {}", at + 1))
    };
    all.iter().enumerate().map(rule).collect()
}
