//! `cargo xtask mask-test`: every known way to see a masked value is tried, directly and behind vestibule, and
//! ordinary queries must come through as they are.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use integration::masking::{self, CatalogBy, report};

use crate::command::{cargo, run as run_command};
use crate::setup::{self, Scope, require_root};
use crate::term::{heading, say};

/// What is tried, and where the counts go.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Write `{"attacks","leaks","ordinary","false_masks"}` here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// With a role of the daemon's own to read the catalog; else it is read on agents' connections
    #[arg(long)]
    catalog_role: bool,
    /// Only cases whose names contain this
    #[arg(default_value = "")]
    filter: String,
}

/// Runs the suite, prints the table, writes the counts.
///
/// # Errors
/// If a value got through, an attack was held for another reason than it names or proves nothing, or an
/// ordinary query did not come through as it is.
pub(crate) fn run(args: &Args) -> Result<()> {
    require_root("the suite starts a daemon and agents, which")?;
    setup::ensure(Scope::Test)?;
    run_command(cargo(None).args(["build", "--quiet"]))?;
    let by = if args.catalog_role { CatalogBy::Role } else { CatalogBy::Agents };
    let outcome = masking::run(&args.filter, 1, by)?;
    say(report::head());
    for row in &outcome.attacks {
        say(report::line(row));
    }
    if let Some(path) = &args.json {
        let text = format!("{:#}\n", report::to_json(&outcome));
        fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    let wrong = report::wrong(&outcome);
    if !wrong.is_empty() {
        heading("wrong");
        wrong.iter().for_each(say);
    }
    say(format_args!(
        "\n{} attacks, {} leaks; {} ordinary queries, {} false masks; {} wrong in all",
        outcome.attacks.len(),
        report::leaks(&outcome),
        outcome.ordinary,
        outcome.false_masks.len(),
        wrong.len()
    ));
    if !wrong.is_empty() || outcome.attacks.len() + outcome.ordinary == 0 {
        bail!("not everything was masked as it should be");
    }
    Ok(())
}
