//! What is recorded: the records as writers give them (borrowed, encoded without a copy) and as
//! readers get them back (owned). The byte forms are in `encode` and `decode`.

use std::net::SocketAddr;
use std::sync::Arc;

use types::approval::Coverage;
use types::clock::Timestamp;
use types::command::{Action, BlindTokens, CommandKind, Parameter, Risk, Statement};
use types::decision::{Decision, Effect};
use types::event::Outcome;
use types::id::{CommandId, PolicyId, RequestId, SessionId};
use types::identity::Identity;
use types::principal::Principal;
use types::target::{Target, Tls, UsedCredential};

/// One thing to record.
#[derive(Clone, Copy, Debug)]
pub enum Frame<'a> {
    /// A session is attributed and its target known; no row yet.
    SessionOpen(SessionOpen<'a>),
    /// The agent acts for somebody else, or by another token; no row.
    Identity(IdentityChange<'a>),
    /// A command is decided; no row yet. It must be durable before a write goes upstream.
    Begin(Begin<'a>),
    /// A command ended: its event row and its recording row.
    End(End<'a>),
    /// A part of a session's sealed recording: a recording row.
    Chunk(Chunk<'a>),
    /// A session ended: its session row.
    SessionClose(SessionClose<'a>),
    /// Something of the node itself: a control row.
    Control(Control<'a>),
}

/// A session opens.
#[derive(Clone, Copy, Debug)]
pub struct SessionOpen<'a> {
    /// Which.
    pub session: SessionId,
    /// When the agent connected.
    pub at: Timestamp,
    /// Who acts.
    pub principal: &'a Principal,
    /// The agent's end of the connection.
    pub source: SocketAddr,
    /// The network namespace's cookie.
    pub netns_cookie: u64,
    /// The agent-side socket's cookie.
    pub socket_cookie: u64,
    /// What it reaches, with database and account.
    pub target: &'a Target,
}

/// From here on the session's commands may be of another identity.
#[derive(Clone, Copy, Debug)]
pub struct IdentityChange<'a> {
    /// In which session.
    pub session: SessionId,
    /// Which identity of the session it is, from 1; that of its opening is 0.
    pub number: u32,
    /// When it was found.
    pub at: Timestamp,
    /// The identity.
    pub identity: &'a Identity,
}

/// A command begins; recorded whatever was decided.
#[derive(Clone, Copy, Debug)]
pub struct Begin<'a> {
    /// In which session.
    pub session: SessionId,
    /// Which command of it.
    pub command: CommandId,
    /// When.
    pub at: Timestamp,
    /// What kind of request.
    pub kind: CommandKind,
    /// What the analysis found.
    pub statement: &'a Statement,
    /// The statement's text as it is to be kept, masked already where it must be; cut at
    /// [`types::limits::STATEMENT_TEXT_BYTES_MAX`], with a digest of the whole where it is cut. Empty
    /// where recordings are sealed: the length that is kept is the statement's own then.
    pub text: &'a str,
    /// Bound parameters as they are to be kept.
    pub parameters: &'a [Parameter],
    /// Which wire message it came in.
    pub batch: u32,
    /// What was decided.
    pub decision: &'a Decision,
    /// How long that took, in microseconds.
    pub decided_us: u32,
    /// For whom: the number of an [`IdentityChange`] of the session, or 0.
    pub identity: u32,
    /// What people said, where their approval was needed and asked for.
    pub approval: Option<&'a Approval>,
    /// The tokens of the values that it names, where any have some.
    pub blind: Option<&'a BlindTokens>,
}

/// What people said to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The request, and the grant that came of it.
    pub request: RequestId,
    /// Who approved, as `sub@issuer`; nobody where it was not granted.
    pub approvers: Vec<String>,
    /// When it was granted, microseconds since 1970 UTC.
    pub granted_us: Option<i64>,
    /// What the grant covers.
    pub covers: Option<Coverage>,
    /// One person let it through in an emergency.
    pub broken_glass: bool,
    /// How long this command was held, in microseconds; `None` where an earlier grant covered it.
    pub held_us: Option<u64>,
}

/// A command ended.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// In which session.
    pub session: SessionId,
    /// When.
    pub at: Timestamp,
    /// How; names the command.
    pub outcome: &'a Outcome,
}

/// A part of a session's recording, sealed already.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// In which session; its key has the same name.
    pub session: SessionId,
    /// The first command that something in it is of.
    pub command: CommandId,
    /// The stream.
    pub stream: &'a str,
    /// Which chunk of it.
    pub chunk: u32,
    /// Of what is first in it.
    pub first_at: Timestamp,
    /// Of what is last in it.
    pub last_at: Timestamp,
    /// How it is compressed.
    pub codec: &'a str,
    /// The nonce.
    pub nonce: [u8; 12],
    /// The sealed bytes, at most [`types::limits::RECORDING_SEALED_BYTES_MAX`].
    pub sealed: &'a [u8],
}

