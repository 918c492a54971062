//! Rows to arrow columns.

use std::any::Any;
use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BinaryBuilder, BooleanBuilder, Int32Builder, Int64Builder, ListBuilder,
    StringBuilder, StructBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{Array, ArrayRef, DictionaryArray, Int32Array, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use arrow_select::take::take;
use journal::row::{Column, Columns, Common, Kind, Part, Row, Shared, Table, Value};
use rustc_hash::FxHashMap;

use super::{field, mask_fields, schema};

/// Rows that wait to be turned into columns at once: a column at a time, what it is made of stays near the processor.
const BLOCK_ROWS: usize = 64;

/// Bytes of long texts that wait so.
const BLOCK_BYTES: usize = 1024 * 1024;

/// Rows being turned into arrow columns, a block at a time.
pub(super) struct Batch {
    table: Table,
    columns: Vec<Builder>,
    parts: [Parts; 2],
    rows: usize,
    /// Bytes of the columns.
    bytes: usize,
    waiting: Vec<Row>,
    /// Bytes of their long texts.
    waiting_bytes: usize,
}

impl Batch {
    pub(super) fn new(table: Table) -> Self {
        Self {
            table,
            columns: table.columns().iter().map(Builder::new).collect(),
            parts: Default::default(),
            rows: 0,
            bytes: 0,
            waiting: Vec::with_capacity(BLOCK_ROWS),
            waiting_bytes: 0,
        }
    }

    pub(super) fn push(&mut self, row: Row) {
        self.waiting_bytes += row.long_bytes();
        self.waiting.push(row);
        self.rows += 1;
        if self.waiting.len() >= BLOCK_ROWS || self.waiting_bytes >= BLOCK_BYTES {
            self.settle();
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.waiting_bytes
    }

    /// The rows that came; then there are none.
    pub(super) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        self.settle();
        (self.rows, self.bytes) = (0, 0);
        let [session, statement] = self.parts.each_mut().map(Parts::finish);
        let columns = self.table.columns().iter().zip(&mut self.columns);
        let arrays = columns.map(|(column, builder)| match column.part {
            Part::Own => Ok(builder.finish()),
            Part::Session => of_rows(&session, &builder.finish()),
            Part::Statement => of_rows(&statement, &builder.finish()),
        });
        let arrays: Vec<ArrayRef> = arrays.collect::<Result<_, _>>()?;
        let fields = schema(self.table);
        let fields = fields.fields().iter().zip(&arrays);
        let fields = fields
            .map(|(field, array)| Field::clone(field).with_data_type(array.data_type().clone()));
        RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), arrays)
    }

    fn settle(&mut self) {
        let mut filled = Filled { columns: self.columns.iter_mut(), parts: &mut self.parts };
        Row::columns(self.table, &self.waiting, &mut filled);
        self.waiting.clear();
        self.waiting_bytes = 0;
        let columns = self.columns.iter().map(Builder::bytes).sum::<usize>();
        self.bytes = self.parts.iter().fold(columns, |bytes, parts| bytes + parts.bytes);
    }
}

/// The parts that rows share: each once, and which of them each row has.
#[derive(Default)]
struct Parts {
    numbers: FxHashMap<usize, i32>,
    /// With their bytes; as long as their places are names.
    kept: Vec<(Arc<dyn Any + Send + Sync>, usize)>,
    of_rows: Vec<i32>,
    /// Of all rows, each part as often as it comes: so they may be written.
    bytes: usize,
}

impl Parts {
    /// Takes a row's; whether it is new.
    fn take<T: Common>(&mut self, part: &Shared<T>) -> bool {
        let next = i32::try_from(self.kept.len()).expect("a batch has few rows");
        let number = *self.numbers.entry(part.place()).or_insert(next);
        self.of_rows.push(number);
        if number == next {
            self.kept.push((part.keep(), part.bytes()));
        }
        let kept = usize::try_from(number).ok().and_then(|number| self.kept.get(number));
        self.bytes += kept.map_or(0, |(_, bytes)| *bytes);
        number == next
    }

    /// Which part each row has; then there are none.
    fn finish(&mut self) -> Int32Array {
        self.numbers.clear();
        self.kept.clear();
        self.bytes = 0;
        let capacity = self.of_rows.len();
        std::mem::replace(&mut self.of_rows, Vec::with_capacity(capacity)).into()
    }
}

/// A column of rows from that of the parts: texts stay each once there, with all else that is more than to have them.
fn of_rows(parts: &Int32Array, values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if values.data_type() == &DataType::Utf8 {
        return Ok(Arc::new(DictionaryArray::try_new(parts.clone(), Arc::clone(values))?));
    }
    take(values, parts, None)
}

/// The columns that are still to be filled, and the parts.
struct Filled<'a> {
    columns: std::slice::IterMut<'a, Builder>,
    parts: &'a mut [Parts; 2],
}

