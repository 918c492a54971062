//! A session of the protocol without sockets: results are handed to it as a server sends them.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use mask::{Catalog, Masks};
use proto::postgres::{PostgresSession, Transport};
use proto::session::{Session, Verdict};
use proto::sql::Analyzer;
use types::addr::Side;
use types::clock::Timestamp;
use types::event::Event;
use types::limits::READ_BYTES;
use types::redact::{Column, Format};
use types::secret::Secret;

use crate::mix::Mix;

/// How a result is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By SELECT.
    Rows,
    /// By COPY TO STDOUT.
    Copy,
}

/// A logged in session, and what the server says to one query of it.
pub(crate) struct Loopback {
    session: PostgresSession,
    masks: Arc<Masks>,
    catalog: Arc<Catalog>,
    query: Vec<u8>,
    answer: Vec<u8>,
}

impl Loopback {
    pub(crate) fn new(
        masks: &Arc<Masks>,
        catalog: &Arc<Catalog>,
        mix: &Mix,
        way: Way,
    ) -> Result<Self> {
        let mut session = PostgresSession::new(Arc::new(Analyzer::new()), Transport::default());
        session.set_cancel_key(Secret::new([7; 32]));
        let (masks, catalog) = (Arc::clone(masks), Arc::clone(catalog));
        let (query, answer) = match way {
            Way::Rows => (message(b'Q', &zero_ended(&select(&mix.columns))), rows(mix)?),
            Way::Copy => (message(b'Q', &zero_ended(&copy(mix))), copied(mix)?),
        };
        let mut own = Self { session, masks, catalog, query, answer };
        let startup = [&196_608_u32.to_be_bytes()[..], b"user\0a\0database\0b\0\0"].concat();
        let length = u32::try_from(startup.len() + 4)?.to_be_bytes();
        own.take(Side::Downstream, &[&length, &startup[..]].concat())?;
        let welcome =
            [message(b'R', &[0; 4]), message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]), message(b'Z', b"I")];
        own.take(Side::Upstream, &welcome.concat())?;
        Ok(own)
    }

    /// Answers the query once; answers how many bytes the server sent.
    pub(crate) fn fetch(&mut self) -> Result<usize> {
        let query = self.query.clone();
        self.take(Side::Downstream, &query)?;
        let answer = std::mem::take(&mut self.answer);
        for read in answer.chunks(READ_BYTES) {
            self.take(Side::Upstream, read)?;
        }
        self.answer = answer;
        ensure!(!self.session.is_ended(), "the session ended");
        Ok(self.answer.len())
    }

    fn take(&mut self, side: Side, bytes: &[u8]) -> Result<()> {
        self.session.handle_input(side, bytes, Timestamp::default());
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Command(command) => {
                    self.session.handle_decision(command.id, Verdict::Allow);
                }
                Event::ProbeWanted => {
                    let redactor = self.masks.redactor(Arc::clone(&self.catalog));
                    self.session.set_redactor(redactor);
                    self.session.skip_probe();
                }
                Event::Violation(violation) => bail!("{}", violation.what),
                _ => {}
            }
        }
        for side in [Side::Downstream, Side::Upstream] {
            let transmit = self.session.transmit(side);
            let count = transmit.len();
            transmit.consume(count);
        }
        Ok(())
    }
}

/// The query of which a mix is the result.
pub(crate) fn select(columns: &[Column]) -> String {
    format!("SELECT {} FROM notes", list(columns))
}

fn copy(mix: &Mix) -> String {
    let binary = is_binary(mix).then_some(" (FORMAT binary)");
    format!("COPY notes ({}) TO STDOUT{}", list(&mix.columns), binary.unwrap_or_default())
}

fn list(columns: &[Column]) -> String {
    let names = columns.iter().map(|column| String::from_utf8_lossy(&column.name));
    names.collect::<Vec<_>>().join(", ")
}

fn is_binary(mix: &Mix) -> bool {
    mix.columns.iter().any(|column| column.format == Format::Binary)
}

fn rows(mix: &Mix) -> Result<Vec<u8>> {
    let count = u16::try_from(mix.columns.len())?.to_be_bytes();
    let mut description = count.to_vec();
    for column in &mix.columns {
        description.extend_from_slice(&zero_ended(&String::from_utf8_lossy(&column.name)));
        description.extend_from_slice(&[0; 6]);
        description.extend_from_slice(&column.type_oid.to_be_bytes());
        let binary = u8::from(column.format == Format::Binary);
        description.extend_from_slice(&[0, 0, 0xff, 0xff, 0xff, 0xff, 0, binary]);
    }
    let mut answer = message(b'T', &description);
    let mut body = Vec::new();
    for row in &mix.rows {
        body.clear();
        body.extend_from_slice(&count);
        append_values(&mut body, row)?;
        answer.extend(message(b'D', &body));
    }
    answer.extend(message(b'C', b"SELECT 1\0"));
    answer.extend(message(b'Z', b"I"));
    Ok(answer)
}

fn copied(mix: &Mix) -> Result<Vec<u8>> {
    let (count, binary) = (u16::try_from(mix.columns.len())?, is_binary(mix));
    let mut body = vec![u8::from(binary)];
    body.extend_from_slice(&count.to_be_bytes());
    body.extend((0..count).flat_map(|_| [0, u8::from(binary)]));
    let mut answer = message(b'H', &body);
    if binary {
        answer.extend(message(b'd', b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"));
    }
    for row in &mix.rows {
        body.clear();
        if binary {
            body.extend_from_slice(&count.to_be_bytes());
            append_values(&mut body, row)?;
        } else {
            for (at, value) in row.iter().enumerate() {
                body.extend((at > 0).then_some(b'\t'));
                append_escaped(&mut body, value);
            }
            body.push(b'\n');
        }
        answer.extend(message(b'd', &body));
    }
    if binary {
        answer.extend(message(b'd', &[0xff, 0xff]));
    }
    answer.extend(message(b'c', &[]));
    answer.extend(message(b'C', b"COPY 1\0"));
    answer.extend(message(b'Z', b"I"));
    Ok(answer)
}

fn append_values(body: &mut Vec<u8>, row: &[Vec<u8>]) -> Result<()> {
    for value in row {
        body.extend_from_slice(&u32::try_from(value.len())?.to_be_bytes());
        body.extend_from_slice(value);
    }
    Ok(())
}

/// As COPY writes text (PostgreSQL documentation, "COPY", Text Format).
fn append_escaped(body: &mut Vec<u8>, value: &[u8]) {
    for byte in value {
        match byte {
            b'\n' => body.extend_from_slice(br"\n"),
            b'\t' => body.extend_from_slice(br"\t"),
            b'\\' => body.extend_from_slice(br"\\"),
            other => body.push(*other),
        }
    }
}

fn zero_ended(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("messages here are small");
    [&[tag], &length.to_be_bytes()[..], body].concat()
}
