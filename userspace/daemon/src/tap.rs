//! The TLS taps' records: what agents were seen to say through libssl, masked.
//!
//! Observed is not controlled: nothing here refuses or delays anything, and what is not seen leaves
//! no record. Off unless the configuration asks for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use identity::Enrollments;
use journal::record::{Control, Frame};
use journal::recorder::{Health, Recorder};
use mask::{FreeText, Open};
use redirect::Kernel;
use redirect::tap::{Change, Direction, Lost, Observed, Tap};
use serde_json::{Value, json};
use tracing::{info, warn};
use types::clock::Clock;
use types::id::CgroupId;
use types::principal::ProcessKey;

use crate::config;
use crate::desk::Desk;

/// Between two looks at the ring.
const INTERVAL: Duration = Duration::from_millis(100);
/// Looks at the ring between two scans for libraries: five seconds.
const LOOKS_PER_SCAN: u32 = 50;
/// Calls taken at one look: as many as the ring holds.
const CALLS_PER_LOOK: usize = 8192;
/// Streams whose secret is under way: 4,096 × about 100 B. More than that and all are forgotten,
/// as if their secrets had ended.
const STREAMS_MAX: usize = 4096;

/// The thread that writes them; dropping ends it after a last look.
pub(crate) struct Taps {
    /// Dropped to end the thread; nothing is ever sent.
    running: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread has of the daemon.
pub(crate) struct Surroundings {
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) enrollments: Arc<Enrollments>,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Surroundings {
    /// Those of this daemon.
    pub(crate) fn of(desk: &Desk) -> Self {
        Self {
            kernel: Arc::clone(&desk.agents.kernel),
            enrollments: Arc::clone(&desk.agents.enrollments),
            recorder: desk.agents.recorder.clone(),
            clock: Arc::clone(&desk.door.clock),
        }
    }
}

impl Taps {
    /// Attaches the taps, if they are enabled, and starts to record what they see.
    pub(crate) fn start(config: &config::Tap, around: Surroundings) -> Result<Option<Self>> {
        if !config.enabled {
            return Ok(None);
        }
        let tap = around.kernel.tap(config.libraries.clone());
        let tap = tap.context("the TLS taps don't load; without `tap.enabled` they need not")?;
        let mut writer = Writer::new(around, config.records_per_second);
        writer.record("tls.tap.on", &json!({ "observed_only": true }));
        let (running, stop) = mpsc::channel::<()>();
        let thread = thread::Builder::new().name("tls-tap".to_owned());
        let thread = thread.spawn(move || attend(tap, &mut writer, &stop)).context("a thread")?;
        Ok(Some(Self { running: Some(running), thread: Some(thread) }))
    }
}

impl Drop for Taps {
    fn drop(&mut self) {
        drop(self.running.take());
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the thread itself, and concerns the taps alone.
            drop(thread.join());
        }
    }
}

fn attend(mut tap: Tap, writer: &mut Writer, stop: &mpsc::Receiver<()>) {
    let mut looks = 0;
    loop {
        if looks % LOOKS_PER_SCAN == 0 {
            match tap.scan(&writer.around.kernel) {
                Ok(changes) => changes.iter().for_each(|change| writer.changed(change)),
                Err(error) => warn!(%error, "libraries to tap can't be looked for"),
            }
            match tap.lost() {
                Ok(lost) => writer.sum_up(lost),
                Err(error) => warn!(%error, "calls not seen can't be counted"),
            }
        }
        looks = looks.wrapping_add(1);
        let ends = stop.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout);
        tap.take(CALLS_PER_LOOK, |observed| writer.observed(&observed));
        if ends {
            return;
        }
    }
}

/// One direction of one connection of one process.
type Stream = (ProcessKey, u64, bool);

/// Turns calls into records.
struct Writer {
    around: Surroundings,
    free_text: FreeText,
    /// Records of one agent within one second, at most.
    per_second: u32,
    agents: HashMap<CgroupId, Budget>,
    streams: HashMap<Stream, Open>,
    lost: Lost,
}

/// What one agent may still have recorded, and what was not.
#[derive(Default)]
struct Budget {
    second: u64,
    used: u32,
    dropped: u64,
}

impl Budget {
    /// Whether a call of this second may be recorded; counts it in any case.
    fn takes(&mut self, second: u64, per_second: u32) -> bool {
        if second != self.second {
            (self.second, self.used) = (second, 0);
        }
        let takes = self.used < per_second;
        self.used += u32::from(takes);
        self.dropped += u64::from(!takes);
        takes
    }
}