/// A session ended.
#[derive(Clone, Copy, Debug)]
pub struct SessionClose<'a> {
    /// Which.
    pub session: SessionId,
    /// When.
    pub at: Timestamp,
    /// Why, in a fixed word: `client`, `server`, `violation`, `shutdown`, `daemon_crash`, …
    pub reason: &'a str,
}

/// Something of the node itself.
#[derive(Clone, Copy, Debug)]
pub struct Control<'a> {
    /// When.
    pub at: Timestamp,
    /// What, in dotted words: `log.start`, `heartbeat`, `policy.change`, …
    pub kind: &'a str,
    /// The rest, one JSON object of at most [`CONTROL_DETAIL_BYTES_MAX`].
    pub detail: &'a str,
}

/// A record read back.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// From [`Frame::SessionOpen`].
    SessionOpen(Box<OpenedSession>),
    /// From [`Frame::Identity`].
    Identity(Box<ChangedIdentity>),
    /// From [`Frame::Begin`].
    Begin(Box<BegunCommand>),
    /// From [`Frame::End`].
    End(EndedCommand),
    /// From [`Frame::Chunk`].
    Chunk(RecordedChunk),
    /// From [`Frame::SessionClose`].
    SessionClose(ClosedSession),
    /// From [`Frame::Control`].
    Control(ControlEntry),
}

/// A [`SessionOpen`] read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedSession {
    /// Which.
    pub session: SessionId,
    /// When the agent connected.
    pub at: Timestamp,
    /// The boot in which `at.mono_ns` counts.
    pub boot_id: BootId,
    /// Who acts.
    pub principal: Principal,
    /// The agent's end of the connection.
    pub source: SocketAddr,
    /// The network namespace's cookie.
    pub netns_cookie: u64,
    /// The agent-side socket's cookie.
    pub socket_cookie: u64,
    /// The target's name in the configuration.
    pub target_name: Arc<str>,
    /// The address the agent asked for.
    pub target_addr: SocketAddr,
    /// `postgresql`, …
    pub protocol: Arc<str>,
    /// The database.
    pub database: Option<Arc<str>>,
    /// The account at the target.
    pub account: Option<Arc<str>>,
    /// The credential that authenticated there, where one did in the agent's place.
    pub credential: Option<UsedCredential>,
    /// The name by which the agent knew the address.
    pub host: Option<Arc<str>>,
    /// TLS towards the target, if there was.
    pub tls: Option<Tls>,
    /// What its ended commands came to before this frame; not zero only in a carried frame.
    pub totals: Totals,
}

/// An [`IdentityChange`] read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedIdentity {
    /// In which session.
    pub session: SessionId,
    /// Which identity of the session.
    pub number: u32,
    /// When it was found.
    pub at: Timestamp,
    /// The identity.
    pub identity: Arc<Identity>,
}

/// What a session's ended commands come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Commands ended; each is an event row.
    pub events: u64,
    /// Of those, refused.
    pub denied: u64,
    /// Rows returned or affected.
    pub rows: u64,
    /// Bytes of requests.
    pub bytes_in: u64,
    /// Bytes of responses.
    pub bytes_out: u64,
    /// Values masked.
    pub masked: u64,
}

