//! What a hub was not told yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use approval::Event;
use approval::desk::Standing;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use types::id::RequestId;

use super::Host;
use crate::protocol::{STANDINGS_BYTES, STANDINGS_MAX};

/// Requests to tell of: at most as many as the book has, 14,096 × 16 B.
pub(super) struct Backlog {
    ids: BTreeSet<RequestId>,
    /// What is being told.
    under_way: Vec<RequestId>,
    events: broadcast::Receiver<Arc<Event>>,
}

impl Backlog {
    /// With all that the book has.
    pub(super) fn new(host: &dyn Host) -> Self {
        let events = host.events();
        let mut own = Self { ids: BTreeSet::new(), under_way: Vec::new(), events };
        own.want_all(host);
        own
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.ids.len() + self.under_way.len()
    }

    /// These too.
    pub(super) fn want(&mut self, ids: Vec<RequestId>) {
        self.ids.extend(ids);
    }

    /// Takes what happened while nobody listened; what was under way is not known to have arrived.
    pub(super) fn catch_up(&mut self, host: &dyn Host) {
        self.ids.extend(self.under_way.drain(..));
        loop {
            match self.events.try_recv() {
                Ok(event) => drop(self.ids.insert(request_of(&event))),
                Err(TryRecvError::Lagged(_)) => self.want_all(host),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// Completes when something happened.
    pub(super) async fn more(&mut self, host: &dyn Host) {
        match self.events.recv().await {
            Ok(event) => drop(self.ids.insert(request_of(&event))),
            Err(RecvError::Lagged(_)) => self.want_all(host),
            // Nothing happens any more.
            Err(RecvError::Closed) => std::future::pending().await,
        }
        self.catch_up(host);
    }

    /// How the next of them stand, the oldest first; `None` where all is told.
    pub(super) fn next(&mut self, host: &dyn Host) -> Option<Vec<Standing>> {
        self.catch_up(host);
        let mut standings = Vec::new();
        while standings.is_empty() && !self.ids.is_empty() {
            let mut bytes = 0;
            host.look(&mut |book| {
                while standings.len() < STANDINGS_MAX
                    && bytes < STANDINGS_BYTES
                    && let Some(id) = self.ids.pop_first()
                {
                    // What is over for long is in no book, and was told when it ended or is presumed over.
                    if let Some(standing) = book.standing(id) {
                        bytes += weight(standing);
                        standings.push(standing.clone());
                        self.under_way.push(id);
                    }
                }
            });
        }
        Some(standings).filter(|standings| !standings.is_empty())
    }

    /// What was under way arrived.
    pub(super) fn told(&mut self) {
        self.under_way.clear();
    }

    fn want_all(&mut self, host: &dyn Host) {
        host.look(&mut |book| {
            let all = book.all_waiting().chain(book.all_over());
            self.ids.extend(all.map(|standing| standing.request.id));
        });
    }
}

/// About how long it is as JSON, at the worst: six bytes for one.
fn weight(standing: &Standing) -> usize {
    let request = &standing.request;
    let parameters: usize = request.parameters.iter().map(String::len).sum();
    4_096 + 6 * (request.text.len() + parameters) + 2_048 * standing.votes.len()
}

fn request_of(event: &Event) -> RequestId {
    match event {
        Event::Requested(request) => request.id,
        Event::Voted { request, .. } | Event::Ended { request, .. } => *request,
        Event::Granted(grant) => grant.id,
        Event::Spent { grant, .. } => *grant,
    }
}
