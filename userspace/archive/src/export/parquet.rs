//! OCSF events as Parquet: the attributes as columns, objects as structs, `unmapped` as JSON text.

use std::fs::File;
use std::sync::Arc;

use arrow_array::builder::{Int32Builder, Int64Builder, ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch, StructArray};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use serde_json::Value;

use crate::writer::{ROW_GROUP_ROWS, WriteError};

/// Events turned into columns at once; each is a few KiB of values, 16 MiB.
const BATCH_ROWS: usize = 4096;

/// A file of one class being written.
pub(super) struct Events {
    schema: Arc<Schema>,
    writer: ArrowWriter<File>,
    batch: Vec<Value>,
}

impl Events {
    pub(super) fn create(file: File) -> Result<Self, WriteError> {
        let schema = Arc::new(Schema::new(fields()));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .build();
        let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties))?;
        Ok(Self { schema, writer, batch: Vec::with_capacity(BATCH_ROWS) })
    }

    pub(super) fn push(&mut self, event: Value) -> Result<(), WriteError> {
        self.batch.push(event);
        if self.batch.len() >= BATCH_ROWS { self.write() } else { Ok(()) }
    }

    pub(super) fn finish(mut self) -> Result<(), WriteError> {
        self.write()?;
        self.writer.close()?;
        Ok(())
    }

    fn write(&mut self) -> Result<(), WriteError> {
        let events: Vec<Option<&Value>> = self.batch.iter().map(Some).collect();
        let columns = columns(self.schema.fields(), &events).map_err(ParquetError::from)?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns);
        self.writer.write(&batch.map_err(ParquetError::from)?)?;
        self.batch.clear();
        Ok(())
    }
}

fn columns(fields: &Fields, objects: &[Option<&Value>]) -> Result<Vec<ArrayRef>, ArrowError> {
    let column = |field: &Arc<Field>| {
        let values: Vec<Option<&Value>> = objects
            .iter()
            .map(|object| object.and_then(|object| object.get(field.name())))
            .collect();
        array(field, &values)
    };
    fields.iter().map(column).collect()
}

fn array(field: &Field, values: &[Option<&Value>]) -> Result<ArrayRef, ArrowError> {
    Ok(match field.data_type() {
        DataType::Int32 => {
            let mut built = Int32Builder::new();
            let int = |value: &Value| value.as_i64().and_then(|value| i32::try_from(value).ok());
            built.extend(values.iter().map(|value| value.and_then(int)));
            Arc::new(built.finish())
        }
        DataType::Int64 => {
            let mut built = Int64Builder::new();
            built.extend(values.iter().map(|value| value.and_then(Value::as_i64)));
            Arc::new(built.finish())
        }
        DataType::List(_) => {
            let mut built = ListBuilder::new(StringBuilder::new());
            for value in values {
                let items = value.and_then(Value::as_array);
                for item in items.into_iter().flatten() {
                    built.values().append_option(item.get("name").and_then(Value::as_str));
                }
                built.append(items.is_some());
            }
            Arc::new(built.finish())
        }
        DataType::Struct(fields) => {
            Arc::new(StructArray::try_new(fields.clone(), columns(fields, values)?, None)?)
        }
        _ => {
            let mut built = StringBuilder::new();
            for value in values {
                match value {
                    Some(Value::String(text)) => built.append_value(text),
                    Some(value) => built.append_value(value.to_string()),
                    None => built.append_null(),
                }
            }
            Arc::new(built.finish())
        }
    })
}

/// The attributes of all classes that events are of.
fn fields() -> Fields {
    let ints = [
        "category_uid",
        "class_uid",
        "activity_id",
        "severity_id",
        "status_id",
        "action_id",
        "disposition_id",
    ];
    let longs = ["type_uid", "time", "end_time", "duration"];
    let texts =
        ["category_name", "class_name", "activity_name", "status_code", "status_detail", "message"];
    let groups = Field::new(
        "groups",
        DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))),
        true,
    );
    let user = Fields::from(vec![text("name"), text("uid"), groups]);
    let actor = vec![
        text("app_name"),
        text("app_uid"),
        Field::new("user", DataType::Struct(user), true),
        object("idp", vec![text("name")]),
        object("session", vec![text("uid")]),
        object("process", vec![int("pid"), object("file", vec![text("path")])]),
    ];
    let product = object("product", vec![text("name"), text("vendor_name"), text("version")]);
    let metadata = vec![
        text("version"),
        product,
        text("uid"),
        text("log_name"),
        long("sequence"),
        text("event_code"),
    ];
    let mut fields: Vec<Field> = ints.into_iter().map(int).collect();
    fields.extend(longs.into_iter().map(long));
    fields.extend(texts.into_iter().map(text));
    fields.extend([
        object("metadata", metadata),
        object("actor", actor),
        object("src_endpoint", vec![text("ip"), int("port")]),
        object("dst_endpoint", vec![text("ip"), int("port"), text("hostname"), text("svc_name")]),
        object("policy", vec![text("uid"), text("version")]),
        object("query_info", vec![text("query_string")]),
        object("database", vec![text("name")]),
        object("table", vec![text("name")]),
        object("http_request", vec![text("http_method"), object("url", vec![text("path")])]),
        object("query", vec![text("hostname"), text("type")]),
        text("unmapped"),
    ]);
    Fields::from(fields)
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn int(name: &str) -> Field {
    Field::new(name, DataType::Int32, true)
}

fn long(name: &str) -> Field {
    Field::new(name, DataType::Int64, true)
}

fn object(name: &str, fields: Vec<Field>) -> Field {
    Field::new(name, DataType::Struct(Fields::from(fields)), true)
}
