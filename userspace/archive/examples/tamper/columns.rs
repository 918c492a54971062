//! Records changed, one value at a time, in every column of every table; taken away, put in, moved.

use journal::row::{Row, Table};

use crate::cases::{Case, Copy, Expect};
use crate::tools;
use crate::world::World;

pub(crate) fn add(_world: &World, quick: bool, cases: &mut Vec<Case>) {
    for table in Table::ALL {
        let columns = table.columns();
        if quick {
            // Each in a record of its own; verification names twenty one by one.
            for from in (0..columns.len()).step_by(20) {
                let to = (from + 20).min(columns.len());
                let name =
                    format!("a value each of {}'s columns {from} to {}", table.as_str(), to - 1);
                cases.push(Case::attack(name, move |_, copy| values(copy, table, from..to)));
            }
            continue;
        }
        for (at, column) in columns.iter().enumerate() {
            for with_journal in [true, false] {
                let how = if with_journal { "" } else { ", without the journal" };
                let name = format!("one value of {}.{}{how}", table.as_str(), column.name);
                cases.push(Case::attack(name, move |_, copy| {
                    one_value(copy, table, at, with_journal)
                }));
            }
        }
    }
    for with_manifests in [false, true] {
        let how = if with_manifests { ", manifests made to fit" } else { "" };
        for (what, change) in CHANGES {
            let name = format!("{what}{how}");
            cases.push(Case::attack(name, move |_, copy| changed(copy, *change, with_manifests)));
        }
    }
}

/// What is done to a file's rows; returns the record that must be named.
type Change = fn(&mut Vec<Row>) -> u64;

const CHANGES: &[(&str, Change)] = &[
    ("a record dropped", |rows| rows.remove(40).seq().0),
    ("the first record dropped", |rows| rows.remove(0).seq().0),
    ("the last record dropped", |rows| rows.pop().unwrap().seq().0),
    ("records of a session dropped", |rows| {
        let first = rows[30].seq().0;
        rows.drain(30..60);
        first
    }),
    ("a record duplicated", |rows| {
        let row = rows[50].clone();
        rows.insert(51, row);
        u64::MAX
    }),
    ("a record duplicated over another", |rows| {
        let seq = rows[51].seq().0;
        rows[51] = rows[50].clone();
        seq
    }),
    ("two records exchanged", |rows| {
        let seq = rows[60].seq().0;
        let [a, b] = [with_seq(&rows[60], rows[61].seq().0), with_seq(&rows[61], seq)];
        rows[60] = a;
        rows[61] = b;
        seq
    }),
    ("a record put in beyond the last", |rows| {
        let last = rows.iter().map(|row| row.seq().0).max().unwrap();
        rows.push(with_seq(&rows[3], last + 10_000));
        u64::MAX
    }),
    ("a denial made an allowance", |rows| {
        let row = rows.iter_mut().find_map(|row| match row {
            Row::Event(event) if event.decision == "deny" => Some(event),
            _ => None,
        });
        let event = row.unwrap();
        event.decision = "allow".into();
        event.seq.0
    }),
    ("a person put in a record", |rows| {
        let Row::Event(event) = &mut rows[9] else { panic!() };
        event.session.actor_user = Some("somebody else".into());
        event.seq.0
    }),
    ("an hour taken from times", |rows| {
        for row in rows.iter_mut() {
            if let Row::Event(event) = row {
                event.ts.0 -= 3_600_000_000;
            }
        }
        rows[0].seq().0
    }),
];

fn with_seq(row: &Row, seq: u64) -> Row {
    let mut row = row.clone();
    match &mut row {
        Row::Event(row) => row.seq.0 = seq,
        Row::Session(row) => row.seq.0 = seq,
        Row::Control(row) => row.seq.0 = seq,
        Row::Recording(row) => row.seq.0 = seq,
    }
    row
}

/// Changes one column each in records one after the other; in tables of few rows, several in one.
fn values(copy: &Copy, table: Table, columns: std::ops::Range<usize>) -> Expect {
    let file = tools::file_of(&copy.archive(), table, 0);
    let mut records = std::collections::BTreeSet::new();
    tools::edit(&file, |rows| {
        let count = rows.len();
        let seqs: Vec<u64> = rows.iter().map(|row| row.seq().0).collect();
        for at in columns {
            // Not its neighbour's number, where that is what changes.
            let row = (2 * at) % count;
            records.insert(format!("n1/0/{}", seqs[row]));
            rows[row] = tools::altered(&rows[row], at);
        }
    });
    let name = tools::below(&file, &copy.archive());
    let names: Vec<&str> = records.iter().map(String::as_str).chain([name.as_str()]).collect();
    Expect::names(&names).with(&[&"--journal", &copy.journal()])
}

fn one_value(copy: &Copy, table: Table, at: usize, with_journal: bool) -> Expect {
    let file = tools::file_of(&copy.archive(), table, 0);
    let mut seq = 0;
    tools::edit(&file, |rows| {
        let row = rows.len() / 2;
        seq = rows[row].seq().0;
        rows[row] = tools::altered(&rows[row], at);
    });
    let name = tools::below(&file, &copy.archive());
    if with_journal {
        let record = format!("n1/0/{seq}");
        return Expect::names(&[&name, &record]).with(&[&"--journal", &copy.journal()]);
    }
    let first = seq / 256 * 256;
    let range = format!("n1/0/{first} to {}|n1/0/{seq}", first + 255);
    Expect::names(&[&name, &range])
}

fn changed(copy: &Copy, change: Change, with_manifests: bool) -> Expect {
    let file = tools::file_of(&copy.archive(), Table::Events, 100);
    let mut seq = 0;
    tools::edit(&file, |rows| seq = change(rows));
    let name = tools::below(&file, &copy.archive());
    let record = if seq == u64::MAX {
        "stand twice or do not belong".to_owned()
    } else {
        format!("n1/0/{seq}")
    };
    let mut names = vec![record.as_str()];
    if with_manifests {
        tools::refit_manifests(&copy.archive(), &copy.log());
        names.push("manifest is not the one that was sealed");
    } else {
        names.push(&name);
    }
    Expect::names(&names).with(&[&"--journal", &copy.journal()])
}
