//! Bytes back to records; every read is checked, unknown numbers are errors.

mod known;

use std::sync::Arc;

use types::approval::Coverage;
use types::command::{BlindToken, BlindTokens, Parameter, ParameterValue, Risk};
use types::event::{Outcome, WindowUse};
use types::id::{AgentName, CgroupId, CommandId, PolicyId, RequestId, SessionId};
use types::principal::{
    Confinement, ImageKey, Inode, Login, Principal, Process, ProcessKey, Provenance,
};
use types::redact::{DataClass, MaskCount};
use types::target::{Tls, UsedCredential};

use crate::codec::{Cursor, Malformed};
use crate::encode::{COVERS_ALIKE, COVERS_COMMAND, COVERS_SESSION, INJECTED, PROVENANCE};
use crate::frame::FrameKind;
use crate::identity;
use crate::kind;
use crate::record::{
    AccessEntry, Approval, BegunCommand, BootId, ChangedIdentity, ClosedSession, ControlEntry,
    DecisionEntry, EndedCommand, OpenedSession, Record, RecordedChunk, StatementEntry, Totals,
};

pub use known::Known;
pub(crate) use known::{KEPT_BYTES_MAX, STATEMENTS_MAX};

/// The record in a frame's body; `None` for a segment's header and a seal, which hold none.
pub fn record(kind: FrameKind, body: &[u8]) -> Result<Option<Record>, Malformed> {
    record_by(&mut Known::default(), kind, body)
}

/// The same; what is `known` is not taken apart again.
pub fn record_by(
    known: &mut Known,
    kind: FrameKind,
    body: &[u8],
) -> Result<Option<Record>, Malformed> {
    let mut cursor = Cursor::new(body);
    let record = match kind {
        FrameKind::Segment | FrameKind::Seal => return Ok(None),
        FrameKind::SessionOpen => Record::SessionOpen(Box::new(session_open(&mut cursor)?)),
        FrameKind::Identity => Record::Identity(Box::new(ChangedIdentity {
            session: session(&mut cursor)?,
            number: cursor.u32()?,
            at: cursor.timestamp()?,
            identity: Arc::new(identity::get(&mut cursor)?),
        })),
        FrameKind::Begin => Record::Begin(Box::new(begin(known, &mut cursor)?)),
        FrameKind::End => Record::End(end(&mut cursor)?),
        FrameKind::Chunk => Record::Chunk(chunk(&mut cursor)?),
        FrameKind::SessionClose => Record::SessionClose(ClosedSession {
            session: session(&mut cursor)?,
            at: cursor.timestamp()?,
            reason: cursor.str()?.to_owned(),
        }),
        FrameKind::Control => Record::Control(ControlEntry {
            at: cursor.timestamp()?,
            kind: cursor.str()?.to_owned(),
            detail: cursor.str()?.to_owned(),
        }),
    };
    cursor.finish()?;
    Ok(Some(record))
}

/// A session's totals.
pub(crate) fn totals(cursor: &mut Cursor<'_>) -> Result<Totals, Malformed> {
    Ok(Totals {
        events: cursor.u64()?,
        denied: cursor.u64()?,
        rows: cursor.u64()?,
        bytes_in: cursor.u64()?,
        bytes_out: cursor.u64()?,
        masked: cursor.u64()?,
    })
}

fn session(cursor: &mut Cursor<'_>) -> Result<SessionId, Malformed> {
    Ok(SessionId::from_bytes(cursor.array()?))
}

type Account = (Option<Arc<str>>, Option<UsedCredential>);

fn account(cursor: &mut Cursor<'_>) -> Result<Account, Malformed> {
    let name =
        |cursor: &mut Cursor<'_>| -> Result<Arc<str>, Malformed> { Ok(cursor.str()?.into()) };
    match cursor.u8()? {
        0 => Ok((None, None)),
        1 => Ok((Some(name(cursor)?), None)),
        INJECTED => {
            let account = name(cursor)?;
            let used = UsedCredential { name: name(cursor)?, role: name(cursor)? };
            Ok((Some(account), Some(used)))
        }
        _ => Err(Malformed("account's presence")),
    }
}

