//! How answers end: errors, with the server's skipping, and ReadyForQuery.

use std::sync::Arc;

use types::command::{PreparedUse, Risk, Statement, Transaction};
use types::event::Status;
use types::redact::Quotes;

use super::PostgresSession;
use super::expect::{Batch, Expect, InFlight};
use super::message;
use super::notice::{self, Summary};
use super::prepared::Prepared;
use super::result::CopyState;
use super::startup::unknown_statement;
use crate::reader::Reader;
use crate::session::Refusal;

impl PostgresSession {
    /// ErrorResponse: ends what is being answered; in the extended protocol the server then skips
    /// to the next Sync.
    pub(super) fn error_response(&mut self, frame: &[u8], body: &[u8]) -> Option<()> {
        let summary = notice::summary(body)?;
        let quotes = self.quotes();
        self.end_result();
        self.agent.copy_in = false;
        match self.expects.pop_front() {
            Some(Expect::Query(batch)) => self.query_failed(batch, summary, quotes, frame),
            Some(Expect::Function(Some(mut command))) => {
                let refusal = command.refusal.clone();
                command.bytes_out += self.relay_error(refusal.as_ref(), summary, quotes, frame)?;
                self.skip(Expect::Function(Some(command)), Some(summary.code));
                self.expects.push_front(Expect::Function(None));
                Some(())
            }
            Some(Expect::Function(None) | Expect::Undo) => None,
            Some(Expect::Sync) => {
                // Ending the implicit transaction failed; its ReadyForQuery still comes.
                let cut = self.take_cut(summary.code);
                self.relay_error(cut.as_ref(), summary, quotes, frame)?;
                self.expects.push_front(Expect::Sync);
                Some(())
            }
            Some(Expect::Failing) => {
                self.expects.push_front(Expect::Failing);
                Some(())
            }
            Some(Expect::FailingStep) => {
                self.skip_to_sync(None);
                Some(())
            }
            Some(expect) => self.step_failed(expect, summary, quotes, frame),
            None => {
                // In the middle of a run of messages the server skips the rest of it.
                self.server.skipping |= self.holding.is_some() && self.agent.unsynced.is_some();
                self.relay_error(None, summary, quotes, frame).map(|_| ())
            }
        }
    }

    /// What a text of the server's may quote of masked values, by what is being answered.
    pub(super) fn quotes(&mut self) -> Quotes {
        let prepared = |prepared: &Option<Arc<Prepared>>| {
            prepared.as_ref().map(|prepared| Arc::clone(&prepared.statement))
        };
        if self.running().is_some_and(|command| command.statement.replicates()) {
            return Quotes::Nothing;
        }
        let answered = match self.expects.front() {
            Some(Expect::Query(batch)) => {
                batch.commands.front().map(|command| Arc::clone(&command.statement))
            }
            Some(Expect::Execute { command, .. } | Expect::Function(Some(command))) => {
                Some(Arc::clone(&command.statement))
            }
            Some(Expect::Parse { prepared, .. }) => Some(Arc::clone(&prepared.statement)),
            Some(Expect::Bind { portal, .. }) => prepared(&portal.prepared),
            Some(Expect::Describe { prepared: of, .. }) => prepared(of),
            Some(Expect::Sync) => None,
            Some(
                Expect::Close { .. }
                | Expect::Function(None)
                | Expect::Failing
                | Expect::Undo
                | Expect::FailingStep,
            )
            | None => return Quotes::Nothing,
        };
        match answered {
            // What was put off until the commit belongs to any statement before it.
            Some(statement) if statement.verb != "COMMIT" => {
                let source = self.cursors.source(&statement);
                self.redactor.quotes(&source)
            }
            _ => self.redactor.quotes(&unknown_statement("")),
        }
    }

