//! What is had from npm, under `target/node`: node-postgres, the OpenID provider with a node that it supports, htmx, which
//! the console serves, and what drives a browser and looks at its pages.

use std::fs;

use anyhow::{Context, Result};
use integration::paths;

use super::{Scope, State};
use crate::command::{command, run_logged};

/// A package's name, and its version: a beginning of it, or all of it.
const PACKAGES: &[(&str, &str)] = &[
    ("pg", "8"),
    ("oidc-provider", "9.13.3"),
    // Built into the daemon (userspace/console/build.rs).
    ("htmx.org", "4.0.1"),
    // Debian's node is older than the provider allows.
    (paths::NODE_PACKAGE, "22.23.3"),
    // Drives Debian's chromium; it brings no browser of its own.
    ("playwright-core", "1.64.1"),
    ("axe-core", "4.14.1"),
    // Has Trino's grammar.
    ("dt-sql-parser", "4.5.1"),
];

/// Answers whether the packages are there.
pub(super) fn look(_: Scope) -> State {
    let missing: Vec<String> = PACKAGES
        .iter()
        .filter(|(name, version)| !is_there(name, version))
        .map(|(name, version)| format!("{name}@{version}"))
        .collect();
    if missing.is_empty() {
        let all = "pg, htmx, oidc-provider and its node, playwright-core, axe-core in target/node";
        return State::Present(all.into());
    }
    State::Missing(missing.join(" "))
}

/// Installs them; runs no package's install scripts.
pub(super) fn install(_: Scope) -> Result<()> {
    let directory = paths::root().join("target/node");
    fs::create_dir_all(&directory).context("target/node can't be made")?;
    // What says that npm is to install here; by `--prefix` it would look here for the host's settings, too.
    let manifest = directory.join("package.json");
    if !manifest.exists() {
        fs::write(manifest, "{ \"private\": true }\n").context("no package.json")?;
    }
    let mut npm = command("npm");
    npm.current_dir(&directory).args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]);
    run_logged("node", npm.args(PACKAGES.iter().map(|(name, version)| format!("{name}@{version}"))))
}

fn is_there(name: &str, version: &str) -> bool {
    let manifest = paths::node_modules().join(name).join("package.json");
    let Ok(manifest) = fs::read_to_string(manifest) else { return false };
    let Ok(manifest) = serde_json::from_str::<serde_json::Value>(&manifest) else { return false };
    let found = manifest.get("version").and_then(serde_json::Value::as_str).unwrap_or_default();
    found.strip_prefix(version).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
