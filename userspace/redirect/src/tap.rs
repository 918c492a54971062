//! The TLS taps, from user space: what enrolled agents give to libssl and get from it, in clear.
//!
//! Observes only, and ends with this value: nothing of it is pinned. It sees the libraries it was
//! told of and those it finds mapped in agents' processes; a program that has its TLS built in, or
//! another library's (Go, rustls, GnuTLS, NSS), it does not see. What it yields is raw: whoever
//! writes it down masks it first.

mod library;

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use aya::maps::{HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLinkId, UProbeScope};
use aya::programs::{ProgramError, UProbe};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use redirect_common::map;
use redirect_common::tap::{
    CALLS, COUNT_POINTER, Call, CallKey, EVENTS, Head, LOST, LOST_CALLS, LOST_RING, RECEIVED, SENT,
};
use types::id::CgroupId;
use types::principal::ProcessKey;

use crate::cost::{self, Cost};
use crate::{Error, Kernel, btf, cgroup};
use library::{FileId, Library};

/// The programs, as `build.rs` built them.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tap.o"));
const ENTER: &str = "tap_enter";
const RETURN: &str = "tap_return";

/// Where systems keep libssl, for [`Kernel::tap`].
pub const SYSTEM_LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/libssl.so.3",
    "/usr/lib/aarch64-linux-gnu/libssl.so.3",
    "/usr/lib64/libssl.so.3",
    "/usr/lib/libssl.so.3",
];

/// Functions tapped (SSL_write(3), SSL_read(3)), each with its attach cookie.
const FUNCTIONS: [(&str, u64); 4] = [
    ("SSL_write", SENT as u64),
    ("SSL_write_ex", SENT as u64 | COUNT_POINTER),
    ("SSL_read", RECEIVED as u64),
    ("SSL_read_ex", RECEIVED as u64 | COUNT_POINTER),
];

/// Libraries tapped at once: eight probes each, 256 descriptors. An agent that brings more of them
/// hides the rest; it could as well do without libssl.
const LIBRARIES_MAX: usize = 32;
/// Files looked into in one scan, at most: 4 × 16 MiB are read.
const EXAMINED_MAX: usize = 4;
/// Files remembered as no libssl; forgotten all at once when there are more.
const REFUSED_MAX: usize = 1024;

/// Which way plaintext went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the agent.
    Sent,
    /// To the agent.
    Received,
}

impl Direction {
    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Received => "received",
        }
    }
}

/// One call of libssl by an enrolled process that moved plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed<'a> {
    /// `CLOCK_BOOTTIME` of its return, nanoseconds.
    pub at_ns: u64,
    /// The process.
    pub process: ProcessKey,
    /// The thread, in the initial pid namespace.
    pub thread: u32,
    /// Nearest enrolled cgroup at or above the process's own.
    pub enrolled: CgroupId,
    /// Tells connections of one process apart: the address of its `SSL` object.
    pub connection: u64,
    /// Which way.
    pub direction: Direction,
    /// Bytes of plaintext moved.
    pub bytes: u64,
    /// The first of them: [`redirect_common::tap::DATA_MAX`] at most, none if unreadable.
    pub plaintext: &'a [u8],
}

impl Observed<'_> {
    /// Whether more was moved than is here.
    pub fn truncated(&self) -> bool {
        self.plaintext.len() as u64 != self.bytes
    }
}

/// Calls that were not seen, since the taps began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// For want of room in the ring.
    pub ring: u64,
    /// For want of room for calls under way.
    pub calls: u64,
}

/// What a scan did to a library.
#[derive(Debug)]
pub enum Change {
    /// It is tapped from now on.
    Attached(PathBuf),
    /// No agent has it mapped any longer; not tapped any more.
    Detached(PathBuf),
    /// It can't be tapped.
    Failed(PathBuf, Error),
}

/// The taps; dropping it takes them off.
pub struct Tap {
    object: Ebpf,
    ring: RingBuf<MapData>,
    calls: HashMap<MapData, CallKey, Call>,
    lost: PerCpuArray<MapData, u64>,
    configured: Vec<PathBuf>,
    tapped: Vec<Tapped>,
    refused: HashSet<FileId>,
}

/// A library with its probes.
struct Tapped {
    file: FileId,
    path: PathBuf,
    entries: Vec<UProbeLinkId>,
    returns: Vec<UProbeLinkId>,
}