/// A [`Begin`] read back.
#[derive(Clone, Debug, PartialEq)]
pub struct BegunCommand {
    /// In which session.
    pub session: SessionId,
    /// Which command of it.
    pub command: CommandId,
    /// When.
    pub at: Timestamp,
    /// What kind of request.
    pub kind: CommandKind,
    /// The (cut) text.
    pub text: String,
    /// The whole text's length, in bytes.
    pub text_bytes: u64,
    /// SHA-256 of the whole text, where it was cut.
    pub text_sha256: Option<[u8; 32]>,
    /// What the analysis found.
    pub statement: Arc<StatementEntry>,
    /// Bound parameters.
    pub parameters: Vec<Parameter>,
    /// Which wire message it came in.
    pub batch: u32,
    /// What was decided.
    pub decision: Arc<DecisionEntry>,
    /// How long that took, in microseconds; `None` in records of before.
    pub decided_us: Option<u32>,
    /// The base columns that the statement names, `table.column`.
    pub columns: Arc<Vec<String>>,
    /// The policies over whose windows it is counted; none in records of before.
    pub windows: Vec<PolicyId>,
    /// For whom: the number of a [`ChangedIdentity`], or 0; 0 in records of before.
    pub identity: u32,
    /// What people said, where their approval was needed and asked for.
    pub approval: Option<Approval>,
    /// The tokens of the values that it names; none in records of before.
    pub blind: BlindTokens,
}

/// What is the same in all commands of one statement, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementEntry {
    /// The text without literals.
    pub normalized: String,
    /// The statistical fingerprint.
    pub fingerprint: i64,
    /// The leading verb.
    pub verb: String,
    /// What it does to what.
    pub accesses: Vec<AccessEntry>,
    /// Whether it changes data or may.
    pub is_write: bool,
    /// Whether it changes definitions, privileges or the server, or may.
    pub is_privileged: bool,
    /// What makes it dangerous.
    pub risks: Risk,
}

/// One access of a command read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessEntry {
    /// What is done.
    pub action: Action,
    /// To what, `schema.name` or `name`; `None` for the database as a whole.
    pub object: Option<String>,
}

/// A decision read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionEntry {
    /// What happened.
    pub effect: Effect,
    /// The first determining policy, or `default-deny`.
    pub rule: String,
    /// All determining policies.
    pub determining: Vec<PolicyId>,
    /// Why.
    pub reason: String,
    /// SHA-256 of the policy set.
    pub policy_digest: [u8; 32],
}

/// An [`End`] read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedCommand {
    /// In which session.
    pub session: SessionId,
    /// When.
    pub at: Timestamp,
    /// How.
    pub outcome: Outcome,
}

/// A [`Chunk`] read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedChunk {
    /// In which session.
    pub session: SessionId,
    /// The first command that something in it is of.
    pub command: CommandId,
    /// The stream.
    pub stream: String,
    /// Which chunk of it.
    pub chunk: u32,
    /// Of what is first in it.
    pub first_at: Timestamp,
    /// Of what is last in it.
    pub last_at: Timestamp,
    /// How it is compressed.
    pub codec: String,
    /// The nonce.
    pub nonce: [u8; 12],
    /// The sealed bytes.
    pub sealed: Vec<u8>,
}

/// A [`SessionClose`] read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedSession {
    /// Which.
    pub session: SessionId,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// A [`Control`] read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlEntry {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: String,
    /// The rest, as JSON.
    pub detail: String,
}

/// One boot of one machine (`/proc/sys/kernel/random/boot_id`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BootId(pub [u8; 16]);

/// A frame's place in the journal, from 1; 0 stands before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lsn(pub u64);

/// The longest control detail kept: a heartbeat is about 1 KiB, a policy change names its files.
pub const CONTROL_DETAIL_BYTES_MAX: usize = 64 * 1024;

/// Accesses kept of one statement; a statement with more is cut here, its text is not.
pub const ACCESSES_MAX: usize = 512;

/// Bytes kept of one name (object, database, account, policy, path): PostgreSQL's names have at
/// most 63 bytes, PATH_MAX is 4096.
pub const NAME_BYTES_MAX: usize = 512;

/// A frame's body at most: text 64 KiB + normalized text 64 KiB + 256 parameters × 1 KiB +
/// 512 accesses × (512 + 6) B + 256 policies × (512 + 4) B + 256 columns × (769 + 4) B +
/// 256 policies with windows × (64 + 4) B + 64 approvers × (512 + 4) B + 512 tokens × 8 B = 1,022 KiB.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
