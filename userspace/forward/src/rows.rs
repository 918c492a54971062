//! Rows of the journal in batches, in the form a receiver has them.

use std::path::Path;

use archive::export::{self, Lines};
use journal::assemble::Rows;
use journal::record::Lsn;
use journal::row::{Row, Table};

use crate::{Format, ForwardError};

/// Rows of a batch at most, and bytes of their texts: one row more may overshoot, by 64 KiB or so.
const BATCH_ROWS_MAX: usize = 500;
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Some rows, ready to be sent.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) items: Vec<Item>,
    /// The row behind the last one read, be it sent or not.
    pub(crate) next_row: u64,
}

/// A row as a text.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) text: String,
    pub(crate) row: Row,
}

/// The rows of a journal from one on, up to a durable frame.
pub(crate) struct Source {
    rows: Rows,
    next_row: u64,
}

impl Source {
    pub(crate) fn open(dir: &Path, next_row: u64, durable: Lsn) -> Result<Self, ForwardError> {
        Ok(Self { rows: Rows::open(dir, next_row, Some(durable))?, next_row })
    }

    /// The next batch; `None` at the end.
    pub(crate) fn batch(&mut self, format: Format) -> Result<Option<Batch>, ForwardError> {
        let begin = self.next_row;
        let mut batch = Batch { next_row: begin, ..Batch::default() };
        let mut bytes = 0;
        while batch.items.len() < BATCH_ROWS_MAX && bytes < BATCH_BYTES_MAX {
            let Some(row) = self.rows.next_row()? else { break };
            let (due, found) = (self.next_row, row.seq().0);
            if found != due {
                return Err(ForwardError::Gap { due, found });
            }
            self.next_row = found + 1;
            batch.next_row = self.next_row;
            // Recordings hold what was said, and are for few eyes.
            if row.table() == Table::Recordings {
                continue;
            }
            if let Some(text) = text(&row, format) {
                bytes += text.len();
                batch.items.push(Item { text, row });
            }
        }
        Ok((batch.next_row > begin).then_some(batch))
    }
}

fn text(row: &Row, format: Format) -> Option<String> {
    let mut text = String::new();
    match format {
        Format::Json => archive::json::line(row, &mut text),
        Format::Cef => export::line(row, Lines::Cef, &mut text),
        Format::Syslog => export::line(row, Lines::Syslog, &mut text),
        Format::Ocsf => text = export::ocsf_event(row)?.to_string(),
    }
    Some(text)
}
