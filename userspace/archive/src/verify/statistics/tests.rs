use std::ops::Range;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::*;

const ROWS: i64 = 1000;

/// Columns of `events`: whole numbers, texts in a dictionary and texts without, of both some absent, and lists.
fn columns() -> Vec<(&'static str, ArrayRef)> {
    let some = |row: &i64| row % 7 != 0;
    let text = |row: i64| Some(format!("text {row:04}")).filter(|_| some(&row));
    let word = |row: i64| Some(format!("word {:02}", row % 13)).filter(|_| some(&row));
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..ROWS {
        if some(&row) {
            (0..row % 3)
                .for_each(|item| lists.values().append_value(format!("item {}", row % 11 + item)));
            lists.append(true);
        } else {
            lists.append(false);
        }
    }
    let rows = (0..ROWS).map(|row| Some(row).filter(some));
    vec![
        ("seq", Arc::new(Int64Array::from_iter_values(0x7777_0000..0x7777_0000 + ROWS))),
        ("rows", Arc::new(rows.collect::<Int64Array>())),
        ("statement_norm", Arc::new((0..ROWS).map(text).collect::<StringArray>())),
        ("verb", Arc::new((0..ROWS).map(word).collect::<StringArray>())),
        ("objects", Arc::new(lists.finish())),
    ]
}

/// A file of three groups of rows, each of several pages.
fn file() -> Vec<u8> {
    let properties = WriterProperties::builder()
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_bloom_filter_enabled(true)
        .set_max_row_group_row_count(Some(400))
        .set_data_page_row_count_limit(60)
        .set_write_batch_size(20)
        .set_column_dictionary_enabled("statement_norm".into(), false)
        .build();
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns().into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap();
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    file
}

fn metadata(file: &[u8]) -> ParquetMetaData {
    SerializedFileReader::new(Bytes::copy_from_slice(file)).unwrap().metadata().clone()
}

fn said(file: Vec<u8>) -> Option<String> {
    lie(Table::Events, &Bytes::from(file), None)
}

fn replace(file: &mut [u8], range: Range<usize>, from: &[u8], to: &[u8]) {
    let within = &mut file[range];
    let windows = within.windows(from.len()).enumerate();
    let places: Vec<usize> = windows.filter(|(_, it)| *it == from).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    for at in places {
        within[at..at + to.len()].copy_from_slice(to);
    }
}

fn footer(file: &[u8]) -> Range<usize> {
    let end = file.len() - 8;
    let bytes = u32::from_le_bytes(file[end..end + 4].try_into().unwrap());
    end - usize::try_from(bytes).unwrap()..end
}

#[test]
fn what_a_sound_file_says_is_true() {
    let file = file();
    assert_eq!(metadata(&file).num_row_groups(), 3);
    assert_eq!(said(file), None);
}

#[test]
fn statistics_that_lie_are_named() {
    for (column, from, to) in [
        ("statement_norm", "text 0400", "text 0401"),
        ("verb", "word 12", "word 11"),
        ("objects", "item 0", "item 1"),
    ] {
        let mut file = file();
        let range = footer(&file);
        replace(&mut file, range, from.as_bytes(), to.as_bytes());
        let said = said(file).expect(column);
        assert!(said.starts_with("what the statistics say of column \""), "{said}");
        assert!(said.contains(column) && said.ends_with("hides rows"), "{said}");
    }
    let mut file = file();
    let range = footer(&file);
    // The greatest number of the first group.
    let greatest = (0x7777_0000_i64 + 399).to_le_bytes();
    replace(&mut file, range, &greatest, &(0x7777_0000_i64 + 398).to_le_bytes());
    let said = said(file).unwrap();
    assert!(said.contains("statistics say of column \"seq\" in row group 0"), "{said}");
}

#[test]
fn an_index_of_pages_that_lies_is_named() {
    let of_the_second = |file: &[u8], leaf: usize| {
        let metadata = metadata(file);
        let chunk = metadata.row_group(1).column(leaf);
        let at = usize::try_from(chunk.column_index_offset().unwrap()).unwrap();
        at..at + usize::try_from(chunk.column_index_length().unwrap()).unwrap()
    };
    for (leaf, column, from, to) in [
        (2, "statement_norm", "text 0520", "text 0521"),
        (3, "verb", "word 00", "word 01"),
        (4, "objects", "item 0", "item 1"),
    ] {
        let mut file = file();
        let range = of_the_second(&file, leaf);
        replace(&mut file, range, from.as_bytes(), to.as_bytes());
        let said = said(file).expect(column);
        assert!(said.starts_with("the page index of column \""), "{said}");
        assert!(said.contains(column) && said.contains("in row group 1"), "{said}");
    }
}

#[test]
fn a_bloom_filter_that_lacks_a_value_is_named() {
    for leaf in 0..5 {
        let mut file = file();
        let metadata = metadata(&file);
        let chunk = metadata.row_group(2).column(leaf);
        let at = usize::try_from(chunk.bloom_filter_offset().unwrap()).unwrap();
        let bytes = usize::try_from(chunk.bloom_filter_length().unwrap()).unwrap();
        // Behind its header, of some 20 bytes, are its bits.
        file[at + 24..at + bytes].fill(0);
        let said = said(file).expect("a filter without bits holds nothing");
        assert!(said.starts_with("the Bloom filter of column"), "{said}");
        assert!(said.contains("in row group 2"), "{said}");
    }
}

#[test]
fn counts_of_what_is_absent_are_compared() {
    let mut seen = Seen::new(vec![0, 10, 500], None, 0);
    for (name, array) in columns() {
        let mut seen_of_it = Seen::new(vec![0, 10, 500], None, 0);
        for at in (0..1000).step_by(128) {
            let part = array.slice(at, 128.min(1000 - at));
            seen_of_it.take(&part, at).unwrap();
        }
        assert_eq!(seen_of_it.nulls, if name == "seq" { 0 } else { 143 }, "{name}");
        assert_eq!(seen_of_it.pages.len(), 3, "{name}");
        if name == "rows" {
            seen = seen_of_it;
        }
    }
    let pages: Vec<_> = seen.pages.iter().flatten().map(seen::Bounds::keys).collect();
    let int = |least, greatest| (Key::Int(least), Key::Int(greatest));
    assert_eq!(pages, [int(1, 9), int(10, 499), int(500, 999)]);
}
