//! Tokens that agents show at the door for the agents that they start inside themselves.
//!
//! Each counts until it ends: there is no file to read another from. Over a restart of the daemon it is gone, and so
//! is whom its agent acted for.

use anyhow::{Context, Result, bail};
use identity::Enrollment;
use types::identity::Way;
use types::secret::Secret;

use super::{Binding, Keeper, Proven, name};

impl Keeper {
    /// Whom a token is of that an agent shows; an error, recorded, where it does not count. May block.
    pub(crate) fn presented(&self, token: &Secret<String>) -> Result<Proven> {
        let runtime = tokio::runtime::Handle::current();
        match runtime.block_on(self.believed(token.clone(), Way::Bearer)) {
            Ok(proven) => Ok(proven),
            Err(refused) => {
                let why = refused.as_str();
                let detail = serde_json::json!({ "way": Way::Bearer.as_str(), "why": why });
                self.recorder.control("identity.refused", &detail.to_string())?;
                bail!("the token does not count: {why}")
            }
        }
    }

    /// Has an agent act for whom [`Keeper::presented`] found; durable before it returns.
    pub(crate) fn bind_presented(&self, enrollment: &Enrollment, proven: Proven) -> Result<()> {
        let binding = Binding { presented: true, ..Binding::default() };
        let mut bindings = self.bindings();
        bindings.agents.insert(name(enrollment), binding);
        bindings.store(&self.path).context("who the agent acts for can't be kept")?;
        drop(bindings);
        self.act_by(enrollment, proven);
        Ok(())
    }
}
