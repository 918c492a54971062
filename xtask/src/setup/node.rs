//! node-postgres, under `target/node`.

use anyhow::{Context, Result};
use integration::paths;

use super::{Scope, State};
use crate::command::{command, run_logged};

/// Answers whether the client is there.
pub(super) fn look(_: Scope) -> State {
    if paths::root().join("target/node/node_modules/pg/package.json").exists() {
        return State::Present("pg in target/node".into());
    }
    State::Missing("pg".into())
}

/// Installs it; runs no package's install scripts.
pub(super) fn install(_: Scope) -> Result<()> {
    let directory = paths::root().join("target/node");
    std::fs::create_dir_all(&directory).context("target/node can't be made")?;
    let mut npm = command("npm");
    npm.current_dir(&directory).args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]);
    run_logged("node", npm.args(["--prefix", ".", "pg@8"]))
}
