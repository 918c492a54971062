//! What a decision asks people for, and what a grant must be of to count for its command.

use std::sync::Arc;

use approval::request::{Wanted, Wants};
use types::approval::{Coverage, Terms};
use types::command::{Command, Risk, Statement};
use types::decision::{Decision, Obligation};

use super::Approvals;
use crate::ledger::Ledger;

/// Risks of statements that are approved one by one: what they do is not what their accesses say.
const EACH: Risk = Risk::EFFECTS.union(Risk::REINTERPRETS).difference(Risk::DDL);

/// The terms of all policies that a decision waits for, taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    each: Vec<Arc<Terms>>,
}

impl Asked {
    /// What `decision` asks for; `None` where a policy waits for something else, so that nobody could meet it.
    pub(crate) fn of(decision: &Decision) -> Option<Self> {
        let terms = decision.obligations.iter().filter_map(|obligation| match obligation {
            Obligation::Approve(terms) => Some(Arc::clone(terms)),
            Obligation::Mask(_) | Obligation::Limit(_) | Obligation::Record(_) => None,
        });
        let each: Vec<Arc<Terms>> = terms.collect();
        let is_of = |policy: &types::id::PolicyId| each.iter().any(|terms| terms.policy == *policy);
        let all = !each.is_empty() && decision.determining.iter().all(is_of);
        all.then_some(Self { each })
    }

    /// How long a request lives, in seconds: the shortest.
    pub(crate) fn request_s(&self) -> u32 {
        self.each.iter().map(|terms| terms.request_s).min().unwrap_or(0)
    }

    /// How long a grant lives, in seconds: the shortest.
    pub(crate) fn grant_s(&self) -> u32 {
        self.each.iter().map(|terms| terms.grant_s).min().unwrap_or(0)
    }

    /// How long a command may wait inside a transaction, in seconds: the shortest.
    pub(crate) fn transaction_s(&self) -> u32 {
        self.each.iter().map(|terms| terms.transaction_s).min().unwrap_or(0)
    }

    /// Whether it must be asked for before a transaction's first write.
    pub(crate) fn before_write(&self) -> bool {
        self.each.iter().any(|terms| terms.before_write)
    }

    /// Whether the server may be asked what it expects of the command: any policy lets it be.
    pub(crate) fn estimates(&self) -> bool {
        self.each.iter().any(|terms| terms.estimates)
    }

    /// What a grant for this statement covers: the least of what each policy has it cover. Of what says by
    /// its literals what it does it covers the very command.
    pub(crate) fn covers(&self, statement: &Statement) -> Coverage {
        let least = self.each.iter().map(|terms| terms.covers).reduce(|one, other| {
            match (one, other) {
                (Coverage::Alike(one), Coverage::Alike(other)) => Coverage::Alike(one.min(other)),
                (Coverage::Session, Coverage::Session) => Coverage::Session,
                // Neither of one session's and so many alike has less than the other.
                _ => Coverage::Command,
            }
        });
        match least.unwrap_or(Coverage::Command) {
            Coverage::Alike(_) if statement.risks.intersects(EACH | Risk::DDL) => Coverage::Command,
            Coverage::Session if !is_narrow(statement) => Coverage::Command,
            covers => covers,
        }
    }

    /// The terms in words.
    pub(crate) fn wants(&self) -> Vec<Wants> {
        let words = |names: &[Arc<str>]| names.iter().map(ToString::to_string).collect();
        let wants = self.each.iter().map(|terms| {
            let Terms { policy, groups, people, break_glass, .. } = &**terms;
            let (policy, people) = (policy.0.to_string(), *people);
            Wants { policy, groups: words(groups), people, break_glass: words(break_glass) }
        });
        wants.collect()
    }

    /// Who may approve, in one line.
    pub(crate) fn who(&self) -> String {
        let of = |terms: &Arc<Terms>| {
            let groups = terms.groups.join(" or ");
            if terms.people == 1 { groups } else { format!("{} of {groups}", terms.people) }
        };
        self.each.iter().map(of).collect::<Vec<_>>().join(", and ")
    }
}

/// What a grant must be of to count for a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) binding: String,
    pub(crate) pattern: String,
    pub(crate) session: String,
    /// As `delete public.transfers`, sorted, each once.
    pub(crate) accesses: Vec<String>,
    policies: Vec<String>,
}

