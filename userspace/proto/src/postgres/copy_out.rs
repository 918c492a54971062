//! COPY TO STDOUT: rows cut out of CopyData, their values masked and written back in their form.
//!
//! PostgreSQL documentation, "COPY", File Formats. A row may span CopyData messages.

use std::sync::Arc;

use types::command::{Copy, CopyFormat};
use types::limits::ROW_BYTES_MAX;
use types::redact::{Redaction, Redactor, TreatmentKind};

use super::prepared::Plan;
use super::rows::BadRow;
use crate::reader::Reader;

/// Signature of the binary format.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// The rows of one COPY on their way out.
#[derive(Debug)]
pub(super) struct CopyOut {
    plan: Arc<Plan>,
    format: CopyFormat,
    delimiter: u8,
    quote: u8,
    escape: u8,
    null: Vec<u8>,
    /// Whether a value can't be taken for the null marker.
    null_is_certain: bool,
    /// Whether a line of names, or the binary header, is still to come.
    header: bool,
    ended: bool,
    carry: Vec<u8>,
    /// How much of `carry` was searched for a line's end, and whether that stopped in quotes.
    searched: usize,
    quoted: bool,
    value: Vec<u8>,
    masked: Vec<u8>,
}

impl CopyOut {
    pub(super) fn new(plan: Arc<Plan>, copy: &Copy) -> Self {
        let default: &[u8] = if copy.format == CopyFormat::Text { br"\N" } else { b"" };
        Self {
            plan,
            format: copy.format,
            delimiter: copy.delimiter,
            quote: copy.quote,
            escape: copy.escape,
            // CSV quotes such values; in text nothing else but NULL is the marker's default.
            null_is_certain: copy.format == CopyFormat::Csv || copy.null.is_none(),
            null: copy.null.as_ref().map_or(default, |null| null.as_bytes()).to_vec(),
            header: copy.header || copy.format == CopyFormat::Binary,
            ended: false,
            carry: Vec::new(),
            searched: 0,
            quoted: false,
            value: Vec::new(),
            masked: Vec::new(),
        }
    }

    /// Whether no part of a row is left over.
    pub(super) fn is_whole(&self) -> bool {
        self.carry.is_empty()
    }

    /// Whether rows are lines of text.
    pub(super) fn is_text(&self) -> bool {
        self.format != CopyFormat::Binary
    }

    /// Takes one CopyData's payload and appends the rows that ended in it, masked.
    pub(super) fn feed(
        &mut self,
        redactor: &mut dyn Redactor,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), BadRow> {
        let mut carry = std::mem::take(&mut self.carry);
        let bytes = if carry.is_empty() {
            payload
        } else {
            carry.extend_from_slice(payload);
            carry.as_slice()
        };
        let mut at = 0;
        while let Some(length) = self.unit(bytes.get(at..).unwrap_or_default())? {
            let unit = bytes.get(at..at + length).ok_or(BadRow)?;
            (self.searched, self.quoted) = (0, false);
            at += length;
            self.row(redactor, unit, out)?;
        }
        let rest = bytes.get(at..).unwrap_or_default();
        if rest.len() > ROW_BYTES_MAX {
            return Err(BadRow);
        }
        self.carry = if carry.is_empty() {
            rest.to_vec()
        } else {
            carry.drain(..at);
            carry
        };
        Ok(())
    }

