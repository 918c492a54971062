//! Decides commands of one identity at one target.
//!
//! Fail closed: a request that cannot be built, a policy that fails to evaluate and a session that
//! could not be prepared all mean deny; for masks they mean replace.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cedar_policy::{AuthorizationError, Authorizer, Entities, Policy, PolicyId, Request, Response};
use lru::LruCache;
use types::command::{Access, Analysis, Command, Risk, Statement};
use types::decision::{Decision, Effect, Obligation};
use types::principal::Principal;
use types::redact::{DataClass, MaskRule, Operator};
use types::target::Target;

use crate::load::Loaded;
use crate::lookup::Lookup;
use crate::obligation::{Annotations, SoftObligation};
use crate::policy_set::concerns;
use crate::request::{Moment, RequestError, Requester};

mod exchange;

/// The policies of one identity at one target, and its memory of decisions.
pub struct SessionPolicy {
    loaded: Arc<Loaded>,
    authorizer: Authorizer,
    hard: cedar_policy::PolicySet,
    soft: cedar_policy::PolicySet,
    requester: Result<Requester, RequestError>,
    masks: Vec<MaskRule>,
    obligations: Arc<[Obligation]>,
    memo: Mutex<Memo>,
}

/// Decisions remembered: by the very analysis, which costs one look, and by what a decision
/// depends on, so that statements that differ in their literals alone are decided once.
struct Memo {
    by_analysis: LruCache<MemoKey, (Weak<Analysis>, Decision)>,
    by_content: LruCache<Content, Decision>,
}

impl SessionPolicy {
    /// Slices the policies that can concern `principal`, and decides its masks.
    pub(crate) fn new(loaded: Arc<Loaded>, principal: &Principal, target: &Target) -> Self {
        let slice = |all: &[Policy], extra: Option<Policy>| {
            let kept = all.iter().filter(|p| concerns(p, principal)).cloned();
            cedar_policy::PolicySet::from_policies(kept.chain(extra)).expect("ids are unique")
        };
        let mut session = Self {
            authorizer: Authorizer::new(),
            hard: slice(&loaded.hard, None),
            soft: slice(&loaded.soft, Some(permit_all())),
            requester: Requester::new(principal, target, &loaded.actions),
            masks: Vec::new(),
            obligations: Arc::new([]),
            memo: Mutex::new(Memo {
                by_analysis: LruCache::new(DECISIONS_KEPT),
                by_content: LruCache::new(DECISIONS_KEPT),
            }),
            loaded,
        };
        let classes = session.loaded.classification.classes.iter().map(|rule| &rule.name);
        let masks = classes.filter_map(|class| {
            session.mask(class).map(|operator| MaskRule { class: class.clone(), operator })
        });
        session.masks = masks.collect();
        session.obligations = session.masks.iter().cloned().map(Obligation::Mask).collect();
        session
    }

    /// Decides a command that probes these classes ([`mask::Masks::probed`]), at `unix_us`,
    /// microseconds since 1970 UTC; remembers the answer for its very analysis and [`Moment`].
    pub fn authorize(&self, command: &Command, probed: &[DataClass], unix_us: i64) -> Decision {
        let Command { id: _, kind, statement, parameters: _, batch: _, transaction } = command;
        let moment = Moment { kind: *kind, hour: hour_of(unix_us), transaction: *transaction };
        let analysis = Arc::as_ptr(&statement.analysis) as usize;
        let key = MemoKey { analysis, bytes: statement.text.len(), probed: probed.into(), moment };
        if let Some((_, decision)) = self.memo().by_analysis.get(&key) {
            return decision.clone();
        }
        let content = Content::of(statement, probed, moment);
        let known = self.memo().by_content.get(&content).cloned();
        let decision = known.unwrap_or_else(|| self.decide(statement, probed, moment));
        let mut memo = self.memo();
        // A weak reference keeps the address from being used again, and lets what is there go.
        memo.by_analysis.put(key, (Arc::downgrade(&statement.analysis), decision.clone()));
        memo.by_content.put(content, decision.clone());
        decision
    }

    /// Decides a lookup at `unix_us`, microseconds since 1970 UTC. Nobody can be asked in the time
    /// that a lookup has, so one that needs an approval is denied.
    pub fn resolve(&self, lookup: &Lookup, unix_us: i64) -> Decision {
        let failed = |_| self.deny(BTreeSet::new(), "the request could not be evaluated".into());
        self.decide_lookup(lookup, hour_of(unix_us)).unwrap_or_else(failed)
    }

