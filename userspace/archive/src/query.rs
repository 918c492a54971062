//! SQL on the archive, by the `duckdb` executable.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use crate::{files, layout, texts};

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
    command.args(["-cmd", &views(&archive)?, "-cmd", &confine(&archive), "-c", &select(sql)]);
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
fn views(archive: &Path) -> Result<String, QueryError> {
    let mut sql = String::from("SET TimeZone = 'UTC';");
    for table in journal::row::Table::ALL {
        let dir = layout::table_dir(archive, table);
        let has_files =
            files::walk(&dir)?.iter().any(|f| f.extension().is_some_and(|e| e == "parquet"));
        let root = format!("{}/", archive.display());
        sql.push_str(&if has_files { texts::view(table, &root) } else { texts::empty_view(table) });
    }
    sql.push_str(texts::DERIVED);
    Ok(sql)
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
}
