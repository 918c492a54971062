//! Rows survive Parquet.

use journal::row::{
    ControlRow, EventRow, EventSession, EventStatement, Masked, Micros, RecordingRow, Row,
    SessionRow, Shared, Table, Text,
};
use proptest::prelude::*;
use types::id::SequenceNumber;

use crate::decode;
use crate::writer::TableFile;

fn rows(table: Table, seq: u64, text: &str, items: &[String], count: i64) -> Row {
    let (node_id, seq) = (text.to_owned(), SequenceNumber(seq));
    match table {
        Table::Events => Row::Event(Box::new(EventRow {
            session: Shared::new(EventSession {
                node_id: node_id.into(),
                actor_user: items.first().map(Text::of),
                ..EventSession::default()
            }),
            statement: Shared::new(EventStatement {
                objects: items.to_vec(),
                ..EventStatement::default()
            }),
            seq,
            masked: items.iter().map(|i| Masked { entity: i.clone(), count }).collect(),
            rows: Some(count),
            ..EventRow::default()
        })),
        Table::Sessions => Row::Session(Box::new(SessionRow {
            node_id,
            seq,
            closed_at: Some(Micros(count)),
            authn_mfa: (count % 3 != 0).then_some(count % 2 == 0),
            hold_ids: items.to_vec(),
            ..SessionRow::default()
        })),
        Table::Control => Row::Control(Box::new(ControlRow {
            node_id,
            seq,
            ring_drops: Some(count),
            ..ControlRow::default()
        })),
        Table::Recordings => Row::Recording(Box::new(RecordingRow {
            node_id: node_id.into(),
            seq,
            statement: items.first().cloned(),
            sealed: items.first().map(|i| i.clone().into_bytes()),
            ..RecordingRow::default()
        })),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn identity(given in prop::collection::vec(("\\PC{0,40}", prop::collection::vec("\\PC{0,9}", 0..4), any::<i64>()), 1..9)) {
        for table in Table::ALL {
            let rows: Vec<Row> = given.iter().zip(0..).map(|((t, i, n), seq)| rows(table, seq, t, i, *n)).collect();
            let dir = tempfile::tempdir().unwrap();
            let mut file = TableFile::create(table, dir.path().join("part"), "vestibule/node/n/0").unwrap();
            for row in &rows {
                file.push(row.clone()).unwrap();
            }
            let written = file.finish(|_| dir.path().join("whole")).unwrap();
            let file = std::fs::read(dir.path().join("whole")).unwrap();
            prop_assert_eq!(written.bytes, file.len() as u64);
            prop_assert_eq!(written.seqs, (0, rows.len() as u64 - 1));
            let mut back = Vec::new();
            decode::rows(table, file, &mut |row| back.push(row)).unwrap();
            prop_assert_eq!(back, rows);
        }
    }
}
