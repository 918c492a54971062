//! Recordings that are sealed: to whom, where their keys are, who opened one, and which were shredded.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use journal::recorder::Recorder;
use recording::keys::{self, PublicKey};
use recording::sealing::Sealing;
use recording::vault::{Vault, VaultError};
use schemars::JsonSchema;
use serde::Deserialize;
use tracing::{info, warn};
use types::clock::from_utc;
use types::control::Response;
use types::id::SessionId;
use types::limits::RECORDING_RECIPIENTS_MAX;

use crate::app::{EPOCH, record};
use crate::asker::Asker;
use crate::config::Config;
use crate::desk::Desk;

/// Characters of a purpose or a reason: it is one row's detail, and the request one line of 12 KiB.
const TEXT_CHARS_MAX: usize = 1_000;

/// To whom recordings are sealed. Without it they are in clear, masked as policy says.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordingsRule {
    /// The public keys of those who may read them, each by itself: `vestibule recordings keygen` makes a pair. Two are
    /// as many as are needed: audit's, and one in escrow for when that is lost.
    pub(crate) recipients: Vec<PathBuf>,
    /// Where the sessions' wrapped keys are kept; `recordings/keys` below the state directory where absent.
    pub(crate) vault: Option<PathBuf>,
}

impl RecordingsRule {
    /// The recipients' keys.
    pub(crate) fn keys(&self) -> Result<Vec<PublicKey>> {
        let found = read_keys(&self.recipients, "recordings.recipients")?;
        for (at, (path, key)) in self.recipients.iter().zip(&found).enumerate() {
            let is_new = !found.iter().take(at).any(|other| other == key);
            ensure!(is_new, "recordings.recipients: {} is there twice", path.display());
        }
        Ok(found)
    }
}

/// The keys of those to whom something is sealed; `what` names the list in errors.
pub(crate) fn read_keys(recipients: &[PathBuf], what: &'static str) -> Result<Vec<PublicKey>> {
    ensure!(!recipients.is_empty(), "{what}: at least one");
    let most = RECORDING_RECIPIENTS_MAX;
    ensure!(recipients.len() <= most, "{what}: at most {most}");
    recipients.iter().map(|path| keys::read_public(path).context(what)).collect()
}

/// What sessions' recordings are sealed with, where they are; it is recorded to whom.
pub(crate) fn sealing(config: &Config, recorder: &Recorder) -> Result<Option<Arc<Sealing>>> {
    let Some(rule) = &config.recordings else { return Ok(None) };
    let (recipients, dir) = (rule.keys()?, vault_dir(config));
    let vault = Vault::open(&dir).context("recordings: the vault of keys")?;
    let ids: Vec<_> = recipients.iter().map(PublicKey::id).collect();
    info!(recipients = ids.join(", "), vault = %dir.display(), "recordings are sealed");
    if ids.len() == 1 {
        warn!("recordings are sealed to one key: whoever loses it loses them all");
    }
    record(recorder, "recording.sealing", &serde_json::json!({ "recipients": ids }))?;
    Ok(Some(Arc::new(Sealing::new(config.node(), EPOCH, recipients, vault))))
}

/// Where wrapped keys are.
pub(crate) fn vault_dir(config: &Config) -> PathBuf {
    let named = config.recordings.as_ref().and_then(|rule| rule.vault.clone());
    named.unwrap_or_else(|| config.state_dir.join("recordings").join("keys"))
}

/// A purpose or a reason, as it is recorded.
fn said<'t>(what: &str, text: &'t str) -> Result<&'t str> {
    let text = text.trim();
    ensure!(!text.is_empty(), "a {what} must be given");
    ensure!(
        text.chars().count() <= TEXT_CHARS_MAX,
        "the {what} is longer than {TEXT_CHARS_MAX} characters"
    );
    Ok(text)
}

impl Desk {
    /// Writes that somebody opens a session's recording, and what for; before they can.
    pub(crate) fn recording_opened(
        &self,
        session: SessionId,
        (recipient, purpose): (&str, &str),
        tgid: u32,
    ) -> Result<Response> {
        let detail = serde_json::json!({
            "session_id": session.to_string(),
            "dek_id": session.to_string(),
            "recipient": recipient,
            "purpose": said("purpose", purpose)?,
            "by": Asker::of(tgid),
        });
        record(&self.door.recorder, "recording.opened", &detail)?;
        Ok(Response::RecordingNoted)
    }

    /// Destroys the keys of sessions: those named, or all of before a day.
    pub(crate) fn shred(
        &self,
        sessions: &[SessionId],
        (before, reason): (Option<&str>, &str),
        tgid: u32,
    ) -> Result<Response> {
        let reason = said("reason", reason)?;
        let vault = Vault::at(&self.key_vault);
        let found;
        let sessions = match before {
            None => sessions,
            Some(day) => {
                let is_day = day.len() == 10 && from_utc(day).is_some();
                ensure!(is_day, "`{day}` is no day like 2026-01-31");
                found = vault.before(day)?;
                &found
            }
        };
        ensure!(!sessions.is_empty(), "there is no key to destroy");
        let _keeping = self.archiver.keeping();
        let held = self.held(sessions, reason, tgid)?;
        ensure!(
            held.len() < sessions.len(),
            "legal holds are on all of them: nothing is destroyed (`vestibule archive hold list`)"
        );
        let mut shredded = 0;
        for session in sessions.iter().filter(|session| !held.contains(session)) {
            self.shred_one(&vault, *session, reason, tgid)?;
            shredded += 1;
        }
        warn!(
            shredded,
            held = held.len(),
            reason,
            "recordings are shredded: nobody opens them again"
        );
        Ok(Response::Shredded { shredded, held: held.len() })
    }

    /// It is on record before the key is gone: a crash between the two leaves a key that is to be destroyed again.
    fn shred_one(
        &self,
        vault: &Vault,
        session: SessionId,
        reason: &str,
        tgid: u32,
    ) -> Result<(), anyhow::Error> {
        match vault.find(session) {
            // What is no key any more, after a crash, is destroyed all the same.
            Ok(_) | Err(VaultError::Malformed(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let detail = serde_json::json!({
            "session_id": session.to_string(),
            "dek_id": session.to_string(),
            "reason": reason,
            "by": Asker::of(tgid),
        });
        record(&self.door.recorder, "recording.shredded", &detail)?;
        vault.destroy(session).context("recorded, but not destroyed: try again")
    }
}

/// Files that agents must not change.
pub(crate) fn protected(rule: Option<&RecordingsRule>) -> impl Iterator<Item = &Path> {
    rule.into_iter().flat_map(|rule| rule.recipients.iter().map(PathBuf::as_path))
}
