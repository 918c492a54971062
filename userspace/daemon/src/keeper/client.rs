//! The daemon's own client at an issuer: who asks about tokens, and for tokens.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use identity::oidc::Client;
use identity::oidc::client_credentials::Target;
use proxy::secret::Source;
use schemars::JsonSchema;
use serde::Deserialize;
use types::secret::Secret;

use crate::secret::{Place, Stores, VaultSecret};

/// The daemon's own client at an issuer; a public one has no secret.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientRule {
    /// Its id.
    pub(super) id: String,
    /// The file that holds its secret; root's alone, mode 0600 or 0400. Read again each time it is used.
    pub(super) secret_file: Option<PathBuf>,
    /// The same by its name among systemd's credentials (`LoadCredential=`).
    pub(super) secret_credential: Option<String>,
    /// The variable of the daemon's environment that holds it; the daemon takes it out of there.
    pub(super) secret_env: Option<String>,
    /// Where it is in the vault.
    pub(super) secret_vault: Option<VaultSecret>,
    /// Scopes that people's logins ask for, separated by blanks; `openid profile` where absent.
    pub(super) scope: Option<String>,
    /// The resource that their tokens are for (RFC 8707), one of the issuer's audiences; where absent, whatever the
    /// issuer gives.
    pub(super) resource: Option<String>,
}

/// What logins ask for at least: who it is, by an ID token, and the name.
const SCOPE: &str = "openid profile";

impl ClientRule {
    /// Checks what it says, without what its secret is; `has_vault` where there is one to ask.
    pub(super) fn check(&self, has_vault: bool) -> Result<()> {
        let is_name = !self.id.is_empty() && !self.id.contains(char::is_control);
        ensure!(is_name, "id: a client's id");
        let is_there = self.secret_vault.is_none() || has_vault;
        ensure!(is_there, "secret_vault: there is no [vault]");
        self.place().map_or(Ok(()), |place| place.check())
    }

    /// Where its secret is said to be; nowhere for a public client.
    pub(super) fn place(&self) -> Option<Place<'_>> {
        let Self { secret_file, secret_credential, secret_env, secret_vault, .. } = self;
        let place = Place {
            file: secret_file.as_ref(),
            credential: secret_credential.as_ref(),
            env: secret_env.as_ref(),
            vault: secret_vault.as_ref(),
        };
        place.is_said().then_some(place)
    }

    /// The client, once its secret's place is known to be one that can be read.
    pub(super) fn own(&self, stores: Stores<'_>) -> Result<OwnClient> {
        let secret = self.place().map(|place| place.source(stores)).transpose()?;
        if let Some(source) = &secret {
            source.check().context("the secret can't be used")?;
        }
        let scope = self.scope.clone().unwrap_or_else(|| SCOPE.to_owned());
        Ok(OwnClient { id: self.id.clone(), secret, scope, resource: self.resource.clone() })
    }
}

/// The daemon's own client.
#[derive(Clone, Debug)]
pub(crate) struct OwnClient {
    id: String,
    secret: Option<Source>,
    scope: String,
    resource: Option<String>,
}

impl OwnClient {
    /// What people's logins ask for.
    pub(super) fn target(&self) -> Target<'_> {
        Target { scope: &self.scope, resource: self.resource.as_deref() }
    }

    /// The client with its secret of now. May wait for a vault, on another thread.
    pub(super) async fn get(&self) -> Result<Client> {
        let Self { id, secret, .. } = self.clone();
        let read = tokio::task::spawn_blocking(move || -> Result<_> {
            let Some(source) = secret else { return Ok(None) };
            let mut bytes = source.read().context("the client's secret")?;
            // In place: no copy of it is left behind.
            let text = String::from_utf8(bytes.expose_mut(std::mem::take));
            let text = text.map_err(|wrong| drop(Secret::new(wrong.into_bytes())));
            Ok(Some(Secret::new(text.ok().context("the client's secret is no text")?)))
        });
        Ok(Client { id, secret: read.await?? })
    }
}
