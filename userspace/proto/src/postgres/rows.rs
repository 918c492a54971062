//! DataRows: relayed as they are, in runs, or with the values that masks change replaced.

use std::sync::Arc;

use types::limits::{RECOGNIZER_SPAN_MAX, ROW_BYTES_MAX};
use types::redact::{Redaction, Redactor, TreatmentKind};

use super::expect::InFlight;
use super::message::{HEADER, patch_length};
use super::prepared::Plan;
use crate::reader::Reader;

/// A DataRow's head: tag, length, column count.
const ROW_HEADER: usize = HEADER + 2;

/// The pieces in which a value is masked that is too large to hold: long enough that overlapping
/// them costs under 2 %.
const WINDOW: usize = 64 * RECOGNIZER_SPAN_MAX;

/// A server that does not keep to what it described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row does not match its description")]
pub(super) struct BadRow;

/// What is left of a frame that is relayed as it comes.
#[derive(Debug)]
pub(super) enum Rest {
    /// Nothing is changed in the next so many bytes.
    Relay(usize),
    /// The next so many bytes are dropped.
    Drop(usize),
    /// A row too large to hold.
    Row(Box<LargeRow>),
}

/// How far [`relay`] came.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) bytes: usize,
    pub(super) rest: Option<Rest>,
}

/// Where rows go through.
pub(super) struct Passage<'a> {
    pub(super) redactor: &'a mut dyn Redactor,
    pub(super) command: &'a mut InFlight,
    pub(super) out: &'a mut Vec<u8>,
    pub(super) scratch: &'a mut Vec<u8>,
}

/// Relays the DataRows that `bytes` start with, stopping at another message or a row that is not
/// all here. Rows that do not change are copied together.
pub(super) fn relay(
    plan: &Arc<Plan>,
    mut passage: Passage<'_>,
    bytes: &[u8],
) -> Result<Taken, BadRow> {
    let columns = u16::try_from(plan.treatments.len()).map_err(|_| BadRow)?;
    let before = passage.out.len();
    let mut run = 0;
    let mut at = 0;
    let mut rest = None;
    while let Some([b'D', a, b, c, d, hi, lo, ..]) = bytes.get(at..) {
        let total = u32::from_be_bytes([*a, *b, *c, *d]) as usize + 1;
        if u16::from_be_bytes([*hi, *lo]) != columns || !(ROW_HEADER..1 << 30).contains(&total) {
            return Err(BadRow);
        }
        let frame = bytes.get(at..at + total);
        let sampled = passage.command.sample.is_full() || total > ROW_BYTES_MAX;
        match frame {
            Some(_) if plan.pass && sampled => at += total,
            None if plan.pass && sampled => {
                passage.command.rows += 1;
                rest = Some(Rest::Relay(at + total - bytes.len()));
                at = bytes.len();
                break;
            }
            _ if total > ROW_BYTES_MAX => {
                passage.command.rows += 1;
                at += ROW_HEADER;
                rest = Some(Rest::Row(Box::new(LargeRow::new(plan, total - ROW_HEADER))));
                break;
            }
            Some(frame) => {
                let unchanged =
                    passage.pass_row(plan, frame, bytes.get(run..at).unwrap_or_default())?;
                at += total;
                if !unchanged {
                    run = at;
                }
            }
            None => break,
        }
        passage.command.rows += 1;
    }
    passage.out.extend_from_slice(bytes.get(run..at).unwrap_or_default());
    passage.command.bytes_out += (passage.out.len() - before) as u64;
    Ok(Taken { bytes: at, rest })
}

