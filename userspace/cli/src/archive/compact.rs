//! `vestibule archive compact`: the files of past days put together.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use archive::compact::{self, CompactError, Done, Due, Options, Unwatched};
use archive::layout;
use clap::Args as ClapArgs;
use types::control::{CompactedDay, Request, Response};

use crate::{Output, control};

/// A day of 100 million rows takes some twenty minutes.
const PATIENCE: Duration = Duration::from_hours(2);

/// Put the files of past days together: large files sorted by session, which queries read faster and which take less room. What
/// is proven stays proven, as it is about rows: `vestibule verify` finds each in the new files. The daemon does it and records it
/// (`archive.compacted`); with --archive it is done here, on a copy such as `archive fetch` makes, with the rows of all its nodes.
/// A day that is not as it was sealed, or not all here, stays as it is. Exit status 1: one stays that was due.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// A copy of an archive; the daemon's own where absent.
    #[arg(long, value_name = "DIR")]
    archive: Option<PathBuf>,
    /// The first day that stays as it is, UTC; as the daemon is configured where absent, today for a copy.
    #[arg(long, value_name = "DATE", value_parser = day)]
    before: Option<String>,
    /// Only say what would be put together.
    #[arg(long)]
    dry_run: bool,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

fn day(text: &str) -> Result<String> {
    layout::day(text).map(|_| text.to_owned()).context("not a day, such as 2026-11-21")
}

pub(super) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let Args { archive, before, dry_run, output } = args;
    let response = if let Some(archive) = archive {
        here(archive, before.as_deref(), *dry_run)?
    } else {
        let request = Request::Compact { before: before.clone(), dry_run: *dry_run };
        control::ask(control, &request, PATIENCE)?
    };
    let Response::Compacted { days, stays } = &response else {
        bail!("the daemon's answer is not about compaction");
    };
    match output {
        Output::Json => println!("{}", serde_json::to_string(&response)?),
        Output::Table => tell(days, *dry_run),
    }
    for stays in stays {
        eprintln!("stays as it is: {stays}");
    }
    Ok(if stays.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(days: &[CompactedDay], dry_run: bool) {
    if days.is_empty() {
        println!("nothing is due");
    }
    for CompactedDay { table, day, rows, files_before, bytes_before, files, bytes } in days {
        let now = match (files, bytes) {
            (Some(files), Some(bytes)) => format!("{files} files, {bytes} bytes"),
            _ => "not done: --dry-run".to_owned(),
        };
        println!("{day} {table}: {rows} rows in {files_before} files, {bytes_before} bytes: {now}");
    }
    if dry_run && !days.is_empty() {
        println!("nothing was changed");
    }
}

/// On a folder that no daemon fills.
fn here(archive: &Path, before: Option<&str>, dry_run: bool) -> Result<Response> {
    #[expect(clippy::disallowed_methods, reason = "a command has no clock but the system's")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let today = i64::try_from(now / 86_400)?;
    let before = before.and_then(layout::day).unwrap_or(today);
    let options = Options::new(archive, before);
    let (mut days, mut stays) = (Vec::new(), Vec::new());
    for due in compact::plan(&options)? {
        match &due.why {
            Some(why) => stays.push(format!("{} of {}: {why}", due.table.as_str(), due.day)),
            None => days.push(planned(&due)),
        }
    }
    if !dry_run {
        let mut failed = |due: &Due, error: CompactError| {
            let error = anyhow::Error::new(error);
            stays.push(format!("{} of {}: {error:#}", due.table.as_str(), due.day));
        };
        let done = compact::compact(&options, &mut Unwatched, &mut failed)?;
        archive::delta::keep(archive, false)?;
        for one in &mut days {
            let is_it = |done: &&Done| done.list.table == one.table && done.list.day == one.day;
            let found = done.iter().find(is_it);
            one.files = found.map(|done| done.list.files.len() as u64);
            one.bytes = found.map(|done| done.list.files.iter().map(|part| part.bytes).sum());
        }
        days.retain(|one| one.files.is_some());
    }
    Ok(Response::Compacted { days, stays })
}

fn planned(due: &Due) -> CompactedDay {
    CompactedDay {
        table: due.table.as_str().to_owned(),
        day: due.day.clone(),
        rows: due.rows(),
        files_before: due.sources.len() as u64,
        bytes_before: due.bytes(),
        files: None,
        bytes: None,
    }
}
