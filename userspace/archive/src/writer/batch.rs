//! Rows to arrow columns.

use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BinaryBuilder, BooleanBuilder, Int32Builder, Int64Builder, ListBuilder,
    StringBuilder, StructBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field};
use journal::row::{Column as Declared, Kind, Row, Table, Value};

use super::{field, mask_fields, schema};

/// Rows being turned into arrow columns, each as it comes: none is kept.
pub(super) struct Batch {
    table: Table,
    columns: Vec<Column>,
    rows: usize,
    /// Bytes of their texts.
    bytes: usize,
}

/// A column, and how many values behind what is built are absent: most columns of most rows are.
struct Column {
    built: Builder,
    absent: usize,
}

impl Batch {
    pub(super) fn new(table: Table) -> Self {
        Self {
            table,
            columns: table.columns().iter().map(Column::new).collect(),
            rows: 0,
            bytes: 0,
        }
    }

    pub(super) fn push(&mut self, row: &Row) {
        let Self { columns, bytes, .. } = self;
        let mut next = columns.iter_mut();
        row.visit(&mut |value| {
            if let Some(column) = next.next() {
                *bytes += text_bytes(&value);
                column.push(value);
            }
        });
        self.rows += 1;
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rows that came; then there are none.
    pub(super) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        (self.rows, self.bytes) = (0, 0);
        let columns = self.columns.iter_mut().map(Column::finish).collect();
        RecordBatch::try_new(schema(self.table), columns)
    }
}

/// Bytes of a value, where it is of texts; those make a row's size.
fn text_bytes(value: &Value<'_>) -> usize {
    match value {
        Value::Str(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::StrList(items) => items.iter().map(|item| item.len() + 24).sum(),
        _ => 8,
    }
}

impl Column {
    fn new(declared: &Declared) -> Self {
        Self { built: Builder::new(declared), absent: 0 }
    }

    #[inline]
    fn push(&mut self, value: Value<'_>) {
        if value == Value::Null {
            self.absent += 1;
            return;
        }
        if self.absent > 0 {
            self.built.push_nulls(std::mem::take(&mut self.absent));
        }
        self.built.push(value);
    }

    fn finish(&mut self) -> ArrayRef {
        self.built.push_nulls(std::mem::take(&mut self.absent));
        self.built.finish()
    }
}

/// What is there of a column.
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
    fn new(column: &Declared) -> Self {
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

    fn push(&mut self, value: Value<'_>) {
        match (self, value) {
            (Self::Bool(b), Value::Bool(v)) => b.append_value(v),
            (Self::I32(b), Value::I32(v)) => b.append_value(v),
            (Self::I64(b), Value::I64(v)) => b.append_value(v),
            (Self::Ts(b), Value::Ts(v)) => b.append_value(v.0),
            (Self::Str(b), Value::Str(v)) => b.append_value(v),
            (Self::Bytes(b), Value::Bytes(v)) => b.append_value(v),
            (Self::StrList(b), Value::StrList(items)) => {
                for item in items {
                    b.values().append_value(item);
                }
                b.append(true);
            }
            (Self::MaskList(b), Value::MaskList(items)) => {
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
            }
            // A row's value is of its column's type.
            (builder, _) => builder.push_nulls(1),
        }
    }

    fn push_nulls(&mut self, count: usize) {
        match self {
            Self::Bool(b) => b.append_nulls(count),
            Self::I32(b) => b.append_nulls(count),
            Self::I64(b) => b.append_nulls(count),
            Self::Ts(b) => b.append_nulls(count),
            Self::Str(b) => b.append_nulls(count),
            Self::Bytes(b) => b.append_nulls(count),
            Self::StrList(b) => b.append_nulls(count),
            Self::MaskList(b) => b.append_nulls(count),
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
