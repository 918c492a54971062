//! The extended query protocol as the agent speaks it: Parse, Bind, Describe, Execute, Close.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use types::command::CommandKind;
use types::limits::PREPARED_MAX;

use super::authority::{Pending, Request};
use super::executing::is_execute;
use super::expect::{CloseTarget, Expect, InFlight};
use super::message;
use super::names::{Held, Lookup};
use super::prepared::{Bind, Portal, Prepared, Rows, are_cut};
use super::startup::unknown_statement;
use super::{HELD_BYTES_MAX, PostgresSession};
use crate::reader::Reader;

const MALFORMED: &str = "malformed message";

impl PostgresSession {
    /// Parse: what the text does is found out now and decided with each Execute.
    pub(super) fn parse(&mut self, frame: &[u8], body: &[u8]) -> bool {
        let Some((name, text, types)) = read_parse(body) else {
            self.refuse_agent(MALFORMED, *b"08P01");
            return false;
        };
        if self.must_see_answers() || !self.has_room() {
            return false;
        }
        if self.server.skipping {
            return self.forward(frame);
        }
        let statement = match &*self.analyze(text) {
            [one] => Arc::clone(one),
            // The server refuses several in one Parse.
            _ => unknown_statement(&String::from_utf8_lossy(text)),
        };
        let held = Held::new(&self.held, frame.len());
        let prepared = Arc::new(Prepared::new(statement, types, held, self.generation));
        let change = self.statements.change(name, self.agent.segment, Some(Arc::clone(&prepared)));
        self.expect(Expect::Parse { name: name.into(), change, prepared });
        self.forward(frame)
    }

    pub(super) fn bind(&mut self, frame: &[u8], body: &[u8]) -> bool {
        let Some(bind) = Bind::read(body) else {
            self.refuse_agent(MALFORMED, *b"08P01");
            return false;
        };
        let prepared = match self.find_statement(bind.statement) {
            Lookup::Wait => return false,
            Lookup::Known(prepared) => Some(prepared),
            Lookup::Unknown => None,
        };
        if !self.has_room() {
            return false;
        }
        if self.server.skipping {
            return self.forward(frame);
        }
        let description = prepared.as_ref().map(|one| one.description(self.epoch));
        let described = description.as_ref().and_then(|one| one.parameter_types.as_deref());
        let parameters = bind.parameters(|at| {
            let given = prepared.as_ref().and_then(|one| one.parameter_types.get(at)).copied();
            let described = described.and_then(|types| types.get(at)).copied();
            given.filter(|oid| *oid != 0).or(described).unwrap_or(0)
        });
        drop(description);
        let keeps_whole = self.agent.keeps_wholes && are_cut(&parameters);
        let portal = Arc::new(Portal {
            prepared,
            formats: bind.formats.clone(),
            parameters,
            whole: keeps_whole.then(|| Box::new(bind.digest())),
            bind_bytes: frame.len() as u64,
            used: OnceLock::new(),
            _held: Held::new(&self.held, frame.len().min(512 * 1024)),
        });
        self.cursors.forget(bind.portal);
        let change =
            self.portals.change(bind.portal, self.agent.segment, Some(Arc::clone(&portal)));
        self.expect(Expect::Bind { name: bind.portal.into(), change, portal });
        self.forward(frame)
    }

    pub(super) fn describe(&mut self, frame: &[u8], body: &[u8]) -> bool {
        let Some((target, name)) = read_target(body) else {
            self.refuse_agent(MALFORMED, *b"08P01");
            return false;
        };
        let (prepared, portal) = match target {
            CloseTarget::Statement => match self.find_statement(name) {
                Lookup::Wait => return false,
                Lookup::Known(prepared) => (Some(prepared), false),
                Lookup::Unknown => (None, false),
            },
            CloseTarget::Portal => match self.find_portal(name) {
                Lookup::Wait => return false,
                Lookup::Known(portal) => (portal.prepared.clone(), true),
                Lookup::Unknown => (None, true),
            },
        };
        if let Some(prepared) = &prepared {
            prepared.description(self.epoch).asked_in = Some(self.agent.segment);
        }
        self.expect(Expect::Describe { prepared, portal, hidden: false, epoch: self.epoch });
        self.forward(frame)
    }

