//! A result of generated rows on its way through a session with masks: whatever the other columns hold, in
//! whatever pieces it comes, the masked column's value does not come down, and JSON stays JSON.

use std::sync::{Arc, LazyLock};

use mask::classification::Classification;
use mask::{Catalog, Masks};
use proto::postgres::{PostgresSession, Transport};
use proto::session::{Session, Verdict};
use proto::sql::Analyzer;
use types::addr::Side;
use types::clock::Timestamp;
use types::event::Event;
use types::redact::{DataClass, MaskRule, Operator};
use types::secret::Secret;

/// What must not come down. Not a form that is recognized: only its column says what it is.
const SECRET: &[u8] = b"qz7-Kestrel-918-XyLoPhOn";

/// Statements that bring `id`, the secret and `note`, and whether they copy (and how).
const STATEMENTS: [(&str, Way); 7] = [
    ("SELECT id, ssn, note FROM customers", Way::Rows),
    ("SELECT * FROM customers", Way::Rows),
    ("SELECT id, ssn AS id, note AS ssn FROM customers c", Way::Rows),
    ("COPY customers (id, ssn, note) TO STDOUT", Way::Text),
    ("COPY customers (id, ssn, note) TO STDOUT (FORMAT csv)", Way::Csv),
    ("COPY customers (id, ssn, note) TO STDOUT (FORMAT binary)", Way::Binary),
    ("COPY (SELECT id, ssn, note FROM customers) TO STDOUT", Way::Text),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Rows,
    Text,
    Csv,
    Binary,
}

/// Types of the column beside the secret: text, JSON, its binary form, an array, none known.
const TYPES: [u32; 5] = [25, 114, 3802, 1009, 16_500];

static ANALYZER: LazyLock<Arc<Analyzer>> = LazyLock::new(|| Arc::new(Analyzer::new()));

static CLASSES: LazyLock<Classification> = LazyLock::new(|| {
    let told = "[[class]]\nname = \"us_ssn\"\ncolumns = [\"*.ssn\"]\nrecognizer = \"us_ssn\"\n";
    Classification::parse(told).expect("this is a class")
});

/// `customers (id, ssn, note)`.
static CATALOG: LazyLock<Arc<Catalog>> = LazyLock::new(|| {
    let row = |(at, (name, oid)): (usize, &(&str, &str))| {
        let number = (at + 1).to_string();
        let cells = ["c", "20000", "public", "customers", &number, name, oid];
        cells.iter().map(|cell| Some((*cell).to_owned())).chain([None]).collect::<Vec<_>>()
    };
    let columns = [("id", "23"), ("ssn", "25"), ("note", "25")];
    let rows: Vec<_> = columns.iter().enumerate().map(row).collect();
    let catalog = Catalog::from_rows(&CLASSES, &rows, &Catalog::unknown());
    Arc::new(catalog.expect("these are a catalog's rows"))
});

static MASKS: LazyLock<Arc<Masks>> = LazyLock::new(|| {
    let rule = MaskRule { class: DataClass("us_ssn".into()), operator: Operator::Replace };
    Masks::compile(&[rule], &CLASSES, &Secret::new([7; 32]))
});

/// Runs one input: the statement, the type beside it, the format, how many bytes come at a time, a byte each;
/// then rows, each a length and the note.
pub(super) fn one_input(input: &[u8]) {
    let Some(([statement, oid, format, cut], mut rest)) = input.split_first_chunk() else { return };
    if input.windows(5).any(|part| SECRET.windows(5).any(|secret| secret == part)) {
        return;
    }
    let (sql, way) = STATEMENTS[usize::from(*statement) % STATEMENTS.len()];
    let (oid, binary) = (TYPES[usize::from(*oid) % TYPES.len()], format & 1 == 1);
    let mut notes = Vec::new();
    while let Some((length, behind)) = rest.split_first() {
        let (note, behind) = behind.split_at_checked(usize::from(*length)).unwrap_or((behind, &[]));
        notes.push(note);
        rest = behind;
    }
    let answer = match way {
        Way::Rows => rows(&notes, oid, binary),
        way => copied(&notes, way),
    };
    let told = passed(sql, &answer, usize::from(*cut).max(1));
    // Enough of it to say what it is, and one more than an input may hold: an escape ends in a letter of its own.
    let leaked = told.windows(6).any(|part| SECRET.windows(6).any(|secret| secret == part));
    assert!(!leaked, "{sql}: the secret came down");
    if way == Way::Rows && oid == 114 {
        json_stays(&told, &notes);
    }
}

/// What comes down when `sql` is answered by `answer`, `cut` bytes at a time.
fn passed(sql: &str, answer: &[u8], cut: usize) -> Vec<u8> {
    let mut session = PostgresSession::new(Arc::clone(&ANALYZER), Transport::default());
    let mut told = Vec::new();
    let startup = [&196_608_u32.to_be_bytes(), b"user\0a\0database\0b\0\0".as_slice()].concat();
    let length = u32::try_from(startup.len() + 4).expect("it is short");
    give(
        &mut session,
        &mut told,
        Side::Downstream,
        &[&length.to_be_bytes(), startup.as_slice()].concat(),
    );
    let welcome = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
    give(&mut session, &mut told, Side::Upstream, &welcome);
    session.set_redactor(MASKS.redactor(Arc::clone(&CATALOG)));
    give(
        &mut session,
        &mut told,
        Side::Downstream,
        &message(b'Q', &[sql.as_bytes(), b"\0"].concat()),
    );
    for piece in answer.chunks(cut) {
        give(&mut session, &mut told, Side::Upstream, piece);
    }
    told
}