impl<'a> Columns<'a> for Filled<'_> {
    fn column(&mut self, values: impl Iterator<Item = Value<'a>>) {
        if let Some(builder) = self.columns.next() {
            builder.fill(values);
        }
    }

    fn parts<T: Common>(
        &mut self,
        part: Part,
        rows: impl Iterator<Item = &'a Shared<T>>,
    ) -> Vec<&'a T> {
        let [session, statement] = &mut *self.parts;
        let parts = match part {
            Part::Own => return Vec::new(),
            Part::Session => session,
            Part::Statement => statement,
        };
        rows.filter(|row| parts.take(row)).map(|row| &**row).collect()
    }
}

/// Appends values to a builder, and absent ones as many at once as come one after the other.
macro_rules! fill {
    ($builder:expr, $values:expr, $kind:ident($it:ident) => $append:expr) => {{
        let mut absent = 0;
        for value in $values {
            // A row's value is of its column's type.
            let Value::$kind($it) = value else {
                absent += 1;
                continue;
            };
            if absent > 0 {
                $builder.append_nulls(std::mem::take(&mut absent));
            }
            $append;
        }
        $builder.append_nulls(absent);
    }};
}

/// One column being built.
enum Builder {
    Bool(BooleanBuilder),
    I32(Int32Builder),
    I64(Int64Builder),
    Ts(TimestampMicrosecondBuilder),
    Str(StringBuilder),
    Bytes(BinaryBuilder),
    StrList(ListBuilder<StringBuilder>),
    MaskList(ListBuilder<StructBuilder>),
}

impl Builder {
    fn new(column: &Column) -> Self {
        let element = || match field(column).data_type() {
            DataType::List(element) => Arc::clone(element),
            _ => Arc::new(Field::new("element", DataType::Utf8, true)),
        };
        match column.kind {
            Kind::Bool => Self::Bool(BooleanBuilder::new()),
            Kind::I32 => Self::I32(Int32Builder::new()),
            Kind::I64 => Self::I64(Int64Builder::new()),
            Kind::Ts => Self::Ts(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            Kind::Str => Self::Str(StringBuilder::new()),
            Kind::Bytes => Self::Bytes(BinaryBuilder::new()),
            Kind::StrList => {
                Self::StrList(ListBuilder::new(StringBuilder::new()).with_field(element()))
            }
            Kind::MaskList => {
                let items = StructBuilder::from_fields(mask_fields(column), 0);
                Self::MaskList(ListBuilder::new(items).with_field(element()))
            }
        }
    }

    fn fill<'a>(&mut self, values: impl Iterator<Item = Value<'a>>) {
        match self {
            Self::Bool(b) => fill!(b, values, Bool(it) => b.append_value(it)),
            Self::I32(b) => fill!(b, values, I32(it) => b.append_value(it)),
            Self::I64(b) => fill!(b, values, I64(it) => b.append_value(it)),
            Self::Ts(b) => fill!(b, values, Ts(it) => b.append_value(it.0)),
            Self::Str(b) => fill!(b, values, Str(it) => b.append_value(it)),
            Self::Bytes(b) => fill!(b, values, Bytes(it) => b.append_value(it)),
            Self::StrList(b) => fill!(b, values, StrList(items) => {
                for item in items {
                    b.values().append_value(item);
                }
                b.append(true);
            }),
            Self::MaskList(b) => fill!(b, values, MaskList(items) => {
                for item in items {
                    let fields = b.values();
                    if let Some(entity) = fields.field_builder::<StringBuilder>(0) {
                        entity.append_value(&item.entity);
                    }
                    if let Some(count) = fields.field_builder::<Int64Builder>(1) {
                        count.append_value(item.count);
                    }
                    fields.append(true);
                }
                b.append(true);
            }),
        }
    }

    /// Bytes of its values, about.
    fn bytes(&self) -> usize {
        match self {
            Self::Bool(b) => b.len() / 8,
            Self::I32(b) => 4 * b.len(),
            Self::I64(b) => 8 * b.len(),
            Self::Ts(b) => 8 * b.len(),
            Self::Str(b) => 4 * b.len() + b.values_slice().len(),
            Self::Bytes(b) => 4 * b.len() + b.values_slice().len(),
            Self::StrList(b) => 4 * b.len() + b.values_ref().values_slice().len(),
            Self::MaskList(b) => 16 * b.values_ref().len(),
        }
    }

    /// The column; then it is empty, with room for as many values again: to grow by doubling would copy each of them once more.
    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Bool(b) => Arc::new(b.finish()),
            Self::I32(b) => {
                let next = Int32Builder::with_capacity(b.len());
                Arc::new(std::mem::replace(b, next).finish())
            }
            Self::I64(b) => {
                let next = Int64Builder::with_capacity(b.len());
                Arc::new(std::mem::replace(b, next).finish())
            }
            Self::Ts(b) => {
                let next = TimestampMicrosecondBuilder::with_capacity(b.len()).with_timezone("UTC");
                Arc::new(std::mem::replace(b, next).finish())
            }
            Self::Str(b) => {
                let bytes = b.values_slice().len();
                let next = StringBuilder::with_capacity(b.len(), bytes + bytes / 8);
                Arc::new(std::mem::replace(b, next).finish())
            }
            Self::Bytes(b) => Arc::new(b.finish()),
            Self::StrList(b) => Arc::new(b.finish()),
            Self::MaskList(b) => Arc::new(b.finish()),
        }
    }
}
