//! One record with what it belongs to, as a row. A count over i64 becomes the largest.

use std::collections::BTreeSet;

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use types::clock::Timestamp;
use types::command::{Action, BlindTokens, CommandKind, Parameter, ParameterValue};
use types::decision::Effect;
use types::event::Status;
use types::hex::hex;
use types::id::{AgentName, SequenceNumber, SessionId};
use types::identity::{Actor, Identity, Subject, Token};
use types::principal::{Principal, Process, ProcessKey, Provenance};

use crate::record::{
    AccessEntry, Approval, BegunCommand, BootId, ClosedSession, ControlEntry, DecisionEntry,
    EndedCommand, OpenedSession, RecordedChunk, StatementEntry,
};
use crate::row::{
    ControlRow, EventRow, EventSession, EventStatement, Masked, Micros, RecordingRow, Row,
    SessionRow, Shared, Text, ocsf,
};
use crate::segment::SegmentHeader;

/// What is the same in the event rows of all commands that a session has under one identity; what was decided is empty.
pub(super) fn session_part(
    segment: &SegmentHeader,
    opened: &OpenedSession,
    identity: &Identity,
) -> EventSession {
    let mut row = EventSession {
        node_id: Text::of(&segment.node),
        log_epoch: epoch(segment),
        boot_id: boot(opened.boot_id).into(),
        session_id: opened.session.to_string().into(),
        phase: "end".into(),
        ..EventSession::default()
    };
    put_principal(&mut row, &opened.principal, identity);
    put_ends(&mut row, opened);
    row
}

/// What was decided, and by what.
pub(super) fn put_decision(row: &mut EventSession, decision: &DecisionEntry) {
    let DecisionEntry { effect: _, rule, determining, reason, policy_digest } = decision;
    row.rule_id.clone_from(rule);
    row.rule_ids = determining.iter().map(|id| id.0.to_string()).collect();
    row.decision_reason.clone_from(reason);
    row.policy_digest = hex(policy_digest).into();
}

/// What is the same in the event rows of all commands of one statement.
pub(super) fn statement_part(
    kind: CommandKind,
    entry: &StatementEntry,
    named: &[String],
) -> EventStatement {
    let StatementEntry { normalized, fingerprint, verb, accesses, is_write, is_privileged, risks } =
        entry;
    let ids = ocsf(kind, verb, strongest(accesses), Status::Ok);
    let objects = objects(accesses);
    EventStatement {
        class_uid: ids.class_uid,
        activity_id: ids.activity_id,
        type_uid: ids.type_uid,
        kind: kind.as_str().into(),
        verb: verb.clone(),
        object_schema: common_schema(&objects),
        objects,
        is_privileged: *is_privileged,
        is_write: *is_write,
        data_class: None,
        risks: risks.iter_names().map(|(name, _)| name.to_ascii_lowercase()).collect(),
        statement_norm: normalized.clone(),
        statement_fp: *fingerprint,
        columns: columns(named),
    }
}

