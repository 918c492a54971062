//! The hub's configuration file: TOML, unknown keys refused.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::hub::store::{Password, PostgresRules, PostgresStore};
use anyhow::{Context, Result, bail, ensure};
use proxy::secret::vault::Vault;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::console::ConsoleRule;
use crate::keeper::{IssuerRule, Rules};
use crate::secret::{Place, Stores, VaultSecret, VaultServer};
use crate::tls;

/// The whole file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HubConfig {
    /// This hub's name in hosts' records; the host name where absent.
    name: Option<String>,
    /// Where hosts come to.
    pub(super) hosts: HostsRule,
    /// Where requests and votes are kept.
    pub(super) store: StoreRule,
    /// Where some secrets are.
    vault: Option<VaultServer>,
    /// Whose tokens say who people are.
    #[serde(default)]
    pub(super) issuer: Vec<IssuerRule>,
    /// The console, where people answer; there is none where absent.
    pub(super) console: Option<ConsoleRule>,
}

/// Where hosts come to, and which ones.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostsRule {
    /// The address to listen at.
    pub(super) listen: SocketAddr,
    /// The hub's certificate, PEM.
    certificate: PathBuf,
    /// Its key, PEM, for the hub's eyes only.
    key: PathBuf,
    /// The authorities that may have signed hosts' certificates, PEM.
    ca: PathBuf,
    /// Their lists of revoked certificates, PEM; none where absent.
    revoked: Option<PathBuf>,
    /// The names of the hosts that may come; `*.DOMAIN` for all of one label more.
    pub(super) names: Vec<String>,
}

/// Where requests and votes are kept: a file, where there is one hub; a database, where there are several.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreRule {
    /// The file.
    file: Option<PathBuf>,
    /// The database.
    postgresql: Option<Database>,
    /// Days after which requests that are over are forgotten; 30 where absent.
    retention_days: Option<u32>,
}

/// A PostgreSQL database, which several hubs share.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Database {
    /// `postgresql://USER@HOST:PORT/DATABASE`, without a password.
    url: String,
    /// The authorities that may have signed its certificate, PEM. Needed where it is not on this host.
    ca: Option<PathBuf>,
    /// The file that holds the password.
    secret_file: Option<PathBuf>,
    /// The same by its name among systemd's credentials.
    secret_credential: Option<String>,
    /// The variable of the environment that holds it.
    secret_env: Option<String>,
    /// Where it is in the vault.
    secret_vault: Option<VaultSecret>,
}

/// Where a hub keeps what it keeps.
pub(super) enum Kept {
    /// In this file.
    File(PathBuf),
    /// In this database.
    Postgres(PostgresRules),
}

/// What is kept of what is over, in days.
const RETENTION_DAYS: u32 = 30;

/// Ten years; hosts' archives are the record.
const RETENTION_DAYS_MAX: u32 = 3_653;

impl HubConfig {
    /// Reads and checks a file; says the line and column of what is wrong.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} can't be read", path.display()))?;
        let config: Self =
            toml::from_str(&text).with_context(|| format!("{} is not right", path.display()))?;
        let HostsRule { names, .. } = &config.hosts;
        ensure!(!names.is_empty(), "hosts: names: at least one");
        let wrong = names.iter().find(|name| !is_name(name.strip_prefix("*.").unwrap_or(name)));
        if let Some(wrong) = wrong {
            bail!("hosts: names: `{wrong}` is no name; `*.DOMAIN` at most");
        }
        let days = config.store.retention_days.unwrap_or(RETENTION_DAYS);
        let is_right = (1..=RETENTION_DAYS_MAX).contains(&days);
        ensure!(is_right, "store: retention_days: from 1 to {RETENTION_DAYS_MAX}");
        config.store.check(config.vault.is_some()).context("store")?;
        config.vault.as_ref().map(VaultServer::rules).transpose().context("vault")?;
        config.identities().check(config.vault.is_some())?;
        let check = |rule: &ConsoleRule| rule.check(config.identities());
        config.console.as_ref().map_or(Ok(()), check).context("console")?;
        Ok(config)
    }

    /// Checks what lies outside of the file: certificates and keys.
    pub(crate) fn check(&self) -> Result<()> {
        self.hosts.tls().map(drop)
    }

    /// This hub's name.
    pub(super) fn name(&self) -> String {
        let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        self.name.clone().unwrap_or_else(host)
    }

    /// The variables of the environment that hold secrets.
    pub(super) fn variables(&self) -> Vec<String> {
        let own = self.store.postgresql.iter().filter_map(|database| database.secret_env.clone());
        own.chain(self.identities().places().filter_map(|place| place.env.cloned())).collect()
    }

    /// What it says of issuers.
    fn identities(&self) -> Rules<'_> {
        Rules { issuers: &self.issuer, identities: &[] }
    }

    /// The vault.
    pub(super) fn open_vault(&self) -> Result<Option<Vault>> {
        let start = |vault: &VaultServer| anyhow::Ok(Vault::start(vault.rules()?)?);
        self.vault.as_ref().map(start).transpose().context("vault")
    }

    /// How long what is over is kept.
    pub(super) fn retention_us(&self) -> i64 {
        let days = self.store.retention_days.unwrap_or(RETENTION_DAYS);
        i64::from(days) * 86_400 * 1_000_000
    }
}

