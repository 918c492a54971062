//! What a policy's annotations mean: its id, its message, and what an allow must come with.
//!
//! Obligations stand on `forbid` only. A permit with one could be outvoted by a permit without;
//! a forbid cannot, and whoever does not understand it denies.

use std::sync::Arc;

use cedar_policy::{ActionConstraint, Effect, EntityUid, Policy, ResourceConstraint};
use types::approval::Terms;
use types::decision::{Keep, Limit};
use types::redact::Operator;

use crate::{approve, limit};

/// A policy's annotations, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Annotations {
    /// `@id`.
    pub(crate) id: Arc<str>,
    /// `@reason`: what the agent is told.
    pub(crate) reason: Option<Arc<str>>,
    /// `@mask`, `@approve`, `@limit` or `@record`; makes a forbid soft.
    pub(crate) obligation: Option<SoftObligation>,
}

/// What a soft forbid asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SoftObligation {
    /// `@mask("operator")`.
    Mask(Operator),
    /// `@approve("groups=dba, people=2, …")`.
    Approve(Arc<Terms>),
    /// `@limit("rows=1000, …")`.
    Limit(Box<[Limit]>),
    /// `@record("64KiB")`, `@record("full")`, `@record("digest")`.
    Record(Keep),
}

impl Annotations {
    /// Reads a policy's annotations; the error says what is wrong with them, and leaves out where.
    pub(crate) fn read(policy: &Policy) -> Result<Self, String> {
        let (mut id, mut reason, mut obligations) = (None, None, Vec::new());
        let (mut limits, mut approve) = (None, None);
        for (key, value) in policy.annotations() {
            match key {
                "id" => id = Some(value),
                "reason" if !value.is_empty() && value.len() <= REASON_BYTES_MAX => {
                    reason = Some(value.into());
                }
                "reason" => return Err(format!("@reason is not 1 to {REASON_BYTES_MAX} bytes")),
                "mask" => obligations.push(SoftObligation::Mask(operator(value)?)),
                "approve" => approve = Some(value),
                "limit" => limits = Some(value),
                "record" => obligations.push(SoftObligation::Record(limit::read_record(value)?)),
                _ => return Err(format!("unknown annotation @{key}")),
            }
        }
        let id = id.ok_or("has no @id")?;
        let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(good) {
            return Err(format!("@id {id:?} is not 1 to {ID_BYTES_MAX} of A-Z a-z 0-9 . _ -"));
        }
        let id: Arc<str> = id.into();
        if let Some(limits) = limits {
            obligations.push(SoftObligation::Limit(limit::read(&id, limits)?));
        }
        if let Some(terms) = approve {
            obligations.push(SoftObligation::Approve(approve::read(&id, terms)?.into()));
        }
        if obligations.len() > 1 {
            return Err(
                "of @mask, @approve, @limit and @record more than one stands here".to_owned()
            );
        }
        let obligation = obligations.pop();
        check_scope(policy, obligation.as_ref())?;
        Ok(Self { id, reason, obligation })
    }
}

/// The action of showing a class of data.
pub(crate) const DISCLOSE: &str = "disclose";

/// The action of having what a statement does depend on masked values of a class.
pub(crate) const PROBE: &str = "probe";

/// The action of having values of a class that is masked sent where no mask can be applied.
pub(crate) const REPLICATE_UNMASKED: &str = "replicateUnmasked";

/// The action of having what no mask can be applied to come down as it is, where a class is masked.
pub(crate) const FETCH_UNMASKED: &str = "fetchUnmasked";

/// The actions, and groups of them, whose statements a limit can be kept for.
const LIMITED: [&str; 9] =
    ["select", "insert", "update", "delete", "call", "probe", "read", "write", "replicate"];

/// Those that can be recorded beside: a session's every byte is of one of them.
const RECORDED: [&str; 9] =
    ["connect", "session", "control", "administer", "ddl", "privilege", "admin", "fetch", "submit"];

/// A message on one terminal line or three.
const REASON_BYTES_MAX: usize = 256;

/// As long as an agent's name.
const ID_BYTES_MAX: usize = 63;

fn operator(word: &str) -> Result<Operator, String> {
    [Operator::Replace, Operator::Partial, Operator::Hash, Operator::Null]
        .into_iter()
        .find(|operator| operator.as_str() == word)
        .ok_or_else(|| format!("@mask({word:?}) is not replace, partial, hash or null"))
}

/// Whether a policy is about statements alone that have a response to cut or a time to end, or about these `others`.
fn only(policy: &Policy, others: &[&str]) -> bool {
    let is_limited = |uid: &EntityUid| {
        LIMITED.contains(&uid.id().unescaped()) || others.contains(&uid.id().unescaped())
    };
    match policy.action_constraint() {
        ActionConstraint::Any => false,
        ActionConstraint::Eq(uid) => is_limited(&uid),
        ActionConstraint::In(uids) => uids.iter().all(is_limited),
    }
}

fn check_scope(policy: &Policy, obligation: Option<&SoftObligation>) -> Result<(), String> {
    let only_disclose = matches!(
        policy.action_constraint(),
        ActionConstraint::Eq(uid) if uid.id().unescaped() == DISCLOSE
    );
    match (policy.effect(), obligation) {
        (Effect::Permit, Some(_)) => {
            return Err(
                "@mask, @approve, @limit and @record stand on forbid only: another permit would bypass \
                 them"
                    .to_owned(),
            );
        }
        (Effect::Forbid, Some(SoftObligation::Limit(_))) if !only(policy, &[]) => {
            return Err(format!("@limit needs actions among {}", LIMITED.join(", ")));
        }
        (Effect::Forbid, Some(SoftObligation::Record(_))) if !only(policy, &RECORDED) => {
            let actions = [&LIMITED[..], &RECORDED[..]].concat().join(", ");
            return Err(format!("@record needs actions among {actions}"));
        }
        (Effect::Forbid, Some(SoftObligation::Mask(_))) if !only_disclose => {
            return Err("@mask needs action == Action::\"disclose\"".to_owned());
        }
        (Effect::Forbid, Some(SoftObligation::Approve(_))) if only_disclose => {
            return Err("@approve does not go with action \"disclose\": use @mask".to_owned());
        }
        _ => {}
    }
    // Which schema an unqualified name means is not known, so such a forbid could be walked around.
    let on_table = match policy.resource_constraint() {
        ResourceConstraint::Eq(uid)
        | ResourceConstraint::In(uid)
        | ResourceConstraint::IsIn(_, uid) => uid.type_name().basename() == "Table",
        ResourceConstraint::Any | ResourceConstraint::Is(_) => false,
    };
    if policy.effect() == Effect::Forbid && on_table {
        return Err(
            "a forbid on one Table misses unqualified names: match resource.name".to_owned()
        );
    }
    Ok(())
}
