//! What goes over the daemon's control socket: one JSON object a line, a request and its answer.

mod login;
mod standing;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::login::StandingLogin;
pub use self::standing::{
    CompactedDay, ForwardStanding, HubStanding, JournalPruned, JournalSealStanding,
    JournalStanding, ShipStanding, WitnessStanding,
};
use crate::id::{AgentName, CgroupId, SessionId};

/// What a root client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How the daemon is.
    Status,
    /// Make a cgroup for a new instance of an agent, enrolled, to be joined by the caller.
    Enroll {
        /// Under which name.
        agent: AgentName,
        /// Whom it acts for.
        #[serde(default)]
        whom: Whom,
    },
    /// Enrol a process that runs already, with its children.
    EnrollRunning {
        /// Under which name.
        agent: AgentName,
        /// Which process.
        pid: u32,
        /// Whom it acts for.
        #[serde(default)]
        whom: Whom,
    },
    /// Begin a person's login on this host (RFC 8628).
    Login {
        /// Where; at the one issuer that the daemon has a client at where absent.
        issuer: Option<String>,
        /// Who called sudo, where somebody did.
        sudo_uid: Option<u32>,
    },
    /// How a login under way stands; one that nobody asks about for ten seconds is given up.
    LoginProgress {
        /// Which.
        login: String,
    },
    /// Give up a login under way.
    LoginWithdraw {
        /// Which.
        login: String,
    },
    /// End the login of whoever asks.
    Logout {
        /// Who called sudo, where somebody did.
        sudo_uid: Option<u32>,
    },
    /// Refuse an agent's connections from now on, and end those that are open.
    Revoke {
        /// Whose.
        agent: AgentName,
        /// Which start of it; all where absent.
        instance: Option<String>,
        /// Why.
        reason: String,
    },
    /// Have nobody act for a person any more, and end the sessions of those who do.
    RevokeSubject {
        /// The issuer's key for the person, or the person's name.
        subject: String,
        /// The issuer; any where absent.
        idp: Option<String>,
        /// Why; where absent, what was revoked counts again.
        reason: Option<String>,
    },
    /// Whom agents act for.
    Who,
    /// Which sessions are open.
    Sessions {
        /// Of this agent; all where absent.
        agent: Option<AgentName>,
        /// Of this person, by the issuer's key or the name; all where absent.
        subject: Option<String>,
        /// At most so many.
        most: usize,
    },
    /// Something about approvals, in the words of `approval::control`, which this crate does not know.
    Approvals {
        /// What.
        ask: serde_json::Value,
    },
    /// Convert what the journal holds into the archive now and sign a checkpoint.
    Seal,
    /// Put the files of past days together in the archive.
    Compact {
        /// The first day that stays as it is, `2026-11-21`, UTC; as configured where absent.
        before: Option<String>,
        /// Only tell what would be.
        dry_run: bool,
    },
    /// Let go of the journal's segments whose rows are safe elsewhere, as configured.
    PruneJournal {
        /// Only tell what would go.
        dry_run: bool,
    },
    /// Sign what a document is, by its digest, with the node's key; recorded first.
    Attest {
        /// `evidence-kit` or `controls-report`.
        document: String,
        /// Its SHA-256, hex.
        sha256: String,
    },
    /// Replace the key that signs checkpoints.
    RotateKey {
        /// The size beyond which what the old one signs does not stand by itself.
        revoked_from: Option<u64>,
    },
    /// Destroy keys in the token that others have followed.
    DestroyKeys {
        /// Their names in the token; where there are none, tell which there are.
        names: Vec<String>,
    },
    /// Make blind tokens with a new key from now on.
    RotateBlindKey,
    /// Write that a session's sealed recording is being opened.
    RecordingOpened {
        /// Which.
        session: SessionId,
        /// With whose key, by its name in the vault.
        recipient: String,
        /// What for: recorded, and not empty.
        purpose: String,
    },
    /// Destroy the keys of sealed recordings.
    Shred {
        /// Of these sessions.
        sessions: Vec<SessionId>,
        /// Or of all that opened before this day, UTC.
        before: Option<String>,
        /// Why: recorded, and not empty.
        reason: String,
    },
    /// Set a legal hold.
    HoldSet {
        /// Its name.
        name: String,
        /// On what: words `NAME=VALUE`.
        scope: Vec<String>,
        /// Why.
        reason: String,
    },
    /// Ask for a hold's release.
    HoldRelease {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
        /// Who asks.
        by: Person,
    },
    /// Remove files whose time is over and that no hold is on.
    Dispose {
        /// Only say what would go.
        dry_run: bool,
        /// Why; not asked for of a dry run.
        reason: String,
        /// Who approves it.
        by: Person,
    },
    /// What this host can do.
    Doctor,
    /// Let enrolled agents go free, and end.
    Disarm {
        /// Why: recorded, and not empty.
        reason: String,
    },
}

