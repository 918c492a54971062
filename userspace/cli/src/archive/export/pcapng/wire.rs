//! PostgreSQL messages that say what records say (PostgreSQL documentation, "Message Formats").

use journal::row::{EventRow, RecordingRow};
use serde_json::Value;
use types::addr::Side;

/// What one side says at once.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) side: Side,
    pub(super) bytes: Vec<u8>,
    /// When it was said, microseconds since 1970 UTC; where that is not told, as its command began or ended.
    pub(super) at_us: Option<i64>,
    /// What of it is not there, in words.
    pub(super) left_out: Option<String>,
}

impl Turn {
    /// What a side says.
    pub(super) fn new(side: Side, bytes: Vec<u8>) -> Self {
        Self { side, bytes, at_us: None, left_out: None }
    }
}

/// How far a session is.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    /// The status of its transaction; none before it is open.
    transaction: Option<u8>,
}

/// Type `text`.
const TEXT: u32 = 25;

impl Conversation {
    /// The startup, and the server's word that it is ready; the login between is kept nowhere.
    pub(super) fn connect(&mut self, event: &EventRow) -> Vec<Turn> {
        let down = startup(
            event.session.target_role.as_deref().or(event.session.target_account.as_deref()),
            event.session.target_db.as_deref(),
        );
        let up = match event.status.as_str() {
            "ok" => {
                self.transaction = Some(b'I');
                let parameter = |text: &[u8]| message(b'S', text);
                [
                    message(b'R', &[0; 4]),
                    parameter(b"client_encoding\0UTF8\0"),
                    parameter(b"standard_conforming_strings\0on\0"),
                    message(b'Z', b"I"),
                ]
                .concat()
            }
            "interrupted" => Vec::new(),
            _ => error("FATAL", event),
        };
        turns(down, up)
    }

    /// A statement and its answer.
    pub(super) fn query(
        &mut self,
        event: &EventRow,
        recording: Option<&RecordingRow>,
    ) -> Vec<Turn> {
        let mut before = Vec::new();
        if self.transaction.is_none() {
            // The session's opening is not in these records.
            let opening = EventRow { status: "ok".into(), ..event.clone() };
            before = self.connect(&opening);
        }
        let kept = recording.and_then(|one| one.statement.as_deref());
        let text = kept.unwrap_or(&event.statement.statement_norm).replace('\0', " ");
        let parameters = recording.and_then(|one| one.parameters.as_deref());
        let parameters = parameters.and_then(|text| serde_json::from_str::<Vec<Value>>(text).ok());
        let parameters = parameters.filter(|parameters| !parameters.is_empty());
        let sample = recording.and_then(|one| one.response_sample.as_deref()).unwrap_or_default();
        let down = match &parameters {
            None => message(b'Q', &[text.as_bytes(), &[0]].concat()),
            Some(parameters) => extended(&text, parameters),
        };
        let copies = copies(&text, event);
        let mut up = match &parameters {
            Some(_) => [message(b'1', b""), message(b'2', b"")].concat(),
            None => Vec::new(),
        };
        let mut after = Vec::new();
        match event.status.as_str() {
            "interrupted" => up.clear(),
            "ok" if copies == Some(Copies::In) => {
                up.extend(message(b'G', &[0, 0, 0]));
                after.push(Turn::new(Side::Downstream, message(b'c', b"")));
                let done = [self.complete(event), self.ready()].concat();
                after.push(Turn::new(Side::Upstream, done));
            }
            "ok" => {
                up.extend(match copies {
                    Some(_) => copied(sample),
                    None => rows(sample, parameters.is_some()),
                });
                up.extend(self.complete(event));
                up.extend(self.ready());
            }
            _ => {
                if self.transaction == Some(b'T') {
                    self.transaction = Some(b'E');
                }
                up = [error("ERROR", event), self.ready()].concat();
            }
        }
        before.extend(turns(down, up));
        before.extend(after);
        before
    }

    fn complete(&mut self, event: &EventRow) -> Vec<u8> {
        let verb = event.statement.verb.as_str();
        let rows = event.rows.unwrap_or(0);
        let tag = match verb {
            "INSERT" => format!("INSERT 0 {rows}"),
            "SELECT" | "UPDATE" | "DELETE" | "COPY" | "FETCH" | "MOVE" | "MERGE" => {
                format!("{verb} {rows}")
            }
            _ => verb.to_owned(),
        };
        self.transaction = match verb {
            "BEGIN" | "START TRANSACTION" => Some(b'T'),
            "COMMIT" | "ROLLBACK" | "END" | "ABORT" | "PREPARE TRANSACTION" => Some(b'I'),
            _ => self.transaction,
        };
        message(b'C', &[tag.as_bytes(), &[0]].concat())
    }

    fn ready(&self) -> Vec<u8> {
        message(b'Z', &[self.transaction.unwrap_or(b'I')])
    }
}

