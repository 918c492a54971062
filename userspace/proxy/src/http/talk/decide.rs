//! What is decided of a request, and recorded before anything comes of it.

use std::sync::Arc;

use hyper::StatusCode;
use journal::recorder::AppendError;
use policy::SessionPolicy;
use policy::exchange::{Exchange, Ruled};
use proto::http::Refused;
use types::command::{
    Access, Action, Analysis, Command, CommandKind, Risk, Statement, Transaction,
};
use types::decision::{Decision, Effect, Keep};
use types::event::{Outcome, Status};
use types::id::CommandId;

use super::{Decided, RULE, Talk, gone, not_http};
use crate::http::answer::error_code;
use crate::http::intake::Intake;
use crate::http::problem::Problem;

/// The rule by which requests are refused whose token does not count.
const TOKEN_RULE: &str = "bearer-token";

impl Talk<'_> {
    /// Decides a request and writes that down; answers what the agent is told where it is refused.
    pub(super) fn decide(
        &self,
        examined: &Result<Intake, Refused>,
        identified: Result<bool, &'static str>,
        is_head: bool,
    ) -> Result<(Decided, Option<Problem>), AppendError> {
        let now = self.shared.clock.now();
        let state = &mut *self.state.borrow_mut();
        let door = &self.worker.door;
        state.ledger.open();
        let (policy, masks) = state.policy.get_or_insert_with(|| {
            let policy = door.policy.session(state.ledger.principal(), state.ledger.target());
            let masks = door.masks(policy.masks());
            (policy, masks)
        });
        let (policy, masks) = (Arc::clone(policy), Arc::clone(masks));
        let (statement, ruled, refused) = self.rule(&policy, examined, identified, now.unix_us);
        let Ruled { decision, unmasked, record } = ruled;
        state.commands += 1;
        let command = Command {
            id: CommandId(state.commands),
            kind: CommandKind::Request,
            statement,
            parameters: Arc::default(),
            batch: state.commands,
            transaction: Transaction::None,
        };
        let times = (now, self.shared.clock.now());
        state.ledger.blind_named(|| {
            examined.as_ref().map(|intake| intake.asked.named()).unwrap_or_default()
        });
        // What came of it is sealed with what it says. Of what policy was not asked about, it goes on as before.
        let is_asked = examined.is_ok() && identified.is_ok() && self.shared.gone().is_none();
        let in_full = is_asked.then_some(record == Some(Keep::Full));
        self.agent.with_tape(|tape| tape.decided(command.id, in_full, is_head));
        let at = state.ledger.begin(&command, &decision, Some(&masks), times, None)?;
        self.seat.gathered();
        door.counters.commands_total.up();
        if let Some(problem) = &refused {
            door.counters.commands_denied.up();
            let mut outcome = Outcome::new(command.id, Status::Denied);
            outcome.error_code = error_code(problem.status);
            outcome.bytes_in = self.shared.taken();
            state.ledger.end(outcome, now);
        }
        let masks = (!policy.masks().is_empty()).then_some(masks);
        Ok((Decided { command: command.id, at, masks, unmasked, record }, refused))
    }

    /// What is asked, what is decided of it, and what the agent is told where that is no.
    fn rule(
        &self,
        policy: &SessionPolicy,
        examined: &Result<Intake, Refused>,
        identified: Result<bool, &'static str>,
        unix_us: i64,
    ) -> (Arc<Statement>, Ruled, Option<Problem>) {
        let only = |decision: Decision| Ruled { decision, unmasked: None, record: None };
        let intake = match examined {
            Ok(intake) => intake,
            Err(refused) => {
                let decision = policy.refused(RULE, &refused.to_string());
                return (unreadable(), only(decision), Some(not_http(*refused)));
            }
        };
        let statement = Arc::clone(&intake.asked.statement);
        if let Some(why) = self.shared.gone() {
            return (statement, only(policy.identity_ended(why)), Some(gone(why)));
        }
        if let Err(why) = identified {
            let reason = format!("the bearer token does not count here: {why}");
            let decision = policy.refused(TOKEN_RULE, &reason);
            let status = StatusCode::UNAUTHORIZED;
            let policy = TOKEN_RULE.to_owned();
            // Whom a next request without a token would be for is not for us to guess.
            let problem = Problem { status, policy, detail: reason, ends: true };
            return (statement, only(decision), Some(problem));
        }
        let ruled = policy.exchange(&self.exchange(intake), unix_us);
        let decision = &ruled.decision;
        let detail = match decision.effect {
            Effect::Allow => return (statement, ruled, None),
            Effect::Deny => decision.reason.to_string(),
            Effect::RequireApproval => {
                format!("{} (approvals are asked for at PostgreSQL only, so far)", decision.reason)
            }
        };
        let policy = decision.rule().to_owned();
        let problem = Problem { status: StatusCode::FORBIDDEN, policy, detail, ends: false };
        (statement, ruled, Some(problem))
    }

    fn exchange(&self, intake: &Intake) -> Exchange {
        let Intake { asked, host, content_type, .. } = intake;
        Exchange {
            action: asked.action,
            method: Arc::clone(&asked.method),
            path: Arc::clone(&asked.path),
            template: Arc::clone(&asked.template),
            host: Arc::clone(host),
            has_query: asked.has_query,
            names: asked.names.clone(),
            content_type: Arc::clone(content_type),
            is_tls: self.called.is_tls,
        }
    }
}

/// What is recorded of a request that has no one reading.
fn unreadable() -> Arc<Statement> {
    let access = Access { action: Action::Unknown, table: None };
    Arc::new(Statement::new(
        "",
        Analysis::new("OTHER", "(unreadable)", vec![access], Risk::UNPARSED),
    ))
}