/// The event row of a command, of what it shares and what is its own.
pub(super) fn event(
    segment: &SegmentHeader,
    seq: SequenceNumber,
    opened: &OpenedSession,
    (session, statement): (&Shared<EventSession>, &Shared<EventStatement>),
    begun: &BegunCommand,
    ended: &EndedCommand,
) -> Row {
    let outcome = &ended.outcome;
    let StatementEntry { verb, accesses, .. } = &*begun.statement;
    let ids = ocsf(begun.kind, verb, strongest(accesses), outcome.status);
    let masked: Vec<Masked> = outcome
        .masked
        .iter()
        .map(|m| Masked { entity: m.class.0.to_string(), count: long(m.count) })
        .collect();
    let masked_count = masked.iter().fold(0_i64, |n, m| n.saturating_add(m.count));
    // A command that a crash ended has its end on another boot's clock.
    let same_boot = segment.boot_id == opened.boot_id;
    let timed = |at: Option<Timestamp>| at.filter(|_| same_boot);
    let since = |at: Timestamp| long(at.us_since(begun.at));
    let mut row = Box::new(EventRow {
        session: session.clone(),
        statement: statement.clone(),
        seq,
        ts: micros(begun.at),
        end_ts: Some(micros(ended.at)),
        mono_ns: long(begun.at.mono_ns),
        session_seq: int(begun.command.0),
        severity_id: ids.severity_id,
        status_id: ids.status_id,
        statement_len: i32::try_from(begun.text_bytes).unwrap_or(i32::MAX),
        blind_tokens: blind(&begun.blind),
        batch: int(begun.batch),
        decision: decision(begun.decision.effect, begun.approval.as_ref(), masked_count).into(),
        disposition_id: ids.disposition_id,
        action_id: ids.action_id,
        approval_id: None,
        approver_id: None,
        approver_idp: None,
        approval_ts: None,
        approval_scope: None,
        masked,
        masked_count,
        rows: outcome.rows.map(long),
        bytes_in: long(outcome.bytes_in),
        bytes_out: long(outcome.bytes_out),
        duration_us: same_boot.then(|| since(ended.at)),
        status: outcome.status.as_str().into(),
        error_code: outcome.error_code.map(|code| String::from_utf8_lossy(&code).into_owned()),
        recording_chunk: None,
        recording_off: None,
        recording_len: None,
        payload_digest: None,
        decided_us: begun.decided_us.map(i64::from),
        first_byte_us: timed(outcome.first_at).map(since),
        held_us: None,
        sent_us: timed(outcome.sent_at).map(since),
        upstream_us: timed(outcome.sent_at).map(|sent| long(ended.at.us_since(sent))),
    });
    if let Some(approval) = &begun.approval {
        put_approval(&mut row, approval);
    }
    Row::Event(row)
}

/// The columns in order, each once; none where none is named.
fn columns(named: &[String]) -> Option<String> {
    let named: BTreeSet<&str> = named.iter().map(String::as_str).collect();
    (!named.is_empty()).then(|| named.into_iter().collect::<Vec<_>>().join(", "))
}

/// The tokens in hex, and [`BLIND_CUT`] behind them where there should be more.
fn blind(blind: &BlindTokens) -> Vec<String> {
    let BlindTokens { tokens, is_cut } = blind;
    let cut = is_cut.then(|| BLIND_CUT.to_owned());
    tokens.iter().map(|token| hex(&token.0)).chain(cut).collect()
}

/// What stands for the tokens that are not kept.
const BLIND_CUT: &str = "+";

fn put_principal(row: &mut EventSession, principal: &Principal, identity: &Identity) {
    let Principal { agent, instance, chain, identity: _, process, assurance } = principal;
    let Identity { subject, actors, owner } = identity;
    if let Some(Subject { user, idp, sub, groups, token }) = subject {
        row.actor_user = Some(Text::of(user));
        row.actor_idp = Some(Text::of(idp));
        row.actor_sub = Some(Text::of(sub));
        row.actor_client = token.client.as_ref().map(Text::of);
        row.actor_groups = Some(strings(groups).into());
        row.actor_token = token.id.as_ref().map(Text::of);
        row.actor_token_expires = Some(of_seconds(token.expires_s));
    }
    row.agent_owner = owner.as_ref().map(Text::of);
    row.agent_id = Text::of(agent);
    row.agent_instance = Text::of(instance);
    row.agent_chain = links(actors, chain).into();
    row.chain_depth = i32::try_from(row.agent_chain.len()).unwrap_or(i32::MAX);
    row.assurance = assurance.as_str().into();
    row.process_exe_sha256 = process.exe_sha256.as_ref().map(|digest| hex(digest).into());
    row.process_path = process.exe_path.as_ref().map(Text::of);
    row.cgroup_id = Some(long(process.cgroup.0));
    row.pid = Some(int(process.key.tgid));
    row.uid_os = Some(i64::from(process.uid));
}