    /// What is decided of whatever an agent asks that acts for nobody any more, `why` in a fixed word.
    pub fn identity_ended(&self, why: &'static str) -> Decision {
        let reason = format!("whom this agent acts for has lost access ({why})");
        self.deny(BTreeSet::from([PolicyId::new("identity")]), reason)
    }

    /// How each class of data is masked, in the classification's order; a class that is not listed
    /// may be shown.
    pub fn masks(&self) -> &[MaskRule] {
        &self.masks
    }

    fn decide(&self, statement: &Statement, probed: &[DataClass], moment: Moment) -> Decision {
        if statement.accesses.is_empty() {
            return self.deny(BTreeSet::new(), "the statement's effect is not known".to_owned());
        }
        if statement.accesses.len() > ACCESSES_MAX || statement.functions.len() > ACCESSES_MAX {
            let reason = format!("the statement touches more than {ACCESSES_MAX} objects");
            return self.deny(BTreeSet::new(), reason);
        }
        match self.decide_all(statement, probed, moment) {
            Ok(decision) => decision,
            Err(_) => self.deny(BTreeSet::new(), "the request could not be evaluated".to_owned()),
        }
    }

    fn decide_all(
        &self,
        statement: &Statement,
        probed: &[DataClass],
        moment: Moment,
    ) -> Result<Decision, RequestError> {
        let requester = self.requester()?;
        // No mask can be applied to what is replicated.
        let masked = if statement.replicates() { self.masks() } else { &[] };
        let bare: Vec<DataClass> = masked.iter().map(|mask| mask.class.clone()).collect();
        let entities = requester.entities(statement, &[probed, &bare].concat())?;
        let context = requester.context(statement, moment)?;
        let (mut permits, mut lifted) = (BTreeSet::new(), BTreeSet::new());
        let accesses = statement
            .accesses
            .iter()
            .map(|access| (requester.request(access, context.clone(), None), what(access)));
        let probes = probed.iter().map(|class| {
            let what =
                format!("probe of {}: what the statement does depends on masked values", class.0);
            (requester.probe(class, context.clone(), None), what)
        });
        let bare = bare.iter().map(|class| {
            let what = format!(
                "replicateUnmasked of {}: no mask can be applied to what is replicated",
                class.0
            );
            (requester.replicate_unmasked(class, context.clone(), None), what)
        });
        for (request, what) in accesses.chain(probes).chain(bare) {
            let request = request?;
            match self.answer(&self.hard, &request, &entities) {
                Answer::Allow(ids) => permits.extend(ids),
                Answer::Deny(ids) => return Ok(self.refuse(ids, &(what + &calls(statement)))),
                Answer::Failed(ids) => return Ok(self.failed(ids)),
            }
            match self.answer(&self.soft, &request, &entities) {
                Answer::Allow(_) => {}
                Answer::Deny(ids) => lifted.extend(ids),
                Answer::Failed(ids) => return Ok(self.failed(ids)),
            }
        }
        let kept: Vec<Obligation> = lifted.iter().flat_map(|id| self.kept(id)).collect();
        let approvals: BTreeSet<_> = lifted.into_iter().filter(|id| self.is_held(id)).collect();
        let mut decision = if approvals.is_empty() {
            self.decision(Effect::Allow, permits, "permitted".to_owned())
        } else {
            let reason = self.approval_reason(&approvals);
            self.decision(Effect::RequireApproval, approvals, reason)
        };
        if !kept.is_empty() {
            decision.obligations = decision.obligations.iter().cloned().chain(kept).collect();
        }
        Ok(decision)
    }

    /// Whether a policy holds the statement until somebody approves: all that it can't be kept to otherwise.
    fn is_held(&self, id: &PolicyId) -> bool {
        let obligation =
            self.annotations(id).and_then(|annotations| annotations.obligation.as_ref());
        !matches!(obligation, Some(SoftObligation::Limit(_) | SoftObligation::Record(_)))
    }

    /// What is to be kept to for a policy before the statement runs or while it does; nothing where its
    /// obligation is another.
    fn kept(&self, id: &PolicyId) -> Vec<Obligation> {
        match self.annotations(id).and_then(|annotations| annotations.obligation.as_ref()) {
            Some(SoftObligation::Limit(limits)) => {
                limits.iter().cloned().map(Obligation::Limit).collect()
            }
            Some(SoftObligation::Record(keep)) => vec![Obligation::Record(*keep)],
            Some(SoftObligation::Approve(terms)) => vec![Obligation::Approve(Arc::clone(terms))],
            Some(SoftObligation::Mask(_)) | None => Vec::new(),
        }
    }

