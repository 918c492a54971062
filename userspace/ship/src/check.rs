//! Are the store's objects what its logs list? Names, lengths, on demand digests; and where it has them, versions, delete
//! markers and locks. Rows and signatures are `archive::verify`'s, of what was fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use archive::layout::{self, FileEntry};
use archive::merkle::Tile;
use archive::retention::{self, Gone};
use serde::Serialize;
use types::hex::unhex;

use crate::fetch::{Covered, Fetched, bring, covered, hex_sum};
use crate::place::Lock;
use crate::remote::Remote;
use crate::s3::{Held, Version};
use crate::{ShipError, Sum, io_error};

/// Findings listed; of further ones only the number is kept.
pub const FINDINGS_MAX: usize = 1000;

const DAY_US: i64 = 86_400_000_000;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The store.
    pub remote: String,
    /// The logs and the rows under their checkpoints.
    pub logs: Vec<(String, u64)>,
    /// Files of tables that the logs list.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that are not there because they were disposed of, as records say.
    pub disposed: u64,
    /// Whether each was read and held against its SHA-256.
    pub is_read: bool,
    /// Objects whose lock was looked at.
    pub locks: u64,
    /// Of these, objects that a legal hold is on.
    pub held: u64,
    /// Objects beyond the checkpoints: a shipment is under way, or a checkpoint was brought back.
    pub beyond: u64,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// Findings that are not listed.
    pub findings_more: u64,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The object.
    pub name: String,
    /// In words.
    pub text: String,
}

impl Report {
    /// Whether all is as it should be.
    pub fn is_ok(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, name: &str, text: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { name: name.to_owned(), text: text.into() });
        } else {
            self.findings_more += 1;
        }
    }
}

/// Checks a store; reads each file wholly where `is_read`.
///
/// # Errors
/// If the store fails.
pub fn check(remote: &mut Remote, is_read: bool) -> Result<Report, ShipError> {
    let mut report = Report { remote: remote.url().to_owned(), is_read, ..Report::default() };
    let logs = covered(remote)?;
    let mut entries: BTreeMap<String, (i64, FileEntry)> = BTreeMap::new();
    let mut due: BTreeSet<String> = BTreeSet::new();
    let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
    for Covered { origin, size, entries: files, due: names } in logs {
        if size == 0 {
            report.find(
                &origin,
                "the log has no checkpoint: its first shipment is under way, or it was taken away",
            );
        }
        report.logs.push((origin.clone(), size));
        sizes.insert(origin, size);
        entries.extend(files.into_iter().map(|(us, entry)| (entry.path.clone(), (us, entry))));
        due.extend(names);
    }
    if report.logs.is_empty() {
        report.find("", "no log is there");
    }
    let mut there: BTreeMap<String, u64> = BTreeMap::new();
    for class in [layout::STANDARD, layout::PAYLOAD] {
        remote.list(class, &mut |name, bytes| {
            there.insert(name.to_owned(), bytes);
            Ok(())
        })?;
    }
    for name in due.iter().filter(|name| !there.contains_key(*name)) {
        report.find(name, "object is missing");
    }
    let is_gone = |name: &String| !there.contains_key(name);
    let gone =
        if entries.keys().any(is_gone) { disposed(remote, &entries)? } else { BTreeMap::new() };
    for (name, (_, entry)) in &entries {
        if is_gone(name) && retention::accounts(&gone, entry) {
            report.disposed += 1;
            continue;
        }
        report.files += 1;
        report.bytes += entry.bytes;
        match there.get(name) {
            None => report.find(name, "object is missing"),
            Some(bytes) if *bytes != entry.bytes => {
                report.find(name, format!("object has {bytes} bytes instead of {}", entry.bytes));
            }
            Some(_) if is_read => {
                let sha256 = unhex(&entry.sha256).unwrap_or_default();
                let found = remote.sum(name)?;
                if let Some(found) =
                    found.filter(|found| *found != Sum { sha256, bytes: entry.bytes })
                {
                    report
                        .find(name, format!("object changed: its SHA-256 is {}", hex_sum(&found)));
                }
            }
            Some(_) => {}
        }
    }
    strangers(&there, &entries, &sizes, &mut report);
    versions(remote, &entries, &mut report)?;
    Ok(report)
}

/// What the control records in a store say that was disposed of.
fn disposed(
    remote: &mut Remote,
    entries: &BTreeMap<String, (i64, FileEntry)>,
) -> Result<BTreeMap<String, Gone>, ShipError> {
    let folder = tempfile::tempdir().map_err(io_error(Path::new("a temporary folder")))?;
    for (_, entry) in entries.values().filter(|(_, e)| e.table.as_deref() == Some("control")) {
        // One that is missing or changed is told of by itself, and accounts for nothing.
        drop(bring(remote, folder.path(), entry, &mut Fetched::default()));
    }
    retention::dispositions(folder.path()).map_err(|error| ShipError::Hold(error.to_string()))
}

