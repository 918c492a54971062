//! `cargo xtask spark-test`: Spark answers the ready questions on the files as they lie, and as DuckDB does; and all are SQL by
//! Trino's grammar.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use integration::paths;

use crate::command::{cargo, command, run as run_command, run_logged};
use crate::setup::{self, Scope};
use crate::term::heading;

/// Asks both on an archive; on a sample where none is given. Brings Spark from PyPI (450 MB) where it is missing; Java
/// must be there.
///
/// # Errors
/// If an answer differs, or either can't answer.
pub(crate) fn run(archive: Option<&Path>) -> Result<()> {
    setup::ensure(Scope::Test)?;
    let python = paths::python().to_string_lossy().into_owned();
    let java = command("java").arg("-version").output();
    if !java.is_ok_and(|output| output.status.success()) {
        bail!("Spark needs Java 17 or later: apt-get install openjdk-17-jre-headless");
    }
    if command(&python).args(["-c", "import pyspark"]).output()?.status.success() {
        heading("spark");
    } else {
        heading("spark (installing)");
        let mut pip = command(&python);
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "pyspark>=4,<5",
        ]);
        run_logged("spark", &mut pip)?;
    }
    let sample = match archive {
        Some(archive) => archive.to_owned(),
        None => sample()?,
    };
    let sample = std::path::absolute(sample)?;
    let mut trino = command(&python);
    trino.arg("tests/conformance/trino.py").arg(&sample);
    run_command(trino.arg(paths::node_modules().join(".bin/node")).arg(paths::node_modules()))?;
    let mut spark = command(&python);
    spark.arg("tests/conformance/spark.py").arg(sample);
    // On the sample all but three or four have rows: nothing is missing in it, and everybody had a second factor.
    run_command(spark.args(archive.is_none().then_some("24")))
}

fn sample() -> Result<PathBuf> {
    let folder = paths::root().join("target/spark-sample");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    let mut example = cargo(None);
    example.args(["run", "--quiet", "--example", "eventful", "--"]).arg(&folder);
    run_command(&mut example)?;
    Ok(folder.join("archive"))
}
