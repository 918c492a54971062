//! What the server still owes: one entry for each message sent up that has an answer.

use std::collections::VecDeque;
use std::sync::Arc;

use sha2::Sha256;
use types::clock::Timestamp;
use types::command::Statement;
use types::event::{Outcome, Status};
use types::id::CommandId;

use super::executing::NameChange;
use super::limited::Under;
use super::names::Change;
use super::prepared::{Portal, Prepared, Rows};
use super::sample::Sample;
use crate::session::Refusal;

/// A command that was decided and whose end is due.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) id: CommandId,
    pub(super) statement: Arc<Statement>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    /// DataRows seen.
    pub(super) rows: u64,
    /// What CommandComplete said.
    pub(super) tagged: Option<u64>,
    /// Set where it was refused and something that fails went up instead.
    pub(super) refusal: Option<Refusal>,
    pub(super) completed: bool,
    pub(super) sample: Sample,
    /// When it went to the server.
    pub(super) sent_at: Option<Timestamp>,
    /// When the server's answer began.
    pub(super) first_at: Option<Timestamp>,
    /// Set where the response is digested.
    pub(super) digest: Option<Box<Sha256>>,
    /// Set where it may be cut.
    pub(super) limited: Option<Box<Under>>,
    /// The SQLSTATE of the limit that cut it.
    pub(super) cut: Option<[u8; 5]>,
    /// CopyData messages seen, where it is limited.
    pub(super) copied: u64,
    /// What it makes of a prepared statement's name.
    pub(super) change: Option<Box<NameChange>>,
}

impl InFlight {
    pub(super) fn new(id: CommandId, statement: Arc<Statement>, bytes_in: u64) -> Self {
        Self {
            id,
            statement,
            bytes_in,
            bytes_out: 0,
            rows: 0,
            tagged: None,
            refusal: None,
            completed: false,
            sample: Sample::default(),
            sent_at: None,
            first_at: None,
            digest: None,
            limited: None,
            cut: None,
            copied: 0,
            change: None,
        }
    }

    /// The record of its end; what was masked is the caller's to add.
    pub(super) fn outcome(&mut self, status: Status, error_code: Option<[u8; 5]>) -> Outcome {
        let (status, error_code) = match self.cut {
            Some(code) if status != Status::Interrupted => (Status::Limited, Some(code)),
            _ => (status, error_code),
        };
        let seen = (self.rows > 0 || self.cut.is_some()).then_some(self.rows);
        let rows = self.tagged.filter(|_| self.cut.is_none()).or(seen);
        Outcome {
            error_code,
            rows,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            sample: self.sample.take(),
            sent_at: self.sent_at,
            first_at: self.first_at,
            ..Outcome::new(self.id, status)
        }
    }
}

/// The commands of one simple Query, in order; the first is the one being answered.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) commands: VecDeque<InFlight>,
    /// Whether any was refused, so that a failing Query went up.
    pub(super) refusal: Option<Refusal>,
    /// Whether an error came for it.
    pub(super) failed: bool,
}

/// One answer that is due.
#[derive(Debug)]
pub(super) enum Expect {
    /// All of a simple Query's answers, up to ReadyForQuery.
    Query(Batch),
    /// A FunctionCall's, up to ReadyForQuery; `None` once an error came for it.
    Function(Option<InFlight>),
    /// ParseComplete.
    Parse { name: Box<[u8]>, change: Change, prepared: Arc<Prepared> },
    /// BindComplete.
    Bind { name: Box<[u8]>, change: Change, portal: Arc<Portal> },
    /// A description; `hidden` if the agent did not ask for it.
    Describe { prepared: Option<Arc<Prepared>>, portal: bool, hidden: bool, epoch: u64 },
    /// Rows and their end.
    Execute { command: InFlight, portal: Option<Arc<Portal>>, rows: Rows },
    /// CloseComplete.
    Close { target: CloseTarget, name: Box<[u8]>, change: Change },
    /// ReadyForQuery.
    Sync,
    /// The error and the ReadyForQuery of a Query of ours that fails a transaction.
    Failing,
    /// All of a Query of ours that ends a transaction or begins one.
    Undo,
    /// The error of a Parse of ours that fails a transaction; the server then skips to the next Sync.
    FailingStep,
}

/// What a Close closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseTarget {
    Statement,
    Portal,
}

impl Expect {
    /// The command that is being answered, if this answers one.
    pub(super) fn command(&mut self) -> Option<&mut InFlight> {
        match self {
            Self::Query(batch) => batch.commands.front_mut(),
            Self::Function(command) => command.as_mut(),
            Self::Execute { command, .. } => Some(command),
            Self::Parse { .. }
            | Self::Bind { .. }
            | Self::Describe { .. }
            | Self::Close { .. }
            | Self::Sync
            | Self::Failing
            | Self::Undo
            | Self::FailingStep => None,
        }
    }
}
