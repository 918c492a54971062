//! Opens a Parquet file such that strings stay in its dictionaries.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Schema};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Encoding;
use parquet::errors::Result;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::reader::ChunkReader;
use parquet::file::statistics::Statistics;

/// A file's rows in batches of at most `rows`; its strings are as they lie, see [`super::Strings`].
pub(crate) fn reader<T: ChunkReader + 'static>(
    file: T,
    rows: usize,
) -> Result<ParquetRecordBatchReader> {
    builder(file)?.with_batch_size(rows).build()
}

/// The same of one group of its rows.
pub(crate) fn group_reader<T: ChunkReader + 'static>(
    file: T,
    group: usize,
    rows: usize,
) -> Result<ParquetRecordBatchReader> {
    builder(file)?.with_row_groups(vec![group]).with_batch_size(rows).build()
}

fn builder<T: ChunkReader + 'static>(file: T) -> Result<ParquetRecordBatchReaderBuilder<T>> {
    let plain = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())?;
    let in_dictionaries = in_dictionaries(plain.metadata());
    let fields = plain.schema().fields().iter().map(|field| {
        if in_dictionaries.contains(field.name().as_str()) {
            with_places(field)
        } else {
            Arc::clone(field)
        }
    });
    let schema = Schema::new(fields.collect::<Vec<_>>());
    let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
    let metadata =
        ArrowReaderMetadata::try_new(Arc::clone(plain.metadata()), options).unwrap_or(plain);
    Ok(ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata))
}

/// The columns all of whose pages are places in a dictionary. Where the file says so and it is not so, the decoder makes a
/// dictionary of what it finds.
fn in_dictionaries(metadata: &ParquetMetaData) -> BTreeSet<&str> {
    let columns = metadata.file_metadata().schema_descr().columns().iter().enumerate();
    let all = columns.filter(|(at, _)| {
        let groups = metadata.row_groups().iter();
        let chunks: Option<Vec<_>> = groups.map(|group| group.columns().get(*at)).collect();
        chunks.is_some_and(|chunks| chunks.into_iter().all(is_in_dictionary))
    });
    all.filter_map(|(_, column)| column.path().parts().first().map(String::as_str)).collect()
}

fn is_in_dictionary(chunk: &ColumnChunkMetaData) -> bool {
    let is_empty = chunk
        .statistics()
        .and_then(Statistics::null_count_opt)
        .is_some_and(|nulls| i64::try_from(nulls) == Ok(chunk.num_values()));
    let encodings = chunk.page_encoding_stats_mask();
    !is_empty && encodings.is_some_and(|mask| mask.is_only(Encoding::RLE_DICTIONARY))
}

/// A field of strings, or of lists of them, as places in a dictionary.
fn with_places(field: &FieldRef) -> FieldRef {
    let as_places = |field: &Field| {
        let places = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        Arc::new(field.clone().with_data_type(places))
    };
    match field.data_type() {
        DataType::Utf8 => as_places(field),
        DataType::List(items) if *items.data_type() == DataType::Utf8 => {
            let items = as_places(items);
            Arc::new(field.as_ref().clone().with_data_type(DataType::List(items)))
        }
        _ => Arc::clone(field),
    }
}
