//! What lies in one column of one row group, page by page: the least and the greatest value, whether there is any, and how
//! many are absent. Of values that stand in a dictionary each is looked at once a batch and page.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef};

use crate::verify::columns::Strings;

/// A value as statistics compare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key<'a> {
    Int(i64),
    Bytes(&'a [u8]),
}

/// The least and the greatest value of some rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bounds {
    Int(i64, i64),
    Bytes(Vec<u8>, Vec<u8>),
}

/// What a leaf column holds in a row group.
pub(super) struct Seen<'a> {
    /// The first row of each page, in order; empty where no index says so.
    starts: Vec<usize>,
    /// Of each page, or of all rows where no index says what those are; `None` where all is absent.
    pub(super) pages: Vec<Option<Bounds>>,
    /// Rows that have no value.
    pub(super) nulls: u64,
    /// Whether all values are in the Bloom filter.
    pub(super) is_held: bool,
    /// Whether the Bloom filter, where there is one, holds a value.
    holds: Option<Holds<'a>>,
    /// Which field it is, where the column is of lists of several.
    field: usize,
}

/// Whether a Bloom filter holds a value.
pub(super) type Holds<'a> = Box<dyn Fn(Key<'_>) -> bool + 'a>;

impl<'a> Seen<'a> {
    /// Nothing yet, of pages that begin with these rows.
    pub(super) fn new(starts: Vec<usize>, holds: Option<Holds<'a>>, field: usize) -> Self {
        let pages = vec![None; starts.len().max(1)];
        Self { starts, pages, nulls: 0, is_held: true, holds, field }
    }

    /// The least and the greatest value of all pages.
    pub(super) fn bounds(&self) -> Option<Bounds> {
        let mut all = None;
        for page in self.pages.iter().flatten() {
            let (least, greatest) = page.keys();
            widen(&mut all, least);
            widen(&mut all, greatest);
        }
        all
    }

    /// Takes a batch's values of the column whose first row is the group's row `first`; `None` where they are of no kind of ours.
    pub(super) fn take(&mut self, array: &ArrayRef, first: usize) -> Option<()> {
        let mut row = 0;
        while row < array.len() {
            let page = self.starts.partition_point(|start| *start <= first + row).max(1) - 1;
            let next = self.starts.get(page + 1).map_or(usize::MAX, |next| *next - first);
            let rows = row..next.min(array.len());
            row = rows.end;
            self.take_page(array, rows, page)?;
        }
        Some(())
    }

    fn take_page(&mut self, array: &ArrayRef, rows: Range<usize>, page: usize) -> Option<()> {
        let Some(list) = array.as_list_opt::<i32>() else {
            return self.take_values(array, rows, page);
        };
        let nulls = rows.clone().filter(|row| list.is_null(*row)).count();
        self.nulls += u64::try_from(nulls).ok()?;
        // What is absent has no items, as the decoder makes it.
        let bound = |row: usize| usize::try_from(*list.value_offsets().get(row)?).ok();
        let items = bound(rows.start)?..bound(rows.end)?;
        match list.values().as_struct_opt() {
            Some(fields) => self.take_values(fields.columns().get(self.field)?, items, page),
            None => self.take_values(list.values(), items, page),
        }
    }

    fn take_values(&mut self, array: &ArrayRef, rows: Range<usize>, page: usize) -> Option<()> {
        let mut within = Within { seen: self, page, nulls: 0 };
        let is = |row: usize| !array.is_null(row);
        if let Some(it) = array.as_primitive_opt::<Int64Type>() {
            within.ints(rows.map(|row| is(row).then(|| it.value(row))));
        } else if let Some(it) = array.as_primitive_opt::<Int32Type>() {
            within.ints(rows.map(|row| is(row).then(|| it.value(row).into())));
        } else if let Some(it) = array.as_primitive_opt::<TimestampMicrosecondType>() {
            within.ints(rows.map(|row| is(row).then(|| it.value(row))));
        } else if let Some(it) = array.as_boolean_opt() {
            within.ints(rows.map(|row| is(row).then(|| it.value(row).into())));
        } else if let Some(it) = array.as_binary_opt::<i32>() {
            within.bytes(rows.map(|row| is(row).then(|| it.value(row))));
        } else {
            let it = Strings::of(array)?;
            let mut known = vec![false; it.places()];
            within.bytes(rows.filter_map(|row| {
                let Some(value) = it.get(row) else { return Some(None) };
                let is_known = known
                    .get_mut(it.place(row).1)
                    .is_some_and(|known| std::mem::replace(known, true));
                (!is_known).then_some(Some(value.as_bytes()))
            }));
        }
        let nulls = within.nulls;
        self.nulls += nulls;
        Some(())
    }
}

/// A page of what is seen.
struct Within<'s, 'a> {
    seen: &'s mut Seen<'a>,
    page: usize,
    nulls: u64,
}

impl Within<'_, '_> {
    fn ints(&mut self, values: impl Iterator<Item = Option<i64>>) {
        self.keys(values.map(|value| value.map(Key::Int)));
    }

    fn bytes<'v>(&mut self, values: impl Iterator<Item = Option<&'v [u8]>>) {
        self.keys(values.map(|value| value.map(Key::Bytes)));
    }

    fn keys<'v>(&mut self, values: impl Iterator<Item = Option<Key<'v>>>) {
        let mut bounds: Option<(Key<'v>, Key<'v>)> = None;
        for key in values {
            let Some(key) = key else {
                self.nulls += 1;
                continue;
            };
            let (least, greatest) = bounds.unwrap_or((key, key));
            bounds = Some((least.min(key), greatest.max(key)));
            if let Some(holds) = &self.seen.holds {
                self.seen.is_held = self.seen.is_held && holds(key);
            }
        }
        if let (Some((least, greatest)), Some(page)) = (bounds, self.seen.pages.get_mut(self.page))
        {
            widen(page, least);
            widen(page, greatest);
        }
    }
}

impl Bounds {
    /// The least and the greatest.
    pub(super) fn keys(&self) -> (Key<'_>, Key<'_>) {
        match self {
            Self::Int(least, greatest) => (Key::Int(*least), Key::Int(*greatest)),
            Self::Bytes(least, greatest) => (Key::Bytes(least), Key::Bytes(greatest)),
        }
    }
}

fn widen(bounds: &mut Option<Bounds>, key: Key<'_>) {
    match (bounds, key) {
        (bounds @ None, Key::Int(value)) => *bounds = Some(Bounds::Int(value, value)),
        (bounds @ None, Key::Bytes(value)) => {
            *bounds = Some(Bounds::Bytes(value.to_vec(), value.to_vec()));
        }
        (Some(Bounds::Int(least, greatest)), Key::Int(value)) => {
            (*least, *greatest) = (value.min(*least), value.max(*greatest));
        }
        (Some(Bounds::Bytes(least, greatest)), Key::Bytes(value)) => {
            if value < least.as_slice() {
                *least = value.to_vec();
            }
            if value > greatest.as_slice() {
                *greatest = value.to_vec();
            }
        }
        // A column's values are of one kind.
        (Some(_), _) => {}
    }
}
