//! What an auditor does: seal, verify, ask DuckDB.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::{Output, run};
use crate::{Daemon, paths};

/// Rows of a query, each an object from column to value.
pub type Rows = Vec<Value>;

/// An archive and the journal it came from.
#[derive(Debug)]
pub struct Evidence<'a> {
    daemon: &'a Daemon,
    archive: PathBuf,
}

impl<'a> Evidence<'a> {
    /// Has the daemon convert its journal and answers what lies then.
    ///
    /// # Errors
    /// If the daemon does not.
    pub fn seal(daemon: &'a Daemon) -> Result<Self> {
        run(daemon.cli().args(["archive", "seal"]), 60)?.ok().context("archive seal")?;
        Ok(Self { daemon, archive: daemon.archive() })
    }

    /// Answers a copy of the archive in `to`, to be spoilt; the journal stays where it is.
    ///
    /// # Errors
    /// If it can't be copied.
    pub fn copy_to(&self, to: &Path) -> Result<Self> {
        run(Command::new("cp").arg("-a").arg(&self.archive).arg(to), 60)?.ok()?;
        Ok(Self { daemon: self.daemon, archive: to.to_owned() })
    }

    /// Answers the archive's folder.
    pub fn archive(&self) -> &Path {
        &self.archive
    }

    /// Runs `vestibule verify` on the archive alone; exit code 0 means it holds, 10 and the level that it is broken.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn verify(&self) -> Result<Output> {
        let mut verify = self.daemon.cli();
        verify.args(["verify", "--output", "json", "--archive"]).arg(&self.archive);
        run(&mut verify, 120)
    }

    /// Runs `vestibule verify` on the archive and the journal.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn verify_with_journal(&self) -> Result<Output> {
        let mut verify = self.daemon.cli();
        verify.args(["verify", "--output", "json", "--archive"]).arg(&self.archive);
        run(verify.arg("--journal").arg(self.daemon.journal()), 120)
    }

    /// Runs `vestibule verify` as [`Self::verify_with_journal`], in its words for people.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn verify_in_words(&self) -> Result<Output> {
        let mut verify = self.daemon.cli();
        verify.args(["verify", "--archive"]).arg(&self.archive);
        run(verify.arg("--journal").arg(self.daemon.journal()), 120)
    }

    /// Asks by `vestibule archive query`.
    ///
    /// # Errors
    /// If it fails.
    pub fn query(&self, sql: &str) -> Result<Rows> {
        let mut query = self.daemon.cli();
        query
            .args(["archive", "query", "--output", "json", "--archive"])
            .arg(&self.archive)
            .arg(sql);
        rows(&run(&mut query, 60)?.ok().with_context(|| sql.to_owned())?)
    }

    /// Asks a ready question by `vestibule archive ask`, told this (`object=public.customers`).
    ///
    /// # Errors
    /// If it fails.
    pub fn ask(&self, question: &str, told: &[&str]) -> Result<Rows> {
        let mut ask = self.daemon.cli();
        ask.args(["archive", "ask", "--output", "json", "--archive"]).arg(&self.archive);
        rows(&run(ask.arg(question).args(told), 60)?.ok().with_context(|| question.to_owned())?)
    }

    /// Answers the ready questions: name, arguments, whether they expect no rows.
    ///
    /// # Errors
    /// If they can't be listed.
    pub fn questions(&self) -> Result<Rows> {
        rows(&run(self.daemon.cli().args(["archive", "ask", "--output", "json"]), 60)?.ok()?)
    }

    /// Asks DuckDB itself, on the Parquet files as they lie: `events`, `sessions`, `control` and
    /// `recordings` are views over them.
    ///
    /// # Errors
    /// If it fails.
    pub fn duckdb(&self, sql: &str) -> Result<Rows> {
        let mut duckdb = Command::new(paths::duckdb());
        duckdb.args(["-init", "/dev/null", "-json", "-c", &self.views()?, "-c", sql]);
        rows(&run(&mut duckdb, 60)?.ok().with_context(|| sql.to_owned())?)
    }

    /// Asks DuckDB itself, as [`Self::duckdb`], and answers the table it draws.
    ///
    /// # Errors
    /// If it fails.
    pub fn duckdb_table(&self, sql: &str) -> Result<String> {
        let mut duckdb = Command::new(paths::duckdb());
        duckdb.args(["-init", "/dev/null", "-box", "-c", &self.views()?, "-c", sql]);
        run(&mut duckdb, 60)?.ok().with_context(|| sql.to_owned())
    }

    /// Asks DuckDB for a count: the first row's only number.
    ///
    /// # Errors
    /// If it fails, or the answer is no number.
    pub fn count(&self, sql: &str) -> Result<u64> {
        let rows = self.duckdb(sql)?;
        let value = rows.first().and_then(Value::as_object).and_then(|row| row.values().next());
        // DuckDB writes its 128-bit sums as strings.
        let number = |v: &Value| v.as_u64().or_else(|| v.as_str()?.parse().ok());
        value.and_then(number).with_context(|| format!("{sql}: no count in {rows:?}"))
    }

    /// Answers DuckDB's views over the tables there are: one without a row has no file.
    ///
    /// # Errors
    /// If the archive has none.
    pub fn views(&self) -> Result<String> {
        let mut views = String::new();
        for table in ["events", "sessions", "control", "recordings"] {
            let Some(folder) = find(&self.archive, &format!("table={table}")) else {
                continue;
            };
            let glob = folder.join("**/*.parquet").display().to_string().replace('\'', "''");
            write!(
                views,
                "CREATE VIEW {table} AS SELECT * FROM read_parquet('{glob}', hive_partitioning = true, \
                 union_by_name = true); "
            )
            .context("a string takes any text")?;
        }
        anyhow::ensure!(!views.is_empty(), "no table under {}", self.archive.display());
        Ok(views)
    }

    /// Answers the Parquet files of a table, sorted.
    ///
    /// # Errors
    /// If a folder can't be read.
    pub fn files(&self, table: &str) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        if let Some(folder) = find(&self.archive, &format!("table={table}")) {
            collect(&folder, &mut files)?;
        }
        files.sort();
        Ok(files)
    }
}

fn rows(json: &str) -> Result<Rows> {
    // DuckDB prints nothing, or an empty list, for no rows.
    if json.trim().is_empty() {
        return Ok(Vec::new());
    }
    let value: Value = serde_json::from_str(json.trim()).with_context(|| json.to_owned())?;
    let Value::Array(rows) = value else { anyhow::bail!("not a list of rows: {value}") };
    Ok(rows.into_iter().filter(|row| row.as_object().is_none_or(|o| !o.is_empty())).collect())
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.is_dir())
        .collect();
    let here = entries.iter().find(|path| path.ends_with(name)).cloned();
    here.or_else(|| entries.iter().find_map(|path| find(path, name)))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry.context("a folder's entry")?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "parquet") {
            files.push(path);
        }
    }
    Ok(())
}
