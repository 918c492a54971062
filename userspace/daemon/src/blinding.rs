//! The keys of blind tokens: made on first use, recorded whenever one comes into use, replaced when somebody says so.

use std::path::PathBuf;

use anyhow::{Context, Result};
use journal::recorder::Recorder;
use mask::blind::BlindKey;
use mask::classification::Classification;
use proxy::door::BlindKeys;
use recording::blind_keys::{self, Kept};
use serde_json::json;
use tracing::info;
use types::clock::Timestamp;
use types::control::Response;

use crate::app::record;
use crate::asker::Asker;
use crate::config::Config;
use crate::desk::Desk;

/// The key in use, where values of any class get tokens; on record before a token is made with it.
pub(crate) fn keys(
    config: &Config,
    classification: &Classification,
    recorder: &Recorder,
    now: Timestamp,
) -> Result<Option<BlindKeys>> {
    if !classification.has_tokens() {
        return Ok(None);
    }
    let dir = dir(config);
    let last = blind_keys::read(&dir).context("keys of blind tokens")?.pop();
    let key = match last {
        Some(key) => key,
        None => blind_keys::make(&dir, now).context("keys of blind tokens")?,
    };
    let classes = classification
        .classes
        .iter()
        .filter_map(|class| Some((class.name.0.to_string(), json!(class.tokens?.as_str()))));
    let classes: serde_json::Map<String, serde_json::Value> = classes.collect();
    info!(key = key.id, "values of classes have blind tokens");
    record(recorder, "blind.key", &json!({ "key": key.id, "classes": classes }))?;
    Ok(Some(BlindKeys::new(used(&key))))
}

/// Where they are.
pub(crate) fn dir(config: &Config) -> PathBuf {
    config.keys_dir().join("blind")
}

fn used(kept: &Kept) -> BlindKey {
    BlindKey::new(&kept.id, &kept.key)
}

impl Desk {
    /// Has tokens made with a new key from now on.
    pub(crate) fn rotate_blind_key(&self, tgid: u32) -> Result<Response> {
        let keys = self.door.blind.as_ref();
        let keys = keys.context("no class of classification.toml has `tokens`: there is no key")?;
        let before = keys.current();
        let key = blind_keys::make(&self.blind_keys, self.door.clock.now())?;
        // On record before it is used: what was made with it is sought by it.
        let detail = json!({ "key": key.id, "before": before.id(), "by": Asker::of(tgid) });
        record(&self.door.recorder, "blind.key", &detail)?;
        keys.replace(used(&key));
        info!(key = key.id, before = before.id(), "blind tokens are made with a new key");
        Ok(Response::BlindKey { key: key.id })
    }
}