fn put_approval(row: &mut EventRow, approval: &Approval) {
    let Approval { request, approvers, granted_us, covers, broken_glass: _, held_us } = approval;
    row.approval_id = Some(request.to_string());
    row.approver_id = (!approvers.is_empty()).then(|| approvers.join(", "));
    // An issuer's URL has no `@` (RFC 8414 §2).
    let issuers = approvers.iter().filter_map(|approver| Some(approver.rsplit_once('@')?.1));
    let issuers: BTreeSet<&str> = issuers.collect();
    row.approver_idp =
        (!issuers.is_empty()).then(|| issuers.into_iter().collect::<Vec<_>>().join(", "));
    row.approval_ts = granted_us.map(Micros);
    row.approval_scope = covers.map(|covers| covers.to_string());
    row.held_us = held_us.map(long);
}

fn put_ends(row: &mut EventSession, opened: &OpenedSession) {
    let share = |(ip, port): (Option<String>, Option<i32>)| (ip.map(Text::from), port);
    (row.src_ip, row.src_port) = share(end(opened.source));
    (row.dst_ip, row.dst_port) = share(end(opened.target_addr));
    row.protocol = Text::of(&opened.protocol);
    row.target_name = Text::of(&opened.target_name);
    row.dst_host = opened.host.as_ref().map(Text::of);
    row.target_host = row.dst_host.clone().or_else(|| row.dst_ip.clone());
    row.target_db = opened.database.as_ref().map(Text::of);
    let (version, peer) = tls(opened);
    (row.tls_version, row.tls_peer_fp) = (version.map(Text::from), peer.map(Text::from));
    row.target_account = opened.account.as_ref().map(Text::of);
    row.credential_ref = opened.credential.as_ref().map(|used| Text::of(&used.name));
    row.target_role = role(opened).map(Into::into);
}

/// The role that the agent asked for, where a credential stands in for its own.
fn role(opened: &OpenedSession) -> Option<String> {
    opened.credential.as_ref().map(|used| used.role.to_string())
}

fn tls(opened: &OpenedSession) -> (Option<String>, Option<String>) {
    opened.tls.as_ref().map(|tls| (tls.version.to_string(), tls.peer.to_string())).unzip()
}

/// The recording row of a command.
pub(super) fn recording(
    (seq, common): (SequenceNumber, &EventSession),
    begun: BegunCommand,
    ended: &EndedCommand,
) -> Row {
    let sample = &ended.outcome.sample;
    // Where the text is empty and the statement is not, it is sealed.
    let is_sealed = begun.text.is_empty() && begun.text_bytes > 0;
    let has_text = begun.kind == CommandKind::Query && !is_sealed || !begun.text.is_empty();
    let stream = match begun.kind {
        CommandKind::Resolve => "dns_answer",
        CommandKind::Request => "http_answer",
        CommandKind::Connect
        | CommandKind::Query
        | CommandKind::FunctionCall
        | CommandKind::Cancel => "db_result",
    };
    let row = RecordingRow {
        node_id: common.node_id.clone(),
        log_epoch: common.log_epoch,
        seq,
        ts: micros(begun.at),
        session_id: common.session_id.clone(),
        session_seq: int(begun.command.0),
        stream: stream.into(),
        chunk: 0,
        first_ts: micros(begun.at),
        last_ts: micros(ended.at),
        statement: has_text.then_some(begun.text),
        statement_sha256: begun.text_sha256.as_ref().map(|digest| hex(digest)),
        parameters: (!begun.parameters.is_empty()).then(|| parameters(&begun.parameters)),
        response_sha256: ended.outcome.digest.as_ref().map(|digest| hex(digest)),
        response_sample: (!sample.is_empty()).then(|| String::from_utf8_lossy(sample).into_owned()),
        ..RecordingRow::default()
    };
    Row::Recording(Box::new(row))
}

/// The recording row of a sealed chunk.
pub(super) fn chunk(segment: &SegmentHeader, seq: SequenceNumber, chunk: RecordedChunk) -> Row {
    let RecordedChunk { session, command, stream, chunk, first_at, last_at, codec, nonce, sealed } =
        chunk;
    Row::Recording(Box::new(RecordingRow {
        node_id: Text::of(&segment.node),
        log_epoch: epoch(segment),
        seq,
        ts: micros(first_at),
        session_id: session.to_string().into(),
        session_seq: int(command.0),
        stream: stream.into(),
        chunk: int(chunk),
        first_ts: micros(first_at),
        last_ts: micros(last_at),
        codec: Some(codec),
        dek_id: Some(session.to_string()),
        nonce: Some(hex(&nonce)),
        sha256: Some(hex(&Sha256::digest(&sealed))),
        sealed: Some(sealed),
        ..RecordingRow::default()
    }))
}