impl HostsRule {
    /// How hosts are taken.
    pub(super) fn tls(&self) -> Result<Arc<::hub::tls::ServerConfig>> {
        let Self { listen: _, certificate, key, ca, revoked, names: _ } = self;
        tls::private(key).context("hosts")?;
        ::hub::tls::hub(certificate, key, ca, revoked.as_deref()).context("hosts")
    }
}

impl StoreRule {
    /// In a word.
    pub(super) fn kind(&self) -> &'static str {
        if self.file.is_some() { "file" } else { "postgresql" }
    }

    fn check(&self, has_vault: bool) -> Result<()> {
        let Self { file, postgresql, retention_days: _ } = self;
        ensure!(file.is_some() != postgresql.is_some(), "one of file and postgresql");
        let Some(database) = postgresql else { return Ok(()) };
        if database.place().is_said() {
            database.place().check().context("postgresql")?;
        }
        let is_there = database.secret_vault.is_none() || has_vault;
        ensure!(is_there, "postgresql: secret_vault: there is no [vault]");
        PostgresStore::check(&database.rules(None)).context("postgresql")
    }

    /// Where it is kept.
    pub(super) fn kept(&self, stores: Stores<'_>) -> Result<Kept> {
        let Self { file, postgresql, retention_days: _ } = self;
        match (file, postgresql) {
            (Some(file), None) => Ok(Kept::File(file.clone())),
            (None, Some(database)) => {
                let is_said = database.place().is_said();
                let source = is_said.then(|| database.place().source(stores)).transpose()?;
                let password = source.map(|source| -> Password {
                    Arc::new(move || -> io::Result<_> { source.read() })
                });
                Ok(Kept::Postgres(database.rules(password)))
            }
            _ => bail!("store: one of file and postgresql"),
        }
    }
}

impl Database {
    fn place(&self) -> Place<'_> {
        Place {
            file: self.secret_file.as_ref(),
            credential: self.secret_credential.as_ref(),
            env: self.secret_env.as_ref(),
            vault: self.secret_vault.as_ref(),
        }
    }

    fn rules(&self, password: Option<Password>) -> PostgresRules {
        PostgresRules { url: self.url.clone(), password, ca: self.ca.clone() }
    }
}

fn is_name(name: &str) -> bool {
    let is_of = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !name.is_empty() && name.bytes().all(is_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(names: &str, store: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hub.toml");
        let text = format!(
            "[hosts]\nlisten='127.0.0.1:9443'\ncertificate='/c'\nkey='/k'\nca='/a'\nnames={names}\n\
             [store]\n{store}"
        );
        std::fs::write(&path, text).unwrap();
        HubConfig::load(&path).map_or_else(|error| format!("{error:#}"), |_| "ok".to_owned())
    }

    #[test]
    fn mistakes_are_named() {
        let here = "postgresql={url='postgresql://hub@127.0.0.1/hub'}";
        for (names, store, wanted) in [
            ("['a.example','*.b.example']", "file='/f'", "ok"),
            ("['a']", here, "ok"),
            ("['a']", "postgresql={url='postgresql://hub@db.example/hub'}", "needs `ca`"),
            ("['a']", "postgresql={url='postgresql://hub:x@127.0.0.1/hub'}", "holds a password"),
            ("['a']", "postgresql={url='hub'}", "postgresql"),
            (
                "['a']",
                "postgresql={url='postgresql://hub@127.0.0.1/hub',secret_file='/a',secret_env='B'}",
                "one of",
            ),
            (
                "['a']",
                "postgresql={url='postgresql://h@127.0.0.1/h',secret_vault={path='x'}}",
                "no [vault]",
            ),
            ("['a']", "", "one of file and postgresql"),
            ("['a']", &format!("file='/f'\n{here}"), "one of file and postgresql"),
            ("['a']", "file='/f'\nretention_days=0", "retention_days"),
            ("['a']", "file='/f'\nfiles='/f'", "unknown field"),
            ("[]", "file='/f'", "at least one"),
            ("['*']", "file='/f'", "no name"),
            ("['a.*.b']", "file='/f'", "no name"),
        ] {
            let told = told(names, store);
            assert!(told.contains(wanted), "{names} {store}: {told}");
        }
    }
}
