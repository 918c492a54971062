//! AF_UNIX: agents connect and send to the sockets alone that the operator lists, where the kernel
//! has hooks for it (Linux 6.7).
//!
//! aya 0.14 has no name for these hooks. It knows the programs by another's, and never loads them:
//! here their instructions are taken from the same object, with its maps, and loaded.

mod paths;

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData};
use aya::programs::RawTracePoint;
use aya_obj::generated::bpf_insn;
use redirect_common::unix::{ANY, LISTED, Name, UnixOffsets, UnixRules, map};

use crate::{Error, btf, cgroup, load, pin, sys};

/// Programs, and what they are attached as.
const PROGRAMS: [(&str, u32); 2] = [
    ("connect_unix", sys::BPF_CGROUP_UNIX_CONNECT),
    ("sendmsg_unix", sys::BPF_CGROUP_UNIX_SENDMSG),
];

/// The program that notes the daemon's view of the file system.
const LEARN: &str = "learn_view";

/// Whom agents may speak to by AF_UNIX.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// What is listed.
    #[default]
    Listed,
    /// Whatever the modes of files let them.
    Any,
}

/// What of AF_UNIX agents may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unix {
    /// How they are held where no guard holds them.
    pub mode: Mode,
    /// Sockets that they may connect to. The guard takes them by inode and lets agents connect to
    /// their own as well: a service that makes its socket anew is allowed again when the daemon
    /// starts again. Else a path counts as it stands here, byte by byte.
    pub allow: Vec<PathBuf>,
    /// The daemon's own socket, which knows agents and what they may ask; guarded ones never see it.
    pub control: Option<PathBuf>,
}

/// The hooks on AF_UNIX.
#[derive(Debug)]
pub(crate) enum State {
    /// Loaded.
    Loaded(Box<Hooks>),
    /// The kernel has none, and what it said.
    Missing(String),
}

/// Loaded programs.
pub(crate) struct Hooks {
    programs: Vec<(&'static str, u32, OwnedFd)>,
    rules: Mutex<Array<MapData, UnixRules>>,
    paths: Mutex<HashMap<MapData, Name, u32>>,
    mode: OnceLock<Mode>,
    /// Whether they refuse anything.
    decides: OnceLock<bool>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("programs", &self.programs).finish_non_exhaustive()
    }
}

/// Loads the programs, with the object's maps: before those are taken out of it. What they refuse,
/// until they are told more, is everything.
pub(crate) fn load(object: &mut Ebpf) -> Result<State, Error> {
    if let Err(error) = try_hooks() {
        return Ok(State::Missing(format!(
            "the kernel has no hooks for AF_UNIX, Linux 6.7 has: {error}"
        )));
    }
    learn(object)?;
    let instructions = instructions(object)?;
    let mut programs = Vec::with_capacity(PROGRAMS.len());
    for ((name, kind), instructions) in PROGRAMS.into_iter().zip(instructions) {
        programs.push((name, kind, load_one(name, kind, &instructions)?));
    }
    let mut take = |name| object.take_map(name).ok_or(Error::Missing(name));
    let (rules, paths) = (take(map::RULES)?, take(map::PATHS)?);
    let failed = |name| move |source| Error::Map { name, source };
    let rules: Array<MapData, UnixRules> = rules.try_into().map_err(failed(map::RULES))?;
    self_test(&rules.get(&0, 0).map_err(failed(map::RULES))?)?;
    Ok(State::Loaded(Box::new(Hooks {
        programs,
        rules: Mutex::new(rules),
        paths: Mutex::new(paths.try_into().map_err(failed(map::PATHS))?),
        mode: OnceLock::new(),
        decides: OnceLock::new(),
    })))
}

/// Offsets of every member that the programs read. On a kernel without the hooks nobody needs them;
/// one that has the hooks and not all of these lists nothing.
pub(crate) fn offsets() -> Result<UnixOffsets, Error> {
    let data = btf::read()?;
    let btf = btf::Btf::parse(&data)?;
    let find = || {
        Ok(UnixOffsets {
            context_address: btf.offset("bpf_sock_addr_kern", "uaddr")?,
            context_length: btf.offset("bpf_sock_addr_kern", "uaddrlen")?,
            task_fs: btf.offset("task_struct", "fs")?,
            fs_root: btf.offset("fs_struct", "root")? + btf.offset("path", "dentry")?,
            task_nsproxy: btf.offset("task_struct", "nsproxy")?,
            nsproxy_mnt_ns: btf.offset("nsproxy", "mnt_ns")?,
            mnt_ns_user_ns: btf.offset("mnt_namespace", "user_ns")?,
            user_ns_number: btf.offset("user_namespace", "ns")?
                + btf.offset("ns_common", "inum")?,
        })
    };
    match find() {
        Err(Error::NoMember(_)) if try_hooks().is_err() => Ok(UnixOffsets::default()),
        found => found,
    }
}

impl State {
    /// Why agents that no guard holds are not held.
    pub(crate) fn unheld(&self) -> Option<&str> {
        match self {
            Self::Loaded(hooks) if hooks.mode.get() == Some(&Mode::Any) => {
                Some("turned off by configuration")
            }
            Self::Loaded(_) => None,
            Self::Missing(reason) => Some(reason),
        }
    }

    /// Whether these hooks, and not the guard or file modes, say what agents reach.
    pub(crate) fn decides(&self) -> bool {
        matches!(self, Self::Loaded(hooks) if hooks.decides.get() == Some(&true))
    }