    fn query_failed(
        &mut self,
        mut batch: Batch,
        summary: Summary,
        quotes: Quotes,
        frame: &[u8],
    ) -> Option<()> {
        if batch.failed {
            return None;
        }
        let refusal = batch.refusal.clone().or_else(|| self.take_cut(summary.code));
        let sent = self.relay_error(refusal.as_ref(), summary, quotes, frame)?;
        if let Some(command) = batch.commands.front_mut() {
            command.bytes_out += sent;
        }
        let refused = batch.refusal.is_some();
        let refusal_code = refusal.map_or(summary.code, |refusal| refusal.code);
        for (at, command) in std::mem::take(&mut batch.commands).into_iter().enumerate() {
            if command.refusal.is_some() {
                self.finish(command, Status::Denied, Some(refusal_code));
            } else if command.completed {
                self.finish(command, Status::Ok, None);
            } else if at == 0 && !refused {
                self.finish(command, Status::Error, Some(summary.code));
            } else {
                self.finish(command, Status::Skipped, None);
            }
        }
        batch.failed = true;
        self.expects.push_front(Expect::Query(batch));
        Some(())
    }

    fn step_failed(
        &mut self,
        mut expect: Expect,
        summary: Summary,
        quotes: Quotes,
        frame: &[u8],
    ) -> Option<()> {
        let refusal = match &expect {
            Expect::Execute { command, .. } => {
                command.refusal.clone().or_else(|| self.take_cut(summary.code))
            }
            _ => None,
        };
        let sent = self.relay_error(refusal.as_ref(), summary, quotes, frame)?;
        if matches!(expect, Expect::Describe { hidden: true, .. })
            && let Some(execute) = self.expects.pop_front()
        {
            // Ours failed in the place of the execution behind it.
            expect = execute;
        }
        if let Expect::Parse { name, .. } = &expect
            && name.is_empty()
        {
            self.statements.remove(<[u8]>::is_empty);
        }
        // A step of a command that fails, its Bind for one, fails the command.
        let mut failed = Some((summary.code, sent));
        if let Some(command) = expect.command() {
            command.bytes_out += sent;
            failed = None;
        }
        self.skip(expect, Some(summary.code));
        self.skip_to_sync(failed);
        Some(())
    }

    /// Records the end of what the server skips; the first command of it fails by `failed`, its code and the
    /// length of what the agent was told.
    fn skip_to_sync(&mut self, mut failed: Option<([u8; 5], u64)>) {
        while let Some(mut next) = self.expects.pop_front() {
            if matches!(next, Expect::Sync) {
                self.expects.push_front(next);
                return;
            }
            let mut code = None;
            if let Some(command) = next.command()
                && let Some((failed, sent)) = failed.take()
            {
                command.bytes_out += sent;
                code = Some(failed);
            }
            self.skip(next, code);
        }
        self.server.skipping = true;
    }

    /// Relays an error; that of a refused command as the refusal it is. Answers its length.
    fn relay_error(
        &mut self,
        refusal: Option<&Refusal>,
        summary: Summary,
        quotes: Quotes,
        frame: &[u8],
    ) -> Option<u64> {
        let out = self.transmit.downstream.buffer();
        let before = out.len();
        match refusal {
            Some(refusal) if !summary.fatal => message::refusal(out, "ERROR", refusal),
            _ => {
                let redactor = self.redactor.as_mut();
                notice::relay_fields(frame, quotes, redactor, &mut self.scratch, out)?;
            }
        }
        Some((out.len() - before) as u64)
    }

    /// ReadyForQuery.
    pub(super) fn ready_for_query(&mut self, body: &[u8]) -> Option<()> {
        let [status @ (b'I' | b'T' | b'E')] = body else { return None };
        self.server.transaction = match status {
            b'I' => Transaction::None,
            b'T' => Transaction::Open,
            _ => Transaction::Failed,
        };
        match self.expects.pop_front() {
            Some(Expect::Query(batch)) => {
                // What was refused must not have run.
                if batch.refusal.is_some() && !batch.failed {
                    self.expects.push_front(Expect::Query(batch));
                    return None;
                }
                for command in batch.commands {
                    let ended = if command.completed { Status::Ok } else { Status::Skipped };
                    self.complete_command(command, ended);
                }
            }
            Some(Expect::Function(None) | Expect::Sync | Expect::Failing | Expect::Undo) => {}
            Some(Expect::Function(Some(command))) if command.completed => {
                self.complete_command(command, Status::Ok);
            }
            other => {
                if let Some(other) = other {
                    self.expects.push_front(other);
                }
                self.server.loose_syncs = self.server.loose_syncs.checked_sub(1)?;
                self.server.skipping = false;
            }
        }
        self.end_result();
        self.agent.copy_in = false;
        if self.is_undoing() {
            if *status == b'I' {
                self.portals.remove(|_| true);
            }
            return Some(());
        }
        if !(self.is_cut() && self.end_cut(*status)) {
            self.ready(*status);
        }
        Some(())
    }