impl Writer {
    fn new(around: Surroundings, per_second: u32) -> Self {
        Self {
            around,
            free_text: FreeText::default(),
            per_second,
            agents: HashMap::new(),
            streams: HashMap::new(),
            lost: Lost::default(),
        }
    }

    fn observed(&mut self, observed: &Observed<'_>) {
        let stream = (observed.process, observed.connection, observed.direction == Direction::Sent);
        let mut open = self.streams.remove(&stream);
        // Only enrolled cgroups come here, so these are as many at most.
        let budget = self.agents.entry(observed.enrolled).or_default();
        let text = if budget.takes(observed.at_ns / 1_000_000_000, self.per_second) {
            let masked = self.free_text.mask(observed.plaintext, observed.truncated(), &mut open);
            Some(masked)
        } else {
            // What is not looked at may begin a secret.
            open.get_or_insert(Open::Word);
            None
        };
        if let Some(open) = open {
            if self.streams.len() >= STREAMS_MAX {
                self.streams.clear();
            }
            self.streams.insert(stream, open);
        }
        if let Some(text) = text
            && !self.record("tls.observed", &self.detail(observed, text.as_deref()))
        {
            let budget = self.agents.entry(observed.enrolled).or_default();
            budget.dropped += 1;
        }
    }

    fn detail(&self, observed: &Observed<'_>, text: Option<&str>) -> Value {
        let Observed { at_ns, process, thread, enrolled, connection, direction, bytes, .. } =
            observed;
        let agent = self.around.enrollments.get(*enrolled);
        json!({
            "observed_only": true,
            "agent": agent.as_ref().map(|agent| agent.agent.as_str()),
            "instance": agent.as_ref().map(|agent| &*agent.instance),
            "cgroup": enrolled.0,
            "tgid": process.tgid,
            "start_ns": process.start_ns,
            "tid": thread,
            "connection": format!("{connection:x}"),
            "mono_ns": at_ns,
            "direction": direction.as_str(),
            "bytes": bytes,
            "truncated": observed.truncated(),
            "binary": text.is_none(),
            "text": text,
        })
    }

    fn changed(&mut self, change: &Change) {
        match change {
            Change::Attached(path) => {
                info!(?path, "library tapped");
                self.record("tls.tap.attached", &json!({ "library": path }));
            }
            Change::Detached(path) => {
                self.record("tls.tap.detached", &json!({ "library": path }));
            }
            Change::Failed(path, error) => {
                warn!(?path, %error, "library not tapped");
                let detail = json!({ "library": path, "reason": error.to_string() });
                self.record("tls.tap.failed", &detail);
            }
        }
    }

    /// Records what was not recorded since the last time, and forgets agents that have ended.
    fn sum_up(&mut self, lost: Lost) {
        let before = std::mem::replace(&mut self.lost, lost);
        if lost != before {
            let (ring, calls) = (lost.ring - before.ring, lost.calls - before.calls);
            self.record(
                "tls.lost",
                &json!({ "for_want_of_ring": ring, "for_want_of_calls": calls }),
            );
        }
        let mut agents = std::mem::take(&mut self.agents);
        for (cgroup, budget) in agents.iter_mut().filter(|(_, budget)| budget.dropped > 0) {
            let agent = self.around.enrollments.get(*cgroup);
            let agent = agent.as_ref().map(|agent| agent.agent.as_str());
            let detail = json!({ "agent": agent, "cgroup": cgroup.0, "dropped": budget.dropped });
            if self.record("tls.dropped", &detail) {
                budget.dropped = 0;
            }
        }
        agents.retain(|cgroup, _| self.around.enrollments.get(*cgroup).is_some());
        self.agents = agents;
    }

    /// Appends a record without waiting; false where the journal has no room for what only was
    /// observed.
    fn record(&self, kind: &str, detail: &Value) -> bool {
        let Surroundings { recorder, clock, .. } = &self.around;
        let detail = detail.to_string();
        let control = Control { at: clock.now(), kind, detail: &detail };
        recorder.health() == Health::Open && recorder.try_append(Frame::Control(control)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn what_is_too_much_for_a_second_is_counted() {
        let mut budget = Budget::default();
        let taken = [1, 1, 1, 2, 2, 2, 2].map(|second| budget.takes(second, 2));
        assert_eq!(taken, [true, true, false, true, true, false, false]);
        assert_eq!(budget.dropped, 3);
    }
}
