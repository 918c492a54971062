//! Is it true what a rewritten file says of its rows? Readers skip row groups and pages by their least and
//! greatest values, their counts of nulls and their Bloom filters: where those lie, a query misses rows that
//! are there.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef};
use journal::row::Table;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::bloom_filter::Sbbf;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::{ReadOptionsBuilder, SerializedFileReader};
use parquet::file::statistics::Statistics;

/// What our own writer calls itself.
const OURS: &str = "vestibule ";

/// A value as statistics compare it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Int(i64),
    Bytes(Vec<u8>),
}

/// The values of one leaf column in one row group: the row of each, `None` where it is null.
type Values = Vec<(usize, Option<Key>)>;

/// Says what makes a changed file no mere rewriting of `sealed_bytes` bytes, whose rows are as recorded; `None`
/// where nothing does. Where no length was sealed it may be of ours. May panic on a damaged file: call it where that does no harm.
pub(super) fn lie(table: Table, bytes: &bytes::Bytes, sealed_bytes: Option<u64>) -> Option<String> {
    if sealed_bytes.is_some() && u64::try_from(bytes.len()).ok() == sealed_bytes {
        return Some("it has the sealed length, so that it is damaged, not rewritten".to_owned());
    }
    let filters = ReaderProperties::builder().set_read_bloom_filter(true).build();
    let options =
        ReadOptionsBuilder::new().with_page_index().with_reader_properties(filters).build();
    let reader = match SerializedFileReader::new_with_options(bytes.clone(), options) {
        Ok(reader) => reader,
        Err(error) => return Some(error.to_string()),
    };
    let file = reader.metadata().file_metadata();
    if sealed_bytes.is_some() && file.created_by().is_some_and(|by| by.starts_with(OURS)) {
        return Some("it says that vestibule wrote it, and vestibule wrote another".to_owned());
    }
    let descriptor = file.schema_descr_ptr();
    for (leaf, column) in descriptor.columns().iter().enumerate() {
        let path = column.path();
        let is_ours = path
            .parts()
            .first()
            .is_some_and(|name| table.columns().iter().any(|column| column.name == name.as_str()));
        if !is_ours {
            return Some(format!("it has a column of its own, {path}"));
        }
        for group in 0..reader.num_row_groups() {
            let Some(values) = values(bytes, leaf, group) else {
                return Some(format!("column {path} is not readable by itself"));
            };
            if let Some(what) = lie_of_group(&reader, group, leaf, &values) {
                return Some(format!("{what} of column {path} in row group {group} hides rows"));
            }
        }
    }
    None
}

fn lie_of_group(
    reader: &SerializedFileReader<bytes::Bytes>,
    group: usize,
    leaf: usize,
    values: &Values,
) -> Option<&'static str> {
    let metadata = reader.metadata();
    let chunk = metadata.row_groups().get(group)?.columns().get(leaf)?;
    if let Some(said) = chunk.statistics()
        && !is_true(said, values, chunk)
    {
        return Some("what the statistics say");
    }
    let group_reader = reader.get_row_group(group).ok()?;
    if let Some(filter) = group_reader.get_column_bloom_filter(leaf)
        && !values.iter().filter_map(|(_, key)| key.as_ref()).all(|key| holds(filter, chunk, key))
    {
        return Some("the Bloom filter");
    }
    let pages = metadata.page_index_for_row_group(group);
    let (index, offsets) = (pages.column_index(leaf)?, pages.offset_index(leaf)?);
    let starts = offsets.page_locations().iter().map(|page| usize::try_from(page.first_row_index));
    let starts: Vec<usize> = starts.collect::<Result<_, _>>().ok()?;
    if starts.first() != Some(&0) || !starts.is_sorted() {
        return Some("the page index");
    }
    for (page, from) in starts.iter().enumerate() {
        let to = starts.get(page + 1).copied().unwrap_or(usize::MAX);
        let on_page = values.iter().filter(|(row, _)| (*from..to).contains(row));
        let known: Vec<&Key> = on_page.filter_map(|(_, key)| key.as_ref()).collect();
        if !known.is_empty() && !covers(index, page, &known) {
            return Some("the page index");
        }
    }
    None
}

fn is_true(said: &Statistics, values: &Values, chunk: &ColumnChunkMetaData) -> bool {
    let known: Vec<&Key> = values.iter().filter_map(|(_, key)| key.as_ref()).collect();
    let nulls = u64::try_from(values.len() - known.len()).unwrap_or(0);
    let entries = u64::try_from(chunk.num_values()).unwrap_or(0);
    // In lists it depends on the writer what counts as null; that all do is a lie wherever one is none.
    let is_list = chunk.column_descr().max_rep_level() > 0;
    let is_lie = |count: u64| {
        if is_list { count >= entries && !known.is_empty() } else { count != nulls }
    };
    if said.null_count_opt().is_some_and(is_lie) {
        return false;
    }
    let key = |bytes: Option<&[u8]>| bytes.and_then(|bytes| plain(said, bytes));
    let (min, max) = (key(said.min_bytes_opt()), key(said.max_bytes_opt()));
    known.iter().all(|key| {
        min.as_ref().is_none_or(|min| min <= key) && max.as_ref().is_none_or(|max| *key <= max)
    })
}

