//! This host's approval desk: what waits for people is kept over restarts as far as that can be, ends in time, and is
//! told to webhooks; who answers is known by a login or a token.

mod answer;
mod config;
mod desk;
mod past;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use approval::Book;
use approval::desk::Which;
use approval::event::Event;
use journal::recorder::Recorder;
use proxy::approvals::Approvals;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tracing::{info, warn};
use types::clock::Clock;
use webhook::{Hook, Queue, Webhooks};

pub(crate) use config::{ApprovalsRule, WebhookRule, check, hooks, places};
pub(crate) use desk::HostDesk;
use past::Past;
pub(crate) use past::reach;

/// How often requests are looked at that nobody answered in time.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is written down which hooks there are.
const HOOKS_INTERVAL: Duration = Duration::from_hours(1);

/// Standings that are looked at where events were missed: all that a book has.
const MISSED_MAX: usize = approval::book::WAITING_MAX + approval::book::OVER_KEPT;

/// The desk and those who hear of it.
pub(crate) struct HostApprovals {
    pub(crate) desk: Arc<HostDesk>,
    pub(crate) webhooks: Arc<Webhooks>,
    /// Whether a policy has commands wait.
    pub(crate) asks: bool,
}

impl HostApprovals {
    /// Goes on from what the journal has up to its frame `end`, which is durable; what waited when the daemon ended is over.
    pub(crate) fn resume(
        approvals: &Arc<Approvals>,
        (recorder, clock): (&Recorder, &Arc<dyn Clock>),
        (state_dir, journal_dir): (&Path, &Path),
        hooks: Vec<Hook>,
        asks: bool,
    ) -> Result<Self> {
        let heard = hooks.iter().map(|hook| (Arc::clone(&hook.name), hook.kinds.clone()));
        let queue = Queue::new(heard);
        let is_used = asks || !hooks.is_empty();
        let journal = (journal_dir, recorder.durable());
        let past = past::of(state_dir, journal, queue, clock.now(), is_used)?;
        let Past { mut book, mut queue, events } = past.unwrap_or_else(|(error, past)| {
            let error = format!("{error:#}");
            warn!(error, "what was approved before can't be read: it is asked for again");
            past
        });
        let ended = end_all(&mut book, &mut queue, recorder, clock.as_ref())?;
        if events > 0 {
            let grants = book.grants(clock.now().unix_us).count();
            info!(events, ended, grants, "approvals go on from the journal");
        }
        let webhooks = Webhooks::open(hooks, queue, recorder.clone(), Arc::clone(clock));
        let webhooks = Arc::new(webhooks.context("webhook")?);
        recorder.settle().context("approvals can't be recorded")?;
        approvals.restore(book);
        let desk = Arc::new(HostDesk::new(Arc::clone(approvals), recorder.clone()));
        Ok(Self { desk, webhooks, asks })
    }

    /// Follows what happens, until the runtime ends.
    pub(crate) async fn attend(self: Arc<Self>) {
        let mut hooks = JoinSet::new();
        for at in 0..self.webhooks.hooks().count() {
            hooks.spawn_local(Arc::clone(&self.webhooks).serve(at));
        }
        let named = async {
            let mut interval = tokio::time::interval(HOOKS_INTERVAL);
            interval.reset();
            loop {
                interval.tick().await;
                if let Err(error) = self.webhooks.name() {
                    warn!(%error, "which webhooks there are is not recorded");
                }
            }
        };
        tokio::join!(self.follow(), self.expire(), named, hooks.join_all());
    }

    /// Ends what nobody answered in time.
    async fn expire(&self) {
        let mut interval = tokio::time::interval(EXPIRY_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            if self.desk.approvals().with(Book::waiting) == 0 {
                continue;
            }
            let approvals = Arc::clone(self.desk.approvals());
            // The journal may have it wait.
            let expired = tokio::task::spawn_blocking(move || approvals.expire()).await;
            if let Ok(expired @ 1..) = expired {
                info!(expired, "requests for approval are over: nobody answered");
            }
        }
    }

    /// Tells webhooks, and the log of emergencies.
    async fn follow(&self) {
        let approvals = self.desk.approvals();
        let mut events = approvals.events();
        // Between the journal and here something may have happened.
        self.catch_up();
        loop {
            match events.recv().await {
                Ok(event) => self.heard(&event),
                Err(RecvError::Lagged(missed)) => {
                    warn!(missed, "events of approvals came too fast: the book is read again");
                    events = Receiver::resubscribe(&events);
                    self.catch_up();
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Reads the book again, one request at a time: their texts may be large.
    fn catch_up(&self) {
        let approvals = self.desk.approvals();
        let ids: Vec<_> = approvals.with(|book| {
            let all = book.look(Which::All, MISSED_MAX).into_iter();
            // The oldest first.
            all.rev().map(|standing| standing.request.id).collect()
        });
        for id in ids {
            approvals
                .with(|book| book.standing(id).map(|standing| self.webhooks.follow_all(standing)));
        }
    }

    fn heard(&self, event: &Event) {
        let id = event.request();
        self.desk.approvals().with(|book| {
            let Some(standing) = book.standing(id) else {
                warn!(%id, "a request is forgotten before it was told");
                return;
            };
            if let Event::Granted(grant) = event
                && grant.broken_glass
            {
                let (by, agent) = (grant.approvers.join(", "), &standing.request.requester.agent);
                let target = &standing.request.target.name;
                warn!(%id, by, agent, target, "break glass: let through by one person");
            }
            self.webhooks.follow(event, standing);
        });
    }
}

/// Ends what waited when the daemon ended: nobody is there for it any more. Answers how many those were.
fn end_all(
    book: &mut Book,
    queue: &mut Queue,
    recorder: &Recorder,
    clock: &dyn Clock,
) -> Result<usize> {
    let over = book.restarted(clock.now().unix_us);
    for event in &over {
        recorder.control(event.kind(), &event.record()).context("a request's end")?;
        book.apply(event);
        if let Some(standing) = book.standing(event.request()) {
            for given_up in queue.follow(event, standing) {
                recorder.control(given_up.record_kind(), &given_up.record())?;
            }
        }
    }
    Ok(over.len())
}
