//! What the kernel programs follow of agents' processes: attaching them, and their execs.
//!
//! Their links are pinned like the others, so they go on while no daemon runs: what agents start
//! then is followed, and its execs wait in the ring. The kernel does not give a tracepoint's link
//! another program, so a new link is made and its pin renamed over the old one: for a moment two
//! programs follow, which come to the same entries, and there is none in which nobody does.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use aya::Ebpf;
use aya::maps::{Array, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, RawTracePoint};
use redirect_common::{
    EXEC_ARGUMENT_BYTES, EXEC_PATH_BYTES, ExecEvent, FLOW_ASKED, FLOW_CARRIED, FLOW_FAILED,
    FLOW_PAST, FLOW_REFUSED, LOST_EXEC, LOST_PROCESS, ProcessId, map,
};
use types::exec::Exec;
use types::id::CgroupId;
use types::principal::{ImageKey, Inode, ProcessKey};

use crate::pin::Pins;
use crate::{Error, Kernel, sys};

/// Programs, each named as its tracepoint.
pub(crate) const TRACEPOINTS: [&str; 3] =
    ["sched_process_exit", "sched_process_exec", "sched_process_fork"];

/// What has not been followed since the maps were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Processes without room: their connections are recorded with the parents as they stand.
    pub processes: u64,
    /// Execs without room: what they started has no command line.
    pub execs: u64,
}

/// Connections of agents over TCP, as the kernel counted them since the programs were first armed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounts {
    /// All that were asked for.
    pub asked: u64,
    /// Of those, refused at once.
    pub refused: u64,
    /// Of those, accepted by the proxy.
    pub carried: u64,
    /// Of those, ended before that.
    pub failed: u64,
    /// Of those, begun without being sent to the proxy.
    pub past: u64,
}

/// The maps' handles.
pub(crate) struct Followed {
    execs: Mutex<RingBuf<MapData>>,
    counts: PerCpuArray<MapData, u64>,
    missed: Mutex<Array<MapData, u32>>,
}

impl std::fmt::Debug for Followed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Followed").finish_non_exhaustive()
    }
}

impl Followed {
    /// Takes them out of the object.
    pub(crate) fn take(object: &mut Ebpf) -> Result<Self, Error> {
        let mut take = |name| object.take_map(name).ok_or(Error::Missing(name));
        let (execs, counts, missed) = (take(map::EXECS)?, take(map::COUNTS)?, take(map::MISSED)?);
        Ok(Self {
            execs: Mutex::new(typed(map::EXECS, execs)?),
            counts: typed(map::COUNTS, counts)?,
            missed: Mutex::new(typed(map::MISSED, missed)?),
        })
    }

    /// Notes that there are agents' processes that nobody followed: some descendant of theirs may
    /// look like a start of an agent.
    pub(crate) fn set_missed(&self) -> Result<(), Error> {
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        missed.set(0, 1, 0).map_err(|source| Error::Map { name: map::MISSED, source })
    }
}

impl Kernel {
    /// Calls `each` with the execs of agents' processes since the last call, oldest first. One
    /// caller at a time; others wait.
    pub fn take_execs(&self, each: &mut dyn FnMut(Exec)) {
        let mut ring = self.followed.execs.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(item) = ring.next() {
            if let Some(exec) = exec(&item) {
                each(exec);
            }
        }
    }

    /// What could not be followed.
    pub fn lost(&self) -> Result<Lost, Error> {
        Ok(Lost { processes: self.count(LOST_PROCESS)?, execs: self.count(LOST_EXEC)? })
    }

    /// What became of the connections of agents since the programs were first armed. Kinds are read one after the
    /// other while they go on: what is on its way may be in two of them or in none.
    pub fn flow_counts(&self) -> Result<FlowCounts, Error> {
        // What comes of a connection is read before how many were asked for, so that it never seems more.
        let (refused, carried) = (self.count(FLOW_REFUSED)?, self.count(FLOW_CARRIED)?);
        let (failed, past) = (self.count(FLOW_FAILED)?, self.count(FLOW_PAST)?);
        Ok(FlowCounts { asked: self.count(FLOW_ASKED)?, refused, carried, failed, past })
    }