    /// Says what agents may do, before the programs are attached; `is_guarded` where the guard
    /// decides. An error for a path that can't be told apart from others.
    pub(crate) fn rule(&self, unix: &Unix, is_guarded: bool) -> Result<(), Error> {
        let Self::Loaded(hooks) = self else { return Ok(()) };
        let any = is_guarded || *hooks.mode.get_or_init(|| unix.mode) == Mode::Any;
        let failed = |name| move |source| Error::Map { name, source };
        if !any {
            let mut paths = hooks.paths.lock().unwrap_or_else(PoisonError::into_inner);
            let mut keys: Vec<Name> =
                unix.allow.iter().map(|path| paths::key(path)).collect::<Result<_, _>>()?;
            // Where it lies so that it can't be told apart, agents do without.
            keys.extend(unix.control.iter().filter_map(|path| paths::key(path).ok()));
            for key in keys {
                paths.insert(key, 1, 0).map_err(failed(map::PATHS))?;
            }
        }
        hooks.decides.get_or_init(|| !any);
        let mut rules = hooks.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let learned = rules.get(&0, 0).map_err(failed(map::RULES))?;
        let mode = if any { ANY } else { LISTED };
        rules.set(0, UnixRules { mode, ..learned }, 0).map_err(failed(map::RULES))
    }

    /// Attaches the programs to one cgroup, as [`attach_to`](crate::attach::attach_to) does.
    pub(crate) fn attach_to(&self, cgroup: &Path, links: &Path) -> Result<(), Error> {
        let Self::Loaded(hooks) = self else { return Ok(()) };
        let id = cgroup::id(cgroup).map_err(Error::file("examining", cgroup))?.0;
        for (name, kind, program) in &hooks.programs {
            let at = links.join(name);
            if pin::adopt_link(&at, id, program.as_fd())? {
                continue;
            }
            let file = File::open(cgroup).map_err(Error::file("opening", cgroup))?;
            sys::attach_pinned(program.as_fd(), file.as_fd(), *kind, &at)
                .map_err(Error::file("pinning", &at))?;
        }
        Ok(())
    }
}

/// Whether the kernel has the hooks: found by loading a program that refuses everything.
fn try_hooks() -> std::io::Result<()> {
    // r0 = 0; exit
    let refuse = [[0xb7, 0, 0, 0, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]].concat();
    let refuse = aya_obj::copy_instructions(&refuse).map_err(std::io::Error::other)?;
    for (name, kind) in PROGRAMS {
        drop(sys::load_sock_addr(name, &refuse, kind, &mut [])?);
    }
    Ok(())
}

/// Lets the kernel note this process' root directory and mounts.
fn learn(object: &mut Ebpf) -> Result<(), Error> {
    let failed = |source| Error::Program { name: LEARN, source };
    let program = object.program_mut(LEARN).ok_or(Error::Missing(LEARN))?;
    let program: &mut RawTracePoint = program.try_into().map_err(failed)?;
    program.load().map_err(failed)?;
    let fd = program.fd().map_err(failed)?;
    let call = |source| Error::Call { call: "BPF_PROG_TEST_RUN", source };
    match sys::test_run(fd.as_fd()).map_err(call)? {
        0 => Ok(()),
        _ => Err(Error::SelfTest("fs_struct")),
    }
}

/// Compares what the kernel noted with procfs.
fn self_test(learned: &UnixRules) -> Result<(), Error> {
    const USER_NS: &str = "/proc/self/ns/user";
    let number = fs::metadata(USER_NS).map_err(Error::file("examining", USER_NS))?.ino();
    if u64::from(learned.user_ns_number) == number && learned.root != 0 {
        return Ok(());
    }
    Err(Error::SelfTest("mnt_namespace"))
}

/// The programs' instructions, in order, with the descriptors of the object's maps.
fn instructions(object: &Ebpf) -> Result<Vec<Vec<bpf_insn>>, Error> {
    let wrong = |error: &dyn std::error::Error| Error::Relocation(crate::error::chain(error));
    let mut parsed = aya_obj::Object::parse(load::OBJECT).map_err(|error| wrong(&error))?;
    let text: HashSet<usize> = parsed.functions.keys().map(|(section, _)| *section).collect();
    let maps = std::mem::take(&mut parsed.maps);
    let made = maps.iter().filter_map(|(name, map)| {
        let fd = fd(object.map(name)?)?;
        Some((name.as_str(), fd.as_raw_fd(), map))
    });
    parsed.relocate_maps(made, &text).map_err(|error| wrong(&error))?;
    parsed.relocate_calls(&text).map_err(|error| wrong(&error))?;
    let found = PROGRAMS.iter().map(|&(name, _)| {
        let key = parsed.programs.get(name)?.function_key();
        Some(parsed.functions.get(&key)?.instructions.clone())
    });
    found.collect::<Option<_>>().ok_or(Error::Missing("connect_unix"))
}

/// A map's descriptor; none for kinds that the object has none of.
fn fd(map: &Map) -> Option<BorrowedFd<'_>> {
    match map {
        Map::Array(map)
        | Map::HashMap(map)
        | Map::PerCpuArray(map)
        | Map::RingBuf(map)
        | Map::SkStorage(map) => Some(map.fd().as_fd()),
        _ => None,
    }
}

/// Bytes of what the verifier says of a program that it refuses.
const LOG_BYTES: usize = 64 << 10;

fn load_one(name: &'static str, kind: u32, code: &[bpf_insn]) -> Result<OwnedFd, Error> {
    sys::load_sock_addr(name, code, kind, &mut []).or_else(|_| {
        let mut log = vec![0; LOG_BYTES];
        sys::load_sock_addr(name, code, kind, &mut log).map_err(|source| {
            let said = log.split(|byte| *byte == 0).next().unwrap_or_default();
            let log = String::from_utf8_lossy(said).into_owned();
            Error::Refused { name, log, source }
        })
    })
}
