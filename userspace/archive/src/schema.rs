//! The tables' schema as a text: what auditors' programs may rely on. A version of it never changes; a column more is another
//! version (`docs/schema`).

use journal::row::{Column, Table};
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::{ColumnDescriptor, Type};
use serde::Serialize;

use crate::writer;
use crate::{layout, texts};

/// The version that is written: in files as `vestibule.schema`, and in the name of the text.
pub const VERSION: u32 = 1;

/// The schema of all tables.
#[derive(Debug, Serialize)]
struct Schema {
    version: u32,
    tables: Vec<TableSchema>,
}

#[derive(Debug, Serialize)]
struct TableSchema {
    name: &'static str,
    /// Below the archive's folder.
    path: String,
    partitions: [&'static str; 2],
    columns: Vec<ColumnSchema>,
}

#[derive(Debug, Serialize)]
struct ColumnSchema {
    name: &'static str,
    field_id: i32,
    r#type: &'static str,
    nullable: bool,
    /// Files of before a column was added lack it; those of the first version lack none that says so.
    always_there: bool,
    /// As Parquet has it: one, but for lists of structures.
    leaves: Vec<Leaf>,
}

#[derive(Debug, Serialize)]
struct Leaf {
    path: String,
    field_id: i32,
    physical: String,
    logical: Option<&'static str>,
    repetition: &'static str,
    encoding: String,
    compression: &'static str,
    statistics: &'static str,
    bloom_filter: bool,
}

/// The text's path below the archive's folder.
pub fn path() -> String {
    format!("{}/schema/v{VERSION}.json", layout::STANDARD)
}

/// The schema as JSON: names, types, field ids, order, nullability and encodings of all tables.
///
/// # Errors
/// If the encoder does not know a type.
pub fn text() -> Result<String, ParquetError> {
    let tables = Table::ALL.into_iter().map(table).collect::<Result<_, _>>()?;
    let text = serde_json::to_string_pretty(&Schema { version: VERSION, tables })
        .map_err(|error| ParquetError::External(Box::new(error)))?;
    Ok(text + "\n")
}

fn table(table: Table) -> Result<TableSchema, ParquetError> {
    let schema = writer::schema(table);
    let parquet = ArrowSchemaConverter::new().convert(&schema)?;
    let properties = writer::properties_of(table)?;
    let mut columns = Vec::new();
    for (at, column) in table.columns().iter().enumerate() {
        let Column { name, kind, nullable, field_id, part: _ } = *column;
        let own = parquet
            .columns()
            .iter()
            .filter(|leaf| leaf.path().parts().first().is_some_and(|part| part == name));
        let leaves = own.map(|one| leaf(one, &properties)).collect::<Result<_, _>>()?;
        let always_there = at < table.first_columns();
        let r#type = texts::sql_type(kind);
        columns.push(ColumnSchema { name, field_id, r#type, nullable, always_there, leaves });
    }
    let path = format!("{}/table={}", texts::class(table), table.as_str());
    Ok(TableSchema { name: table.as_str(), path, partitions: ["dt", "node"], columns })
}

fn leaf(column: &ColumnDescriptor, properties: &WriterProperties) -> Result<Leaf, ParquetError> {
    let own: &Type = column.self_type();
    let info = own.get_basic_info();
    let path = column.path();
    let logical = match info.logical_type_ref() {
        None => None,
        Some(LogicalType::String) => Some("STRING"),
        Some(LogicalType::Timestamp(of))
            if of.is_adjusted_to_u_t_c && of.unit == TimeUnit::MICROS =>
        {
            Some("TIMESTAMP(MICROS, UTC)")
        }
        Some(other) => return Err(ParquetError::NYI(format!("{other:?} is no type of ours"))),
    };
    let encoding = match (properties.dictionary_enabled(path), properties.encoding(path)) {
        (true, _) => "RLE_DICTIONARY, then PLAIN".to_owned(),
        (false, None) => "PLAIN".to_owned(),
        (false, Some(encoding)) => encoding.to_string(),
    };
    Ok(Leaf {
        path: path.string(),
        field_id: if info.has_id() { info.id() } else { 0 },
        physical: column.physical_type().to_string(),
        logical,
        repetition: match info.repetition() {
            Repetition::REQUIRED => "REQUIRED",
            Repetition::OPTIONAL => "OPTIONAL",
            Repetition::REPEATED => "REPEATED",
        },
        encoding,
        compression: match properties.compression(path) {
            Compression::UNCOMPRESSED => "UNCOMPRESSED",
            Compression::ZSTD(_) => "ZSTD",
            other => return Err(ParquetError::NYI(format!("{other} is no codec of ours"))),
        },
        statistics: match properties.statistics_enabled(path) {
            EnabledStatistics::None => "none",
            EnabledStatistics::Chunk => "chunk",
            EnabledStatistics::Page => "page",
        },
        bloom_filter: properties.bloom_filter_properties(path).is_some(),
    })
}
