use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::task::Wake;

use approval::request::{Reached, Requester, Wants};
use approval::shown::shown_sha256;
use approval::vote::{Answer as Said, Approver};
use journal::reader::Reader;
use journal::record::Record;
use journal::recorder::{Options, Reserve};
use types::clock::Timestamp;
use types::command::{Analysis, Command, CommandKind, Parameter, ParameterValue, Risk, Statement};
use types::id::CommandId;

use super::*;

/// A clock that is set.
#[derive(Default)]
struct Set(AtomicI64);

impl Clock for Set {
    fn now(&self) -> Timestamp {
        Timestamp { unix_us: self.0.load(Ordering::Relaxed), mono_ns: 0 }
    }
}

struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Host {
    approvals: Approvals,
    recorder: Recorder,
    clock: Arc<Set>,
    journal: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let journal = tempfile::tempdir().unwrap();
        let mut options = Options::new(journal.path(), "node", 1);
        options.reserve = Reserve { percent: 0, bytes: 0 };
        options.segment_bytes = 4 * 1024 * 1024;
        let clock = Arc::new(Set::default());
        let shared: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
        let (recorder, _) =
            Recorder::open(&options, Arc::clone(&shared), Box::new(|_| {})).unwrap();
        let approvals = Approvals::new(recorder.clone(), shared, "node", &[7; 32]);
        Self { approvals, recorder, clock, journal }
    }

    fn at(&self, seconds: i64) {
        self.clock.0.store(1_000_000 * seconds, Ordering::Relaxed);
    }

    /// The book as the journal has it.
    fn written(&self) -> Book {
        self.recorder.settle().unwrap();
        let mut reader =
            Reader::open(self.journal.path(), Lsn(0), Some(self.recorder.durable())).unwrap();
        let mut book = Book::default();
        while let Some(frame) = reader.next_frame().unwrap() {
            if let Some(Record::Control(entry)) = frame.record().unwrap()
                && let Some(event) = Event::read(&entry.kind, &entry.detail)
            {
                book.apply(&event);
            }
        }
        book
    }
}

fn request(number: u8, covers: Coverage) -> ApprovalRequest {
    let mut request = ApprovalRequest {
        id: RequestId::new(
            Timestamp { unix_us: i64::from(number) * 1_000, mono_ns: 0 },
            [number; 10],
        ),
        node: "node".into(),
        at_us: 0,
        expires_us: 100_000_000,
        session: "s".into(),
        command: u32::from(number),
        requester: Requester {
            agent: "bot".into(),
            user: Some("carol".into()),
            ..Requester::default()
        },
        target: Reached { name: "bank".into(), ..Reached::default() },
        kind: "db.query".into(),
        verb: "DELETE".into(),
        accesses: vec!["delete transfers".into()],
        risks: Vec::new(),
        normalized: "DELETE FROM transfers WHERE id = $1".into(),
        text: format!("DELETE FROM transfers WHERE id = {number}"),
        parameters: Vec::new(),
        is_masked: false,
        rows_estimated: None,
        transaction: "none".into(),
        reason: "deletes".into(),
        policy_digest: String::new(),
        terms: vec![Wants {
            policy: "deletes".into(),
            groups: vec!["dba".into()],
            people: 1,
            break_glass: Vec::new(),
        }],
        covers,
        grant_s: 60,
        binding: format!("binding-{number}"),
        pattern: "pattern".into(),
        shown_sha256: String::new(),
    };
    request.shown_sha256 = shown_sha256(&request);
    request
}

fn vote(request: &ApprovalRequest, answer: Said) -> Vote {
    Vote {
        approver: Approver {
            idp: "idp".into(),
            sub: "a".into(),
            user: "ann".into(),
            groups: vec!["dba".into()],
        },
        answer,
        reason: "not on a Friday".into(),
        at_us: 1_000_000,
        way: "cli".into(),
        from: "uid 0".into(),
        shown_sha256: request.shown_sha256.clone(),
    }
}

