//! Test cases for policies: a request and the decision it must get.
//!
//! A case states what a statement's analysis found, not the statement: policy knows no SQL.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde::Deserialize;
use types::addr::OrigDst;
use types::command::{
    Access, Action, Analysis, Command, CommandKind, Risk, Statement, TableName, Transaction,
};
use types::decision::{Decision, Effect, Obligation};
use types::id::{AgentName, CommandId};
use types::identity::{Actor, Identity, Subject};
use types::principal::{Assurance, Principal, Process};
use types::redact::DataClass;
use types::target::{Target, UsedCredential};

use crate::exchange::Exchange;
use crate::lookup::{self, Lookup};
use crate::policy_set::PolicySet;
use crate::request::{ACTIONS, RISKS};

/// Parses a file of cases: `[[case]]` tables.
///
/// # Errors
///
/// An unknown field, action, risk, kind, effect, or a bad agent's name.
pub fn parse(text: &str) -> Result<Vec<Case>, CaseError> {
    let document: Document = toml::from_str(text).map_err(|e| CaseError::Syntax(Box::new(e)))?;
    document.case.iter().map(Case::new).collect()
}

/// One case.
#[derive(Debug)]
pub struct Case {
    /// What it shows.
    pub name: String,
    principal: Principal,
    target: Target,
    request: CaseRequest,
    probes: Vec<DataClass>,
    hour: u8,
    effect: Effect,
    rule: Option<String>,
    reason: Option<String>,
    masks: Option<BTreeMap<String, String>>,
    limits: Option<Vec<String>>,
    is_binary: bool,
}

/// What is asked for.
#[derive(Debug)]
enum CaseRequest {
    Command(Box<Command>),
    Lookup(Lookup),
    Exchange(Box<Exchange>),
}

impl Case {
    /// Decides the case and compares.
    ///
    /// # Errors
    ///
    /// The first difference.
    pub fn run(&self, policies: &PolicySet) -> Result<(), Difference> {
        let session = policies.session(&self.principal, &self.target);
        let at = i64::from(self.hour) * 3_600_000_000;
        let decision = match &self.request {
            CaseRequest::Command(command) => session.authorize(command, &self.probes, at),
            CaseRequest::Lookup(lookup) => session.resolve(lookup, at),
            CaseRequest::Exchange(exchange) => {
                let ruled = session.exchange(exchange, at);
                // Of an answer that no mask can be applied to: what was asked and what comes must be permitted.
                let unmasked =
                    ruled.unmasked.filter(|_| self.is_binary && ruled.decision.is_allow());
                unmasked.unwrap_or(ruled.decision)
            }
        };
        let differs = |what, want: &str, got: String| {
            if want == got { Ok(()) } else { Err(Difference { what, want: want.to_owned(), got }) }
        };
        let Decision { effect, reason, .. } = &decision;
        if effect != &self.effect {
            let got = format!("{} ({}: {reason})", effect.as_str(), decision.rule());
            return differs("effect", self.effect.as_str(), got);
        }
        if let Some(rule) = &self.rule {
            differs("rule", rule, decision.rule().to_owned())?;
        }
        if let Some(want) = &self.reason {
            differs("reason", want, reason.to_string())?;
        }
        if let Some(masks) = &self.masks {
            let got: BTreeMap<String, String> = session
                .masks()
                .iter()
                .map(|m| (m.class.0.to_string(), m.operator.as_str().to_owned()))
                .collect();
            differs("masks", &format!("{masks:?}"), format!("{got:?}"))?;
        }
        if let Some(limits) = &self.limits {
            let limit = |obligation: &Obligation| match obligation {
                Obligation::Limit(limit) => Some(format!("{} {limit}", limit.policy)),
                Obligation::Record(keep) => Some(format!("record={keep}")),
                Obligation::Mask(_) | Obligation::Approve(_) => None,
            };
            let got: Vec<String> = decision.obligations.iter().filter_map(limit).collect();
            differs("limits", &format!("{limits:?}"), format!("{got:?}"))?;
        }
        Ok(())
    }

