//! The thread that hears the kernel programs: refusals become records, unknown network namespaces
//! are announced to whoever listens there, ends of flows are reconciled with sessions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use proxy::door::Door;
use proxy::flows::{Bytes, Ended};
use redirect::event::{Event, Events, Heard, Kind};
use redirect_common::MAX_ENROLLED;
use serde_json::json;
use tracing::{error, info, warn};
use types::clock::Timestamp;
use types::id::CgroupId;

use crate::app::note;

/// How long the thread sleeps where nothing happens; a stop waits for it at most.
const PATIENCE: Duration = Duration::from_millis(500);

/// Refusals recorded in one second; at about 300 B a row, 50 are 1.3 GB a day at the very worst.
/// The others are counted in the agent's next one that is.
const RECORDED_PER_SECOND: u32 = 50;

/// Of these, one agent's: a noisy one hides no other's. Each has one in any case.
const RECORDED_OF_ONE: u32 = 10;

/// Cgroups with refusals that are remembered: more than can be enrolled.
const REFUSED_MAX: usize = 2 * MAX_ENROLLED as usize;

/// Events heard before anything else is looked at: what the ring holds, and who fills it faster than
/// it is emptied keeps the thread from nothing.
const HEARD_AT_ONCE: usize = 16_384;

/// While events settle, what came of the ones before is put down at most fifty times a second.
const PAUSE: Duration = Duration::from_millis(20);

const SECOND_NS: u64 = 1_000_000_000;

/// The thread; dropping ends it.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Called with each first sight of a network namespace, on the watching thread.
pub(crate) type OnNamespace = Box<dyn FnMut(&Event) + Send>;

impl Watch {
    /// Starts listening.
    pub(crate) fn start(
        door: Arc<Door>,
        mut events: Events,
        on_namespace: OnNamespace,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let armed_at_ns = door.clock.now().mono_ns;
        let mut listener = Listener {
            door,
            on_namespace,
            refusals: Budgets::default(),
            armed_at_ns,
            interrupted: BTreeMap::new(),
            unfinished: Vec::new(),
            dropped: 0,
        };
        let work = move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Err(error) = events.wait(PATIENCE) {
                    error!(%error, "the kernel's events can't be heard");
                    thread::sleep(PATIENCE);
                }
                listener.drain(&mut events);
                listener.tidy(&mut events);
            }
        };
        let thread = thread::Builder::new().name("watch".into()).spawn(work);
        Ok(Self { stop, thread: Some(thread.context("no thread")?) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("the watching thread panicked");
        }
    }
}

struct Listener {
    door: Arc<Door>,
    on_namespace: OnNamespace,
    refusals: Budgets,
    armed_at_ns: u64,
    /// By enrolled cgroup; the kernel knows no more than it has entries for.
    interrupted: BTreeMap<CgroupId, Interrupted>,
    /// Flows whose sessions lag behind: at most [`SOCKETS_NAMED_MAX`].
    unfinished: Vec<(CgroupId, u64)>,
    /// Events known to be lost.
    dropped: u64,
}

/// An agent's flows that an earlier daemon held, or that ended while there was none: their
/// sessions' own counts died with it. What a kill cut before it was recorded is in here.
#[derive(Default)]
struct Interrupted {
    flows: u64,
    bytes: Bytes,
    /// The sockets' cookies, as many as one row takes.
    sockets: Vec<u64>,
}

/// Sockets named in one record: 512 cookies of up to 12 digits are 7 KiB.
const SOCKETS_NAMED_MAX: usize = 512;

impl Listener {
    fn drain(&mut self, events: &mut Events) {
        for _ in 0..HEARD_AT_ONCE {
            match events.hear() {
                Heard::Nothing => return,
                Heard::Settling(patience) => {
                    self.put_down(events);
                    thread::sleep(patience.max(PAUSE));
                }
                Heard::Event(event) => self.heard(&event),
            }
            if self.unfinished.len() >= SOCKETS_NAMED_MAX {
                self.put_down(events);
            }
        }
    }

