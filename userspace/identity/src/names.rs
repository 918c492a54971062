//! Which names an agent's addresses have: what our resolver answered to that agent, and the hosts
//! file. Names that others answered count for nothing.
//!
//! An answer holds for its TTL, within a floor and a ceiling: clients keep addresses longer than
//! they should, pools for minutes; and no answer may hold for ever.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use types::id::CgroupId;

/// Addresses with names at once, of all agents: 65,536 × about 250 B = 16 MiB.
const ADDRESSES_MAX: usize = 65_536;

/// Addresses of one agent: 256 agents that fill theirs fill the table.
const ADDRESSES_PER_AGENT_MAX: usize = 256;

/// Names of one address, of one agent: a shared front end has several; the oldest goes first.
const NAMES_PER_ADDRESS_MAX: usize = 8;

/// An answer holds no shorter than 10 minutes: what connection pools keep an address for.
const HOLD_S_MIN: u32 = 600;

/// Nor longer than a day (RFC 8767 §4 advises caches to keep nothing stale longer than days).
const HOLD_S_MAX: u32 = 86_400;

const SECOND_NS: u64 = 1_000_000_000;

/// The table; shared by the resolver, which writes, and the workers, which look up once per
/// connection.
#[derive(Debug, Default)]
pub struct Names {
    hosts: HashMap<IpAddr, Vec<Arc<str>>>,
    answers: RwLock<HashMap<CgroupId, HashMap<IpAddr, Vec<Held>>>>,
}

/// A name and until when it holds, nanoseconds of the monotonic clock.
#[derive(Clone, Debug)]
struct Held {
    name: Arc<str>,
    until_ns: u64,
}

impl Names {
    /// A table with the names of a hosts file, which hold for every agent and always.
    pub fn new(hosts: impl IntoIterator<Item = (IpAddr, Arc<str>)>) -> Self {
        let mut own = Self::default();
        for (ip, name) in hosts {
            own.hosts.entry(ip.to_canonical()).or_default().push(name);
        }
        own
    }

    /// Keeps that `agent` was answered `ip` for `name` (lower case, no final dot) at `now_ns`, to
    /// hold for `ttl_s` seconds. Where there is no room it is not kept, and a connection to that
    /// address has no name.
    pub fn learn(&self, agent: CgroupId, name: &Arc<str>, (ip, ttl_s): (IpAddr, u32), now_ns: u64) {
        let hold_s = ttl_s.clamp(HOLD_S_MIN, HOLD_S_MAX);
        let until_ns = now_ns.saturating_add(u64::from(hold_s) * SECOND_NS);
        let ip = ip.to_canonical();
        let mut answers = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = answers.get(&agent).is_none_or(|own| !own.contains_key(&ip));
        if is_new && !make_room(&mut answers, agent, now_ns) {
            return;
        }
        let names = answers.entry(agent).or_default().entry(ip).or_default();
        names.retain(|held| held.name != *name && held.until_ns > now_ns);
        if names.len() >= NAMES_PER_ADDRESS_MAX {
            names.remove(0);
        }
        names.push(Held { name: Arc::clone(name), until_ns });
    }

    /// The names that `ip` has for `agent` at `now_ns`, the newest answer first, the hosts file last.
    pub fn of(&self, agent: CgroupId, ip: IpAddr, now_ns: u64) -> Vec<Arc<str>> {
        let ip = ip.to_canonical();
        let answers = self.answers.read().unwrap_or_else(PoisonError::into_inner);
        let held = answers.get(&agent).and_then(|own| own.get(&ip)).into_iter().flatten().rev();
        let fresh = held.filter(|held| held.until_ns > now_ns).map(|held| &held.name);
        let hosts = self.hosts.get(&ip).into_iter().flatten();
        fresh.chain(hosts).cloned().collect()
    }