fn policies() -> [String; 1] {
    ["deletes".to_owned()]
}

fn wanted<'a>(request: &'a ApprovalRequest, policies: &'a [String]) -> Wanted<'a> {
    Wanted {
        binding: &request.binding,
        pattern: &request.pattern,
        session: &request.session,
        accesses: &request.accesses,
        policies,
    }
}

#[test]
fn who_waits_is_woken_and_the_journal_has_all_of_it() {
    let host = Host::new();
    let policies = policies();
    let (woken, asked) = (Arc::new(Woken(AtomicUsize::new(0))), request(1, Coverage::Command));
    let waker = Waker::from(Arc::clone(&woken));
    let mut events = host.approvals.events();
    let mut changes = host.approvals.changes();
    host.approvals.ask(asked.clone()).unwrap();
    assert_eq!(host.approvals.poll(asked.id, &waker), Answer::Waits);
    assert!(changes.has_changed().unwrap());
    assert_eq!(*changes.borrow_and_update(), 1);
    assert!(host.approvals.release(asked.id, &wanted(&asked, &policies)).is_none());
    let (voted, lsn) = host.approvals.vote(asked.id, &vote(&asked, Said::Approve)).unwrap();
    assert_eq!((voted, woken.0.load(Ordering::Relaxed)), (Voted::Granted, 1));
    host.recorder.wait(lsn).unwrap();
    let again = host.approvals.vote(asked.id, &vote(&asked, Said::Approve)).unwrap();
    assert_eq!(again, (Voted::Already, lsn), "durable as it was");
    assert_eq!(host.approvals.poll(asked.id, &waker), Answer::Granted);
    let other = request(2, Coverage::Command);
    assert!(
        host.approvals.release(asked.id, &wanted(&other, &policies)).is_none(),
        "another command"
    );
    let stricter = ["deletes".to_owned(), "more".to_owned()];
    assert!(host.approvals.release(asked.id, &wanted(&asked, &stricter)).is_none(), "other terms");
    let grant = host.approvals.release(asked.id, &wanted(&asked, &policies)).unwrap();
    assert_eq!(grant.approvers, ["a@idp"]);
    assert!(host.approvals.release(asked.id, &wanted(&asked, &policies)).is_none(), "once");
    let written = host.written();
    assert_eq!(
        written.standing(asked.id).unwrap().votes.len(),
        1,
        "the second time it said the same"
    );
    assert_eq!(
        written.standing(asked.id),
        host.approvals.with(|b| b.standing(asked.id).cloned()).as_ref()
    );
    let mut kinds = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let Event::Requested(request) = &*event {
            assert!(request.text.is_empty() && !request.normalized.is_empty());
        }
        kinds.push(event.kind());
    }
    assert_eq!(
        kinds,
        ["approval.requested", "approval.voted", "approval.granted", "approval.spent"]
    );
}

#[test]
fn what_is_refused_late_or_ended_is_over() {
    let host = Host::new();
    let (woken, waker) = {
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        (Arc::clone(&woken), Waker::from(woken))
    };
    let [refused, late, ended] = [1, 2, 3].map(|number| request(number, Coverage::Command));
    for asked in [&refused, &late, &ended] {
        host.approvals.ask(asked.clone()).unwrap();
        assert_eq!(host.approvals.poll(asked.id, &waker), Answer::Waits);
    }
    host.approvals.vote(refused.id, &vote(&refused, Said::Deny)).unwrap();
    let reason = Some("not on a Friday".to_owned());
    assert_eq!(host.approvals.poll(refused.id, &waker), Answer::Over(Ending::Refused, reason));
    host.approvals.end(ended.id, Ending::Disconnected);
    host.approvals.end(ended.id, Ending::Cancelled);
    assert_eq!(host.approvals.poll(ended.id, &waker), Answer::Over(Ending::Disconnected, None));
    host.at(99);
    assert_eq!(host.approvals.expire(), 0);
    host.at(100);
    // By the host's clock, whatever the vote says.
    let voted = host.approvals.vote(late.id, &vote(&late, Said::Approve));
    assert_eq!(voted, Err(VoteError::Over(Ending::Expired)));
    assert_eq!(host.approvals.poll(late.id, &waker), Answer::Over(Ending::Expired, None));
    assert_eq!((host.approvals.expire(), woken.0.load(Ordering::Relaxed)), (0, 3));
    assert_eq!(host.written().waiting(), 0);
}