    fn heard(&mut self, event: &Event) {
        match event.kind {
            Kind::Refused(reason) => self.refused(event, reason),
            Kind::UnknownNetns => {
                self.refused(event, UNKNOWN_NETNS);
                (self.on_namespace)(event);
            }
            Kind::FlowEnd { sent, received } => self.flow_ended(event, Bytes { sent, received }),
        }
    }

    /// Makes what came of the events heard so far durable, here and in their sessions; only then
    /// do they leave the ring. A kill before that tells the next daemon of them again.
    fn put_down(&mut self, events: &mut Events) {
        self.tell_interrupted();
        self.tell_unfinished();
        match self.door.recorder.settle() {
            Ok(()) => events.release(),
            Err(error) => {
                error!(%error, "what the kernel told is not recorded");
                thread::sleep(PATIENCE);
            }
        }
    }

    fn refused(&mut self, event: &Event, reason: u32) {
        self.door.counters.kernel_refusals.up();
        if reason == NO_ROOM {
            // It is dropped unread at the door, which can't tell whose it was.
            let now = self.door.clock.now();
            self.door.flows.session_ended(event.socket_cookie, Bytes::unread(0), now);
        }
        let Some(unrecorded) = self.refusals.take(event.cgroup, self.door.clock.now()) else {
            return;
        };
        let agent = self.door.enrollments.get(event.cgroup);
        let (agent, instance) =
            agent.map_or((None, None), |a| (Some(a.agent), Some(a.instance.to_string())));
        let detail = json!({
            "reason": reason_word(reason),
            "agent": agent.as_ref().map(types::id::AgentName::as_str),
            "instance": instance,
            "cgroup": event.cgroup.0,
            "pid": event.tgid,
            "protocol": event.protocol,
            "destination": event.destination.map(|to| to.to_string()),
            "unix": event.unix,
            "boottime_ns": event.at_ns,
            "unrecorded_before": unrecorded,
        });
        info!(%detail, "refused in the kernel");
        self.record("kernel.refused", &detail);
    }

    fn flow_ended(&mut self, event: &Event, kernel: Bytes) {
        // A session of this daemon began after it was armed; a flow that ended before had none.
        if event.at_ns < self.armed_at_ns {
            let interrupted = self.interrupted.entry(event.cgroup).or_default();
            interrupted.flows += 1;
            interrupted.bytes.sent += kernel.sent;
            interrupted.bytes.received += kernel.received;
            interrupted.sockets.push(event.socket_cookie);
            if interrupted.sockets.len() == SOCKETS_NAMED_MAX {
                self.tell_interrupted();
            }
            return;
        }
        let now = self.door.clock.now();
        match self.door.flows.kernel_ended(event.socket_cookie, kernel, now) {
            Ended::Agreed => {}
            Ended::Differed(difference) => self.door.record_difference(&difference),
            // Half a second after its socket closed the session has not ended: if we end first, this
            // is what stays of it.
            Ended::First => self.unfinished.push((event.cgroup, event.socket_cookie)),
        }
    }

    /// Names flows whose sessions lag behind, agent by agent.
    fn tell_unfinished(&mut self) {
        let mut by_agent: BTreeMap<CgroupId, Vec<u64>> = BTreeMap::new();
        for (cgroup, cookie) in std::mem::take(&mut self.unfinished) {
            by_agent.entry(cgroup).or_default().push(cookie);
        }
        for (cgroup, cookies) in by_agent {
            let agent = self.door.enrollments.get(cgroup);
            let detail = json!({
                "agent": agent.as_ref().map(|a| a.agent.as_str()),
                "instance": agent.as_ref().map(|a| &*a.instance),
                "cgroup": cgroup.0,
                "socket_cookies": cookies,
            });
            self.record("flow.unfinished", &detail);
        }
    }

    /// What is to be said now and then.
    fn tidy(&mut self, events: &mut Events) {
        self.put_down(events);
        for difference in self.door.flows.expire(self.door.clock.now()) {
            self.door.record_difference(&difference);
        }
        match events.dropped() {
            Ok(dropped) if dropped > self.dropped => {
                let lost = dropped - std::mem::replace(&mut self.dropped, dropped);
                warn!(lost, "events of the kernel programs found no room");
                self.door.counters.events_lost.set(dropped);
                self.record("kernel.events_lost", &json!({ "lost": lost }));
            }
            Ok(_) => {}
            Err(error) => warn!(%error, "lost events can't be counted"),
        }
    }