fn session_open(cursor: &mut Cursor<'_>) -> Result<OpenedSession, Malformed> {
    let mut opened = OpenedSession {
        session: session(cursor)?,
        at: cursor.timestamp()?,
        boot_id: BootId(cursor.array()?),
        principal: principal(cursor)?,
        source: cursor.addr()?,
        netns_cookie: cursor.u64()?,
        socket_cookie: cursor.u64()?,
        target_name: cursor.str()?.into(),
        target_addr: cursor.addr()?,
        protocol: cursor.str()?.into(),
        database: cursor.opt(|c| Ok(c.str()?.into()))?,
        account: None,
        credential: None,
        host: None,
        tls: None,
        totals: Totals::default(),
    };
    (opened.account, opened.credential) = account(cursor)?;
    opened.host = cursor.opt(|c| Ok(c.str()?.into()))?;
    opened.tls = cursor.opt(|c| Ok(Tls { version: c.str()?.into(), peer: c.str()?.into() }))?;
    opened.totals = totals(cursor)?;
    Ok(opened)
}

fn principal(cursor: &mut Cursor<'_>) -> Result<Principal, Malformed> {
    Ok(Principal {
        agent: agent(cursor)?,
        instance: cursor.str()?.into(),
        chain: cursor.list(agent)?.into(),
        identity: Arc::new(identity::get(cursor)?),
        process: process(cursor)?,
        assurance: kind::assurance(cursor.u8()?)?,
    })
}

fn agent(cursor: &mut Cursor<'_>) -> Result<AgentName, Malformed> {
    cursor.str()?.parse().map_err(|_| Malformed("agent's name"))
}

fn process(cursor: &mut Cursor<'_>) -> Result<Process, Malformed> {
    Ok(Process {
        key: process_key(cursor)?,
        provenance: provenance(cursor)?,
        uid: cursor.u32()?,
        gid: cursor.u32()?,
        cgroup: CgroupId(cursor.u64()?),
        exe: cursor.opt(|c| Ok(Inode { dev: c.u32()?, ino: c.u64()? }))?,
        exe_path: cursor.opt(|c| Ok(c.str()?.into()))?,
        exe_sha256: cursor.opt(Cursor::array)?,
        comm: cursor.str()?.into(),
    })
}

fn provenance(cursor: &mut Cursor<'_>) -> Result<Provenance, Malformed> {
    match cursor.u8()? {
        0 => Ok(Provenance::default()),
        1 => Ok(Provenance { ancestors: [process_key(cursor)?].into(), ..Provenance::default() }),
        PROVENANCE => Ok(Provenance {
            ancestors: cursor.list(process_key)?.into(),
            whole: cursor.flag()?,
            image: cursor.opt(|c| Ok(ImageKey { tgid: c.u32()?, at_ns: c.u64()? }))?,
            command_line: cursor.opt(|c| Ok(c.str()?.into()))?,
            container: cursor.opt(|c| Ok(c.str()?.into()))?,
            confinement: cursor.opt(confinement)?,
            login: cursor.opt(|c| Ok(Login { uid: c.u32()?, session: c.u32()? }))?,
        }),
        _ => Err(Malformed("unknown number of Provenance")),
    }
}

fn confinement(cursor: &mut Cursor<'_>) -> Result<Confinement, Malformed> {
    Ok(Confinement {
        euid: cursor.u32()?,
        effective_capabilities: cursor.u64()?,
        no_new_privs: cursor.flag()?,
        seccomp_filter: cursor.flag()?,
    })
}

fn process_key(cursor: &mut Cursor<'_>) -> Result<ProcessKey, Malformed> {
    Ok(ProcessKey { tgid: cursor.u32()?, start_ns: cursor.u64()? })
}

