//! One node's days: agents' sessions go into a real journal, the archiver takes them out of it, and what it has taken goes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use archive::Archive;
use archive::key::Signer;
use journal::assemble::Rows;
use journal::record::{Approval, Begin, End, Frame, Lsn, SessionClose, SessionOpen};
use journal::recorder::{Options, Recorder, Reserve};
use journal::row::Row;
use types::approval::Coverage;
use types::clock::{Clock, Timestamp};
use types::decision::{Decision, Effect};
use types::event::{Outcome, Status};
use types::id::{CommandId, PolicyId, RequestId, SessionId};
use types::redact::{DataClass, MaskCount};

use crate::blob::Blob;
use crate::chance::Chance;
use crate::people;
use crate::plan::{FIRST_DAY, Plan};
use crate::statements::{Asked, Shapes, Speaks, pick};
use crate::{Work, floor, timed};

const DAY_US: i64 = 86_400_000_000;

/// Sessions that are open at once.
const SESSIONS: usize = 60;

const CLASSES: [&str; 5] = ["email", "pan", "us_ssn", "phone", "iban"];

/// A clock that stands where the events are.
struct Stands(AtomicI64);

impl Clock for Stands {
    fn now(&self) -> Timestamp {
        stamp(self.0.load(Ordering::Relaxed), 0)
    }
}

/// The machine was started a day before the first.
fn stamp(unix_us: i64, ns: u64) -> Timestamp {
    const BOOT_US: i64 = 20_757 * DAY_US;
    let us = u64::try_from(unix_us - BOOT_US).expect("behind the boot");
    Timestamp { unix_us, mono_ns: us * 1_000 + ns }
}

/// An open session.
struct Session {
    id: SessionId,
    left: u64,
    command: u32,
    agent: u32,
    target: u64,
}

/// A day of a node.
pub(crate) struct Day {
    pub(crate) recorded: Work,
    pub(crate) sealed: Work,
    pub(crate) blob: Work,
    /// What of sealing each part takes, of a first day.
    pub(crate) parts: Option<serde_json::Value>,
}

/// A node.
pub(crate) struct Node {
    plan: Plan,
    /// For what lies there for a while.
    own: PathBuf,
    archive: PathBuf,
    blobs: PathBuf,
    journal: PathBuf,
    name: String,
    clock: Arc<Stands>,
    recorder: Recorder,
    signer: Signer,
    shapes: Shapes,
    decisions: Vec<Decision>,
    chance: Chance,
    open: Vec<Session>,
}

impl Node {
    pub(crate) fn start(plan: &Plan, number: u32, out: &Path) -> Self {
        let name = format!("n{}", number + 1);
        let own = out.join(&name);
        let clock = Arc::new(Stands(AtomicI64::new(FIRST_DAY * DAY_US)));
        let mut options = Options::new(own.join("journal"), &name, 0);
        options.reserve = Reserve { percent: 0, bytes: 1024 * 1024 * 1024 };
        let own_clock: Arc<dyn Clock> = Arc::<Stands>::clone(&clock);
        let recorder = Recorder::open(&options, own_clock, Box::new(|_| ())).unwrap().0;
        Self {
            plan: *plan,
            archive: out.join("archive"),
            blobs: out.join("json"),
            journal: own.join("journal"),
            signer: Signer::load_or_create(&own.join("keys"), &name).unwrap(),
            own,
            name,
            clock,
            recorder,
            shapes: Shapes::new(),
            decisions: (0..20).map(decision).collect(),
            chance: Chance(u64::from(number) << 32),
            open: Vec::new(),
        }
    }

    /// A day: what was recorded, sealed, and written with a JSON column.
    pub(crate) fn day(&mut self, number: u32) -> Day {
        let day = FIRST_DAY + i64::from(number);
        let (before, written) = (self.recorder.durable_rows(), self.recorder.stats().bytes);
        let (last, cpu) = timed(|| self.record(day));
        self.recorder.wait(last).unwrap();
        let bytes = self.recorder.stats().bytes - written;
        let rows = self.recorder.durable_rows() - before;
        let events = self.plan.events;
        let recorded = Work { events, rows, bytes, cpu };
        let archive = Archive::open(&self.archive, &self.name).unwrap();
        let at = self.clock.now();
        let durable = self.recorder.durable();
        let parts = (number == 0)
            .then(|| floor::measure(&self.journal, before, durable, &self.own.join("parts")));
        let (sealed, cpu) =
            timed(|| archive.seal(&self.journal, durable, &mut self.signer, at).unwrap());
        let size = |path: &String| self.archive.join(path).metadata().map_or(0, |file| file.len());
        let bytes = sealed.files.iter().map(size).sum();
        assert_eq!(sealed.tree_size, before + rows);
        let mut blob = Work::default();
        if number < self.plan.blob_days {
            blob = self.blob(day, before, durable);
        }
        self.prune();
        Day { recorded, sealed: Work { events, rows, bytes, cpu }, blob, parts }
    }

