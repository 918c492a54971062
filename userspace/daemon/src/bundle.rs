//! The policies in force, as records: which they are at every start, and their texts whenever they are others.
//!
//! A decision names the digest of the policies that it was made by; what they said must be found in the archive years
//! later, when their files are long gone.

use std::path::Path;

use anyhow::{Context, Result};
use journal::recorder::Recorder;
use policy::{PolicySet, PolicySource};
use serde_json::json;
use sha2::{Digest, Sha256};
use types::hex::hex;

/// Which policies were recorded last, in the state directory: the digest, hex.
const LAST: &str = "policies.digest";

/// Bytes of a text in one record: with every byte escaped to six and what stands around it, less than a record holds.
const PART_BYTES_MAX: usize = 8 * 1024;

/// Records which policies are in force, and what they say where that is not recorded yet. Nothing is decided by
/// policies that are not recorded.
///
/// # Errors
/// If the journal does not take it.
pub(crate) fn record(
    recorder: &Recorder,
    state_dir: &Path,
    source: &PolicySource,
    policies: &PolicySet,
) -> Result<()> {
    let digest = hex(&policies.digest());
    let path = state_dir.join(LAST);
    let last = std::fs::read_to_string(&path).unwrap_or_default();
    let last = last.trim();
    let texts = texts(source);
    if last != digest {
        for (name, text) in &texts {
            record_text(recorder, &digest, name, text)?;
        }
    }
    let files: Vec<_> = texts.iter().map(|(name, text)| {
        json!({ "name": name, "bytes": text.len(), "sha256": hex(&Sha256::digest(text)) })
    }).collect();
    let old = (!last.is_empty()).then_some(last);
    let detail = json!({ "new_digest": digest, "old_digest": old, "files": files });
    recorder.wait(recorder.control("policy.loaded", &detail.to_string())?)?;
    if last != digest {
        archive::files::write(&path, digest.as_bytes(), 0o600)
            .with_context(|| format!("{} can't be written", path.display()))?;
    }
    Ok(())
}

/// Records a text, in as many parts as it takes.
fn record_text(recorder: &Recorder, digest: &str, name: &str, text: &str) -> Result<()> {
    let parts = parts(text);
    for (part, piece) in parts.iter().enumerate() {
        let detail = json!({
            "new_digest": digest, "name": name, "part": part, "parts": parts.len(), "text": piece,
        });
        recorder.control("policy.text", &detail.to_string())?;
    }
    Ok(())
}

fn texts(source: &PolicySource) -> Vec<(&str, &str)> {
    let PolicySource { schema, policies, classification } = source;
    let own = [("vestibule.cedarschema", schema), ("classification.toml", classification)];
    let policies = policies.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    own.into_iter().map(|(name, text)| (name, text.as_str())).chain(policies).collect()
}

/// A text in pieces that fit into a record each; one that is empty is one piece.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while rest.len() > PART_BYTES_MAX {
        let end = (0..=PART_BYTES_MAX).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(0);
        let (part, left) = rest.split_at(end);
        parts.push(part);
        rest = left;
    }
    parts.push(rest);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_sum_of_its_parts() {
        for text in [String::new(), "a".repeat(PART_BYTES_MAX), "ö→".repeat(PART_BYTES_MAX)] {
            let parts = parts(&text);
            assert_eq!(parts.concat(), text);
            assert!(parts.iter().all(|part| part.len() <= PART_BYTES_MAX));
        }
    }
}
