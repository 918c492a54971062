//! The rows of the archive's four tables, and the bytes and hash by which each is committed to.
//!
//! A row is a leaf of its node's Merkle tree whatever table it is in; its hash is computed from
//! its values, never from file bytes, so that files may be rewritten. This module knows no Parquet
//! and does no I/O.

mod canon;
mod control;
mod event;
mod ocsf;
mod recording;
mod session;
mod shared;
mod table;
mod text;
mod value;

use sha2::{Digest, Sha256};
use types::id::SequenceNumber;

pub(crate) use canon::Canon;
pub use canon::{FIELD_BYTES_MAX, Form, LEAF_PREFIX, end_field};
pub use control::ControlRow;
pub use event::{EventRow, EventSession, EventStatement};
pub use ocsf::{Ocsf, ocsf};
pub use recording::RecordingRow;
pub use session::SessionRow;
pub use shared::{Common, Shared};
pub(crate) use table::table;
pub use text::Text;
pub use value::{Column, Columns, Field, Kind, Masked, Micros, OwnedValue, Part, Value};

/// A table of the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// One row per command.
    Events,
    /// One row per session.
    Sessions,
    /// What the node did itself.
    Control,
    /// Texts, parameters and response samples.
    Recordings,
}

impl Table {
    /// All tables, in the order of their tags.
    pub const ALL: [Self; 4] = [Self::Events, Self::Sessions, Self::Control, Self::Recordings];

    /// The name in paths and views.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Sessions => "sessions",
            Self::Control => "control",
            Self::Recordings => "recordings",
        }
    }

    /// The first byte of its rows' canonical form.
    pub fn tag(self) -> u8 {
        match self {
            Self::Events => 1,
            Self::Sessions => 2,
            Self::Control => 3,
            Self::Recordings => 4,
        }
    }

    /// How many of its columns there were in the first version. Later ones stand behind them, may
    /// be absent, and leave no trace in the canonical form where they are (`canon`).
    pub fn first_columns(self) -> usize {
        match self {
            Self::Events => 78,
            Self::Sessions => 59,
            Self::Control => 23,
            Self::Recordings => 19,
        }
    }

    /// Its columns, in canonical order; the first four are the same in every table: `node_id`,
    /// `log_epoch`, `seq`, `ts`.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Events => EventRow::COLUMNS,
            Self::Sessions => SessionRow::COLUMNS,
            Self::Control => ControlRow::COLUMNS,
            Self::Recordings => RecordingRow::COLUMNS,
        }
    }
}

/// Those of rows that are of one table.
macro_rules! rows_of {
    ($rows:expr, $table:ident) => {
        $rows
            .iter()
            .filter_map(|row| if let Self::$table(row) = row { Some(&**row) } else { None })
            .collect::<Vec<_>>()
    };
}

/// A row of any table.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// Of `events`.
    Event(Box<EventRow>),
    /// Of `sessions`.
    Session(Box<SessionRow>),
    /// Of `control`.
    Control(Box<ControlRow>),
    /// Of `recordings`.
    Recording(Box<RecordingRow>),
}

impl Row {
    /// Its table.
    pub fn table(&self) -> Table {
        match self {
            Self::Event(_) => Table::Events,
            Self::Session(_) => Table::Sessions,
            Self::Control(_) => Table::Control,
            Self::Recording(_) => Table::Recordings,
        }
    }

    /// Its place in the node's log: its leaf's index.
    pub fn seq(&self) -> SequenceNumber {
        match self {
            Self::Event(row) => row.seq,
            Self::Session(row) => row.seq,
            Self::Control(row) => row.seq,
            Self::Recording(row) => row.seq,
        }
    }

    /// Its node: the name of its log, with the epoch.
    pub fn node(&self) -> &str {
        match self {
            Self::Event(row) => &row.session.node_id,
            Self::Session(row) => &row.node_id,
            Self::Control(row) => &row.node_id,
            Self::Recording(row) => &row.node_id,
        }
    }

    /// Its wall-clock time, which names its `dt` partition.
    pub fn ts(&self) -> Micros {
        match self {
            Self::Event(row) => row.ts,
            Self::Session(row) => row.ts,
            Self::Control(row) => row.ts,
            Self::Recording(row) => row.ts,
        }
    }

    /// Calls `each` with every column's value, in canonical order.
    #[inline]
    pub fn visit<'a>(&'a self, each: &mut (impl FnMut(Value<'a>) + ?Sized)) {
        match self {
            Self::Event(row) => row.visit(each),
            Self::Session(row) => row.visit(each),
            Self::Control(row) => row.visit(each),
            Self::Recording(row) => row.visit(each),
        }
    }

    /// Hands over the columns of those of `rows` that are of `table`, in canonical order.
    pub fn columns<'a>(table: Table, rows: &'a [Self], each: &mut impl Columns<'a>) {
        match table {
            Table::Events => EventRow::columns(&rows_of!(rows, Event), each),
            Table::Sessions => SessionRow::columns(&rows_of!(rows, Session), each),
            Table::Control => ControlRow::columns(&rows_of!(rows, Control), each),
            Table::Recordings => RecordingRow::columns(&rows_of!(rows, Recording), each),
        }
    }

