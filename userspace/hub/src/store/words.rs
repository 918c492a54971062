//! What those who wait are told.

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};

use crate::protocol::VoteId;

/// Words that somebody who waits may be behind; whoever is further looks for itself.
const BEHIND_MAX: usize = 1_024;

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

/// Tells all who wait.
#[derive(Debug)]
pub(crate) struct Bell {
    words: broadcast::Sender<Word>,
    changed: watch::Sender<u64>,
}

/// What is told to one of them.
#[derive(Debug)]
pub(crate) struct Words(broadcast::Receiver<Word>);

impl Default for Bell {
    fn default() -> Self {
        Self { words: broadcast::channel(BEHIND_MAX).0, changed: watch::channel(1).0 }
    }
}

impl Bell {
    /// Tells it.
    pub(crate) fn tell(&self, word: Word) {
        // Nobody may be waiting.
        drop(self.words.send(word));
        self.changed.send_modify(|number| *number = number.wrapping_add(1));
    }

    /// What is told from now on.
    pub(crate) fn words(&self) -> Words {
        Words(self.words.subscribe())
    }

    /// A number that grows with every word.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl Words {
    /// Completes at a word that is meant; and where words were missed.
    pub(crate) async fn until(&mut self, is_meant: impl Fn(&Word) -> bool) {
        loop {
            match self.0.recv().await {
                Ok(word) if is_meant(&word) => break,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => break,
                // The bell is gone, and whoever waits goes with it.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
        // One look is enough for all that was said so far.
        while let Ok(_) | Err(TryRecvError::Lagged(_)) = self.0.try_recv() {}
    }
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
}