    /// The length of the row `bytes` start with, if it is all here.
    fn unit(&mut self, bytes: &[u8]) -> Result<Option<usize>, BadRow> {
        if bytes.is_empty() {
            return Ok(None);
        }
        match self.format {
            CopyFormat::Binary => self.binary_unit(bytes),
            CopyFormat::Text => {
                let end = memchr::memchr(b'\n', bytes.get(self.searched..).unwrap_or_default());
                let end = end.map(|end| self.searched + end + 1);
                self.searched = bytes.len();
                Ok(end)
            }
            CopyFormat::Csv => {
                while let Some(found) = memchr::memchr3(
                    self.quote,
                    self.escape,
                    b'\n',
                    bytes.get(self.searched..).unwrap_or_default(),
                ) {
                    let at = self.searched + found;
                    self.searched = at + 1;
                    match bytes.get(at) {
                        Some(byte) if self.escapes(*byte) => {
                            if bytes.get(at + 1).is_none() {
                                // It stands before something that is not here yet.
                                self.searched = at;
                                return Ok(None);
                            }
                            self.searched = at + 2;
                        }
                        Some(byte) if *byte == self.quote => self.quoted = !self.quoted,
                        Some(b'\n') if !self.quoted => return Ok(Some(at + 1)),
                        _ => {}
                    }
                }
                self.searched = bytes.len();
                Ok(None)
            }
        }
    }

    fn binary_unit(&self, bytes: &[u8]) -> Result<Option<usize>, BadRow> {
        if self.ended {
            return Err(BadRow);
        }
        let mut reader = Reader::new(bytes);
        let whole = if self.header {
            binary_header(&mut reader)?
        } else {
            binary_row(&mut reader, self.plan.treatments.len())?
        };
        Ok(whole.map(|()| bytes.len() - reader.rest().len()))
    }

    fn row(
        &mut self,
        redactor: &mut dyn Redactor,
        unit: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), BadRow> {
        if std::mem::take(&mut self.header) {
            out.extend_from_slice(unit);
            return Ok(());
        }
        match self.format {
            CopyFormat::Binary => self.binary(redactor, unit, out),
            CopyFormat::Text | CopyFormat::Csv => self.line(redactor, unit, out),
        }
    }

    fn binary(
        &mut self,
        redactor: &mut dyn Redactor,
        row: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), BadRow> {
        let mut reader = Reader::new(row);
        let count = reader.array::<2>().ok_or(BadRow)?;
        out.extend_from_slice(&count);
        if count == [0xff; 2] {
            self.ended = true;
            return Ok(());
        }
        for treatment in &self.plan.treatments {
            let value = reader.value().ok_or(BadRow)?;
            self.masked.clear();
            let redaction = match value {
                Some(value) if treatment.kind != TreatmentKind::Pass => {
                    redactor.redact(*treatment, value, &mut self.masked)
                }
                _ => Redaction::Unchanged,
            };
            let value = match redaction {
                Redaction::Unchanged => value,
                Redaction::Replaced => Some(self.masked.as_slice()),
                Redaction::Null => None,
            };
            let length = value.map_or(Ok(-1), |value| i32::try_from(value.len()));
            out.extend_from_slice(&length.map_err(|_| BadRow)?.to_be_bytes());
            out.extend_from_slice(value.unwrap_or_default());
        }
        Ok(())
    }

    fn line(
        &mut self,
        redactor: &mut dyn Redactor,
        line: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), BadRow> {
        let plan = Arc::clone(&self.plan);
        let Some((end, mut rest)) = line.split_last() else { return Err(BadRow) };
        for (at, treatment) in plan.treatments.iter().enumerate() {
            if at > 0 {
                let (delimiter, behind) = rest.split_first().ok_or(BadRow)?;
                out.push(*delimiter);
                rest = behind;
            }
            let (cell, behind) = rest.split_at_checked(self.cell(rest)).ok_or(BadRow)?;
            rest = behind;
            if treatment.kind == TreatmentKind::Pass || self.is_null(cell) {
                out.extend_from_slice(cell);
                continue;
            }
            self.read_cell(cell);
            self.masked.clear();
            match redactor.redact(*treatment, &self.value, &mut self.masked) {
                Redaction::Unchanged => out.extend_from_slice(cell),
                Redaction::Null => out.extend_from_slice(&self.null),
                Redaction::Replaced => self.write_cell(out),
            }
        }
        if !rest.is_empty() {
            return Err(BadRow);
        }
        out.push(*end);
        Ok(())
    }

