//! Which values the columns of a statement meet: what they are compared with, and what is written into them.
//!
//! Values flow as columns do ([`Flow`]): through casts, functions, lists, queries and what is joined. A value counts for
//! a column where both come together in a comparison, or where it is written there.

use std::collections::{BTreeMap, BTreeSet};

use pg_query::protobuf::{AConst, a_const};
use types::command::{Access, ColumnName, Compared, Comparisons, ValueAt};
use types::limits::BLIND_TOKENS_MAX;

use super::lineage::Flow;
use super::shape::Shape;

/// Columns and values that are noted of one statement while it is looked at: 8,192 × about 16 B = 128 KiB.
const PAIRS_MAX: usize = 8_192;

/// Columns that are noted: as many as one flow has.
const COLUMNS_MAX: usize = 256;

/// What is kept of the pairs, beside two for each value: 8 B each of texts that have at least two bytes for a value
/// (`cache` has the arithmetic).
const PAIRS_KEPT: usize = 64;

/// What was met so far.
#[derive(Debug, Default)]
pub(super) struct Met {
    /// Whether anybody wants to know.
    is_kept: bool,
    values: Vec<Value>,
    columns: BTreeMap<ColumnName, BTreeSet<u32>>,
    /// Compared with columns that could not be told.
    lost: BTreeSet<u32>,
    /// Of an EXECUTE.
    arguments: Vec<BTreeSet<u32>>,
    pairs: usize,
    is_cut: bool,
}

/// A value of the text, or one that is bound.
#[derive(Debug)]
enum Value {
    Parameter(u32),
    Constant { place: i32, text: Box<str> },
}

impl Met {
    /// Keeps values, or none.
    pub(super) fn keeping(is_kept: bool) -> Self {
        Self { is_kept, ..Self::default() }
    }

    /// Whether values are kept.
    pub(super) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// A constant, as a flow; none of what is no value, such as NULL.
    pub(super) fn constant(&mut self, constant: &AConst) -> Flow {
        let text: Box<str> = match &constant.val {
            _ if !self.is_kept || constant.isnull => return Flow::default(),
            Some(a_const::Val::Ival(value)) => value.ival.to_string().into(),
            Some(a_const::Val::Fval(value)) => value.fval.as_str().into(),
            Some(a_const::Val::Sval(value)) => value.sval.as_str().into(),
            Some(a_const::Val::Boolval(_) | a_const::Val::Bsval(_)) | None => {
                return Flow::default();
            }
        };
        self.value(Value::Constant { place: constant.location, text })
    }

    /// A parameter, as a flow.
    pub(super) fn parameter(&mut self, number: i32) -> Flow {
        match u32::try_from(number) {
            Ok(number @ 1..) if self.is_kept => self.value(Value::Parameter(number)),
            _ => Flow::default(),
        }
    }

    fn value(&mut self, value: Value) -> Flow {
        let Ok(number) = u32::try_from(self.values.len()) else { return Flow::default() };
        self.values.push(value);
        Flow::value(number)
    }

    /// Notes that two come together: each one's columns meet the other's values.
    pub(super) fn compare(&mut self, one: &Flow, other: &Flow) {
        if self.is_kept {
            self.meet(one, other);
            self.meet(other, one);
        }
    }

    /// Notes that a column has values written into it.
    pub(super) fn write(&mut self, column: &ColumnName, written: &Flow) {
        let (values, many) = written.values();
        if self.is_kept {
            self.add(column, values, many);
        }
    }

    /// Notes what an EXECUTE hands over, argument by argument.
    pub(super) fn argument(&mut self, argument: &Flow) {
        let (values, many) = argument.values();
        if self.is_kept && self.arguments.len() < COLUMNS_MAX {
            self.arguments.push(values.clone());
            self.is_cut |= many;
        } else {
            self.is_cut |= self.is_kept;
        }
    }

    fn meet(&mut self, columns: &Flow, values: &Flow) {
        let (values, many) = values.values();
        if values.is_empty() {
            return;
        }
        let (named, lost) = columns.named();
        for column in named {
            self.add(column, values, many);
        }
        if lost {
            self.lost.extend(values.iter().take(BLIND_TOKENS_MAX));
            self.is_cut |= many || self.lost.len() >= BLIND_TOKENS_MAX;
        }
    }

    fn add(&mut self, column: &ColumnName, values: &BTreeSet<u32>, many: bool) {
        let room = PAIRS_MAX.saturating_sub(self.pairs);
        let is_new = !self.columns.contains_key(column);
        if values.is_empty() || is_new && self.columns.len() >= COLUMNS_MAX {
            self.is_cut |= !values.is_empty();
            return;
        }
        let met = self.columns.entry(column.clone()).or_default();
        let before = met.len();
        met.extend(values.iter().take(room));
        self.pairs += met.len() - before;
        self.is_cut |= many || values.len() > room;
    }

    /// What is known at the end, of a text that is one statement's alone where it has a shape.
    pub(super) fn told(
        self,
        shape: Option<(&Shape, &[u8])>,
        accesses: &BTreeSet<Access>,
    ) -> Comparisons {
        let Self { is_kept: _, values, mut columns, lost, arguments, pairs: _, mut is_cut } = self;
        if !lost.is_empty() {
            // They may be any of those that are touched.
            for table in accesses.iter().filter_map(|access| access.table.clone()) {
                let column = ColumnName { table, column: "*".into() };
                columns.entry(column).or_default().extend(&lost);
            }
        }
        let mut places =
            Places { shape, values: &values, constants: Vec::new(), known: BTreeMap::new() };
        let mut room = 2 * values.len() + PAIRS_KEPT;
        let mut told = Vec::with_capacity(columns.len());
        for (column, met) in columns {
            is_cut |= met.len() > room;
            let values: Vec<ValueAt> =
                met.into_iter().take(room).filter_map(|value| places.of(value)).collect();
            room -= values.len();
            told.push(Compared { column, values });
        }
        let arguments = arguments
            .into_iter()
            .map(|values| values.into_iter().filter_map(|value| places.of(value)).collect())
            .collect();
        Comparisons { columns: told, constants: places.constants, arguments, is_cut }
    }
}

/// Where values stand.
struct Places<'v> {
    shape: Option<(&'v Shape, &'v [u8])>,
    values: &'v [Value],
    constants: Vec<Box<str>>,
    known: BTreeMap<u32, ValueAt>,
}

impl Places<'_> {
    fn of(&mut self, number: u32) -> Option<ValueAt> {
        if let Some(known) = self.known.get(&number) {
            return Some(*known);
        }
        let at = match self.values.get(usize::try_from(number).ok()?)? {
            Value::Parameter(number) => ValueAt::Parameter(*number),
            Value::Constant { place, text } => {
                if let Some(plain) = self.plain(*place) {
                    plain
                } else {
                    self.constants.push(text.clone());
                    ValueAt::Constant(u32::try_from(self.constants.len() - 1).ok()?)
                }
            }
        };
        self.known.insert(number, at);
        Some(at)
    }

    fn plain(&self, place: i32) -> Option<ValueAt> {
        let (shape, text) = self.shape?;
        let (at, is_negative) = shape.at(text, place)?;
        Some(ValueAt::Plain { at: u32::try_from(at).ok()?, is_negative })
    }
}
