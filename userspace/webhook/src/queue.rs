//! What is due to whom, and when: pure, made of events and of the records of deliveries.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use approval::control::{Delivery, HookStanding};
use approval::desk::Standing;
use approval::event::Event;
use serde::{Deserialize, Serialize};

use crate::notice::{Kind, Notice};

/// How long a message is tried, in seconds, from what it tells: a day.
pub const GIVEN_UP_AFTER_S: i64 = 24 * 60 * 60;

/// The kind of the record that says which hooks there are: at each start, and each hour, so that who reads a day of
/// records finds one.
pub const HOOKS_RECORD: &str = "webhook.hooks";

/// Messages due to one hook: 4,096 × about 2 KiB = 8 MiB, and hooks share them.
const DUE_MAX: usize = 4_096;

/// Messages of one hook that are known to be done, for what is told twice: 16,384 × about 100 B = 1.6 MiB.
const SETTLED_MAX: usize = 16_384;

/// Deliveries that are shown after they are done.
const RECENT_MAX: usize = 256;

/// The first wait after a failure, microseconds; each further one is twice as long.
const WAIT_FIRST_US: i64 = 1_000_000;

/// The longest wait, microseconds: ten minutes, so a day is about 150 attempts.
const WAIT_LAST_US: i64 = 10 * 60 * 1_000_000;

/// The longest that a receiver's `Retry-After` counts for, microseconds: an hour.
const ASKED_LAST_US: i64 = 60 * 60 * 1_000_000;

/// What is due, by hook.
#[derive(Debug, Default)]
pub struct Queue {
    lanes: BTreeMap<Arc<str>, Lane>,
    recent: VecDeque<Delivery>,
}

/// What is due to one hook.
#[derive(Debug, Default)]
struct Lane {
    kinds: Vec<Kind>,
    /// Whether events are due to it: from the record on that names it.
    is_active: bool,
    since_us: i64,
    due: BTreeMap<Place, Due>,
    settled: HashSet<Arc<str>>,
    settled_order: VecDeque<Arc<str>>,
    /// Failures in a row of the receiver itself, and until when it is left alone.
    failures: u32,
    rests_until_us: i64,
    delivered: u64,
    given_up: u64,
    error: Option<String>,
}

/// Alerts first, then in order of time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    is_ordinary: bool,
    at_us: i64,
    id: Arc<str>,
}

#[derive(Debug)]
struct Due {
    notice: Arc<Notice>,
    attempts: u32,
    next_us: i64,
    error: Option<String>,
}

/// What is to be done for a hook.
#[derive(Debug)]
pub(crate) enum Next {
    /// This is to be sent.
    Send(Arc<Notice>),
    /// Something will be, at this time in microseconds since 1970 UTC.
    At(i64),
    /// Nothing is due.
    Nothing,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// In words.
    pub(crate) why: String,
    /// Whether the receiver as a whole does not answer, so that others would fail, too.
    pub(crate) is_receivers: bool,
    /// Whether it wants no more of this.
    pub(crate) is_final: bool,
    /// How long it asks to be left alone, microseconds.
    pub(crate) asked_us: Option<i64>,
}

/// What became of an attempt: the record of kind `webhook.delivered` or `webhook.failed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "named as in the record")]
pub struct Attempt {
    pub(crate) hook: Arc<str>,
    pub(crate) message: Arc<str>,
    pub(crate) attempt: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// It is tried no more.
    #[serde(default)]
    pub(crate) given_up: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_us: Option<i64>,
}

/// The record of kind [`HOOKS_RECORD`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hooks {
    pub(crate) hooks: Vec<Arc<str>>,
    pub(crate) due: usize,
}

