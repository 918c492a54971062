//! Whom a client's agent acts for at the moment, with what policy says of that.

use std::sync::Arc;

use identity::standing::{Held, Standing};
use policy::SessionPolicy;
use types::id::SessionId;
use types::principal::Principal;
use types::target::Target;

use crate::ledger::{Ledger, NotRecorded};
use crate::server::Resources;

/// Identities of one session: each has its record.
const IDENTITIES_MAX: u32 = 65_536;

/// A client's agent as it stands.
pub(crate) struct Acting {
    principal: Principal,
    target: Target,
    standing: Option<Arc<Standing>>,
    /// The standing's count of changes when it was last looked at.
    seen: Option<u64>,
    now: Now,
}

/// What a question is decided and recorded by.
#[derive(Clone)]
pub(crate) struct Now {
    /// The policies of whom the agent acts for.
    pub(crate) policy: Arc<SessionPolicy>,
    /// Which identity of the session that is.
    pub(crate) identity: u32,
    /// Why the agent acts for nobody any more.
    pub(crate) ended: Option<&'static str>,
}

impl Acting {
    /// For whom `principal` says, as the session's opening has it; `standing` is its agent's.
    pub(crate) fn new(
        principal: Principal,
        target: Target,
        standing: Option<Arc<Standing>>,
        resources: &Resources,
    ) -> Self {
        let policy = resources.policy.session(&principal, &target);
        let now = Now { policy, identity: 0, ended: None };
        Self { principal, target, standing, seen: None, now }
    }

    /// The agent's name and instance, for the log.
    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// What holds now; another identity than before is written first.
    pub(crate) fn now(
        &mut self,
        session: SessionId,
        resources: &Resources,
        ledger: &Ledger,
    ) -> Result<Now, NotRecorded> {
        let Some(standing) = &self.standing else { return Ok(self.now.clone()) };
        // Before what it counts: a change in between is seen with the next question.
        let changes = standing.changes();
        if self.seen == Some(changes) {
            return Ok(self.now.clone());
        }
        let identity = match standing.held() {
            Held::Ended(why) => {
                (self.seen, self.now.ended) = (Some(changes), Some(why));
                return Ok(self.now.clone());
            }
            Held::For(identity) => identity,
        };
        if identity != self.principal.identity {
            let number = self.now.identity + 1;
            ledger.go_on_for((session, number), &identity)?;
            self.principal.identity = identity;
            self.now.policy = resources.policy.session(&self.principal, &self.target);
            self.now.identity = number;
        }
        let is_too_many = self.now.identity >= IDENTITIES_MAX;
        self.now.ended = is_too_many.then_some("too many identities");
        self.seen = Some(changes).filter(|_| !is_too_many);
        Ok(self.now.clone())
    }
}
