//! Ephemeral roles: made at the target for one session, gone with it.
//!
//! The daemon makes one with a role of its own once policy has let the session in, and the session's first
//! byte waits for it. Its password is random and known to nobody else: the server is given a verifier.
//! What is made is dropped when its session ends ([`keeper`]); what a crash left, or a drop that failed, is
//! found by its prefix and its comment, which names the node that made it.

mod keeper;
mod places;
mod sql;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use journal::record::Lsn;
use proto::postgres::{KeysWanted, ScramKeys};
use serde_json::json;
use tokio::sync::Notify;
use tracing::{info, warn};
use types::id::{AgentName, SessionId};
use types::secret::Secret;

use self::places::{Place, Places};
use crate::cancels::Way;
use crate::catalog_reader::{Reached, Why, query};
use crate::credentials::{Loaded, Unusable};
use crate::door::Door;

pub use self::keeper::{finish, keep};

/// How long making a role may take: connecting (10 s at most), and the statements' own timeout.
const PATIENCE: Duration = Duration::from_secs(15);

/// Rounds of PBKDF2 for the verifier: PostgreSQL's own; the password has 256 random bits.
const ITERATIONS: u32 = 4_096;

/// The longest name (PostgreSQL's NAMEDATALEN less one).
const NAME_BYTES_MAX: usize = 63;

/// What of roles is made for sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EphemeralRule {
    /// Roles that are granted to it.
    pub grants: Vec<Arc<str>>,
    /// How long its password is good.
    pub valid: Duration,
    /// What its name begins with; 1 to 16 bytes.
    pub prefix: Arc<str>,
}

/// The roles that this daemon made and that are there still.
#[derive(Debug)]
pub struct Roles {
    /// This node's name, in comments.
    node: Arc<str>,
    /// As many as there are sessions, and those that are being dropped.
    known: Mutex<HashMap<Arc<str>, (Made, State)>>,
    ended: Notify,
    places: Places,
}

/// What becomes of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A session has it.
    Used,
    /// Its session ended.
    Ended,
    /// It is being dropped.
    Dropping,
}

/// A role that is made for a session, and dropped with this.
pub(crate) struct Guest {
    door: Arc<Door>,
    made: Made,
    /// What the session logs in with.
    loaded: Arc<Loaded>,
    maker: Arc<Loaded>,
    password: Secret<Vec<u8>>,
    salt: [u8; 16],
}

/// A role that may be at a server.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    role: Arc<str>,
    /// The session and its agent, where that is known still.
    whose: Option<(SessionId, AgentName)>,
    /// The network namespace that the server is reached from.
    netns_cookie: u64,
    place: Place,
    way: Way,
}

/// Whom a role is for, and where.
pub(crate) struct Wanted<'w> {
    pub(crate) agent: &'w AgentName,
    pub(crate) session: SessionId,
    pub(crate) netns_cookie: u64,
    pub(crate) target: &'w types::target::Target,
    pub(crate) database: &'w str,
    pub(crate) way: &'w Way,
}