    /// Agents are at work for a day.
    fn record(&mut self, day: i64) -> Lsn {
        let (begins, count) = (day * DAY_US, i64::try_from(self.plan.events).unwrap());
        let step = DAY_US / count;
        let (mut minute, mut last) = (begins, Lsn(0));
        for event in 0..count {
            let apart = i64::try_from(self.chance.below(step.unsigned_abs())).unwrap();
            let at = begins + event * step + apart;
            while minute <= at {
                self.clock.0.store(minute, Ordering::Relaxed);
                self.heartbeat(event);
                minute += 60_000_000;
            }
            self.clock.0.store(at, Ordering::Relaxed);
            while self.open.len() < SESSIONS {
                self.open_session(day, at);
            }
            last = self.command(at);
        }
        if i64::from(self.plan.days) + FIRST_DAY == day + 1 {
            while let Some(session) = self.open.pop() {
                last = self.close(&session);
            }
        }
        last
    }

    fn append(&self, frame: Frame<'_>) -> Lsn {
        self.recorder.append(frame).unwrap()
    }

    fn heartbeat(&self, commands: i64) {
        let detail = format!(
            r#"{{"flows_observed":{commands},"flows_proxied":{commands},"flows_denied":0,"flows_bypassed":0,"flows_failed":0,"ring_drops":0,"clock_state":"synced","sessions_open":{}}}"#,
            self.open.len()
        );
        self.recorder.control("heartbeat", &detail).unwrap();
    }

    fn open_session(&mut self, day: i64, at: i64) {
        let chance = &mut self.chance;
        let at = stamp(at, chance.below(1_000));
        let session = SessionId::new(at, chance.bytes());
        let user = chance.skewed(200, 3);
        let principal = people::principal(user, day, chance);
        let number = chance.below(50);
        let (target, mut source) = people::target(number);
        source.set_port(u16::try_from(chance.between(32_768, 60_999)).unwrap());
        let (netns_cookie, socket_cookie) = (1, chance.below(1 << 32));
        let principal = &principal;
        let target = &target;
        let frame =
            SessionOpen { session, at, principal, source, netns_cookie, socket_cookie, target };
        self.append(Frame::SessionOpen(frame));
        let left = self.chance.between(5, 800);
        let opened = Session { id: session, left, command: 0, agent: user % 40, target: number };
        self.open.push(opened);
    }

    fn close(&self, session: &Session) -> Lsn {
        let at = self.clock.now();
        self.append(Frame::SessionClose(SessionClose { session: session.id, at, reason: "client" }))
    }

    /// Some session's next command, from its decision to its end.
    fn command(&mut self, at: i64) -> Lsn {
        let place = usize::try_from(self.chance.below(self.open.len() as u64)).unwrap();
        let session = &mut self.open[place];
        session.command += 1;
        session.left -= 1;
        let (id, command, target) = (session.id, CommandId(session.command), session.target);
        let (is_done, agent) = (session.left == 0, session.agent);
        let chance = &mut self.chance;
        let asked = self.shapes.ask(Speaks::of(target), agent, chance);
        let fate = chance.below(1_000);
        let is_denied = (960..985).contains(&fate);
        let approval = (fate >= 985).then(|| approval(at, chance));
        let rule = if is_denied { 8 + fate % 12 } else { target % 8 };
        let begun = stamp(at, chance.below(1_000));
        let decided_us = 3 + chance.skewed(40, 3);
        self.recorder
            .append(Frame::Begin(Begin {
                session: id,
                command,
                at: begun,
                kind: asked.kind,
                statement: &asked.statement,
                text: &asked.statement.text,
                parameters: &[],
                batch: command.0,
                decision: pick(&self.decisions, rule),
                decided_us,
                identity: 0,
                approval: approval.as_ref(),
                blind: None,
            }))
            .unwrap();
        let (outcome, ended) = outcome(command, &asked, begun, (fate, is_denied), chance);
        let mut last = self.append(Frame::End(End { session: id, at: ended, outcome: &outcome }));
        if is_done {
            let session = self.open.swap_remove(place);
            last = self.close(&session);
        }
        last
    }

