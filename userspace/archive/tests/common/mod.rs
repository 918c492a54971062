//! A node that records into a real journal, and its archive.

#![allow(dead_code, clippy::unwrap_used, reason = "each test program uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use archive::key::Signer;
use archive::retention::{Disposition, Gone};
use archive::seal::{SealError, Sealed};
use archive::{Archive, layout};
use journal::record::{Begin, End, Frame, Lsn, SessionClose, SessionOpen};
use journal::recorder::{Options, Recorder, Reserve};
use types::addr::OrigDst;
use types::clock::{Clock, Timestamp};
use types::command::{
    Access, Action, Analysis, CommandKind, Parameter, ParameterValue, Risk, Statement, TableName,
};
use types::decision::{Decision, Effect};
use types::event::{Outcome, Status};
use types::id::{CgroupId, CommandId, PolicyId, SessionId};
use types::identity::{Actor, Identity, Subject, Token};
use types::principal::{Assurance, Principal, Process, ProcessKey, Provenance};
use types::redact::{DataClass, MaskCount};
use types::target::Target;

/// 2026-11-21 23:00 UTC.
const START_US: i64 = 1_795_302_000_000_000;

/// A clock that goes on by a millisecond whenever it is read.
pub(crate) struct Steps(AtomicI64);

impl Clock for Steps {
    fn now(&self) -> Timestamp {
        let us = self.0.fetch_add(1000, Ordering::Relaxed);
        Timestamp { unix_us: us, mono_ns: u64::try_from(us - START_US).unwrap() * 1000 }
    }
}

/// A node with its folders.
pub(crate) struct Node {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Arc<Steps>,
    pub(crate) recorder: Recorder,
    pub(crate) last: Lsn,
    pub(crate) name: &'static str,
    segment_bytes: u64,
    sessions: u8,
}

impl Node {
    pub(crate) fn start(segment_bytes: u64) -> Self {
        Self::start_as("n1", segment_bytes)
    }

    /// A node of another name.
    pub(crate) fn start_as(name: &'static str, segment_bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(Steps(AtomicI64::new(START_US)));
        let recorder = open(dir.path(), name, &clock, segment_bytes);
        Self { dir, clock, recorder, last: Lsn(0), name, segment_bytes, sessions: 0 }
    }

    /// One with 700 rows in two seals, over many segments of the journal.
    pub(crate) fn sealed_twice() -> Self {
        let mut node = Self::start(16 * 1024);
        node.session(170);
        node.seal();
        node.session(170);
        node.heartbeat();
        node.seal();
        node
    }

    pub(crate) fn restart(&mut self) {
        self.recorder.close().unwrap();
        let closed =
            open(&self.dir.path().join("closed"), self.name, &self.clock, self.segment_bytes);
        drop(std::mem::replace(&mut self.recorder, closed));
        self.recorder = open(self.dir.path(), self.name, &self.clock, self.segment_bytes);
    }

