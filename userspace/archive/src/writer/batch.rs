//! Rows to arrow columns.

use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BinaryBuilder, BooleanBuilder, Int32Builder, Int64Builder, ListBuilder,
    StringBuilder, StructBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field};
use journal::row::{Column, Columns, Kind, Row, Table, Value};

use super::{field, mask_fields, schema};

/// Rows that wait to be turned into columns at once: a column at a time, what it is made of stays near the processor.
const BLOCK_ROWS: usize = 64;

/// Bytes of long texts that wait so.
const BLOCK_BYTES: usize = 1024 * 1024;

/// Rows being turned into arrow columns, a block at a time.
pub(super) struct Batch {
    table: Table,
    columns: Vec<Builder>,
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
        let columns = self.columns.iter_mut().map(Builder::finish).collect();
        RecordBatch::try_new(schema(self.table), columns)
    }

    fn settle(&mut self) {
        let mut filled = Filled(self.columns.iter_mut());
        Row::columns(self.table, &self.waiting, &mut filled);
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.bytes = self.columns.iter().map(Builder::bytes).sum();
    }
}

/// The columns that are still to be filled.
struct Filled<'a>(std::slice::IterMut<'a, Builder>);

impl<'a> Columns<'a> for Filled<'_> {
    fn column(&mut self, values: impl Iterator<Item = Value<'a>>) {
        if let Some(builder) = self.0.next() {
            builder.fill(values);
        }
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
