//! What somebody with the node's disk has: our writer, DuckDB, pyarrow, a hex editor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use archive::decode;
use archive::layout::Manifest;
use archive::writer::TableFile;
use journal::row::{Column, Kind, Masked, Micros, OwnedValue, Row, Table, Value};
use sha2::{Digest, Sha256};
use types::hex::hex;

/// The table of a file by its path.
pub(crate) fn table(path: &Path) -> Option<Table> {
    let name = path.to_str()?;
    Table::ALL.into_iter().find(|table| name.contains(&format!("table={}/", table.as_str())))
}

/// The Parquet files below a folder.
pub(crate) fn parquet(dir: &Path) -> Vec<PathBuf> {
    let is_file = |path: &PathBuf| {
        table(path).is_some() && path.extension().is_some_and(|end| end == "parquet")
    };
    archive::files::walk(dir).unwrap().into_iter().filter(is_file).collect()
}

/// The first file of a table with more than `rows` rows.
pub(crate) fn file_of(dir: &Path, of: Table, rows: usize) -> PathBuf {
    let has = |path: &PathBuf| table(path) == Some(of) && read(path).len() > rows;
    parquet(dir).into_iter().find(has).unwrap()
}

pub(crate) fn read(path: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    let bytes = fs::read(path).unwrap();
    decode::rows(table(path).unwrap(), bytes, &mut |row| rows.push(row)).unwrap();
    rows
}

/// Writes rows in place of a file, by our own writer.
pub(crate) fn write(path: &Path, rows: Vec<Row>) {
    let unfinished = path.with_extension("part");
    let table = table(path).unwrap();
    let mut file = TableFile::create(table, unfinished, "vestibule/node/n1/0").unwrap();
    for row in rows {
        file.push(row).unwrap();
    }
    file.finish(|_| path.to_owned()).unwrap();
}

/// Changes rows of a file in place.
pub(crate) fn edit(path: &Path, change: impl FnOnce(&mut Vec<Row>)) {
    let mut rows = read(path);
    change(&mut rows);
    write(path, rows);
}

/// A row with one column's value changed.
pub(crate) fn altered(row: &Row, at: usize) -> Row {
    let columns = row.table().columns();
    let mut values = Vec::new();
    row.visit(&mut |value| values.push(owned(value)));
    values[at] = other(&values[at], &columns[at]);
    Row::from_values(row.table(), values.into_iter()).unwrap()
}

fn owned(value: Value<'_>) -> OwnedValue {
    match value {
        Value::Null => OwnedValue::Null,
        Value::Bool(it) => OwnedValue::Bool(it),
        Value::I32(it) => OwnedValue::I32(it),
        Value::I64(it) => OwnedValue::I64(it),
        Value::Ts(it) => OwnedValue::Ts(it),
        Value::Str(it) => OwnedValue::Str(it.to_owned()),
        Value::Bytes(it) => OwnedValue::Bytes(it.to_vec()),
        Value::StrList(it) => OwnedValue::StrList(it.to_vec()),
        Value::MaskList(it) => OwnedValue::MaskList(it.to_vec()),
    }
}

/// Another value of the same column: little else, where there is one.
fn other(value: &OwnedValue, column: &Column) -> OwnedValue {
    match (value, column.kind) {
        (OwnedValue::Bool(it), _) => OwnedValue::Bool(!it),
        (OwnedValue::I32(it), _) => OwnedValue::I32(it ^ 1),
        (OwnedValue::I64(it), _) => OwnedValue::I64(it ^ 1),
        (OwnedValue::Ts(Micros(it)), _) => OwnedValue::Ts(Micros(it ^ 1)),
        (OwnedValue::Str(it), _) => OwnedValue::Str(format!("{it} ")),
        (OwnedValue::Bytes(it), _) => OwnedValue::Bytes([it.as_slice(), b"\0"].concat()),
        (OwnedValue::StrList(it), _) => {
            OwnedValue::StrList(it.iter().cloned().chain([String::new()]).collect())
        }
        (OwnedValue::MaskList(it), _) => {
            let more = Masked { entity: "us_ssn".to_owned(), count: 1 };
            OwnedValue::MaskList(it.iter().cloned().chain([more]).collect())
        }
        (OwnedValue::Null, Kind::Bool) => OwnedValue::Bool(false),
        (OwnedValue::Null, Kind::I32) => OwnedValue::I32(0),
        (OwnedValue::Null, Kind::I64) => OwnedValue::I64(0),
        (OwnedValue::Null, Kind::Ts) => OwnedValue::Ts(Micros(0)),
        (OwnedValue::Null, Kind::Str) => OwnedValue::Str(String::new()),
        (OwnedValue::Null, Kind::Bytes) => OwnedValue::Bytes(Vec::new()),
        (OwnedValue::Null, Kind::StrList) => OwnedValue::StrList(Vec::new()),
        (OwnedValue::Null, Kind::MaskList) => OwnedValue::MaskList(Vec::new()),
    }
}

/// Makes the manifests of a log fit the files that lie there now, and one another.
pub(crate) fn refit_manifests(archive: &Path, log: &Path) {
    let mut previous = hex(&[0; 32]);
    for path in archive::files::walk(&log.join("manifest")).unwrap() {
        let mut manifest: Manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        manifest.previous = previous;
        for entry in &mut manifest.files {
            let Ok(bytes) = fs::read(archive.join(&entry.path)) else { continue };
            entry.sha256 = hex(&Sha256::digest(&bytes));
            entry.bytes = bytes.len().try_into().unwrap();
        }
        let bytes = serde_json::to_vec_pretty(&manifest).unwrap();
        previous = hex(&Sha256::digest(&bytes));
        fs::write(path, bytes).unwrap();
    }
}

pub(crate) fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// A path below a folder, as verification names it.
pub(crate) fn below(path: &Path, dir: &Path) -> String {
    path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned()
}

/// Has Python with DuckDB and pyarrow do something with files.
pub(crate) fn python(script: &str, args: &[&Path]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = root.join("target/venv/bin/python");
    let output = Command::new(python).arg("-c").arg(script).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
