//! What lies there, by the archive's own word: the files that manifests and lists of what was put together name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::statistics::Statistics;

use super::action::{Add, Bound, Stats, encoded};
use super::{DeltaError, io_error};
use crate::compacted::Together;
use crate::layout::{self, FileEntry, Manifest};
use crate::note::{self, Checkpoint};
use crate::{files, verify};

/// What is known of a file, whether it is here or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// Its rows.
    pub(crate) rows: u64,
    /// Its length when it was written.
    pub(crate) bytes: u64,
    /// When the last of them was sealed, milliseconds since 1970 UTC.
    pub(crate) sealed_ms: i64,
    /// Whether others hold its rows now.
    pub(crate) is_replaced: bool,
}

/// A file that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Here {
    /// Its path below the table's folder.
    pub(crate) name: String,
    /// Its length as it is now: who rewrote it may have changed that.
    pub(crate) size: u64,
    /// Its rows.
    pub(crate) rows: u64,
    /// When the last of them was sealed, milliseconds since 1970 UTC.
    pub(crate) sealed_ms: i64,
}

/// What a Parquet file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    /// Its rows.
    pub(crate) rows: u64,
    /// Their least and greatest `ts`, microseconds since 1970 UTC, where it says so.
    pub(crate) ts: Option<(i64, i64)>,
}

impl Here {
    /// Whether a log's line is of this file as it is.
    pub(crate) fn is(&self, add: &Add) -> bool {
        self.has_rows_of(add) && self.size == add.size
    }

    /// Whether it has the rows that the file of a log's line had.
    pub(crate) fn has_rows_of(&self, add: &Add) -> bool {
        self.rows == add.rows() && self.sealed_ms == add.modification_time
    }
}

impl Footer {
    /// In a log's words.
    pub(crate) fn stats(&self) -> Stats {
        let bound = |us: i64| Bound { ts: layout::time(us) };
        let ts = self.ts.filter(|(_, greatest)| *greatest < i64::MAX - 999);
        Stats {
            num_records: self.rows,
            min_values: ts.map(|(least, _)| bound(least)),
            max_values: ts.map(|(_, greatest)| bound(greatest + 999)),
        }
    }
}

/// The files of tables that manifests list as far as the checkpoints go, and those that days were put together in, by path
/// below the archive's folder.
pub(crate) fn known(archive: &Path) -> Result<BTreeMap<String, Known>, DeltaError> {
    let mut all = BTreeMap::new();
    let origins = verify::origins(archive);
    for origin in origins.map_err(|error| io_error(archive)(std::io::Error::other(error)))? {
        let dir = archive.join(layout::log_dir(&origin));
        let note = fs::read_to_string(dir.join(layout::CHECKPOINT)).unwrap_or_default();
        let says = note::split(&note).and_then(|(text, _)| Checkpoint::parse(text));
        let size = says.filter(|says| says.origin == origin).map_or(0, |says| says.size);
        let folder = dir.join("manifest");
        for path in files::walk(&folder).map_err(io_error(&folder))? {
            if layout::manifest_size(&path).is_none_or(|step| step > size) {
                continue;
            }
            let bytes = fs::read(&path).map_err(io_error(&path))?;
            let manifest: Manifest = serde_json::from_slice(&bytes)
                .map_err(|_| DeltaError::Changed(path.display().to_string()))?;
            let sealed_ms = manifest.sealed_us.div_euclid(1000);
            for entry in manifest.files.into_iter().filter(|entry| entry.table.is_some()) {
                let FileEntry { path, rows, bytes, .. } = entry;
                all.insert(path, Known { rows, bytes, sealed_ms, is_replaced: false });
            }
        }
    }
    for list in Together::read(archive).map_err(io_error(archive))?.lists() {
        let mut sealed_ms = i64::MIN;
        for one in &list.replaces {
            if let Some(known) = all.get_mut(&one.path) {
                known.is_replaced = true;
                sealed_ms = sealed_ms.max(known.sealed_ms);
            }
        }
        for part in &list.files {
            let (rows, bytes, sealed_ms) = (part.rows, part.bytes, sealed_ms.max(0));
            let one = Known { rows, bytes, sealed_ms, is_replaced: false };
            all.insert(part.path.clone(), one);
        }
    }
    Ok(all)
}

/// Those of a table that are here, by their paths as the log has them.
pub(crate) fn here(
    archive: &Path,
    dir: &Path,
    known: &BTreeMap<String, Known>,
) -> Result<BTreeMap<String, Here>, DeltaError> {
    let mut here = BTreeMap::new();
    for path in files::walk(dir).map_err(io_error(dir))? {
        let Some(&Known { rows, sealed_ms, is_replaced: false, .. }) =
            known.get(&files::relative(archive, &path))
        else {
            continue;
        };
        let name = files::relative(dir, &path);
        let size = fs::metadata(&path).map_err(io_error(&path))?.len();
        here.insert(encoded(&name), Here { name, size, rows, sealed_ms });
    }
    Ok(here)
}

/// What a Parquet file says of its rows.
pub(crate) fn footer(path: &Path) -> Result<Footer, DeltaError> {
    let file = File::open(path).map_err(io_error(path))?;
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&file);
    let metadata = metadata.map_err(|error| io_error(path)(std::io::Error::other(error)))?;
    let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
    Ok(Footer { rows, ts: ts(&metadata) })
}

fn ts(metadata: &ParquetMetaData) -> Option<(i64, i64)> {
    let descriptor = metadata.file_metadata().schema_descr();
    let at = descriptor.columns().iter().position(|column| column.path().string() == "ts")?;
    let mut bounds: Option<(i64, i64)> = None;
    for group in metadata.row_groups() {
        let Some(Statistics::Int64(known)) = group.columns().get(at)?.statistics() else {
            return None;
        };
        let (least, greatest) = (*known.min_opt()?, *known.max_opt()?);
        let (low, high) = bounds.unwrap_or((least, greatest));
        bounds = Some((low.min(least), high.max(greatest)));
    }
    bounds
}
