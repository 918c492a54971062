//! A bank's small world for the journal's tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use journal::assemble::Rows;
use journal::clock::SystemClock;
use journal::record::{Begin, End, Frame, Lsn, SessionClose, SessionOpen};
use journal::recorder::{AppendError, Options, Recorder, Reserve};
use journal::recover::{OpenError, Recovery};
use journal::row::{Row, Table};
use types::addr::OrigDst;
use types::clock::Timestamp;
use types::command::{Access, Action, Analysis, CommandKind, Risk, Statement, TableName};
use types::decision::{Decision, Effect};
use types::event::{Outcome, Status};
use types::id::{CgroupId, CommandId, PolicyId, SessionId};
use types::principal::{Assurance, Principal, Process, ProcessKey, Provenance};
use types::redact::{DataClass, MaskCount};
use types::target::Target;

pub(crate) const NODE: &str = "node-1";

/// A journal in `dir` with segments of 64 KiB and no reserve.
pub(crate) fn options(dir: &Path) -> Options {
    let mut options = Options::new(dir, NODE, 1);
    options.segment_bytes = 64 * 1024;
    options.reserve = Reserve { percent: 0, bytes: 0 };
    options
}

pub(crate) fn open(options: &Options) -> Result<(Recorder, Recovery), OpenError> {
    Recorder::open(options, Arc::new(SystemClock), Box::new(|_| {}))
}

pub(crate) fn session(number: u64) -> SessionId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    SessionId::from_bytes(bytes)
}

pub(crate) fn at(us: i64) -> Timestamp {
    Timestamp { unix_us: us, mono_ns: u64::try_from(us).unwrap() * 1000 }
}

/// What every session and command here has in common.
pub(crate) struct World {
    pub(crate) principal: Principal,
    pub(crate) target: Target,
    pub(crate) statement: Statement,
    pub(crate) decision: Decision,
}

impl World {
    pub(crate) fn new() -> Self {
        let agent: types::id::AgentName = "reporter".parse().unwrap();
        let process = Process {
            key: ProcessKey { tgid: 77, start_ns: 5 },
            provenance: Provenance::default(),
            uid: 1000,
            gid: 1000,
            cgroup: CgroupId(9),
            exe: None,
            exe_path: Some("/usr/bin/psql".into()),
            exe_sha256: Some([3; 32]),
            comm: "psql".into(),
        };
        Self {
            principal: Principal {
                agent: agent.clone(),
                instance: "i1".into(),
                chain: vec![agent].into(),
                identity: Arc::default(),
                process,
                assurance: Assurance::A0,
            },
            target: Target {
                name: "core".into(),
                addr: OrigDst("10.0.0.9:5432".parse().unwrap()),
                host: None,
                protocol: "postgresql",
                database: Some("bank".into()),
                account: Some("app".into()),
                tls: None,
                credential: None,
            },
            statement: Statement::new(
                "DELETE FROM cards.pans",
                Analysis {
                    fingerprint: -4,
                    ..Analysis::new(
                        "DELETE",
                        "DELETE FROM cards.pans",
                        vec![Access {
                            action: Action::Delete,
                            table: Some(TableName {
                                schema: Some("cards".into()),
                                name: "pans".into(),
                            }),
                        }],
                        Risk::NO_WHERE,
                    )
                },
            ),
            decision: Decision {
                effect: Effect::Deny,
                obligations: [].into(),
                determining: [PolicyId("no-bulk-delete".into())].into(),
                reason: "needs a WHERE".into(),
                policy_digest: [7; 32],
            },
        }
    }

    pub(crate) fn open(&self, to: &Recorder, number: u64) -> Result<Lsn, AppendError> {
        to.append(Frame::SessionOpen(SessionOpen {
            session: session(number),
            at: at(1_000_000),
            principal: &self.principal,
            source: "10.0.0.1:40000".parse().unwrap(),
            netns_cookie: 1,
            socket_cookie: 2,
            target: &self.target,
        }))
    }

    pub(crate) fn begin(
        &self,
        to: &Recorder,
        number: u64,
        command: u32,
    ) -> Result<Lsn, AppendError> {
        to.append(self.begin_frame(number, command))
    }

    pub(crate) fn begin_frame(&self, number: u64, command: u32) -> Frame<'_> {
        Frame::Begin(Begin {
            session: session(number),
            command: CommandId(command),
            at: at(2_000_000),
            kind: CommandKind::Query,
            statement: &self.statement,
            text: &self.statement.text,
            parameters: &[],
            batch: command,
            decision: &self.decision,
            decided_us: 7,
            identity: 0,
            approval: None,
            blind: None,
        })
    }
}

pub(crate) fn end(to: &Recorder, number: u64, command: u32) -> Result<Lsn, AppendError> {
    let outcome = outcome(command);
    to.append(Frame::End(End { session: session(number), at: at(3_000_000), outcome: &outcome }))
}

pub(crate) fn close(to: &Recorder, number: u64) -> Result<Lsn, AppendError> {
    to.append(Frame::SessionClose(SessionClose {
        session: session(number),
        at: at(4_000_000),
        reason: "client",
    }))
}

pub(crate) fn outcome(command: u32) -> Outcome {
    Outcome {
        command: CommandId(command),
        status: Status::Denied,
        error_code: Some(*b"42501"),
        rows: Some(2),
        bytes_in: 10,
        bytes_out: 20,
        masked: vec![MaskCount { class: DataClass("us_ssn".into()), count: 3 }],
        sample: b"x".to_vec(),
        sent_at: None,
        first_at: None,
        digest: None,
        used: None,
    }
}

/// The segment files, in order.
pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    journal::segment::list(dir).unwrap().into_iter().map(|segment| segment.path).collect()
}

/// All rows; checks that their numbers have no gap from the first on.
pub(crate) fn rows(dir: &Path) -> Vec<Row> {
    let mut source = Rows::open(dir, 0, None).unwrap();
    let mut rows: Vec<Row> = Vec::new();
    while let Some(row) = source.next_row().unwrap() {
        if let Some(last) = rows.last() {
            assert_eq!(row.seq().0, last.seq().0 + 1);
        }
        rows.push(row);
    }
    rows
}

pub(crate) fn count(rows: &[Row], table: Table) -> usize {
    rows.iter().filter(|row| row.table() == table).count()
}

/// Kinds of the control rows, in order.
pub(crate) fn controls(rows: &[Row]) -> Vec<String> {
    let kind = |row: &Row| match row {
        Row::Control(row) => Some(row.kind.clone()),
        _ => None,
    };
    rows.iter().filter_map(kind).collect()
}
