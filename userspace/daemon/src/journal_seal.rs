//! Forward-secure seals on the journal: the first secret is made here, wrapped to audit, and not kept.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use journal::disk::Os;
use journal::recorder::{Recorder, Seals};
use journal::sealing::{self, Secret};
use recording::keys::PublicKey;
use recording::wrap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::info;
use types::hex::hex;

use crate::app::{EPOCH, record};
use crate::config::Config;
use crate::recordings::read_keys;

/// Seals on the journal between checkpoints, so that nobody rewrites later what was committed, root neither. Who can read
/// the secret checks them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SealRule {
    /// The public keys of those who check: `vestibule recordings keygen` makes a pair.
    recipients: Vec<PathBuf>,
    /// How long what was committed may go without a seal, in milliseconds; a second where absent.
    #[serde(default = "a_second")]
    interval_ms: u64,
}

fn a_second() -> u64 {
    1_000
}

/// A seal takes a trip to the disk more: a hundred of them a second are as many as make sense.
const INTERVAL_MS_MIN: u64 = 10;

/// An hour: checkpoints come as often.
const INTERVAL_MS_MAX: u64 = 3_600_000;

impl SealRule {
    /// Whose keys these are.
    pub(crate) fn keys(&self) -> Result<Vec<PublicKey>> {
        let Self { recipients, interval_ms } = self;
        ensure!(
            (INTERVAL_MS_MIN..=INTERVAL_MS_MAX).contains(interval_ms),
            "journal.seal.interval_ms: from {INTERVAL_MS_MIN} to {INTERVAL_MS_MAX}"
        );
        read_keys(recipients, "journal.seal.recipients")
    }
}

/// How the journal is sealed, and what is recorded of that; the first secret is made where there is none.
pub(crate) fn prepare(config: &Config) -> Result<Option<(Seals, Value)>> {
    let Some(rule) = &config.journal.seal else { return Ok(None) };
    let (recipients, node) = (rule.keys()?, config.node());
    let path = config.keys_dir().join(format!("{node}.seal"));
    let told = config.keys_dir().join(format!("{node}.seal-secret"));
    if !path.exists() {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).context("no random bytes")?;
        let first = Secret::new(bytes);
        let wrap = |to: &PublicKey| wrap::wrap_secret(first.expose(), (&node, EPOCH), to);
        let wrapped = recipients.iter().map(wrap).collect::<Result<Vec<_>, _>>()?;
        let detail =
            json!({ "node": node, "epoch": EPOCH, "id": hex(&first.id()), "wrapped": wrapped });
        // First what audit needs: without it no seal could be checked.
        archive::files::write(&told, detail.to_string().as_bytes(), 0o600)
            .with_context(|| told.display().to_string())?;
        sealing::begin(&Os, &path, &first)?;
        info!(secret = %told.display(), "the journal is sealed from now on: have audit open the secret");
    }
    let detail = fs::read(&told).with_context(|| told.display().to_string())?;
    let detail = serde_json::from_slice(&detail).with_context(|| told.display().to_string())?;
    let interval = Duration::from_millis(rule.interval_ms);
    Ok(Some((Seals { path, interval }, detail)))
}

/// Records by which secret the journal is sealed, and its wrapped form.
pub(crate) fn say(recorder: &Recorder, detail: &Value) -> Result<()> {
    record(recorder, "log.sealing", detail)
}