impl Hooks {
    pub(crate) fn record(&self) -> String {
        // Strings and numbers: nothing of it can't be JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

const DELIVERED: &str = "webhook.delivered";
const FAILED: &str = "webhook.failed";

impl Attempt {
    /// The kind of its record.
    pub fn record_kind(&self) -> &'static str {
        if self.why.is_none() { DELIVERED } else { FAILED }
    }

    /// Its record.
    pub fn record(&self) -> String {
        // Strings and numbers: nothing of it can't be JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Queue {
    /// Nothing is due to these hooks, each with what it hears of, until a record names them.
    pub fn new(hooks: impl IntoIterator<Item = (Arc<str>, Vec<Kind>)>) -> Self {
        let lane = |(name, kinds)| (name, Lane { kinds, ..Lane::default() });
        Self { lanes: hooks.into_iter().map(lane).collect(), recent: VecDeque::new() }
    }

    /// Takes a record of before a restart, of whatever kind, from `at_us`.
    pub fn read(&mut self, kind: &str, detail: &str, at_us: i64) {
        match kind {
            HOOKS_RECORD => {
                if let Ok(Hooks { hooks, due: _ }) = serde_json::from_str(detail) {
                    self.name(&hooks, at_us);
                }
            }
            DELIVERED | FAILED => {
                if let Ok(attempt) = serde_json::from_str::<Attempt>(detail) {
                    self.attempted(&attempt, at_us);
                }
            }
            _ => {}
        }
    }

    /// These hooks there are from here on: what is due to others is due no more.
    pub(crate) fn name(&mut self, hooks: &[Arc<str>], at_us: i64) {
        for (name, lane) in &mut self.lanes {
            let is_named = hooks.contains(name);
            if is_named && !lane.is_active {
                lane.since_us = at_us;
            }
            if !is_named {
                lane.due.clear();
            }
            lane.is_active = is_named;
        }
    }

    /// Takes what happened to a request that stands so now; answers what is given up because too much is due, to be
    /// written down and taken by [`Queue::read`].
    #[must_use]
    pub fn follow(&mut self, event: &Event, standing: &Standing) -> Vec<Attempt> {
        Notice::of(event, standing).map_or_else(Vec::new, |notice| self.add(notice, false))
    }

    /// Takes all that happened to a request so far, where events were missed.
    #[must_use]
    pub(crate) fn follow_all(&mut self, standing: &Standing) -> Vec<Attempt> {
        let notices = Notice::all(standing).into_iter();
        notices.flat_map(|notice| self.add(notice, true)).collect()
    }

    fn add(&mut self, notice: Notice, is_late: bool) -> Vec<Attempt> {
        let notice = Arc::new(notice);
        let mut dropped = Vec::new();
        for (name, lane) in &mut self.lanes {
            let is_new = !lane.settled.contains(&notice.id);
            let counts = lane.is_active && !(is_late && notice.at_us < lane.since_us);
            if !lane.hears(&notice) || !is_new || !counts {
                continue;
            }
            let place = Place::of(&notice);
            let due = Due { notice: Arc::clone(&notice), attempts: 0, next_us: 0, error: None };
            lane.due.entry(place).or_insert(due);
            if lane.due.len() > DUE_MAX
                && let Some((place, due)) = lane.superfluous()
            {
                let why = format!("{DUE_MAX} messages are due to it already");
                dropped.push(Attempt {
                    hook: Arc::clone(name),
                    message: place.id,
                    attempt: due.attempts,
                    status: None,
                    why: Some(why),
                    given_up: true,
                    next_us: None,
                });
            }
        }
        dropped
    }

    /// What is to be done for a hook now.
    pub(crate) fn next(&self, hook: &str, now_us: i64) -> Next {
        let Some(lane) = self.lanes.get(hook) else { return Next::Nothing };
        let Some(soonest) = lane.due.values().map(|due| due.next_us).min() else {
            return Next::Nothing;
        };
        let soonest = soonest.max(lane.rests_until_us);
        let ready = lane.due.values().find(|due| due.next_us <= now_us);
        match ready {
            Some(due) if lane.rests_until_us <= now_us => Next::Send(Arc::clone(&due.notice)),
            _ => Next::At(soonest),
        }
    }

    /// The record of an attempt that was made now; `random` spreads the next one.
    pub(crate) fn judge(
        &self,
        (hook, notice): (&Arc<str>, &Notice),
        outcome: Result<u16, &Failure>,
        (now_us, random): (i64, u64),
    ) -> Attempt {
        let due = self.lanes.get(hook).and_then(|lane| lane.due.get(&Place::of(notice)));
        let attempt = due.map_or(0, |due| due.attempts).saturating_add(1);
        let (hook, message) = (Arc::clone(hook), Arc::clone(&notice.id));
        let failure = match outcome {
            Ok(status) => {
                let (status, why) = (Some(status), None);
                return Attempt {
                    hook,
                    message,
                    attempt,
                    status,
                    why,
                    given_up: false,
                    next_us: None,
                };
            }
            Err(failure) => failure,
        };
        let is_old = now_us.saturating_sub(notice.at_us) > GIVEN_UP_AFTER_S * 1_000_000;
        let given_up = failure.is_final || is_old;
        let wait_us =
            wait_us(attempt, random).max(failure.asked_us.unwrap_or(0).min(ASKED_LAST_US));
        let next_us = (!given_up).then(|| now_us.saturating_add(wait_us));
        Attempt {
            hook,
            message,
            attempt,
            status: None,
            why: Some(failure.why.clone()),
            given_up,
            next_us,
        }
    }

    /// Has a hook's receiver left alone for a while, which failed as a whole; or not, which answered.
    pub(crate) fn rest(
        &mut self,
        hook: &str,
        failed: Option<&Failure>,
        (now_us, random): (i64, u64),
    ) {
        let Some(lane) = self.lanes.get_mut(hook) else { return };
        let Some(failure) = failed.filter(|failure| failure.is_receivers) else {
            (lane.failures, lane.rests_until_us) = (0, 0);
            return;
        };
        lane.failures = lane.failures.saturating_add(1);
        let wait_us = wait_us(lane.failures, random);
        let wait_us = wait_us.max(failure.asked_us.unwrap_or(0).min(ASKED_LAST_US));
        lane.rests_until_us = now_us.saturating_add(wait_us);
    }

    /// Takes the record of an attempt.
    pub(crate) fn attempted(&mut self, attempt: &Attempt, at_us: i64) {
        let Attempt { hook, message, attempt: attempts, status: _, why, given_up, next_us } =
            attempt;
        let Some(lane) = self.lanes.get_mut(hook) else { return };
        lane.error.clone_from(why);
        if why.is_some() && !given_up {
            if let Some(due) = lane.due.values_mut().find(|due| due.notice.id == *message) {
                due.attempts = *attempts;
                due.next_us = next_us.unwrap_or(0);
                due.error.clone_from(why);
            }
            return;
        }
        lane.due.retain(|place, _| place.id != *message);
        lane.settle(message);
        let (count, state) = if why.is_none() {
            (&mut lane.delivered, "delivered")
        } else {
            (&mut lane.given_up, "given_up")
        };
        *count += 1;
        self.recent.push_back(Delivery {
            hook: hook.to_string(),
            message: message.to_string(),
            state: state.to_owned(),
            attempts: *attempts,
            at_us,
            error: why.clone(),
        });
        while self.recent.len() > RECENT_MAX {
            self.recent.pop_front();
        }
    }

    /// How many messages are due, to all hooks.
    pub(crate) fn due(&self) -> usize {
        self.lanes.values().map(|lane| lane.due.len()).sum()
    }

    /// How each hook stands.
    pub(crate) fn standings(&self) -> Vec<HookStanding> {
        let one = |(name, lane): (&Arc<str>, &Lane)| HookStanding {
            hook: name.to_string(),
            events: lane.kinds.iter().map(|kind| kind.as_str().to_owned()).collect(),
            due: lane.due.len(),
            oldest_us: lane.due.keys().map(|place| place.at_us).min(),
            delivered: lane.delivered,
            given_up: lane.given_up,
            error: lane.error.clone(),
        };
        self.lanes.iter().map(one).collect()
    }

    /// What is due, and what was done last, newest first; at most `most` of each.
    pub(crate) fn deliveries(&self, most: usize) -> Vec<Delivery> {
        let due = self.lanes.iter().flat_map(|(name, lane)| {
            lane.due.iter().take(most).map(|(place, due)| Delivery {
                hook: name.to_string(),
                message: place.id.to_string(),
                state: "due".to_owned(),
                attempts: due.attempts,
                at_us: place.at_us,
                error: due.error.clone(),
            })
        });
        let due = due.take(most);
        due.chain(self.recent.iter().rev().take(most).cloned()).collect()
    }
}

impl Lane {
    /// Whether a notice is for it: who hears no alerts hears that a command was let through.
    fn hears(&self, notice: &Notice) -> bool {
        let is_named = |kind| self.kinds.contains(&kind);
        is_named(notice.kind) || (notice.is_alert() && is_named(Kind::Granted))
    }

    /// The oldest that is no alert; where all are alerts, the oldest of these.
    fn superfluous(&mut self) -> Option<(Place, Due)> {
        let oldest = self.due.keys().find(|place| place.is_ordinary).cloned();
        match oldest {
            Some(place) => self.due.remove_entry(&place),
            None => self.due.pop_first(),
        }
    }

    fn settle(&mut self, message: &Arc<str>) {
        if self.settled.insert(Arc::clone(message)) {
            self.settled_order.push_back(Arc::clone(message));
        }
        while self.settled_order.len() > SETTLED_MAX {
            if let Some(oldest) = self.settled_order.pop_front() {
                self.settled.remove(&oldest);
            }
        }
    }
}

impl Place {
    fn of(notice: &Notice) -> Self {
        let id = Arc::clone(&notice.id);
        Self { is_ordinary: !notice.is_alert(), at_us: notice.at_us, id }
    }
}

/// How long to wait after so many failures: twice as long each time, and half of it by chance.
fn wait_us(failures: u32, random: u64) -> i64 {
    let doubled = WAIT_FIRST_US.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let longest = doubled.min(WAIT_LAST_US);
    let half = longest / 2;
    half + i64::try_from(random % half.unsigned_abs()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