    /// Bytes of its longest texts, about.
    pub fn long_bytes(&self) -> usize {
        let of = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        match self {
            Self::Event(row) => row.statement.statement_norm.len(),
            Self::Session(_) => 0,
            Self::Control(row) => row.detail.len(),
            Self::Recording(row) => {
                let texts = [&row.statement, &row.parameters, &row.response_sample];
                texts.map(of).iter().sum::<usize>() + row.sealed.as_ref().map_or(0, Vec::len)
            }
        }
    }

    /// The row of `table` with these values in canonical order; `None` if they do not fit its
    /// columns.
    pub fn from_values(table: Table, values: impl Iterator<Item = OwnedValue>) -> Option<Self> {
        Some(match table {
            Table::Events => Self::Event(Box::new(EventRow::from_values(values)?)),
            Table::Sessions => Self::Session(Box::new(SessionRow::from_values(values)?)),
            Table::Control => Self::Control(Box::new(ControlRow::from_values(values)?)),
            Table::Recordings => Self::Recording(Box::new(RecordingRow::from_values(values)?)),
        })
    }

    /// Appends the canonical form.
    pub fn canon(&self, out: &mut Vec<u8>) {
        match self {
            Self::Event(row) => row.canon(out),
            Self::Session(row) => row.canon(out),
            Self::Control(row) => row.canon(out),
            Self::Recording(row) => row.canon(out),
        }
    }

    /// The leaf hash: SHA-256(0x00 ‖ [`LEAF_PREFIX`] ‖ canonical form) (RFC 6962 §2.1).
    pub fn leaf_hash(&self) -> [u8; 32] {
        self.leaf_hash_in(&mut Vec::with_capacity(1024))
    }

    /// The same; what is hashed is in `buffer` then, in place of what it held.
    pub fn leaf_hash_in(&self, buffer: &mut Vec<u8>) -> [u8; 32] {
        buffer.clear();
        buffer.push(0);
        buffer.extend_from_slice(LEAF_PREFIX);
        self.canon(buffer);
        Sha256::digest(buffer).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_leaves() {
        let hex = |row: &Row| {
            row.leaf_hash().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
        };
        let control = ControlRow {
            node_id: "n1".into(),
            kind: "log.start".into(),
            detail: "{}".into(),
            ..ControlRow::default()
        };
        let mut bytes = Vec::new();
        control.canon(&mut bytes);
        let head = b"\x03\x01\0\0\0\x02n1\x01\0\0\0\0\x01\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0";
        assert!(bytes.starts_with(head), "{bytes:?}");
        let row = Row::Control(Box::new(control));
        assert_eq!(row.leaf_hash(), canon::leaf_hash(&bytes));
        assert_eq!(hex(&row), GOLDEN_CONTROL);
    }

    // Computed by a separate program from the description in `canon`.
    const GOLDEN_CONTROL: &str = "09a7b781272feec5b9be3e891f71fa47cd9f36d9eab4eeefa84aa03d7b2d0df7";

    #[test]
    fn field_ids_and_names_are_unique_and_tables_share_their_head() {
        for table in Table::ALL {
            let columns = table.columns();
            let ids: std::collections::BTreeSet<_> = columns.iter().map(|c| c.field_id).collect();
            let names: std::collections::BTreeSet<_> = columns.iter().map(|c| c.name).collect();
            assert_eq!((ids.len(), names.len()), (columns.len(), columns.len()), "{table:?}");
            let head: Vec<_> = columns.iter().take(4).map(|c| c.name).collect();
            assert_eq!(head, ["node_id", "log_epoch", "seq", "ts"]);
        }
    }

    #[test]
    fn columns_of_later_versions_may_be_absent_and_then_leave_the_leaf_as_it_was() {
        for table in Table::ALL {
            let (first, columns) = (table.first_columns(), table.columns());
            let later = &columns[first..];
            assert!(later.iter().all(|column| column.nullable), "{table:?}");
            let values = columns.iter().enumerate().map(|(at, column)| {
                if at < first { OwnedValue::sample(column, 1) } else { OwnedValue::Null }
            });
            let row = Row::from_values(table, values.clone()).unwrap();
            let mut bytes = Vec::new();
            row.canon(&mut bytes);
            let mut of_the_first = vec![table.tag()];
            row.visit(&mut |value| canon::put(&mut of_the_first, value));
            of_the_first.truncate(of_the_first.len() - later.len());
            assert_eq!(bytes, of_the_first, "{table:?}");
        }
    }

    #[test]
    fn every_field_changes_the_leaf() {
        for table in Table::ALL {
            let base: Vec<_> = table.columns().iter().map(|c| OwnedValue::sample(c, 1)).collect();
            let row = |v: &[OwnedValue]| Row::from_values(table, v.iter().cloned()).unwrap();
            let mut seen = std::collections::BTreeSet::from([row(&base).leaf_hash()]);
            for (i, column) in table.columns().iter().enumerate() {
                for changed in [OwnedValue::sample(column, 2), OwnedValue::sample(column, 5000)] {
                    let mut other = base.clone();
                    other[i] = changed;
                    if column.kind != Kind::Bool || other[i] != base[i] {
                        assert!(seen.insert(row(&other).leaf_hash()), "{table:?}.{}", column.name);
                        break;
                    }
                }
                if column.nullable {
                    let mut other = base.clone();
                    other[i] = OwnedValue::Null;
                    assert!(seen.insert(row(&other).leaf_hash()), "{table:?}.{}", column.name);
                }
            }
        }
    }
}
