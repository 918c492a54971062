//! Secrets in a vault: HashiCorp Vault's HTTP API, KV version 2, as Vault and `OpenBao` serve it.
//!
//! A secret is read when a session first needs it and kept for a bounded time. While it is in use it is
//! read again before that time is over; what is not used is forgotten when it is. A vault that can't be
//! reached costs nothing until then; after that there is no secret, and nobody gets in with it.

mod reader;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};
use types::secret::Secret;

use self::reader::{Answer, Reader};
use super::Source;
pub use super::http::HttpError;

/// How long a session waits for a secret: a login that is refused, another one, and two readings.
pub const PATIENCE: Duration = Duration::from_secs(4 * super::http::PATIENCE.as_secs() + 1);

/// How long after a failure a secret that is still good is read again.
const RETRY: Duration = Duration::from_secs(1);

/// Where a vault is and how the daemon proves itself to it.
#[derive(Clone, Debug)]
pub struct VaultRules {
    /// `https://HOST:PORT`; `http` on loopback alone.
    pub address: String,
    /// The authorities that may have signed its certificate, PEM; the system's where absent.
    pub ca: Option<PathBuf>,
    /// The namespace, where the vault has any.
    pub namespace: Option<String>,
    /// How the daemon proves itself.
    pub auth: Auth,
    /// How long a secret is kept at most.
    pub cache: Duration,
}

/// How the daemon proves itself to a vault.
#[derive(Clone, Debug)]
pub enum Auth {
    /// By a token that others keep alive; read again when it changes.
    Token(Source),
    /// By a role of the daemon's.
    AppRole {
        /// Where the method is mounted; `approle`.
        mount: String,
        /// Which role.
        role_id: String,
        /// What proves it.
        secret_id: Source,
    },
}

/// A vault; a thread of its own reads from it.
#[derive(Debug)]
pub struct Vault {
    secrets: UnboundedSender<Arc<Kept>>,
}

/// One secret in a vault.
pub struct Kept {
    /// `MOUNT/data/PATH`.
    path: String,
    key: String,
    wanted: Notify,
    state: Mutex<State>,
    attempted: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    /// Readings that brought another secret.
    readings: u64,
    attempts: u64,
    failure: String,
    /// Whether it was asked for since it was read.
    used: bool,
}

#[derive(Debug)]
struct Held {
    secret: Arc<Secret<Vec<u8>>>,
    reading: u64,
    until: Instant,
}

/// Why a vault's secret is none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The vault itself.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A name that has no place in a path.
    #[error("`{0}`: letters, digits and `-_.~` between single slashes")]
    Name(String),
    /// No thread to read with.
    #[error("no thread: {0}")]
    Thread(#[from] io::Error),
    /// A header that can't be sent.
    #[error("the namespace can't be sent")]
    Namespace,
}

impl Vault {
    /// Starts a thread that reads from a vault what [`Vault::secret`] names; nothing is read yet.
    ///
    /// # Errors
    /// If the rules make no sense, or the thread can't be started.
    pub fn start(rules: VaultRules) -> Result<Self, VaultError> {
        if let Auth::AppRole { mount, .. } = &rules.auth {
            named(mount)?;
        }
        let reader = Reader::new(rules)?;
        let (secrets, to_keep) = unbounded_channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let work = move || {
            LocalSet::new().block_on(&runtime, attend(Rc::new(reader), to_keep));
        };
        thread::Builder::new().name("vault".into()).spawn(work)?;
        Ok(Self { secrets })
    }

