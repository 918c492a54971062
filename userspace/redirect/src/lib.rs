//! The kernel side, from user space: arms the hooks, enrols agents' cgroups, and says where an
//! accepted connection wanted to go and who made it.
//!
//! [`Kernel::arm`] loads the programs or takes over those an earlier daemon left pinned; dropping
//! [`Kernel`] leaves everything pinned, so that agents are refused and never go free. It holds no
//! policy, opens no socket to listen on and knows no protocol. The only `unsafe` code of user
//! space is in `sys.rs`, `netns.rs` and `inherited.rs`.

mod attach;
mod btf;
mod cgroup;
mod clock;
pub mod cost;
mod datagram;
mod descriptors;
mod diag;
mod enrol;
mod error;
pub mod event;
mod existing;
pub mod guard;
pub mod inherited;
#[cfg(kernel_log)]
mod kernel_log;
mod late;
mod lineage;
mod listeners;
mod load;
mod maps;
pub mod netns;
mod original_destination;
mod pin;
mod probe;
mod ring;
mod sys;
pub mod tap;
pub mod unix;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use redirect_common::Listener;
use types::id::CgroupId;

pub use clock::{ClockState, clock_state};
pub use enrol::Enrolled;
pub use error::Error;
pub use guard::Guard;
pub use late::Taken;
pub use lineage::{FlowCounts, Lost};
pub use listeners::AgentProcess;
pub use probe::probe;
pub use unix::Unix;

/// Where to arm, and for which listener.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cgroup v2 mount; found in `/proc/self/mountinfo` if none.
    pub cgroup_root: Option<PathBuf>,
    /// Our directory below it: `SLICE/agents` has the hooks, `SLICE/proxy` the daemon. In a slice
    /// of systemd's, `NAME.slice`, agents are in `NAME.slice/NAME-agents.slice`.
    pub slice: String,
    /// Where programs and maps live on without us; on a bpffs, mounted if need be.
    pub pin_dir: PathBuf,
    /// The port that the proxy listens on, on 127.0.0.1 and ::1, in this network namespace.
    pub listener_port: u16,
    /// The port that the DNS forwarder listens on, likewise; 0 if there is none, and then DNS
    /// datagrams are refused.
    pub dns_port: u16,
    /// What holds agents that run as root.
    pub guard: Guard,
    /// Which sockets of AF_UNIX agents may connect to.
    pub unix: Unix,
}

/// The armed hooks. One process at a time holds a pin directory.
#[derive(Debug)]
pub struct Kernel {
    slice: cgroup::Slice,
    pins: pin::Pins,
    maps: maps::Maps,
    events: Mutex<Option<event::Events>>,
    followed: lineage::Followed,
    own_netns: u64,
    /// The programs, to be attached to cgroups that others make.
    programs: Mutex<aya::Ebpf>,
    guard: guard::State,
    unix: unix::State,
    /// The cgroups that have the hooks: the agents', the proxy's.
    attached_to: [CgroupId; 2],
    /// The thread that passes on what the programs log.
    #[cfg(kernel_log)]
    _log: kernel_log::Reader,
    /// Cgroups that [`Kernel::ended`] saw without a process the last time.
    empty: Mutex<HashSet<CgroupId>>,
}