impl Kernel {
    /// Loads the taps for this kernel's agents. [`Tap::scan`] attaches them: to `libraries` that
    /// exist, whether mapped or not, and to every libssl that an agent's process has mapped.
    pub fn tap(&self, libraries: Vec<PathBuf>) -> Result<Tap, Error> {
        let offsets = btf::offsets()?;
        let mut loader = EbpfLoader::new();
        loader.override_global("TASK_GROUP_LEADER", &offsets.task_group_leader, true);
        loader.override_global("TASK_START_BOOTTIME", &offsets.task_start_boottime, true);
        loader.map_pin_path(map::ENROLLED, self.pins.path(map::ENROLLED));
        let mut object = loader.load(OBJECT).map_err(|error| Error::Object(Box::new(error)))?;
        for name in [ENTER, RETURN] {
            program(&mut object, name)?.load().map_err(failed(name))?;
        }
        let mut take = |name| object.take_map(name).ok_or(Error::Missing(name));
        let (ring, calls, lost) = (take(EVENTS)?, take(CALLS)?, take(LOST)?);
        let typed = |name| move |source| Error::Map { name, source };
        Ok(Tap {
            ring: ring.try_into().map_err(typed(EVENTS))?,
            calls: calls.try_into().map_err(typed(CALLS))?,
            lost: lost.try_into().map_err(typed(LOST))?,
            object,
            configured: libraries,
            tapped: Vec::new(),
            refused: HashSet::new(),
        })
    }
}

impl Tap {
    /// Looks for libraries to tap, and for those that went; also forgets calls whose threads ended
    /// within them. To be called every few seconds: a library is seen from the scan after it was
    /// mapped.
    pub fn scan(&mut self, kernel: &Kernel) -> Result<Vec<Change>, Error> {
        let mut changes = Vec::new();
        let mut mapped = Vec::new();
        for path in &self.configured {
            // One that is not installed may be, later.
            mapped.extend(Library::open(path).ok());
        }
        let elsewhere = kernel.existing()?.into_iter().map(|enrolled| enrolled.path);
        for directory in elsewhere.chain([kernel.slice.agents.clone()]) {
            let processes = cgroup::processes(&directory);
            for tgid in processes.map_err(Error::file("reading", &directory))? {
                library::mapped_by(tgid, &mut mapped);
            }
        }
        self.forget_unmapped(&mapped, &mut changes);
        let mut examined = 0;
        for library in &mapped {
            let full = self.tapped.len() >= LIBRARIES_MAX || examined >= EXAMINED_MAX;
            if full || self.knows(library.id) {
                continue;
            }
            examined += 1;
            changes.push(match self.attach(library) {
                Ok(()) => Change::Attached(library.path.clone()),
                Err(error) => {
                    self.refuse(library.id);
                    Change::Failed(library.path.clone(), error)
                }
            });
        }
        self.forget_ended()?;
        Ok(changes)
    }

