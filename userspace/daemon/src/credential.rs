//! `[[credential]]`: what the daemon authenticates agents' sessions with.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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

/// The credentials, in order.
pub(crate) fn credentials(all: &[Credential], targets: &[Target]) -> Result<Credentials> {
    Ok(Credentials::new(rules(all, targets)?))
}

/// What guarded agents may not see: each secret's file, with its directory where that is root's alone,
/// since a file that is replaced is another one.
pub(crate) fn hidden(all: &[Credential], targets: &[Target]) -> Result<Vec<PathBuf>> {
    let is_private = |path: &Path| {
        let others = fs::metadata(path).map(|metadata| metadata.mode() & 0o077);
        others.is_ok_and(|others| others == 0)
    };
    let mut hidden = Vec::new();
    for rule in rules(all, targets)? {
        for file in [Some(rule.secret), rule.placeholder].into_iter().flatten() {
            hidden.extend(file.parent().filter(|dir| is_private(dir)).map(Path::to_owned));
            hidden.push(file);
        }
    }
    Ok(hidden)
}

fn rules(all: &[Credential], targets: &[Target]) -> Result<Vec<CredentialRule>> {
    let rule = |(at, one): (usize, &Credential)| {
        one.rule(targets).with_context(|| format!("credential {}", at + 1))
    };
    all.iter().enumerate().map(rule).collect()
}
