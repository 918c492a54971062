//! Sessions as byte exchanges: each is fed whole, byte by byte and at random cuts, and must give
//! the same events and the same bytes.

mod calls;
mod copying;
mod executing;
mod extended;
mod garbage;
mod holding;
mod injection;
mod limited;
mod masking;
mod opening;
mod passwords;
mod replicating;
mod simple;

use std::sync::{Arc, LazyLock};

use types::addr::Side;
use types::clock::Timestamp;
use types::command::Analysis;
use types::decision::{Keep, Limit, Measure};
use types::event::{Event, Outcome, Status};
use types::id::{CommandId, PolicyId};
use types::redact::{
    Column, DataClass, Format, MaskCount, Quotes, Redaction, Redactor, Treatment, TreatmentKind,
};
use types::secret::Secret;

use super::message::frame;
use super::{CancelKey, PostgresSession, Transport};
use crate::limit::{Bound, Limits};
use crate::session::{Obligations, Refusal, Session, Verdict};
use crate::sql::Analyzer;

static ANALYZER: LazyLock<Arc<Analyzer>> = LazyLock::new(|| Arc::new(Analyzer::new()));

/// Masks columns named `ssn` whole, and values that say `secret` in columns named `note`.
#[derive(Default)]
struct Masks {
    count: u64,
}

impl Masks {
    fn treat(name: &[u8], type_oid: u32, format: Format) -> Treatment {
        let kind = match name {
            b"ssn" => TreatmentKind::Mask(0),
            b"note" => TreatmentKind::Inspect,
            _ => TreatmentKind::Pass,
        };
        Treatment { kind, type_oid, modifier: -1, format }
    }
}

impl Redactor for Masks {
    fn plan(&mut self, _: &Analysis, columns: &[Column], treatments: &mut Vec<Treatment>) {
        treatments
            .extend(columns.iter().map(|one| Self::treat(&one.name, one.type_oid, one.format)));
    }

    fn plan_copy(&mut self, of: &Analysis, count: usize, format: Format, to: &mut Vec<Treatment>) {
        let names = of.copy.as_ref().and_then(|copy| copy.columns.clone()).unwrap_or_default();
        to.extend(
            (0..count).map(|at| {
                Self::treat(names.get(at).map_or(b"", |name| name.as_bytes()), 25, format)
            }),
        );
    }

    fn redact(&mut self, treatment: Treatment, value: &[u8], out: &mut Vec<u8>) -> Redaction {
        let hit = treatment.kind == TreatmentKind::Mask(0)
            || memchr::memmem::find(value, b"secret").is_some();
        if !hit {
            return Redaction::Unchanged;
        }
        self.count += 1;
        if value == b"null" {
            return Redaction::Null;
        }
        out.extend_from_slice(b"***");
        Redaction::Replaced
    }

    fn is_clean(&mut self, text: &[u8]) -> bool {
        memchr::memmem::find(text, b"secret").is_none()
    }

    fn fill(&mut self, treatment: Treatment, piece: &mut [u8]) {
        if treatment.kind == TreatmentKind::Mask(0) {
            piece.fill(b'*');
        }
        while let Some(at) = memchr::memmem::find(piece, b"secret") {
            piece[at..at + 6].fill(b'*');
        }
    }

    fn quotes(&mut self, of: &Analysis) -> Quotes {
        match &*of.normalized {
            text if text.contains("anything") => Quotes::Anything,
            text if text.contains("quoted") => Quotes::Values,
            _ => Quotes::Nothing,
        }
    }

    fn redact_text(&mut self, text: &[u8], out: &mut Vec<u8>) -> Redaction {
        if memchr::memmem::find(text, b"secret").is_none() {
            return Redaction::Unchanged;
        }
        out.extend_from_slice(b"***");
        Redaction::Replaced
    }

    fn has_function(&self, name: &str) -> bool {
        name == "quote_ident"
    }

    fn take_counts(&mut self) -> Vec<MaskCount> {
        match std::mem::take(&mut self.count) {
            0 => Vec::new(),
            count => vec![MaskCount { class: DataClass("ssn".into()), count }],
        }
    }
}

/// One side's bytes, in their place of the exchange.
type Step = (Side, Vec<u8>);

fn agent(messages: &[Vec<u8>]) -> Step {
    (Side::Downstream, messages.concat())
}

fn server(messages: &[Vec<u8>]) -> Step {
    (Side::Upstream, messages.concat())
}

