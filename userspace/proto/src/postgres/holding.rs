//! A command that waits for people: nothing of it goes up meanwhile, all else goes on.
//!
//! In the extended protocol its Parse and Bind, and whatever else came since the last Sync, are taken back
//! where none of it is written yet: the server then knows of nothing and holds no lock for it. Where some of
//! it is at the server, or a transaction is open there, [`PostgresSession::may_hold_locks`] says so.

use types::command::Transaction;

use super::authority::Request;
use super::expect::{Expect, InFlight};
use super::message;
use super::probe::Purpose;
use super::replication::Replication;
use super::{Phase, PostgresSession};

/// What is known of a command that waits.
#[derive(Debug, Default)]
pub(super) struct Holding {
    /// What came before it and was not written.
    pub(super) taken_back: Vec<u8>,
    /// What came before it since the last Sync is at the server.
    pub(super) is_within: bool,
    /// How many bytes behind its message were looked at.
    looked: usize,
    /// A Terminate is among them.
    is_left: bool,
    /// What the server says of its `statement_timeout`, in words.
    timeout: Option<Box<str>>,
    /// Its plan, where that was asked for.
    pub(super) plan: Option<Box<str>>,
}

impl PostgresSession {
    /// Holds the command that is to be decided next, and what came before it in its transaction.
    pub(super) fn begin_hold(&mut self) {
        if self.holding.is_some() {
            // Another command of the same message waited.
            return;
        }
        let mut holding = Holding::default();
        if let Some(from) = self.agent.unsynced {
            let taken = self.transmit.upstream.take_back(from);
            holding.is_within = taken.is_none();
            holding.taken_back = taken.unwrap_or_default();
        }
        self.holding = Some(Box::new(holding));
    }

    /// Whether something was taken back.
    pub(super) fn holds_back(&self) -> bool {
        self.holding.as_ref().is_some_and(|holding| !holding.taken_back.is_empty())
    }

    /// Puts what was taken back where it was.
    pub(super) fn end_hold(&mut self) {
        if let Some(holding) = self.holding.take() {
            self.transmit.upstream.buffer().extend_from_slice(&holding.taken_back);
        }
    }

    /// Whether the server has answered all that came before what is held, so that it is known what state that
    /// would find. An earlier statement of the same run may still be under way.
    pub fn is_settled(&self) -> bool {
        let is_due = |expect: &Expect| match expect {
            Expect::Query(_)
            | Expect::Function(_)
            | Expect::Sync
            | Expect::Failing
            | Expect::Undo
            | Expect::FailingStep => true,
            Expect::Execute { command: InFlight { refusal, .. }, .. } => refusal.is_some(),
            Expect::Parse { .. }
            | Expect::Bind { .. }
            | Expect::Describe { .. }
            | Expect::Close { .. } => false,
        };
        self.server.rest.is_none() && !self.is_probing() && !self.expects.iter().any(is_due)
    }

    /// Whether the server ignores all up to the next Sync, what is held included: it would never run.
    pub fn is_skipping(&self) -> bool {
        self.server.skipping
    }

    /// The server's transaction, where [`Self::is_settled`].
    pub fn transaction(&self) -> Transaction {
        self.server.transaction
    }

    /// Whether a transaction is open at the server as long as the command is held: it was begun, or something of
    /// the same run of messages is there.
    pub fn may_hold_locks(&self) -> bool {
        let is_within = self.holding.as_ref().is_some_and(|holding| holding.is_within);
        is_within || self.server.transaction == Transaction::Open
    }

    /// Whether the agent said that it leaves, behind a command that is held.
    pub fn is_left(&mut self) -> bool {
        let (Some(holding), Some(pending)) = (&mut self.holding, &self.agent.pending) else {
            return false;
        };
        let carry = self.carry.downstream.pending();
        let mut behind = carry.get(pending.length + holding.looked..).unwrap_or_default();
        while !holding.is_left
            && let Ok(Some(message::Header { tag, total })) = message::header(behind)
            && let Some(rest) = behind.get(total..)
        {
            holding.is_left = tag == b'X';
            holding.looked += total;
            behind = rest;
        }
        holding.is_left
    }

