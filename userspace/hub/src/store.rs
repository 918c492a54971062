//! What hubs keep: requests as their hosts tell them, and votes until their hosts have taken them.
//!
//! Several hubs share a PostgreSQL database; one hub of its own has a file.

mod file;
mod postgres;
#[cfg(test)]
mod tests;
mod words;

use approval::desk::{Standing, Which};
use approval::{ApprovalRequest, Vote};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use types::id::RequestId;

use crate::protocol::{DueVote, Hello, Settled, VoteId};

pub use file::FileStore;
pub use postgres::{Password, PostgresRules, PostgresStore};
pub(crate) use words::{Awaited, Bell, Waiter, Word};

/// Requests that wait at one host, as far as a hub takes them: as many as a host has.
pub const WAITING_MAX: usize = approval::book::WAITING_MAX;

/// Requests kept in all, the oldest that are over go first: 200,000 × about 3 KiB = 600 MB. Their hosts' archives have
/// them for longer.
pub const REQUESTS_MAX: u64 = 200_000;

/// Texts of waiting requests in all: those of four hosts that hold as much as a host may.
pub const TEXT_BYTES_MAX: usize = 4 * approval::book::WAITING_BYTES_MAX;

/// What of a request holds values: it is kept apart, and while the request waits alone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "named as in the request")]
struct Text {
    text: String,
    parameters: Vec<String>,
    /// Clients are started with statements, too.
    command_line: Option<String>,
}

impl Text {
    /// Takes it out of a request.
    fn take(request: &mut ApprovalRequest) -> Self {
        Self {
            text: std::mem::take(&mut request.text),
            parameters: std::mem::take(&mut request.parameters),
            command_line: request.requester.command_line.take(),
        }
    }

    /// Puts it back.
    fn give(self, request: &mut ApprovalRequest) {
        let Self { text, parameters, command_line } = self;
        (request.text, request.parameters) = (text, parameters);
        request.requester.command_line = command_line;
    }

    fn bytes(&self) -> usize {
        let Self { text, parameters, command_line } = self;
        let parameters: usize = parameters.iter().map(String::len).sum();
        text.len() + parameters + command_line.as_ref().map_or(0, String::len)
    }
}

/// Where a hub keeps it.
#[derive(Debug)]
pub enum Store {
    /// In a file that no other process has open.
    File(FileStore),
    /// In a database that other hubs use too.
    Postgres(PostgresStore),
}

/// Why something can't be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file.
    #[error("the hub's file: {0}")]
    File(#[from] Box<redb::Error>),
    /// The database.
    #[error("the hub's database: {0}")]
    Postgres(String),
    /// What is kept can't be read.
    #[error("what the hub keeps makes no sense: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A newer version made it.
    #[error("the hub's store is of version {0}; this program knows {1} and older ones")]
    Newer(i64, i64),
    /// No room.
    #[error("{WAITING_MAX} requests of `{0}` wait already")]
    Full(String),
    /// No room for texts.
    #[error("the requests that wait hold {TEXT_BYTES_MAX} bytes of text already")]
    Texts,
    /// No room for votes.
    #[error("{} people answered this request already", approval::book::VOTES_MAX)]
    Votes,
    /// The store was closed.
    #[error("the hub ends")]
    Closed,
}

macro_rules! from_redb {
    ($($error:ident)*) => { $(
        impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                Self::File(Box::new(error.into()))
            }
        }
    )* };
}

from_redb!(CommitError DatabaseError StorageError TableError TransactionError);

/// What became of a vote at the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    /// It is durable, and waits for its host.
    Kept(VoteId),
    /// The person said the same before, by this vote.
    Already(VoteId),
    /// The person said something else before.
    Otherwise,
    /// There is no such request, or it does not wait any more.
    Gone,
}

/// How far a vote is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Its host has not said.
    Waiting,
    /// Its host has.
    Settled(crate::protocol::Outcome),
}

macro_rules! each {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Self::File($store) => $call.await,
            Self::Postgres($store) => $call.await,
        }
    };
}

impl Store {
    /// Takes how requests of `node` stand; what is older than what is kept, or another node's, changes nothing.
    ///
    /// # Errors
    /// If it can't be kept: all of it is to be told again.
    pub async fn tell(&self, node: &str, standings: Vec<Standing>) -> Result<(), StoreError> {
        each!(self, store => store.tell(node, standings))
    }

    /// Takes what waits at `node`; answers what is to be told.
    ///
    /// # Errors
    /// If it can't be kept.
    pub async fn hello(&self, node: &str, hello: Hello) -> Result<Vec<RequestId>, StoreError> {
        each!(self, store => store.hello(node, hello))
    }

    /// Votes that wait for `node`, oldest first, at most `most`.
    ///
    /// # Errors
    /// If they can't be found.
    pub async fn due(&self, node: &str, most: usize) -> Result<Vec<DueVote>, StoreError> {
        each!(self, store => store.due(node, most))
    }

    /// Takes what became of votes at `node`.
    ///
    /// # Errors
    /// If it can't be kept.
    pub async fn settle(&self, node: &str, settled: Vec<Settled>) -> Result<(), StoreError> {
        each!(self, store => store.settle(node, settled))
    }

    /// Keeps a vote, unless the person voted on it before.
    ///
    /// # Errors
    /// If it can't be kept.
    pub async fn cast(&self, id: RequestId, vote: Vote) -> Result<Cast, StoreError> {
        each!(self, store => store.cast(id, vote))
    }

    /// How far a vote is.
    ///
    /// # Errors
    /// If it can't be found.
    pub async fn progress(&self, id: VoteId) -> Result<Progress, StoreError> {
        each!(self, store => store.progress(id))
    }

    /// Requests, newest first, at most `most`.
    ///
    /// # Errors
    /// If they can't be found.
    pub async fn list(&self, which: Which, most: usize) -> Result<Vec<Standing>, StoreError> {
        each!(self, store => store.list(which, most))
    }

    /// One request.
    ///
    /// # Errors
    /// If it can't be found.
    pub async fn show(&self, id: RequestId) -> Result<Option<Standing>, StoreError> {
        each!(self, store => store.show(id))
    }

    /// Ends what nobody tells of any more since it expired before `late_us`, and forgets what was over before
    /// `old_us`; answers how many of each.
    ///
    /// # Errors
    /// If it can't.
    pub async fn sweep(&self, late_us: i64, old_us: i64) -> Result<(u64, u64), StoreError> {
        each!(self, store => store.sweep(late_us, old_us))
    }

    /// A number that grows with every change, here or at another hub.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.bell().changes()
    }

    /// One who waits for something that happens here or at another hub.
    pub(crate) fn wait_for(&self, awaited: Awaited) -> Waiter {
        self.bell().wait_for(awaited)
    }

    fn bell(&self) -> &Bell {
        match self {
            Self::File(store) => store.bell(),
            Self::Postgres(store) => store.bell(),
        }
    }
}
