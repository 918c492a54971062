//! Everything a session needs of the node, in one place.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use identity::names::Names;
use identity::{Enrollments, Processes};
use journal::recorder::Recorder;
use mask::Masks;
use mask::blind::BlindKey;
use policy::PolicySet;
use proto::sql::Analyzer;
use recording::sealing::Sealing;
use tracing::warn;
use types::accepted::Accepted;
use types::clock::Clock;
use types::principal::Principal;
use types::redact::MaskRule;
use types::secret::Secret;

use crate::approvals::Approvals;
use crate::bearer::Bearers;
use crate::cancels::Cancels;
use crate::catalogs::Catalogs;
use crate::counters::Counters;
use crate::credentials::Credentials;
use crate::durability::Durability;
use crate::ephemeral::Roles;
use crate::flows::{Difference, Flows};
use crate::sessions::Sessions;
use crate::sparing::Sparing;
use crate::targets::Targets;
use crate::tls::AgentTls;
use crate::windows::Windows;

/// Where an accepted connection wanted to go, and who made it: the kernel's record.
pub trait OriginalDestination: Send + Sync {
    /// The record of the accepted socket `fd`, whose peer is `source`; an error where there is
    /// none, which refuses the connection.
    fn original_destination(&self, fd: BorrowedFd<'_>, source: SocketAddr) -> io::Result<Accepted>;
}

/// Who answers agents' connections to what is no target: on this host, by the daemon itself.
pub trait LocalService: Send + Sync {
    /// Takes over a connection that an agent made; answers whether it did.
    fn serve(&self, stream: TcpStream, accepted: Accepted, principal: Principal) -> bool;
}

/// The network namespaces that agents connect from: a target's address means what it means there.
pub trait Netns: Send + Sync {
    /// Whether the cookie is the namespace that this process is in.
    fn is_own(&self, cookie: u64) -> bool;

    /// Runs `work` on a thread inside the namespace and waits for it; an error where the namespace
    /// is gone.
    fn within(
        &self,
        cookie: u64,
        work: &mut (dyn FnMut() -> io::Result<()> + Send),
    ) -> io::Result<()>;
}

/// Different mask rule sets compiled and kept: one per distinct set of rules, so about one per
/// class of agents; 256 × about 1 MiB of lazy automata = 256 MiB at the very most.
const MASK_SETS_MAX: usize = 256;

/// What the sessions of a node share.
pub struct Door {
    /// The kernel's records.
    pub kernel: Arc<dyn OriginalDestination>,
    /// Where agents are.
    pub netns: Arc<dyn Netns>,
    /// Whether BPF LSM programs hold agents (assurance level A2).
    pub guarded: bool,
    /// Which cgroup is which agent.
    pub enrollments: Arc<Enrollments>,
    /// What is known of agents' processes.
    pub processes: Arc<Processes>,
    /// What agents may reach.
    pub targets: Targets,
    /// What they are shown where they ask for TLS.
    pub tls: AgentTls,
    /// What authenticates them there, where not they themselves.
    pub credentials: Credentials,
    /// Who verifies tokens that they give for passwords; nobody where no issuer counts.
    pub bearers: Option<Arc<dyn Bearers>>,
    /// Roles that are made for their sessions.
    pub roles: Roles,
    /// What they may cancel.
    pub cancels: Arc<Cancels>,
    /// Their open sessions.
    pub sessions: Sessions,
    /// What they used of limits over windows.
    pub windows: Windows,
    /// What they may do there.
    pub policy: Arc<PolicySet>,
    /// The key of hashed values.
    pub masking_key: Secret<[u8; 32]>,
    /// The key of blind tokens, where values of any class get some.
    pub blind: Option<BlindKeys>,
    /// SQL analysis and its cache.
    pub analyzer: Arc<Analyzer>,
    /// Catalogs of the targets.
    pub catalogs: Catalogs,
    /// What waits for people, and what they granted.
    pub approvals: Arc<Approvals>,
    /// The journal.
    pub recorder: Recorder,
    /// What recordings are sealed with; where nothing does, they are in clear, masked as policy says.
    pub recordings: Option<Arc<Sealing>>,
    /// How far the journal is durable.
    pub durability: Arc<Durability>,
    /// Counts.
    pub counters: Arc<Counters>,
    /// The present.
    pub clock: Arc<dyn Clock>,
    /// Compiled masks.
    pub masks: MaskSets,
    /// Connections of nobody's agents.
    pub strangers: Sparing,
    /// Sessions at once: as many as there may be, or as files may be open for.
    pub sessions_max: u64,
    /// Flows to be reconciled with the kernel's counts.
    pub flows: Flows,
    /// Which names agents' addresses have.
    pub names: Arc<Names>,
    /// Who answers connections to port 53; they are refused where nobody does.
    pub name_service: Option<Arc<dyn LocalService>>,
    /// Who starts agents inside agents, at [`types::inside::DOOR`].
    pub inside: Arc<dyn LocalService>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

impl Door {
    /// How far the journal is durable.
    pub(crate) fn durability(&self) -> &Arc<Durability> {
        &self.durability
    }

    /// Writes that a flow carried what no session saw, and raises the alarm.
    pub fn record_difference(&self, difference: &Difference) {
        self.counters.flows_differing.up();
        let detail = difference.to_string();
        warn!(detail, "bytes went past the session");
        if let Err(error) = self.recorder.control("flow.difference", &detail) {
            warn!(%error, "a difference could not be recorded");
        }
    }

    /// The compiled masks of a set of rules.
    pub(crate) fn masks(&self, rules: &[MaskRule]) -> Arc<Masks> {
        self.masks.of(rules, &self.policy, &self.masking_key)
    }
}

/// The key of blind tokens that is in use.
#[derive(Debug)]
pub struct BlindKeys(RwLock<Arc<BlindKey>>);

impl BlindKeys {
    /// With this one in use.
    pub fn new(key: BlindKey) -> Self {
        Self(RwLock::new(Arc::new(key)))
    }

    /// The one in use.
    pub fn current(&self) -> Arc<BlindKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Uses another from the next command on.
    pub fn replace(&self, key: BlindKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
    }
}

/// Compiled masks by their rules.
#[derive(Default)]
pub struct MaskSets(Mutex<Vec<(Vec<MaskRule>, Arc<Masks>)>>);

impl MaskSets {
    fn of(&self, rules: &[MaskRule], policy: &PolicySet, key: &Secret<[u8; 32]>) -> Arc<Masks> {
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, masks)) = sets.iter().find(|(known, _)| known == rules) {
            return Arc::clone(masks);
        }
        let masks = Masks::compile(rules, policy.classification(), key);
        if sets.len() >= MASK_SETS_MAX {
            sets.clear();
        }
        sets.push((rules.to_vec(), Arc::clone(&masks)));
        masks
    }
}
