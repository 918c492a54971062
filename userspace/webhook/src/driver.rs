//! Sends what is due: a loop for each hook, so that one that hangs keeps no other waiting.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use approval::control::{Delivery, HookStanding};
use approval::desk::Standing;
use approval::event::Event;
use journal::recorder::Recorder;
use tokio::sync::watch;
use tracing::{info, warn};
use types::clock::Clock;

use crate::notice::Notice;
use crate::queue::{Attempt, Failure, HOOKS_RECORD, Hooks, Next, Queue};
use crate::sender::{Hook, HookError, Sender};

/// The longest sleep: the wall's clock, which waits are counted by, may be set.
const SLEEP_MAX: Duration = Duration::from_mins(1);

/// How long after a failure of the journal it is looked at again.
const JOURNAL_PATIENCE: Duration = Duration::from_secs(5);

/// All webhooks of a host.
pub struct Webhooks {
    senders: Vec<Sender>,
    queue: Mutex<Queue>,
    changed: watch::Sender<()>,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
}

impl Webhooks {
    /// Takes up what is due by the records of before; writes down which hooks there are.
    ///
    /// # Errors
    /// If a hook can't be used, or nothing can be written.
    pub fn open(
        hooks: Vec<Hook>,
        queue: Queue,
        recorder: Recorder,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, HookError> {
        let senders = hooks.into_iter().map(Sender::new).collect::<Result<Vec<_>, _>>()?;
        let own = Self {
            senders,
            queue: Mutex::new(queue),
            changed: watch::Sender::new(()),
            recorder,
            clock,
        };
        own.name()?;
        Ok(own)
    }

    /// Writes down which hooks there are; to be called each hour.
    ///
    /// # Errors
    /// If nothing can be written.
    pub fn name(&self) -> Result<(), HookError> {
        if self.senders.is_empty() {
            return Ok(());
        }
        let hooks: Vec<_> = self.senders.iter().map(|one| Arc::clone(&one.hook().name)).collect();
        let mut queue = self.queue();
        queue.name(&hooks, self.clock.now().unix_us);
        let record = Hooks { hooks, due: queue.due() };
        // Under the lock: what follows from here on stands behind it.
        self.recorder.control(HOOKS_RECORD, &record.record())?;
        Ok(())
    }

    /// Takes what happened to a request that stands so now.
    pub fn follow(&self, event: &Event, standing: &Standing) {
        let dropped = self.queue().follow(event, standing);
        self.give_up(&dropped);
        self.changed.send_replace(());
    }

    /// Takes all that happened to a request which stands so, where events were missed.
    pub fn follow_all(&self, standing: &Standing) {
        let dropped = self.queue().follow_all(standing);
        self.give_up(&dropped);
        self.changed.send_replace(());
    }

    /// How many messages are due, to all hooks.
    pub fn due(&self) -> usize {
        self.queue().due()
    }

    /// How each hook stands, by name.
    pub fn standings(&self) -> Vec<HookStanding> {
        self.queue().standings()
    }

    /// What is due, and what was done last; at most `most` of each.
    pub fn deliveries(&self, most: usize) -> Vec<Delivery> {
        self.queue().deliveries(most)
    }

    /// The hooks.
    pub fn hooks(&self) -> impl Iterator<Item = &Hook> {
        self.senders.iter().map(Sender::hook)
    }

    /// Sends what is due to one of [`Webhooks::hooks`], until the runtime ends.
    pub async fn serve(self: Arc<Self>, at: usize) {
        let Some(sender) = self.senders.get(at) else { return };
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let next = self.queue().next(&sender.hook().name, self.clock.now().unix_us);
            match next {
                Next::Send(notice) => self.attempt(sender, &notice).await,
                Next::At(at_us) => {
                    let left_us = at_us.saturating_sub(self.clock.now().unix_us);
                    let left = Duration::from_micros(u64::try_from(left_us).unwrap_or(0));
                    let sleep = tokio::time::sleep(left.min(SLEEP_MAX));
                    tokio::select! {
                        () = sleep => {}
                        _ = changed.changed() => {}
                    }
                }
                Next::Nothing => drop(changed.changed().await),
            }
        }
    }

    async fn attempt(&self, sender: &Sender, notice: &Notice) {
        // What is told stands in the journal first.
        let recorder = self.recorder.clone();
        let settled = tokio::task::spawn_blocking(move || recorder.settle()).await;
        if !matches!(settled, Ok(Ok(()))) {
            warn!(hook = &*sender.hook().name, "the journal takes nothing: nothing is sent");
            tokio::time::sleep(JOURNAL_PATIENCE).await;
            return;
        }
        let outcome = sender.send(notice, self.clock.now().unix_us).await;
        self.judge(sender, notice, outcome.as_ref().copied());
    }

    fn judge(&self, sender: &Sender, notice: &Notice, outcome: Result<u16, &Failure>) {
        let (hook, now_us) = (&sender.hook().name, self.clock.now().unix_us);
        let mut queue = self.queue();
        let attempt = queue.judge((hook, notice), outcome, (now_us, random()));
        queue.rest(hook, outcome.err(), (now_us, random()));
        self.record(&attempt);
        queue.attempted(&attempt, now_us);
        drop(queue);
        match (&attempt.why, attempt.given_up) {
            (None, _) if notice.is_alert() => {
                info!(hook = &**hook, message = &*notice.id, "an alert is delivered");
            }
            (Some(why), true) => {
                let attempts = attempt.attempt;
                warn!(
                    hook = &**hook,
                    message = &*notice.id,
                    why,
                    attempts,
                    "a message is given up"
                );
            }
            // Once for each wait that is the longest: a receiver that is away does not fill the log.
            (Some(why), false) if attempt.attempt == 1 || notice.is_alert() => {
                warn!(hook = &**hook, message = &*notice.id, why, "a message is not delivered yet");
            }
            (None, _) | (Some(_), false) => {}
        }
    }

    fn give_up(&self, dropped: &[Attempt]) {
        for attempt in dropped {
            self.record(attempt);
            self.queue().attempted(attempt, self.clock.now().unix_us);
            let (hook, message) = (&*attempt.hook, &*attempt.message);
            warn!(hook, message, "a message is given up: too many are due");
        }
    }

    /// What is not written is sent again after a restart: receivers tell it by its id.
    fn record(&self, attempt: &Attempt) {
        if let Err(error) = self.recorder.control(attempt.record_kind(), &attempt.record()) {
            warn!(%error, hook = &*attempt.hook, "a delivery could not be recorded");
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // No code that can panic runs under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Spreads attempts; nobody's secret.
fn random() -> u64 {
    getrandom::u64().unwrap_or(0)
}