    /// Forgets an agent that ended.
    pub fn forget(&self, agent: CgroupId) {
        self.answers.write().unwrap_or_else(PoisonError::into_inner).remove(&agent);
    }
}

/// Whether one more address of `agent` may be kept; what no longer holds goes first, then the
/// agent's own that would have ended soonest. Never another's.
fn make_room(
    answers: &mut HashMap<CgroupId, HashMap<IpAddr, Vec<Held>>>,
    agent: CgroupId,
    now_ns: u64,
) -> bool {
    let total: usize = answers.values().map(HashMap::len).sum();
    let own = answers.get(&agent).map_or(0, HashMap::len);
    if total < ADDRESSES_MAX && own < ADDRESSES_PER_AGENT_MAX {
        return true;
    }
    for own in answers.values_mut() {
        own.retain(|_, names| names.iter().any(|held| held.until_ns > now_ns));
    }
    answers.retain(|_, own| !own.is_empty());
    let total: usize = answers.values().map(HashMap::len).sum();
    let Some(own) = answers.get_mut(&agent) else { return total < ADDRESSES_MAX };
    if total < ADDRESSES_MAX && own.len() < ADDRESSES_PER_AGENT_MAX {
        return true;
    }
    let last = |names: &Vec<Held>| names.iter().map(|held| held.until_ns).max().unwrap_or(0);
    let soonest = own.iter().min_by_key(|(_, names)| last(names)).map(|(ip, _)| *ip);
    soonest.is_some_and(|ip| own.remove(&ip).is_some())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const A: CgroupId = CgroupId(1);
    const B: CgroupId = CgroupId(2);

    fn ip(last: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + last).into()
    }

    fn told(names: &Names, agent: CgroupId, last: u32, at_s: u64) -> Vec<String> {
        names.of(agent, ip(last), at_s * SECOND_NS).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_answer_is_its_agents_own_and_holds_for_a_time() {
        let names = Names::new([(ip(9), "hosted.example".into())]);
        let (short, long) = (Arc::from("short.example"), Arc::from("long.example"));
        names.learn(A, &short, (ip(1), 5), 0);
        names.learn(A, &long, (ip(1), u32::MAX), 0);
        assert_eq!(told(&names, A, 1, 599), ["long.example", "short.example"]);
        assert_eq!(told(&names, A, 1, 600), ["long.example"]);
        assert_eq!(told(&names, A, 1, 86_400), [""; 0]);
        assert_eq!(told(&names, B, 1, 1), [""; 0]);
        assert_eq!(told(&names, B, 9, 1), ["hosted.example"]);
        let mapped = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().into();
        assert_eq!(names.of(A, mapped, 0).len(), 2);
        names.forget(A);
        assert_eq!(told(&names, A, 1, 1), [""; 0]);
    }

    #[test]
    fn what_changed_is_there_beside_what_was() {
        let (names, name) = (Names::default(), Arc::from("db.example"));
        names.learn(A, &name, (ip(1), 60), 0);
        names.learn(A, &name, (ip(2), 60), SECOND_NS);
        assert_eq!((told(&names, A, 1, 2).len(), told(&names, A, 2, 2).len()), (1, 1));
    }

    #[test]
    fn nothing_grows_without_bound() {
        let names = Names::default();
        let name = Arc::from("victim.example");
        names.learn(B, &name, (ip(1), 3_600), 0);
        for n in 0..2_000 {
            let name = Arc::from(format!("n{n}.example"));
            names.learn(A, &name, (ip(n), 600), u64::from(n));
            names.learn(A, &name, (ip(5_000), 600), u64::from(n));
        }
        let answers = names.answers.read().unwrap();
        assert_eq!(answers[&A].len(), ADDRESSES_PER_AGENT_MAX);
        assert_eq!(answers[&A][&ip(5_000)].len(), NAMES_PER_ADDRESS_MAX);
        assert_eq!(answers[&B].len(), 1, "another's answers stay");
    }
}
