//! `[archive.ship]`: where the archive goes, and what may go here once it is there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use schemars::JsonSchema;
use serde::Deserialize;
use ship::place::{Credentials, Lock, Mode, Place, SECRET_VARIABLES};

use crate::environment::Environment;

/// A store that everything sealed is shipped to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShipRule {
    /// `s3://bucket/prefix`, `gs://…`, `az://container/prefix`, or `file:///folder` that is there. Several hosts may have
    /// the same.
    pub(crate) url: String,
    /// The store's address where it is not the cloud's own: `https://s3.bank.internal`.
    pub(crate) endpoint: Option<String>,
    /// The region; `AWS_REGION`, or `us-east-1`, where absent.
    pub(crate) region: Option<String>,
    /// A file of lines `NAME=value` with the names that the store's own tools use, such as `AWS_ACCESS_KEY_ID`; the
    /// environment where absent.
    pub(crate) credentials: Option<PathBuf>,
    /// An authority of the store's certificate, PEM, beside the system's.
    pub(crate) ca: Option<PathBuf>,
    /// Plain HTTP is allowed to hosts other than this one.
    #[serde(default)]
    pub(crate) allow_http: bool,
    /// Bytes a second at most, there and back; no limit where absent.
    pub(crate) bandwidth_limit: Option<u64>,
    /// Whether Parquet files go here once they are in the store.
    #[serde(default)]
    pub(crate) prune: Prune,
    /// Days whose files stay here nevertheless.
    #[serde(default = "keep_days")]
    pub(crate) keep_days: u32,
    /// How the store holds objects; not at all where absent.
    pub(crate) lock: Option<LockRule>,
}

/// When files go here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Prune {
    /// Never.
    #[default]
    Never,
    /// Once they are in the store, were read back, and are under a checkpoint with the cosignatures that the policy of
    /// `archive.witnesses` asks for.
    Witnessed,
    /// Once they are in the store and were read back.
    AfterRemote,
}

/// S3's object lock, by class of retention.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockRule {
    /// Who may end a lock.
    pub(crate) mode: LockMode,
    /// Days that events, sessions, control records and logs are held.
    #[serde(default = "standard_days")]
    pub(crate) std7y_days: u32,
    /// Days that recordings are held.
    #[serde(default = "payload_days")]
    pub(crate) payload13m_days: u32,
}

/// S3's modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LockMode {
    /// Whom the store's administrator lets.
    Governance,
    /// Nobody, before its time.
    Compliance,
}

impl ShipRule {
    /// Whether it can be used, as far as that is known without the store.
    pub(crate) fn check(&self, has_witnesses: bool) -> Result<()> {
        self.place(Credentials::default())
            .and_then(|place| Ok(place.check()?))
            .context("archive.ship")?;
        ensure!(
            self.prune != Prune::Witnessed || has_witnesses,
            "archive.ship.prune: \"witnessed\" needs archive.witnesses; without any it is \"never\" or \"after-remote\""
        );
        Ok(())
    }

    /// The store, with what it is reached with.
    pub(crate) fn open(&self, environment: Option<&Environment>) -> Result<Place> {
        let mut around = Credentials::of_environment(std::env::vars());
        for name in SECRET_VARIABLES {
            if let Some(value) = environment.and_then(|taken| taken.get(name)) {
                let value = String::from_utf8(value.expose().clone());
                around.set(name, value.with_context(|| format!("{name} is no text"))?);
            }
        }
        let own = self.credentials.as_deref().map(Credentials::read).transpose();
        let credentials = own.context("archive.ship.credentials")?.unwrap_or_default().or(&around);
        self.place(credentials)
    }

    fn place(&self, credentials: Credentials) -> Result<Place> {
        let Self {
            url,
            endpoint,
            region,
            credentials: _,
            ca,
            allow_http,
            bandwidth_limit,
            prune: _,
            keep_days: _,
            lock,
        } = self;
        let lock = lock.as_ref().map(|LockRule { mode, std7y_days, payload13m_days }| Lock {
            mode: match mode {
                LockMode::Governance => Mode::Governance,
                LockMode::Compliance => Mode::Compliance,
            },
            days: BTreeMap::from([
                ("std7y".to_owned(), *std7y_days),
                ("payload13m".to_owned(), *payload13m_days),
            ]),
        });
        Ok(Place {
            endpoint: endpoint.clone(),
            region: region.clone(),
            ca: ca.clone(),
            allow_http: *allow_http,
            credentials,
            lock,
            bandwidth_limit: *bandwidth_limit,
            ..Place::new(url)?
        })
    }
}

/// Secrets of the environment that are taken out of it where a store is configured.
pub(crate) fn variables(rule: Option<&ShipRule>) -> impl Iterator<Item = String> {
    let all = rule.map_or(&[][..], |_| &SECRET_VARIABLES[..]);
    all.iter().map(|name| (*name).to_owned())
}

/// Three months are what PCI DSS 10.5.1 wants at hand at once; here it is what a disk must hold at least.
fn keep_days() -> u32 {
    90
}

/// Seven years, two of them leap years.
fn standard_days() -> u32 {
    7 * 365 + 2
}

/// Thirteen months.
fn payload_days() -> u32 {
    397
}
