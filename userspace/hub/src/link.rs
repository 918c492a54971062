//! A host's link to its hubs: it tells how requests stand, and takes what people answered there.
//!
//! One hub at a time, the next where that one fails. What has to be told is a set of requests, not a list of
//! events: however long no hub was to be had, each is told once, as it stands then.

mod backlog;
mod tries;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use approval::book::Book;
use approval::desk::{DeskError, Later};
use approval::vote::Voted;
use approval::{Ending, Event, Vote, VoteError};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use types::clock::Clock;
use types::id::RequestId;

use crate::client::{Address, ClientError, Credentials, Line};
use crate::protocol::{
    Due, DueVote, Hello, Known, Outcome, Outcomes, Settled, Standings, Wanted, progress,
};
use backlog::Backlog;
use tries::Tries;

/// How often a hub is told what waits, whatever happens: it knows then that the host is there.
const HELLO_INTERVAL: Duration = Duration::from_secs(20);

/// How long a hub is asked to wait for votes, in seconds.
const WAIT_S: u64 = 20;

/// A connection that held for so long was a good one.
const GOOD: Duration = Duration::from_secs(5);

/// The host's end: its book of requests.
pub trait Host: Send + Sync {
    /// What is applied to the book from now on.
    fn events(&self) -> broadcast::Receiver<Arc<Event>>;

    /// Looks into the book.
    fn look(&self, look: &mut dyn FnMut(&Book));

    /// Takes votes in turn, and answers what becomes of each; what follows from them is durable when this answers.
    fn votes(&self, votes: Vec<(RequestId, Vote)>) -> Later<'_, Result<Vec<Outcome>, DeskError>>;