    /// The length of the cell `line` starts with.
    fn cell(&self, line: &[u8]) -> usize {
        let mut quoted = false;
        let mut escaped = false;
        let csv = self.format == CopyFormat::Csv;
        let end = line.iter().position(|byte| {
            if escaped {
                escaped = false;
            } else if csv && quoted && *byte == self.escape && self.escape != self.quote {
                escaped = true;
            } else if csv && *byte == self.quote {
                quoted = !quoted;
            } else if !csv && *byte == b'\\' {
                escaped = true;
            } else {
                return !quoted && *byte == self.delimiter;
            }
            false
        });
        end.unwrap_or(line.len())
    }

    /// Whether a byte within quotes takes what follows it as it is: an escape that is no quote.
    fn escapes(&self, byte: u8) -> bool {
        self.quoted && byte == self.escape && self.escape != self.quote
    }

    /// Whether a cell is NULL; one that only may be is masked like a value.
    fn is_null(&self, cell: &[u8]) -> bool {
        self.null_is_certain && cell == self.null.as_slice()
    }

    /// Reads `cell` into `value`, without quotes and escapes.
    fn read_cell(&mut self, cell: &[u8]) {
        self.value.clear();
        let mut bytes = cell.iter().copied().peekable();
        let mut quoted = false;
        while let Some(byte) = bytes.next() {
            match (self.format, byte) {
                (CopyFormat::Csv, byte) if quoted && byte == self.escape && byte != self.quote => {
                    self.value.extend(bytes.next());
                }
                (CopyFormat::Csv, byte) if byte == self.quote => {
                    if quoted && self.escape == self.quote && bytes.next_if_eq(&byte).is_some() {
                        self.value.push(byte);
                    } else {
                        quoted = !quoted;
                    }
                }
                (CopyFormat::Text, b'\\') => self.value.extend(bytes.next().map(unescaped)),
                (_, other) => self.value.push(other),
            }
        }
    }

    /// Writes `masked` as a cell.
    fn write_cell(&self, out: &mut Vec<u8>) {
        if self.format == CopyFormat::Csv {
            out.push(self.quote);
            for byte in &self.masked {
                if *byte == self.quote || *byte == self.escape {
                    out.push(self.escape);
                }
                out.push(*byte);
            }
            out.push(self.quote);
            return;
        }
        for byte in &self.masked {
            match byte {
                b'\n' => out.extend_from_slice(br"\n"),
                b'\r' => out.extend_from_slice(br"\r"),
                b'\t' => out.extend_from_slice(br"\t"),
                b'\\' => out.extend_from_slice(br"\\"),
                other => {
                    if *other == self.delimiter {
                        out.push(b'\\');
                    }
                    out.push(*other);
                }
            }
        }
    }
}

fn unescaped(byte: u8) -> u8 {
    match byte {
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        other => other,
    }
}

/// Reads signature, flags and extension; `None` where they are not all here.
fn binary_header(reader: &mut Reader<'_>) -> Result<Option<()>, BadRow> {
    let Some(signature) = reader.bytes(SIGNATURE.len()) else { return Ok(None) };
    if signature != SIGNATURE {
        return Err(BadRow);
    }
    let (Some(_flags), Some(extension)) = (reader.u32(), reader.u32()) else { return Ok(None) };
    Ok(reader.bytes(extension as usize).map(|_| ()))
}

fn binary_row(reader: &mut Reader<'_>, columns: usize) -> Result<Option<()>, BadRow> {
    let Some(count) = reader.i16() else { return Ok(None) };
    if count == -1 {
        return Ok(Some(()));
    }
    if usize::try_from(count) != Ok(columns) {
        return Err(BadRow);
    }
    for _ in 0..columns {
        let Some(length) = reader.i32() else { return Ok(None) };
        if length == -1 {
            continue;
        }
        let length = usize::try_from(length).map_err(|_| BadRow)?;
        if length > ROW_BYTES_MAX {
            return Err(BadRow);
        }
        if reader.bytes(length).is_none() {
            return Ok(None);
        }
    }
    Ok(Some(()))
}
