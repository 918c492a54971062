//! What the control socket asks for, answered.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use archive::attest::Document;
use archive::seal::Sealed;
use hub::link::Link;
use identity::Enrollment;
use proxy::door::Door;
use proxy::sessions::Open;
use redirect::Taken;
use tokio::sync::Notify;
use tracing::warn;
use types::clock::Timestamp;
use types::control::{
    ActingAgent, Check, JournalSealStanding, OpenSession, Request, Response, Status, Verdict, Whom,
};
use types::hex::{hex, unhex};
use types::id::{AgentName, SessionId};

use crate::agents::Agents;
use crate::approvals::HostApprovals;
use crate::archiver::Archiver;
use crate::asker::{Asker, HostUser};
use crate::compactor::Compactor;
use crate::control::Answer;
use crate::enroller::Enroller;
use crate::forwarding::Forwarding;
use crate::journal_prune::Pruner;
use crate::keeper::{Binding, Cut, CutBy, Keeper, acting};
use crate::link;
use crate::names::Service;
use crate::{disarm, durable};

/// The node as its operators see it.
pub(crate) struct Desk {
    pub(crate) node: String,
    pub(crate) started: Timestamp,
    pub(crate) door: Arc<Door>,
    pub(crate) agents: Agents,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) names: Arc<Service>,
    pub(crate) approvals: Arc<HostApprovals>,
    /// Where people of several hosts answer.
    pub(crate) link: Option<Arc<Link>>,
    pub(crate) archiver: Archiver,
    /// Where keys of blind tokens are.
    pub(crate) blind_keys: PathBuf,
    pub(crate) forwarding: Forwarding,
    pub(crate) compactor: Compactor,
    pub(crate) pruner: Pruner,
    /// Where wrapped keys of recordings are.
    pub(crate) key_vault: PathBuf,
    pub(crate) enroller: Enroller,
    /// Hooks may be gone: the daemon ends with the next answer.
    pub(crate) letting_go: AtomicBool,
    /// Told when it is to end for that.
    pub(crate) disarmed: Notify,
}

/// Sessions in one answer: each about 500 B of JSON, 5 MB in all.
const SESSIONS_LISTED_MAX: usize = 10_000;

fn listed(session: SessionId, open: &Open) -> OpenSession {
    let identity = open.identity();
    let subject = identity.subject.as_ref();
    let text = |text: &Arc<str>| text.as_ref().to_owned();
    let links = identity.actors.iter().map(ToString::to_string);
    let (commands, last_us) = open.commands();
    OpenSession {
        session: session.to_string(),
        opened_us: open.at.unix_us,
        agent: open.agent.as_str().to_owned(),
        instance: text(&open.instance),
        chain: links.chain(open.chain.iter().map(ToString::to_string)).collect(),
        user: subject.map(|subject| text(&subject.user)),
        sub: subject.map(|subject| text(&subject.sub)),
        pid: open.tgid,
        target: text(&open.target),
        database: open.database.as_ref().map(text),
        account: open.account.as_ref().map(text),
        commands,
        last_us,
    }
}

fn sealed(sealed: Sealed) -> Response {
    let Sealed { tree_size, root, files } = sealed;
    Response::Sealed { tree_size, root, files }
}