/// What came of an exchange.
#[derive(Debug, Default, PartialEq)]
struct Transcript {
    events: Vec<Event>,
    down: Vec<u8>,
    up: Vec<u8>,
    /// Cancel requests of ours.
    cancels: usize,
    /// Commands that wait, in order.
    held: Vec<CommandId>,
    ended: bool,
}

impl Transcript {
    fn outcomes(&self) -> Vec<&Outcome> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Outcome(outcome) => Some(outcome),
                _ => None,
            })
            .collect()
    }

    fn statuses(&self) -> Vec<Status> {
        self.outcomes().iter().map(|outcome| outcome.status).collect()
    }

    fn violation(&self) -> Option<&'static str> {
        self.events.iter().find_map(|event| match event {
            Event::Violation(violation) => Some(violation.what),
            _ => None,
        })
    }

    fn commands(&self) -> Vec<&types::command::Command> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Command(command) => Some(command),
                _ => None,
            })
            .collect()
    }
}

/// Runs an exchange in these cuts. Statements with `denied` or of which nothing is known are refused, those with
/// `held` wait.
fn run(steps: &[Step], cut: &mut dyn FnMut(usize) -> usize) -> Transcript {
    let mut session = PostgresSession::new(Arc::clone(&ANALYZER), Transport::default());
    // As the server's own in `opened`, so that one login serves all.
    session.set_cancel_key(Secret::new(std::array::from_fn(|at| if at == 3 { 2 } else { 0 })));
    let mut transcript = Transcript::default();
    for (side, bytes) in steps {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() && !session.is_ended() {
            let (head, tail) = rest.split_at(cut(rest.len()).clamp(1, rest.len()));
            session.handle_input(*side, head, Timestamp::default());
            settle(&mut session, &mut transcript);
            rest = tail;
        }
        drain(&mut session, &mut transcript);
    }
    transcript.ended = session.is_ended();
    session.handle_eof(Side::Upstream, Timestamp::default());
    settle(&mut session, &mut transcript);
    drain(&mut session, &mut transcript);
    transcript
}

fn settle(session: &mut PostgresSession, transcript: &mut Transcript) {
    while let Some(event) = session.poll_event() {
        match &event {
            Event::Command(command) => {
                let statement = &command.statement;
                let refused = statement.text.contains("denied")
                    || statement.verb == "UNKNOWN"
                    || statement.risks.contains(types::command::Risk::PRIVILEGE);
                let refusal = Refusal::new("p1".into(), "not allowed".into());
                let verdict = match refused {
                    true => Verdict::Deny(refusal),
                    false if statement.text.contains("held") => {
                        transcript.held.push(command.id);
                        Verdict::Hold
                    }
                    false if statement.text.contains("limited") => Verdict::Under(two_rows()),
                    false => Verdict::Allow,
                };
                if let Some(asked) = session.cancel_request().filter(|asked| asked.process == 7) {
                    let real = vec![b'r'; asked.key.expose().len()];
                    session.forward_cancel(CancelKey { process: 70, key: Secret::new(real) });
                }
                session.handle_decision(command.id, verdict);
            }
            Event::ProbeWanted => session.probe("SELECT catalog"),
            Event::Probed(_) => session.set_redactor(Box::new(Masks::default())),
            Event::Outcome(_)
            | Event::Violation(_)
            | Event::Authenticated(_)
            | Event::Notified(_) => {}
        }
        transcript.events.push(event);
    }
    if session.take_cancel().is_some() {
        transcript.cancels += 1;
        session.cancel_ended(true);
        settle(session, transcript);
    }
}

fn two_rows() -> Obligations {
    let policy = PolicyId("p2".into());
    let limit = Limit { policy, measure: Measure::Rows, most: 2, window_s: None };
    Obligations {
        limits: Limits::new(vec![Bound { limit, window: None }]),
        record: Some(Keep::Head(100)),
    }
}

fn drain(session: &mut PostgresSession, transcript: &mut Transcript) {
    for (side, to) in
        [(Side::Downstream, &mut transcript.down), (Side::Upstream, &mut transcript.up)]
    {
        let transmit = session.transmit(side);
        to.extend_from_slice(transmit.pending());
        let count = transmit.len();
        transmit.consume(count);
    }
}

