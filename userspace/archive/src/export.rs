//! Rows for other programs: CSV, JSON Lines, OCSF, syslog and CEF, a line a row. They stream: however many there are,
//! memory holds a batch of them.
//!
//! CSV and JSON Lines have the archive's columns, which are the contract; syslog has all that are not absent. OCSF and CEF
//! are others' vocabularies: what has no word there is `unmapped` in OCSF, and left out of CEF.

mod cef;
mod csv;
mod ocsf;
mod parquet;
mod syslog;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use journal::row::{Row, Table, Value};

use crate::json;
use crate::scan::{self, Filter, ScanError};
use crate::writer::WriteError;

/// A format whose rows are lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// RFC 4180 with a header: absent is nothing, an empty text is `""`, lists are JSON.
    Csv,
    /// A JSON object a line.
    Json,
    /// RFC 5424.
    Syslog,
    /// ArcSight's Common Event Format, version 0.
    Cef,
}

/// What OCSF's files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ocsf {
    /// A JSON object a line.
    Json,
    /// Parquet.
    Parquet,
}

/// Why rows were not handed out, or not all.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The archive can't be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// They can't be written.
    #[error("cannot write {what}")]
    Io {
        /// The file, or what else.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// Parquet can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Writes the rows of `table` that are sought to `out`; answers how many.
///
/// # Errors
/// If the archive can't be read, or `out` written.
pub fn lines(
    archive: &Path,
    table: Table,
    filter: &Filter,
    format: Lines,
    out: &mut dyn Write,
) -> Result<u64, ExportError> {
    let fail = |source| ExportError::Io { what: "the rows".to_owned(), source };
    let (mut line, mut count) = (String::new(), 0);
    if format == Lines::Csv {
        csv::header(table, &mut line);
        out.write_all(line.as_bytes()).map_err(fail)?;
    }
    scan::scan(archive, table, filter, &mut |row: Row| {
        line.clear();
        self::line(&row, format, &mut line);
        line.push('\n');
        count += 1;
        out.write_all(line.as_bytes()).map_err(fail)
    })?;
    out.flush().map_err(fail)?;
    Ok(count)
}

/// Appends a row in a format, without the end of its line.
pub fn line(row: &Row, format: Lines, out: &mut String) {
    match format {
        Lines::Csv => csv::line(row, out),
        Lines::Json => json::line(row, out),
        Lines::Syslog => syslog::line(row, out),
        Lines::Cef => cef::line(row, out),
    }
}

/// A command as an event of OCSF; `None` of what is no command.
pub fn ocsf_event(row: &Row) -> Option<serde_json::Value> {
    let Row::Event(event) = row else { return None };
    Some(ocsf::event(event))
}

/// Writes the commands that are sought as OCSF events into `dir`, a class a file; answers each file's path and rows.
///
/// # Errors
/// If the archive can't be read, or a file written.
pub fn ocsf(
    archive: &Path,
    filter: &Filter,
    format: Ocsf,
    dir: &Path,
) -> Result<Vec<(PathBuf, u64)>, ExportError> {
    std::fs::create_dir_all(dir).map_err(io_error(dir))?;
    let mut files: BTreeMap<i32, ClassFile> = BTreeMap::new();
    scan::scan(archive, Table::Events, filter, &mut |row: Row| {
        let Row::Event(event) = &row else { return Ok(()) };
        let class = event.statement.class_uid;
        let place = match files.entry(class) {
            Entry::Occupied(place) => place.into_mut(),
            Entry::Vacant(place) => place.insert(ClassFile::create(dir, class, format)?),
        };
        place.count += 1;
        place.push(ocsf::event(event))
    })?;
    files.into_values().map(ClassFile::finish).collect()
}

/// A class's file being written.
struct ClassFile {
    path: PathBuf,
    count: u64,
    format: ClassFormat,
}

enum ClassFormat {
    Json(BufWriter<File>),
    Parquet(Box<parquet::Events>),
}

impl ClassFile {
    fn create(dir: &Path, class: i32, format: Ocsf) -> Result<Self, ExportError> {
        let extension = if format == Ocsf::Json { "jsonl" } else { "parquet" };
        let path = dir.join(format!("{}.{extension}", ocsf::class(class).file));
        let file = File::create(&path).map_err(io_error(&path))?;
        let format = match format {
            Ocsf::Json => ClassFormat::Json(BufWriter::new(file)),
            Ocsf::Parquet => ClassFormat::Parquet(Box::new(parquet::Events::create(file)?)),
        };
        Ok(Self { path, count: 0, format })
    }

    fn push(&mut self, event: serde_json::Value) -> Result<(), ExportError> {
        match &mut self.format {
            ClassFormat::Json(file) => writeln!(file, "{event}").map_err(io_error(&self.path)),
            ClassFormat::Parquet(file) => Ok(file.push(event)?),
        }
    }

    fn finish(self) -> Result<(PathBuf, u64), ExportError> {
        match self.format {
            ClassFormat::Json(mut file) => file.flush().map_err(io_error(&self.path))?,
            ClassFormat::Parquet(file) => file.finish()?,
        }
        Ok((self.path, self.count))
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> ExportError {
    let what = path.display().to_string();
    move |source| ExportError::Io { what, source }
}

/// Calls `each` with a row's columns that are not absent, in text; with each item of a list.
fn texts<'a>(row: &'a Row, each: &mut dyn FnMut(&'static str, &str)) {
    let mut columns = row.table().columns().iter();
    row.visit(&mut |value: Value<'a>| {
        let Some(name) = columns.next().map(|column| column.name) else { return };
        match value {
            Value::Null => {}
            Value::Bool(it) => each(name, if it { "true" } else { "false" }),
            Value::I32(it) => each(name, &it.to_string()),
            Value::I64(it) => each(name, &it.to_string()),
            Value::Ts(it) => each(name, &json::time(it.0)),
            Value::Str(it) => each(name, it),
            Value::Bytes(it) => each(name, &types::hex::hex(it)),
            Value::StrList(items) => items.iter().for_each(|item| each(name, item)),
            Value::MaskList(items) => {
                for item in items {
                    each(name, &format!("{}:{}", item.entity, item.count));
                }
            }
        }
    });
}

/// What can't stand in a line: a control character is shown by its picture (U+2400 and up).
fn pictured(c: char) -> char {
    match u32::from(c) {
        code @ 0..=0x1f => char::from_u32(0x2400 + code).unwrap_or('\u{fffd}'),
        0x7f => '\u{2421}',
        0x80..=0x9f | 0x2028 | 0x2029 => '\u{fffd}',
        _ => c,
    }
}
