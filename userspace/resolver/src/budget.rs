//! How much each agent may ask: a token bucket, and what is under way.

use std::collections::HashMap;

use types::id::CgroupId;

/// Seconds of an agent's rate that it may ask at once: programs resolve in bursts when they start.
const BURST_S: u64 = 4;

/// Questions of one agent under way: each holds a task, a datagram and its records, about 16 KiB;
/// 64 are 1 MiB.
const UNDER_WAY_PER_AGENT_MAX: u32 = 64;

/// Questions of all agents under way: 1,024 × 16 KiB = 16 MiB.
const UNDER_WAY_MAX: u32 = 1_024;

/// Agents kept: as many as can be enrolled (`identity::enrollment`), × about 64 B = 1 MiB.
const AGENTS_MAX: usize = identity::enrollment::ENROLLMENTS_MAX;

const SECOND_NS: u64 = 1_000_000_000;

/// The agents' budgets.
#[derive(Debug)]
pub(crate) struct Budgets {
    /// Nanoseconds that one question costs.
    cost_ns: u64,
    under_way: u32,
    agents: HashMap<CgroupId, Budget>,
}

#[derive(Debug, Default)]
struct Budget {
    /// The instant at which the bucket is full again.
    full_at_ns: u64,
    under_way: u32,
    /// Refused since it was last said.
    refused: u64,
    said_at_ns: u64,
}

/// Why an agent may not ask now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spent {
    /// To be recorded, with this many refused before it: at most once a second for each agent.
    pub(crate) to_record: Option<u64>,
}

impl Budgets {
    /// Budgets of `per_second` questions, at least 1.
    pub(crate) fn new(per_second: u32) -> Self {
        let cost_ns = SECOND_NS / u64::from(per_second.max(1));
        Self { cost_ns, under_way: 0, agents: HashMap::new() }
    }

    /// Takes one question of an agent; [`Budgets::end`] must follow where it may be asked.
    pub(crate) fn begin(&mut self, agent: CgroupId, now_ns: u64) -> Result<(), Spent> {
        if self.agents.len() >= AGENTS_MAX && !self.agents.contains_key(&agent) {
            self.agents.retain(|_, own| own.under_way > 0 || own.full_at_ns > now_ns);
            if self.agents.len() >= AGENTS_MAX {
                return Err(Spent { to_record: None });
            }
        }
        let is_busy = self.under_way >= UNDER_WAY_MAX;
        let own = self.agents.entry(agent).or_default();
        let full_at_ns = own.full_at_ns.max(now_ns) + self.cost_ns;
        let is_spent = full_at_ns - now_ns > BURST_S * SECOND_NS;
        if is_busy || is_spent || own.under_way >= UNDER_WAY_PER_AGENT_MAX {
            own.refused += 1;
            let is_time = own.said_at_ns == 0 || now_ns >= own.said_at_ns + SECOND_NS;
            if !is_time {
                return Err(Spent { to_record: None });
            }
            own.said_at_ns = now_ns;
            return Err(Spent { to_record: Some(std::mem::take(&mut own.refused)) });
        }
        own.full_at_ns = full_at_ns;
        own.under_way += 1;
        self.under_way += 1;
        Ok(())
    }

    /// A question ended.
    pub(crate) fn end(&mut self, agent: CgroupId) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(own) = self.agents.get_mut(&agent) {
            own.under_way = own.under_way.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: CgroupId = CgroupId(1);
    const B: CgroupId = CgroupId(2);

    fn asks(budgets: &mut Budgets, agent: CgroupId, times: u32, now_ns: u64) -> u32 {
        let mut asked = 0;
        for _ in 0..times {
            if budgets.begin(agent, now_ns).is_ok() {
                budgets.end(agent);
                asked += 1;
            }
        }
        asked
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut budgets = Budgets::new(10);
        let start = 7 * SECOND_NS;
        assert_eq!(asks(&mut budgets, A, 100, start), 40);
        assert_eq!(asks(&mut budgets, A, 100, start + SECOND_NS), 10);
        assert_eq!(asks(&mut budgets, B, 100, start + SECOND_NS), 40, "others do not pay");
    }

    #[test]
    fn what_is_refused_is_recorded_once_a_second() {
        let mut budgets = Budgets::new(1);
        assert_eq!(asks(&mut budgets, A, 4, 1), 4);
        let told: Vec<_> = (0..10).map(|_| budgets.begin(A, 1).unwrap_err().to_record).collect();
        assert_eq!(told.iter().flatten().count(), 1);
        assert_eq!(budgets.begin(A, SECOND_NS / 2).unwrap_err().to_record, None);
        let later = budgets.begin(A, SECOND_NS);
        assert!(later.is_err());
    }

    #[test]
    fn so_many_are_under_way_and_no_more() {
        let mut budgets = Budgets::new(1_000_000);
        let begun = (0..1_000).filter(|_| budgets.begin(A, 1).is_ok()).count();
        assert_eq!(begun, 64);
        let all: usize = (10..100)
            .map(|n| (0..64).filter(|_| budgets.begin(CgroupId(n), 1).is_ok()).count())
            .sum();
        assert_eq!(all + begun, 1_024);
        budgets.end(A);
        assert!(budgets.begin(B, 1).is_ok());
    }
}