/// Runs an exchange whole, byte by byte and at random cuts; all must agree.
fn check(steps: &[Step]) -> Transcript {
    let whole = run(steps, &mut |left| left);
    assert_eq!(run(steps, &mut |_| 1), whole, "byte by byte");
    let mut state = 0x9e37_79b9_u64;
    for round in 0..20 {
        let mut cut = |left: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 40).unwrap() % left.min(60) + 1
        };
        assert_eq!(run(steps, &mut cut), whole, "random cuts, round {round}");
    }
    whole
}

/// An exchange behind a login, whose own events and bytes are left out.
fn check_opened(steps: &[Step]) -> Transcript {
    let opening = opened();
    let before = run(&opening, &mut |left| left);
    let mut all = opening;
    all.extend_from_slice(steps);
    let mut after = check(&all);
    // The login ends with its Connect's outcome, a probe and its rows.
    after.events.drain(..4);
    after.down.drain(..before.down.len());
    after.up.drain(..before.up.len());
    after
}

fn opened() -> Vec<Step> {
    vec![
        agent(&[startup(&[("user", "bob"), ("database", "bank")])]),
        server(&[
            message(b'R', &[0, 0, 0, 0]),
            message(b'S', b"client_encoding\0UTF8\0"),
            message(b'S', b"standard_conforming_strings\0on\0"),
            message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]),
            ready(b'I'),
        ]),
        server(&[columns(&["t"]), row(&[Some("x")]), complete("SELECT 1"), ready(b'I')]),
    ]
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, tag, |out| out.extend_from_slice(body));
    out
}

fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(name.bytes().chain([0]).chain(value.bytes()).chain([0]));
    }
    body.push(0);
    [u32::try_from(body.len() + 4).unwrap().to_be_bytes().as_slice(), &body].concat()
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), &[0]].concat())
}

fn parse(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let mut body = [name.as_bytes(), &[0], sql.as_bytes(), &[0]].concat();
    body.extend_from_slice(&u16::try_from(types.len()).unwrap().to_be_bytes());
    body.extend(types.iter().flat_map(|oid| oid.to_be_bytes()));
    message(b'P', &body)
}

/// A Bind with parameters in one format and results in another.
fn bind(portal: &str, name: &str, binary: bool, values: &[&[u8]], results: &[u16]) -> Vec<u8> {
    let mut body =
        [portal.as_bytes(), &[0], name.as_bytes(), &[0, 0, 1, 0, u8::from(binary)]].concat();
    body.extend_from_slice(&u16::try_from(values.len()).unwrap().to_be_bytes());
    for value in values {
        body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value);
    }
    body.extend_from_slice(&u16::try_from(results.len()).unwrap().to_be_bytes());
    body.extend(results.iter().flat_map(|format| format.to_be_bytes()));
    message(b'B', &body)
}

fn describe(target: u8, name: &str) -> Vec<u8> {
    message(b'D', &[&[target], name.as_bytes(), &[0]].concat())
}

fn execute(portal: &str) -> Vec<u8> {
    message(b'E', &[portal.as_bytes(), &[0, 0, 0, 0, 0]].concat())
}

fn close(target: u8, name: &str) -> Vec<u8> {
    message(b'C', &[&[target], name.as_bytes(), &[0]].concat())
}

fn sync() -> Vec<u8> {
    message(b'S', &[])
}

fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

fn complete(tag: &str) -> Vec<u8> {
    message(b'C', &[tag.as_bytes(), &[0]].concat())
}

fn done(tag: u8) -> Vec<u8> {
    message(tag, &[])
}

fn failed(code: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0VERROR\0C{code}\0M{text}\0\0").as_bytes())
}

fn refused() -> Vec<u8> {
    let body = b"SERROR\0VERROR\0C42501\0Mnot allowed\0Dpolicy p1: not allowed\0\0";
    message(b'E', body)
}

fn failing_query() -> Vec<u8> {
    query("refused by vestibule")
}

fn failing_parse() -> Vec<u8> {
    parse("vestibule_refused", "refused by vestibule", &[])
}

fn columns(names: &[&str]) -> Vec<u8> {
    let mut body = u16::try_from(names.len()).unwrap().to_be_bytes().to_vec();
    for name in names {
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(&[
            0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        ]);
        body.extend_from_slice(&[0, 0]);
    }
    message(b'T', &body)
}

fn row(values: &[Option<&str>]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap());
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(value.unwrap_or_default().as_bytes());
    }
    message(b'D', &body)
}