/// Tables' files and manifests that no log lists.
fn strangers(
    there: &BTreeMap<String, u64>,
    entries: &BTreeMap<String, (i64, FileEntry)>,
    sizes: &BTreeMap<String, u64>,
    report: &mut Report,
) {
    for name in there.keys().filter(|name| name.contains("/table=") && !entries.contains_key(*name))
    {
        let is_ones = sizes.iter().any(|(origin, size)| is_beyond(name, origin, *size));
        if is_ones {
            report.beyond += 1;
        } else {
            report.find(name, "object is in no manifest: added");
        }
    }
}

/// Whether a file's name says that it is of a log and beyond its checkpoint.
fn is_beyond(name: &str, origin: &str, size: u64) -> bool {
    let Some((node, epoch)) =
        origin.strip_prefix("vestibule/node/").and_then(|id| id.rsplit_once('/'))
    else {
        return false;
    };
    let is_nodes = name.contains(&format!("/node={node}/{epoch}-"));
    let first =
        name.rsplit('/').next().and_then(|file| file.split('-').nth(1)?.parse::<u64>().ok());
    is_nodes && first.is_some_and(|first| first >= size)
}

/// Versions, delete markers and locks, where the store has them.
fn versions(
    remote: &Remote,
    entries: &BTreeMap<String, (i64, FileEntry)>,
    report: &mut Report,
) -> Result<(), ShipError> {
    let Some((s3, runtime, prefix)) = remote.s3() else { return Ok(()) };
    let lock = s3.lock().cloned();
    if lock.is_some() && !runtime.block_on(s3.bucket_lock())?.is_enabled {
        report.find("", "the bucket has no object lock");
    }
    let below = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    let mut count: BTreeMap<String, u64> = BTreeMap::new();
    let mut hidden = BTreeSet::new();
    runtime.block_on(s3.versions(&below, &mut |version| {
        let Version { key, id, is_marker, is_latest } = version;
        let name = key.strip_prefix(&below).unwrap_or(&key).to_owned();
        if is_marker && is_latest {
            hidden.insert(name.clone());
        }
        if is_marker {
            let now = if is_latest { "it is hidden now" } else { "it was hidden for a time" };
            report.find(
                &name,
                format!("object was deleted (marker {id}): {now}, its versions are there"),
            );
        } else {
            *count.entry(name).or_default() += 1;
        }
        Ok(())
    }))?;
    for (name, versions) in count.iter().filter(|(_, versions)| **versions > 1) {
        if !may_change(name) {
            report.find(name, format!("object was written {versions} times; it is written once"));
        }
    }
    let Some(Lock { mode, days }) = lock else { return Ok(()) };
    for (name, (sealed_us, _)) in
        entries.iter().filter(|(name, _)| count.contains_key(*name) && !hidden.contains(*name))
    {
        let class = name.split('/').next().unwrap_or_default();
        let Some(days) = days.get(class) else { continue };
        report.locks += 1;
        let due = layout::date(sealed_us.div_euclid(DAY_US) + i64::from(*days));
        let Held { mode: held, until, legally } =
            runtime.block_on(s3.held(&format!("{below}{name}")))?;
        report.held += u64::from(legally);
        let is_mode =
            held.as_deref() == Some(mode.as_str()) || held.as_deref() == Some("COMPLIANCE");
        if !is_mode || until.as_deref().is_none_or(|until| until < due.as_str()) {
            let [held, until] = [held, until].map(|it| it.unwrap_or_else(|| "none".to_owned()));
            report.find(
                name,
                format!(
                    "object is held by {held} until {until}; {} until {due} is due",
                    mode.as_str()
                ),
            );
        }
    }
    Ok(())
}

/// Whether an object may have been replaced.
fn may_change(name: &str) -> bool {
    let is_table = name.contains("/table=");
    let rest = name.split_once("/log/").map_or("", |(_, rest)| rest);
    let tile = rest.find("tile/").and_then(|at| Tile::parse(std::path::Path::new(rest.get(at..)?)));
    let is_once = rest.contains("/manifest/") || rest.contains("/checkpoints/") || tile.is_some();
    !is_table && !is_once
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_change_and_what_is_beyond_is_told_by_names() {
        let log = "std7y/v1/log/vestibule/node/n1/1";
        for (name, due) in [
            (format!("{log}/checkpoint"), true),
            (format!("{log}/cosigned/00000000000000000010"), true),
            (format!("{log}/key.vkey"), true),
            ("std7y/v1/README-AUDITOR.md".to_owned(), true),
            (format!("{log}/checkpoints/00000000000000000010"), false),
            (format!("{log}/manifest/0-9.json"), false),
            (format!("{log}/tile/0/000.p/10"), false),
            ("std7y/v1/table=events/dt=2026-11-21/node=n1/1-0-9.parquet".to_owned(), false),
        ] {
            assert_eq!(may_change(&name), due, "{name}");
        }
        let file = "std7y/v1/table=events/dt=2026-11-21/node=n1/1-00000000000000000010-00000000000000000019.parquet";
        assert!(is_beyond(file, "vestibule/node/n1/1", 10));
        assert!(!is_beyond(file, "vestibule/node/n1/1", 11));
        assert!(!is_beyond(file, "vestibule/node/n1/2", 10));
        assert!(!is_beyond(file, "vestibule/node/n/1", 10));
    }
}
