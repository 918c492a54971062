//! The server's plan of a statement that is held: asked for in a transaction of its own that may write nothing
//! and is rolled back, hidden from the agent.
//!
//! The statement goes up behind EXPLAIN, without ANALYZE: the server plans it and does not run it. Planning may
//! call functions that say of themselves that they change nothing; whoever asks must know that they are the server's.

use types::command::Transaction;
use types::limits::STATEMENT_TEXT_BYTES_MAX;

use super::authority::{Pending, Request};
use super::message;
use super::prepared::{Bind, Portal};
use super::probe::Purpose;
use super::replication::Replication;
use super::{Phase, PostgresSession};

/// A transaction that ends by itself: planning takes milliseconds, and locks of others may be in its way.
const BEGIN: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = '2s'";

/// The longest parameters that are sent once more: as long as a statement may be that people are shown.
const BOUND_BYTES_MAX: usize = STATEMENT_TEXT_BYTES_MAX;

const EXPLAIN: &str = "EXPLAIN (FORMAT JSON) ";

/// The name of our prepared statement and portal, closed again at once.
const NAME: &[u8] = b"vestibule_plan\0";

impl PostgresSession {
    /// Asks the server for its plan of the statement that is held, which must be the only one of its message; false
    /// where that can't be: within a transaction or a run of messages, whose locks and errors would be the agent's.
    /// Once the session is settled again, [`Self::plan`] has the answer.
    pub fn ask_plan(&mut self) -> bool {
        let is_free = self.is_settled()
            && self.phase == Phase::Running
            && self.replication() == Replication::No
            && self.server.transaction == Transaction::None
            && self.holding.as_ref().is_some_and(|holding| !holding.is_within);
        let Some(asked) = self.explained().filter(|_| is_free) else { return false };
        let out = self.transmit.upstream.buffer();
        message::query(out, BEGIN);
        out.extend_from_slice(&asked.messages);
        message::query(out, "ROLLBACK");
        self.begin_hidden(Purpose::Plan, asked.runs + 2);
        true
    }

    /// The plan in JSON (PostgreSQL documentation, "EXPLAIN"), where the server gave one.
    pub fn plan(&self) -> Option<&str> {
        self.holding.as_ref()?.plan.as_deref()
    }

    /// Takes what the server says of that.
    pub(super) fn note_plan(&mut self, rows: &[Vec<Option<String>>]) {
        if let Some(holding) = &mut self.holding
            && let Some(Some(said)) = rows.first().and_then(|row| row.first())
        {
            holding.plan = Some(said.as_str().into());
        }
    }

    fn explained(&self) -> Option<Explained> {
        let holding = self.holding.as_ref()?;
        let Pending { kind, commands, .. } = self.agent.pending.as_ref()?;
        match (kind, commands.as_slice()) {
            (Request::Query, [command]) => Explained::query(&command.statement.text),
            (Request::Execute { name, portal: Some(portal) }, [_]) => {
                Explained::bound(portal, &last_bind(&holding.taken_back, name)?)
            }
            _ => None,
        }
    }
}

/// What goes up.
struct Explained {
    messages: Vec<u8>,
    /// ReadyForQuerys that they bring.
    runs: u8,
}

impl Explained {
    fn query(text: &str) -> Option<Self> {
        let mut messages = Vec::new();
        message::query(&mut messages, &explaining(text)?);
        Some(Self { messages, runs: 1 })
    }

    /// With the types that it was prepared with and the values that it is bound to.
    fn bound(portal: &Portal, bind: &Bind<'_>) -> Option<Self> {
        if bind.bound().len() > BOUND_BYTES_MAX {
            return None;
        }
        let prepared = portal.prepared.as_ref()?;
        let text = explaining(&prepared.statement.text)?;
        let close = |out: &mut Vec<u8>| {
            message::frame(out, b'C', |out| {
                out.push(b'S');
                out.extend_from_slice(NAME);
            });
        };
        let mut messages = Vec::new();
        let out = &mut messages;
        // One that is open still, where a pooler gave us the connection of a session that ended here.
        close(out);
        message::frame(out, b'P', |out| {
            out.extend_from_slice(NAME);
            out.extend_from_slice(text.as_bytes());
            out.push(0);
            let types = &prepared.parameter_types;
            out.extend_from_slice(&u16::try_from(types.len()).unwrap_or(0).to_be_bytes());
            types.iter().for_each(|oid| out.extend_from_slice(&oid.to_be_bytes()));
        });
        message::frame(out, b'B', |out| {
            out.extend_from_slice(NAME);
            out.extend_from_slice(NAME);
            out.extend_from_slice(bind.bound());
            // The plan comes as text.
            out.extend_from_slice(&[0, 0]);
        });
        message::frame(out, b'E', |out| {
            out.extend_from_slice(NAME);
            out.extend_from_slice(&[0; 4]);
        });
        message::frame(out, b'S', |_| {});
        // In a run of its own, as an error skips the rest of the first.
        close(out);
        message::frame(out, b'S', |_| {});
        Some(Self { messages, runs: 2 })
    }
}

/// Nothing where a NUL would end it early.
fn explaining(text: &str) -> Option<String> {
    (!text.contains('\0')).then(|| format!("{EXPLAIN}{text}"))
}

/// The last Bind of a portal among whole messages.
fn last_bind<'m>(mut messages: &'m [u8], portal: &[u8]) -> Option<Bind<'m>> {
    let mut last = None;
    while let Ok(Some(message::Header { tag, total })) = message::header(messages) {
        let (frame, rest) = messages.split_at_checked(total)?;
        if tag == b'B'
            && let Some(bind) = Bind::read(frame.get(message::HEADER..)?)
            && bind.portal == portal
        {
            last = Some(bind);
        }
        messages = rest;
    }
    last
}
