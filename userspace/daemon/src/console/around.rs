//! What this host has to show beside approvals.

use std::path::PathBuf;
use std::sync::Arc;

use ::console::Surroundings;
use ::console::surroundings::{
    By, Checkpoint, Disk, Evidence, EvidenceStanding, Failed, OpenSession, Past, Sessions,
};
use approval::desk::Later;
use archive::status;
use journal::recorder::{Options, Reserve};
use proxy::door::Door;
use proxy::sessions::Open;
use tracing::warn;
use types::id::SessionId;

use crate::app::EPOCH;
use crate::config::Config;
use crate::desk::Desk;

/// What is around the console on a host.
pub(crate) struct Around {
    pub(super) door: Arc<Door>,
    pub(super) node: String,
    pub(super) journal_dir: PathBuf,
    pub(super) archive_dir: PathBuf,
    reserve: Reserve,
}

impl Around {
    pub(crate) fn of(config: &Config, desk: &Desk) -> Self {
        let said = config.journal.reserve_bytes.map(|bytes| Reserve { percent: 0, bytes });
        let usual = || Options::new("", "", EPOCH).reserve;
        Self {
            door: Arc::clone(&desk.door),
            node: desk.node.clone(),
            journal_dir: config.journal_dir(),
            archive_dir: config.archive_dir(),
            reserve: said.unwrap_or_else(usual),
        }
    }
}

impl Surroundings for Around {
    fn sessions(&self) -> Option<&dyn Sessions> {
        Some(self)
    }

    fn past(&self) -> Option<&dyn Past> {
        Some(self)
    }

    fn evidence(&self) -> Option<&dyn Evidence> {
        Some(self)
    }

    fn record<'a>(
        &'a self,
        kind: &'static str,
        detail: serde_json::Value,
    ) -> Later<'a, Result<(), Failed>> {
        Box::pin(record(&self.door, kind, detail))
    }
}

/// Writes a control record; durable when this answers.
async fn record(door: &Door, kind: &'static str, detail: serde_json::Value) -> Result<(), Failed> {
    let recorder = door.recorder.clone();
    blocking(move || {
        let lsn = recorder.control(kind, &detail.to_string()).map_err(|error| failed(&error))?;
        recorder.wait(lsn).map_err(|error| failed(&error))
    })
    .await
}

impl Sessions for Around {
    fn list(&self, most: usize) -> (Vec<OpenSession>, usize) {
        let (open, total) = self.door.sessions.newest(most);
        (open.iter().map(|(session, open)| shown(*session, open)).collect(), total)
    }

    fn get(&self, session: &str) -> Option<OpenSession> {
        let id = session.parse().ok()?;
        self.door.sessions.get(id).map(|open| shown(id, &open))
    }

    fn end<'a>(&'a self, session: &'a str, by: &'a By) -> Later<'a, Result<bool, Failed>> {
        Box::pin(async move {
            let Ok(id) = session.parse::<SessionId>() else { return Ok(false) };
            let Some(open) = self.door.sessions.get(id) else { return Ok(false) };
            let detail = serde_json::json!({
                "session_id": session, "agent": open.agent.as_str(), "instance": open.instance,
                "target": open.target, "by": by,
            });
            record(&self.door, "session.ended_by_operator", detail).await?;
            warn!(session, person = by.person, "an operator ends a session");
            Ok(self.door.sessions.end(id))
        })
    }
}

impl Evidence for Around {
    fn standing(&self) -> Later<'_, Result<EvidenceStanding, Failed>> {
        let (node, archive_dir, journal_dir) =
            (self.node.clone(), self.archive_dir.clone(), self.journal_dir.clone());
        let (recorder, reserve) = (self.door.recorder.clone(), self.reserve);
        Box::pin(blocking(move || {
            let last =
                status::last(&archive_dir, &node, epoch()).map_err(|error| failed(&error))?;
            Ok(EvidenceStanding {
                checkpoint: last.map(|last| Checkpoint {
                    tree_size: last.tree_size,
                    root: last.root,
                    at_us: last.sealed_us,
                }),
                rows: recorder.durable_rows(),
                durable_lsn: recorder.durable().0,
                journal_disk: disk(&journal_dir, reserve)?,
                archive_disk: disk(&archive_dir, Reserve { percent: 0, bytes: 0 })?,
                // Shipping comes with the collector.
                shipping_lag_s: None,
                node,
            })
        }))
    }
}

fn shown(session: SessionId, open: &Open) -> OpenSession {
    let identity = open.identity();
    let subject = identity.subject.as_ref();
    let text = |text: &Arc<str>| text.as_ref().to_owned();
    let links = identity.actors.iter().map(ToString::to_string);
    let (commands, last_us) = open.commands();
    OpenSession {
        session: session.to_string(),
        opened_us: open.at.unix_us,
        agent: open.agent.as_str().to_owned(),
        instance: text(&open.instance),
        chain: links.chain(open.chain.iter().map(ToString::to_string)).collect(),
        user: subject.map(|subject| text(&subject.user)),
        person: subject.map(|subject| format!("{}@{}", subject.sub, subject.idp)),
        owner: identity.owner.as_ref().map(text),
        pid: open.tgid,
        target: text(&open.target),
        database: open.database.as_ref().map(text),
        account: open.account.as_ref().map(text),
        commands,
        last_us,
    }
}

fn disk(dir: &std::path::Path, reserve: Reserve) -> Result<Disk, Failed> {
    let stat = rustix::fs::statvfs(dir).map_err(|error| failed(&error))?;
    let total_bytes = stat.f_blocks.saturating_mul(stat.f_frsize);
    let Reserve { percent, bytes } = reserve;
    let reserve_bytes = (total_bytes / 100).saturating_mul(percent.into()).saturating_add(bytes);
    let free_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
    Ok(Disk { free_bytes, total_bytes, reserve_bytes })
}

/// The log's epoch, as the archive has it.
pub(super) fn epoch() -> i32 {
    i32::try_from(EPOCH).unwrap_or(i32::MAX)
}

/// Does what blocks elsewhere.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failed> + Send + 'static,
) -> Result<T, Failed> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Failed("the daemon is about to end".to_owned())))
}

pub(super) fn failed(error: &dyn std::error::Error) -> Failed {
    Failed(error.to_string())
}
