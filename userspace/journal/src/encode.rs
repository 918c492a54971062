//! Records to bytes, straight into the recorder's buffer: nothing is allocated here.

use sha2::{Digest, Sha256};
use types::approval::Coverage;
use types::clock::Timestamp;
use types::command::{
    Access, BlindTokens, Class, Parameter, ParameterValue, Risk, Statement, TableName,
};
use types::decision::{Decision, Obligation};
use types::event::WindowUse;
use types::id::{CommandId, PolicyId, SessionId};
use types::limits::{
    BLIND_TOKENS_MAX, COLUMNS_MAX, COMMAND_LINE_BYTES_MAX, PARAMETER_BYTES_MAX, PARAMETERS_MAX,
    RECORDING_SEALED_BYTES_MAX, RESPONSE_RECORD_BYTES_MAX, STATEMENT_TEXT_BYTES_MAX,
};
use types::principal::{ANCESTORS_MAX, Confinement, Principal, Process, ProcessKey, Provenance};
use types::target::{Target, UsedCredential};

use crate::codec::{
    cut, put_addr, put_bytes, put_list, put_opt, put_str, put_timestamp, put_u8, put_u32, put_u64,
};
use crate::identity;
use crate::kind;
use crate::record::{
    ACCESSES_MAX, Approval, Begin, BootId, CONTROL_DETAIL_BYTES_MAX, Chunk, Control, End, Frame,
    IdentityChange, NAME_BYTES_MAX, SessionClose, SessionOpen, Totals,
};

/// Agents kept of one chain, classes of masks and policies kept of one command: each far above
/// what is real.
const NAMES_MAX: usize = 256;

/// Approvers kept of one command: as many as may vote on a request.
const APPROVERS_MAX: usize = 64;

/// Above what a policy set takes for an id.
const POLICY_BYTES_MAX: usize = 64;

/// SHA-256 of a statement's whole text where it is to be cut; it can be long work, so it is done
/// before the recorder's lock is taken.
pub(crate) fn text_digest(frame: &Frame<'_>) -> Option<[u8; 32]> {
    match frame {
        Frame::Begin(begin) if begin.text.len() > STATEMENT_TEXT_BYTES_MAX => {
            Some(Sha256::digest(begin.text).into())
        }
        _ => None,
    }
}

/// Appends the body of `frame`.
pub(crate) fn put_body(
    out: &mut Vec<u8>,
    frame: &Frame<'_>,
    boot_id: BootId,
    text_sha256: Option<[u8; 32]>,
) {
    match frame {
        Frame::SessionOpen(open) => put_session_open(out, open, boot_id),
        Frame::Identity(changed) => put_identity(out, changed),
        Frame::Begin(begin) => put_begin(out, begin, text_sha256),
        Frame::End(end) => put_end(out, end),
        Frame::Chunk(chunk) => put_chunk(out, chunk),
        Frame::SessionClose(close) => put_session_close(out, close),
        Frame::Control(control) => put_control(out, control),
    }
}

/// Appends a session's totals. They end a session's body, so that a carried copy can replace them.
pub(crate) fn put_totals(out: &mut Vec<u8>, totals: &Totals) {
    let Totals { events, denied, rows, bytes_in, bytes_out, masked } = *totals;
    for value in [events, denied, rows, bytes_in, bytes_out, masked] {
        put_u64(out, value);
    }
}

fn put_session_open(out: &mut Vec<u8>, open: &SessionOpen<'_>, boot_id: BootId) {
    let SessionOpen { session, at, principal, source, netns_cookie, socket_cookie, target } = *open;
    out.extend_from_slice(session.as_bytes());
    put_timestamp(out, at);
    out.extend_from_slice(&boot_id.0);
    put_principal(out, principal);
    put_addr(out, source);
    put_u64(out, netns_cookie);
    put_u64(out, socket_cookie);
    put_name(out, &target.name);
    put_addr(out, target.addr.0);
    put_name(out, target.protocol);
    put_opt(out, target.database.as_deref(), put_name);
    put_account(out, target);
    put_opt(out, target.host.as_deref(), put_name);
    put_opt(out, target.tls.as_ref(), |out, tls| {
        put_name(out, &tls.version);
        put_name(out, &tls.peer);
    });
    put_totals(out, &Totals::default());
}

