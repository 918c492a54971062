//! `[console]`: the console of this host, on a thread of its own.

mod around;
mod past;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ::console::{Api, Console, Life, Options, Parts};
use anyhow::{Context, Result, ensure};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::watch;
use tracing::info;

use crate::config::Config;
use crate::desk::Desk;
use crate::keeper::{Rules, Visitors};
use around::Around;

/// Seconds without doing anything after which a person signs in again.
const IDLE_S: u64 = 15 * 60;

/// Seconds after which a person signs in again in any case: a working day.
const SESSION_S: u64 = 8 * 3_600;

/// What both are at most: a day.
const LIFE_S_MAX: u64 = 86_400;

/// The console.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConsoleRule {
    /// The address to listen at.
    listen: SocketAddr,
    /// Where browsers find it: `https://HOST` or `https://HOST:PORT`; http only on a loopback address.
    external_url: String,
    /// The certificate, PEM; where absent, what ends TLS stands before it on this host.
    certificate: Option<PathBuf>,
    /// Its key, PEM, for root's eyes only.
    pub(crate) key: Option<PathBuf>,
    /// At which `[[issuer]]` people sign in, by the daemon's client there; `EXTERNAL_URL/signed-in` is registered
    /// for it.
    issuer: String,
    /// Who may look at all: members of any of these groups.
    groups: Vec<String>,
    /// Who may end sessions: members of any of these; nobody where absent.
    #[serde(default)]
    end_groups: Vec<String>,
    /// The audience of tokens for the API, one of the issuer's; no agent's token may have it. No API where absent.
    api_audience: Option<String>,
    /// A scope that they have; none is asked for where absent.
    api_scope: Option<String>,
    /// Seconds without doing anything after which a person signs in again; 900 where absent.
    idle_s: Option<u64>,
    /// Seconds after which a person signs in again in any case; 28800 where absent.
    session_s: Option<u64>,
}

impl ConsoleRule {
    fn life(&self) -> Life {
        let idle = Duration::from_secs(self.idle_s.unwrap_or(IDLE_S));
        let most = Duration::from_secs(self.session_s.unwrap_or(SESSION_S));
        Life { idle, most }
    }

    fn options(&self, node: String) -> Options {
        let scope = self.api_scope.clone();
        Options {
            node,
            external_url: self.external_url.clone(),
            issuer: self.issuer.clone(),
            groups: self.groups.clone(),
            end_groups: self.end_groups.clone(),
            api: self.api_audience.clone().map(|audience| Api { audience, scope }),
            life: self.life(),
        }
    }

    /// At which issuer people sign in.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The console of these parts, and where it listens.
    pub(crate) fn open(&self, node: String, parts: Parts) -> Result<(Console, TcpListener)> {
        let mut console = Console::new(self.options(node), parts).context("console")?;
        if let (Some(certificate), Some(key)) = (&self.certificate, &self.key) {
            console = console.with_tls(certificate, key).context("console")?;
        }
        let listening = TcpListener::bind(self.listen);
        let listener = listening.with_context(|| format!("console: {}", self.listen))?;
        listener.set_nonblocking(true)?;
        info!(listen = %self.listen, url = self.external_url, "console");
        Ok((console, listener))
    }

    /// Checks what it says, of issuers too.
    pub(crate) fn check(&self, identities: Rules<'_>) -> Result<()> {
        ::console::check(&self.options(String::new()))?;
        let (certificate, key) = (self.certificate.is_some(), self.key.is_some());
        ensure!(certificate == key, "certificate and key: both or neither");
        let is_local = self.listen.ip().is_loopback();
        ensure!(
            certificate || is_local,
            "listen: without a certificate, an address of this host alone"
        );
        let is_https = self.external_url.starts_with("https:");
        ensure!(!certificate || is_https, "external_url: https, as there is a certificate");
        let known = identities.has_client(&self.issuer);
        ensure!(known, "issuer: an [[issuer]] with a client");
        let Life { idle, most } = self.life();
        let is_right = !idle.is_zero() && idle <= most && most.as_secs() <= LIFE_S_MAX;
        ensure!(is_right, "idle_s, session_s: 1 to {LIFE_S_MAX}, idle_s the lesser");
        ensure!(
            self.api_scope.is_none() || self.api_audience.is_some(),
            "api_scope: needs api_audience"
        );
        if let Some(audience) = &self.api_audience {
            let is_its = identities.has_audience(&self.issuer, audience);
            ensure!(is_its, "api_audience: one of the issuer's audiences");
        }
        Ok(())
    }
}

/// Checks what the configuration says of it.
pub(crate) fn check(config: &Config) -> Result<()> {
    let check = |rule: &ConsoleRule| rule.check(config.identities());
    config.console.as_ref().map_or(Ok(()), check).context("console")
}

/// Starts it, where there is one; its thread ends with `stopped`.
pub(crate) fn start(
    config: &Config,
    desk: &Arc<Desk>,
    stopped: watch::Receiver<bool>,
) -> Result<Option<JoinHandle<()>>> {
    let Some(rule) = &config.console else { return Ok(None) };
    let people = Visitors::at(&desk.keeper, &rule.issuer).context("console: no client there")?;
    let parts = Parts {
        desk: Arc::clone(&desk.approvals.desk) as _,
        people: Arc::new(people),
        surroundings: Arc::new(Around::of(config, desk)),
        clock: Arc::clone(&desk.door.clock),
    };
    let (console, listener) = rule.open(desk.node.clone(), parts)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = move || {
        runtime.block_on(async {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => console.serve(listener, stopped).await,
                Err(error) => tracing::error!(%error, "the console can't listen"),
            }
        });
        // Whoever waits for the journal is not waited for.
        runtime.shutdown_background();
    };
    Ok(Some(std::thread::Builder::new().name("console".into()).spawn(serve)?))
}
