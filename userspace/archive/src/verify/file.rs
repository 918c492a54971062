//! One file of an archive, read for its leaves. Knows no report, so that many threads do it.

use std::fs;
use std::path::{Component, Path};

use sha2::{Digest, Sha256};
use types::hex::hex;

use super::changed::{self, Found};
use super::columns::{self, Taken};
use crate::layout::{self, FileEntry};

/// What a file holds, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// What could be read.
    pub(super) rows: Taken,
    /// Bytes read.
    pub(super) bytes: u64,
    /// What is wrong.
    pub(super) fault: Option<Fault>,
}

/// What is wrong with a file.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is as sealed and can't be read, or is none.
    Unreadable(String),
    /// It is missing.
    Missing(String),
    /// It is not the sealed one.
    Changed(String),
    /// It is not the sealed one, and nothing speaks against a mere rewriting but its rows.
    Rewritten,
}

/// Reads the file of `entry`, `with_facts` where these are asked for. Only where its list is `trusted` and it is as listed it is read in this process;
/// see [`changed::rows`] for `reader`.
pub(super) fn read(
    archive: &Path,
    reader: Option<&Path>,
    entry: &FileEntry,
    (trusted, with_facts): (bool, bool),
) -> Read {
    let fault = |fault| Read { fault: Some(fault), ..Read::default() };
    let is_below =
        Path::new(&entry.path).components().all(|part| matches!(part, Component::Normal(_)));
    let table = entry.table.as_deref().and_then(layout::table).filter(|_| is_below);
    let Some(table) = table else {
        return fault(Fault::Unreadable("manifest names no file of a table".to_owned()));
    };
    let path = archive.join(&entry.path);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => return fault(Fault::Missing(format!("file is missing ({error})"))),
    };
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let same = hex(&Sha256::digest(&bytes)) == entry.sha256;
    if same && trusted {
        return match columns::leaves(table, bytes, with_facts) {
            Ok(rows) => Read { rows, bytes: length, fault: None },
            Err(error) => fault(Fault::Unreadable(error.to_string())),
        };
    }
    drop(bytes);
    let mut rows = Taken::default();
    let mut take = |found: Found| {
        let Found { seq, leaf, rotation, .. } = found;
        rows.rows.push((seq, leaf));
        rows.rotations.extend(rotation.map(|detail| (seq, detail)));
    };
    let read = changed::rows(reader, table, &path, entry.bytes, &mut take);
    let changed = |why: Option<String>| {
        let size = if length == entry.bytes {
            String::new()
        } else {
            format!(", {length} bytes instead of {}", entry.bytes)
        };
        let why = why.map(|why| format!("; {why}")).unwrap_or_default();
        Some(Fault::Changed(format!("file changed: its SHA-256 is not the sealed one{size}{why}")))
    };
    let fault = match (same, read) {
        (true, Ok(_)) => None,
        (true, Err(why)) => Some(Fault::Unreadable(why)),
        (false, Ok(changed)) if changed.lie.is_none() => Some(Fault::Rewritten),
        (false, Ok(read)) => changed(read.lie),
        (false, Err(why)) => changed(Some(why)),
    };
    Read { rows, bytes: length, fault }
}
