//! `cargo xtask spark-test`: Spark answers the ready questions on the files as they lie, and as DuckDB does; and all are SQL by
//! Trino's grammar; Iceberg's tables over the same files have the same rows.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use integration::paths;

use crate::command::{cargo, command, run as run_command, run_logged};
use crate::setup::{self, Scope};
use crate::term::heading;

/// Asks all on an archive; on a sample where none is given. Brings Spark (450 MB) and pyiceberg from PyPI where they are missing;
/// Java must be there.
///
/// # Errors
/// If an answer differs, or either can't answer.
pub(crate) fn run(archive: Option<&Path>) -> Result<()> {
    setup::ensure(Scope::Test)?;
    let python = paths::python().to_string_lossy().into_owned();
    if !has_java() {
        bail!("Spark needs Java 17 or later: apt-get install openjdk-17-jre-headless");
    }
    bring(&python, "pyspark", "pyspark>=4,<5")?;
    bring(&python, "pyiceberg", "pyiceberg[sql-sqlite]>=0.12,<1")?;
    let sample = match archive {
        Some(archive) => archive.to_owned(),
        None => sample()?,
    };
    let sample = std::path::absolute(sample)?;
    let mut trino = command(&python);
    trino.arg("tests/conformance/trino.py").arg(&sample);
    run_command(trino.arg(paths::node_modules().join(".bin/node")).arg(paths::node_modules()))?;
    heading("iceberg");
    let mut iceberg = command(&python);
    iceberg.arg("tests/conformance/iceberg.py").arg(&sample);
    run_command(iceberg.arg(emptied("target/spark-iceberg")?))?;
    heading("spark");
    let mut spark = command(&python);
    spark.arg("tests/conformance/spark.py").arg(sample);
    // On the sample all but three or four have rows: nothing is missing in it, and everybody had a second factor.
    run_command(spark.args(archive.is_none().then_some("24")))
}

/// Whether Spark can be started; it is not brought.
///
/// # Errors
/// If Python can't be started.
pub(crate) fn is_there(python: &str) -> Result<bool> {
    Ok(has_java() && imports(python, "pyspark")?)
}

fn has_java() -> bool {
    let java = command("java").arg("-version").output();
    java.is_ok_and(|output| output.status.success())
}

fn imports(python: &str, module: &str) -> Result<bool> {
    let import = format!("import {module}");
    Ok(command(python).args(["-c", &import]).output()?.status.success())
}

/// Installs a package from PyPI where it can't be imported.
fn bring(python: &str, module: &str, package: &str) -> Result<()> {
    if imports(python, module)? {
        return Ok(());
    }
    heading(format_args!("{module} (installing)"));
    let mut pip = command(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]);
    run_logged(module, &mut pip)
}

/// A folder in the checkout, which is not there yet or any more.
fn emptied(folder: &str) -> Result<PathBuf> {
    let folder = paths::root().join(folder);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    Ok(folder)
}

fn sample() -> Result<PathBuf> {
    let folder = emptied("target/spark-sample")?;
    let mut example = cargo(None);
    example.args(["run", "--quiet", "--example", "eventful", "--"]).arg(&folder);
    run_command(&mut example)?;
    Ok(folder.join("archive"))
}