    fn tell_interrupted(&mut self) {
        for (cgroup, interrupted) in std::mem::take(&mut self.interrupted) {
            let Interrupted { flows, bytes: Bytes { sent, received }, sockets } = interrupted;
            let agent = self.door.enrollments.get(cgroup);
            let detail = json!({
                "agent": agent.as_ref().map(|a| a.agent.as_str()),
                "instance": agent.as_ref().map(|a| &*a.instance),
                "cgroup": cgroup.0,
                "flows": flows,
                "sent": sent,
                "received": received,
                "socket_cookies": sockets,
            });
            self.record("flow.interrupted", &detail);
        }
    }

    fn record(&self, kind: &str, detail: &serde_json::Value) {
        note(&self.door.recorder, kind, detail);
    }
}

/// How many records a second may take, of each agent and of all.
#[derive(Default)]
struct Budgets {
    second: u64,
    taken: u32,
    of: BTreeMap<CgroupId, Budget>,
}

/// One agent's.
#[derive(Default)]
struct Budget {
    taken: u32,
    refused: u64,
}

impl Budgets {
    /// Whether one more may be written: if so, how many of the same agent before it were not.
    fn take(&mut self, cgroup: CgroupId, now: Timestamp) -> Option<u64> {
        let second = now.mono_ns / SECOND_NS;
        if second != self.second {
            (self.second, self.taken) = (second, 0);
            self.of.retain(|_, budget| {
                budget.taken = 0;
                budget.refused > 0
            });
        }
        // Agents that ended leave counts behind, and a root agent may make cgroups without end.
        if self.of.len() >= REFUSED_MAX && !self.of.contains_key(&cgroup) {
            self.of.clear();
        }
        let budget = self.of.entry(cgroup).or_default();
        let is_first = budget.taken == 0;
        let has_room = self.taken < RECORDED_PER_SECOND && budget.taken < RECORDED_OF_ONE;
        if !is_first && !has_room {
            budget.refused += 1;
            return None;
        }
        budget.taken += 1;
        self.taken += 1;
        Some(std::mem::take(&mut budget.refused))
    }
}

/// The reason of a connect in a namespace where nobody listens (`ebpf/README.md`).
const UNKNOWN_NETNS: u32 = 3;

/// The reason of a connection whose record found no room.
const NO_ROOM: u32 = 5;

/// The reasons of `ebpf/README.md`, as records name them.
fn reason_word(reason: u32) -> String {
    let word = match reason {
        1 => "protocol",
        2 => "not_enrolled",
        3 => "unknown_netns",
        4 => "device",
        5 => "no_room",
        6 => "process",
        7 => "datagram",
        8 => "no_forwarder",
        9 => "bind",
        10 => "socket",
        11 => "leaves",
        12 => "altered",
        13 => "form",
        14 => "multicast",
        15 => "unix",
        other => return format!("reason_{other}"),
    };
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_counted_and_hides_nobody_elses() {
        let mut budgets = Budgets::default();
        let at = |second: u64| Timestamp { unix_us: 0, mono_ns: second * SECOND_NS };
        let mut recorded = |cgroup: u64, second: u64, count: usize| -> Vec<u64> {
            (0..count).filter_map(|_| budgets.take(CgroupId(cgroup), at(second))).collect()
        };
        let of_one = RECORDED_OF_ONE as usize;
        assert_eq!(recorded(1, 5, 1_000).len(), of_one);
        assert_eq!(recorded(2, 5, 1_000).len(), of_one);
        assert_eq!(recorded(1, 6, 2), [1_000 - u64::from(RECORDED_OF_ONE), 0]);
        // What all may take is taken; who has had nothing yet has one.
        for cgroup in 10..10 + u64::from(RECORDED_PER_SECOND / RECORDED_OF_ONE) {
            recorded(cgroup, 7, of_one);
        }
        assert_eq!(recorded(1, 7, 5), [0]);
    }
}
