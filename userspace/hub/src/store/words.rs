//! What those who wait are told: each that which it waits for, however many wait for something else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::protocol::VoteId;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Hosts told how requests stand.
    Standings,
    /// There are votes for a node.
    Votes(String),
    /// These have an outcome.
    Settled(Vec<VoteId>),
    /// Whatever: nobody knows what was missed.
    Anything,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Awaited {
    /// Votes for a node.
    Votes(String),
    /// A vote's outcome.
    Settled(VoteId),
}

/// Tells those who wait; as many as there are connections.
#[derive(Clone, Debug)]
pub(crate) struct Bell {
    waiting: Arc<Mutex<Waiting>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Waiting {
    of: HashMap<Awaited, Vec<(u64, Arc<Notify>)>>,
    /// The last number given to one who waits.
    last: u64,
}

/// One who waits, from its making on.
#[derive(Debug)]
pub(crate) struct Waiter {
    awaited: Awaited,
    number: u64,
    notify: Arc<Notify>,
    waiting: Arc<Mutex<Waiting>>,
}

impl Default for Bell {
    fn default() -> Self {
        Self { waiting: Arc::default(), changed: watch::channel(1).0 }
    }
}

impl Bell {
    /// Tells it.
    pub(crate) fn tell(&self, word: &Word) {
        let waiting = lock(&self.waiting);
        let ring = |awaited: &Awaited| {
            let of = waiting.of.get(awaited).into_iter().flatten();
            of.for_each(|(_, notify)| notify.notify_one());
        };
        match word {
            Word::Standings => {}
            Word::Votes(node) => ring(&Awaited::Votes(node.clone())),
            Word::Settled(ids) => ids.iter().for_each(|id| ring(&Awaited::Settled(*id))),
            Word::Anything => {
                waiting.of.values().flatten().for_each(|(_, notify)| notify.notify_one());
            }
        }
        drop(waiting);
        self.changed.send_modify(|number| *number = number.wrapping_add(1));
    }

    /// One who is told from now on.
    pub(crate) fn wait_for(&self, awaited: Awaited) -> Waiter {
        let mut waiting = lock(&self.waiting);
        waiting.last = waiting.last.wrapping_add(1);
        let (number, notify) = (waiting.last, Arc::new(Notify::new()));
        waiting.of.entry(awaited.clone()).or_default().push((number, Arc::clone(&notify)));
        Waiter { awaited, number, notify, waiting: Arc::clone(&self.waiting) }
    }

    /// A number that grows with every word.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl Waiter {
    /// Completes once it was told since it last did.
    pub(crate) async fn told(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = lock(&self.waiting);
        if let Some(of) = waiting.of.get_mut(&self.awaited) {
            of.retain(|(number, _)| *number != self.number);
            if of.is_empty() {
                waiting.of.remove(&self.awaited);
            }
        }
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    // No code that can panic leaves a half of anything under it.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Word {
    /// As it is sent between hubs.
    #[cfg(test)]
    pub(crate) fn written(&self) -> String {
        match self {
            Self::Standings => "r".into(),
            Self::Votes(node) => format!("v{node}"),
            Self::Settled(ids) => {
                let ids: Vec<String> = ids.iter().map(|id| id.0.to_string()).collect();
                format!("s{}", ids.join(","))
            }
            Self::Anything => String::new(),
        }
    }

    /// What another hub said.
    pub(crate) fn read(text: &str) -> Self {
        let known = match text.split_at_checked(1) {
            Some(("r", "")) => Some(Self::Standings),
            Some(("v", node)) => Some(Self::Votes(node.to_owned())),
            Some(("s", ids)) => {
                let ids = ids.split(',').map(|id| id.parse().map(VoteId));
                ids.collect::<Result<_, _>>().ok().map(Self::Settled)
            }
            _ => None,
        };
        known.unwrap_or(Self::Anything)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for word in [
            Word::Standings,
            Word::Votes("db-1.bank.example".into()),
            Word::Settled(vec![VoteId(1), VoteId(u64::MAX)]),
            Word::Anything,
        ] {
            assert_eq!(Word::read(&word.written()), word);
        }
        assert_eq!(Word::read("s1,x"), Word::Anything);
    }

    #[test]
    fn who_waits_is_told_what_it_waits_for_and_forgotten_after() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().unwrap();
        runtime.block_on(async {
            let bell = Bell::default();
            let (one, other) = (
                bell.wait_for(Awaited::Settled(VoteId(1))),
                bell.wait_for(Awaited::Votes("a".into())),
            );
            let soon = std::time::Duration::from_millis(50);
            let is_told =
                async |waiter: &Waiter| tokio::time::timeout(soon, waiter.told()).await.is_ok();
            bell.tell(&Word::Settled(vec![VoteId(1), VoteId(2)]));
            assert!(is_told(&one).await && !is_told(&one).await && !is_told(&other).await);
            bell.tell(&Word::Votes("b".into()));
            bell.tell(&Word::Standings);
            assert!(!is_told(&other).await);
            bell.tell(&Word::Anything);
            assert!(is_told(&one).await && is_told(&other).await);
            drop((one, other));
            assert!(lock(&bell.waiting).of.is_empty());
        });
    }
}