    fn new(entry: &CaseEntry) -> Result<Self, CaseError> {
        let bad = |what: &'static str, word: &str| CaseError::Word {
            case: entry.name.clone(),
            what,
            word: word.to_owned(),
        };
        let effects = [Effect::Allow, Effect::Deny, Effect::RequireApproval];
        let effect = effects.into_iter().find(|e| e.as_str() == entry.expect);
        let effect = effect.ok_or_else(|| bad("effect", &entry.expect))?;
        let hour = entry.hour.unwrap_or(12);
        if hour > 23 {
            return Err(bad("hour", &hour.to_string()));
        }
        Ok(Self {
            principal: principal(entry, &bad)?,
            target: target(entry),
            request: request(entry, &bad)?,
            probes: entry.probes.iter().map(|class| DataClass(class.as_str().into())).collect(),
            hour,
            effect,
            rule: entry.rule.clone(),
            reason: entry.reason.clone(),
            masks: entry.masks.clone(),
            limits: entry.limits.clone(),
            is_binary: entry.is_binary,
            name: entry.name.clone(),
        })
    }
}

/// How a decision differs from the case's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {got}, expected {want}")]
pub struct Difference {
    /// Which part.
    pub what: &'static str,
    /// What the case expects.
    pub want: String,
    /// What was decided.
    pub got: String,
}