fn put_identity(out: &mut Vec<u8>, changed: &IdentityChange<'_>) {
    let IdentityChange { session, number, at, identity } = *changed;
    out.extend_from_slice(session.as_bytes());
    put_u32(out, number);
    put_timestamp(out, at);
    identity::put(out, identity);
}

/// What stands in the place of an account's presence where a credential stands in for the agent's:
/// the account follows, then the credential's name and the role asked for.
pub(crate) const INJECTED: u8 = 2;

fn put_account(out: &mut Vec<u8>, target: &Target) {
    let Some(UsedCredential { name, role }) = &target.credential else {
        return put_opt(out, target.account.as_deref(), put_name);
    };
    put_u8(out, INJECTED);
    put_name(out, target.account.as_deref().unwrap_or_default());
    put_name(out, name);
    put_name(out, role);
}

fn put_principal(out: &mut Vec<u8>, principal: &Principal) {
    let Principal { agent, instance, chain, identity, process, assurance } = principal;
    put_name(out, agent.as_str());
    put_name(out, instance);
    put_list(out, chain, NAMES_MAX, |out, agent| put_name(out, agent.as_str()));
    identity::put(out, identity);
    let Process { key, provenance, uid, gid, cgroup, exe, exe_path, exe_sha256, comm } = process;
    put_process_key(out, *key);
    put_provenance(out, provenance);
    put_u32(out, *uid);
    put_u32(out, *gid);
    put_u64(out, cgroup.0);
    put_opt(out, *exe, |out, exe| {
        put_u32(out, exe.dev);
        put_u64(out, exe.ino);
    });
    put_opt(out, exe_path.as_deref(), |out, path| put_str(out, path, 4096));
    put_opt(out, *exe_sha256, |out, digest| out.extend_from_slice(&digest));
    put_name(out, comm);
    put_u8(out, kind::assurance_code(*assurance));
}

/// What stands in the place of a process's parent: 0 or 1 and the parent in journals of before
/// there was more to say; 2 and all of it now.
pub(crate) const PROVENANCE: u8 = 2;

fn put_provenance(out: &mut Vec<u8>, provenance: &Provenance) {
    let Provenance { ancestors, whole, image, command_line, container, confinement, login } =
        provenance;
    put_u8(out, PROVENANCE);
    put_list(out, ancestors, ANCESTORS_MAX, |out, key| put_process_key(out, *key));
    put_u8(out, u8::from(*whole));
    put_opt(out, *image, |out, image| {
        put_u32(out, image.tgid);
        put_u64(out, image.at_ns);
    });
    put_opt(out, command_line.as_deref(), |out, line| put_str(out, line, COMMAND_LINE_BYTES_MAX));
    put_opt(out, container.as_deref(), put_name);
    put_opt(out, *confinement, |out, confinement| {
        let Confinement { euid, effective_capabilities, no_new_privs, seccomp_filter } =
            confinement;
        put_u32(out, euid);
        put_u64(out, effective_capabilities);
        put_u8(out, u8::from(no_new_privs));
        put_u8(out, u8::from(seccomp_filter));
    });
    put_opt(out, *login, |out, login| {
        put_u32(out, login.uid);
        put_u32(out, login.session);
    });
}

fn put_process_key(out: &mut Vec<u8>, key: ProcessKey) {
    put_u32(out, key.tgid);
    put_u64(out, key.start_ns);
}

fn put_begin(out: &mut Vec<u8>, begin: &Begin<'_>, text_sha256: Option<[u8; 32]>) {
    let Begin {
        session,
        command,
        at,
        kind,
        statement,
        text,
        parameters,
        batch,
        decision,
        decided_us,
        identity,
        approval,
        blind,
    } = *begin;
    put_head(out, session, command, at, kind::command_code(kind));
    put_str(out, text, STATEMENT_TEXT_BYTES_MAX);
    let whole = if text.is_empty() { &statement.text } else { text };
    put_u64(out, u64::try_from(whole.len()).unwrap_or(u64::MAX));
    put_opt(out, text_sha256, |out, digest| out.extend_from_slice(&digest));
    put_str(out, &statement.normalized, STATEMENT_TEXT_BYTES_MAX);
    out.extend_from_slice(&statement.fingerprint.to_be_bytes());
    put_name(out, statement.verb);
    put_list(out, &statement.accesses, ACCESSES_MAX, put_access);
    let privileged = Risk::PRIVILEGE | Risk::COPY_PROGRAM | Risk::UNSAFE_FUNCTION;
    put_u8(out, u8::from(statement.needs_wal()));
    put_u8(
        out,
        u8::from(statement.class() >= Class::Admin || statement.risks.intersects(privileged)),
    );
    put_u32(out, statement.risks.bits());
    put_list(out, parameters, PARAMETERS_MAX, put_parameter);
    put_u32(out, batch);
    put_decision(out, decision);
    put_u32(out, decided_us);
    put_columns(out, statement);
    put_windows(out, decision);
    put_u32(out, identity);
    put_opt(out, approval, put_approval);
    put_opt(out, blind, |out, blind| {
        let BlindTokens { tokens, is_cut } = blind;
        put_list(out, tokens, BLIND_TOKENS_MAX, |out, token| out.extend_from_slice(&token.0));
        put_u8(out, u8::from(*is_cut));
    });
}