    fn ready(&mut self, status: u8) {
        self.server.at_rest = self.expects.is_empty().then_some(status);
        if status == b'I' {
            self.portals.remove(|_| true);
            if self.server.catalog_stale && self.is_idle() {
                self.want_probe(Some(status));
                return;
            }
        }
        self.relay_ready(status);
    }

    /// Relays the end of a command's answer.
    pub(super) fn complete(&mut self, tag: u8, frame: &[u8], body: &[u8]) -> Option<()> {
        if tag == b'C' && matches!(self.expects.front(), Some(Expect::Undo)) {
            return Some(());
        }
        let command = self.running()?;
        Self::ended_in_time(command);
        command.bytes_out += frame.len() as u64;
        if tag == b'C' {
            let mut reader = Reader::new(body);
            let text = reader.cstr().filter(|_| reader.is_empty())?;
            command.tagged = tag_rows(text);
        }
        self.end_result();
        self.agent.copy_in = false;
        self.server.loose_syncs = 0;
        self.transmit.downstream.buffer().extend_from_slice(frame);
        match self.expects.pop_front()? {
            Expect::Execute { command, .. } => self.complete_command(command, Status::Ok),
            Expect::Query(mut batch) if tag != b's' => {
                let open = |command: &&mut InFlight| {
                    !command.completed || has_many_results(&command.statement)
                };
                let Some(command) = batch.commands.front_mut().filter(open) else {
                    self.expects.push_front(Expect::Query(batch));
                    return None;
                };
                command.completed = true;
                if batch.commands.len() > 1
                    && let Some(command) = batch.commands.pop_front()
                {
                    self.complete_command(command, Status::Ok);
                }
                self.expects.push_front(Expect::Query(batch));
            }
            other => {
                // Whatever is recorded of it is the session's end.
                self.expects.push_front(other);
                return None;
            }
        }
        Some(())
    }

    fn complete_command(&mut self, command: InFlight, status: Status) {
        let statement = Arc::clone(&command.statement);
        let limited = command.limited.as_ref().map(|under| under.limited.clone());
        self.finish(command, status, None);
        if status != Status::Ok {
            return;
        }
        self.cursors.ran(&statement, limited);
        if let Some(PreparedUse::Deallocates(None)) = &statement.prepared {
            // All that have a name.
            self.statements.remove(|name| !name.is_empty());
        }
    }

    /// The command that is being answered, if it went up as it was.
    pub(super) fn running(&mut self) -> Option<&mut InFlight> {
        match self.expects.front_mut()? {
            Expect::Query(Batch { refusal: Some(_), .. } | Batch { failed: true, .. }) => None,
            expect => expect.command().filter(|command| command.refusal.is_none()),
        }
    }

    /// Forgets the result that was on its way.
    fn end_result(&mut self) {
        self.server.plan = None;
        self.server.copy = CopyState::None;
    }
}

/// Whether a statement may have more than one result: one that did not parse may be many to the server,
/// a replication command may have several and says its end twice.
pub(super) fn has_many_results(statement: &Statement) -> bool {
    statement.risks.contains(Risk::UNPARSED) || statement.replicates()
}

/// The count at a command tag's end: `SELECT 5`, `INSERT 0 5`.
fn tag_rows(tag: &[u8]) -> Option<u64> {
    let word = tag.rsplit(|byte| *byte == b' ').next()?;
    std::str::from_utf8(word).ok()?.parse().ok()
}