    /// What a person signs so that these recordings may go, which are over on `today`, days since 1970.
    pub(crate) fn disposition(&self, today: i64, files: Vec<Gone>) -> Disposition {
        let last = archive::status::last(&self.archive(), self.name, 0).unwrap().unwrap();
        Disposition {
            origin: layout::origin(self.name, 0),
            rule: "payload13m after 397 days".into(),
            before: layout::date(today - 397),
            approver: "ann@https://idp.example".into(),
            reason: "time is over".into(),
            size: last.tree_size,
            root: last.root,
            files,
        }
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    pub(crate) fn archive(&self) -> PathBuf {
        self.dir.path().join("archive")
    }

    pub(crate) fn signer(&self) -> Signer {
        Signer::load_or_create(&self.dir.path().join("keys"), self.name).unwrap()
    }

    pub(crate) fn seal(&self) -> Sealed {
        self.seal_into(&self.archive()).unwrap()
    }

    pub(crate) fn seal_into(&self, archive: &Path) -> Result<Sealed, SealError> {
        self.recorder.wait(self.last).unwrap();
        let durable = self.recorder.durable();
        let archive = Archive::open(archive, self.name)?;
        archive.seal(&self.journal(), durable, &mut self.signer(), self.clock.now())
    }

    /// Time passes.
    pub(crate) fn sleep(&self, us: i64) {
        self.clock.0.fetch_add(us, Ordering::Relaxed);
    }

    pub(crate) fn heartbeat(&mut self) {
        let detail = r#"{"flows_observed":7,"flows_bypassed":0,"clock_state":"synced"}"#;
        self.last = self.recorder.control("heartbeat", detail).unwrap();
    }

    /// A key is made, and a record says that it follows; the next seal puts it in force.
    pub(crate) fn rotate(&mut self, revoked_from: Option<u64>) {
        let origin = format!("vestibule/node/{}/0", self.name);
        let detail = self.signer().rotate(&origin, revoked_from).unwrap();
        self.last = self.recorder.control("key.rotated", &detail).unwrap();
    }

    /// A session opens.
    pub(crate) fn open(&mut self) -> SessionId {
        self.sessions = self.sessions.wrapping_add(1);
        let at = self.clock.now();
        let session = SessionId::new(at, [self.sessions; 10]);
        let principal = principal();
        let target = Target {
            name: "core".into(),
            addr: OrigDst("10.0.0.5:5432".parse().unwrap()),
            host: None,
            protocol: "postgresql",
            database: Some("bank".into()),
            account: Some("agent_ro".into()),
            tls: None,
            credential: None,
        };
        self.append(Frame::SessionOpen(SessionOpen {
            session,
            at,
            principal: &principal,
            source: "10.0.0.9:40000".parse().unwrap(),
            netns_cookie: 1,
            socket_cookie: 2,
            target: &target,
        }));
        session
    }

    /// A command begins.
    pub(crate) fn begin(&mut self, session: SessionId, command: u32, sql: &str) {
        let at = self.clock.now();
        let drop = sql.starts_with("DROP");
        let table = TableName { schema: Some("public".into()), name: "customers".into() };
        let action = if drop { Action::Ddl } else { Action::Select };
        let normalized = sql.replace(|c: char| c.is_ascii_digit(), "$");
        let verb = if drop { "DROP TABLE" } else { "SELECT" };
        let risks = if drop { Risk::DDL } else { Risk::empty() };
        let accesses = vec![Access { action, table: Some(table) }];
        let analysis = Analysis::new(verb, normalized, accesses, risks);
        let statement = Statement::new(sql, Analysis { fingerprint: -7, ..analysis });
        let decision = Decision {
            effect: if drop { Effect::Deny } else { Effect::Allow },
            obligations: Arc::from([]),
            determining: Arc::from([PolicyId("p1".into())]),
            reason: "reads are allowed".into(),
            policy_digest: [3; 32],
        };
        let value = ParameterValue::Text { text: "4711".into(), bytes: 4 };
        let parameters = [
            Parameter { type_oid: 23, value },
            Parameter { type_oid: 0, value: ParameterValue::Null },
        ];
        self.append(Frame::Begin(Begin {
            session,
            command: CommandId(command),
            at,
            kind: CommandKind::Query,
            statement: &statement,
            text: sql,
            parameters: &parameters,
            batch: command,
            decision: &decision,
            decided_us: 7,
            identity: 0,
            approval: None,
            blind: None,
        }));
    }

    /// It ends.
    pub(crate) fn end(&mut self, session: SessionId, command: u32, denied: bool) {
        let masked = MaskCount { class: DataClass("us_ssn".into()), count: 2 };
        let outcome = Outcome {
            command: CommandId(command),
            status: if denied { Status::Denied } else { Status::Ok },
            error_code: denied.then_some(*b"42501"),
            rows: (!denied).then_some(3),
            bytes_in: 40,
            bytes_out: 900,
            masked: if denied { Vec::new() } else { vec![masked] },
            sample: format!("id | ssn\n{command} | <ssn>\n").into_bytes(),
            sent_at: None,
            first_at: None,
            digest: None,
            used: None,
        };
        let at = self.clock.now();
        self.append(Frame::End(End { session, at, outcome: &outcome }));
    }

    pub(crate) fn close(&mut self, session: SessionId) {
        let at = self.clock.now();
        self.append(Frame::SessionClose(SessionClose { session, at, reason: "client" }));
    }

    /// A whole session of `commands` reads and one refused DROP.
    pub(crate) fn session(&mut self, commands: u32) -> SessionId {
        let session = self.open();
        for command in 1..=commands {
            self.begin(
                session,
                command,
                &format!("SELECT name FROM customers WHERE id = {command}"),
            );
            self.end(session, command, false);
        }
        self.begin(session, commands + 1, "DROP TABLE customers");
        self.end(session, commands + 1, true);
        self.close(session);
        session
    }

    fn append(&mut self, frame: Frame<'_>) {
        self.last = self.recorder.append(frame).unwrap();
    }
}

fn open(dir: &Path, name: &str, clock: &Arc<Steps>, segment_bytes: u64) -> Recorder {
    let mut options = Options::new(dir.join("journal"), name, 0);
    options.segment_bytes = segment_bytes;
    options.reserve = Reserve { percent: 0, bytes: 0 };
    let clock: Arc<dyn Clock> = Arc::<Steps>::clone(clock);
    Recorder::open(&options, clock, Box::new(|_| ())).unwrap().0
}

fn principal() -> Principal {
    let key = ProcessKey { tgid: 4242, start_ns: 99 };
    let token = Token {
        client: Some("console".into()),
        id: Some("t-1".into()),
        session: Some("s-9".into()),
        expires_s: 2_000_000_000,
        authenticated_s: Some(1_700_000_000),
        methods: Arc::from(["pwd".into(), "mfa".into()]),
        class: Some("2".into()),
        ..Token::default()
    };
    let subject = Subject {
        user: "ada".into(),
        idp: "idp".into(),
        sub: "s1".into(),
        groups: Arc::from(["staff".into()]),
        token: token.into(),
    };
    let actor = Actor { idp: "idp".into(), sub: "scheduler".into(), client: None };
    let owner = Some("ada".into());
    let identity = Identity { subject: Some(subject), actors: [actor].into(), owner };
    Principal {
        agent: "reader".parse().unwrap(),
        instance: "i-1".into(),
        chain: Arc::from(["planner".parse().unwrap(), "reader".parse().unwrap()]),
        identity: Arc::new(identity),
        process: Process {
            key,
            provenance: Provenance {
                ancestors: [ProcessKey { tgid: 1, start_ns: 1 }].into(),
                ..Provenance::default()
            },
            uid: 1000,
            gid: 1000,
            cgroup: CgroupId(77),
            exe: None,
            exe_path: Some("/usr/bin/psql".into()),
            exe_sha256: Some([9; 32]),
            comm: "psql".into(),
        },
        assurance: Assurance::A1,
    }
}

/// All files below a folder with their bytes, by their path below it.
pub(crate) fn tree(dir: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let files = archive::files::walk(dir).unwrap();
    let name = |path: &Path| path.strip_prefix(dir).unwrap().to_owned();
    files.iter().map(|path| (name(path), fs::read(path).unwrap())).collect()
}

/// Writes such files below a folder.
pub(crate) fn plant(dir: &Path, files: &std::collections::BTreeMap<PathBuf, Vec<u8>>) {
    for (path, bytes) in files {
        archive::files::write(&dir.join(path), bytes, 0o644).unwrap();
    }
}