    /// Tells the agent that its command waits; nothing while it logs in, as no client expects that there.
    pub fn tell_held(&mut self, text: &str, detail: &str) {
        if self.phase == Phase::Running && self.server.rest.is_none() {
            message::notice(self.transmit.downstream.buffer(), text, detail);
        }
    }

    /// A digest of all parameters of what is held, where its command has not all of them; see
    /// [`Self::keep_wholes`].
    pub fn whole_parameters(&self) -> Option<&[u8; 32]> {
        match &self.agent.pending.as_ref()?.kind {
            Request::Execute { portal: Some(portal), .. } => portal.whole.as_deref(),
            _ => None,
        }
    }

    /// Has parameters digested from now on that are longer or more than records keep: where approval may be
    /// asked for what they are bound to.
    pub fn keep_wholes(&mut self) {
        self.agent.keeps_wholes = true;
    }

    /// Asks the server how long it lets a statement run, hidden from the agent; nothing within a run of messages,
    /// where that would end it and the server keeps the time itself.
    pub fn ask_timeout(&mut self) {
        let is_within = self.holding.as_ref().is_none_or(|holding| holding.is_within);
        if !is_within
            && self.is_settled()
            && self.phase == Phase::Running
            && self.replication() == Replication::No
            && self.server.transaction != Transaction::Failed
        {
            message::query(self.transmit.upstream.buffer(), "SHOW statement_timeout");
            self.begin_hidden(Purpose::Timeout, 1);
        }
    }

    /// How long the server lets a statement run, in microseconds, once it said so; `None` as long as it may take
    /// any time.
    pub fn statement_timeout_us(&self) -> Option<u64> {
        let said = self.holding.as_ref()?.timeout.as_deref()?;
        span_us(said).filter(|us| *us > 0)
    }

    /// Takes what the server says of that.
    pub(super) fn note_timeout(&mut self, rows: &[Vec<Option<String>>]) {
        if let Some(holding) = &mut self.holding
            && let Some(Some(said)) = rows.first().and_then(|row| row.first())
        {
            holding.timeout = Some(said.as_str().into());
        }
    }

    /// Has the transaction rolled back behind a statement that is made to fail, and another begun and made to
    /// fail in its place: the agent finds a failed transaction, and the server holds nothing for it, not even
    /// before a savepoint. Were there none, what the agent sends next would take effect by itself.
    pub(super) fn undo(&mut self, is_extended: bool) {
        let is_open = self.server.transaction == Transaction::Open && !self.server.skipping;
        if !is_open || self.phase != Phase::Running {
            return;
        }
        let out = self.transmit.upstream.buffer();
        if is_extended {
            message::frame(out, b'S', |_| {});
        }
        message::query(out, "ROLLBACK");
        message::query(out, "BEGIN");
        let last = if is_extended {
            message::failing_parse(out);
            self.expects.push_back(Expect::Sync);
            Expect::FailingStep
        } else {
            message::failing_query(out);
            Expect::Failing
        };
        self.expects.extend([Expect::Undo, Expect::Undo, last]);
    }

    /// Whether what was just answered is hidden from the agent, as more of the same is to come.
    pub(super) fn is_undoing(&self) -> bool {
        matches!(self.expects.front(), Some(Expect::Undo | Expect::Failing | Expect::FailingStep))
    }
}

/// A time as PostgreSQL writes it: `0`, `250ms`, `5s`, `2min`, `1h`, `1d`.
fn span_us(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_us = match unit {
        "us" => 1,
        // Without a unit it counts milliseconds.
        "" | "ms" => 1_000,
        "s" => 1_000_000,
        "min" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit_us)
}

#[cfg(test)]
mod tests {
    use super::span_us;

    #[test]
    fn times_as_the_server_writes_them() {
        for (text, us) in [
            ("0", Some(0)),
            ("250ms", Some(250_000)),
            ("5s", Some(5_000_000)),
            ("2min", Some(120_000_000)),
            ("1h", Some(3_600_000_000)),
            ("1d", Some(86_400_000_000)),
            ("", None),
            ("s", None),
            ("5 s", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(span_us(text), us, "{text}");
        }
    }
}