    fn decide_lookup(&self, lookup: &Lookup, hour: u8) -> Result<Decision, RequestError> {
        let requester = self.requester()?;
        let entities = requester.lookup_entities(lookup)?;
        let request = requester.lookup(lookup, hour, None)?;
        let ids = match self.answer(&self.hard, &request, &entities) {
            Answer::Allow(ids) => ids,
            Answer::Deny(ids) => {
                let what = format!("{} of {}", lookup.record_type, printable(&lookup.name));
                return Ok(self.refuse(ids, &what));
            }
            Answer::Failed(ids) => return Ok(self.failed(ids)),
        };
        match self.answer(&self.soft, &request, &entities) {
            Answer::Allow(_) => Ok(self.decision(Effect::Allow, ids, "permitted".to_owned())),
            Answer::Deny(ids) => {
                let reason = self.approval_reason(&ids);
                Ok(self.deny(ids, reason))
            }
            Answer::Failed(ids) => Ok(self.failed(ids)),
        }
    }

    /// How `class` is masked; `None` where it may be shown.
    fn mask(&self, class: &DataClass) -> Option<Operator> {
        let Ok(requester) = self.requester() else { return Some(Operator::Replace) };
        let (Ok(request), Ok(entities)) =
            (requester.disclose(class, None), requester.disclose_entities(class))
        else {
            return Some(Operator::Replace);
        };
        let Answer::Allow(_) = self.answer(&self.hard, &request, &entities) else {
            return Some(Operator::Replace);
        };
        match self.answer(&self.soft, &request, &entities) {
            Answer::Allow(_) => None,
            Answer::Failed(_) => Some(Operator::Replace),
            Answer::Deny(ids) => {
                let operator = |id: &PolicyId| match self.annotations(id)?.obligation.as_ref()? {
                    SoftObligation::Mask(operator) => Some(*operator),
                    SoftObligation::Approve(_)
                    | SoftObligation::Limit(_)
                    | SoftObligation::Record(_) => None,
                };
                // What is not a mask cannot be met here: replace.
                let operators = ids.iter().map(|id| operator(id).unwrap_or(Operator::Replace));
                Some(operators.max_by_key(|o| o.strictness()).unwrap_or(Operator::Replace))
            }
        }
    }

    fn answer(
        &self,
        policies: &cedar_policy::PolicySet,
        request: &Request,
        entities: &Entities,
    ) -> Answer {
        let response: Response = self.authorizer.is_authorized(request, policies, entities);
        // Cedar skips a policy that fails, be it a forbid: whatever it decided then does not count.
        let failed: BTreeSet<PolicyId> = response.diagnostics().errors().map(failing).collect();
        let ids: BTreeSet<PolicyId> = response.diagnostics().reason().cloned().collect();
        match response.decision() {
            _ if !failed.is_empty() => Answer::Failed(failed),
            cedar_policy::Decision::Deny => Answer::Deny(ids),
            cedar_policy::Decision::Allow => Answer::Allow(ids),
        }
    }

    fn refuse(&self, ids: BTreeSet<PolicyId>, what: &str) -> Decision {
        let reason = match ids.iter().find_map(|id| self.annotations(id)?.reason.as_deref()) {
            Some(reason) => reason.to_owned(),
            None => match ids.first() {
                Some(id) => format!("policy {id} forbids {what}"),
                None => format!("no policy permits {what}"),
            },
        };
        self.deny(ids, reason)
    }

    fn failed(&self, ids: BTreeSet<PolicyId>) -> Decision {
        self.deny(ids, "a policy could not be evaluated".to_owned())
    }

    fn approval_reason(&self, ids: &BTreeSet<PolicyId>) -> String {
        let annotations: Vec<&Annotations> =
            ids.iter().filter_map(|id| self.annotations(id)).collect();
        if let Some(reason) = annotations.iter().find_map(|a| a.reason.as_deref()) {
            return reason.to_owned();
        }
        let mut approvers: Vec<String> = annotations
            .iter()
            .filter_map(|a| match &a.obligation {
                Some(SoftObligation::Approve(terms)) => Some(terms.groups.join(" or ")),
                _ => None,
            })
            .collect();
        approvers.dedup();
        format!("needs the approval of {}", approvers.join(" and "))
    }

    fn deny(&self, ids: BTreeSet<PolicyId>, reason: String) -> Decision {
        self.decision(Effect::Deny, ids, reason)
    }

