//! Is it true what a rewritten file says of its rows? Readers skip row groups and pages by their least and
//! greatest values, their counts of nulls and their Bloom filters: where those lie, a query misses rows that
//! are there.

mod seen;
#[cfg(test)]
mod tests;

use journal::row::Table;
use parquet::bloom_filter::Sbbf;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::{ReadOptionsBuilder, SerializedFileReader};
use parquet::file::statistics::Statistics;

use super::columns;
use seen::{Holds, Key, Seen};

/// What our own writer calls itself.
const OURS: &str = "vestibule ";

/// Rows decoded at once.
const BATCH_ROWS: usize = 8192;

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
    for column in file.schema_descr().columns() {
        let path = column.path();
        let is_ours = path
            .parts()
            .first()
            .is_some_and(|name| table.columns().iter().any(|column| column.name == name.as_str()));
        if !is_ours {
            return Some(format!("it has a column of its own, {path}"));
        }
    }
    (0..reader.num_row_groups()).find_map(|group| match lie_of_group(&reader, bytes, group) {
        Ok(lie) => lie,
        Err(error) => Some(format!("row group {group} is not readable: {error}")),
    })
}

/// The pages of a column in a row group.
enum Pages {
    /// Nothing says where they begin.
    Unknown,
    /// What says so can't be.
    Impossible,
    /// The first row of each, in order.
    Begin(Vec<usize>),
}

fn lie_of_group(
    reader: &SerializedFileReader<bytes::Bytes>,
    bytes: &bytes::Bytes,
    group: usize,
) -> Result<Option<String>, ParquetError> {
    let metadata = reader.metadata();
    let descriptor = metadata.file_metadata().schema_descr();
    let chunks = metadata.row_group(group).columns();
    let filters = reader.get_row_group(group)?;
    let pages: Vec<Pages> = (0..chunks.len()).map(|leaf| pages(reader, group, leaf)).collect();
    let roots: Vec<usize> =
        (0..chunks.len()).map(|leaf| descriptor.get_column_root_idx(leaf)).collect();
    let mut seen = Vec::with_capacity(chunks.len());
    for (leaf, (chunk, pages)) in chunks.iter().zip(&pages).enumerate() {
        let before = roots.iter().take(leaf).filter(|root| Some(*root) == roots.get(leaf));
        let holds = filters
            .get_column_bloom_filter(leaf)
            .map(|filter| -> Holds<'_> { Box::new(|key| holds(filter, chunk, key)) });
        let starts = if let Pages::Begin(starts) = pages { starts.clone() } else { Vec::new() };
        seen.push(Seen::new(starts, holds, before.count()));
    }
    let mut first = 0;
    for batch in columns::group_reader(bytes.clone(), group, BATCH_ROWS)? {
        let batch = batch?;
        for (leaf, (seen, root)) in seen.iter_mut().zip(&roots).enumerate() {
            if batch.columns().get(*root).and_then(|array| seen.take(array, first)).is_none() {
                let path = descriptor.column(leaf).path().clone();
                return Ok(Some(format!("column {path} is not readable by itself")));
            }
        }
        first += batch.num_rows();
    }
    let looked = seen.iter().zip(&pages).zip(chunks).enumerate();
    let mut lies = looked.filter_map(|(leaf, ((seen, pages), chunk))| {
        Some((leaf, lie_of_column((reader, group, leaf), chunk, seen, pages)?))
    });
    Ok(lies.next().map(|(leaf, what)| {
        let path = descriptor.column(leaf).path().clone();
        format!("{what} of column {path} in row group {group} hides rows")
    }))
}

fn pages(reader: &SerializedFileReader<bytes::Bytes>, group: usize, leaf: usize) -> Pages {
    let index = reader.metadata().page_index_for_row_group(group);
    let (Some(_), Some(offsets)) = (index.column_index(leaf), index.offset_index(leaf)) else {
        return Pages::Unknown;
    };
    let starts = offsets.page_locations().iter().map(|page| usize::try_from(page.first_row_index));
    match starts.collect::<Result<Vec<_>, _>>() {
        Ok(starts) if starts.first() == Some(&0) && starts.is_sorted() => Pages::Begin(starts),
        _ => Pages::Impossible,
    }
}

fn lie_of_column(
    (reader, group, leaf): (&SerializedFileReader<bytes::Bytes>, usize, usize),
    chunk: &ColumnChunkMetaData,
    seen: &Seen<'_>,
    pages: &Pages,
) -> Option<&'static str> {
    if let Some(said) = chunk.statistics()
        && !is_true(said, seen, chunk)
    {
        return Some("what the statistics say");
    }
    if !seen.is_held {
        return Some("the Bloom filter");
    }
    let index = reader.metadata().page_index_for_row_group(group);
    let is_covered = match (pages, index.column_index(leaf)) {
        (Pages::Unknown, _) | (_, None) => true,
        (Pages::Impossible, _) => false,
        (Pages::Begin(_), Some(index)) => {
            let mut found = seen.pages.iter().enumerate();
            found.all(|(page, bounds)| {
                bounds.as_ref().is_none_or(|bounds| covers(index, page, bounds.keys()))
            })
        }
    };
    (!is_covered).then_some("the page index")
}

