//! `cargo xtask vm-test`: stock Debian kernels under QEMU, with this machine's own files as their root.
//!
//! Each kernel boots with `/` of this host read-only beneath a file system in memory, so that everything
//! installed and built here is there, and nothing done there stays. Inside, the escape suite runs at both
//! levels; then systemd starts as it would on a host, to see in which order. Kernels are kept under
//! `target/vm`, or where `VESTIBULE_CACHE` says.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use integration::escape::{Level, Row, report};
use integration::paths;

use crate::command::{cargo, run as run_command};
use crate::setup::{self, Scope};
use crate::term::{heading, say};

mod boot_order;
mod initramfs;
mod inside;
mod kernels;
mod machine;

pub(crate) use kernels::Series;

use kernels::Kernel;
use machine::Machine;

/// Which kernels, and where the rows go.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// 6.1 (Debian 12), 6.12 (Debian 13) or newest (what Debian's packages offer); all by default
    #[arg(long)]
    kernel: Option<Series>,
    /// A1 or A2; both by default
    #[arg(long)]
    level: Option<Level>,
    /// Write the rows as JSON here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Leave the order of systemd's units out
    #[arg(long)]
    no_boot_order: bool,
    /// Only attempts whose names contain this
    #[arg(default_value = "")]
    filter: String,
}

/// Boots the kernels one after the other and prints what became of each attempt.
///
/// # Errors
/// If a kernel does not come up or panics, an attempt had another outcome than expected, or none of the
/// kernels could show it.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Scope::Vm)?;
    run_command(cargo(None).args(["build", "--quiet"]))?;
    let all = [Series::Bookworm, Series::Trixie, Series::Newest];
    let series = args.kernel.map_or(all.to_vec(), |series| vec![series]);
    let levels = levels(args.level);
    let mut rows = Vec::new();
    let mut failed = Vec::new();
    for series in series {
        let kernel = kernels::ensure(series)?;
        heading(format_args!("Linux {}", kernel.release));
        match escape(&kernel, &levels, &args.filter) {
            Ok(found) => rows.extend(found),
            Err(error) => failed.push(format!("{}: {error:#}", kernel.release)),
        }
        if !args.no_boot_order && args.filter.is_empty() {
            match boot_order::check(&kernel) {
                Ok(told) => say(told),
                Err(error) => failed.push(format!("{}: boot order: {error:#}", kernel.release)),
            }
        }
    }
    if let Some(path) = &args.json {
        let text = format!("{:#}\n", report::to_json(&rows));
        fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    failed.extend(report::wrong(&rows));
    for line in &failed {
        say(line);
    }
    say(format_args!("\n{} rows, {} wrong", rows.len(), failed.len()));
    if !failed.is_empty() || rows.is_empty() {
        bail!("not every attempt was held");
    }
    Ok(())
}

/// The levels asked for.
pub(crate) fn levels(level: Option<Level>) -> Vec<Level> {
    level.map_or(vec![Level::A1, Level::A2], |level| vec![level])
}

/// Makes the attempts on a kernel and answers their rows, printed as a table.
///
/// # Errors
/// If the machine does not come to its end; with the end of its console.
pub(crate) fn escape(kernel: &Kernel, levels: &[Level], filter: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let machine = Machine::new(kernel, "escape")?;
    machine.run(&inside::escape_script(kernel, levels, filter), inside::ESCAPE_S)?;
    say(report::head());
    for level in levels {
        let path = machine.results().join(format!("{level}.json"));
        let text = fs::read_to_string(&path).with_context(|| {
            format!("no rows at {level}; the console ends:\n{}", machine.console_tail())
        })?;
        let notes = machine.results().join(format!("{level}.txt"));
        let told = fs::read_to_string(notes).unwrap_or_default();
        for line in told.lines().filter(|line| line.contains(&kernel.release)) {
            say(line);
        }
        rows.extend(report::from_json(&text)?);
    }
    Ok(rows)
}

/// Fetches what the suite needs for a kernel of a series.
///
/// # Errors
/// If Debian's mirror does not answer.
pub(crate) fn kernel(series: Series) -> Result<Kernel> {
    setup::ensure(Scope::Vm)?;
    kernels::ensure(series)
}

/// Where kernels and results are kept.
fn cache() -> PathBuf {
    std::env::var_os("VESTIBULE_CACHE")
        .map_or_else(|| paths::root().join("target"), PathBuf::from)
        .join("vm")
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{} can't be made", folder.display()))
}