impl Answer for Desk {
    fn wait<'a>(&'a self, request: &'a Request) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        match request {
            Request::Approvals { ask } => Box::pin(self.approvals.desk.watched(ask)),
            _ => Box::pin(std::future::ready(())),
        }
    }

    fn answer(&self, request: &Request, tgid: u32) -> Response {
        if let Err(refused) = self.may_ask(request, tgid) {
            return Response::Failed { reason: format!("{refused:#}") };
        }
        let answered = match request {
            Request::Status => Ok(Response::Status(self.status())),
            Request::Enroll { agent, whom } => self.enroll(agent, whom, tgid),
            Request::EnrollRunning { agent, pid, whom } => {
                self.enroll_running(agent, *pid, whom, tgid)
            }
            Request::Login { issuer, sudo_uid } => self.log_in(issuer.as_deref(), *sudo_uid, tgid),
            Request::LoginProgress { login } => self.keeper.login_progress(login),
            Request::LoginWithdraw { login } => Ok(self.keeper.withdraw_login(login)),
            Request::Logout { sudo_uid } => {
                HostUser::of(tgid, *sudo_uid).and_then(|person| self.keeper.log_out(person))
            }
            Request::Revoke { agent, instance, reason } => {
                self.revoke(agent, instance.as_deref(), reason, tgid)
            }
            Request::RevokeSubject { subject, idp, reason } => {
                self.revoke_subject(subject, idp.as_deref(), reason.as_deref(), tgid)
            }
            Request::Sessions { agent, subject, most } => {
                Ok(self.sessions(agent.as_ref(), subject.as_deref(), *most))
            }
            Request::Who => Ok(Response::Who { agents: self.who(), logins: self.keeper.logins() }),
            Request::Approvals { ask } => self.approvals(ask, tgid),
            Request::Seal => self.seal().map(sealed),
            Request::Compact { before, dry_run } => self.compactor.ask(before.as_deref(), *dry_run),
            Request::PruneJournal { dry_run } => {
                self.pruner.run(self, *dry_run).map(Response::JournalPruned)
            }
            Request::RotateKey { revoked_from } => {
                self.archiver.rotate_key(*revoked_from).map(sealed)
            }
            Request::DestroyKeys { names } => {
                let lines = self.archiver.destroy_keys(names.clone(), Asker::of(tgid));
                lines.map(|lines| Response::Retained { lines })
            }
            Request::HoldSet { name, scope, reason } => self.hold_set(name, scope, reason, tgid),
            Request::HoldRelease { name, reason, by } => self.hold_release(name, reason, by, tgid),
            Request::Dispose { dry_run, reason, by } => self.dispose(*dry_run, reason, by, tgid),
            Request::Attest { document, sha256 } => self.attest(document, sha256, tgid),
            Request::RotateBlindKey => self.rotate_blind_key(tgid),
            Request::RecordingOpened { session, recipient, purpose } => {
                self.recording_opened(*session, (recipient, purpose), tgid)
            }
            Request::Shred { sessions, before, reason } => {
                self.shred(sessions, (before.as_deref(), reason), tgid)
            }
            Request::Doctor => Ok(Response::Doctor { checks: self.checks() }),
            Request::Disarm { reason } => self.disarm(reason, tgid).map(|()| Response::Disarmed),
        };
        answered.unwrap_or_else(|error| Response::Failed { reason: format!("{error:#}") })
    }

    fn answered(&self) {
        if self.letting_go.load(Ordering::SeqCst) {
            self.disarmed.notify_one();
        }
    }
}

impl Desk {
    /// Writes that the node lives, and what it did.
    pub(crate) fn heartbeat(&self) {
        let Status { sessions_open, sessions_total, commands_total, .. } = self.status();
        let lost = self.agents.kernel.lost().unwrap_or_else(|error| {
            warn!(%error, "what was not followed can't be counted");
            redirect::Lost::default()
        });
        let flows = self.agents.kernel.flow_counts().unwrap_or_else(|error| {
            warn!(%error, "connections can't be counted");
            redirect::FlowCounts::default()
        });
        let clock = redirect::clock_state();
        let clock = clock.inspect_err(|error| warn!(%error, "the clock can't be asked for")).ok();
        let events_lost = self.door.counters.events_lost.get();
        let (introspections, introspections_failed) = self.keeper.introspections();
        let ship = self.archiver.shipping();
        let detail = serde_json::json!({
            "rows_unshipped": ship.as_ref().map(|ship| ship.rows_behind),
            "bytes_unshipped": ship.as_ref().map(|ship| ship.bytes_behind),
            "unshipped_since_us": ship.as_ref().and_then(|ship| ship.oldest_us),
            "flows_observed": flows.asked,
            "flows_proxied": flows.carried,
            "flows_denied": flows.refused,
            "flows_bypassed": flows.past,
            "flows_failed": flows.failed,
            "ring_drops": events_lost + lost.processes + lost.execs,
            "clock_state": clock.map_or("unknown", |clock| clock.as_str()),
            "clock_offset_us": clock.map(|clock| clock.offset_us),
            "clock_maxerror_us": clock.map(|clock| clock.max_error_us),
            "processes_lost": lost.processes,
            "execs_lost": lost.execs,
            "sessions_open": sessions_open,
            "sessions_total": sessions_total,
            "commands_total": commands_total,
            "connections_refused": self.door.counters.connections_refused.get(),
            "connections_local": self.door.counters.connections_local.get(),
            "dns_queries": self.names.counters.queries.get(),
            "dns_refused": self.names.counters.refused.get(),
            "dns_dropped": self.names.dropped(),
            "introspections": introspections,
            "introspections_failed": introspections_failed,
            "kernel_refusals": self.door.counters.kernel_refusals.get(),
            "flows_differing": self.door.counters.flows_differing.get(),
            "flows_uncompared": self.door.flows.uncompared(),
        });
        if let Err(error) = self.door.recorder.control("heartbeat", &detail.to_string()) {
            warn!(%error, "no heartbeat");
        }
    }