    /// Writes a control record.
    fn record(&self, kind: &'static str, detail: &str);
}

/// Where the hubs are, and who the host is to them.
#[derive(Clone, Debug)]
pub struct LinkRules {
    /// The node's name.
    pub node: String,
    /// At least one.
    pub hubs: Vec<Address>,
    /// Its certificate.
    pub credentials: Credentials,
}

/// The link.
pub struct Link {
    rules: LinkRules,
    host: Arc<dyn Host>,
    clock: Arc<dyn Clock>,
    status: Mutex<LinkStatus>,
}

/// How the link is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The hub's address, while connected.
    pub hub: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Since when it is so or not, microseconds since 1970 UTC.
    pub since_us: i64,
    /// Requests whose state the hub was not told yet.
    pub backlog: usize,
    /// Votes taken from hubs since the start.
    pub votes: u64,
    /// Why the last connection ended or could not be made.
    pub error: Option<String>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Link {
    /// Connects nowhere yet.
    pub fn new(rules: LinkRules, host: Arc<dyn Host>, clock: Arc<dyn Clock>) -> Self {
        let since_us = clock.now().unix_us;
        let status = Mutex::new(LinkStatus { since_us, ..LinkStatus::default() });
        Self { rules, host, clock, status }
    }

    /// How it is.
    pub fn status(&self) -> LinkStatus {
        self.lock().clone()
    }

    /// Stays connected for as long as the runtime runs.
    pub async fn run(&self) {
        let mut backlog = Backlog::new(self.host.as_ref());
        let mut tries = Tries::new(self.rules.hubs.len());
        // Why there is none, and whether that is recorded.
        let (mut lost, mut is_recorded) = (None::<Lost>, false);
        loop {
            tokio::time::sleep(tries.delay()).await;
            let Some(address) = self.rules.hubs.get(tries.at()) else { return };
            let error = match self.connect(address, &mut backlog).await {
                Ok(lines) => {
                    self.connected(address, &lines.name, lost.take());
                    is_recorded = false;
                    let since = Instant::now();
                    let error = self.exchange(lines, &mut backlog).await;
                    if since.elapsed() >= GOOD {
                        tries.good();
                    }
                    error
                }
                Err(error) => error,
            };
            debug!(hub = address.url, %error, "the hub can't be reached");
            tries.failed();
            let first = Lost { hub: address.url.clone(), error: error.to_string() };
            let first = lost.get_or_insert(first);
            self.lost(&error, backlog.len());
            if tries.all_failed() && !is_recorded {
                warn!(hub = first.hub, error = first.error, "no hub can be reached");
                self.host.record("hub.lost", &written(&first));
                is_recorded = true;
            }
        }
    }

    async fn connect(
        &self,
        address: &Address,
        backlog: &mut Backlog,
    ) -> Result<Lines, ClientError> {
        let LinkRules { node, hubs: _, credentials } = &self.rules;
        let mut push = Line::open(address, credentials, node).await?;
        let pull = Line::open(address, credentials, node).await?;
        backlog.catch_up(self.host.as_ref());
        let name = self.hello(&mut push, backlog).await?;
        Ok(Lines { push, pull, name })
    }

    /// Tells what waits; what the hub does not have goes into the backlog.
    async fn hello(&self, line: &mut Line, backlog: &mut Backlog) -> Result<String, ClientError> {
        let mut hello = Hello { at_us: self.clock.now().unix_us, waiting: Vec::new() };
        self.host.look(&mut |book| {
            let known = book.all_waiting().map(|standing| {
                let (id, progress) = (standing.request.id, progress(standing));
                Known { id, progress }
            });
            hello.waiting = known.collect();
        });
        let Wanted { hub, requests } = line.ask("hello", &hello).await?;
        backlog.want(requests);
        Ok(hub)
    }

    /// Speaks with a hub until that fails.
    async fn exchange(&self, lines: Lines, backlog: &mut Backlog) -> ClientError {
        let Lines { push, pull, name } = lines;
        tokio::select! {
            error = self.push(push, backlog) => error,
            error = self.pull(pull, &name) => error,
        }
    }

    async fn push(&self, mut line: Line, backlog: &mut Backlog) -> ClientError {
        let mut hello = tokio::time::interval(HELLO_INTERVAL);
        hello.reset();
        loop {
            let told = async {
                while let Some(standings) = backlog.next(self.host.as_ref()) {
                    line.post("standings", &Standings { standings }).await?;
                    backlog.told();
                    self.lock().backlog = backlog.len();
                }
                Ok(())
            };
            if let Err(error) = told.await {
                return error;
            }
            tokio::select! {
                () = backlog.more(self.host.as_ref()) => {}
                _ = hello.tick() => if let Err(error) = self.hello(&mut line, backlog).await {
                    return error;
                },
            }
        }
    }

    async fn pull(&self, mut line: Line, hub: &str) -> ClientError {
        let what = format!("votes?wait_s={WAIT_S}");
        loop {
            let due = line.get(&what, Duration::from_secs(WAIT_S)).await;
            let Due { votes } = match due {
                Ok(due) => due,
                Err(error) => return error,
            };
            if votes.is_empty() {
                continue;
            }
            let outcomes = match self.take(votes, hub).await {
                Ok(outcomes) => outcomes,
                // Its journal: the votes stay at the hub.
                Err(error) => return ClientError::Host(error.to_string()),
            };
            if let Err(error) = line.post("outcomes", &Outcomes { outcomes }).await {
                return error;
            }
        }
    }

    /// Takes votes as the host's own desk would.
    async fn take(&self, due: Vec<DueVote>, hub: &str) -> Result<Vec<Settled>, DeskError> {
        // What counts is when it came here: a hub's clock makes no late vote an early one.
        let at_us = self.clock.now().unix_us;
        let (mut ids, mut votes) = (Vec::new(), Vec::new());
        for DueVote { id, request, mut vote } in due {
            vote.way = format!("hub:{}", vote.way);
            vote.from = format!("{} by {hub}", vote.from);
            vote.at_us = at_us;
            ids.push(id);
            votes.push((request, vote));
        }
        let outcomes = self.host.votes(votes.clone()).await?;
        let mut settled = Vec::with_capacity(ids.len());
        for ((id, (request, vote)), outcome) in ids.into_iter().zip(votes).zip(outcomes) {
            let outcome = match outcome {
                Ok(Voted::Already) => Ok(self.told_before(request, &vote)),
                // Its journal takes nothing: the vote stays at the hub.
                Err(VoteError::NotRecorded(why)) => return Err(DeskError(why)),
                outcome => outcome,
            };
            settled.push(Settled { id, outcome });
        }
        let mut status = self.lock();
        let taken = u64::try_from(settled.len()).unwrap_or(u64::MAX);
        status.votes = status.votes.wrapping_add(taken);
        drop(status);
        Ok(settled)
    }

    /// What a vote that came before led to, where this is the same vote once more: its outcome never reached a hub.
    fn told_before(&self, id: RequestId, again: &Vote) -> Voted {
        let mut led_to = Voted::Already;
        self.host.look(&mut |book| {
            let Some(standing) = book.standing(id) else { return };
            let same = approval::four_eyes::same_person;
            let mut votes = standing.votes.iter();
            let before = votes.find(|before| same(&before.approver, &again.approver));
            if before.is_some_and(|before| before.way == again.way && before.reason == again.reason)
            {
                led_to = match standing.ended.as_ref().map(|over| over.how) {
                    Some(Ending::Granted) => Voted::Granted,
                    Some(Ending::Refused) => Voted::Refused,
                    _ => Voted::Counted,
                };
            }
        });
        led_to
    }

    fn connected(&self, address: &Address, name: &str, lost: Option<Lost>) {
        info!(hub = address.url, name, "connected to the hub");
        let detail = Reached { hub: address.url.clone(), name: name.to_owned(), lost };
        self.host.record("hub.connected", &written(&detail));
        let mut status = self.lock();
        status.hub = Some(address.url.clone());
        status.name = Some(name.to_owned());
        status.since_us = self.clock.now().unix_us;
        status.error = None;
    }

    fn lost(&self, error: &ClientError, backlog: usize) {
        let mut status = self.lock();
        if status.hub.take().is_some() {
            status.since_us = self.clock.now().unix_us;
        }
        status.name = None;
        status.backlog = backlog;
        status.error = Some(error.to_string());
    }

    fn lock(&self) -> MutexGuard<'_, LinkStatus> {
        // Its fields are set one by one; each stands for itself.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two connections to one hub: what is told does not wait for what is asked.
struct Lines {
    push: Line,
    pull: Line,
    name: String,
}

/// Why a hub was lost.
#[derive(Clone, Debug, Serialize)]
struct Lost {
    hub: String,
    error: String,
}

/// Which hub was reached.
#[derive(Debug, Serialize)]
struct Reached {
    hub: String,
    name: String,
    /// Which one was lost before.
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<Lost>,
}

fn written(detail: &impl Serialize) -> String {
    // Strings: nothing of it can't be JSON.
    serde_json::to_string(detail).unwrap_or_default()
}