    pub(super) fn execute(&mut self, frame: &[u8], body: &[u8]) -> bool {
        let mut reader = Reader::new(body);
        let name = reader.cstr().filter(|_| reader.rest().len() == 4);
        let Some(name) = name else {
            self.refuse_agent(MALFORMED, *b"08P01");
            return false;
        };
        let portal = match self.find_portal(name) {
            Lookup::Wait => return false,
            Lookup::Known(portal) => Some(portal),
            Lookup::Unknown => None,
        };
        let prepared = portal.as_ref().and_then(|portal| portal.prepared.as_ref());
        let statement = prepared
            .map_or_else(|| unknown_statement(""), |prepared| Arc::clone(&prepared.statement));
        let Some(statement) = self.resolve_one(statement) else { return false };
        let parameters = portal.as_ref().map(|portal| Arc::clone(&portal.parameters));
        let bound = portal.as_ref().map_or(0, |portal| portal.bind_bytes);
        let id =
            self.ask(CommandKind::Query, Arc::clone(&statement), parameters.unwrap_or_default());
        self.next_batch = self.next_batch.wrapping_add(1);
        let command = InFlight::new(id, statement, bound + frame.len() as u64);
        let request = Request::Execute { name: name.into(), portal };
        self.agent.pending = Some(Pending::new(frame.len(), request, self.alone(command)));
        false
    }

    pub(super) fn close(&mut self, frame: &[u8], body: &[u8]) -> bool {
        let Some((target, name)) = read_target(body) else {
            self.refuse_agent(MALFORMED, *b"08P01");
            return false;
        };
        if self.server.skipping {
            return self.forward(frame);
        }
        let segment = self.agent.segment;
        let change = match target {
            CloseTarget::Statement => self.statements.change(name, segment, None),
            CloseTarget::Portal => {
                self.cursors.forget(name);
                self.portals.change(name, segment, None)
            }
        };
        self.expect(Expect::Close { target, name: name.into(), change });
        self.forward(frame)
    }

    /// What is known of the rows of an execution that goes up; where nothing is, a Describe of our
    /// own goes before it.
    pub(super) fn describe_before(&mut self, name: &[u8], portal: Option<&Portal>) -> Rows {
        let prepared = portal.and_then(|portal| portal.prepared.clone());
        // An EXECUTE's name may stand for something else each time.
        let prepared = prepared.filter(|prepared| !is_execute(&prepared.statement));
        if let Some(prepared) = &prepared {
            let mut description = prepared.description(self.epoch);
            if !matches!(description.rows, Rows::Unknown)
                || description.asked_in == Some(self.agent.segment)
            {
                return description.rows.clone();
            }
            description.asked_in = Some(self.agent.segment);
        }
        message::describe_portal(self.transmit.upstream.buffer(), name);
        self.expect(Expect::Describe { prepared, portal: true, hidden: true, epoch: self.epoch });
        Rows::Unknown
    }

    /// What a prepared statement's name means; where that is not known yet, the message waits.
    fn find_statement(&mut self, name: &[u8]) -> Lookup<Prepared> {
        let found = self.statements.get(name, self.agent.segment);
        self.agent.waiting |= matches!(found, Lookup::Wait);
        found
    }

    /// What a portal's name means, likewise.
    fn find_portal(&mut self, name: &[u8]) -> Lookup<Portal> {
        let found = self.portals.get(name, self.agent.segment);
        self.agent.waiting |= matches!(found, Lookup::Wait);
        found
    }

    fn has_room(&mut self) -> bool {
        let full = self.statements.len() + self.portals.len() >= PREPARED_MAX
            || self.held.load(Ordering::Relaxed) > HELD_BYTES_MAX;
        if full {
            self.refuse_agent("too many prepared statements and portals", *b"54000");
        }
        !full
    }
}

/// Name, text and parameter types.
type ParseBody<'a> = (&'a [u8], &'a [u8], Box<[u32]>);

/// Reads a Parse's body; `None` where it is malformed.
fn read_parse(body: &[u8]) -> Option<ParseBody<'_>> {
    let mut reader = Reader::new(body);
    let (name, text) = (reader.cstr()?, reader.cstr()?);
    let count = reader.u16()?;
    let types = (0..count).map(|_| reader.u32()).collect::<Option<_>>()?;
    reader.is_empty().then_some((name, text, types))
}

/// What a Describe or Close is about.
fn read_target(body: &[u8]) -> Option<(CloseTarget, &[u8])> {
    let mut reader = Reader::new(body);
    let target = match reader.u8()? {
        b'S' => CloseTarget::Statement,
        b'P' => CloseTarget::Portal,
        _ => return None,
    };
    let name = reader.cstr()?;
    reader.is_empty().then_some((target, name))
}