fn give(session: &mut PostgresSession, told: &mut Vec<u8>, side: Side, bytes: &[u8]) {
    session.handle_input(side, bytes, Timestamp::default());
    while let Some(event) = session.poll_event() {
        match event {
            Event::Command(command) => session.handle_decision(command.id, Verdict::Allow),
            Event::ProbeWanted => session.skip_probe(),
            _ => {}
        }
    }
    for side in [Side::Downstream, Side::Upstream] {
        let waiting = session.transmit(side);
        if side == Side::Downstream {
            told.extend_from_slice(waiting.pending());
        }
        let count = waiting.len();
        waiting.consume(count);
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("it is short");
    [&[tag], length.to_be_bytes().as_slice(), body].concat()
}

fn rows(notes: &[&[u8]], oid: u32, binary: bool) -> Vec<u8> {
    let mut description = 3_u16.to_be_bytes().to_vec();
    for (name, oid) in [("id", 23), ("ssn", 25), ("note", oid)] {
        description.extend_from_slice(name.as_bytes());
        description.extend_from_slice(&[0; 7]);
        description.extend_from_slice(&u32::to_be_bytes(oid));
        description.extend_from_slice(&[0xff; 6]);
        description.extend_from_slice(&u16::from(binary).to_be_bytes());
    }
    let mut answer = message(b'T', &description);
    for note in notes {
        let mut row = 3_u16.to_be_bytes().to_vec();
        for value in [b"1234".as_slice(), SECRET, note] {
            row.extend_from_slice(&u32::try_from(value.len()).expect("it is short").to_be_bytes());
            row.extend_from_slice(value);
        }
        answer.extend(message(b'D', &row));
    }
    answer.extend(message(b'C', b"SELECT 1\0"));
    answer.extend(message(b'Z', b"I"));
    answer
}

fn copied(notes: &[&[u8]], way: Way) -> Vec<u8> {
    let binary = u8::from(way == Way::Binary);
    let mut answer = message(b'H', &[binary, 0, 3, 0, binary, 0, binary, 0, binary]);
    let mut data = Vec::new();
    if way == Way::Binary {
        data.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    }
    for note in notes {
        match way {
            Way::Binary => {
                data.extend_from_slice(&3_u16.to_be_bytes());
                for value in [b"1234".as_slice(), SECRET, note] {
                    let length = u32::try_from(value.len()).expect("it is short");
                    data.extend_from_slice(&length.to_be_bytes());
                    data.extend_from_slice(value);
                }
            }
            Way::Csv => {
                data.extend_from_slice(b"1234,");
                data.extend_from_slice(SECRET);
                data.extend_from_slice(b",\"");
                data.extend(
                    note.iter().flat_map(|b| if *b == b'"' { vec![b'"', b'"'] } else { vec![*b] }),
                );
                data.extend_from_slice(b"\"\n");
            }
            Way::Text | Way::Rows => {
                data.extend_from_slice(b"1234\t");
                data.extend_from_slice(SECRET);
                data.push(b'\t');
                data.extend(note.iter().flat_map(|byte| match byte {
                    b'\t' => vec![b'\\', b't'],
                    b'\n' => vec![b'\\', b'n'],
                    b'\r' => vec![b'\\', b'r'],
                    b'\\' => vec![b'\\', b'\\'],
                    byte => vec![*byte],
                }));
                data.push(b'\n');
            }
        }
    }
    if way == Way::Binary {
        data.extend_from_slice(&[0xff; 2]);
    }
    // The server sends a row a message; others in its place may cut anywhere.
    let size = data.len().div_ceil(3).max(1);
    answer.extend(data.chunks(size).flat_map(|part| message(b'd', part)));
    answer.extend(message(b'c', b""));
    answer.extend(message(b'C', b"COPY 1\0"));
    answer.extend(message(b'Z', b"I"));
    answer
}

/// Checks the note of every row told against what it was: valid documents stay valid.
fn json_stays(mut told: &[u8], notes: &[&[u8]]) {
    let mut notes = notes.iter();
    while let [tag, a, b, c, d, rest @ ..] = told {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let (body, behind) = rest.split_at(length - 4);
        told = behind;
        if *tag != b'D' {
            continue;
        }
        let note = notes.next().expect("no more rows than were sent");
        let mut values = &body[2..];
        let mut last = None;
        while let [a, b, c, d, rest @ ..] = values {
            let length = i32::from_be_bytes([*a, *b, *c, *d]);
            let (value, behind) = rest.split_at(usize::try_from(length).unwrap_or(0));
            last = (length >= 0).then_some(value);
            values = behind;
        }
        if let (Ok(_), Some(now)) = (serde_json::from_slice::<serde_json::Value>(note), last) {
            let now = serde_json::from_slice::<serde_json::Value>(now);
            assert!(now.is_ok(), "JSON stays JSON");
        }
    }
}
