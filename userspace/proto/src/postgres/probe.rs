//! A query of the driver's own on the agent's connection, while that is idle and hidden from it.

use types::event::Event;
use types::limits::{PROBE_BYTES_MAX, PROBE_ROWS_MAX};

use super::PostgresSession;
use super::message;
use super::notice;
use super::replication::Replication;
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
        /// The transaction status to release.
        status: u8,
    },
    /// It is being answered.
    Running {
        /// The transaction status to release.
        status: u8,
        /// Rows so far; `None` once it failed.
        rows: Option<TextRows>,
        /// Their bytes.
        bytes: usize,
    },
}

impl PostgresSession {
    /// Asks the driver for a probe, with the agent's ReadyForQuery held back.
    pub(super) fn want_probe(&mut self, status: u8) {
        self.server.catalog_stale = false;
        if self.replication() == Replication::Physical {
            // It takes no SQL.
            self.events.push_back(Event::Probed(None));
            return self.relay_ready(status);
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
        self.probe = Probe::Running { status, rows: Some(Vec::new()), bytes: 0 };
    }

    /// Goes on without a probe, or after one.
    pub(super) fn end_probe(&mut self) {
        match std::mem::replace(&mut self.probe, Probe::Idle) {
            Probe::Idle => {}
            Probe::Wanted { status } | Probe::Running { status, .. } => self.relay_ready(status),
        }
    }

    /// Takes one message of the probe's answer; `None` if it is malformed or not due.
    pub(super) fn probe_message(&mut self, tag: u8, frame: &[u8], body: &[u8]) -> Option<()> {
        let Probe::Running { rows, bytes, .. } = &mut self.probe else { return None };
        match tag {
            b'T' | b'C' | b'I' => {}
            b'D' => {
                *bytes += body.len();
                let full = *bytes > PROBE_BYTES_MAX
                    || rows.as_ref().is_some_and(|rows| rows.len() >= PROBE_ROWS_MAX);
                match (text_row(body), rows.as_mut()) {
                    (Some(row), Some(rows)) if !full => rows.push(row),
                    _ => *rows = None,
                }
            }
            b'E' => {
                *rows = None;
                if notice::summary(body)?.fatal {
                    // The session ends with it, so it is the agent's too.
                    self.relay(frame);
                }
            }
            b'Z' => {
                let rows = rows.take();
                self.events.push_back(Event::Probed(rows));
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