impl Claim {
    pub(crate) fn new(
        approvals: &Approvals,
        ledger: &Ledger<'_>,
        (command, asked): (&Command, &Asked),
        whole: Option<&[u8; 32]>,
    ) -> Self {
        let (who, bindings) = ((ledger.principal(), ledger.target()), approvals.bindings());
        let access = |access: &types::command::Access| match &access.table {
            Some(table) => format!("{} {table}", access.action.as_str()),
            None => access.action.as_str().to_owned(),
        };
        let mut accesses: Vec<String> = command.statement.accesses.iter().map(access).collect();
        accesses.sort_unstable();
        accesses.dedup();
        Self {
            binding: bindings.binding(who, command, whole),
            pattern: bindings.pattern(who, command),
            session: ledger.session().to_string(),
            accesses,
            policies: asked.each.iter().map(|terms| terms.policy.0.to_string()).collect(),
        }
    }

    pub(crate) fn wanted(&self) -> Wanted<'_> {
        let Self { binding, pattern, session, accesses, policies } = self;
        Wanted { binding, pattern, session, accesses, policies }
    }
}

/// Whether a statement does no more than its accesses say, each to an object with a name.
fn is_narrow(statement: &Statement) -> bool {
    !statement.risks.intersects(EACH)
        && statement.accesses.iter().all(|access| access.table.is_some())
}

#[cfg(test)]
mod tests {
    use types::command::{Access, Action, Analysis, TableName};
    use types::decision::Effect;
    use types::id::PolicyId;

    use super::*;

    fn terms(policy: &str, covers: Coverage, people: u8) -> Arc<Terms> {
        Arc::new(Terms {
            policy: PolicyId(policy.into()),
            groups: ["dba".into(), "risk".into()].into(),
            people,
            request_s: 60 * u32::from(people),
            grant_s: 30,
            covers,
            transaction_s: 5,
            before_write: people > 1,
            estimates: false,
            break_glass: [].into(),
        })
    }

    fn decision(determining: &[&str], terms: &[Arc<Terms>]) -> Decision {
        Decision {
            effect: Effect::RequireApproval,
            obligations: terms.iter().cloned().map(Obligation::Approve).collect(),
            determining: determining.iter().map(|id| PolicyId((*id).into())).collect(),
            reason: "r".into(),
            policy_digest: [0; 32],
        }
    }

    #[test]
    fn what_nobody_could_meet_is_not_asked() {
        let one = terms("p", Coverage::Command, 1);
        assert!(Asked::of(&decision(&["p"], &[])).is_none());
        assert!(Asked::of(&decision(&["p", "mask"], &[Arc::clone(&one)])).is_none());
        assert!(Asked::of(&decision(&["p"], &[one])).is_some());
    }

    #[test]
    fn of_several_terms_the_strictest_count() {
        let all = [terms("p", Coverage::Alike(9), 1), terms("q", Coverage::Alike(3), 2)];
        let asked = Asked::of(&decision(&["p", "q"], &all)).unwrap();
        assert_eq!((asked.request_s(), asked.grant_s(), asked.before_write()), (60, 30, true));
        assert_eq!(asked.who(), "dba or risk, and 2 of dba or risk");
        let statement = |risks, named: bool| {
            let table = named.then(|| TableName { schema: None, name: "t".into() });
            let accesses = vec![Access { action: Action::Delete, table }];
            Statement::new("x", Analysis::new("DELETE", "x", accesses, risks))
        };
        let covers = |of: &[Coverage], risks, named| {
            let all: Vec<_> = of.iter().map(|covers| terms("p", *covers, 1)).collect();
            Asked::of(&decision(&["p"], &all)).unwrap().covers(&statement(risks, named))
        };
        let (alike, session, command) = (Coverage::Alike(3), Coverage::Session, Coverage::Command);
        let none = Risk::empty();
        assert_eq!(asked.covers(&statement(none, true)), alike);
        for (of, risks, named, least) in [
            (&[session][..], none, true, session),
            (&[session], Risk::DDL, true, session),
            (&[session], none, false, command),
            (&[session], Risk::OPAQUE, true, command),
            (&[alike], Risk::DDL, true, command),
            (&[alike], Risk::UNKNOWN_FUNCTION, true, command),
            (&[alike, session], none, true, command),
            (&[alike, command], none, true, command),
        ] {
            assert_eq!(covers(of, risks, named), least, "{of:?} {risks:?} {named}");
        }
    }
}
