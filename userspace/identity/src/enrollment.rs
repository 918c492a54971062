//! Which cgroup is which agent.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use types::id::{AgentName, CgroupId};

use crate::standing::{Held, Standing};

/// Agents enrolled at once: 16,384 × about 300 B = 5 MiB.
pub const ENROLLMENTS_MAX: usize = 16_384;

/// One start of an agent, under control.
#[derive(Clone, Debug)]
pub struct Enrollment {
    /// Its cgroup.
    pub cgroup: CgroupId,
    /// Its name.
    pub agent: AgentName,
    /// Which start of it this is.
    pub instance: Arc<str>,
    /// Agents from the outermost to this one, this one included.
    pub chain: Arc<[AgentName]>,
    /// Whom it acts for.
    pub standing: Arc<Standing>,
}

/// The enrollments of this host; shared by the control side, which writes, and the workers, which
/// look one up per connection.
#[derive(Debug, Default)]
pub struct Enrollments {
    by_cgroup: RwLock<HashMap<CgroupId, Enrollment>>,
}

impl Enrollments {
    /// The enrollment of a cgroup.
    pub fn get(&self, cgroup: CgroupId) -> Option<Enrollment> {
        self.by_cgroup.read().unwrap_or_else(PoisonError::into_inner).get(&cgroup).cloned()
    }

    /// Adds an agent whose nearest enrolled ancestor is `parent`; answers the enrollment.
    pub fn add(
        &self,
        cgroup: CgroupId,
        agent: AgentName,
        instance: Arc<str>,
        parent: Option<CgroupId>,
    ) -> Result<Enrollment, Full> {
        self.insert(cgroup, agent, instance, parent, None)
    }

    /// The same for an agent that acts for nobody until something else is said: nobody is let in by it before.
    pub fn add_ended(
        &self,
        cgroup: CgroupId,
        agent: AgentName,
        instance: Arc<str>,
        parent: Option<CgroupId>,
        why: &'static str,
    ) -> Result<Enrollment, Full> {
        self.insert(cgroup, agent, instance, parent, Some(Held::Ended(why)))
    }

    fn insert(
        &self,
        cgroup: CgroupId,
        agent: AgentName,
        instance: Arc<str>,
        parent: Option<CgroupId>,
        held: Option<Held>,
    ) -> Result<Enrollment, Full> {
        let mut by_cgroup = self.by_cgroup.write().unwrap_or_else(PoisonError::into_inner);
        if by_cgroup.len() >= ENROLLMENTS_MAX {
            return Err(Full);
        }
        let outer = parent.and_then(|parent| by_cgroup.get(&parent));
        let chain = outer.iter().flat_map(|e| e.chain.iter()).chain([&agent]).cloned().collect();
        let standing = Standing::inside(outer.map(|e| Arc::clone(&e.standing)));
        held.map(|held| standing.set(held));
        let enrollment = Enrollment { cgroup, agent, instance, chain, standing };
        by_cgroup.insert(cgroup, enrollment.clone());
        Ok(enrollment)
    }

    /// Forgets an agent whose cgroup is gone.
    pub fn remove(&self, cgroup: CgroupId) {
        self.by_cgroup.write().unwrap_or_else(PoisonError::into_inner).remove(&cgroup);
    }

    /// All of them, by name and instance.
    pub fn list(&self) -> Vec<Enrollment> {
        let by_cgroup = self.by_cgroup.read().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<_> = by_cgroup.values().cloned().collect();
        list.sort_by(|a, b| (&a.agent, &a.instance).cmp(&(&b.agent, &b.instance)));
        list
    }
}

/// There are [`ENROLLMENTS_MAX`] enrollments already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{ENROLLMENTS_MAX} agents are enrolled; end some before starting more")]
pub struct Full;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_agent_carries_its_ancestors() {
        let enrollments = Enrollments::default();
        let add = |id, name: &str, parent| {
            enrollments
                .add(CgroupId(id), name.parse().unwrap(), "1".into(), parent)
                .expect("there is room")
        };
        add(1, "outer", None);
        let inner = add(2, "inner", Some(CgroupId(1)));
        let chain: Vec<_> = inner.chain.iter().map(AgentName::as_str).collect();
        assert_eq!(chain, ["outer", "inner"]);
        enrollments.remove(CgroupId(1));
        assert!(enrollments.get(CgroupId(1)).is_none());
        let [left] = &enrollments.list()[..] else { panic!("one is left") };
        assert_eq!(left.instance, inner.instance);
    }
}
