//! SQL on the archive, by the `duckdb` executable.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use journal::row::Table;
use parquet::file::metadata::{FooterTail, ParquetMetaDataReader};

use crate::texts::Columns;
use crate::{files, layout, texts};

/// Bytes of the description at a file's end that are read at most: 90 columns of 31 row groups take 370 kB.
const FOOTER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of a file's very end, which say how long its description is.
const TAIL_BYTES: usize = 8;

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// For people.
    Table,
    /// One JSON array.
    Json,
    /// CSV with a header.
    Csv,
}

/// Why a query could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// There is no such archive.
    #[error("no archive in {}", .0.display())]
    NoArchive(PathBuf),
    /// DuckDB is not there.
    #[error("duckdb is not installed: `pip install duckdb-cli`, or name its executable")]
    NoDuckdb,
    /// The system refused.
    #[error("cannot run duckdb: {0}")]
    Io(#[from] std::io::Error),
    /// DuckDB refused, or answered something else than rows.
    #[error("duckdb gave no answer: {0}")]
    Answer(String),
}

/// Runs `sql`, one SELECT (DESCRIBE, SUMMARIZE and SHOW are such, too), with the views at hand and
/// answers DuckDB's exit status. It reads below the archive's folder only and writes nowhere:
/// DuckDB executes no statement but SELECT in that way, and its configuration is locked.
pub fn run(
    archive: &Path,
    duckdb: Option<&Path>,
    mode: Mode,
    sql: &str,
) -> Result<ExitStatus, QueryError> {
    command(archive, duckdb, mode, sql)?.status().map_err(not_run)
}

/// As [`run`], and answers the rows; for a query that gives few.
///
/// # Errors
/// If it can't be asked, or fails.
pub fn rows(
    archive: &Path,
    duckdb: Option<&Path>,
    sql: &str,
) -> Result<Vec<serde_json::Map<String, serde_json::Value>>, QueryError> {
    let output = command(archive, duckdb, Mode::Json, sql)?.output().map_err(not_run)?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        return Err(QueryError::Answer(said(&output.stderr)));
    }
    let text = said(&output.stdout);
    // DuckDB prints nothing, or a list of an empty object, for no rows.
    if ["", "[{}]", "[{}\n]", "[]"].contains(&text.as_str()) {
        return Ok(Vec::new());
    }
    serde_json::from_str(&text).map_err(|error| QueryError::Answer(error.to_string()))
}

fn command(
    archive: &Path,
    duckdb: Option<&Path>,
    mode: Mode,
    sql: &str,
) -> Result<Command, QueryError> {
    let archive = archive.canonicalize().map_err(|_| QueryError::NoArchive(archive.to_owned()))?;
    if !archive.join(layout::STANDARD).is_dir() {
        return Err(QueryError::NoArchive(archive));
    }
    let mut command = Command::new(duckdb.unwrap_or(Path::new("duckdb")));
    command.arg(match mode {
        Mode::Table => "-table",
        Mode::Json => "-json",
        Mode::Csv => "-csv",
    });
    command.args(["-init", "/dev/null", "-no-stdin", "-bail"]);
    command.args(["-cmd", &views(&archive, sql)?, "-cmd", &confine(&archive), "-c", &select(sql)]);
    Ok(command)
}

fn not_run(error: std::io::Error) -> QueryError {
    match error.kind() {
        std::io::ErrorKind::NotFound => QueryError::NoDuckdb,
        _ => QueryError::Io(error),
    }
}

/// Shuts DuckDB in: no file outside the archive's folder, no extension, no network, for good.
fn confine(archive: &Path) -> String {
    format!(
        "SET allowed_directories = [{}]; SET enable_external_access = false; \
         SET lock_configuration = true;",
        quoted(&format!("{}/", archive.display()))
    )
}