#[test]
fn two_at_once_do_not_overspend() {
    let host = Host::new();
    let policies = policies();
    let asked = request(1, Coverage::Alike(50));
    host.approvals.ask(asked.clone()).unwrap();
    host.approvals.vote(asked.id, &vote(&asked, Said::Approve)).unwrap();
    let spent = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for command in 0..100 {
                    if host.approvals.spend(&wanted(&asked, &policies), command, 0).is_some() {
                        spent.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(spent.load(Ordering::Relaxed), 50);
    assert_eq!(host.written().grants(1_000_000).count(), 0, "nor after a restart");
}

#[test]
fn what_can_not_be_written_down_did_not_happen() {
    let host = Host::new();
    let mut long = request(1, Coverage::Command);
    long.normalized = "x".repeat(CONTROL_DETAIL_BYTES_MAX);
    assert!(matches!(
        host.approvals.ask(long),
        Err(NotAsked::NotRecorded(NotRecorded::TooLarge(_)))
    ));
    let asked = request(2, Coverage::Command);
    host.approvals.ask(asked.clone()).unwrap();
    host.recorder.close().unwrap();
    let voted = host.approvals.vote(asked.id, &vote(&asked, Said::Approve));
    assert!(matches!(voted, Err(VoteError::NotRecorded(_))), "{voted:?}");
    assert_eq!(host.approvals.with(Book::waiting), 1);
    assert!(host.approvals.release(asked.id, &wanted(&asked, &policies())).is_none());
}

fn principal() -> (types::principal::Principal, types::target::Target) {
    use types::principal::{Assurance, Principal, Process, ProcessKey, Provenance};
    let agent: types::id::AgentName = "bot".parse().unwrap();
    let process = Process {
        key: ProcessKey { tgid: 1, start_ns: 1 },
        provenance: Provenance::default(),
        uid: 0,
        gid: 0,
        cgroup: types::id::CgroupId(1),
        exe: None,
        exe_path: None,
        exe_sha256: None,
        comm: "bot".into(),
    };
    let principal = Principal {
        agent: agent.clone(),
        instance: "1".into(),
        chain: [agent].into(),
        identity: Arc::default(),
        process,
        assurance: Assurance::A0,
    };
    let target = types::target::Target {
        name: "bank".into(),
        addr: types::addr::OrigDst("10.0.0.1:5432".parse().unwrap()),
        host: None,
        protocol: "postgresql",
        database: Some("bank".into()),
        account: Some("app".into()),
        tls: None,
        credential: None,
    };
    (principal, target)
}

fn command(text: &str, normalized: &str, risks: Risk, parameters: &[(u32, &str)]) -> Command {
    let accesses = vec![types::command::Access {
        action: types::command::Action::Delete,
        table: Some(types::command::TableName { schema: None, name: "transfers".into() }),
    }];
    let parameter = |(type_oid, text): &(u32, &str)| Parameter {
        type_oid: *type_oid,
        value: ParameterValue::Text {
            text: (*text).to_owned(),
            bytes: u32::try_from(text.len()).unwrap(),
        },
    };
    Command {
        id: CommandId(1),
        kind: CommandKind::Query,
        statement: Arc::new(Statement::new(
            text,
            Analysis::new("DELETE", normalized, accesses, risks),
        )),
        parameters: parameters.iter().map(parameter).collect(),
        batch: 0,
        transaction: types::command::Transaction::None,
    }
}

#[test]
fn every_part_of_a_command_is_bound() {
    use types::identity::{Identity, Subject};
    let host = Host::new();
    let bindings = host.approvals.bindings();
    let (who, at) = principal();
    let normalized = "DELETE FROM transfers WHERE id = $1";
    let plain =
        |parameters: &[(u32, &str)]| command(normalized, normalized, Risk::empty(), parameters);
    let one = plain(&[(23, "1")]);
    let binding = bindings.binding((&who, &at), &one, None);
    let pattern = bindings.pattern((&who, &at), &one);
    assert_eq!(bindings.binding((&who, &at), &one, None), binding);
    for (other, why) in [
        (plain(&[(23, "2")]), "value"),
        (plain(&[(20, "1")]), "type"),
        (plain(&[]), "count"),
        (plain(&[(23, "1"), (23, "1")]), "count"),
        (
            command(
                "DELETE FROM transfers  WHERE id = $1",
                normalized,
                Risk::empty(),
                &[(23, "1")],
            ),
            "text",
        ),
    ] {
        assert_ne!(bindings.binding((&who, &at), &other, None), binding, "{why}");
        assert_eq!(
            bindings.pattern((&who, &at), &other),
            pattern,
            "{why} is no part of the pattern"
        );
    }
    assert_ne!(bindings.binding((&who, &at), &one, Some(&[1; 32])), binding, "whole values");
    let with = |change: &dyn Fn(&mut types::principal::Principal)| {
        let mut other = who.clone();
        change(&mut other);
        other
    };
    let subject = Subject {
        user: "carol".into(),
        idp: "idp".into(),
        sub: "c".into(),
        groups: [].into(),
        token: Arc::default(),
    };
    let identity = |owner: Option<&str>, subject: Option<Subject>| {
        Arc::new(Identity { subject, actors: [].into(), owner: owner.map(Into::into) })
    };
    for other in [
        with(&|who| who.agent = "other".parse().unwrap()),
        with(&|who| who.instance = "2".into()),
        with(&|who| who.chain = ["outer".parse().unwrap(), "bot".parse().unwrap()].into()),
        with(&|who| who.identity = identity(Some("ops"), None)),
        with(&|who| who.identity = identity(None, Some(subject.clone()))),
    ] {
        assert_ne!(bindings.binding((&other, &at), &one, None), binding);
        assert_ne!(bindings.pattern((&other, &at), &one), pattern);
    }
    for at in [
        types::target::Target { database: Some("other".into()), ..at.clone() },
        types::target::Target { account: Some("other".into()), ..at.clone() },
        types::target::Target { name: "other".into(), ..at.clone() },
    ] {
        assert_ne!(bindings.binding((&who, &at), &one, None), binding);
        assert_ne!(bindings.pattern((&who, &at), &one), pattern);
    }
    let other_key = Bindings::new(&[8; 32]);
    assert_ne!(other_key.binding((&who, &at), &one, None), binding);
}

#[test]
fn what_says_by_its_literals_what_it_does_is_like_nothing_else() {
    let host = Host::new();
    let bindings = host.approvals.bindings();
    let (who, at) = principal();
    for risks in [
        Risk::OPAQUE,
        Risk::UNPARSED,
        Risk::COPY_PROGRAM,
        Risk::UNSAFE_FUNCTION,
        Risk::REINTERPRETS,
    ] {
        let [one, other] = ["DO 'a'", "DO 'b'"].map(|text| command(text, "DO $1", risks, &[]));
        let pattern = bindings.pattern((&who, &at), &one);
        assert_ne!(bindings.pattern((&who, &at), &other), pattern, "{risks:?}");
    }
}

#[test]
fn a_grant_for_a_session_is_not_of_whom_it_acts_for_later() {
    let host = Host::new();
    let asked = request(1, Coverage::Session);
    host.approvals.ask(asked.clone()).unwrap();
    host.approvals.vote(asked.id, &vote(&asked, Said::Approve)).unwrap();
    let policies = policies();
    let spent = |since| host.approvals.spend(&wanted(&asked, &policies), 2, since).is_some();
    assert!(spent(i64::MIN) && spent(1_000_000));
    assert!(!spent(1_000_001));
}