fn is_true(said: &Statistics, seen: &Seen<'_>, chunk: &ColumnChunkMetaData) -> bool {
    let bounds = seen.bounds();
    let entries = u64::try_from(chunk.num_values()).unwrap_or(0);
    // In lists it depends on the writer what counts as null; that all do is a lie wherever one is none.
    let is_list = chunk.column_descr().max_rep_level() > 0;
    let is_lie = |count: u64| {
        if is_list { count >= entries && bounds.is_some() } else { count != seen.nulls }
    };
    if said.null_count_opt().is_some_and(is_lie) {
        return false;
    }
    let min = said.min_bytes_opt().and_then(|bytes| plain(said, bytes));
    let max = said.max_bytes_opt().and_then(|bytes| plain(said, bytes));
    bounds.as_ref().is_none_or(|bounds| within(bounds.keys(), min, max))
}

/// Whether these are nowhere beyond what is said to be the least and the greatest.
fn within(
    (least, greatest): (Key<'_>, Key<'_>),
    min: Option<Key<'_>>,
    max: Option<Key<'_>>,
) -> bool {
    min.is_none_or(|min| min <= least) && max.is_none_or(|max| greatest <= max)
}

/// A value in Parquet's plain encoding.
fn plain<'b>(said: &Statistics, bytes: &'b [u8]) -> Option<Key<'b>> {
    Some(match said {
        Statistics::Boolean(_) => Key::Int(i64::from(*bytes.first()?)),
        Statistics::Int32(_) => Key::Int(i32::from_le_bytes(bytes.try_into().ok()?).into()),
        Statistics::Int64(_) => Key::Int(i64::from_le_bytes(bytes.try_into().ok()?)),
        _ => Key::Bytes(bytes),
    })
}

fn covers(index: &ColumnIndexMetaData, page: usize, found: (Key<'_>, Key<'_>)) -> bool {
    if page >= usize::try_from(index.num_pages()).unwrap_or(0) || index.is_null_page(page) {
        return false;
    }
    let int = |value: Option<i64>| value.map(Key::Int);
    let (min, max) = match index {
        ColumnIndexMetaData::BOOLEAN(it) => (
            int(it.min_value(page).map(|v| i64::from(*v))),
            int(it.max_value(page).map(|v| i64::from(*v))),
        ),
        ColumnIndexMetaData::INT32(it) => (
            int(it.min_value(page).map(|v| i64::from(*v))),
            int(it.max_value(page).map(|v| i64::from(*v))),
        ),
        ColumnIndexMetaData::INT64(it) => {
            (int(it.min_value(page).copied()), int(it.max_value(page).copied()))
        }
        ColumnIndexMetaData::BYTE_ARRAY(it) => {
            (it.min_value(page).map(Key::Bytes), it.max_value(page).map(Key::Bytes))
        }
        _ => return false,
    };
    within(found, min, max)
}

fn holds(filter: &Sbbf, chunk: &ColumnChunkMetaData, key: Key<'_>) -> bool {
    match (key, chunk.column_type()) {
        (Key::Bytes(bytes), _) => filter.check(bytes),
        (Key::Int(value), parquet::basic::Type::INT32) => {
            i32::try_from(value).is_ok_and(|value| filter.check(&value))
        }
        (Key::Int(value), parquet::basic::Type::BOOLEAN) => filter.check(&(value != 0)),
        (Key::Int(value), _) => filter.check(&value),
    }
}
