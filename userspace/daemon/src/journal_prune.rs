//! `[journal] prune`: segments go once their rows are safe elsewhere, and by a sealed record.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use archive::{files, layout, status, witnessed};
use journal::disk::Os;
use journal::prune::{self, Due, Extent, Limits};
use journal::start::Start;
use policy::PolicySet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tlog::policy::Policy;
use tracing::info;
use types::control::{JournalPruned, JournalStanding};

use crate::app::{EPOCH, record};
use crate::approvals;
use crate::config::Config;
use crate::desk::Desk;
use crate::shipping;

/// How often is looked for what may go: cosignatures are read then.
pub(crate) const INTERVAL: Duration = Duration::from_hours(1);

/// When segments of the journal go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PruneJournal {
    /// Never.
    Never,
    /// Once their rows are in the archive here. What is on this host's disk alone is lost with it.
    Sealed,
    /// Once they are in the store of `[archive.ship]`, and were read back.
    AfterRemote,
    /// Once they are there, and under a checkpoint with the cosignatures that the policy of `archive.witnesses` asks for.
    Witnessed,
}

/// What lets segments go.
pub(crate) struct Pruner {
    rule: PruneJournal,
    keep: Duration,
    journal: PathBuf,
    archive: PathBuf,
    node: String,
    witnesses: Option<Policy>,
}

/// Whether the rule can be used with what else is configured.
pub(crate) fn check(config: &Config) -> Result<()> {
    let (ship, witnesses) = (config.archive.ship.is_some(), config.archive.witnesses.is_some());
    match config.journal.prune {
        Some(PruneJournal::AfterRemote) => {
            ensure!(ship, "journal.prune: \"after-remote\" needs a store: [archive.ship]");
        }
        Some(PruneJournal::Witnessed) => ensure!(
            ship && witnesses,
            "journal.prune: \"witnessed\" needs a store and witnesses: [archive.ship] and archive.witnesses"
        ),
        Some(PruneJournal::Never | PruneJournal::Sealed) | None => {}
    }
    Ok(())
}

/// Segments stay for as long as a start reads them: for limits over windows, and for approvals where there are any.
fn read_back(config: &Config, policy: &PolicySet) -> Duration {
    let longest = policy.windows().iter().filter_map(|limit| limit.window_s).max();
    let windows = longest.map_or(Duration::ZERO, |s| Duration::from_secs(u64::from(s)));
    windows.max(approvals::reach(&config.state_dir, policy.asks_people()))
}

impl Pruner {
    pub(crate) fn new(config: &Config, policy: &PolicySet) -> Result<Self> {
        let witnesses = config.archive.witnesses.as_deref().map(shipping::policy).transpose()?;
        let safest = if config.archive.ship.is_some() && witnesses.is_some() {
            PruneJournal::Witnessed
        } else {
            PruneJournal::Never
        };
        let days = Duration::from_hours(24 * u64::from(config.journal.keep_days));
        Ok(Self {
            rule: config.journal.prune.unwrap_or(safest),
            keep: days.max(read_back(config, policy)),
            journal: config.journal_dir(),
            archive: config.archive_dir(),
            node: config.node(),
            witnesses,
        })
    }

    /// Lets go of what is due, or only says so.
    pub(crate) fn run(&self, desk: &Desk, dry_run: bool) -> Result<JournalPruned> {
        // Nobody else lets segments go meanwhile.
        let _keeping = desk.archiver.keeping();
        let (rows, mut limits) = self.safe(desk)?;
        let keep = humantime(self.keep);
        limits.push(format!("segments stay for {keep}, and the last two of them in any case"));
        let due = if self.rule == PruneJournal::Never {
            limits.insert(0, "[journal] prune is \"never\"".to_owned());
            None
        } else {
            if !dry_run {
                prune::finish(&Os, &self.journal, rows).context("segments let go before")?;
            }
            let now = desk.door.clock.now();
            prune::due(&self.journal, &Limits { rows, now, keep: self.keep })?
        };
        let Some(due) = due else {
            let first_row = prune::extent(&self.journal)?.first_seq;
            return Ok(JournalPruned { first_row, limits, ..JournalPruned::default() });
        };
        if !dry_run {
            self.let_go(desk, &due, rows)?;
        }
        let Due { start, segments, bytes } = due;
        Ok(JournalPruned { segments, bytes, first_row: start.seq, limits })
    }

    /// What the journal takes; none where that can't be read.
    pub(crate) fn standing(&self) -> Option<JournalStanding> {
        let Extent { first_seq, segments, bytes } = prune::extent(&self.journal).ok()?;
        let lets_go = self.rule != PruneJournal::Never;
        Some(JournalStanding { first_row: first_seq, segments, bytes, lets_go })
    }

    /// Recorded, and sealed, before anything goes: else nobody could tell it from a hand that took them.
    fn let_go(&self, desk: &Desk, due: &Due, rows: u64) -> Result<()> {
        let Due { start, segments, bytes } = due;
        let mut detail = start.json();
        detail["segments"] = (*segments).into();
        detail["bytes"] = (*bytes).into();
        detail["rule"] = serde_json::to_value(self.rule)?;
        detail["safe_before"] = rows.into();
        record(&desk.door.recorder, Start::RECORD, &detail)?;
        desk.archiver.seal()?;
        // No verification reads what goes now.
        let _lock = files::lock(&self.archive)
            .with_context(|| format!("archive {}", self.archive.display()))?;
        prune::let_go(&Os, &self.journal, start)
            .with_context(|| format!("journal {}", self.journal.display()))?;
        info!(segments, bytes, first_row = start.seq, "the journal let go of segments");
        Ok(())
    }

    /// The row before which all are safe elsewhere, and why that one.
    fn safe(&self, desk: &Desk) -> Result<(u64, Vec<String>)> {
        let epoch = i32::try_from(EPOCH)?;
        let sealed =
            status::last(&self.archive, &self.node, epoch)?.map_or(0, |last| last.tree_size);
        let mut all = vec![("sealed into the archive".to_owned(), sealed)];
        if matches!(self.rule, PruneJournal::AfterRemote | PruneJournal::Witnessed) {
            let ship = desk.archiver.shipping().unwrap_or_default();
            all.push((format!("shipped to {}", ship.url), ship.size));
        }
        if let (PruneJournal::Witnessed, Some(policy)) = (self.rule, &self.witnesses) {
            let origin = layout::origin(&self.node, epoch);
            let upto = witnessed::upto(&self.archive, &origin, policy)?;
            all.push(("cosigned by witnesses".to_owned(), upto));
        }
        for forward in desk.forwarding.standings() {
            all.push((format!("forwarded to `{}`", forward.name), forward.next_row));
        }
        let rows = all.iter().map(|(_, rows)| *rows).min().unwrap_or(0);
        let lines = all.iter().map(|(what, rows)| format!("{what}: rows before {rows}"));
        Ok((rows, lines.collect()))
    }
}

/// Whole hours, or days.
fn humantime(span: Duration) -> String {
    match span.as_secs().div_ceil(3600) {
        hours if hours % 24 == 0 => format!("{} days", hours / 24),
        hours => format!("{hours} hours"),
    }
}
