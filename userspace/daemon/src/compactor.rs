//! `[archive.compact]`: the files of past days are put together, by a thread of its own at low priority.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use archive::compact::{self, CompactError, Done, Due, Options, Step, Watch};
use archive::{compacted, layout};
use journal::recorder::Recorder;
use schemars::JsonSchema;
use serde::Deserialize;
use tracing::{info, warn};
use types::clock::Clock;
use types::control::{CompactedDay, Response};

use crate::app::EPOCH;
use crate::archiver::{be_nice, keep_delta};
use crate::config::Config;
use crate::shipping::{Prune, Shipping};

/// Requests waiting: the timer's and a person's.
const WAITING_MAX: usize = 4;

const DAY_US: i64 = 86_400_000_000;

/// When the files of a day are put together.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CompactRule {
    /// Days after which: 1 is the next one, UTC.
    pub(crate) after_days: u32,
}

impl Default for CompactRule {
    fn default() -> Self {
        Self { after_days: 1 }
    }
}

impl CompactRule {
    /// Whether it can be used with what else is configured.
    pub(crate) fn check(&self, prune: Option<Prune>, is_immutable: bool) -> Result<()> {
        ensure!(
            !is_immutable,
            "archive.compact: sealed files that are immutable can't be put together: one of archive.immutable and [archive.compact]"
        );
        ensure!(self.after_days > 0, "archive.compact.after_days: at least 1, the next day");
        ensure!(
            prune.is_none_or(|prune| prune == Prune::Never),
            "archive.compact: what was put together is not shipped and can't be let go here: \
             archive.ship.prune must be \"never\", or leave [archive.compact] out and compact a fetched copy"
        );
        Ok(())
    }
}

/// The thread.
pub(crate) struct Compactor {
    jobs: mpsc::SyncSender<Job>,
    /// Whether it does so by itself.
    is_due: bool,
}

struct Job {
    /// Only what would be done.
    dry_run: bool,
    /// The first day that stays, `2026-11-21`; by the rule where absent.
    before: Option<String>,
    reply: Option<mpsc::Sender<Result<Response>>>,
}

/// What the thread has.
struct Work {
    archive: PathBuf,
    origin: String,
    after_days: u32,
    shipping: Option<Arc<Shipping>>,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
}

impl Compactor {
    /// Starts the thread.
    pub(crate) fn start(
        config: &Config,
        shipping: Option<Arc<Shipping>>,
        recorder: Recorder,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let rule = config.archive.compact.clone();
        let is_due = rule.is_some();
        let work = Work {
            archive: config.archive_dir(),
            origin: layout::origin(&config.node(), i32::try_from(EPOCH)?),
            after_days: rule.unwrap_or_default().after_days,
            shipping,
            recorder,
            clock,
        };
        let (jobs, waiting) = mpsc::sync_channel::<Job>(WAITING_MAX);
        let run = move || {
            be_nice("the compactor");
            for Job { dry_run, before, reply } in waiting {
                let done = work.run(before.as_deref(), dry_run);
                match (reply, done) {
                    (Some(reply), done) => drop(reply.send(done)),
                    (None, Err(error)) => warn!(error = format!("{error:#}"), "not compacted"),
                    (None, Ok(_)) => {}
                }
            }
        };
        thread::Builder::new().name("compactor".into()).spawn(run)?;
        Ok(Self { jobs, is_due })
    }

    /// Something was sealed: what is due is done, where that is configured.
    pub(crate) fn wake(&self) {
        if self.is_due {
            // One that waits already does the same.
            drop(self.jobs.try_send(Job { dry_run: false, before: None, reply: None }));
        }
    }

    /// Does what is due; waits for it.
    pub(crate) fn ask(&self, before: Option<&str>, dry_run: bool) -> Result<Response> {
        let (reply, done) = mpsc::channel();
        let job = Job { dry_run, before: before.map(str::to_owned), reply: Some(reply) };
        self.jobs.try_send(job).map_err(|_| anyhow!("the compactor is busy; try again"))?;
        done.recv().context("the compactor has ended")?
    }
}

impl Work {
    fn run(&self, before: Option<&str>, dry_run: bool) -> Result<Response> {
        let today = self.clock.now().unix_us.div_euclid(DAY_US);
        let by_rule = today - i64::from(self.after_days) + 1;
        let asked = before.map(|day| layout::day(day).context("no day: 2026-11-21")).transpose()?;
        let mut options = Options::new(&self.archive, asked.unwrap_or(by_rule));
        if let Some(shipping) = &self.shipping {
            options.upto = BTreeMap::from([(self.origin.clone(), shipping.standing().size)]);
        }
        let (mut days, mut stays) = (Vec::new(), Vec::new());
        if dry_run {
            for due in compact::plan(&options)? {
                match &due.why {
                    Some(why) => {
                        stays.push(format!("{} of {}: {why}", due.table.as_str(), due.day));
                    }
                    None => days.push(planned(&due)),
                }
            }
            return Ok(Response::Compacted { days, stays });
        }
        let mut watch = Recorded { recorder: &self.recorder };
        let mut failed = |due: &Due, error: CompactError| {
            let error = anyhow::Error::new(error);
            stays.push(format!("{} of {}: {error:#}", due.table.as_str(), due.day));
        };
        let done = compact::compact(&options, &mut watch, &mut failed)?;
        keep_delta(&self.archive, false);
        for stays in &stays {
            warn!("not compacted: {stays}");
        }
        if !done.is_empty() {
            info!(days = done.len(), "compacted");
        }
        Ok(Response::Compacted { days: done.iter().map(told).collect(), stays })
    }
}

/// What would be put together.
fn planned(due: &Due) -> CompactedDay {
    CompactedDay {
        table: due.table.as_str().to_owned(),
        day: due.day.clone(),
        rows: due.rows(),
        files_before: u64::try_from(due.sources.len()).unwrap_or(u64::MAX),
        bytes_before: due.bytes(),
        files: None,
        bytes: None,
    }
}

fn told(done: &Done) -> CompactedDay {
    let Done { list, sha256: _, files_before, bytes_before } = done;
    CompactedDay {
        table: list.table.clone(),
        day: list.day.clone(),
        rows: list.files.iter().map(|part| part.rows).sum(),
        files_before: *files_before,
        bytes_before: *bytes_before,
        files: Some(u64::try_from(list.files.len()).unwrap_or(u64::MAX)),
        bytes: Some(list.files.iter().map(|part| part.bytes).sum()),
    }
}

/// Records each day before it takes its place.
struct Recorded<'a> {
    recorder: &'a Recorder,
}

impl Watch for Recorded<'_> {
    fn record(&mut self, done: &Done) -> Result<(), CompactError> {
        let Done { list, sha256, files_before, bytes_before } = done;
        let detail = serde_json::json!({
            "list": sha256, "table": list.table, "day": list.day, "files": list.files,
            "replaces": list.replaces.len(), "files_before": files_before, "bytes_before": bytes_before,
        });
        let recorded = self.recorder.control(compacted::KIND, &detail.to_string());
        let lsn = recorded.map_err(|error| CompactError::Recorder(Box::new(error)))?;
        self.recorder.wait(lsn).map_err(|error| CompactError::Recorder(Box::new(error)))
    }

    fn step(&mut self, _: Step) {}
}