fn turns(down: Vec<u8>, up: Vec<u8>) -> Vec<Turn> {
    let mut turns = vec![Turn::new(Side::Downstream, down), Turn::new(Side::Upstream, up)];
    turns.retain(|turn| !turn.bytes.is_empty());
    turns
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copies {
    In,
    Out,
}

/// Which way a statement copies over the connection.
fn copies(text: &str, event: &EventRow) -> Option<Copies> {
    let text = text.to_ascii_uppercase();
    match event.statement.verb.as_str() {
        "COPY" if text.contains("STDIN") => Some(Copies::In),
        "COPY" if text.contains("STDOUT") => Some(Copies::Out),
        _ => None,
    }
}

/// A message: its tag, its length, its body.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &int(body.len() + 4), body].concat()
}

fn int(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes()
}

fn short(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes()
}

fn startup(user: Option<&str>, database: Option<&str>) -> Vec<u8> {
    let mut body = vec![0, 3, 0, 0];
    for (name, value) in [("user", user.or(Some("unknown"))), ("database", database)] {
        if let Some(value) = value.filter(|value| !value.contains('\0')) {
            body.extend([name.as_bytes(), &[0], value.as_bytes(), &[0]].concat());
        }
    }
    body.push(0);
    [&int(body.len() + 4)[..], &body].concat()
}

/// Parse, Bind, Describe, Execute, Sync.
fn extended(text: &str, parameters: &[Value]) -> Vec<u8> {
    let parse = [&[0], text.as_bytes(), &[0, 0, 0]].concat();
    // One format for all: text.
    let mut bind = vec![0, 0, 0, 0];
    bind.extend(short(parameters.len()));
    for parameter in parameters {
        let text = match parameter {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => other.get("text").and_then(Value::as_str).map_or_else(
                || Some(other.get("hex").and_then(Value::as_str).unwrap_or_default().to_owned()),
                |text| Some(text.to_owned()),
            ),
        };
        match text {
            None => bind.extend([0xff; 4]),
            Some(text) => {
                bind.extend(int(text.len()));
                bind.extend(text.as_bytes());
            }
        }
    }
    bind.extend([0, 0]);
    [
        message(b'P', &parse),
        message(b'B', &bind),
        message(b'D', b"P\0"),
        message(b'E', &[0; 5]),
        message(b'S', b""),
    ]
    .concat()
}

/// The rows of a sample: a line each, tabs between values, written as COPY writes them. The last may be cut.
/// Whoever asks for a description is told that there is none where there are no rows.
fn rows(sample: &str, is_described: bool) -> Vec<u8> {
    let Some(first) = sample.lines().next() else {
        return if is_described { message(b'n', b"") } else { Vec::new() };
    };
    let columns = first.split('\t').count();
    let mut described = short(columns).to_vec();
    for column in 1..=columns {
        described.extend(format!("column{column}\0").as_bytes());
        described.extend([0; 6]);
        described.extend(TEXT.to_be_bytes());
        described.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    }
    let mut out = message(b'T', &described);
    for line in sample.lines() {
        let mut row = short(columns).to_vec();
        let mut values = line.split('\t');
        for _ in 0..columns {
            match values.next() {
                None | Some(r"\N") => row.extend([0xff; 4]),
                Some(value) => {
                    let value = unescaped(value);
                    row.extend(int(value.len()));
                    row.extend(value.as_bytes());
                }
            }
        }
        out.extend(message(b'D', &row));
    }
    out
}

fn unescaped(value: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(value.len()), value.chars());
    while let Some(c) = rest.next() {
        let escaped = if c == '\\' { rest.next() } else { None };
        out.push(match escaped {
            Some('t') => '\t',
            Some('n') => '\n',
            Some('r') => '\r',
            other => other.unwrap_or(c),
        });
    }
    out
}

/// A sample of what was copied out.
fn copied(sample: &str) -> Vec<u8> {
    let mut out = message(b'H', &[0, 0, 0]);
    for line in sample.lines() {
        out.extend(message(b'd', format!("{line}\n").as_bytes()));
    }
    out.extend(message(b'c', b""));
    out
}

fn error(severity: &str, event: &EventRow) -> Vec<u8> {
    let code = event.error_code.as_deref().unwrap_or(match event.status.as_str() {
        "denied" => "42501",
        // In a failed transaction, or behind an error.
        "skipped" => "25P02",
        _ => "XX000",
    });
    let text = match event.status.as_str() {
        "denied" => format!(
            "vestibule: refused by {}: {}",
            event.session.rule_id, event.session.decision_reason
        ),
        status => format!("vestibule: {status}; the server's own words are not kept"),
    };
    let mut body = Vec::new();
    for (field, value) in [(b'S', severity), (b'V', severity), (b'C', code), (b'M', &text)] {
        body.push(field);
        body.extend(value.replace('\0', " ").as_bytes());
        body.push(0);
    }
    body.push(0);
    message(b'E', &body)
}
