//! The proofs that a case's rows are under their logs' signed checkpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use journal::row::Table;
use serde::Serialize;
use types::hex::hex;

use super::collect::LogId;
use super::{KitError, put};
use crate::key;
use crate::layout;
use crate::merkle::Hash;
use crate::note::{self, Checkpoint};
use crate::proof::{ProofError, Tiles};
use crate::scan::{self, Within};

/// Groups of 256 rows that hold one of the case's: the leaves of all their rows take 65,536 × 256 × about 60 B = 1 GB;
/// a case of one session has a few.
const GROUPS_MAX: usize = 65_536;

/// A log, as the manifest has it.
#[derive(Clone, Debug, Serialize)]
pub struct LogEntry {
    /// Where its checkpoint, key and proof lie in the kit.
    pub folder: String,
    /// Its name.
    pub origin: String,
    /// The rows under the checkpoint.
    pub tree_size: u64,
    /// Their root, base64.
    pub root: String,
    /// The key's name and id.
    pub key: String,
    /// Rows of the case.
    pub rows: u64,
}

/// Writes each log's checkpoint, public key and proof into the kit.
pub(super) fn prove(
    archive: &Path,
    kit: &Path,
    logs: &BTreeMap<LogId, BTreeMap<u64, Hash>>,
) -> Result<Vec<LogEntry>, KitError> {
    let mut entries = Vec::new();
    for ((log, rows), number) in logs.iter().zip(0..) {
        entries.push(one(archive, kit, (log, number), rows)?);
    }
    Ok(entries)
}

fn one(
    archive: &Path,
    kit: &Path,
    (log, number): (&LogId, usize),
    rows: &BTreeMap<u64, Hash>,
) -> Result<LogEntry, KitError> {
    let origin = layout::origin(&log.0, log.1);
    let dir = archive.join(layout::log_dir(&origin));
    let none = || KitError::Checkpoint(origin.clone());
    let note = fs::read_to_string(dir.join(layout::CHECKPOINT)).map_err(|_| none())?;
    let lines = fs::read_to_string(dir.join(layout::KEY)).map_err(|_| none())?;
    // Of keys that replaced one another, the one that signed.
    let keys = key::parse_all(&lines).ok_or_else(none)?;
    let key = keys.into_iter().find(|key| note::open(&note, key).is_some()).ok_or_else(none)?;
    let line = key.line();
    let checkpoint = note::open(&note, &key)
        .and_then(Checkpoint::parse)
        .filter(|checkpoint| checkpoint.origin == origin)
        .ok_or_else(none)?;
    let fail = |source| KitError::Proof { origin: origin.clone(), source };
    let leaves = neighbours(archive, log, rows)?;
    let seqs: Vec<u64> = rows.keys().copied().collect();
    let proof = Tiles::new(&dir, checkpoint.size, &leaves).prove(&seqs).map_err(fail)?;
    if proof.root(rows) != Some(checkpoint.root) {
        return Err(fail(ProofError::Root));
    }
    let nodes: Vec<_> =
        proof.nodes.iter().map(|((from, until), hash)| (from, until, hex(hash))).collect();
    let text = serde_json::json!({"origin": origin, "tree_size": proof.size, "nodes": nodes});
    let folder = format!("log/{number}");
    put(kit, &format!("{folder}/checkpoint"), note.as_bytes())?;
    put(kit, &format!("{folder}/key.vkey"), line.as_bytes())?;
    put(kit, &format!("{folder}/proof.json"), text.to_string().as_bytes())?;
    Ok(LogEntry {
        folder,
        tree_size: checkpoint.size,
        root: STANDARD.encode(checkpoint.root),
        key: format!("{} {}", key.name, hex(&key.id())),
        rows: u64::try_from(rows.len()).unwrap_or(u64::MAX),
        origin,
    })
}

/// The leaves of all rows that share a tile with one of `rows`, computed from the archive.
fn neighbours(
    archive: &Path,
    log: &LogId,
    rows: &BTreeMap<u64, Hash>,
) -> Result<BTreeMap<u64, Hash>, KitError> {
    let groups: BTreeSet<i64> =
        rows.keys().filter_map(|seq| i64::try_from(seq / 256).ok()).collect();
    if groups.len() > GROUPS_MAX {
        return Err(KitError::TooLarge("its rows are too far apart; name fewer sessions"));
    }
    let (first, last) = (groups.first().unwrap_or(&0), groups.last().unwrap_or(&0));
    let within = Within { column: "seq", from: first * 256, until: (last + 1) * 256 };
    let mut leaves = BTreeMap::new();
    for table in Table::ALL {
        for path in scan::files_of(archive, table)? {
            let (groups, (node, epoch)) = (groups.clone(), log.clone());
            let keep = move |batch: &RecordBatch, row: usize| {
                let node_is =
                    batch.column_by_name("node_id").and_then(|c| c.as_string_opt::<i32>());
                let int = batch.column_by_name("log_epoch");
                let int = int.and_then(|column| column.as_primitive_opt::<Int32Type>());
                let seq = batch.column_by_name("seq");
                let seq = seq.and_then(|column| column.as_primitive_opt::<Int64Type>());
                node_is.is_some_and(|column| !column.is_null(row) && column.value(row) == node)
                    && int.is_some_and(|column| column.value(row) == epoch)
                    && seq.is_some_and(|column| groups.contains(&column.value(row).div_euclid(256)))
            };
            let mut each = |row: journal::row::Row| {
                leaves.insert(row.seq().0, row.leaf_hash());
                Ok::<(), KitError>(())
            };
            let columns = ["node_id", "log_epoch", "seq"];
            scan::file(table, &path, &within, &columns, keep, &mut each)?;
        }
    }
    Ok(leaves)
}
