//! Runs other programs: at the repository's root, with what setup installed in reach.

use std::ffi::OsString;
use std::fs;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use integration::paths;

/// Lines of a failed program's log that are shown.
const LOG_LINES_SHOWN: usize = 25;

/// Answers a command that runs at the repository's root with cargo's own programs on the path.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(paths::root()).env("PATH", search_path());
    command
}

/// Answers cargo, outside of the environment in which cargo runs this very task.
pub(crate) fn cargo(toolchain: Option<&str>) -> Command {
    let mut cargo = command("cargo");
    if let Some(toolchain) = toolchain {
        cargo.arg(format!("+{toolchain}"));
    }
    for (name, _) in std::env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let own = text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_");
        if own || matches!(text, "CARGO" | "RUSTUP_TOOLCHAIN" | "RUST_RECURSION_COUNT") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// Runs a command with its output on this terminal.
///
/// # Errors
/// If it can't be started or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.status().with_context(|| format!("{shown} can't be started"))?;
    if !status.success() {
        bail!("{shown} failed: {status}");
    }
    Ok(())
}

/// Runs a command with its output in `target/setup/NAME.log`, and shows the end of it on failure.
///
/// # Errors
/// If it can't be started or fails.
pub(crate) fn run_logged(name: &str, command: &mut Command) -> Result<()> {
    let directory = paths::root().join("target/setup");
    fs::create_dir_all(&directory).context("target/setup can't be made")?;
    let path = directory.join(format!("{name}.log"));
    let log =
        fs::File::create(&path).with_context(|| format!("{} can't be made", path.display()))?;
    let shown = show(command);
    let status = command
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("the log can't be shared")?)
        .stderr(log)
        .status()
        .with_context(|| format!("{shown} can't be started"))?;
    if status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(LOG_LINES_SHOWN)..).unwrap_or_default();
    bail!(
        "{shown} failed ({status}); the end of target/setup/{name}.log:\n    {}",
        tail.join("\n    ")
    )
}

/// Answers what a command prints, trimmed, or `None` if it fails or can't be started.
pub(crate) fn stdout_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Answers where a program is: on the path, in cargo's directory or among the administrator's.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path()).map(|d| d.join(program)).find(|p| p.is_file())
}

fn search_path() -> OsString {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cargo")));
    let directories = std::env::split_paths(&own)
        .chain(home.map(|h| h.join("bin")))
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    std::env::join_paths(directories).unwrap_or(own)
}

/// How many processors this machine has for us.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
