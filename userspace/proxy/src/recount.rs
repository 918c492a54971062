//! What was used of windows before the daemon started, counted again from its journal.
//!
//! Read are the segments that reach back as far as the longest window, no others. Of what was under way
//! when a daemon was killed nobody knows how much it brought: it counts as all that its windows allow.
//! What can't be read counts so for everybody.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use journal::codec::Malformed;
use journal::reader::{self, ReadError, Reader};
use journal::record::{BootId, Lsn, Record};
use types::clock::Timestamp;
use types::decision::{Limit, Measure};
use types::event::{Outcome, Status};
use types::id::{AgentName, CommandId, PolicyId, SessionId};

use crate::windows::Windows;

/// Why a journal's use of windows is not known.
#[derive(Debug, thiserror::Error)]
pub enum RecountError {
    /// The directory can't be read.
    #[error("cannot list the journal's segments")]
    List(#[source] io::Error),
    /// A frame is not as it was written.
    #[error("cannot read the journal")]
    Read(#[from] ReadError),
    /// A frame holds no record.
    #[error("cannot read a record")]
    Record(#[from] Malformed),
}

/// Puts into `windows` what the journal in `dir` says, up to its frame `end`, which is durable, was used
/// of `limits`; answers how many commands that were. After an error all windows are used up.
pub fn recount(
    windows: &Windows,
    limits: &[Limit],
    (dir, end): (&Path, Lsn),
    now: Timestamp,
) -> Result<u64, RecountError> {
    let counted = Recount::new(windows, limits, now).read(dir, end);
    if counted.is_err() {
        windows.lose(now);
    }
    counted
}

struct Recount<'w> {
    windows: &'w Windows,
    limits: &'w [Limit],
    now: Timestamp,
    /// The boot that `now` is of.
    boot: BootId,
    /// Those open at this place: no more than a journal takes.
    sessions: HashMap<SessionId, Session>,
    counted: u64,
}

/// A session, as far as it matters here.
struct Session {
    agent: AgentName,
    target: Arc<str>,
    /// The policies over whose windows any of its commands was counted: those of a cursor are a FETCH's.
    windows: HashSet<PolicyId>,
    /// Those of commands that began and did not end.
    open: HashMap<CommandId, HashSet<PolicyId>>,
}

impl<'w> Recount<'w> {
    fn new(windows: &'w Windows, limits: &'w [Limit], now: Timestamp) -> Self {
        let (boot, sessions) = (BootId::default(), HashMap::new());
        Self { windows, limits, now, boot, sessions, counted: 0 }
    }

    fn read(mut self, dir: &Path, end: Lsn) -> Result<u64, RecountError> {
        let Some(longest) = self.limits.iter().filter_map(|limit| limit.window_s).max() else {
            return Ok(0);
        };
        let span = Duration::from_secs(u64::from(longest));
        let Some((from, own)) = reader::since(dir, self.now, span)? else { return Ok(0) };
        // The daemon that runs began the newest one.
        self.boot = own;
        let mut reader = Reader::open(dir, from, Some(end)).map_err(RecountError::List)?;
        let mut boot = self.boot;
        loop {
            let Some(frame) = reader.next_frame()? else { return Ok(self.counted) };
            match frame.record()? {
                Some(record) => self.take(record, boot),
                // A segment begins.
                None => boot = reader.segment().map_or(boot, |header| header.boot_id),
            }
        }
    }

    fn age_ns(&self, at: Timestamp, boot: BootId) -> u64 {
        let age = reader::age(self.now, self.boot, at, boot);
        u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)
    }

    fn take(&mut self, record: Record, boot: BootId) {
        match record {
            Record::SessionOpen(opened) => {
                let session = Session {
                    agent: opened.principal.agent,
                    target: opened.target_name,
                    windows: HashSet::new(),
                    open: HashMap::new(),
                };
                self.sessions.insert(opened.session, session);
            }
            Record::Begin(begun) => {
                let Some(session) = self.sessions.get_mut(&begun.session) else { return };
                let mut windows: HashSet<PolicyId> = begun.windows.into_iter().collect();
                session.windows.extend(windows.iter().cloned());
                if begun.statement.verb == "FETCH" {
                    windows.clone_from(&session.windows);
                }
                if !windows.is_empty() {
                    session.open.insert(begun.command, windows);
                }
            }
            Record::End(ended) => {
                let age = self.age_ns(ended.at, boot);
                self.end(ended.session, &ended.outcome, age);
            }
            Record::SessionClose(closed) => drop(self.sessions.remove(&closed.session)),
            // Windows are an agent's, whoever it acts for.
            Record::Identity(_) | Record::Control(_) | Record::Chunk(_) => {}
        }
    }

    fn end(&mut self, session: SessionId, outcome: &Outcome, age_ns: u64) {
        let Some(session) = self.sessions.get_mut(&session) else { return };
        let begun = session.open.remove(&outcome.command);
        let is_cut_off = outcome.status == Status::Interrupted;
        let policies: Vec<&PolicyId> = match (&outcome.used, &begun) {
            (Some(used), _) => used.policies.iter().collect(),
            (None, Some(begun)) if is_cut_off => begun.iter().collect(),
            _ => return,
        };
        self.counted += 1;
        for limit in self.limits.iter().filter(|limit| policies.contains(&&limit.policy)) {
            let used = match (&outcome.used, limit.measure) {
                (None, _) => limit.most,
                (Some(used), Measure::Rows) => used.rows.min(limit.most),
                (Some(used), Measure::Bytes) => used.bytes.min(limit.most),
                (Some(used), Measure::Time) => used.us.min(limit.most),
            };
            let who = (&session.agent, &session.target);
            self.windows.used_before(limit, who, (used, age_ns), self.now);
        }
    }
}