/// The session row of a session.
pub(super) fn session(
    segment: &SegmentHeader,
    seq: SequenceNumber,
    opened: &OpenedSession,
    closed: &ClosedSession,
) -> Row {
    let Principal { agent, instance, chain, identity, process, assurance } = &opened.principal;
    let agent_chain = links(&identity.actors, chain);
    let (src_ip, src_port) = end(opened.source);
    let (dst_ip, dst_port) = end(opened.target_addr);
    let dst_host = opened.host.as_ref().map(ToString::to_string);
    let (tls_version, tls_peer_fp) = tls(opened);
    let totals = opened.totals;
    let mut row = SessionRow {
        node_id: segment.node.clone(),
        log_epoch: epoch(segment),
        seq,
        ts: micros(closed.at),
        session_id: opened.session.to_string(),
        opened_at: micros(opened.at),
        closed_at: Some(micros(closed.at)),
        mono_ns: long(opened.at.mono_ns),
        boot_id: boot(opened.boot_id),
        agent_id: agent.to_string(),
        agent_instance: instance.to_string(),
        chain_depth: i32::try_from(agent_chain.len()).unwrap_or(i32::MAX),
        agent_chain,
        assurance: assurance.as_str().to_owned(),
        process_exe_sha256: process.exe_sha256.as_ref().map(|digest| hex(digest)),
        process_path: process.exe_path.as_ref().map(ToString::to_string),
        process_comm: Some(process.comm.to_string()),
        cgroup_id: Some(long(process.cgroup.0)),
        pid: Some(int(process.key.tgid)),
        process_start_ns: Some(long(process.key.start_ns)),
        parent_pid: process.parent().map(|key| int(key.tgid)),
        parent_start_ns: process.parent().map(|key| long(key.start_ns)),
        uid_os: Some(i64::from(process.uid)),
        gid_os: Some(i64::from(process.gid)),
        netns_cookie: Some(long(opened.netns_cookie)),
        socket_cookie: Some(long(opened.socket_cookie)),
        src_ip,
        src_port,
        target_host: dst_host.clone().or_else(|| dst_ip.clone()),
        dst_host,
        dst_ip,
        dst_port,
        tls_version,
        tls_peer_fp,
        protocol: opened.protocol.to_string(),
        target_name: opened.target_name.to_string(),
        target_db: opened.database.as_ref().map(ToString::to_string),
        target_account: opened.account.as_ref().map(ToString::to_string),
        target_role: role(opened),
        credential_ref: opened.credential.as_ref().map(|used| used.name.to_string()),
        credential_injected: opened.credential.as_ref().map(|_| true),
        events_declared: long(totals.events),
        denied: long(totals.denied),
        rows: long(totals.rows),
        bytes_in: long(totals.bytes_in),
        bytes_out: long(totals.bytes_out),
        masked_count: long(totals.masked),
        close_reason: Some(closed.reason.clone()),
        retention_class: "std7y".to_owned(),
        ..SessionRow::default()
    };
    put_identity(&mut row, identity);
    put_provenance(&mut row, process);
    Row::Session(Box::new(row))
}

/// Whom the session was opened for, and on what evidence.
fn put_identity(row: &mut SessionRow, identity: &Identity) {
    row.agent_owner = identity.owner.as_ref().map(ToString::to_string);
    let Some(Subject { user, idp, sub, groups, token }) = &identity.subject else { return };
    let Token { way, client, id, session, issued_s: _, expires_s, authenticated_s, methods, class } =
        &**token;
    row.actor_user = Some(user.to_string());
    row.actor_idp = Some(idp.to_string());
    row.actor_sub = Some(sub.to_string());
    row.actor_groups = Some(strings(groups));
    row.actor_client = client.as_ref().map(ToString::to_string);
    row.actor_token = id.as_ref().map(ToString::to_string);
    row.actor_token_expires = Some(of_seconds(*expires_s));
    row.actor_session = session.as_ref().map(ToString::to_string);
    row.authn_method = Some(way.as_str().to_owned());
    row.authn_amr = strings(methods);
    row.authn_acr = class.as_ref().map(ToString::to_string);
    row.authn_time = authenticated_s.map(of_seconds);
    // RFC 8176: "mfa" says so; where nothing is said, nothing is known.
    row.authn_mfa = (!methods.is_empty()).then(|| methods.iter().any(|method| **method == *"mfa"));
}

