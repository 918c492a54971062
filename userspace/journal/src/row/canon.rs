//! The canonical form of a row: table tag, then every field in order as
//!
//! - `00`: absent;
//! - `01` and the value: booleans one byte, integers and times big-endian two's complement (4 or 8
//!   bytes), strings and binaries a u32 length and the bytes, lists a u32 count and the items, a
//!   masked item its entity as a string and its count as 8 bytes;
//! - `02` and the SHA-256 of the value so encoded, where that is longer than [`FIELD_BYTES_MAX`].
//!
//! Absent fields at the end are left out, as far as they are behind the columns of the first
//! version: a row written before a column was added has the leaf it had.

use sha2::{Digest, Sha256};

use super::value::Value;

/// A field's value enters the canonical form itself up to this many encoded bytes: 90 fields of
/// at most 4 KiB; an entry of strings of usual length stays below 64 KiB (C2SP tlog-tiles' u16).
pub const FIELD_BYTES_MAX: usize = 4096;

/// What separates these leaves from any other use of SHA-256.
pub const LEAF_PREFIX: &[u8] = b"vestibule/event/v1\0";

/// The hash of a leaf whose canonical form is `canon`.
pub(crate) fn leaf_hash(canon: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(LEAF_PREFIX);
    hash.update(canon);
    hash.finalize().into()
}

/// A row's canonical form being appended.
pub(crate) struct Canon<'a> {
    out: &'a mut Vec<u8>,
    /// Behind the last column that must not be left out.
    end: usize,
    column: usize,
    first_columns: usize,
}

impl<'a> Canon<'a> {
    /// Begins a row of a table with this tag and so many columns in its first version.
    pub(crate) fn new(out: &'a mut Vec<u8>, tag: u8, first_columns: usize) -> Self {
        out.push(tag);
        let end = out.len();
        Self { out, end, column: 0, first_columns }
    }

    /// The next column.
    #[inline]
    pub(crate) fn value(&mut self, value: Value<'_>) {
        put(self.out, value);
        self.column += 1;
        if self.column <= self.first_columns || value != Value::Null {
            self.end = self.out.len();
        }
    }

    /// The next columns, that rows share: as they were put once, or as `put` puts them.
    #[inline]
    pub(crate) fn run(&mut self, runs: &mut Option<Runs<'_>>, put: impl FnOnce(&mut Self)) {
        let Some(Run { columns, bytes, present }) = runs.as_mut().and_then(Iterator::next) else {
            return put(self);
        };
        let start = self.out.len();
        self.out.extend_from_slice(bytes);
        self.column += columns;
        if self.column <= self.first_columns {
            self.end = self.out.len();
        } else if present > 0 {
            self.end = start + present;
        }
    }

    /// Ends the row.
    pub(crate) fn finish(self) {
        self.out.truncate(self.end);
    }
}

/// The canonical form of columns that rows share, in runs: those that no other columns stand between. A run is of columns of
/// the first version, or of later ones.
#[derive(Clone, Debug, Default)]
pub struct Form {
    bytes: Vec<u8>,
    runs: Vec<Ended>,
}

/// Where a run ends: how many columns it has, and in the bytes, with what is absent at its end and without.
#[derive(Clone, Copy, Debug)]
struct Ended {
    columns: usize,
    end: usize,
    present: usize,
}

/// A run of columns.
pub(crate) struct Run<'a> {
    columns: usize,
    bytes: &'a [u8],
    /// Bytes of them up to the last that is not absent; 0 where all are.
    present: usize,
}

/// Runs that are still to come.
pub(crate) struct Runs<'a> {
    form: &'a Form,
    at: usize,
    start: usize,
}

impl Form {
    /// With room for so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), runs: Vec::new() }
    }

    /// Appends a run of columns.
    pub(crate) fn put(&mut self, values: &[Value<'_>]) {
        let mut present = self.bytes.len();
        for value in values {
            put(&mut self.bytes, *value);
            if *value != Value::Null {
                present = self.bytes.len();
            }
        }
        self.runs.push(Ended { columns: values.len(), end: self.bytes.len(), present });
    }

    pub(crate) fn runs(&self) -> Runs<'_> {
        Runs { form: self, at: 0, start: 0 }
    }
}

impl<'a> Iterator for Runs<'a> {
    type Item = Run<'a>;

    #[inline]
    fn next(&mut self) -> Option<Run<'a>> {
        let Ended { columns, end, present } = *self.form.runs.get(self.at)?;
        let bytes = self.form.bytes.get(self.start..end)?;
        let present = present - self.start;
        (self.at, self.start) = (self.at + 1, end);
        Some(Run { columns, bytes, present })
    }
}

/// Appends one field.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Null => out.push(0),
        Value::Bool(it) => out.extend_from_slice(&[1, u8::from(it)]),
        Value::I32(it) => put_int(out, &it.to_be_bytes()),
        Value::I64(it) => put_int(out, &it.to_be_bytes()),
        Value::Ts(it) => put_int(out, &it.0.to_be_bytes()),
        Value::Str(it) => put_field(out, |out| put_bytes(out, it.as_bytes())),
        Value::Bytes(it) => put_field(out, |out| put_bytes(out, it)),
        Value::StrList(items) => put_field(out, |out| {
            put_len(out, items.len());
            for item in items {
                put_bytes(out, item.as_bytes());
            }
        }),
        Value::MaskList(items) => put_field(out, |out| {
            put_len(out, items.len());
            for item in items {
                put_bytes(out, item.entity.as_bytes());
                out.extend_from_slice(&item.count.to_be_bytes());
            }
        }),
    }
}

/// A field of a few bytes, at once.
#[inline]
fn put_int<const N: usize>(out: &mut Vec<u8>, bytes: &[u8; N]) {
    const { assert!(N <= 8, "an integer") };
    let mut field = [1; 9];
    if let Some(field) = field.get_mut(..=N) {
        field[1..].copy_from_slice(bytes);
        out.extend_from_slice(field);
    }
}

#[inline]
fn put_field(out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(1);
    value(out);
    end_field(out, start);
}

/// Ends a field that `out` has from `start` on: one longer than [`FIELD_BYTES_MAX`] enters by its digest.
#[inline]
pub fn end_field(out: &mut Vec<u8>, start: usize) {
    if out.len() - start - 1 > FIELD_BYTES_MAX {
        shorten(out, start);
    }
}

/// A field longer than [`FIELD_BYTES_MAX`] enters by its digest.
#[cold]
fn shorten(out: &mut Vec<u8>, start: usize) {
    let digest = Sha256::digest(out.get(start + 1..).unwrap_or_default());
    out.truncate(start);
    out.push(2);
    out.extend_from_slice(&digest);
}

#[inline]
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Lengths stay far below u32: a journal frame's body is at most 1 MiB.
fn put_len(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
}