fn begin(known: &mut Known, cursor: &mut Cursor<'_>) -> Result<BegunCommand, Malformed> {
    let Known { statements, columns, decisions } = known;
    let mut begun = BegunCommand {
        session: session(cursor)?,
        command: CommandId(cursor.u32()?),
        at: cursor.timestamp()?,
        kind: kind::command_kind(cursor.u8()?)?,
        text: cursor.str()?.to_owned(),
        text_bytes: cursor.u64()?,
        text_sha256: cursor.opt(Cursor::array)?,
        statement: statements.read(fingerprint(*cursor)?, cursor, statement)?,
        parameters: cursor.list(parameter)?,
        batch: cursor.u32()?,
        decision: decisions.read(rule(*cursor)?, cursor, decision)?,
        decided_us: None,
        columns: Arc::default(),
        windows: Vec::new(),
        identity: 0,
        approval: None,
        blind: BlindTokens::default(),
    };
    // Records of version 2 end here.
    if !cursor.is_empty() {
        begun.decided_us = Some(cursor.u32()?);
        let read = |c: &mut Cursor<'_>| c.list(|c| Ok(c.str()?.to_owned()));
        begun.columns = columns.read(begun.statement.fingerprint.cast_unsigned(), cursor, read)?;
    }
    // And those of version 3 here.
    if !cursor.is_empty() {
        begun.windows = cursor.list(policy)?;
    }
    // And those of version 4 here.
    if !cursor.is_empty() {
        begun.identity = cursor.u32()?;
    }
    // And those of version 5 here.
    if !cursor.is_empty() {
        begun.approval = cursor.opt(approval)?;
    }
    // And those of version 6 here.
    if !cursor.is_empty() {
        begun.blind = cursor.opt(blind)?.unwrap_or_default();
    }
    Ok(begun)
}

/// The fingerprint of the statement that comes next: statements of another are others.
fn fingerprint(mut cursor: Cursor<'_>) -> Result<u64, Malformed> {
    cursor.bytes()?;
    cursor.u64()
}

fn statement(cursor: &mut Cursor<'_>) -> Result<StatementEntry, Malformed> {
    Ok(StatementEntry {
        normalized: cursor.str()?.to_owned(),
        fingerprint: cursor.i64()?,
        verb: cursor.str()?.to_owned(),
        accesses: cursor.list(|c| {
            Ok(AccessEntry {
                action: kind::action(c.u8()?)?,
                object: c.opt(|c| Ok(c.str()?.to_owned()))?,
            })
        })?,
        is_write: cursor.flag()?,
        is_privileged: cursor.flag()?,
        risks: Risk::from_bits(cursor.u32()?).ok_or(Malformed("unknown risk"))?,
    })
}

fn blind(cursor: &mut Cursor<'_>) -> Result<BlindTokens, Malformed> {
    let tokens = cursor.list(|c| Ok(BlindToken(c.array()?)))?;
    Ok(BlindTokens { tokens, is_cut: cursor.flag()? })
}

fn approval(cursor: &mut Cursor<'_>) -> Result<Approval, Malformed> {
    Ok(Approval {
        request: RequestId::from_bytes(cursor.array()?),
        approvers: cursor.list(|c| Ok(c.str()?.to_owned()))?,
        granted_us: cursor.opt(Cursor::i64)?,
        covers: cursor.opt(|c| match c.u8()? {
            COVERS_COMMAND => Ok(Coverage::Command),
            COVERS_ALIKE => Ok(Coverage::Alike(c.u32()?)),
            COVERS_SESSION => Ok(Coverage::Session),
            _ => Err(Malformed("unknown number of Coverage")),
        })?,
        broken_glass: cursor.flag()?,
        held_us: cursor.opt(Cursor::u64)?,
    })
}

fn policy(cursor: &mut Cursor<'_>) -> Result<PolicyId, Malformed> {
    Ok(PolicyId(cursor.str()?.into()))
}

