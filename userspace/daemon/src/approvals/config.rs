//! `[approvals]` and `[[webhook]]`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use schemars::JsonSchema;
use serde::Deserialize;
use webhook::{Hook, Kind, SecretOf, Shape};

use crate::config::Config;
use crate::secret::{Place, Stores, VaultSecret};

/// Webhooks: each has a task, a client and at most 8 MiB of messages that are due.
const HOOKS_MAX: usize = 16;

/// Bytes of a hook's name.
const NAME_BYTES_MAX: usize = 64;

/// Approvals of commands that policies hold; there is nothing to turn on.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ApprovalsRule {
    /// Where people find the console, as `https://approvals.example`: messages to webhooks link there.
    pub(crate) url: Option<String>,
}

/// Somebody who is told what becomes of approvals.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookRule {
    /// Its name in records.
    name: String,
    /// Where it is: `https://…`; `http://` on this host alone. Absent where that is a secret, as it is with Slack and Teams:
    /// then the secret is it.
    url: Option<String>,
    /// How its messages are shaped.
    #[serde(default)]
    shape: ShapeName,
    /// What it is told of; everything where absent.
    events: Option<Vec<EventName>>,
    /// The file that holds what messages are signed with; root's alone, mode 0600 or 0400. Read again each time.
    secret_file: Option<PathBuf>,
    /// The same by its name among systemd's credentials (`LoadCredential=`).
    secret_credential: Option<String>,
    /// The variable of the daemon's environment that holds it; the daemon takes it out of there.
    secret_env: Option<String>,
    /// Where it is in the vault.
    secret_vault: Option<VaultSecret>,
    /// Certificates (PEM) of authorities to trust beside the system's.
    ca_file: Option<PathBuf>,
}

/// How messages are shaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ShapeName {
    /// JSON for a program, signed as Standard Webhooks are.
    #[default]
    Generic,
    /// For Slack's incoming webhooks.
    Slack,
    /// For a workflow of Teams', as an adaptive card.
    Teams,
}

/// What there is to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum EventName {
    /// A command waits.
    Requested,
    /// People approved it.
    Granted,
    /// A person refused it.
    Refused,
    /// It ended otherwise.
    Ended,
    /// An alert: one person let it through in an emergency.
    BreakGlass,
}

impl From<EventName> for Kind {
    fn from(name: EventName) -> Self {
        match name {
            EventName::Requested => Self::Requested,
            EventName::Granted => Self::Granted,
            EventName::Refused => Self::Refused,
            EventName::Ended => Self::Ended,
            EventName::BreakGlass => Self::BreakGlass,
        }
    }
}

impl WebhookRule {
    /// Checks what it says, without what its secret is; `has_vault` where there is one.
    fn check(&self, has_vault: bool) -> Result<()> {
        let place = self.place();
        if place.is_said() {
            place.check()?;
        }
        let is_there = self.secret_vault.is_none() || has_vault;
        ensure!(is_there, "secret_vault: there is no [vault]");
        let is_chat = self.shape != ShapeName::Generic;
        let is_enough = place.is_said() && (is_chat || self.url.is_some());
        let is_enough = is_enough || (is_chat && self.url.is_some());
        ensure!(
            is_enough,
            "a url, and a secret that messages are signed with; for a chat, one of them"
        );
        self.url.as_deref().map(webhook::url).transpose().context("url")?;
        ensure!(
            self.events.as_ref().is_none_or(|events| !events.is_empty()),
            "events: at least one"
        );
        Ok(())
    }