/// Has DuckDB serialize the statement, which it does for a single SELECT only, and run that.
fn select(sql: &str) -> String {
    format!("PRAGMA json_execute_serialized_sql(json_serialize_sql({}));", quoted(sql))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Views over the tables that have files; tables without are empty views with their columns.
fn views(archive: &Path, asked: &str) -> Result<String, QueryError> {
    let (tables, derived) = meant(asked);
    let mut sql = String::from("SET TimeZone = 'UTC';");
    for table in tables {
        let mut found = files::walk(&layout::table_dir(archive, table))?;
        found.retain(|path| path.extension().is_some_and(|end| end == "parquet"));
        let root = format!("{}/", archive.display());
        sql.push_str(&if found.is_empty() {
            texts::empty_view(table)
        } else {
            texts::view(table, &root, columns(table, &found))
        });
    }
    sql.push_str(&derived);
    Ok(sql)
}

/// The tables that a statement may mean, and the views over them: to make one, DuckDB lists its files and opens one of
/// them. All where it names none, as `SHOW TABLES` does.
fn meant(sql: &str) -> (Vec<Table>, String) {
    let sql = sql.to_lowercase();
    // Each begins with `CREATE OR REPLACE VIEW name`.
    let name = |view: &'static str| view.split_whitespace().nth(4).unwrap_or_default();
    let views = texts::DERIVED.split_inclusive(";\n");
    let derived: String = views.filter(|view| sql.contains(name(view))).collect();
    let is_meant = |table: &Table| sql.contains(table.as_str()) || derived.contains(table.as_str());
    let tables: Vec<Table> = Table::ALL.into_iter().filter(is_meant).collect();
    if tables.is_empty() {
        return (Table::ALL.to_vec(), texts::DERIVED.to_owned());
    }
    (tables, derived)
}

/// Whether all of these files have this version's columns. One that can't be read is DuckDB's to refuse, if it is asked for.
fn columns(table: Table, files: &[PathBuf]) -> Columns {
    let own = table.columns();
    let is_same = |path: &PathBuf| {
        names(path).is_ok_and(|names| {
            names.len() == own.len() && own.iter().all(|c| names.iter().any(|n| n == c.name))
        })
    };
    if files.iter().all(is_same) { Columns::Same } else { Columns::ByName }
}

/// The columns that a Parquet file says it has. What it says of its row groups, which is nearly all, is not decoded.
fn names(path: &Path) -> io::Result<Vec<String>> {
    let file = File::open(path)?;
    let end = file.metadata()?.len();
    let before = |of: u64, bytes: usize| {
        let at = u64::try_from(bytes).ok().and_then(|bytes| of.checked_sub(bytes));
        at.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    };
    let (mut tail, tail_at) = ([0; TAIL_BYTES], before(end, TAIL_BYTES)?);
    file.read_exact_at(&mut tail, tail_at)?;
    let tail = FooterTail::try_new(&tail).map_err(io::Error::other)?;
    let length = tail.metadata_length();
    if length > FOOTER_BYTES_MAX {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    let mut footer = vec![0; length];
    file.read_exact_at(&mut footer, before(tail_at, length)?)?;
    let schema = ParquetMetaDataReader::decode_schema(&footer).map_err(io::Error::other)?;
    Ok(schema.root_schema().get_fields().iter().map(|field| field.name().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_stays_a_literal() {
        let asked = select("SELECT 1'); COPY t TO 'x'; --");
        let literal = "'SELECT 1''); COPY t TO ''x''; --'";
        assert_eq!(
            asked,
            format!("PRAGMA json_execute_serialized_sql(json_serialize_sql({literal}));")
        );
        assert!(confine(Path::new("/a'b")).contains("['/a''b/']"));
    }

    #[test]
    fn only_what_a_statement_may_mean_is_made() {
        for (sql, tables, views) in [
            ("SELECT * FROM Events", vec![Table::Events], 0),
            ("SELECT 'sessions' FROM \"events\"", vec![Table::Events, Table::Sessions], 0),
            ("SELECT max(gap_s) FROM HEARTBEATS", vec![Table::Control], 1),
            ("FROM masked_values m, blind_values b", vec![Table::Events], 2),
            ("SHOW TABLES", Table::ALL.to_vec(), 3),
        ] {
            let (meant, derived) = meant(sql);
            assert_eq!(meant, tables, "{sql}");
            assert_eq!(derived.matches("CREATE OR REPLACE VIEW").count(), views, "{sql}");
        }
    }

    #[test]
    fn ends_of_all_files_are_read_by_duckdb_only_where_columns_differ() {
        use arrow_array::RecordBatch;
        use parquet::arrow::ArrowWriter;

        let dir = tempfile::tempdir().unwrap();
        let own = crate::writer::schema(Table::Control);
        let lacking = std::sync::Arc::new(own.project(&[0, 1, 2]).unwrap());
        let file = |name: &str, schema| {
            let path = dir.path().join(name);
            let batch = RecordBatch::new_empty(schema);
            let file = File::create(&path).unwrap();
            let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
            path
        };
        let (whole, lacking) = (file("whole", own), file("lacking", lacking));
        let none = dir.path().join("none");
        std::fs::write(&none, b"PAR1").unwrap();
        let same = std::slice::from_ref(&whole);
        assert_eq!(columns(Table::Control, same), Columns::Same);
        assert_eq!(columns(Table::Sessions, same), Columns::ByName);
        assert_eq!(columns(Table::Control, &[whole.clone(), lacking]), Columns::ByName);
        assert_eq!(columns(Table::Control, &[whole, none]), Columns::ByName);
        let by = |columns| texts::view(Table::Control, "", columns);
        assert!(
            by(Columns::ByName).contains("SELECT * FROM")
                && by(Columns::ByName).contains("union_by_name")
        );
        assert!(
            by(Columns::Same).contains("\"seq\", ") && !by(Columns::Same).contains("union_by_name")
        );
    }
}
