//! Which key was in force at which size of a log, by the records in which one follows another.

use std::path::Path;

use super::report::{Finding, Level, Report};
use crate::key::{self, Rotated, Rotation};
use crate::note::PublicKey;

/// The keys of a log.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    /// From which size on each is in force: its record is under such a checkpoint.
    from: Vec<(u64, PublicKey)>,
}

impl Keys {
    /// The keys by `stored`, those that the archive itself names, and the rotations in its records.
    pub(super) fn follow(
        origin: &str,
        id: &str,
        stored: &[PublicKey],
        rotations: &[(u64, String)],
        report: &mut Report,
    ) -> Self {
        let mut from: Vec<(u64, PublicKey)> = Vec::new();
        for (seq, detail) in rotations {
            let record = Some(format!("{id}/{seq}"));
            let mut wrong = |text: &str| {
                let (level, path) = (Level::Checkpoint, None);
                let text = text.to_owned();
                report.add(Finding { level, path, record: record.clone(), text });
            };
            let Some(Rotated { old, new, revoked_from }) = Rotation::open(detail, origin) else {
                wrong("key rotation is not signed with both keys");
                continue;
            };
            match from.last() {
                None => from.push((0, old)),
                Some((_, last)) if *last == old => {}
                Some(_) => {
                    wrong("key rotation does not follow the one before it");
                    continue;
                }
            }
            from.push((seq.saturating_add(1), new));
            let stands = revoked_from.map(|size| {
                format!("; what the old one signs beyond size {size} stands by the new one alone")
            });
            let stands = stands.unwrap_or_default();
            report.notes.push(format!("the key was replaced by record {id}/{seq}{stands}"));
        }
        if from.is_empty() {
            from.extend(stored.first().map(|key| (0, key.clone())));
        }
        Self { from }
    }

    /// The key that signs a checkpoint of that size.
    pub(super) fn at(&self, size: u64) -> Option<&PublicKey> {
        self.from.iter().rev().find(|(from, _)| *from <= size).map(|(_, key)| key)
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &PublicKey> {
        self.from.iter().map(|(_, key)| key)
    }

    /// Whether it is one of them.
    pub(super) fn has(&self, key: &PublicKey) -> bool {
        self.all().any(|own| own == key)
    }
}

/// The keys in a file, if it holds nothing else and at least one.
pub(super) fn read(path: &Path) -> std::io::Result<Option<Vec<PublicKey>>> {
    let text = std::fs::read_to_string(path)?;
    Ok(key::parse_all(&text).filter(|keys| !keys.is_empty()))
}