    fn place(&self) -> Place<'_> {
        Place {
            file: self.secret_file.as_ref(),
            credential: self.secret_credential.as_ref(),
            env: self.secret_env.as_ref(),
            vault: self.secret_vault.as_ref(),
        }
    }

    fn hook(&self, stores: Stores<'_>, desk: Option<String>) -> Result<Hook> {
        let secret = self.place().is_said().then(|| self.place().source(stores)).transpose()?;
        let secret = secret.map(|source| -> SecretOf { Arc::new(move || source.read()) });
        let kinds = self.events.as_ref().map(|events| events.iter().map(|one| (*one).into()));
        let hook = Hook {
            name: self.name.as_str().into(),
            url: self.url.as_deref().map(webhook::url).transpose()?,
            shape: match self.shape {
                ShapeName::Generic => Shape::Generic,
                ShapeName::Slack => Shape::Slack,
                ShapeName::Teams => Shape::Teams,
            },
            kinds: kinds.map_or(Kind::ALL.to_vec(), Iterator::collect),
            secret,
            ca_file: self.ca_file.clone(),
            desk,
        };
        // What is in a vault is asked for when it is needed.
        if self.secret_vault.is_none() {
            hook.check_secret()?;
        }
        Ok(hook)
    }
}

impl ApprovalsRule {
    /// Where a request is looked at: what its id is put behind.
    fn requests(&self) -> Result<Option<String>> {
        let Some(url) = &self.url else { return Ok(None) };
        let url = webhook::url(url).context("approvals.url")?;
        Ok(Some(format!("{}/approvals/", url.as_str().trim_end_matches('/'))))
    }
}

/// Checks what is said of approvals and webhooks, without asking anybody.
pub(crate) fn check(config: &Config) -> Result<()> {
    config.approvals.requests()?;
    ensure!(config.webhook.len() <= HOOKS_MAX, "webhook: at most {HOOKS_MAX}");
    for (at, rule) in config.webhook.iter().enumerate() {
        let name = &rule.name;
        let is_name =
            !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(char::is_control);
        ensure!(is_name, "webhook: name: 1 to {NAME_BYTES_MAX} bytes");
        let is_one = config.webhook.iter().take(at).all(|other| other.name != *name);
        ensure!(is_one, "webhook `{name}`: there are two");
        rule.check(config.vault.is_some()).with_context(|| format!("webhook `{name}`"))?;
    }
    Ok(())
}

/// The webhooks, with secrets from these stores.
pub(crate) fn hooks(config: &Config, stores: Stores<'_>) -> Result<Vec<Hook>> {
    let desk = config.approvals.requests()?;
    let one = |rule: &WebhookRule| {
        rule.hook(stores, desk.clone()).with_context(|| format!("webhook `{}`", rule.name))
    };
    config.webhook.iter().map(one).collect()
}

/// Where the secrets of webhooks are said to be.
pub(crate) fn places(config: &Config) -> impl Iterator<Item = Place<'_>> {
    config.webhook.iter().map(WebhookRule::place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        webhook: Vec<WebhookRule>,
    }

    #[test]
    fn mistakes_are_named() {
        let told = |more: &str| {
            let File { webhook } =
                toml::from_str(&format!("[[webhook]]\nname='a'\n{more}")).unwrap();
            let told = webhook[0].check(false);
            told.map_or_else(|error| format!("{error:#}"), |()| "ok".to_owned())
        };
        for right in [
            "url='https://h/x'\nsecret_file='/s'",
            "url='http://127.0.0.1:1/x'\nsecret_env='S'\nevents=['break_glass']",
            "shape='slack'\nsecret_file='/s'",
            "shape='teams'\nurl='https://h/x'",
        ] {
            assert_eq!(told(right), "ok");
        }
        for (wrong, word) in [
            ("url='https://h/x'", "a secret that messages are signed with"),
            ("secret_file='/s'", "a url, and a secret"),
            ("shape='slack'", "one of them"),
            ("url='http://h/x'\nsecret_file='/s'", "http:// on this host"),
            ("url='https://h/x'\nsecret_file='/s'\nsecret_env='S'", "one of secret_file"),
            ("url='https://h/x'\nsecret_vault={path='a'}", "there is no [vault]"),
            ("url='https://h/x'\nsecret_file='/s'\nevents=[]", "at least one"),
        ] {
            assert!(told(wrong).contains(word), "{}", told(wrong));
        }
    }
}