    /// Archives what the journal holds, up to a heartbeat that says what the kernel counted until then.
    pub(crate) fn seal(&self) -> Result<Sealed> {
        self.heartbeat();
        self.archiver.seal()
    }

    /// An agent that runs as root may start agents below itself, and nothing else: it must not let
    /// itself go.
    fn may_ask(&self, request: &Request, tgid: u32) -> Result<()> {
        if matches!(request, Request::Enroll { .. }) {
            return Ok(());
        }
        let Some(cgroup) = self.agents.kernel.nearest_enrolled(tgid)? else { return Ok(()) };
        let detail = serde_json::json!({
            "request": request, "cgroup": cgroup.0, "asker": Asker::of(tgid),
        });
        self.door.recorder.control("control.refused", &detail.to_string())?;
        bail!("process {tgid} is an agent's: it may start agents and ask for nothing else")
    }

    /// Begins a login of whoever asks.
    fn log_in(&self, issuer: Option<&str>, sudo_uid: Option<u32>, tgid: u32) -> Result<Response> {
        let person = HostUser::of(tgid, sudo_uid)?;
        let (idp, begun) = self.keeper.log_in(issuer, person)?;
        let detail = serde_json::json!({
            "person": person.to_string(), "idp": idp, "asker": Asker::of(tgid),
        });
        self.door.recorder.control("login.begun", &detail.to_string())?;
        Ok(begun)
    }

    /// Whom an agent is to act for by the word of whoever starts it, and by that person's login.
    fn binding(&self, whom: &Whom, tgid: u32) -> Result<Binding> {
        let Whom { token_file, identity, owner, sudo_uid } = whom.clone();
        let is_one = token_file.is_none() || identity.is_none();
        ensure!(is_one, "a token file or an identity of the daemon's, not both");
        let said = Binding { token_file, identity, owner, ..Binding::default() };
        self.keeper.started_by(HostUser::of(tgid, sudo_uid)?, said)
    }

    /// Starts an agent for whom its token names, for who is logged in, or for nobody in particular.
    fn enroll(&self, agent: &AgentName, whom: &Whom, tgid: u32) -> Result<Response> {
        if let Some(outer) = self.agents.kernel.nearest_enrolled(tgid)? {
            let outer = self.door.enrollments.get(outer).context("the outer agent is unknown")?;
            self.may_start(&outer.agent, agent, tgid)?;
            // A token would be read with the daemon's rights; what is started here acts for whom the agent does.
            let is_plain = Whom { sudo_uid: None, ..whom.clone() } == Whom::default();
            ensure!(is_plain, "an agent does not say whom the agents that it starts act for");
            let exchanged = self.keeper.inside(&outer)?;
            let (path, enrollment) = self.agents.enroll(agent, tgid)?;
            if let Some(proven) = exchanged {
                self.keeper.bind_inside(&enrollment, &outer, proven)?;
            }
            return Ok(self.enrolled(&path, &enrollment));
        }
        let binding = self.binding(whom, tgid)?;
        let proven = self.keeper.check(&binding)?;
        let (path, enrollment) = self.agents.enroll(agent, tgid)?;
        self.keeper.bind(&enrollment, binding, proven)?;
        Ok(self.enrolled(&path, &enrollment))
    }

    /// What whoever starts an agent has to know.
    pub(crate) fn enrolled(&self, path: &Path, enrollment: &Enrollment) -> Response {
        Response::Enrolled {
            cgroup_path: path.to_string_lossy().into_owned(),
            cgroup: enrollment.cgroup,
            instance: enrollment.instance.as_ref().to_owned(),
            profile: self.agents.profile(&enrollment.agent),
            guarded: self.agents.kernel.guard_armed(),
            trust: self.agents.trust.clone(),
        }
    }

    /// Cuts off whoever acts for a person, or takes that back; the record is durable first.
    fn revoke_subject(
        &self,
        subject: &str,
        idp: Option<&str>,
        reason: Option<&str>,
        tgid: u32,
    ) -> Result<Response> {
        let kind = if reason.is_some() { "subject.revoked" } else { "subject.restored" };
        let detail = serde_json::json!({
            "subject": subject, "idp": idp, "reason": reason, "asker": Asker::of(tgid),
        });
        let lsn = self.door.recorder.control(kind, &detail.to_string())?;
        self.door.recorder.wait(lsn)?;
        if reason.is_none() {
            let was_cut = self.keeper.lift(subject, idp)?;
            ensure!(was_cut, "`{subject}` was not revoked");
            return Ok(Response::Revoked { agents: Vec::new(), sockets_ended: 0 });
        }
        let (agents, kept) = self.keeper.cut(&Cut {
            idp: idp.map(Into::into),
            subject: Some(subject.to_owned()),
            session: None,
            before_s: None,
            why: CutBy::Revoked,
        });
        warn!(subject, ?agents, "revoked");
        kept.with_context(|| format!("cut off now: {}", agents.join(", ")))?;
        Ok(Response::Revoked { agents, sockets_ended: 0 })
    }

