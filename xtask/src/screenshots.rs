//! `cargo xtask screenshots`: the console's pages as its tests see them, into `docs/screenshots`.

use std::fs;

use anyhow::{Context, Result, ensure};
use integration::paths;

use crate::command::{cargo, run as run_command};
use crate::setup::{self, Scope, require_root};
use crate::term::{heading, say};

/// Runs the tests that look at every page, and has them leave their pictures in the tree.
///
/// # Errors
/// If a test fails; the pictures are then not to be trusted.
pub(crate) fn run() -> Result<()> {
    require_root("the tests load BPF programs, which")?;
    setup::ensure(Scope::Test)?;
    heading("screenshots");
    run_command(cargo(None).args(["build", "--quiet"]))?;
    let folder = paths::root().join("docs/screenshots");
    let mut nextest = cargo(None);
    nextest.args(["nextest", "run", "-p", "integration", "browser::"]);
    run_command(nextest.env("VESTIBULE_SCREENSHOTS", &folder))?;
    let mut count = 0_u32;
    for file in fs::read_dir(&folder).context("docs/screenshots")? {
        let file = file.context("docs/screenshots")?;
        let bytes = file.metadata().context("a picture")?.len();
        say(format_args!("  {:>7} bytes  {}", bytes, file.file_name().display()));
        count += 1;
    }
    ensure!(count > 0, "no picture was left");
    Ok(())
}