/// Appends what both frames of a command begin with, at once.
fn put_head(out: &mut Vec<u8>, session: SessionId, command: CommandId, at: Timestamp, code: u8) {
    let mut head = [0; 16 + 4 + 8 + 8 + 1];
    let (id, rest) = head.split_at_mut(16);
    id.copy_from_slice(session.as_bytes());
    let (number, rest) = rest.split_at_mut(4);
    number.copy_from_slice(&command.0.to_be_bytes());
    let (unix_us, rest) = rest.split_at_mut(8);
    unix_us.copy_from_slice(&at.unix_us.to_be_bytes());
    let (mono_ns, rest) = rest.split_at_mut(8);
    mono_ns.copy_from_slice(&at.mono_ns.to_be_bytes());
    rest.fill(code);
    out.extend_from_slice(&head);
}

fn put_approval(out: &mut Vec<u8>, approval: &Approval) {
    let Approval { request, approvers, granted_us, covers, broken_glass, held_us } = approval;
    out.extend_from_slice(request.as_bytes());
    put_list(out, approvers, APPROVERS_MAX, |out, approver| put_name(out, approver));
    put_opt(out, *granted_us, |out, at| out.extend_from_slice(&at.to_be_bytes()));
    put_opt(out, *covers, |out, covers| match covers {
        Coverage::Command => put_u8(out, COVERS_COMMAND),
        Coverage::Alike(times) => {
            put_u8(out, COVERS_ALIKE);
            put_u32(out, times);
        }
        Coverage::Session => put_u8(out, COVERS_SESSION),
    });
    put_u8(out, u8::from(*broken_glass));
    put_opt(out, *held_us, put_u64);
}

/// What a grant covers: the command alone, as many alike as follow, or the session's.
pub(crate) const COVERS_COMMAND: u8 = 1;
pub(crate) const COVERS_ALIKE: u8 = 2;
pub(crate) const COVERS_SESSION: u8 = 3;

/// Appends the policies over whose windows a command is counted.
fn put_windows(out: &mut Vec<u8>, decision: &Decision) {
    let policies = decision.obligations.iter().filter_map(|obligation| match obligation {
        Obligation::Limit(limit) if limit.window_s.is_some() => Some(&limit.policy),
        Obligation::Limit(_)
        | Obligation::Mask(_)
        | Obligation::Record(_)
        | Obligation::Approve(_) => None,
    });
    put_counted(out, policies.take(NAMES_MAX), put_policy);
}

/// Appends items and, before them, how many they were: for those that are not counted before they are there.
fn put_counted<T>(
    out: &mut Vec<u8>,
    items: impl Iterator<Item = T>,
    mut put: impl FnMut(&mut Vec<u8>, T),
) {
    let at = out.len();
    put_u32(out, 0);
    let mut count: u32 = 0;
    for item in items {
        put(out, item);
        count += 1;
    }
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&count.to_be_bytes());
    }
}

/// Appends a policy's id that was read from a policy set, where it has at most 63 bytes.
fn put_policy(out: &mut Vec<u8>, policy: &PolicyId) {
    put_str(out, &policy.0, POLICY_BYTES_MAX);
}

/// Appends the base columns that a statement names, `table.column` each.
fn put_columns(out: &mut Vec<u8>, statement: &Statement) {
    put_counted(out, statement.columns().take(COLUMNS_MAX), |out, column| {
        let start = out.len();
        put_table(out, &column.table);
        let name = cut(&column.column, NAME_BYTES_MAX / 2);
        put_u8(out, b'.');
        out.extend_from_slice(name.as_bytes());
        let length = u32::try_from(out.len() - start - 4).expect("three cut names are short");
        if let Some(place) = out.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    });
}