    fn decision(&self, effect: Effect, ids: BTreeSet<PolicyId>, reason: String) -> Decision {
        let name = |id: PolicyId| types::id::PolicyId(AsRef::<str>::as_ref(&id).into());
        let obligations = match effect {
            Effect::Allow | Effect::RequireApproval => Arc::clone(&self.obligations),
            Effect::Deny => Arc::new([]),
        };
        Decision {
            effect,
            obligations,
            determining: ids.into_iter().map(name).collect(),
            reason: reason.into(),
            policy_digest: self.loaded.digest,
        }
    }

    fn annotations(&self, id: &PolicyId) -> Option<&Annotations> {
        self.loaded.annotations.get(id)
    }

    fn requester(&self) -> Result<&Requester, RequestError> {
        self.requester.as_ref().map_err(RequestError::again)
    }

    fn memo(&self) -> std::sync::MutexGuard<'_, Memo> {
        // No code that can panic runs under this lock.
        self.memo.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cedar's answer, with errors told apart.
enum Answer {
    Allow(BTreeSet<PolicyId>),
    Deny(BTreeSet<PolicyId>),
    Failed(BTreeSet<PolicyId>),
}

/// All that a decision depends on within one session: what `Requester` builds requests from.
#[derive(PartialEq, Eq, Hash)]
struct Content {
    moment: Moment,
    verb: &'static str,
    accesses: Vec<Access>,
    functions: Vec<Arc<str>>,
    unknown: Vec<Arc<str>>,
    probed: Box<[DataClass]>,
    risks: Risk,
    bytes: usize,
}

impl Content {
    fn of(statement: &Statement, probed: &[DataClass], moment: Moment) -> Self {
        let Statement { text, analysis } = statement;
        let Analysis {
            normalized: _,
            fingerprint: _,
            verb,
            accesses,
            functions,
            unknown_functions,
            risks,
            outputs: _,
            copy: _,
            probes: _,
            writes: _,
            cursor: _,
            prepared: _,
            compared: _,
        } = &**analysis;
        let (accesses, functions) = (accesses.clone(), functions.clone());
        let (probed, bytes) = (probed.into(), text.len());
        let unknown = unknown_functions.clone();
        Self { moment, verb, accesses, functions, unknown, probed, risks: *risks, bytes }
    }
}

/// A very analysis and the length of the text, within one session.
#[derive(PartialEq, Eq, Hash)]
struct MemoKey {
    analysis: usize,
    bytes: usize,
    probed: Box<[DataClass]>,
    moment: Moment,
}

/// Decisions kept per identity, in each of two memories: 256 × about 350 B (statement shell or
/// content, and decision) = 90 KiB each.
const DECISIONS_KEPT: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// Objects of one statement: each costs two evaluations, 1,024 × about 60 µs = 60 ms.
const ACCESSES_MAX: usize = 1_024;

/// Characters of an object's name that a reason shows: schema and name of 63 each, and a dot.
const OBJECT_CHARS_MAX: usize = 127;

/// The soft set's permit: what is left to say is which forbids apply. Its id is none a file can have.
fn permit_all() -> Policy {
    let id = PolicyId::new("vestibule:permit-all");
    Policy::parse(Some(id), "permit(principal, action, resource);").expect("a valid policy")
}

fn failing(error: &AuthorizationError) -> PolicyId {
    match error {
        AuthorizationError::PolicyEvaluationError(e) => e.policy_id().clone(),
    }
}

/// What is done to which object.
fn what(access: &Access) -> String {
    let action = access.action.as_str();
    match &access.table {
        Some(table) => format!("{action} on {}", printable(&table.to_string())),
        None => format!("{action} on the database"),
    }
}

/// What about a statement that nothing permits keeps it from being a read like others.
fn calls(statement: &Statement) -> String {
    match statement.unknown_functions.first() {
        Some(name) => {
            format!(": it calls {}, which is not known to be the server's own", printable(name))
        }
        None if statement.risks.contains(Risk::SIDE_EFFECT) => ": it has side effects".to_owned(),
        None => String::new(),
    }
}

fn printable(object: &str) -> String {
    let clean = |c: char| if c.is_control() { '?' } else { c };
    object.chars().map(clean).take(OBJECT_CHARS_MAX).collect()
}

/// The hour of the day, UTC.
fn hour_of(unix_us: i64) -> u8 {
    let hour = unix_us.div_euclid(3_600_000_000).rem_euclid(24);
    u8::try_from(hour).expect("a remainder of 24 fits")
}