    /// The field `key` of the secret at `path` of the engine mounted at `mount`.
    ///
    /// # Errors
    /// If a name has no place in a path.
    pub fn secret(&self, mount: &str, path: &str, key: &str) -> Result<Arc<Kept>, VaultError> {
        let path = format!("{}/data/{}", named(mount)?, named(path)?);
        let kept = Arc::new(Kept {
            path,
            key: key.to_owned(),
            wanted: Notify::new(),
            state: Mutex::default(),
            attempted: Condvar::new(),
        });
        // The thread ends when nobody is left to send.
        drop(self.secrets.send(Arc::clone(&kept)));
        Ok(kept)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Kept {
    /// Has it read soon, where it is not held.
    pub(super) fn want(&self) {
        self.wanted.notify_one();
    }

    /// The secret and the number of the reading that brought it; waits for the vault where it is not
    /// held. For threads that may block.
    pub(super) fn get(&self) -> io::Result<(Arc<Secret<Vec<u8>>>, u64)> {
        let mut state = self.state();
        state.used = true;
        if state.fresh().is_none() {
            let attempts = state.attempts;
            self.wanted.notify_one();
            let waited = self
                .attempted
                .wait_timeout_while(state, PATIENCE, |state| state.attempts == attempts);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let failed = || {
            let why = if state.failure.is_empty() { "no answer" } else { state.failure.as_str() };
            io::Error::other(format!("the vault's secret {}: {why}", self.path))
        };
        let held = state.fresh().ok_or_else(failed)?;
        Ok((Arc::clone(&held.secret), held.reading))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a reading brought; how long it is good, if it brought anything.
    fn take(&self, answer: Result<Answer, reader::Why>) -> Option<Duration> {
        let mut state = self.state();
        state.attempts += 1;
        let taken = match answer {
            Ok(Answer { secret, version, good_for }) => {
                let until = Instant::now() + good_for;
                let is_same =
                    state.held.as_ref().is_some_and(|held| held.secret.expose() == secret.expose());
                if let Some(held) = state.held.as_mut().filter(|_| is_same) {
                    held.until = until;
                } else {
                    info!(secret = self.path, version, "read from the vault");
                    state.readings += 1;
                    let reading = state.readings;
                    state.held = Some(Held { secret: Arc::new(secret), reading, until });
                }
                (state.used, state.failure) = (false, String::new());
                Some(good_for)
            }
            Err(why) => {
                let is_held = state.fresh().is_some();
                warn!(secret = self.path, error = %why, is_held, "a vault's secret can't be read");
                state.failure = why.to_string();
                None
            }
        };
        self.attempted.notify_all();
        taken
    }

    /// Reads it and keeps it while it is in use.
    async fn keep(&self, reader: &Reader) {
        loop {
            let good_for = self.take(reader.read(&self.path, &self.key).await);
            let Some(until) = self.state().fresh().map(|held| held.until) else { break };
            sleep(good_for.map_or(RETRY, |time| time * 2 / 3)).await;
            if !self.state().used && good_for.is_some() {
                sleep_until(until).await;
                break;
            }
        }
        // Zeroed, once the last login that has it ends.
        self.state().held = None;
    }
}

impl State {
    fn fresh(&self) -> Option<&Held> {
        self.held.as_ref().filter(|held| Instant::now() < held.until)
    }
}

/// Reads secrets as they are wanted, each in its own time.
async fn attend(reader: Rc<Reader>, mut to_keep: UnboundedReceiver<Arc<Kept>>) {
    while let Some(kept) = to_keep.recv().await {
        let reader = Rc::clone(&reader);
        drop(spawn_local(async move {
            loop {
                kept.wanted.notified().await;
                kept.keep(&reader).await;
            }
        }));
    }
    // Those that are known are kept for as long as the daemon runs.
    std::future::pending::<()>().await;
}

/// A name as it stands in a path.
fn named(name: &str) -> Result<&str, VaultError> {
    let is_part = |part: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
        !matches!(part, "" | "." | "..") && part.bytes().all(good)
    };
    if name.split('/').all(is_part) { Ok(name) } else { Err(VaultError::Name(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_their_path() {
        for (name, good) in [
            ("secret", true),
            ("bank/app-1.x_y~z", true),
            ("", false),
            ("/a", false),
            ("a//b", false),
            ("a/../b", false),
            ("a?b", false),
            ("a b", false),
            ("a%2fb", false),
        ] {
            assert_eq!(named(name).is_ok(), good, "{name}");
        }
    }
}