    /// The open sessions of an agent and a person, or of all.
    fn sessions(&self, agent: Option<&AgentName>, subject: Option<&str>, most: usize) -> Response {
        let is_of = |open: &Open| {
            let of_person = |subject: &str| {
                let identity = open.identity();
                let person = identity.subject.as_ref();
                person.is_some_and(|one| *one.sub == *subject || *one.user == *subject)
            };
            agent.is_none_or(|agent| open.agent == *agent) && subject.is_none_or(of_person)
        };
        let (open, total) = self.door.sessions.list(most.min(SESSIONS_LISTED_MAX), is_of);
        let sessions = open.iter().map(|(session, open)| listed(*session, open)).collect();
        Response::Sessions { sessions, total }
    }

    /// Whom each agent acts for.
    fn who(&self) -> Vec<ActingAgent> {
        self.agents.enrollments.list().iter().map(acting).collect()
    }

    /// Cuts agents off: the record is durable first.
    fn revoke(
        &self,
        agent: &AgentName,
        instance: Option<&str>,
        reason: &str,
        tgid: u32,
    ) -> Result<Response> {
        let (mut agents, mut sockets_ended) = (Vec::new(), 0);
        for enrollment in self.agents.enrollments.list() {
            let is_meant = instance.is_none_or(|wanted| *enrollment.instance == *wanted);
            if enrollment.agent != *agent || !is_meant {
                continue;
            }
            let name = format!("{}.{}", enrollment.agent, enrollment.instance);
            let detail = serde_json::json!({
                "agent": agent.as_str(), "instance": enrollment.instance, "reason": reason,
                "cgroup": enrollment.cgroup.0, "asker": Asker::of(tgid),
            });
            let lsn = self.door.recorder.control("agent.revoked", &detail.to_string())?;
            self.door.recorder.wait(lsn)?;
            sockets_ended += self.agents.kernel.revoke(enrollment.cgroup)?;
            warn!(agent = name, reason, "revoked");
            agents.push(name);
        }
        ensure!(!agents.is_empty(), "no such agent is enrolled: see `vestibule status`");
        Ok(Response::Revoked { agents, sockets_ended })
    }

    fn enroll_running(
        &self,
        agent: &AgentName,
        pid: u32,
        whom: &Whom,
        tgid: u32,
    ) -> Result<Response> {
        let asker = Asker::of(tgid);
        let binding = self.binding(whom, tgid)?;
        let proven = self.keeper.check(&binding)?;
        match self.agents.enroll_process(agent, pid, Some(&asker), binding.not_yet()) {
            Ok((Taken { enrolled, processes, sockets_ended, .. }, enrollment)) => {
                self.keeper.bind(&enrollment, binding, proven)?;
                Ok(Response::Taken { instance: enrolled.instance, processes, sockets_ended })
            }
            Err(error) => {
                let detail = serde_json::json!({
                    "agent": agent.as_str(), "what": { "tgid": pid },
                    "reason": format!("{error:#}"), "asker": asker,
                });
                self.door.recorder.control("enrollment.refused", &detail.to_string())?;
                Err(error)
            }
        }
    }

    /// Lets agents go free: the record is durable before the first hook goes.
    fn attest(&self, document: &str, sha256: &str, tgid: u32) -> Result<Response> {
        let document = Document::parse(document).context("no such kind of document is signed")?;
        let sha256 = unhex(sha256).context("sha256 is not 64 lower-case hexadecimal digits")?;
        let (note, key) = self.archiver.attest(document, sha256, Asker::of(tgid))?;
        Ok(Response::Attested { note, key })
    }

    fn disarm(&self, reason: &str, tgid: u32) -> Result<()> {
        disarm::record(&self.door.recorder, reason, &Asker::of(tgid))?;
        self.agents.namespaces.forget();
        self.letting_go.store(true, Ordering::SeqCst);
        self.agents.kernel.disarm()?;
        warn!(reason, "disarmed: agents connect directly until the daemon runs again");
        Ok(())
    }

