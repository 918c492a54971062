//! A query of the driver's own on the agent's connection, while that is idle and hidden from it.

use types::event::Event;
use types::limits::{PROBE_BYTES_MAX, PROBE_ROWS_MAX};

use super::message;
use super::notice;
use super::replication::Replication;
use super::{Phase, PostgresSession};
use crate::reader::Reader;

/// Rows of text values.
type TextRows = Vec<Vec<Option<String>>>;

/// Whether a probe is under way; the agent's ReadyForQuery waits behind it.
#[derive(Debug)]
pub(super) enum Probe {
    /// None is.
    Idle,
    /// The driver was asked for one.
    Wanted {
        /// The transaction status to release, if a ReadyForQuery is held back.
        status: Option<u8>,
    },
    /// It is being answered.
    Running {
        /// The transaction status to release, if a ReadyForQuery is held back.
        status: Option<u8>,
        /// Rows so far, or why there are none.
        rows: Result<TextRows, ProbeFailure>,
        /// Their bytes.
        bytes: usize,
        /// What for.
        purpose: Purpose,
        /// ReadyForQuerys to come.
        runs: u8,
    },
}

/// What a query of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The catalog, for the driver.
    Catalog,
    /// The server's `statement_timeout`.
    Timeout,
    /// The server's plan of what is held.
    Plan,
}

/// Why a probe brought nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFailure {
    /// The server refused or ended it with this SQLSTATE.
    #[error("the server answered with SQLSTATE {}", String::from_utf8_lossy(.0))]
    Refused([u8; 5]),
    /// More rows, or bytes of them, than are taken.
    #[error(
        "the catalog is too large: more than {PROBE_ROWS_MAX} rows or {PROBE_BYTES_MAX} bytes of it"
    )]
    TooLarge,
    /// A name is not UTF-8.
    #[error("a name or a definition is not UTF-8")]
    NotText,
}

impl PostgresSession {
    /// The transaction status where the server is ready and nothing went up since; what the agent sends
    /// next may wait for a probe if that is `I`.
    pub fn at_rest(&self) -> Option<u8> {
        self.server
            .at_rest
            .filter(|_| matches!(self.probe, Probe::Idle) && self.phase == Phase::Running)
    }

    /// Whether a probe is wanted or under way.
    pub fn is_probing(&self) -> bool {
        !matches!(self.probe, Probe::Idle)
    }

    /// Has the driver asked for a probe (`Event::ProbeWanted`) before the agent's next message is taken.
    /// Nothing comes of it but at rest outside of a transaction; true if it does.
    pub fn refresh(&mut self) -> bool {
        let may = self.at_rest() == Some(b'I') && self.is_idle();
        if may {
            self.want_probe(None);
        }
        may
    }

    /// Why the last probe brought nothing.
    pub fn probe_failure(&self) -> Option<&ProbeFailure> {
        self.probe_failure.as_ref()
    }

    /// Asks the driver for a probe, with the agent's ReadyForQuery held back if it has one to come.
    pub(super) fn want_probe(&mut self, status: Option<u8>) {
        self.server.catalog_stale = false;
        if self.replication() == Replication::Physical {
            // It takes no SQL.
            self.events.push_back(Event::Probed(None));
            if let Some(status) = status {
                self.relay_ready(status);
            }
            return;
        }
        self.probe = Probe::Wanted { status };
        self.events.push_back(Event::ProbeWanted);
    }

    pub(super) fn start_probe(&mut self, sql: &str) {
        let Probe::Wanted { status } = self.probe else { return };
        message::frame(self.transmit.upstream.buffer(), b'Q', |out| {
            out.extend(sql.bytes().filter(|byte| *byte != 0));
            out.push(0);
        });
        let purpose = Purpose::Catalog;
        self.probe = Probe::Running { status, rows: Ok(Vec::new()), bytes: 0, purpose, runs: 1 };
    }

    /// Awaits the answer to what went up while a command of the agent's is held: so many runs of messages.
    pub(super) fn begin_hidden(&mut self, purpose: Purpose, runs: u8) {
        let (status, rows) = (None, Ok(Vec::new()));
        self.probe = Probe::Running { status, rows, bytes: 0, purpose, runs };
    }

    /// Goes on without a probe, or after one.
    pub(super) fn end_probe(&mut self) {
        match std::mem::replace(&mut self.probe, Probe::Idle) {
            Probe::Idle => {}
            Probe::Wanted { status } | Probe::Running { status, .. } => {
                if let Some(status) = status {
                    self.relay_ready(status);
                }
            }
        }
    }

    /// Takes one message of the probe's answer; `None` if it is malformed or not due.
    pub(super) fn probe_message(&mut self, tag: u8, frame: &[u8], body: &[u8]) -> Option<()> {
        let Probe::Running { rows, bytes, purpose, runs, .. } = &mut self.probe else {
            return None;
        };
        let purpose = *purpose;
        match tag {
            b'T' | b'C' | b'I' => {}
            b'1' | b'2' | b'3' if purpose == Purpose::Plan => {}
            b'D' => {
                *bytes += body.len();
                if let Ok(so_far) = rows {
                    let full = *bytes > PROBE_BYTES_MAX || so_far.len() >= PROBE_ROWS_MAX;
                    match text_row(body) {
                        Some(row) if !full => so_far.push(row),
                        Some(_) => *rows = Err(ProbeFailure::TooLarge),
                        None => *rows = Err(ProbeFailure::NotText),
                    }
                }
            }
            b'E' => {
                let summary = notice::summary(body)?;
                *rows = Err(ProbeFailure::Refused(summary.code));
                if summary.fatal {
                    // The session ends with it, so it is the agent's too.
                    self.relay(frame);
                }
            }
            b'Z' if *runs > 1 => *runs -= 1,
            b'Z' => {
                let (rows, failure) = match std::mem::replace(rows, Ok(Vec::new())) {
                    Ok(rows) => (Some(rows), None),
                    Err(failure) => (None, Some(failure)),
                };
                match purpose {
                    Purpose::Catalog => {
                        self.probe_failure = failure;
                        self.events.push_back(Event::Probed(rows));
                    }
                    Purpose::Timeout => self.note_timeout(rows.as_deref().unwrap_or_default()),
                    Purpose::Plan => self.note_plan(rows.as_deref().unwrap_or_default()),
                }
                self.end_probe();
            }
            _ => return None,
        }
        Some(())
    }
}

fn text_row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let mut reader = Reader::new(body);
    let count = reader.u16()?;
    let row = (0..count)
        .map(|_| match reader.value()? {
            None => Some(None),
            Some(value) => String::from_utf8(value.to_vec()).ok().map(Some),
        })
        .collect::<Option<_>>()?;
    reader.is_empty().then_some(row)
}
