//! What others say of a log: cosignatures of witnesses by a policy, and checkpoints that were kept elsewhere.

use std::collections::BTreeMap;

use tlog::cosignature;
use tlog::policy::Policy;

use super::Elsewhere;
use super::history::History;
use super::keys::Keys;
use super::report::{Level, Report};
use crate::layout;
use crate::merkle::Hash;
use crate::note::{self, Checkpoint};

/// Checks the cosignatures in the archive: the newest checkpoint that has a quorum must be there, and says up to
/// where records are witnessed.
pub(super) fn check_policy(policy: &Policy, history: &History, size: u64, report: &mut Report) {
    report.checked(Level::Anchors);
    let mut witnessed: Option<(u64, u64)> = None;
    for (size, (name, text)) in &history.cosigned {
        let kept = history.kept.get(size).and_then(|kept| note::split(&kept.note));
        let lines = note::lines(text);
        let (Some((checkpoint, _)), Some(lines)) = (kept, lines) else {
            report.find(Level::Anchors, Some(name), "cosignatures of no checkpoint that is there");
            continue;
        };
        let times: Vec<Option<u64>> = policy
            .witnesses
            .iter()
            .map(|witness| cosignature::time_s(checkpoint, &lines, &witness.key))
            .collect();
        for (witness, time) in policy.witnesses.iter().zip(&times) {
            let is_named = lines
                .iter()
                .any(|line| line.name == witness.key.name && line.id == witness.key.id());
            if is_named && time.is_none() {
                let text = format!("witness {} did not cosign this checkpoint", witness.name);
                report.find(Level::Anchors, Some(name), text);
            }
        }
        if policy.is_met(&|at| times.get(at).copied().flatten().is_some()) {
            let time = times.iter().flatten().max().copied().unwrap_or(0);
            witnessed = Some((*size, time));
        }
    }
    match witnessed {
        None if policy.is_met(&|_| false) => {}
        None => {
            let text = "no checkpoint has the cosignatures that the policy asks for";
            report.find(Level::Anchors, None, text);
        }
        Some((upto, time_s)) => {
            let time = layout::time(i64::try_from(time_s).unwrap_or(0).saturating_mul(1_000_000));
            let rest = size.saturating_sub(upto);
            let text = format!("witnessed up to record {upto}, at {time}; {rest} records beyond");
            report.notes.push(text);
        }
    }
}

/// The sizes at which `elsewhere` says what the root is, as far as this log has them.
pub(super) fn sizes(elsewhere: &[Elsewhere], origin: &str) -> Vec<u64> {
    let said = elsewhere.iter().filter_map(|it| said(it, origin));
    said.map(|checkpoint| checkpoint.size).collect()
}

/// Holds the log against checkpoints kept elsewhere.
pub(super) fn check_elsewhere(
    elsewhere: &[Elsewhere],
    origin: &str,
    size: u64,
    keys: &Keys,
    roots: &BTreeMap<u64, Option<Hash>>,
    report: &mut Report,
) {
    for it in elsewhere {
        let Some(checkpoint) = said(it, origin) else { continue };
        report.checked(Level::Anchors);
        let whence = &it.whence;
        let signed = note::split(&it.note)
            .is_some_and(|(text, lines)| keys.all().any(|key| note::is_signed(text, &lines, key)));
        let seen = checkpoint.size;
        let text = if !signed && seen > size {
            format!(
                "rolled back: {whence} has a checkpoint of {seen} records by a key that this archive does not know, and the archive ends at {size}: its key was replaced since, or it is another log"
            )
        } else if !signed {
            format!(
                "the checkpoint of size {seen} from {whence} is signed with none of this log's keys: another log, or keys that were replaced in secret"
            )
        } else if seen > size {
            format!(
                "rolled back: {whence} has a signed checkpoint of {seen} records, the archive ends at {size}; records {size} to {} are missing",
                seen - 1
            )
        } else {
            match roots.get(&seen).copied().flatten() {
                Some(root) if root == checkpoint.root => continue,
                Some(_) => format!(
                    "another history: {whence} has a signed checkpoint of the first {seen} records, and they are not these; two signed checkpoints that contradict each other prove it"
                ),
                None => format!(
                    "the first {seen} records can't be held against the checkpoint from {whence}: they can't all be read"
                ),
            }
        };
        report.find(Level::Anchors, None, text);
    }
}

fn said(it: &Elsewhere, origin: &str) -> Option<Checkpoint> {
    let (text, _) = note::split(&it.note)?;
    Checkpoint::parse(text).filter(|checkpoint| checkpoint.origin == origin)
}