    /// Passes on what waits in the ring, `at_most` calls; answers how many.
    pub fn take(&mut self, at_most: usize, mut each: impl FnMut(Observed<'_>)) -> usize {
        for taken in 0..at_most {
            let Some(item) = self.ring.next() else { return taken };
            // The kernel's side writes whole events only.
            if let Some(observed) = observed(&item) {
                each(observed);
            }
        }
        at_most
    }

    /// Calls that were not seen.
    pub fn lost(&self) -> Result<Lost, Error> {
        let sum = |index| -> Result<u64, Error> {
            let each = self.lost.get(&index, 0);
            let each = each.map_err(|source| Error::Map { name: LOST, source })?;
            Ok(each.iter().sum())
        };
        Ok(Lost { ring: sum(LOST_RING)?, calls: sum(LOST_CALLS)? })
    }

    /// Calls that have not returned yet, and those whose threads ended since the last scan.
    pub fn under_way(&self) -> Result<usize, Error> {
        let failed = |source| Error::Map { name: CALLS, source };
        self.calls.keys().try_fold(0, |count, key| key.map(|_| count + 1)).map_err(failed)
    }

    /// What the programs cost, by name.
    pub fn costs(&mut self) -> Result<Vec<Cost>, Error> {
        let cost = |name| {
            let info = program(&mut self.object, name)?.info().map_err(failed(name))?;
            Ok(cost::cost(name.to_owned(), &info))
        };
        [ENTER, RETURN].into_iter().map(cost).collect()
    }

    /// Files tapped now.
    pub fn libraries(&self) -> impl Iterator<Item = &Path> {
        self.tapped.iter().map(|tapped| tapped.path.as_path())
    }

    fn knows(&self, id: FileId) -> bool {
        self.refused.contains(&id) || self.tapped.iter().any(|tapped| tapped.file == id)
    }

    fn refuse(&mut self, id: FileId) {
        if self.refused.len() >= REFUSED_MAX {
            self.refused.clear();
        }
        self.refused.insert(id);
    }

    /// All functions or none.
    fn attach(&mut self, library: &Library) -> Result<(), Error> {
        let names = FUNCTIONS.map(|(name, _)| name);
        let offsets = library.functions(names)?;
        let target = library.by_descriptor();
        let mut tapped = Tapped {
            file: library.id,
            path: library.path.clone(),
            entries: Vec::new(),
            returns: Vec::new(),
        };
        for ((_, cookie), offset) in FUNCTIONS.into_iter().zip(offsets) {
            // The return first: it does nothing for a call that was not noted.
            let attached = self.probe(RETURN, offset, None, &target).and_then(|link| {
                tapped.returns.push(link);
                self.probe(ENTER, offset, Some(cookie), &target)
            });
            match attached {
                Ok(link) => tapped.entries.push(link),
                Err(error) => {
                    self.detach(tapped)?;
                    return Err(error);
                }
            }
        }
        self.tapped.push(tapped);
        Ok(())
    }

    fn probe(
        &mut self,
        name: &'static str,
        offset: u64,
        cookie: Option<u64>,
        target: &Path,
    ) -> Result<UProbeLinkId, Error> {
        let location = UProbeAttachLocation::AbsoluteOffset(offset);
        let point = UProbeAttachPoint { location, cookie };
        let program = program(&mut self.object, name)?;
        program.attach(point, target, UProbeScope::AllProcesses).map_err(failed(name))
    }

    fn detach(&mut self, tapped: Tapped) -> Result<(), Error> {
        let Tapped { entries, returns, .. } = tapped;
        for (name, links) in [(ENTER, entries), (RETURN, returns)] {
            let program = program(&mut self.object, name)?;
            for link in links {
                program.detach(link).map_err(failed(name))?;
            }
        }
        Ok(())
    }

    fn forget_unmapped(&mut self, mapped: &[Library], changes: &mut Vec<Change>) {
        let is_mapped = |tapped: &Tapped| mapped.iter().any(|library| library.id == tapped.file);
        let (stay, go) = std::mem::take(&mut self.tapped).into_iter().partition(is_mapped);
        self.tapped = stay;
        let go: Vec<Tapped> = go;
        for tapped in go {
            let path = tapped.path.clone();
            changes.push(match self.detach(tapped) {
                Ok(()) => Change::Detached(path),
                Err(error) => Change::Failed(path, error),
            });
        }
    }

    /// A thread that was killed within libssl left its call behind.
    fn forget_ended(&mut self) -> Result<(), Error> {
        let failed = |source| Error::Map { name: CALLS, source };
        let keys: Result<Vec<CallKey>, _> = self.calls.keys().collect();
        for key in keys.map_err(failed)? {
            let (tgid, tid) = (key.pid_tgid >> 32, key.pid_tgid & u64::from(u32::MAX));
            if fs::exists(format!("/proc/{tgid}/task/{tid}")).is_ok_and(|there| !there) {
                // It may have been removed by a thread of the same number.
                drop(self.calls.remove(&key));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("libraries", &self.libraries().collect::<Vec<_>>()).finish()
    }
}

fn program<'a>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut UProbe, Error> {
    let program = object.program_mut(name).ok_or(Error::Missing(name))?;
    program.try_into().map_err(failed(name))
}

fn failed(name: &'static str) -> impl Fn(ProgramError) -> Error {
    move |source| Error::Program { name, source }
}

/// Reads an event: a [`Head`] in the machine's byte order, then plaintext.
fn observed(item: &[u8]) -> Option<Observed<'_>> {
    let (head, data) = item.split_at_checked(size_of::<Head>())?;
    let (long, short) = head.split_at_checked(40)?;
    let mut long = long.as_chunks::<8>().0.iter().map(|bytes| u64::from_ne_bytes(*bytes));
    let mut short = short.as_chunks::<4>().0.iter().map(|bytes| u32::from_ne_bytes(*bytes));
    let (at_ns, start_ns) = (long.next()?, long.next()?);
    let (enrolled, connection, bytes) = (long.next()?, long.next()?, long.next()?);
    let (tgid, thread, direction, copied) =
        (short.next()?, short.next()?, short.next()?, short.next()?);
    Some(Observed {
        at_ns,
        process: ProcessKey { tgid, start_ns },
        thread,
        enrolled: CgroupId(enrolled),
        connection,
        direction: match direction {
            SENT => Direction::Sent,
            RECEIVED => Direction::Received,
            _ => return None,
        },
        bytes,
        plaintext: data.get(..usize::try_from(copied).ok()?)?,
    })
}
