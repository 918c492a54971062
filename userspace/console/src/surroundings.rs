//! What the console shows beside approvals; a hub has less of it than a host.

use approval::desk::Later;
use serde::Serialize;

/// What is around the console. What is absent has no page.
pub trait Surroundings: Send + Sync {
    /// Sessions that are open here.
    fn sessions(&self) -> Option<&dyn Sessions>;

    /// What happened here.
    fn past(&self) -> Option<&dyn Past>;

    /// How the evidence stands.
    fn evidence(&self) -> Option<&dyn Evidence>;

    /// Writes down what the console did, durably.
    fn record<'a>(
        &'a self,
        kind: &'static str,
        detail: serde_json::Value,
    ) -> Later<'a, Result<(), Failed>>;
}

/// Sessions that are open.
pub trait Sessions: Send + Sync {
    /// Those that are open, newest first, at most `most`; and how many there are.
    fn list(&self, most: usize) -> (Vec<OpenSession>, usize);

    /// One of them.
    fn get(&self, session: &str) -> Option<OpenSession>;

    /// Ends one as its protocol has it, once that is recorded; false if there is none of that id.
    fn end<'a>(&'a self, session: &'a str, by: &'a By) -> Later<'a, Result<bool, Failed>>;
}

/// Who does something, and why.
#[derive(Clone, Debug, Serialize)]
pub struct By {
    /// A name to read.
    pub user: String,
    /// `sub@issuer`.
    pub person: String,
    /// From which address.
    pub from: String,
    /// Why, in the person's words.
    pub reason: String,
}

/// An open session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSession {
    /// Which.
    pub session: String,
    /// Since when, microseconds since 1970 UTC.
    pub opened_us: i64,
    /// The agent.
    pub agent: String,
    /// Which start of it.
    pub instance: String,
    /// Who acts, from the outermost to this agent.
    pub chain: Vec<String>,
    /// The person it acts for.
    pub user: Option<String>,
    /// The person as `sub@issuer`.
    pub person: Option<String>,
    /// Who answers for the agent.
    pub owner: Option<String>,
    /// The process.
    pub pid: u32,
    /// The target.
    pub target: String,
    /// The database.
    pub database: Option<String>,
    /// The account there.
    pub account: Option<String>,
    /// Commands so far.
    pub commands: u64,
    /// When the last one began, microseconds since 1970 UTC.
    pub last_us: i64,
}

/// What happened here: the archive, and what of the journal is not in it yet.
pub trait Past: Send + Sync {
    /// Commands like that, newest first.
    fn search(&self, wanted: Wanted) -> Later<'_, Result<Found, Failed>>;

    /// All of one session; `None` where nothing is known of it.
    fn replay(&self, session: String) -> Later<'_, Result<Option<Replay>, Failed>>;
}

/// Commands that are sought; what is absent is not gone by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// From this instant on, microseconds since 1970 UTC.
    pub from_us: i64,
    /// Before that one.
    pub until_us: i64,
    /// The agent.
    pub agent: Option<String>,
    /// The person, by name or the issuer's key.
    pub person: Option<String>,
    /// What is touched: `schema.name`, or `name` in any schema.
    pub object: Option<String>,
    /// `allow`, `mask`, `deny`, `approved`.
    pub decision: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// At most so many.
    pub most: usize,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Commands, newest first.
    pub commands: Vec<PastCommand>,
    /// There is more than that, or not all could be looked at; in words.
    pub is_cut: Option<String>,
}

/// A command of the past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PastCommand {
    /// When it began, microseconds since 1970 UTC.
    pub at_us: i64,
    /// Its session.
    pub session: String,
    /// Its place there.
    pub number: u32,
    /// `db.query`, ….
    pub kind: String,
    /// The agent.
    pub agent: String,
    /// The person it acted for.
    pub user: Option<String>,
    /// The target.
    pub target: String,
    /// What it speaks.
    pub protocol: String,
    /// The leading verb.
    pub verb: String,
    /// What it touched.
    pub objects: Vec<String>,
    /// The statement without literals.
    pub statement: String,
    /// What was decided.
    pub decision: String,
    /// The policy that did.
    pub rule: String,
    /// Why.
    pub reason: String,
    /// What came of it.
    pub status: String,
    /// The server's error.
    pub error: Option<String>,
    /// Rows returned or affected.
    pub rows: Option<i64>,
    /// Values masked.
    pub masked: i64,
    /// From begin to end, microseconds.
    pub duration_us: Option<i64>,
    /// Of that, to decide.
    pub decided_us: Option<i64>,
    /// Of that, held for a person's approval.
    pub held_us: Option<i64>,
    /// Of that, at the server.
    pub upstream_us: Option<i64>,
    /// The approval, where there is one.
    pub approval: Option<String>,
    /// Who approved.
    pub approver: Option<String>,
    /// The text as it was recorded, where it still is: masked as policy says.
    pub text: Option<String>,
    /// Parameters as they were recorded, a JSON list.
    pub parameters: Option<String>,
}

/// A session of the past, or one that still is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Which.
    pub session: String,
    /// The agent.
    pub agent: String,
    /// The person it acted for.
    pub user: Option<String>,
    /// The target.
    pub target: String,
    /// When it opened, where that is known, microseconds since 1970 UTC.
    pub opened_us: Option<i64>,
    /// When it ended, if it has.
    pub closed_us: Option<i64>,
    /// Why.
    pub close_reason: Option<String>,
    /// Its commands, in order.
    pub commands: Vec<PastCommand>,
    /// Not all of it could be read; in words.
    pub is_cut: Option<String>,
}

/// How the evidence stands.
pub trait Evidence: Send + Sync {
    /// How it stands now.
    fn standing(&self) -> Later<'_, Result<EvidenceStanding, Failed>>;
}

/// How the evidence stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvidenceStanding {
    /// The host.
    pub node: String,
    /// The last signed checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// Rows so far.
    pub rows: u64,
    /// What is durable in the journal.
    pub durable_lsn: u64,
    /// Bytes free where the journal lies, and all of them.
    pub journal_disk: Disk,
    /// The same of the archive.
    pub archive_disk: Disk,
    /// How far what is shipped lies behind, seconds; `None` where nothing is shipped.
    pub shipping_lag_s: Option<u64>,
}

/// A signed checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The rows that it commits to.
    pub tree_size: u64,
    /// Their root, base64.
    pub root: String,
    /// When it was signed, where that is known, microseconds since 1970 UTC.
    pub at_us: Option<i64>,
}

/// A file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
    /// Below that nothing more is accepted.
    pub reserve_bytes: u64,
}

/// Why something can't be had, in words without payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);