    fn count(&self, kind: u32) -> Result<u64, Error> {
        let counts = self.followed.counts.get(&kind, 0);
        let counts = counts.map_err(|source| Error::Map { name: map::COUNTS, source })?;
        Ok(counts.iter().sum())
    }

    /// The directory of a cgroup that still is, wherever below the mount.
    pub fn cgroup_path(&self, cgroup: CgroupId) -> io::Result<PathBuf> {
        sys::cgroup_path(self.slice.cgroup_root(), cgroup.0)
    }
}

/// Loads the programs; the verifier's refusal of any is an error.
pub(crate) fn load(object: &mut Ebpf) -> Result<(), Error> {
    for name in TRACEPOINTS {
        program(object, name)?.load().map_err(failed(name))?;
    }
    Ok(())
}

/// Attaches the loaded programs in the place of those pinned.
pub(crate) fn attach(object: &mut Ebpf, pins: &Pins) -> Result<(), Error> {
    for name in TRACEPOINTS {
        let program = program(object, name)?;
        let link = program.attach(name).and_then(|link| program.take_link(link));
        let link = FdLink::from(link.map_err(failed(name))?);
        let (at, next) = (pins.path(name), pins.path(&format!("{name}_next")));
        if let Err(error) = fs::remove_file(&next)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(Error::file("removing", next)(error));
        }
        let pinned =
            link.pin(&next).map_err(|error| ProgramError::IOError(io::Error::other(error)));
        pinned.map_err(failed(name))?;
        fs::rename(&next, &at).map_err(Error::file("replacing", at))?;
    }
    Ok(())
}

fn program<'a>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut RawTracePoint, Error> {
    let program = object.program_mut(name).ok_or(Error::Missing(name))?;
    program.try_into().map_err(failed(name))
}

fn failed(name: &'static str) -> impl Fn(ProgramError) -> Error {
    move |source| Error::Program { name, source }
}

fn typed<T: TryFrom<Map, Error = aya::maps::MapError>>(
    name: &'static str,
    map: Map,
) -> Result<T, Error> {
    map.try_into().map_err(|source| Error::Map { name, source })
}

/// Bytes of an event before its path.
const FIXED_BYTES: usize = size_of::<ExecEvent>() - EXEC_ARGUMENT_BYTES - EXEC_PATH_BYTES;

/// An event's bytes as the kernel program put them (`redirect_common::ExecEvent`, without what
/// `arguments` does not use); none if they are fewer than it says.
fn exec(event: &[u8]) -> Option<Exec> {
    let (fixed, rest) = event.split_at_checked(FIXED_BYTES)?;
    let (path, rest) = rest.split_at_checked(EXEC_PATH_BYTES)?;
    let word = |at: usize| fixed.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word));
    let long = |at: usize| fixed.get(at..)?.first_chunk().map(|long| u64::from_ne_bytes(*long));
    let process = std::mem::offset_of!(ExecEvent, process);
    let tgid = word(process + std::mem::offset_of!(ProcessId, tgid))?;
    let start_ns = long(process + std::mem::offset_of!(ProcessId, start_ns))?;
    let at_ns = long(std::mem::offset_of!(ExecEvent, at_ns))?;
    let ino = long(std::mem::offset_of!(ExecEvent, exe_ino))?;
    let dev = word(std::mem::offset_of!(ExecEvent, exe_dev))?;
    let total = word(std::mem::offset_of!(ExecEvent, argument_bytes))?;
    let kept = word(std::mem::offset_of!(ExecEvent, arguments_kept))?;
    let arguments = rest.get(..usize::try_from(kept).ok()?)?;
    Some(Exec {
        process: ProcessKey { tgid, start_ns },
        image: ImageKey { tgid, at_ns },
        exe: (ino != 0).then_some(Inode { dev, ino }),
        uid: word(std::mem::offset_of!(ExecEvent, uid))?,
        path: path.split(|byte| *byte == 0).next().unwrap_or_default().to_vec(),
        arguments: arguments.to_vec(),
        cut: total > kept,
    })
}