impl Passage<'_> {
    /// Passes one row; true if it is unchanged and not written, so that it joins the run `before`
    /// it.
    fn pass_row(&mut self, plan: &Plan, frame: &[u8], before: &[u8]) -> Result<bool, BadRow> {
        let changed = if plan.pass { None } else { self.redact_row(plan, frame, before)? };
        if !self.command.sample.is_full() {
            let sent = changed.map_or(frame, |start| self.out.get(start..).unwrap_or_default());
            self.command.sample.row(sent.get(HEADER..).unwrap_or_default(), &plan.treatments);
        }
        Ok(changed.is_none())
    }

    /// Writes `before` and the row with its masks applied and answers where in `out` the row
    /// starts; writes nothing where no value changes.
    fn redact_row(
        &mut self,
        plan: &Plan,
        frame: &[u8],
        before: &[u8],
    ) -> Result<Option<usize>, BadRow> {
        let mut reader = Reader::new(frame.get(ROW_HEADER..).ok_or(BadRow)?);
        let mut copied = 0;
        let mut start = None;
        for treatment in &plan.treatments {
            let value_at = frame.len() - reader.rest().len();
            let Some(value) = reader.value().ok_or(BadRow)? else { continue };
            if treatment.kind == TreatmentKind::Pass {
                continue;
            }
            self.scratch.clear();
            let redaction = self.redactor.redact(*treatment, value, self.scratch);
            if redaction == Redaction::Unchanged {
                continue;
            }
            if start.is_none() {
                self.out.extend_from_slice(before);
                start = Some(self.out.len());
            }
            self.out.extend_from_slice(frame.get(copied..value_at).unwrap_or_default());
            if redaction == Redaction::Null {
                self.out.extend_from_slice(&(-1_i32).to_be_bytes());
            } else {
                let length = u32::try_from(self.scratch.len()).map_err(|_| BadRow)?;
                self.out.extend_from_slice(&length.to_be_bytes());
                self.out.extend_from_slice(self.scratch);
            }
            copied = frame.len() - reader.rest().len();
        }
        if !reader.is_empty() {
            self.out.truncate(start.unwrap_or(self.out.len()));
            return Err(BadRow);
        }
        if let Some(start) = start {
            self.out.extend_from_slice(frame.get(copied..).unwrap_or_default());
            patch_length(self.out.get_mut(start..).unwrap_or_default(), 1);
        }
        Ok(start)
    }
}

/// A row over [`ROW_BYTES_MAX`], masked piece by piece without changing a length.
#[derive(Debug)]
pub(super) struct LargeRow {
    plan: Arc<Plan>,
    column: usize,
    /// Bytes of the frame still to come.
    left: usize,
    length: Vec<u8>,
    /// Bytes of the current value still to come; `None` between values.
    value_left: Option<usize>,
    window: Vec<u8>,
}

impl LargeRow {
    fn new(plan: &Arc<Plan>, left: usize) -> Self {
        Self {
            plan: Arc::clone(plan),
            column: 0,
            left,
            length: Vec::with_capacity(4),
            value_left: None,
            window: Vec::new(),
        }
    }

    /// Whether the whole row went through.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0 && self.value_left.is_none()
    }

    /// Takes what `bytes` hold of the row.
    pub(super) fn feed(
        &mut self,
        redactor: &mut dyn Redactor,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<usize, BadRow> {
        let mut reader = Reader::new(bytes);
        while !self.is_done() {
            let before = reader.rest().len();
            match self.value_left {
                Some(left) => self.value(left, redactor, &mut reader, out),
                None => self.value_length(&mut reader, out)?,
            }
            if reader.rest().len() == before && self.value_left != Some(0) {
                break;
            }
        }
        if self.is_done() && self.column != self.plan.treatments.len() {
            return Err(BadRow);
        }
        Ok(bytes.len() - reader.rest().len())
    }

    fn value_length(&mut self, reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), BadRow> {
        if self.column == self.plan.treatments.len() || self.left == 0 {
            return Err(BadRow);
        }
        let Some(byte) = reader.u8() else { return Ok(()) };
        self.left -= 1;
        self.length.push(byte);
        out.push(byte);
        let Some(length) = Reader::new(&self.length).i32() else { return Ok(()) };
        self.length.clear();
        if length == -1 {
            self.column += 1;
            return Ok(());
        }
        let length = usize::try_from(length).map_err(|_| BadRow)?;
        if length > self.left {
            return Err(BadRow);
        }
        self.value_left = Some(length);
        Ok(())
    }

    fn value(
        &mut self,
        left: usize,
        redactor: &mut dyn Redactor,
        reader: &mut Reader<'_>,
        out: &mut Vec<u8>,
    ) {
        let treatment = self.plan.treatments.get(self.column).copied();
        let count = left.min(reader.rest().len());
        let Some(treatment) = treatment.filter(|one| one.kind != TreatmentKind::Pass) else {
            out.extend_from_slice(reader.bytes(count).unwrap_or_default());
            self.advance(left, count);
            return;
        };
        let count = count.min(WINDOW - self.window.len());
        self.window.extend_from_slice(reader.bytes(count).unwrap_or_default());
        self.advance(left, count);
        let ended = self.value_left.is_none();
        if !ended && self.window.len() < WINDOW {
            return;
        }
        redactor.fill(treatment, &mut self.window);
        let kept = if ended { 0 } else { RECOGNIZER_SPAN_MAX };
        let ready = self.window.len() - kept;
        out.extend(self.window.drain(..ready));
    }

    fn advance(&mut self, left: usize, count: usize) {
        self.left -= count;
        self.value_left = Some(left - count);
        if left == count {
            self.value_left = None;
            self.column += 1;
        }
    }
}
