//! `cargo xtask TASK`: everything that is done to this repository, one file per task.
//!
//! It brings no product code of its own: what the daemon does is in `userspace/`, and what the tests and
//! the demonstration share is the harness in `tests/src`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod command;
mod corpus;
mod crash;
mod demo;
mod escape;
mod mask;
mod screenshots;
mod setup;
mod spark;
mod tamper;
mod term;
mod test;
mod tidy;
mod vm;

/// The project's tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", version, about)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

/// What can be asked for.
#[derive(Subcommand)]
enum Task {
    /// Bring everything that building, testing and measuring need (Debian 12 or 13)
    Setup {
        /// Only say what is there and what is missing
        #[arg(long)]
        check: bool,
    },
    /// Show the main job end to end: intercept, decide, mask, record, archive, verify
    Demo {
        /// Where to leave the archive, the journal and the transcript
        #[arg(long, default_value = "demo-out")]
        out: PathBuf,
        /// Under a minute once built
        #[arg(long)]
        quick: bool,
    },
    /// Run every test and every check
    Test {
        /// Leave the fuzz run out
        #[arg(long)]
        no_fuzz: bool,
        /// Run only tests whose name matches (passed to nextest), and no other check
        filter: Option<String>,
    },
    /// Try every known way past the door, as a user without privileges (A1) and as root (A2)
    EscapeTest(escape::Args),
    /// Try every known way to see a masked value, and that ordinary queries come through as they are
    MaskTest(mask::Args),
    /// Compare the analysis of SQL with PostgreSQL's own parser and executor, on its regression corpus
    CorpusTest(corpus::Args),
    /// Have Spark answer the ready questions as DuckDB does, on a sample or on an archive
    SparkTest {
        /// The archive's folder
        #[arg(long, value_name = "DIR")]
        archive: Option<PathBuf>,
    },
    /// Alter archives as one with the disk or the keys would: each must be found, and nothing else
    TamperTest(tamper::Args),
    /// Lose power and kill at random instants: nothing that was acknowledged may be missing
    CrashTest(crash::Args),
    /// Open the console's pages in a browser and leave pictures of them in docs/screenshots
    Screenshots,
    /// Boot stock Debian kernels under QEMU and run the escape suite in them
    VmTest(vm::Args),
    /// Check the structure of the sources: layers, owners of heavy dependencies, limits
    Tidy,
    /// Measure direct, pgbouncer, haproxy and vestibule against one PostgreSQL, interleaved
    Bench {
        /// Measure the kernel programs instead: what each costs, and that only agents pay
        #[arg(long)]
        kernel: bool,
        /// Measure recognizers and masks instead, without sockets: what each costs per byte
        #[arg(long, conflicts_with = "kernel")]
        masks: bool,
        /// Measure what whom an agent acts for costs by itself: per command, connection, change and token
        #[arg(long, conflicts_with_all = ["kernel", "masks"])]
        identity: bool,
        /// Drive approvals of many hosts through two hubs, one of which is killed again and again
        #[arg(long, conflicts_with_all = ["kernel", "masks", "identity"])]
        hub: bool,
        /// Measure the archive: sealing, verifying, putting days together, bytes, and how fast questions are answered by
        /// DuckDB and Spark, on files that it makes
        #[arg(long, conflicts_with_all = ["kernel", "masks", "identity", "hub"])]
        archive: bool,
        /// So many events; ten million where it is not said
        #[arg(long, requires = "archive")]
        events: Option<u64>,
        /// Where the archive is made; `target/bench-lake` where it is not said
        #[arg(long, requires = "archive")]
        dir: Option<PathBuf>,
        /// Leave it there
        #[arg(long, requires = "archive")]
        keep: bool,
        /// Measure the journal against the disk under it: commits a second, and how long they take
        #[arg(long, conflicts_with_all = ["kernel", "masks", "identity", "hub", "archive"])]
        journal: bool,
        /// Short rounds and 100 MB of bulk data
        #[arg(long)]
        quick: bool,
        /// Write the rows as JSON here
        #[arg(long)]
        json: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let Err(error) = run(Cli::parse().task) else { return ExitCode::SUCCESS };
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Setup { check: true } => setup::report(),
        Task::Setup { check: false } => setup::ensure(setup::Scope::All),
        Task::Demo { out, quick } => demo::run(&out, quick),
        Task::Test { no_fuzz, filter } => test::run(!no_fuzz, filter.as_deref()),
        Task::EscapeTest(args) => escape::run(&args),
        Task::MaskTest(args) => mask::run(&args),
        Task::CorpusTest(args) => corpus::run(&args),
        Task::SparkTest { archive } => spark::run(archive.as_deref()),
        Task::TamperTest(args) => tamper::run(&args),
        Task::CrashTest(args) => crash::run(&args),
        Task::Screenshots => screenshots::run(),
        Task::VmTest(args) => vm::run(&args),
        Task::Tidy => tidy::run(),
        Task::Bench { kernel: true, quick, json, .. } => bench::run_kernel(quick, json.as_deref()),
        Task::Bench { masks: true, quick, json, .. } => bench::run_masks(quick, json.as_deref()),
        Task::Bench { identity: true, quick, json, .. } => {
            bench::run_identity(quick, json.as_deref())
        }
        Task::Bench { hub: true, quick, json, .. } => bench::run_hub(quick, json.as_deref()),
        Task::Bench { archive: true, quick, json, events, dir, keep, .. } => {
            let lake = bench::archive::Lake { events, dir: dir.as_deref(), keep };
            bench::archive::run(quick, &lake, json.as_deref())
        }
        Task::Bench { journal: true, quick, json, .. } => {
            bench::run_journal(quick, json.as_deref())
        }
        Task::Bench { quick, json, .. } => bench::run_bench(quick, json.as_deref()),
    }
}
