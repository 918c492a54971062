//! A column's values and their canonical form.

use arrow_array::cast::AsArray;
use arrow_array::types::{ByteArrayType, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, GenericByteArray, Int32Array, Int64Array,
    ListArray, StringArray, TimestampMicrosecondArray,
};
use journal::row::{Column, Kind, end_field};

use super::Strings;

/// The values of a column.
pub(super) enum Values<'a> {
    Absent,
    Bool(&'a BooleanArray),
    I32(&'a Int32Array),
    I64(&'a Int64Array),
    Ts(&'a TimestampMicrosecondArray),
    Str(Strings<'a>),
    Bytes(&'a BinaryArray),
    StrList(&'a ListArray, Strings<'a>),
    MaskList(&'a ListArray, &'a StringArray, &'a Int64Array),
}

impl<'a> Values<'a> {
    /// `None` where the column is not as it must be.
    pub(super) fn of(column: &Column, array: &'a ArrayRef) -> Option<Self> {
        if array.null_count() > 0 && !column.nullable {
            return None;
        }
        let values = match column.kind {
            Kind::Bool => Self::Bool(array.as_boolean_opt()?),
            Kind::I32 => Self::I32(array.as_primitive_opt::<Int32Type>()?),
            Kind::I64 => Self::I64(array.as_primitive_opt::<Int64Type>()?),
            Kind::Ts => Self::Ts(array.as_primitive_opt::<TimestampMicrosecondType>()?),
            Kind::Str => Self::Str(Strings::of(array)?),
            Kind::Bytes => Self::Bytes(array.as_binary_opt::<i32>()?),
            Kind::StrList => {
                let lists = array.as_list_opt::<i32>()?;
                let items = Strings::of(lists.values())?;
                (lists.values().null_count() == 0).then_some(Self::StrList(lists, items))?
            }
            Kind::MaskList => {
                let lists = array.as_list_opt::<i32>()?;
                let items = lists.values().as_struct_opt()?;
                let entities = items.column_by_name("entity")?.as_string_opt::<i32>()?;
                let counts = items.column_by_name("count")?.as_primitive_opt::<Int64Type>()?;
                let whole = entities.null_count() + counts.null_count() + items.null_count() == 0;
                whole.then_some(Self::MaskList(lists, entities, counts))?
            }
        };
        let is_absent = array.null_count() == array.len();
        Some(if is_absent { Self::Absent } else { values })
    }

    /// Appends the canonical form of the value of `row`; false where it is absent.
    #[inline]
    pub(super) fn put(&self, row: usize, out: &mut Vec<u8>) -> bool {
        if self.is_null(row) {
            out.push(0);
            return false;
        }
        match self {
            Self::Absent => {}
            Self::Bool(it) => out.extend_from_slice(&[1, u8::from(it.value(row))]),
            Self::I32(it) => put_fixed(out, it.value(row).to_be_bytes()),
            Self::I64(it) => put_fixed(out, it.value(row).to_be_bytes()),
            Self::Ts(it) => put_fixed(out, it.value(row).to_be_bytes()),
            Self::Str(it) => {
                let (values, at) = it.place(row);
                put_field(out, values, at);
            }
            Self::Bytes(it) => put_field(out, it, row),
            Self::StrList(lists, items) => {
                put_list(out, lists, row, |at, out| {
                    let (values, at) = items.place(at);
                    put_bytes(out, 4, values, at);
                });
            }
            Self::MaskList(lists, entities, counts) => put_list(out, lists, row, |at, out| {
                put_bytes(out, 4, entities, at);
                out.extend_from_slice(&counts.value(at).to_be_bytes());
            }),
        }
        true
    }

    /// Whether it is there in all of so many rows and the same; false also where to say so would take long.
    pub(super) fn is_constant(&self, rows: usize) -> bool {
        match self {
            Self::Absent => true,
            Self::Bool(it) => {
                it.null_count() == 0 && [0, rows].contains(&it.values().count_set_bits())
            }
            Self::I32(it) => it.null_count() == 0 && all_same(it.values()),
            Self::I64(it) => it.null_count() == 0 && all_same(it.values()),
            Self::Ts(it) => it.null_count() == 0 && all_same(it.values()),
            Self::Str(it) => it.is_constant(),
            Self::Bytes(_) => false,
            Self::StrList(it, _) | Self::MaskList(it, _, _) => {
                it.null_count() == 0 && all_same(it.value_offsets())
            }
        }
    }

    #[inline]
    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Absent => true,
            Self::Bool(it) => it.is_null(row),
            Self::I32(it) => it.is_null(row),
            Self::I64(it) => it.is_null(row),
            Self::Ts(it) => it.is_null(row),
            Self::Str(it) => it.is_null(row),
            Self::Bytes(it) => it.is_null(row),
            Self::StrList(it, _) | Self::MaskList(it, _, _) => it.is_null(row),
        }
    }
}

fn all_same<T: PartialEq>(values: &[T]) -> bool {
    values.first().is_none_or(|first| values.iter().all(|value| value == first))
}

#[inline]
fn put_fixed<const N: usize>(out: &mut Vec<u8>, value: [u8; N]) {
    out.push(1);
    out.extend_from_slice(&value);
}

#[inline]
fn put_field<T: ByteArrayType<Offset = i32>>(
    out: &mut Vec<u8>,
    values: &GenericByteArray<T>,
    row: usize,
) {
    let start = out.len();
    put_bytes(out, 5, values, row);
    end_field(out, start);
}

fn put_list(
    out: &mut Vec<u8>,
    lists: &ListArray,
    row: usize,
    mut item: impl FnMut(usize, &mut Vec<u8>),
) {
    let start = out.len();
    out.push(1);
    let bounds = lists.value_offsets().get(row..row + 2).unwrap_or_default();
    let bound = |at: usize| bounds.get(at).and_then(|n| usize::try_from(*n).ok()).unwrap_or(0);
    put_len(out, bound(1) - bound(0));
    (bound(0)..bound(1)).for_each(|at| item(at, out));
    end_field(out, start);
}

/// Bytes that are copied at once, whatever a value's length: most are no longer, and to copy so many takes a fraction of
/// what a call takes that copies fewer.
const COPIED: usize = 32;

/// Appends a value's length and bytes: the last `head` (4 or 5) bytes of 1 and the length, and it.
#[inline]
fn put_bytes<T: ByteArrayType<Offset = i32>>(
    out: &mut Vec<u8>,
    head: usize,
    values: &GenericByteArray<T>,
    at: usize,
) {
    let bounds = values.value_offsets().get(at..at + 2).unwrap_or_default();
    let bound = |at: usize| bounds.get(at).and_then(|n| usize::try_from(*n).ok()).unwrap_or(0);
    let (from, to) = (bound(0), bound(1));
    let [a, b, c, d] = u32::try_from(to - from).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice([1, a, b, c, d].get(5 - head..).unwrap_or_default());
    let data = values.value_data();
    let copied = data.get(from..from + COPIED).and_then(<[u8]>::first_chunk::<COPIED>);
    match copied {
        Some(copied) if to - from <= COPIED => {
            let end = out.len() + (to - from);
            out.extend_from_slice(copied);
            out.truncate(end);
        }
        _ => out.extend_from_slice(data.get(from..to).unwrap_or_default()),
    }
}

/// Lengths in a Parquet page stay below i32.
#[inline]
fn put_len(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
}