impl Kernel {
    /// Arms the hooks: makes the slice, moves this whole process to `SLICE/proxy`, loads the
    /// programs, attaches or updates their pinned links, and directs this network namespace's
    /// connections to the listener. Sockets to listen on must be made after this.
    ///
    /// In debug builds the programs log redirects and refusals; a thread passes that on to the
    /// `log::Log` installed now, until this is dropped.
    ///
    /// Fails when any part fails: nothing is armed by half without an error.
    pub fn arm(options: Options) -> Result<Self, Error> {
        let Options { cgroup_root, slice, pin_dir, listener_port, dns_port, guard, unix: rule } =
            options;
        let root = cgroup_root.map_or_else(cgroup::find_root, Ok)?;
        let slice = cgroup::Slice::make(&root, &slice)?;
        cgroup::join(&slice.proxy)?;
        let pins = pin::Pins::open(pin_dir)?;
        pins.check_maps()?;
        let followed_before = pins.path(redirect_common::map::PROCESSES).exists();
        let mut object = load::load(Some(&pins))?;
        load::self_test(&mut object)?;
        let unix = unix::load(&mut object)?;
        let maps = maps::Maps::take(&mut object)?;
        let events = event::Events::take(&mut object)?;
        let followed = lineage::Followed::take(&mut object)?;
        let own_netns = netns::Namespace::own()
            .map_err(|source| Error::Call { call: "getsockopt SO_NETNS_COOKIE", source })?
            .cookie();
        maps.listen(own_netns, Listener { tcp: listener_port, dns: dns_port })?;
        // Before what an earlier version pinned goes: agents are held throughout.
        let wanted = guard.mode;
        let guard = guard::arm(&guard, &rule.allow, &slice, &pins)?;
        unix.rule(&rule, matches!(guard, guard::State::Armed(_)))?;
        let id = |path: &Path| cgroup::id(path).map_err(Error::file("examining", path));
        let attached_to = [id(&slice.agents)?, id(&slice.proxy)?];
        attach::attach(&mut object, &unix, &slice, &pins)?;
        if wanted == guard::Mode::Off {
            guard::remove(&pins)?;
        }
        #[cfg(kernel_log)]
        let log = kernel_log::Reader::start(&mut object)?;
        let kernel = Self {
            slice,
            pins,
            maps,
            events: Mutex::new(Some(events)),
            followed,
            own_netns,
            programs: Mutex::new(object),
            guard,
            unix,
            attached_to,
            #[cfg(kernel_log)]
            _log: log,
            empty: Mutex::default(),
        };
        kernel.adopt_existing()?;
        kernel.prune()?;
        if !followed_before && !kernel.maps.all()?.is_empty() {
            kernel.followed.set_missed()?;
        }
        Ok(kernel)
    }

    /// The directory given to [`Kernel::arm`].
    pub fn pin_dir(&self) -> &Path {
        self.pins.root()
    }

    /// Whether agents that run as root are held by BPF LSM programs.
    pub fn guard_armed(&self) -> bool {
        self.unguarded().is_none()
    }

    /// Why they are not; none if they are.
    pub fn unguarded(&self) -> Option<&str> {
        match &self.guard {
            guard::State::Armed(_) => None,
            guard::State::Unarmed(reason) => Some(reason),
        }
    }

    /// Why agents that no guard holds may use any socket of AF_UNIX that file modes let them; none
    /// if they may not.
    pub fn unix_unheld(&self) -> Option<&str> {
        self.unix.unheld()
    }

    /// Has the guard hold a cgroup outside of the slice's agents, once it is enrolled.
    pub(crate) fn hold_at(&self, path: &Path) -> Result<(), Error> {
        match &self.guard {
            guard::State::Armed(armed) => armed.hold_at(self.slice.level(path)),
            guard::State::Unarmed(_) => Ok(()),
        }
    }

    /// What the guard refused since the last call.
    pub fn take_refusals(&self) -> Result<Vec<guard::Refusals>, Error> {
        match &self.guard {
            guard::State::Armed(armed) => armed.take_refusals(),
            guard::State::Unarmed(_) => Ok(Vec::new()),
        }
    }

    /// Lets enrolled agents go free: removes every pin, and the cgroups that are empty.
    pub fn disarm(&self) -> Result<(), Error> {
        self.pins.remove()?;
        self.slice.remove();
        Ok(())
    }

    fn empty(&self) -> std::sync::MutexGuard<'_, HashSet<CgroupId>> {
        self.empty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets enrolled agents of a daemon that has ended go free; see [`Kernel::disarm`].
pub fn disarm(pin_dir: &Path, slice: &str) -> Result<(), Error> {
    if !pin_dir.exists() {
        return Ok(());
    }
    pin::Pins::open(pin_dir.to_owned())?.remove()?;
    cgroup::Slice::make(&cgroup::find_root()?, slice)?.remove();
    Ok(())
}
