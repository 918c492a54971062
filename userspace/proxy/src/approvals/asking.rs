//! A request as it is made: who asks, of what, and what people are shown of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use approval::book::WAITING_BYTES_MAX;
use approval::request::{ApprovalRequest, Reached, Requester};
use approval::shown::shown_sha256;
use types::clock::Timestamp;
use types::command::{Command, Parameter, ParameterValue, Risk, Transaction};
use types::decision::Decision;
use types::hex::hex;
use types::id::RequestId;
use types::identity::{Identity, Subject};
use types::limits::{PARAMETER_BYTES_MAX, PARAMETERS_MAX, STATEMENT_TEXT_BYTES_MAX};
use types::principal::{Principal, Process};
use types::target::Target;

use super::terms::{Asked, Claim};
use crate::ledger::{Ledger, Shown, random};

/// What a request is made of beside the session.
pub(crate) struct Asking<'a> {
    pub(crate) node: &'a str,
    /// Whom the agent and those around it act for.
    pub(crate) around: Vec<Arc<Identity>>,
    pub(crate) command: &'a Command,
    pub(crate) decision: &'a Decision,
    pub(crate) asked: &'a Asked,
    pub(crate) claim: &'a Claim,
    pub(crate) shown: Shown,
    pub(crate) whole: Option<&'a [u8; 32]>,
    pub(crate) transaction: Transaction,
    pub(crate) rows_estimated: Option<u64>,
    pub(crate) now: Timestamp,
}

/// Why a command can't be shown to people as it is; `None` where it can.
pub(crate) fn not_shown(command: &Command, whole: Option<&[u8; 32]>) -> Option<&'static str> {
    let text = &command.statement.text;
    if text.len() > STATEMENT_TEXT_BYTES_MAX {
        return Some("the statement is longer than can be shown to those who approve");
    }
    if command.statement.risks.contains(Risk::UNPARSED) && text.contains('\u{fffd}') {
        return Some("the statement's text can't be shown as it is to those who approve");
    }
    (are_cut(&command.parameters) && whole.is_none())
        .then_some("the statement's parameters can't be told apart by those who approve")
}

/// The request.
pub(crate) fn request(ledger: &Ledger<'_>, asking: Asking<'_>) -> ApprovalRequest {
    let Asking { node, around, command, decision, asked, claim, shown, whole, .. } = asking;
    let Asking { transaction, rows_estimated, now, .. } = asking;
    let statement = &command.statement;
    let mut parameters: Vec<String> = shown.parameters.iter().map(parameter).collect();
    if let Some(whole) = whole {
        parameters.push(format!("[not all of them is shown; SHA-256 of all: {}]", hex(whole)));
    }
    let lives_us = i64::from(asked.request_s()) * 1_000_000;
    let mut request = ApprovalRequest {
        id: RequestId::new(now, random()),
        node: node.to_owned(),
        at_us: now.unix_us,
        expires_us: now.unix_us.saturating_add(lives_us),
        session: claim.session.clone(),
        command: command.id.0,
        requester: requester(ledger.principal(), &around),
        target: reached(ledger.target()),
        kind: command.kind.as_str().to_owned(),
        verb: statement.verb.to_owned(),
        accesses: claim.accesses.clone(),
        risks: statement.risks.iter_names().map(|(name, _)| name.to_ascii_lowercase()).collect(),
        normalized: statement.normalized.to_string(),
        text: shown.text.to_string(),
        parameters,
        is_masked: shown.is_masked,
        rows_estimated,
        transaction: transaction.as_str().to_owned(),
        reason: decision.reason.to_string(),
        policy_digest: hex(&decision.policy_digest),
        terms: asked.wants(),
        covers: asked.covers(statement),
        grant_s: asked.grant_s(),
        binding: claim.binding.clone(),
        pattern: claim.pattern.clone(),
        shown_sha256: String::new(),
    };
    request.shown_sha256 = shown_sha256(&request);
    request
}

/// One request's text and parameters at most, 64 KiB and 256 × 2 KiB, is a small part of what all may hold.
const _: () = assert!(
    100 * (STATEMENT_TEXT_BYTES_MAX + PARAMETERS_MAX * 2 * PARAMETER_BYTES_MAX) < WAITING_BYTES_MAX
);

fn requester(principal: &Principal, around: &[Arc<Identity>]) -> Requester {
    let Principal { agent, instance, chain, identity, process, assurance: _ } = principal;
    let Identity { subject, actors, owner } = &**identity;
    let Process { key, provenance, exe_path, exe_sha256, .. } = process;
    let links = actors.iter().map(ToString::to_string);
    Requester {
        agent: agent.to_string(),
        instance: instance.to_string(),
        chain: links.chain(chain.iter().map(ToString::to_string)).collect(),
        user: subject.as_ref().map(|subject| subject.user.to_string()),
        idp: subject.as_ref().map(|subject| subject.idp.to_string()),
        sub: subject.as_ref().map(|subject| subject.sub.to_string()),
        owner: owner.as_ref().map(ToString::to_string),
        around: parts(around.iter().filter(|one| **one != *identity)),
        pid: key.tgid,
        exe: exe_path.as_ref().map(ToString::to_string),
        exe_sha256: exe_sha256.as_ref().map(|digest| hex(digest)),
        command_line: provenance.command_line.as_ref().map(ToString::to_string),
    }
}

/// The people who have a part in these, as `sub@issuer` and by name, each once.
fn parts<'i>(identities: impl Iterator<Item = &'i Arc<Identity>>) -> Vec<String> {
    let mut parts = BTreeSet::new();
    for identity in identities {
        if let Some(Subject { user, idp, sub, .. }) = &identity.subject {
            parts.extend([format!("{sub}@{idp}"), user.to_string()]);
        }
        parts.extend(identity.actors.iter().map(ToString::to_string));
        parts.extend(identity.owner.iter().map(ToString::to_string));
    }
    parts.into_iter().collect()
}

fn reached(target: &Target) -> Reached {
    Reached {
        name: target.name.to_string(),
        host: target.host.as_ref().map(ToString::to_string),
        database: target.database.as_ref().map(ToString::to_string),
        account: target.account.as_ref().map(ToString::to_string),
        protocol: target.protocol.to_owned(),
    }
}

fn parameter(parameter: &Parameter) -> String {
    match &parameter.value {
        ParameterValue::Null => "NULL".to_owned(),
        // In quotation marks, so that no text is taken for a NULL or for what is said of others.
        ParameterValue::Text { text, .. } if !is_cut(parameter) => quoted(text),
        ParameterValue::Text { text, bytes } => format!("{}[... of {bytes} bytes]", quoted(text)),
        ParameterValue::Binary { head, .. } if !is_cut(parameter) => format!("\\x{}", hex(head)),
        ParameterValue::Binary { head, bytes } => format!("\\x{}[... of {bytes} bytes]", hex(head)),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn are_cut(parameters: &[Parameter]) -> bool {
    parameters.len() >= PARAMETERS_MAX || parameters.iter().any(is_cut)
}

fn is_cut(parameter: &Parameter) -> bool {
    match parameter.value {
        ParameterValue::Null => false,
        ParameterValue::Text { bytes, .. } | ParameterValue::Binary { bytes, .. } => {
            usize::try_from(bytes).is_ok_and(|bytes| bytes > PARAMETER_BYTES_MAX)
        }
    }
}