    /// The day's rows from `first` on once more, with a JSON column.
    fn blob(&self, day: i64, first: u64, durable: Lsn) -> Work {
        let mut blob = Blob::create(&self.blobs, day, &self.name);
        let mut rows = Rows::open(&self.journal, first, Some(durable)).unwrap();
        let mut event = None;
        while let Some(row) = rows.next_row().unwrap() {
            match (row, event.take()) {
                (Row::Event(row), _) => event = Some(row),
                (Row::Recording(recording), Some(event)) => blob.push(*event, *recording),
                _ => {}
            }
        }
        blob.finish()
    }

    /// Takes away what is sealed: a journal of all days would fill the disk. What is open is carried on in the newest segment.
    fn prune(&self) {
        let segments = journal::segment::list(&self.journal).unwrap();
        for old in segments.iter().rev().skip(1) {
            fs::remove_file(&old.path).unwrap();
        }
    }
}

/// The rule of this number: the first eight let through.
fn decision(number: u32) -> Decision {
    let effect = if number < 8 { Effect::Allow } else { Effect::Deny };
    let reason =
        if number < 8 { "the task needs it" } else { "no rule of the bank's lets this through" };
    Decision {
        effect,
        obligations: Arc::from([]),
        determining: Arc::from([PolicyId(format!("rule-{number:03}").into())]),
        reason: reason.into(),
        policy_digest: [0x7d; 32],
    }
}

fn approval(at: i64, chance: &mut Chance) -> Approval {
    let held_us = chance.between(4_000_000, 900_000_000);
    let held = i64::try_from(held_us).unwrap();
    let asked = stamp(at - held.min(DAY_US / 2), 0);
    let approver = chance.between(200, 230);
    Approval {
        request: RequestId::new(asked, chance.bytes()),
        approvers: vec![format!("00u{approver:05}@{}", people::ISSUER)],
        granted_us: Some(at - 1_000),
        covers: Some(Coverage::Command),
        broken_glass: false,
        held_us: Some(held_us),
    }
}

/// How it ends, and when.
fn outcome(
    command: CommandId,
    asked: &Asked,
    begun: Timestamp,
    (fate, is_denied): (u64, bool),
    chance: &mut Chance,
) -> (Outcome, Timestamp) {
    let after = |us: u64, ns: u64| {
        stamp(begun.unix_us + i64::try_from(us).unwrap(), begun.mono_ns % 1_000 + ns)
    };
    if is_denied {
        let ended = after(chance.between(20, 60), 0);
        let outcome = Outcome {
            error_code: Some(*b"42501"),
            bytes_in: asked.statement.text.len() as u64 + 6,
            bytes_out: 170,
            ..Outcome::new(command, Status::Denied)
        };
        return (outcome, ended);
    }
    let rows = if asked.reads { chance.between(1, 100) } else { 1 };
    let is_masked = asked.is_select && ((930..960).contains(&fate) || chance.below(10) < 3);
    let masked = if is_masked { masked(rows, chance) } else { Vec::new() };
    let sample =
        if asked.is_select && chance.below(100) < 35 { sample(rows, chance) } else { Vec::new() };
    // Most take a fifth of a millisecond and more, a few a fifth of a second.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some microseconds"
    )]
    let took = (200.0 / (1.0 - chance.part() * 0.999)) as u64;
    let sent = chance.between(30, 130);
    let first = sent + took * 9 / 10;
    let outcome = Outcome {
        rows: Some(rows),
        bytes_in: asked.statement.text.len() as u64 + 6,
        bytes_out: rows * 120 + chance.below(64),
        masked,
        sample,
        sent_at: Some(after(sent, 0)),
        first_at: Some(after(first, 0)),
        ..Outcome::new(command, Status::Ok)
    };
    (outcome, after(sent + took, 0))
}

fn masked(rows: u64, chance: &mut Chance) -> Vec<MaskCount> {
    let mut counts = BTreeMap::new();
    for count in [rows, rows / 2] {
        *counts.entry(*pick(&CLASSES, chance.below(5))).or_insert(0) += count;
    }
    let one = |(class, count): (&str, u64)| MaskCount { class: DataClass(class.into()), count };
    counts.into_iter().filter(|(_, count)| *count > 0).map(one).collect()
}

/// The head of what came, as it is after masks.
fn sample(rows: u64, chance: &mut Chance) -> Vec<u8> {
    let mut sample = String::new();
    for _ in 0..rows.min(4) {
        let (id, email) = (chance.between(1, 5_000_000), chance.below(1 << 32));
        let status = pick(&["active", "frozen", "closed"], id % 3);
        writeln!(
            sample,
            "{{\"id\":{id},\"name\":\"[NAME]\",\"email\":\"[EMAIL:{email:08x}]\",\"balance\":{}.{:02},\"status\":\"{status}\"}}",
            id % 90_000,
            id % 100
        )
        .unwrap();
    }
    sample.into_bytes()
}