fn parameter(cursor: &mut Cursor<'_>) -> Result<Parameter, Malformed> {
    let type_oid = cursor.u32()?;
    let value = match cursor.u8()? {
        0 => ParameterValue::Null,
        1 => ParameterValue::Text { text: cursor.str()?.to_owned(), bytes: cursor.u32()? },
        2 => ParameterValue::Binary { head: cursor.bytes()?.to_vec(), bytes: cursor.u32()? },
        _ => return Err(Malformed("unknown number of ParameterValue")),
    };
    Ok(Parameter { type_oid, value })
}

/// What the decision that comes next, with this effect by this rule, is looked for by.
fn rule(mut cursor: Cursor<'_>) -> Result<u64, Malformed> {
    let effect = cursor.u8()?;
    Ok(u64::from(crc32c::crc32c_append(u32::from(effect), cursor.bytes()?)))
}

fn decision(cursor: &mut Cursor<'_>) -> Result<DecisionEntry, Malformed> {
    Ok(DecisionEntry {
        effect: kind::effect(cursor.u8()?)?,
        rule: cursor.str()?.to_owned(),
        determining: cursor.list(policy)?,
        reason: cursor.str()?.to_owned(),
        policy_digest: cursor.array()?,
    })
}

fn end(cursor: &mut Cursor<'_>) -> Result<EndedCommand, Malformed> {
    let session = session(cursor)?;
    let command = CommandId(cursor.u32()?);
    let at = cursor.timestamp()?;
    let status = kind::status(cursor.u8()?)?;
    let mut outcome = Outcome {
        error_code: cursor.opt(Cursor::array)?,
        rows: cursor.opt(Cursor::u64)?,
        bytes_in: cursor.u64()?,
        bytes_out: cursor.u64()?,
        masked: cursor
            .list(|c| Ok(MaskCount { class: DataClass(c.str()?.into()), count: c.u64()? }))?,
        sample: cursor.bytes()?.to_vec(),
        ..Outcome::new(command, status)
    };
    // Records of version 2 end here.
    if !cursor.is_empty() {
        outcome.first_at = cursor.opt(Cursor::timestamp)?;
        outcome.digest = cursor.opt(Cursor::array)?;
    }
    // And those of version 3 here.
    if !cursor.is_empty() {
        outcome.sent_at = cursor.opt(Cursor::timestamp)?;
        outcome.used = cursor.opt(window_use)?.map(Box::new);
    }
    Ok(EndedCommand { session, at, outcome })
}

fn chunk(cursor: &mut Cursor<'_>) -> Result<RecordedChunk, Malformed> {
    Ok(RecordedChunk {
        session: session(cursor)?,
        command: CommandId(cursor.u32()?),
        stream: cursor.str()?.to_owned(),
        chunk: cursor.u32()?,
        first_at: cursor.timestamp()?,
        last_at: cursor.timestamp()?,
        codec: cursor.str()?.to_owned(),
        nonce: cursor.array()?,
        sealed: cursor.bytes()?.to_vec(),
    })
}

fn window_use(cursor: &mut Cursor<'_>) -> Result<WindowUse, Malformed> {
    Ok(WindowUse {
        policies: cursor.list(policy)?,
        rows: cursor.u64()?,
        bytes: cursor.u64()?,
        us: cursor.u64()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process had one parent or none in journals of before.
    #[test]
    fn parents_of_before_are_still_read() {
        let read = |bytes: &[u8]| provenance(&mut Cursor::new(bytes));
        assert_eq!(read(&[0]), Ok(Provenance::default()));
        let one = [&[1][..], &7_u32.to_be_bytes(), &9_u64.to_be_bytes()].concat();
        let parent = ProcessKey { tgid: 7, start_ns: 9 };
        assert_eq!(read(&one).unwrap().ancestors[..], [parent]);
        assert!(read(&[3]).is_err());
    }
}