/// Who acts, from the outermost: those of the token, then the host's agents.
fn links(actors: &[Actor], chain: &[AgentName]) -> Vec<String> {
    actors.iter().map(ToString::to_string).chain(chain.iter().map(ToString::to_string)).collect()
}

fn strings(texts: &[Arc<str>]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn of_seconds(seconds: i64) -> Micros {
    Micros(seconds.saturating_mul(1_000_000))
}

fn put_provenance(row: &mut SessionRow, process: &Process) {
    let Provenance { ancestors, whole, image: _, command_line, container, confinement, login } =
        &process.provenance;
    let ancestor = |key: &ProcessKey| format!("{}/{}", key.tgid, key.start_ns);
    row.process_ancestors =
        (!ancestors.is_empty()).then(|| ancestors.iter().map(ancestor).collect());
    row.process_ancestors_whole = (!ancestors.is_empty()).then_some(*whole);
    row.command_line = command_line.as_ref().map(ToString::to_string);
    row.process_exe_ino = process.exe.map(|exe| long(exe.ino));
    row.process_exe_dev = process.exe.map(|exe| i64::from(exe.dev));
    row.container_id = container.as_ref().map(ToString::to_string);
    row.euid_os = confinement.map(|held| i64::from(held.euid));
    row.capabilities_effective = confinement.map(|held| long(held.effective_capabilities));
    row.no_new_privs = confinement.map(|held| held.no_new_privs);
    row.seccomp_filter = confinement.map(|held| held.seccomp_filter);
    row.login_uid = login.map(|login| i64::from(login.uid));
    row.login_session = login.map(|login| i64::from(login.session));
}

/// The control row of a control record; what its detail says in the columns' names is in them.
pub(super) fn control(segment: &SegmentHeader, seq: SequenceNumber, entry: &ControlEntry) -> Row {
    let detail: Map<String, Value> = serde_json::from_str(&entry.detail).unwrap_or_default();
    let number = |name: &str| detail.get(name).and_then(Value::as_i64);
    let text = |name: &str| detail.get(name).and_then(Value::as_str).map(str::to_owned);
    let row = ControlRow {
        node_id: segment.node.clone(),
        log_epoch: epoch(segment),
        seq,
        ts: micros(entry.at),
        mono_ns: long(entry.at.mono_ns),
        boot_id: boot(segment.boot_id),
        kind: entry.kind.clone(),
        detail: entry.detail.clone(),
        flows_observed: number("flows_observed"),
        flows_proxied: number("flows_proxied"),
        flows_denied: number("flows_denied"),
        flows_bypassed: number("flows_bypassed"),
        flows_failed: number("flows_failed"),
        ring_drops: number("ring_drops"),
        journal_lag_us: number("journal_lag_us"),
        clock_state: text("clock_state"),
        clock_offset_us: number("clock_offset_us"),
        clock_maxerror_us: number("clock_maxerror_us"),
        subject: text("subject"),
        ticket: text("ticket"),
        old_digest: text("old_digest"),
        new_digest: text("new_digest"),
        program_digest: text("program_digest"),
    };
    Row::Control(Box::new(row))
}

/// The archive's word for what happened: an allowed command with masked values is `mask`.
fn decision(effect: Effect, approval: Option<&Approval>, masked_count: i64) -> &'static str {
    match (effect, approval) {
        (Effect::Allow, Some(Approval { broken_glass: true, .. })) => "break_glass",
        (Effect::Allow, Some(_)) => "approved",
        (Effect::Allow, None) if masked_count > 0 => "mask",
        (effect, _) => effect.as_str(),
    }
}