    fn status(&self) -> Status {
        let counters = &self.door.counters;
        let agents = self.door.enrollments.list();
        let (waiting, approvals_oldest_us, grants) = self.approvals_standing();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_s: self.door.clock.now().us_since(self.started) / 1_000_000,
            node: self.node.clone(),
            sessions_open: counters.sessions_open.get(),
            sessions_total: counters.sessions_total.get(),
            commands_total: counters.commands_total.get(),
            commands_denied: counters.commands_denied.get(),
            connections_refused: counters.connections_refused.get(),
            dns_queries: self.names.counters.queries.get(),
            dns_refused: self.names.counters.refused.get(),
            dns_dropped: self.names.dropped(),
            kernel_refusals: counters.kernel_refusals.get(),
            flows_differing: counters.flows_differing.get(),
            catalogs_lost: self.door.catalogs.lost(),
            approvals_waiting: count(waiting),
            approvals_oldest_us,
            grants: count(grants),
            webhooks_due: count(self.approvals.webhooks.due()),
            agents: agents.iter().map(|a| format!("{}.{}", a.agent, a.instance)).collect(),
            journal_durable_lsn: self.door.recorder.durable().0,
            journal_trouble: durable::trouble(&self.door.recorder.health()),
            rows: self.door.recorder.stats().rows,
            policy_digest: hex(&self.door.policy.digest()),
            pin_dir: self.agents.kernel.pin_dir().to_string_lossy().into_owned(),
            hub: self.link.as_deref().map(link::standing),
            witnesses: self.archiver.witnesses(),
            ship: self.archiver.shipping().map(Box::new),
            archive_immutable: self.archiver.is_immutable(),
            archive_trouble: self.archiver.trouble().map(Into::into),
            journal: self.pruner.standing().map(Box::new),
            journal_seal: self.journal_seal().map(Box::new),
            forwards: self.forwarding.standings().into(),
        }
    }

    fn journal_seal(&self) -> Option<JournalSealStanding> {
        let (next, lsn) = self.door.recorder.seals()?;
        Some(JournalSealStanding { next, lsn: lsn.0 })
    }

    /// Whether what targets are shown of us is valid.
    fn certificates(&self) -> Vec<Check> {
        let now = self.door.clock.now().unix_us.unsigned_abs();
        let now = UNIX_EPOCH + Duration::from_micros(now);
        let one = |(target, end): (&Arc<str>, SystemTime)| {
            let name = format!("certificate for {target}");
            let Ok(left) = end.duration_since(now) else {
                return check(&name, Verdict::Fail, "expired: the target lets nobody in with it");
            };
            let days = left.as_secs() / 86_400;
            let is_near = days < EXPIRY_WARNING_DAYS;
            let verdict = if is_near { Verdict::Warn } else { Verdict::Ok };
            check(&name, verdict, &format!("expires in {days} days"))
        };
        self.door.targets.certificates().map(one).collect()
    }

    fn checks(&self) -> Vec<Check> {
        let mut checks = redirect::probe();
        let recorder = &self.door.recorder;
        let written = recorder
            .control("doctor", "{}")
            .map_err(anyhow::Error::from)
            .and_then(|lsn| recorder.wait(lsn).map_err(anyhow::Error::from));
        checks.push(match written {
            Ok(()) => check("journal", Verdict::Ok, "a record became durable"),
            Err(error) => check("journal", Verdict::Fail, &format!("{error:#}")),
        });
        checks.push(match self.archiver.trouble() {
            None => check("archive", Verdict::Ok, "what was recorded is sealed when it is due"),
            Some(why) => check("archive", Verdict::Fail, &format!("not sealed: {why}")),
        });
        let offered = if self.door.tls.is_offered() {
            "offered to agents that ask for it"
        } else {
            "not offered to agents; `vestibule ca init` makes an authority for that"
        };
        checks.push(check("tls", Verdict::Ok, offered));
        checks.push(match self.door.catalogs.lost() {
            0 => check("catalogs", Verdict::Ok, "what was read of targets' catalogs holds"),
            lost => {
                let detail =
                    format!("{lost} can't be read: the widest masks apply there; the log says why");
                check("catalogs", Verdict::Fail, &detail)
            }
        });
        checks.extend(self.certificates());
        checks.extend(self.keeper.checks());
        checks.extend(self.approvals_checks());
        let now_us = self.door.clock.now().unix_us;
        checks.extend(self.link.as_deref().map(|link| link::check(link, now_us)));
        checks.push(check("daemon", Verdict::Ok, &format!("pid {} answers", std::process::id())));
        checks
    }
}

/// How long before its end a certificate is warned of.
const EXPIRY_WARNING_DAYS: u64 = 14;

pub(crate) fn check(name: &str, verdict: Verdict, detail: &str) -> Check {
    Check { name: name.into(), verdict, detail: detail.into() }
}
