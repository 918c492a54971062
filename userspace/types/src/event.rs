//! What a protocol session tells its driver.

use crate::clock::Timestamp;
use crate::command::Command;
use crate::id::{CommandId, PolicyId};
use crate::redact::MaskCount;

/// Something a session has to say; each is recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The agent asks for something: decide it, record it, then tell the session.
    Command(Command),
    /// A command ended.
    Outcome(Outcome),
    /// The session can go no further by its protocol; it says why, and nothing of the content.
    Violation(Violation),
    /// A credential of ours logged in at the target, which proved what this method has it prove; by
    /// the protocol's name of the method.
    Authenticated(&'static str),
    /// What another session said reached the agent, unasked.
    Notified(Notification),
    /// The session wants rows of the target's catalog; answered by `Event::Probed` later.
    /// The driver answers with the session's `probe` or `skip_probe`.
    ProbeWanted,
    /// The rows the driver asked for with `probe`, each a list of text values; `None` if it failed.
    Probed(Option<Vec<Vec<Option<String>>>>),
}

/// A notification of another session's, as the agent saw it (PostgreSQL `NotificationResponse`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The channel's name, masked where it looked like a value.
    pub channel: String,
    /// The server's process that sent it.
    pub process: u32,
    /// Bytes of its payload.
    pub bytes: usize,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which command.
    pub command: CommandId,
    /// How.
    pub status: Status,
    /// The server's SQLSTATE where it erred, or ours where it was refused.
    pub error_code: Option<[u8; 5]>,
    /// Rows returned or affected, where the protocol says.
    pub rows: Option<u64>,
    /// Bytes of the request on the wire.
    pub bytes_in: u64,
    /// Bytes of the response that went to the agent.
    pub bytes_out: u64,
    /// What was masked.
    pub masked: Vec<MaskCount>,
    /// The head of the response as the agent saw it, as text lines, at most
    /// [`crate::limits::RESPONSE_SAMPLE_BYTES_MAX`], or what policy says instead.
    pub sample: Vec<u8>,
    /// When its first byte went to the server.
    pub sent_at: Option<Timestamp>,
    /// When the server's answer began.
    pub first_at: Option<Timestamp>,
    /// SHA-256 of all that went to the agent as the response, where policy asks for it.
    pub digest: Option<[u8; 32]>,
    /// What it used of limits over windows, where it was under any.
    pub used: Option<Box<WindowUse>>,
}

impl Outcome {
    /// One of a command of which nothing else is known.
    pub fn new(command: CommandId, status: Status) -> Self {
        Self {
            command,
            status,
            error_code: None,
            rows: None,
            bytes_in: 0,
            bytes_out: 0,
            masked: Vec::new(),
            sample: Vec::new(),
            sent_at: None,
            first_at: None,
            digest: None,
            used: None,
        }
    }
}

/// What one command used of limits over windows: they are counted again from this when the daemon
/// starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowUse {
    /// The policies that set the windows.
    pub policies: Vec<PolicyId>,
    /// Rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long it ran, in microseconds.
    pub us: u64,
}

/// How a command ended, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// It succeeded.
    Ok,
    /// The server answered with an error.
    Error,
    /// Policy refused it.
    Denied,
    /// It stood in one message with a refused one, or behind an error, and did not run; or there was
    /// nothing to cancel.
    Skipped,
    /// The connection ended before the server's answer.
    Interrupted,
    /// It was cut where it reached a limit.
    Limited,
}

impl Status {
    /// The archive's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Denied => "denied",
            Self::Skipped => "skipped",
            Self::Interrupted => "interrupted",
            Self::Limited => "limited",
        }
    }
}

/// Why a session ended itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Who broke the protocol.
    pub side: crate::addr::Side,
    /// What was wrong, in fixed words.
    pub what: &'static str,
}