/// A value in Parquet's plain encoding.
fn plain(said: &Statistics, bytes: &[u8]) -> Option<Key> {
    Some(match said {
        Statistics::Boolean(_) => Key::Int(i64::from(*bytes.first()?)),
        Statistics::Int32(_) => Key::Int(i32::from_le_bytes(bytes.try_into().ok()?).into()),
        Statistics::Int64(_) => Key::Int(i64::from_le_bytes(bytes.try_into().ok()?)),
        _ => Key::Bytes(bytes.to_vec()),
    })
}

fn covers(index: &ColumnIndexMetaData, page: usize, known: &[&Key]) -> bool {
    if page >= usize::try_from(index.num_pages()).unwrap_or(0) || index.is_null_page(page) {
        return false;
    }
    let int = |min: Option<i64>, max: Option<i64>| (min.map(Key::Int), max.map(Key::Int));
    let (min, max) = match index {
        ColumnIndexMetaData::BOOLEAN(it) => int(
            it.min_value(page).map(|v| i64::from(*v)),
            it.max_value(page).map(|v| i64::from(*v)),
        ),
        ColumnIndexMetaData::INT32(it) => int(
            it.min_value(page).map(|v| i64::from(*v)),
            it.max_value(page).map(|v| i64::from(*v)),
        ),
        ColumnIndexMetaData::INT64(it) => {
            int(it.min_value(page).copied(), it.max_value(page).copied())
        }
        ColumnIndexMetaData::BYTE_ARRAY(it) => {
            let key = |bytes: Option<&[u8]>| bytes.map(|bytes| Key::Bytes(bytes.to_vec()));
            (key(it.min_value(page)), key(it.max_value(page)))
        }
        _ => return false,
    };
    known.iter().all(|key| {
        min.as_ref().is_none_or(|min| min <= key) && max.as_ref().is_none_or(|max| *key <= max)
    })
}

fn holds(filter: &Sbbf, chunk: &ColumnChunkMetaData, key: &Key) -> bool {
    match (key, chunk.column_type()) {
        (Key::Bytes(bytes), _) => filter.check(bytes.as_slice()),
        (Key::Int(value), parquet::basic::Type::INT32) => {
            i32::try_from(*value).is_ok_and(|value| filter.check(&value))
        }
        (Key::Int(value), parquet::basic::Type::BOOLEAN) => filter.check(&(*value != 0)),
        (Key::Int(value), _) => filter.check(value),
    }
}

/// The values of a leaf column in a row group; `None` where they can't be read.
fn values(file: &bytes::Bytes, leaf: usize, group: usize) -> Option<Values> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).ok()?;
    let only = ProjectionMask::leaves(builder.parquet_schema(), [leaf]);
    let reader = builder.with_projection(only).with_row_groups(vec![group]).build().ok()?;
    let (mut values, mut start) = (Vec::new(), 0);
    for batch in reader {
        let batch = batch.ok()?;
        take(batch.columns().first()?, start, &mut values)?;
        start += batch.num_rows();
    }
    Some(values)
}

fn take(array: &ArrayRef, start: usize, values: &mut Values) -> Option<()> {
    for row in 0..array.len() {
        if array.is_null(row) {
            values.push((start + row, None));
        } else if let Some(list) = array.as_list_opt::<i32>() {
            let mut items = Vec::new();
            take(&list.value(row), 0, &mut items)?;
            values.extend(items.into_iter().map(|(_, key)| (start + row, key)));
        } else if let Some(fields) = array.as_struct_opt() {
            let mut items = Vec::new();
            take(&fields.column(0).slice(row, 1), 0, &mut items)?;
            values.extend(items.into_iter().map(|(_, key)| (start + row, key)));
        } else {
            values.push((start + row, Some(key(array, row)?)));
        }
    }
    Some(())
}

fn key(array: &ArrayRef, row: usize) -> Option<Key> {
    if let Some(it) = array.as_primitive_opt::<Int64Type>() {
        return Some(Key::Int(it.value(row)));
    }
    if let Some(it) = array.as_primitive_opt::<Int32Type>() {
        return Some(Key::Int(it.value(row).into()));
    }
    if let Some(it) = array.as_primitive_opt::<TimestampMicrosecondType>() {
        return Some(Key::Int(it.value(row)));
    }
    if let Some(it) = array.as_boolean_opt() {
        return Some(Key::Int(it.value(row).into()));
    }
    if let Some(it) = array.as_string_opt::<i32>() {
        return Some(Key::Bytes(it.value(row).as_bytes().to_vec()));
    }
    array.as_binary_opt::<i32>().map(|it| Key::Bytes(it.value(row).to_vec()))
}
