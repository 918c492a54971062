//! One thread writes: what came while the disk was busy becomes durable together.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use redb::{Database, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use crate::store::StoreError;

/// What waits for the thread: as many as connections that a hub has at once, about 16 MiB of standings at the most
/// usual size.
const WAITING_MAX: usize = 1_024;

/// What becomes durable together: a transaction of about a megabyte.
const TOGETHER_MAX: usize = 256;

/// Does its part of a transaction; what it answers is called when that is durable or has failed.
type Job = Box<dyn FnOnce(&WriteTransaction) -> Answer + Send>;

type Answer = Box<dyn FnOnce(Result<(), String>) + Send>;

/// Where changes go; the thread ends with it, and lets go of the file.
#[derive(Debug)]
pub(super) struct Committer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the thread; `settled` hears of every transaction whether it is durable, before anybody is answered.
    pub(super) fn start(database: Arc<Database>, settled: impl Fn(bool) + Send + 'static) -> Self {
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let thread = thread::spawn(move || write(&database, waiting, settled));
        Self { jobs: Some(jobs), thread: Some(thread) }
    }

    /// Does `change` in a transaction; it is durable when this answers.
    ///
    /// # Errors
    /// If it fails, or the disk does.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |transaction| {
            let changed = change(transaction);
            Box::new(move |durable| {
                let answer = durable.map_err(failed).and(changed);
                // Who asked may have gone.
                drop(sender.send(answer));
            })
        });
        let jobs = self.jobs.as_ref().ok_or(StoreError::Closed)?;
        jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        receiver.await.unwrap_or(Err(StoreError::Closed))
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.jobs = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("what writes the hub's file panicked");
        }
    }
}

fn failed(why: String) -> StoreError {
    StoreError::File(Box::new(redb::Error::Io(std::io::Error::other(why))))
}

fn write(database: &Database, mut jobs: mpsc::Receiver<Job>, settled: impl Fn(bool)) {
    while let Some(first) = jobs.blocking_recv() {
        let transaction = match database.begin_write() {
            Ok(transaction) => transaction,
            Err(error) => {
                tracing::error!(%error, "the hub's file can't be written");
                // Dropped unanswered: whoever waits is told that the hub can't.
                continue;
            }
        };
        let mut answers = vec![first(&transaction)];
        while answers.len() < TOGETHER_MAX
            && let Ok(job) = jobs.try_recv()
        {
            answers.push(job(&transaction));
        }
        let committed = transaction.commit().map_err(|error| {
            tracing::error!(%error, "the hub's file can't be written");
            error.to_string()
        });
        settled(committed.is_ok());
        for answer in answers {
            answer(committed.clone());
        }
    }
}
