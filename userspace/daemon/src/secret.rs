//! Where the configuration says that secrets are, and `[vault]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use proxy::secret::Source;
use proxy::secret::vault::{Auth, Vault, VaultRules};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::environment::Environment;

/// A vault that speaks HashiCorp Vault's HTTP API, with KV version 2.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VaultServer {
    /// `https://HOST:PORT`; `http://` on loopback alone.
    address: String,
    /// The authorities that may have signed its certificate, PEM; the system's where absent.
    ca: Option<PathBuf>,
    /// The namespace, where the vault has any.
    namespace: Option<String>,
    /// The file that holds the daemon's token; root's alone. Read again when it changes.
    token_file: Option<PathBuf>,
    /// The same by its name among systemd's credentials.
    token_credential: Option<String>,
    /// The role that the daemon logs in with (AppRole), in the place of a token.
    role_id: Option<String>,
    /// The file that holds what proves it; root's alone.
    secret_id_file: Option<PathBuf>,
    /// The same by its name among systemd's credentials.
    secret_id_credential: Option<String>,
    /// Where AppRole is mounted.
    #[serde(default = "approle")]
    approle_mount: String,
    /// Seconds for which a secret is kept; 60 where absent.
    cache_s: Option<u64>,
}

/// A secret in the vault.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VaultSecret {
    /// Where its engine is mounted.
    #[serde(default = "secret")]
    mount: String,
    /// Its path there.
    path: String,
    /// Which of its fields.
    #[serde(default = "password")]
    key: String,
}

/// Where one secret is said to be: one of these.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'c> {
    pub(crate) file: Option<&'c PathBuf>,
    pub(crate) credential: Option<&'c String>,
    pub(crate) env: Option<&'c String>,
    pub(crate) vault: Option<&'c VaultSecret>,
}

/// What secrets come from, besides files.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stores<'s> {
    pub(crate) environment: Option<&'s Environment>,
    pub(crate) vault: Option<&'s Vault>,
}

/// How long a rotated secret may go unseen, about.
const CACHE_S: u64 = 60;

/// An hour: longer, and a secret that was taken back is as good as one that was not.
const CACHE_S_MAX: u64 = 3_600;

impl VaultServer {
    /// What is in force.
    pub(crate) fn rules(&self) -> Result<VaultRules> {
        let proof = |file: &'_ Option<PathBuf>, credential: &'_ Option<String>, what: &str| {
            let place = Place {
                file: file.as_ref(),
                credential: credential.as_ref(),
                env: None,
                vault: None,
            };
            place.file_path()?.map(Source::File).with_context(|| what.to_owned())
        };
        let is_token = self.token_file.is_some() || self.token_credential.is_some();
        let is_secret_id = self.secret_id_file.is_some() || self.secret_id_credential.is_some();
        let auth = match &self.role_id {
            None => {
                ensure!(!is_secret_id, "role_id: the role that the secret_id is of");
                let what = "one of token_file, token_credential and role_id";
                Auth::Token(proof(&self.token_file, &self.token_credential, what)?)
            }
            Some(role_id) => {
                ensure!(!is_token, "a token or a role_id, not both");
                let what = "role_id: one of secret_id_file and secret_id_credential";
                let secret_id = proof(&self.secret_id_file, &self.secret_id_credential, what)?;
                let (mount, role_id) = (self.approle_mount.clone(), role_id.clone());
                Auth::AppRole { mount, role_id, secret_id }
            }
        };
        let cache_s = self.cache_s.unwrap_or(CACHE_S);
        ensure!((1..=CACHE_S_MAX).contains(&cache_s), "cache_s: from 1 to {CACHE_S_MAX}");
        Ok(VaultRules {
            address: self.address.clone(),
            ca: self.ca.clone(),
            namespace: self.namespace.clone(),
            auth,
            cache: Duration::from_secs(cache_s),
        })
    }

    /// The file that proves the daemon to it.
    pub(crate) fn file(&self) -> Result<PathBuf> {
        let (Auth::Token(source) | Auth::AppRole { secret_id: source, .. }) = self.rules()?.auth;
        source.file().map(Path::to_owned).context("what proves the daemon is in a file")
    }
}

impl Place<'_> {
    /// The file, where it is in one.
    pub(crate) fn file_path(&self) -> Result<Option<PathBuf>> {
        let Self { file, credential, .. } = *self;
        ensure!(file.is_none() || credential.is_none(), "a file or a credential, not both");
        let Some(name) = credential else { return Ok(file.cloned()) };
        ensure!(!name.contains('/') && name != "..", "a credential of systemd's: a name, no path");
        // systemd.exec(5), "Credentials".
        let directory = std::env::var_os("CREDENTIALS_DIRECTORY")
            .with_context(|| format!("`{name}`: systemd gave this service no credentials"))?;
        Ok(Some(Path::new(&directory).join(name)))
    }

    /// Whether it is said at all.
    pub(crate) fn is_said(&self) -> bool {
        self.count() > 0
    }

    /// Checks that it is said once, and in words that make sense.
    pub(crate) fn check(&self) -> Result<()> {
        let is_once = self.count() == 1;
        ensure!(is_once, "one of secret_file, secret_credential, secret_env and secret_vault");
        let is_name = |name: &String| !name.is_empty() && !name.contains(['=', '\0']);
        ensure!(self.env.is_none_or(is_name), "secret_env: a variable's name");
        Ok(())
    }

    fn count(&self) -> usize {
        let Self { file, credential, env, vault } = *self;
        let said = [file.is_some(), credential.is_some(), env.is_some(), vault.is_some()];
        said.into_iter().filter(|is_said| *is_said).count()
    }

    /// Where it is.
    pub(crate) fn source(&self, stores: Stores<'_>) -> Result<Source> {
        self.check()?;
        if let Some(name) = self.env {
            let value = stores.environment.and_then(|taken| taken.get(name)).cloned();
            return Ok(Source::Environment(name.as_str().into(), value));
        }
        if let Some(VaultSecret { mount, path, key }) = self.vault {
            let vault = stores.vault.context("secret_vault: there is no [vault]")?;
            let kept = vault.secret(mount, path, key).context("secret_vault")?;
            return Ok(Source::Vault(kept));
        }
        match self.file_path()? {
            Some(file) => Ok(Source::File(file)),
            None => bail!("no secret"),
        }
    }
}

fn approle() -> String {
    "approle".into()
}

fn secret() -> String {
    "secret".into()
}

fn password() -> String {
    "password".into()
}
