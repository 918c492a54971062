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

use crate::command::{cargo, command, processors, run as run_command, run_logged};
use crate::setup::{self, Scope};
use crate::term::{heading, say};

mod boot_order;
mod initramfs;
mod inside;
mod jobs;
mod kernels;
mod machine;

pub(crate) use kernels::Series;

use jobs::{Job, Outcome};
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
    /// One part alone: the attempts, or the order of systemd's units; both by default
    #[arg(long)]
    only: Option<Part>,
    /// Machines that run at once; as many as there are processors by default
    #[arg(long, value_name = "N")]
    at_once: Option<usize>,
    /// Only attempts whose names contain this, or one of these, with commas between
    #[arg(default_value = "")]
    filter: String,
}

/// What is done on a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The attempts to get past the door.
    Escape,
    /// systemd's start and restart with the shipped units.
    BootOrder,
}

/// What a kernel showed: rows, and the lines of the table, which say a little more.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// Of every attempt that was made.
    pub(crate) rows: Vec<Row>,
    /// One for each row.
    pub(crate) lines: Vec<String>,
    /// Why there are not all of them.
    pub(crate) failed: Vec<String>,
}

impl Shown {
    fn none(error: &anyhow::Error) -> Self {
        Self { failed: vec![format!("{error:#}")], ..Self::default() }
    }
}

/// Boots the kernels and prints what became of each attempt, and in which order systemd started things.
///
/// # Errors
/// If a kernel does not come up or panics, an attempt had another outcome than expected, or none of the
/// kernels could show it; if systemd started an agent before the hooks were on.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Scope::Vm)?;
    run_command(cargo(None).args(["build", "--quiet"]))?;
    let programs = programs()?;
    let all = [Series::Bookworm, Series::Trixie, Series::Newest];
    let series = args.kernel.map_or(all.to_vec(), |series| vec![series]);
    let kernels = series.into_iter().map(kernels::ensure).collect::<Result<Vec<_>>>()?;
    heading("Machines");
    for kernel in &kernels {
        say(format_args!("Linux {}", kernel.release));
    }
    // Attempts that are picked by name are not about systemd.
    let is_asked = |part: &Part| match args.only {
        Some(only) => only == *part,
        None => *part == Part::Escape || args.filter.is_empty(),
    };
    let parts: Vec<Part> = [Part::Escape, Part::BootOrder].into_iter().filter(is_asked).collect();
    // The attempts take longest, and so come first.
    let of_part = |part| kernels.iter().map(move |kernel| Job { kernel, part });
    let jobs: Vec<Job<'_>> = parts.into_iter().flat_map(of_part).collect();
    let at_once = args.at_once.unwrap_or_else(processors);
    let outcome = jobs::run(&jobs, &programs, &asked(args), at_once);
    if let Some(path) = &args.json {
        let text = format!("{:#}\n", report::to_json(&outcome.shown.rows));
        fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    conclude(&outcome)
}

/// Prints the table, what systemd did, how many rows there are of each kernel and level, and what is wrong.
fn conclude(outcome: &Outcome) -> Result<()> {
    let Outcome { shown: Shown { rows, lines, failed }, starts } = outcome;
    if !rows.is_empty() {
        heading("Attempts");
        say(report::head());
        lines.iter().for_each(say);
    }
    if !starts.is_empty() {
        heading("Order of start");
        starts.iter().for_each(say);
    }
    heading("Summary");
    report::summary(rows).iter().for_each(say);
    let mut wrong = report::wrong(rows);
    wrong.extend(failed.iter().cloned());
    wrong.iter().for_each(say);
    say(format_args!("\n{} rows, {} wrong", rows.len(), wrong.len()));
    if !wrong.is_empty() || (rows.is_empty() && starts.is_empty()) {
        bail!("not everything was held");
    }
    Ok(())
}

/// The attempts that are asked for, by level.
fn asked(args: &Args) -> Vec<(Level, String)> {
    levels(args.level).into_iter().map(|level| (level, args.filter.clone())).collect()
}

/// The levels asked for.
pub(crate) fn levels(level: Option<Level>) -> Vec<Level> {
    level.map_or(vec![Level::A1, Level::A2], |level| vec![level])
}

/// Makes the attempts on a kernel: at each level those whose names match.
///
/// # Errors
/// If the machine can't be made or started. One that does not come to its end has failed, with the end of its
/// console, and shows the levels that it finished.
pub(crate) fn escape(kernel: &Kernel, programs: &Path, asked: &[(Level, String)]) -> Result<Shown> {
    let mut shown = Shown::default();
    let machine = Machine::new(kernel, "escape")?;
    if let Err(error) =
        machine.run(&inside::escape_script(kernel, programs, asked), inside::ESCAPE_S)
    {
        shown.failed.push(format!("{error:#}"));
    }
    for (level, _) in asked {
        let notes = machine.results().join(format!("{level}.txt"));
        let told = fs::read_to_string(notes).unwrap_or_default();
        let Ok(text) = fs::read_to_string(machine.results().join(format!("{level}.json"))) else {
            shown.failed.push(format!("no rows at {level}; it said:\n{told}"));
            continue;
        };
        let lines = told.lines().filter(|line| line.contains(&kernel.release));
        shown.lines.extend(lines.map(str::to_owned));
        shown.rows.extend(report::from_json(&text)?);
    }
    Ok(shown)
}

/// Fetches what the suite needs for a kernel of a series.
///
/// # Errors
/// If Debian's mirror does not answer.
pub(crate) fn kernel(series: Series) -> Result<Kernel> {
    setup::ensure(Scope::Vm)?;
    kernels::ensure(series)
}

/// Answers a folder with copies of what runs inside, without what debuggers read: a build that is made
/// meanwhile changes nothing, and a machine has a third of the bytes to load.
///
/// # Errors
/// If the programs are not built.
pub(crate) fn programs() -> Result<PathBuf> {
    let folder = cache().join("programs");
    make(&folder)?;
    let built = paths::programs()?;
    let task = paths::this_program()?;
    for program in [task, built.join("vestibuled"), built.join("vestibule")] {
        let name = program.file_name().context("a program has a name")?;
        // Another task may be at it as well.
        let new = folder.join(format!("new-{}", std::process::id()));
        let copy = folder.join(name);
        run_logged("vm-strip", command("strip").arg("-o").arg(&new).arg(&program))?;
        // What a machine still runs stays as it was.
        fs::rename(&new, &copy).with_context(|| copy.display().to_string())?;
    }
    Ok(folder)
}

/// Where kernels and results are kept.
fn cache() -> PathBuf {
    let folder = std::env::var_os("VESTIBULE_CACHE")
        .map_or_else(|| paths::root().join("target"), PathBuf::from)
        .join("vm");
    // Seen from inside as well, where nobody knows this task's working directory.
    std::path::absolute(&folder).unwrap_or(folder)
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{} can't be made", folder.display()))
}