/// What is said of whom an agent acts for when it is started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Whom {
    /// The file that holds the token of the person; an absolute path.
    pub token_file: Option<PathBuf>,
    /// The name of the daemon's identity that it acts by.
    #[serde(rename = "as")]
    pub identity: Option<String>,
    /// Who answers for it; a word that nothing proves.
    pub owner: Option<String>,
    /// Who called sudo to start it, where somebody did.
    pub sudo_uid: Option<u32>,
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Enroll`].
    Enrolled {
        /// The cgroup directory to join.
        cgroup_path: String,
        /// Its id.
        cgroup: CgroupId,
        /// Which start of the agent this is.
        instance: String,
        /// How the launcher starts it.
        #[serde(default)]
        profile: Profile,
        /// The kernel's security hooks are armed.
        #[serde(default)]
        guarded: bool,
        /// The authorities that it is to trust, PEM, where the daemon has one of its own.
        #[serde(default)]
        trust: Option<PathBuf>,
    },
    /// To [`Request::EnrollRunning`].
    Taken {
        /// Which start of the agent this is.
        instance: String,
        /// It and its children.
        processes: Vec<u32>,
        /// Sockets that were ended.
        sockets_ended: usize,
    },
    /// To [`Request::Revoke`].
    Revoked {
        /// Name and instance of each agent revoked.
        agents: Vec<String>,
        /// Sockets that were ended.
        sockets_ended: usize,
    },
    /// To [`Request::Who`].
    Who {
        /// By name and instance.
        agents: Vec<ActingAgent>,
        /// People who are logged in on this host.
        #[serde(default)]
        logins: Vec<StandingLogin>,
    },
    /// To [`Request::Login`].
    LoginBegun {
        /// Which.
        login: String,
        /// Where the person logs in: a URL.
        verification_uri: String,
        /// The same with the code in it.
        verification_uri_complete: Option<String>,
        /// The code to type there.
        user_code: String,
        /// For how many seconds it stands.
        expires_in_s: u64,
    },
    /// To [`Request::LoginProgress`] and [`Request::LoginWithdraw`]; of a login that failed, the answer is
    /// [`Response::Failed`].
    LoginProgress {
        /// Whose login it became, once it did.
        login: Option<StandingLogin>,
    },
    /// To [`Request::Logout`].
    LoggedOut {
        /// Whose login it was.
        login: StandingLogin,
        /// Name and instance of each agent whose sessions ended.
        agents: Vec<String>,
        /// Why the issuer could not be told, where it could not.
        not_revoked: Option<String>,
    },
    /// To [`Request::Sessions`].
    Sessions {
        /// In the order in which they opened.
        sessions: Vec<OpenSession>,
        /// How many are meant, shown or not.
        total: usize,
    },
    /// To [`Request::Approvals`], in the same words.
    Approvals {
        /// What is told.
        told: serde_json::Value,
    },
    /// To [`Request::Seal`] and [`Request::RotateKey`].
    Sealed {
        /// Rows the log holds.
        tree_size: u64,
        /// The Merkle root over them, base64.
        root: String,
        /// Files written, relative to the archive.
        files: Vec<String>,
    },
    /// To [`Request::HoldSet`], [`Request::HoldRelease`], [`Request::Dispose`] and [`Request::DestroyKeys`].
    Retained {
        /// What was done, in words.
        lines: Vec<String>,
    },
    /// To [`Request::Compact`].
    Compacted {
        /// The days that were, or would be, put together.
        days: Vec<CompactedDay>,
        /// What stays as it is, and why.
        stays: Vec<String>,
    },
    /// To [`Request::PruneJournal`].
    JournalPruned(JournalPruned),
    /// To [`Request::Attest`].
    Attested {
        /// The signed note (C2SP).
        note: String,
        /// The public key that it is signed with, in C2SP's form.
        key: String,
    },
    /// To [`Request::RotateBlindKey`].
    BlindKey {
        /// What the new one is called in records.
        key: String,
    },
    /// To [`Request::RecordingOpened`]: it is on record.
    RecordingNoted,
    /// To [`Request::Shred`].
    Shredded {
        /// How many keys are no more.
        shredded: usize,
        /// How many stay, by legal holds.
        held: usize,
    },
    /// To [`Request::Doctor`].
    Doctor {
        /// One line each.
        checks: Vec<Check>,
    },
    /// To [`Request::Disarm`]: recorded, the hooks are gone, and the daemon ends.
    Disarmed,
    /// The request could not be met.
    Failed {
        /// Why, and what to do.
        reason: String,
    },
}

/// How a person says who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The file with the person's token; the login on this host where absent.
    pub token_file: Option<PathBuf>,
    /// Who called sudo, where somebody did.
    pub sudo_uid: Option<u32>,
}

/// An open session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSession {
    /// Which, as in the archive.
    pub session: String,
    /// When the agent connected, microseconds since 1970 UTC.
    pub opened_us: i64,
    /// The agent.
    pub agent: String,
    /// Which start of it.
    pub instance: String,
    /// Who acts, from the outermost to this agent.
    pub chain: Vec<String>,
    /// The person.
    pub user: Option<String>,
    /// The issuer's key for the person.
    pub sub: Option<String>,
    /// The connecting process.
    pub pid: u32,
    /// The target.
    pub target: String,
    /// The database.
    pub database: Option<String>,
    /// The account at the target.
    pub account: Option<String>,
    /// Commands so far.
    pub commands: u64,
    /// When the last one began, microseconds since 1970 UTC.
    pub last_us: i64,
}

/// One agent, and whom it acts for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActingAgent {
    /// Its name.
    pub agent: String,
    /// Which start of it.
    pub instance: String,
    /// The person.
    pub user: Option<String>,
    /// Who vouches for the person.
    pub idp: Option<String>,
    /// The voucher's key for the person.
    pub sub: Option<String>,
    /// The person's groups.
    pub groups: Vec<String>,
    /// Until when the token holds, seconds since 1970 UTC.
    pub expires_s: Option<i64>,
    /// Who answers for it by the word of whoever started it.
    pub owner: Option<String>,
    /// Who acts, from the outermost to this one.
    pub chain: Vec<String>,
    /// Why it acts for nobody any more.
    pub ended: Option<String>,
    /// Its open sessions.
    pub sessions: u64,
}

/// How the launcher starts an agent: what it takes away unless this says otherwise. The default
/// takes away all it can.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// Its name in the configuration; empty for the default.
    pub name: String,
    /// The user to run as, by name or number, unless the command line names one.
    pub user: Option<String>,
    /// The group; the user's own where absent.
    pub group: Option<String>,
    /// What the system call filter lets through.
    pub allow: Vec<Permission>,
    /// Capabilities that stay, such as `CAP_NET_BIND_SERVICE`.
    pub keep_capabilities: Vec<String>,
    /// Variables that stay although they name a socket or a descriptor.
    pub keep_environment: Vec<String>,
    /// Paths that stay visible and writable although others' sockets or cgroups are there.
    pub keep_paths: Vec<String>,
    /// What the agent must at least be held by; less is refused.
    pub level: Option<Level>,
}

/// Something that the launcher's system call filter refuses otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// ptrace, reading others' memory, taking others' descriptors.
    Ptrace,
    /// io_uring, whose sockets are not subject to the filter.
    IoUring,
    /// unshare, setns, and clone with new namespaces.
    Namespaces,
    /// The mount family.
    Mount,
    /// bpf.
    Bpf,
    /// perf_event_open.
    PerfEvents,
    /// The kernel's key rings.
    Keyring,
    /// userfaultfd.
    Userfaultfd,
    /// open_by_handle_at.
    FileHandles,
    /// Netlink sockets of every protocol; otherwise routing's only.
    Netlink,
    /// AF_VSOCK sockets.
    Vsock,
    /// Sockets of every family.
    AnySocket,
    /// Sockets as standard input, output or error.
    StdioSockets,
}

/// A level of assurance that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// Not root, no capability, filtered system calls.
    A1,
    /// The kernel's security hooks are armed.
    A2,
}

/// How the daemon is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// The node's name in records.
    pub node: String,
    /// Sessions open now.
    pub sessions_open: u64,
    /// Sessions since the start.
    pub sessions_total: u64,
    /// Commands since the start.
    pub commands_total: u64,
    /// Commands refused since the start.
    pub commands_denied: u64,
    /// Connections refused before a session (no kernel record, unknown target, …).
    pub connections_refused: u64,
    /// Look-ups of names decided since the start.
    pub dns_queries: u64,
    /// Look-ups that policy refused.
    pub dns_refused: u64,
    /// Look-ups that were no question, nobody's, or too many.
    pub dns_dropped: u64,
    /// Calls that the kernel programs refused.
    pub kernel_refusals: u64,
    /// Flows in which the kernel counted bytes that no session saw: look at once.
    pub flows_differing: u64,
    /// Databases whose catalog can't be read: the widest masks apply there.
    #[serde(default)]
    pub catalogs_lost: u64,
    /// Commands that wait for people's approval.
    #[serde(default)]
    pub approvals_waiting: u64,
    /// Since when the oldest of them does, microseconds since 1970 UTC.
    #[serde(default)]
    pub approvals_oldest_us: Option<i64>,
    /// Grants that may still be used.
    #[serde(default)]
    pub grants: u64,
    /// Messages to webhooks that are not delivered yet.
    #[serde(default)]
    pub webhooks_due: u64,
    /// Agents enrolled now: name and instance.
    pub agents: Vec<String>,
    /// Journal frames durable.
    pub journal_durable_lsn: u64,
    /// Why the journal does not take everything; absent where it does.
    #[serde(default)]
    pub journal_trouble: Option<String>,
    /// Rows the log holds.
    pub rows: u64,
    /// Policy set digest, hexadecimal.
    pub policy_digest: String,
    /// Where the hooks are pinned.
    pub pin_dir: String,
    /// How the link to the hub is, where there is one.
    #[serde(default)]
    pub hub: Option<HubStanding>,
    /// How far the log's witnesses are.
    #[serde(default)]
    pub witnesses: Vec<WitnessStanding>,
    /// How far the archive is shipped, where a store is configured.
    #[serde(default)]
    pub ship: Option<Box<ShipStanding>>,
    /// Whether sealed files are made unchangeable where they lie.
    #[serde(default)]
    pub archive_immutable: bool,
    /// Why what is recorded is not sealed now; absent where it is, or was not tried.
    #[serde(default)]
    pub archive_trouble: Option<Box<str>>,
    /// What the journal takes, where that can be read.
    #[serde(default)]
    pub journal: Option<Box<JournalStanding>>,
    /// How the journal is sealed between checkpoints, where it is.
    #[serde(default)]
    pub journal_seal: Option<Box<JournalSealStanding>>,
    /// How far events are forwarded, to each receiver.
    #[serde(default)]
    pub forwards: Box<[ForwardStanding]>,
}

/// One thing `vestibule doctor` looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// How it stands.
    pub verdict: Verdict,
    /// What was seen, and what to do about it.
    pub detail: String,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, with less.
    Warn,
    /// Does not work.
    Fail,
}
