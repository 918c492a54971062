//! Decisions on HTTP requests. They are not remembered: no two paths need be the same.

use std::collections::BTreeSet;

use cedar_policy::{Context, Entities, PolicyId};
use types::decision::{Decision, Effect, Obligation};
use types::redact::DataClass;

use super::{Answer, SessionPolicy, hour_of, printable};
use crate::exchange::{Exchange, Ruled};
use crate::request::RequestError;

impl SessionPolicy {
    /// Decides an HTTP request at `unix_us`, microseconds since 1970 UTC.
    pub fn exchange(&self, exchange: &Exchange, unix_us: i64) -> Ruled {
        self.decide_exchange(exchange, hour_of(unix_us)).unwrap_or_else(|_| {
            let decision = self.deny(BTreeSet::new(), "the request could not be evaluated".into());
            Ruled { unmasked: Some(decision.clone()), decision, record: None }
        })
    }

    /// What is refused by a rule of ours, and not by a policy.
    pub fn refused(&self, rule: &str, reason: &str) -> Decision {
        self.deny(BTreeSet::from([PolicyId::new(rule)]), reason.to_owned())
    }

    fn decide_exchange(&self, exchange: &Exchange, hour: u8) -> Result<Ruled, RequestError> {
        let requester = self.requester()?;
        let masked: Vec<DataClass> = self.masks().iter().map(|mask| mask.class.clone()).collect();
        let entities = requester.exchange_entities(exchange, &masked)?;
        let context = requester.exchange_context(exchange, hour)?;
        let request = requester.exchange(exchange, context.clone(), None)?;
        let soft = self.answer(&self.soft, &request, &entities);
        let kept: Vec<Obligation> = match &soft {
            Answer::Deny(ids) => ids.iter().flat_map(|id| self.kept(id)).collect(),
            Answer::Allow(_) | Answer::Failed(_) => Vec::new(),
        };
        let record = kept.iter().filter_map(|obligation| match obligation {
            Obligation::Record(keep) => Some(*keep),
            Obligation::Mask(_) | Obligation::Limit(_) | Obligation::Approve(_) => None,
        });
        let record = record.max();
        let denied = |decision| Ok(Ruled { decision, unmasked: None, record });
        let ids = match self.answer(&self.hard, &request, &entities) {
            Answer::Allow(ids) => ids,
            Answer::Deny(ids) => {
                let Exchange { method, template, .. } = exchange;
                let what = format!("{} of {}", printable(method), printable(template));
                return denied(self.refuse(ids, &what));
            }
            Answer::Failed(ids) => return denied(self.failed(ids)),
        };
        let is_limit = |obligation: &Obligation| matches!(obligation, Obligation::Limit(_));
        let mut decision = match soft {
            Answer::Failed(ids) => self.failed(ids),
            Answer::Deny(ids) if kept.iter().any(is_limit) => {
                self.deny(ids, "limits on HTTP requests can't be kept to".to_owned())
            }
            Answer::Deny(ids) if ids.iter().any(|id| self.is_held(id)) => {
                let held: BTreeSet<_> = ids.into_iter().filter(|id| self.is_held(id)).collect();
                let reason = self.approval_reason(&held);
                self.decision(Effect::RequireApproval, held, reason)
            }
            Answer::Allow(_) | Answer::Deny(_) => {
                self.decision(Effect::Allow, ids, "permitted".to_owned())
            }
        };
        if decision.is_allow() && !kept.is_empty() {
            decision.obligations = decision.obligations.iter().cloned().chain(kept).collect();
        }
        let unmasked = self.unmasked(&masked, &context, &entities)?;
        Ok(Ruled { decision, unmasked, record })
    }

    /// Why what no mask can be applied to does not come down; none where each of these classes may.
    fn unmasked(
        &self,
        masked: &[DataClass],
        context: &Context,
        entities: &Entities,
    ) -> Result<Option<Decision>, RequestError> {
        for class in masked {
            let request = self.requester()?.fetch_unmasked(class, context.clone(), None)?;
            let what =
                format!("fetchUnmasked of {}: no mask can be applied to the answer", class.0);
            match self.answer(&self.hard, &request, entities) {
                Answer::Allow(_) => {}
                Answer::Deny(ids) => return Ok(Some(self.refuse(ids, &what))),
                Answer::Failed(ids) => return Ok(Some(self.failed(ids))),
            }
            // Nobody can be asked once the answer is there.
            match self.answer(&self.soft, &request, entities) {
                Answer::Allow(_) => {}
                Answer::Deny(ids) => return Ok(Some(self.refuse(ids, &what))),
                Answer::Failed(ids) => return Ok(Some(self.failed(ids))),
            }
        }
        Ok(None)
    }
}
