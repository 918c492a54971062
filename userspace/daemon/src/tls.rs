//! `[tls]`: whether agents are offered TLS, and how targets are verified.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use ca::{Authority, CERTIFICATE_FILE, CaError};
use proxy::targets::Protocol;
use proxy::tls::{AgentTls, Credentials, Roots, TargetTls, Verification, When};
use schemars::JsonSchema;
use serde::Deserialize;
use tracing::info;

use crate::config::Config;

/// TLS towards agents.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tls {
    /// Where the host's own certificate authority is, made by `vestibule ca init`; `ca` in the
    /// state directory where absent. Without one agents that ask for TLS are told no.
    pub(crate) ca_dir: Option<PathBuf>,
    /// Where the system's authorities and our own are put together for agents to read.
    pub(crate) bundle: PathBuf,
}

impl Default for Tls {
    fn default() -> Self {
        Self { ca_dir: None, bundle: "/run/vestibule-trust/ca-bundle.pem".into() }
    }
}

/// How one target is spoken to.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TargetRules {
    /// `asked` (when the agent asks for it and the server has it), `always` or `never`.
    pub(crate) when: WhenName,
    /// What of the server's certificate is verified: `full` (authority and name), `authority`, or
    /// `nothing`, which protects from nobody who stands on the way.
    pub(crate) verify: VerifyName,
    /// The authorities that may have signed it, PEM; the system's where absent.
    pub(crate) ca: Option<PathBuf>,
    /// The name to verify, where it is not the one that the agent uses.
    pub(crate) name: Option<String>,
    /// Our certificate for a server that asks for one, PEM.
    pub(crate) certificate: Option<PathBuf>,
    /// Its key, PEM, for root's eyes only.
    pub(crate) key: Option<PathBuf>,
}

/// When there is TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WhenName {
    /// When the agent asks.
    #[default]
    Asked,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What is verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum VerifyName {
    /// Authority and name.
    #[default]
    Full,
    /// Who signed it.
    Authority,
    /// Nothing.
    Nothing,
}

/// The bundles of Debian, Red Hat, SUSE and Alpine.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

impl TargetRules {
    /// The rules in force.
    pub(crate) fn compile(&self, protocol: Protocol) -> Result<TargetTls> {
        let Self { when, verify, ca, name, certificate, key } = self;
        let when = match when {
            WhenName::Asked => When::Asked,
            WhenName::Always => When::Always,
            WhenName::Never => When::Never,
        };
        let verification = match verify {
            VerifyName::Full => Verification::Full,
            VerifyName::Authority => Verification::Authority,
            VerifyName::Nothing => Verification::Nothing,
        };
        let roots = ca.clone().map_or(Roots::System, Roots::File);
        let credentials = match (certificate, key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                private(key)?;
                Some(Credentials { certificate: certificate.clone(), key: key.clone() })
            }
            _ => anyhow::bail!("tls: certificate and key go together"),
        };
        let name: Option<Arc<str>> = name.as_deref().map(Into::into);
        TargetTls::new(protocol, when, name, verification, &roots, credentials.as_ref())
            .context("tls")
    }
}

/// A key that others may read is no key.
pub(crate) fn private(key: &Path) -> Result<()> {
    let about = fs::metadata(key).with_context(|| format!("tls: key {}", key.display()))?;
    let mode = about.permissions().mode() & 0o777;
    let is_ours = [0, rustix::process::geteuid().as_raw()].contains(&about.uid());
    ensure!(is_ours, "tls: key {} is not root's", key.display());
    ensure!(
        matches!(mode, 0o400 | 0o600),
        "tls: key {} is open to others (mode {mode:o}); make it 600",
        key.display()
    );
    Ok(())
}

/// What agents are offered. With an authority, the bundle that holds it is written as well.
pub(crate) fn offer(config: &Config) -> Result<AgentTls> {
    let dir = config.ca_dir();
    let authority = match Authority::load(&dir) {
        Ok(authority) => authority,
        Err(CaError::Absent(_)) => {
            info!("agents are not offered TLS; `vestibule ca init` makes an authority for that");
            return Ok(AgentTls::new(None));
        }
        Err(error) => return Err(error).context("the certificate authority"),
    };
    write_bundle(&config.tls.bundle, &dir.join(CERTIFICATE_FILE))?;
    info!(subject = authority.subject(), sha256 = authority.fingerprint(), "TLS is offered");
    Ok(AgentTls::new(Some(authority)))
}

/// Replaces the bundle by the system's authorities and ours.
fn write_bundle(bundle: &Path, ours: &Path) -> Result<()> {
    let mut text = fs::read(ours).with_context(|| format!("reading {}", ours.display()))?;
    for path in SYSTEM_BUNDLES {
        match fs::read(path) {
            Ok(system) => {
                text.push(b'\n');
                text.extend_from_slice(&system);
                break;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("reading {path}")),
        }
    }
    let context = || format!("writing {}", bundle.display());
    if let Some(dir) = bundle.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).with_context(context)?;
    }
    let new = bundle.with_extension("new");
    fs::write(&new, text).with_context(context)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).with_context(context)?;
    fs::rename(&new, bundle).with_context(context)
}