/// Why a file of cases is refused.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// Not TOML, or a field that is not known.
    #[error("cases: {0}")]
    Syntax(#[source] Box<toml::de::Error>),
    /// A word that means nothing here.
    #[error("case `{case}`: {what} {word:?} is not known")]
    Word {
        /// The case.
        case: String,
        /// Which field.
        what: &'static str,
        /// Its value.
        word: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    case: Vec<CaseEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseEntry {
    name: String,
    agent: String,
    #[serde(default)]
    chain: Vec<String>,
    uid: Option<u32>,
    user: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    actors: Vec<String>,
    owner: Option<String>,
    assurance: Option<String>,
    #[serde(default)]
    target: String,
    #[serde(default)]
    database: String,
    account: Option<String>,
    /// The role asked for, where the account is a credential's.
    role: Option<String>,
    kind: Option<String>,
    transaction: Option<String>,
    #[serde(default)]
    action: String,
    /// A name to look up, instead of an action on a database.
    lookup: Option<String>,
    record_type: Option<String>,
    #[serde(default)]
    is_target: bool,
    #[serde(default)]
    is_listed: bool,
    /// An HTTP path to fetch or submit to, instead of an action on a database; by this method.
    path: Option<String>,
    method: Option<String>,
    #[serde(default)]
    query: Vec<String>,
    content_type: Option<String>,
    /// Whether no mask can be applied to what is answered.
    #[serde(default)]
    is_binary: bool,
    table: Option<String>,
    #[serde(default)]
    also: Vec<AccessEntry>,
    #[serde(default)]
    risks: Vec<String>,
    #[serde(default)]
    functions: Vec<String>,
    #[serde(default)]
    unknown_functions: Vec<String>,
    /// Masked classes that the statement probes.
    #[serde(default)]
    probes: Vec<String>,
    hour: Option<u8>,
    expect: String,
    rule: Option<String>,
    reason: Option<String>,
    masks: Option<BTreeMap<String, String>>,
    /// Limits that the decision comes with: policy, space, and the limit in its shortest form; and how
    /// many bytes of the response are recorded.
    limits: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessEntry {
    action: String,
    table: Option<String>,
}

fn principal(
    entry: &CaseEntry,
    bad: &impl Fn(&'static str, &str) -> CaseError,
) -> Result<Principal, CaseError> {
    let name = |text: &str| text.parse::<AgentName>().map_err(|_| bad("agent", text));
    let agent = name(&entry.agent)?;
    let mut chain = entry.chain.iter().map(|a| name(a)).collect::<Result<Vec<_>, _>>()?;
    chain.push(agent.clone());
    let wanted = entry.assurance.as_deref().unwrap_or("A0");
    let known = [Assurance::A0, Assurance::A1, Assurance::A2];
    let assurance = known.into_iter().find(|a| a.as_str() == wanted);
    Ok(Principal {
        agent,
        instance: "case".into(),
        chain: chain.into(),
        identity: Arc::new(identity(entry)),
        process: Process::unseen(entry.uid.unwrap_or(1000)),
        assurance: assurance.ok_or_else(|| bad("assurance", wanted))?,
    })
}

fn identity(entry: &CaseEntry) -> Identity {
    let subject = entry.user.as_deref().map(|user| Subject {
        user: user.into(),
        idp: "case".into(),
        sub: user.into(),
        groups: entry.groups.iter().map(|group| group.as_str().into()).collect(),
        token: Arc::default(),
    });
    let actor = |sub: &String| Actor { idp: "case".into(), sub: sub.as_str().into(), client: None };
    Identity {
        subject,
        actors: entry.actors.iter().map(actor).collect(),
        owner: entry.owner.as_deref().map(Into::into),
    }
}

fn target(entry: &CaseEntry) -> Target {
    Target {
        name: entry.target.as_str().into(),
        addr: OrigDst(SocketAddr::from((Ipv4Addr::LOCALHOST, 5432))),
        host: None,
        protocol: "postgresql",
        database: Some(entry.database.as_str().into()),
        account: entry.account.as_deref().map(Arc::from),
        tls: None,
        credential: entry
            .role
            .as_deref()
            .map(|role| UsedCredential { name: "case".into(), role: role.into() }),
    }
}

fn request(
    entry: &CaseEntry,
    bad: &impl Fn(&'static str, &str) -> CaseError,
) -> Result<CaseRequest, CaseError> {
    if let Some(name) = &entry.lookup {
        if !entry.action.is_empty() {
            return Err(bad("action", &entry.action));
        }
        let record_type = entry.record_type.as_deref().unwrap_or("A");
        return Ok(CaseRequest::Lookup(Lookup {
            name: name.as_str().into(),
            record_type: record_type.into(),
            action: lookup::action(record_type),
            is_target: entry.is_target,
            is_listed: entry.is_listed,
            server: "192.0.2.53".into(),
            transport: "udp",
        }));
    }
    if let Some(path) = &entry.path {
        let method = entry.method.as_deref().unwrap_or("GET");
        let actions = [Action::Fetch, Action::Submit];
        let action = actions.into_iter().find(|action| action.as_str() == entry.action);
        return Ok(CaseRequest::Exchange(Box::new(Exchange {
            action: action.ok_or_else(|| bad("action", &entry.action))?,
            method: method.into(),
            path: path.as_str().into(),
            template: path.as_str().into(),
            host: "case.example".into(),
            has_query: !entry.query.is_empty(),
            names: entry.query.iter().map(|name| name.as_str().into()).collect(),
            content_type: entry.content_type.as_deref().unwrap_or_default().into(),
            is_tls: false,
        })));
    }
    Ok(CaseRequest::Command(Box::new(Command {
        id: CommandId(1),
        kind: kind(entry, bad)?,
        statement: Arc::new(statement(entry, bad)?),
        parameters: Arc::default(),
        batch: 1,
        transaction: transaction(entry, bad)?,
    })))
}

fn transaction(
    entry: &CaseEntry,
    bad: &impl Fn(&'static str, &str) -> CaseError,
) -> Result<Transaction, CaseError> {
    let wanted = entry.transaction.as_deref().unwrap_or("none");
    let found = Transaction::ALL.into_iter().find(|state| state.as_str() == wanted);
    found.ok_or_else(|| bad("transaction", wanted))
}

fn kind(
    entry: &CaseEntry,
    bad: &impl Fn(&'static str, &str) -> CaseError,
) -> Result<CommandKind, CaseError> {
    let wanted = entry.kind.as_deref().unwrap_or("db.query");
    [CommandKind::Connect, CommandKind::Query, CommandKind::FunctionCall, CommandKind::Cancel]
        .into_iter()
        .find(|kind| kind.as_str() == wanted)
        .ok_or_else(|| bad("kind", wanted))
}

fn statement(
    entry: &CaseEntry,
    bad: &impl Fn(&'static str, &str) -> CaseError,
) -> Result<Statement, CaseError> {
    let first = (entry.action.as_str(), entry.table.as_deref());
    let more = entry.also.iter().map(|a| (a.action.as_str(), a.table.as_deref()));
    let accesses = std::iter::once(first).chain(more).map(|(word, table)| {
        let action: Option<Action> = ACTIONS.into_iter().find(|a| a.as_str() == word);
        let action = action.ok_or_else(|| bad("action", word))?;
        Ok(Access { action, table: table.map(table_name) })
    });
    let mut risks = Risk::empty();
    for word in &entry.risks {
        let risk = RISKS.iter().find(|(name, _)| name == word);
        risks |= risk.ok_or_else(|| bad("risk", word))?.1;
    }
    let accesses = accesses.collect::<Result<_, CaseError>>()?;
    let analysis = Analysis {
        functions: entry.functions.iter().map(|f| f.as_str().into()).collect(),
        unknown_functions: entry.unknown_functions.iter().map(|f| f.as_str().into()).collect(),
        ..Analysis::new("UNKNOWN", "", accesses, risks)
    };
    Ok(Statement::new("", analysis))
}

fn table_name(text: &str) -> TableName {
    match text.split_once('.') {
        Some((schema, name)) => TableName { schema: Some(schema.into()), name: name.into() },
        None => TableName { schema: None, name: text.into() },
    }
}