impl Roles {
    /// None yet; `state` is the file in which is remembered where there were any.
    pub fn new(node: &str, state: PathBuf) -> Self {
        let (known, ended) = (Mutex::default(), Notify::new());
        Self { node: node.into(), known, ended, places: Places::new(state) }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Arc<str>, (Made, State)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
    /// Names a role for a session that `maker` is the credential of; it is not made yet.
    pub(crate) fn new(
        door: &Arc<Door>,
        maker: &Arc<Loaded>,
        rule: &EphemeralRule,
        wanted: &Wanted<'_>,
    ) -> Result<Self, Unusable> {
        let (mut random, mut salt) = ([0; 8], [0; 16]);
        let mut password = Secret::new(vec![0; 32]);
        getrandom::fill(&mut random).map_err(|_| Unusable)?;
        getrandom::fill(&mut salt).map_err(|_| Unusable)?;
        password.expose_mut(|bytes| getrandom::fill(bytes)).map_err(|_| Unusable)?;
        // Text without the signs that SASLprep changes.
        let text = Secret::new(types::hex::hex(password.expose()).into_bytes());
        let role = name(&rule.prefix, wanted.agent, random);
        let loaded = Arc::new(maker.guest(Arc::clone(&role), text.clone()));
        let server_name = match wanted.way {
            Way::Plain => None,
            Way::Tls(_, name) => Some(name.to_string()),
        };
        let place = Place {
            credential: maker.name().to_string(),
            target: wanted.target.name.to_string(),
            addr: wanted.target.addr.0,
            server_name,
            database: wanted.database.to_owned(),
        };
        let made = Made {
            role,
            whose: Some((wanted.session, wanted.agent.clone())),
            netns_cookie: wanted.netns_cookie,
            place,
            way: wanted.way.clone(),
        };
        let (door, maker) = (Arc::clone(door), Arc::clone(maker));
        Ok(Self { door, made, loaded, maker, password: text, salt })
    }

    /// What the session logs in with.
    pub(crate) fn loaded(&self) -> &Arc<Loaded> {
        &self.loaded
    }

    /// Makes the role; recorded durably before. It is dropped with this, whatever became of it.
    pub(crate) async fn make(self, rule: Arc<EphemeralRule>) -> Result<Self, Failed> {
        let made = self.made.clone();
        let work = self.make_at(&made, &rule);
        match tokio::time::timeout(PATIENCE, work).await.unwrap_or(Err(Why::Late)) {
            Ok(()) => {
                info!(role = %made.role, "a role is made");
                Ok(self)
            }
            Err(why) => {
                made.failed(&self.door, "create", &why);
                // Where the server did not say no, it may have made it.
                if !matches!(why, Why::Late | Why::Closed | Why::Socket(_)) {
                    self.door.roles.known().remove(&made.role);
                }
                Err(Failed)
            }
        }
    }

    async fn make_at(&self, made: &Made, rule: &EphemeralRule) -> Result<(), Why> {
        let door = &self.door;
        door.roles.known().insert(Arc::clone(&made.role), (made.clone(), State::Used));
        door.roles.places.remember(&made.place).map_err(Why::Secret)?;
        made.record(door, "role.create").await?;
        let (password, salt) = (self.password.clone(), self.salt);
        let derive = move || {
            let wanted = KeysWanted { salt: salt.into(), iterations: ITERATIONS };
            let keys = ScramKeys::derive(&password, &wanted);
            let verifier = keys.verifier(&wanted);
            (wanted, keys, verifier)
        };
        let derived = tokio::task::spawn_blocking(derive).await;
        let (wanted, keys, verifier) = derived.map_err(|_| Why::Random)?;
        // The server will ask for just these.
        self.loaded.keep(wanted, Arc::new(keys));
        let sql = sql::create(
            (&made.role, &verifier),
            rule,
            &sql::comment(&door.roles.node, &made.place.database),
        );
        query(door, made.reached(), Arc::clone(&self.maker), sql.expose()).await.map(drop)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let roles = &self.door.roles;
        // Nobody made it where policy refused the session.
        if let Some((_, state)) = roles.known().get_mut(&self.made.role) {
            *state = State::Ended;
            roles.ended.notify_one();
        }
    }
}

/// A role can't be made; the log and the records say why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed;

impl Made {
    /// One of nobody's.
    fn left(role: Arc<str>, place: Place, way: Way) -> Self {
        Self { role, whose: None, netns_cookie: 0, place, way }
    }

    fn reached(&self) -> Reached<'_> {
        Reached {
            netns_cookie: Some(self.netns_cookie),
            addr: self.place.addr,
            way: &self.way,
            database: &self.place.database,
        }
    }

    /// Records something of it and waits until that is durable.
    async fn record(&self, door: &Arc<Door>, kind: &'static str) -> Result<(), Why> {
        let unrecorded = |error: String| Why::Secret(std::io::Error::other(error));
        let lsn = self.note(door, kind, "").map_err(|error| unrecorded(error.to_string()))?;
        let recorder = door.recorder.clone();
        let waited = tokio::task::spawn_blocking(move || recorder.wait(lsn)).await;
        waited.map_err(|_| Why::Random)?.map_err(|error| unrecorded(error.to_string()))
    }

    fn failed(&self, door: &Door, what: &str, why: &Why) {
        let why = why.to_string();
        warn!(role = %self.role, target_name = self.place.target, what, why, "a role of a session's");
        if let Err(error) = self.note(door, "role.failed", &format!("{what}: {why}")) {
            warn!(%error, "not recorded");
        }
    }

    fn note(
        &self,
        door: &Door,
        kind: &'static str,
        reason: &str,
    ) -> Result<Lsn, journal::recorder::AppendError> {
        let detail = json!({
            "session_id": self.whose.as_ref().map(|(session, _)| session.to_string()),
            "agent": self.whose.as_ref().map(|(_, agent)| agent.as_str()),
            "target": self.place.target,
            "database": self.place.database,
            "role": &*self.role,
            "reason": reason,
        });
        door.recorder.control(kind, &detail.to_string())
    }
}

/// `PREFIX AGENT _ RANDOM`, at most 63 bytes of letters, digits and underscores.
fn name(prefix: &str, agent: &AgentName, random: [u8; 8]) -> Arc<str> {
    let random = types::hex::hex(&random);
    let room = NAME_BYTES_MAX.saturating_sub(prefix.len() + 1 + random.len());
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let agent: String = agent.as_str().chars().map(plain).take(room).collect();
    format!("{prefix}{agent}_{random}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_are_plain() {
        let agent: AgentName = "back-office.2".parse().unwrap();
        assert_eq!(&*name("vst_", &agent, [0xab; 8]), "vst_back_office_2_abababababababab");
        let long: AgentName = "a".repeat(63).parse().unwrap();
        assert_eq!(name("a_prefix_of_16__", &long, [1; 8]).len(), NAME_BYTES_MAX);
    }
}
