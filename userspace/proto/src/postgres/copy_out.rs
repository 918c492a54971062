//! COPY TO STDOUT: rows cut out of CopyData, their values masked and written back in their form.
//!
//! PostgreSQL documentation, "COPY", File Formats. A row may span CopyData messages.

use std::sync::Arc;

use types::command::{Copy, CopyFormat};
use types::limits::ROW_BYTES_MAX;
use types::redact::{Redaction, Redactor, Treatment, TreatmentKind};

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
    /// Whether cells stand apart for the recognizers, so that several are searched at once; and
    /// whether all columns may be.
    divides: bool,
    searches_only: bool,
    /// Whether the payload was searched whole, and something found in it.
    apart: bool,
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
        let divides = matches!(copy.delimiter, b'\t' | b',')
            && match copy.format {
                CopyFormat::Text => true,
                CopyFormat::Csv => (copy.quote, copy.escape) == (b'"', b'"'),
                CopyFormat::Binary => false,
            };
        Self {
            divides,
            searches_only: divides && plan.treatments.iter().all(is_searched),
            apart: false,
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
        let at_row = self.carry.is_empty() && !self.header;
        self.apart = self.searches_only && at_row;
        if self.apart && self.is_clean(redactor, payload) {
            out.extend_from_slice(payload);
            return Ok(());
        }
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
        if reader.i16().ok_or(BadRow)? == -1 {
            self.ended = true;
            out.extend_from_slice(row);
            return Ok(());
        }
        let mut copied = 0;
        for treatment in &self.plan.treatments {
            let start = row.len() - reader.rest().len();
            let Some(value) = reader.value().ok_or(BadRow)? else { continue };
            if treatment.kind == TreatmentKind::Pass {
                continue;
            }
            self.masked.clear();
            let redaction = redactor.redact(*treatment, value, &mut self.masked);
            let length = match redaction {
                Redaction::Unchanged => continue,
                Redaction::Replaced => i32::try_from(self.masked.len()).map_err(|_| BadRow)?,
                Redaction::Null => -1,
            };
            out.extend_from_slice(row.get(copied..start).unwrap_or_default());
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(if length < 0 { &[] } else { self.masked.as_slice() });
            copied = row.len() - reader.rest().len();
        }
        out.extend_from_slice(row.get(copied..).unwrap_or_default());
        Ok(())
    }

    fn line(
        &mut self,
        redactor: &mut dyn Redactor,
        line: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), BadRow> {
        let plan = Arc::clone(&self.plan);
        let Some((_, body)) = line.split_last() else { return Err(BadRow) };
        let (mut at, mut copied) = (0, 0);
        let (mut number, mut tried) = (0, 0);
        while let Some(treatment) = plan.treatments.get(number) {
            // A cell ends at a delimiter or with the line.
            at += usize::from(number > 0);
            let rest = body.get(at..).ok_or(BadRow)?;
            let together = plan.treatments.iter().skip(number).take_while(|one| is_searched(one));
            let at_once = self.divides && !self.apart && number >= tried;
            let together = if at_once { together.count() } else { 0 };
            if together > 1 {
                tried = number + together;
                if let Some(cells) = self.plain_cells(rest, together)
                    && redactor.is_clean(cells)
                {
                    (at, number) = (at + cells.len(), tried);
                    continue;
                }
            }
            number += 1;
            let (length, is_plain) = self.cell(rest);
            let (start, cell) = (at, rest.get(..length).ok_or(BadRow)?);
            at += length;
            if treatment.kind == TreatmentKind::Pass || self.is_null(cell) {
                continue;
            }
            if !is_plain {
                self.read_cell(cell);
            }
            let value = if is_plain { cell } else { self.value.as_slice() };
            self.masked.clear();
            let redaction = redactor.redact(*treatment, value, &mut self.masked);
            if redaction == Redaction::Unchanged {
                continue;
            }
            out.extend_from_slice(line.get(copied..start).unwrap_or_default());
            match redaction {
                Redaction::Replaced => self.write_cell(out),
                _ => out.extend_from_slice(&self.null),
            }
            copied = at;
        }
        if at != body.len() {
            return Err(BadRow);
        }
        out.extend_from_slice(line.get(copied..).unwrap_or_default());
        Ok(())
    }

    /// The `count` cells that `line` starts with, if each is written as its value is.
    fn plain_cells<'l>(&self, line: &'l [u8], count: usize) -> Option<&'l [u8]> {
        let mut end = 0;
        for number in 0..count {
            end += usize::from(number > 0);
            let (length, is_plain) = self.cell(line.get(end..)?);
            end += length;
            is_plain.then_some(())?;
        }
        line.get(..end)
    }

    /// Whether a payload is whole rows in which nothing is masked or found.
    fn is_clean(&self, redactor: &mut dyn Redactor, payload: &[u8]) -> bool {
        let is_whole = payload.ends_with(b"\n")
            && match self.format {
                CopyFormat::Text => memchr::memchr(b'\\', payload).is_none(),
                CopyFormat::Csv => {
                    memchr::memchr_iter(self.quote, payload).count().is_multiple_of(2)
                }
                CopyFormat::Binary => false,
            };
        is_whole && redactor.is_clean(payload)
    }

    /// The length of the cell `line` starts with, and whether it is written as its value is.
    fn cell(&self, line: &[u8]) -> (usize, bool) {
        let csv = self.format == CopyFormat::Csv;
        let special = if csv { self.quote } else { b'\\' };
        let (mut at, mut quoted, mut is_plain) = (0, false, true);
        while let Some(rest) = line.get(at..) {
            let found = if quoted {
                memchr::memchr2(self.quote, self.escape, rest)
            } else {
                memchr::memchr2(self.delimiter, special, rest)
            };
            let Some((found, byte)) = found.and_then(|found| Some((found, *rest.get(found)?)))
            else {
                break;
            };
            at += found;
            if quoted && byte == self.escape && self.escape != self.quote {
                at += 2;
            } else if csv && byte == self.quote {
                (quoted, is_plain) = (!quoted, false);
                at += 1;
            } else if !csv && byte == b'\\' {
                is_plain = false;
                at += 2;
            } else {
                return (at, is_plain);
            }
        }
        (line.len(), is_plain)
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
        let csv = self.format == CopyFormat::Csv;
        let (one, other) = if csv { (self.quote, self.escape) } else { (b'\\', b'\\') };
        let (mut rest, mut quoted) = (cell, false);
        while let Some(at) = memchr::memchr2(one, other, rest) {
            self.value.extend_from_slice(rest.get(..at).unwrap_or_default());
            let byte = rest.get(at).copied().unwrap_or_default();
            let next = rest.get(at + 1).copied();
            let escaped = if !csv {
                next.map(unescaped)
            } else if quoted && byte == self.escape && (byte != self.quote || next == Some(byte)) {
                next
            } else if byte == self.quote {
                quoted = !quoted;
                None
            } else {
                // An escape outside of quotes is a character like others.
                self.value.push(byte);
                None
            };
            self.value.extend(escaped);
            rest = rest.get(at + 1 + usize::from(escaped.is_some())..).unwrap_or_default();
        }
        self.value.extend_from_slice(rest);
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

/// Whether a column's values are as they are where nothing is found in them.
fn is_searched(treatment: &Treatment) -> bool {
    matches!(treatment.kind, TreatmentKind::Inspect | TreatmentKind::Pass)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A COPY's form: format, delimiter, quote, escape.
    fn form(of: usize) -> CopyOut {
        let (format, delimiter, quote, escape) = match of {
            0 => (CopyFormat::Text, b'\t', b'"', b'"'),
            1 => (CopyFormat::Csv, b',', b'"', b'"'),
            2 => (CopyFormat::Csv, b',', b'"', b'\\'),
            _ => (CopyFormat::Csv, b'\t', b'~', b'"'),
        };
        let (table, columns, null, header) = (None, None, None, false);
        let copy = Copy { table, columns, format, header, delimiter, quote, escape, null };
        CopyOut::new(Arc::new(Plan::new(Vec::new())), &copy)
    }

    /// The first cell's length and value, read byte by byte as the server's COPY FROM does.
    fn walk(copy: &CopyOut, line: &[u8]) -> (usize, Vec<u8>) {
        let csv = copy.format == CopyFormat::Csv;
        let (mut at, mut quoted, mut value) = (0, false, Vec::new());
        while let Some(byte) = line.get(at) {
            let next = line.get(at + 1);
            if csv && quoted && *byte == copy.escape && (*byte != copy.quote || next == Some(byte))
            {
                value.extend(next);
                at += 1;
            } else if csv && *byte == copy.quote {
                quoted = !quoted;
            } else if !csv && *byte == b'\\' {
                value.extend(next.map(|byte| unescaped(*byte)));
                at += 1;
            } else if !quoted && *byte == copy.delimiter {
                break;
            } else {
                value.push(*byte);
            }
            at += 1;
        }
        (at.min(line.len()), value)
    }

    proptest! {
        #[test]
        fn cells_are_a_walk(line in "[ab\t,\"~\\\\]{0,40}", of in 0usize..4) {
            let mut copy = form(of);
            let (want, value) = walk(&copy, line.as_bytes());
            let (length, is_plain) = copy.cell(line.as_bytes());
            prop_assert_eq!(length, want);
            let cell = &line.as_bytes()[..length];
            prop_assert!(!is_plain || cell == value);
            copy.read_cell(cell);
            prop_assert_eq!(&copy.value, &value);
        }
    }
}