fn strongest(accesses: &[AccessEntry]) -> Action {
    let actions = accesses.iter().map(|access| access.action);
    actions.max_by_key(|action| action.class()).unwrap_or(Action::Unknown)
}

/// What is touched, each once, in the order of the statement.
fn objects(accesses: &[AccessEntry]) -> Vec<String> {
    let mut objects: Vec<String> = Vec::new();
    for object in accesses.iter().filter_map(|access| access.object.as_ref()) {
        if !objects.contains(object) {
            objects.push(object.clone());
        }
    }
    objects
}

fn common_schema(objects: &[String]) -> Option<String> {
    let mut schemas = objects.iter().map(|object| object.split_once('.').map(|(s, _)| s));
    let first = schemas.next()??;
    schemas.all(|schema| schema == Some(first)).then(|| first.to_owned())
}

/// A JSON list: `null`, a text, or `{"hex": …}`; a cut value says its `bytes`.
pub fn parameters(parameters: &[Parameter]) -> String {
    let value = |parameter: &Parameter| match &parameter.value {
        ParameterValue::Null => Value::Null,
        ParameterValue::Text { text, bytes } if is_cut(text.len(), *bytes) => {
            json!({"text": text, "bytes": bytes})
        }
        ParameterValue::Text { text, .. } => json!(text),
        ParameterValue::Binary { head, bytes } => json!({"hex": hex(head), "bytes": bytes}),
    };
    Value::Array(parameters.iter().map(value).collect()).to_string()
}

fn is_cut(kept: usize, bytes: u32) -> bool {
    // A text is cut between two characters, of four bytes at most.
    kept + 3 >= types::limits::PARAMETER_BYTES_MAX && usize::try_from(bytes).is_ok_and(|n| n > kept)
}

fn end(addr: SocketAddr) -> (Option<String>, Option<i32>) {
    (Some(addr.ip().to_canonical().to_string()), Some(i32::from(addr.port())))
}

fn micros(at: Timestamp) -> Micros {
    Micros(at.unix_us)
}

fn boot(boot: BootId) -> String {
    SessionId::from_bytes(boot.0).to_string()
}

fn epoch(segment: &SegmentHeader) -> i32 {
    int(segment.epoch)
}

fn int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn long(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use types::approval::Coverage;
    use types::id::RequestId;

    use super::*;

    #[test]
    fn decisions_have_the_archives_words() {
        let approval = |broken_glass| Approval {
            request: RequestId::from_bytes([1; 16]),
            approvers: vec!["a@https://one".to_owned(), "b@https://one".to_owned()],
            granted_us: Some(5),
            covers: Some(Coverage::Alike(3)),
            broken_glass,
            held_us: Some(7),
        };
        assert_eq!(decision(Effect::Allow, None, 0), "allow");
        assert_eq!(decision(Effect::Allow, None, 3), "mask");
        assert_eq!(decision(Effect::Allow, Some(&approval(false)), 3), "approved");
        assert_eq!(decision(Effect::Allow, Some(&approval(true)), 0), "break_glass");
        assert_eq!(decision(Effect::Deny, Some(&approval(false)), 0), "deny");
        let mut row = EventRow::default();
        put_approval(&mut row, &approval(false));
        assert_eq!(row.approver_id.as_deref(), Some("a@https://one, b@https://one"));
        assert_eq!(row.approver_idp.as_deref(), Some("https://one"));
        assert_eq!((row.approval_ts, row.held_us), (Some(Micros(5)), Some(7)));
        assert_eq!(row.approval_scope.as_deref(), Some("alike*3"));
    }

    #[test]
    fn a_schema_is_common_or_absent() {
        let objects = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert_eq!(common_schema(&objects(&["a.x", "a.y"])).as_deref(), Some("a"));
        assert_eq!(common_schema(&objects(&["a.x", "b.y"])), None);
        assert_eq!(common_schema(&objects(&["x"])), None);
        assert_eq!(common_schema(&[]), None);
    }
}