fn put_access(out: &mut Vec<u8>, access: &Access) {
    put_u8(out, kind::action_code(access.action));
    put_opt(out, access.table.as_ref(), put_table);
}

/// Appends `schema.name`, each part cut to half of a name's limit.
fn put_table(out: &mut Vec<u8>, table: &TableName) {
    const PART: usize = NAME_BYTES_MAX / 2;
    let name = cut(&table.name, PART);
    let schema = table.schema.as_deref().map(|schema| cut(schema, PART));
    let len = name.len() + schema.map_or(0, |schema| schema.len() + 1);
    put_u32(out, u32::try_from(len).expect("two cut names are short"));
    if let Some(schema) = schema {
        out.extend_from_slice(schema.as_bytes());
        put_u8(out, b'.');
    }
    out.extend_from_slice(name.as_bytes());
}

fn put_parameter(out: &mut Vec<u8>, parameter: &Parameter) {
    put_u32(out, parameter.type_oid);
    match &parameter.value {
        ParameterValue::Null => put_u8(out, 0),
        ParameterValue::Text { text, bytes } => {
            put_u8(out, 1);
            put_str(out, text, PARAMETER_BYTES_MAX);
            put_u32(out, *bytes);
        }
        ParameterValue::Binary { head, bytes } => {
            put_u8(out, 2);
            put_bytes(out, head, PARAMETER_BYTES_MAX);
            put_u32(out, *bytes);
        }
    }
}

fn put_decision(out: &mut Vec<u8>, decision: &Decision) {
    // Obligations are in the policy set that the digest names; what they did is in the outcome. Those
    // over windows follow further down.
    let Decision { effect, obligations: _, determining, reason, policy_digest } = decision;
    put_u8(out, kind::effect_code(*effect));
    put_name(out, decision.rule());
    put_list(out, determining, NAMES_MAX, |out, policy| put_name(out, &policy.0));
    put_str(out, reason, 4096);
    out.extend_from_slice(policy_digest);
}

fn put_end(out: &mut Vec<u8>, end: &End<'_>) {
    let types::event::Outcome {
        command,
        status,
        error_code,
        rows,
        bytes_in,
        bytes_out,
        masked,
        sample,
        sent_at,
        first_at,
        digest,
        used,
    } = end.outcome;
    put_head(out, end.session, *command, end.at, kind::status_code(*status));
    put_opt(out, *error_code, |out, code| out.extend_from_slice(&code));
    put_opt(out, *rows, put_u64);
    put_u64(out, *bytes_in);
    put_u64(out, *bytes_out);
    put_list(out, masked, NAMES_MAX, |out, mask| {
        put_name(out, &mask.class.0);
        put_u64(out, mask.count);
    });
    put_bytes(out, sample, RESPONSE_RECORD_BYTES_MAX);
    put_opt(out, *first_at, put_timestamp);
    put_opt(out, *digest, |out, digest| out.extend_from_slice(&digest));
    put_opt(out, *sent_at, put_timestamp);
    put_opt(out, used.as_deref(), |out, used| {
        let WindowUse { policies, rows, bytes, us } = used;
        put_list(out, policies, NAMES_MAX, put_policy);
        for value in [*rows, *bytes, *us] {
            put_u64(out, value);
        }
    });
}

fn put_chunk(out: &mut Vec<u8>, chunk: &Chunk<'_>) {
    let Chunk { session, command, stream, chunk, first_at, last_at, codec, nonce, sealed } = *chunk;
    out.extend_from_slice(session.as_bytes());
    put_u32(out, command.0);
    put_name(out, stream);
    put_u32(out, chunk);
    put_timestamp(out, first_at);
    put_timestamp(out, last_at);
    put_name(out, codec);
    out.extend_from_slice(&nonce);
    put_bytes(out, sealed, RECORDING_SEALED_BYTES_MAX);
}

fn put_session_close(out: &mut Vec<u8>, close: &SessionClose<'_>) {
    out.extend_from_slice(close.session.as_bytes());
    put_timestamp(out, close.at);
    put_name(out, close.reason);
}

fn put_control(out: &mut Vec<u8>, control: &Control<'_>) {
    put_timestamp(out, control.at);
    put_name(out, control.kind);
    put_str(out, control.detail, CONTROL_DETAIL_BYTES_MAX);
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    put_str(out, name, NAME_BYTES_MAX);
}

#[cfg(test)]
mod tests;
