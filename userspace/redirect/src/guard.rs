//! Assurance level A2, from user space: BPF LSM programs that hold agents which run as root.
//!
//! Loads, attaches and pins them, and tells them what to protect. They hold every task below the
//! slice's agents from the moment they are attached; like all hooks they stay when the daemon
//! ends, and go with [`Kernel::disarm`](crate::Kernel::disarm). What they refuse is theirs alone
//! to say (`ebpf/guard-ebpf`); here it is counted.

mod hooks;
mod learn;
mod marks;
mod offsets;

use std::collections::HashMap as StdHashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aya::maps::{Array, HashMap, MapData, MapError};
use aya::programs::links::FdLink;
use aya::programs::{Lsm, ProgramError};
use aya::{Btf as AyaBtf, Ebpf, EbpfLoader, include_bytes_aligned};
use redirect_common::guard::{
    AgentsRoot, GuardOffsets, HIDDEN, Hook, InodeKey, MAX_PROTECTED, MAX_REFUSALS,
    MAX_UNIX_ALLOWED, READ_ONLY, RefusalKey, map,
};
use types::id::CgroupId;

use crate::cgroup::{self, Slice};
use crate::pin::{self, Pins};
use crate::{Error, btf, maps};
use learn::Learner;
use marks::Marks;

/// The programs, as `build.rs` built them.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/guard.o"));

/// Where links and maps are pinned, below the version's directory.
const DIRECTORY: &str = "guard";

/// Maps that are pinned: name, key bytes, value bytes, entries.
const MAPS: [(&str, usize, usize, u32); 4] = [
    (map::PROTECTED, size_of::<InodeKey>(), 4, MAX_PROTECTED),
    (map::UNIX_ALLOWED, size_of::<InodeKey>(), 4, MAX_UNIX_ALLOWED),
    (map::LEVELS, 4, 4, 1),
    (map::REFUSALS, size_of::<RefusalKey>(), 8, MAX_REFUSALS),
];

/// Whether agents that run as root are to be held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Where this kernel runs LSM programs.
    #[default]
    Auto,
    /// Refuse to start where it does not.
    Required,
    /// Not at all; programs that are pinned are removed.
    Off,
}

/// What the guard is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Whether to guard.
    pub mode: Mode,
    /// Files and directories that agents may not open or change, with all below them. Each must
    /// exist.
    pub hidden: Vec<PathBuf>,
    /// Those that agents may read and not change.
    pub protected: Vec<PathBuf>,
}

/// How often one agent was refused at one hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusals {
    /// The nearest enrolled cgroup; none for a process beside all of them.
    pub agent: Option<CgroupId>,
    /// The LSM hook.
    pub hook: &'static str,
    /// Since they were taken the last time.
    pub times: u64,
}

/// Whether agents are held.
#[derive(Debug)]
pub(crate) enum State {
    /// They are.
    Armed(Box<Armed>),
    /// They are not, and why.
    Unarmed(String),
}

/// The armed programs' maps.
pub(crate) struct Armed {
    levels: Mutex<Array<MapData, u32>>,
    refusals: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    map: HashMap<MapData, RefusalKey, u64>,
    /// What was told already.
    told: StdHashMap<RefusalKey, u64>,
}

/// Arms the guard, or takes over one that an earlier daemon left pinned, without a gap. The
/// redirection's maps must be pinned already.
pub(crate) fn arm(
    options: &Guard,
    allow_unix: &[PathBuf],
    slice: &Slice,
    pins: &Pins,
) -> Result<State, Error> {
    let Guard { mode, hidden, protected } = options;
    if *mode == Mode::Off {
        return Ok(State::Unarmed("turned off by configuration".to_owned()));
    }
    let directory = pins.directory().join(DIRECTORY);
    let ready = prepare(slice, pins, &directory);
    let (mut object, aya_btf, mut learner) = match ready {
        Ok(ready) => ready,
        Err(error) if *mode == Mode::Auto && is_unavailable(&error) => {
            return Ok(State::Unarmed(crate::error::chain(&error)));
        }
        Err(error) if is_unavailable(&error) => {
            return Err(Error::GuardRequired(Box::new(error)));
        }
        Err(error) => return Err(error),
    };
    let mut marks = Marks::default();
    for path in hidden {
        marks.add(&mut learner, path, HIDDEN)?;
    }
    for path in protected {
        marks.add(&mut learner, path, READ_ONLY)?;
    }
    let mut allowed = StdHashMap::new();
    for path in allow_unix {
        allowed.extend(learner.inodes(path)?.into_iter().map(|inode| (inode, 1)));
    }
    drop(learner);
    fill(&mut object, map::PROTECTED, &marks.0)?;
    fill(&mut object, map::UNIX_ALLOWED, &allowed)?;
    attach(&mut object, &aya_btf, &directory)?;
    Ok(State::Armed(Box::new(Armed::take(&mut object)?)))
}

/// Removes pinned programs, if there are any.
pub(crate) fn remove(pins: &Pins) -> Result<(), Error> {
    let directory = pins.directory().join(DIRECTORY);
    if directory.exists() { pin::remove_version(&directory) } else { Ok(()) }
}

/// Loads every program and attaches none: what a probe may do to a host.
pub(crate) fn try_load() -> Result<usize, Error> {
    let root = AgentsRoot { id: u64::MAX, ..AgentsRoot::default() };
    let mut object = load(root, &find_offsets()?, |_| {})?;
    let btf = aya_btf()?;
    Learner::attach(&mut object, &btf)?.cgroup_level()?;
    load_programs(&mut object, &btf).map(|programs| programs.len())
}

/// Whether the kernel has no such thing, as opposed to a fault of ours.
fn is_unavailable(error: &Error) -> bool {
    match error {
        Error::LsmIdle | Error::NoHook(_) => true,
        Error::Program { name, source } => {
            *name == learn::LEARN
                && matches!(source, ProgramError::LoadError { .. } | ProgramError::Btf(_))
        }
        _ => false,
    }
}

/// The object, and the proof that the kernel runs LSM programs.
fn prepare(slice: &Slice, pins: &Pins, directory: &Path) -> Result<(Ebpf, AyaBtf, Learner), Error> {
    let root = AgentsRoot {
        id: cgroup::id(&slice.agents).map_err(Error::file("examining", &slice.agents))?.0,
        level: slice.level(&slice.agents),
        pad: 0,
    };
    let btf = aya_btf()?;
    // Before anything is pinned: on a host without BPF LSM nothing is left behind.
    let offsets = find_offsets()?;
    let mut trial = load(root, &offsets, |_| {})?;
    let mut learner = Learner::attach(&mut trial, &btf)?;
    if learner.cgroup_level()? != root.level {
        return Err(Error::CgroupRoot(slice.cgroup_root().to_owned()));
    }
    if !directory.exists() {
        fs::create_dir(directory).map_err(Error::file("making", directory))?;
    }
    for &(name, key, value, entries) in &MAPS {
        pin::check_map(&directory.join(name), name, key, value, entries)?;
    }
    let object = load(root, &offsets, |loader| {
        for (name, ..) in MAPS {
            loader.map_pin_path(name, directory.join(name));
        }
        let enrolled = redirect_common::map::ENROLLED;
        loader.map_pin_path(enrolled, pins.path(enrolled));
    })?;
    Ok((object, btf, learner))
}

fn aya_btf() -> Result<AyaBtf, Error> {
    let failed = |error| Error::Program { name: learn::LEARN, source: ProgramError::Btf(error) };
    AyaBtf::from_sys_fs().map_err(failed)
}

fn find_offsets() -> Result<GuardOffsets, Error> {
    let data = btf::read()?;
    offsets::find(&btf::Btf::parse(&data)?)
}

fn load(
    root: AgentsRoot,
    offsets: &GuardOffsets,
    pin: impl FnOnce(&mut EbpfLoader<'_>),
) -> Result<Ebpf, Error> {
    let mut loader = EbpfLoader::new();
    loader.override_global("GUARD_OFFSETS", offsets, true);
    loader.override_global("AGENTS_ROOT", &root, true);
    pin(&mut loader);
    loader.load(OBJECT).map_err(|error| Error::Object(Box::new(error)))
}

/// Loads all programs for this kernel's hooks; answers program and hook of each.
fn load_programs(
    object: &mut Ebpf,
    btf: &AyaBtf,
) -> Result<Vec<(&'static str, &'static str)>, Error> {
    let data = btf::read()?;
    let chosen = hooks::choose(&btf::Btf::parse(&data)?)?;
    let mut loaded = Vec::with_capacity(chosen.len());
    for hooks::Program { name, hook, .. } in chosen {
        program(object, name)?.load(hook, btf).map_err(failed(name))?;
        loaded.push((name, hook));
    }
    Ok(loaded)
}

/// Attaches every program anew before it lets go of the pinned one: these links can't be given
/// another program. In between both refuse.
fn attach(object: &mut Ebpf, btf: &AyaBtf, directory: &Path) -> Result<(), Error> {
    let programs = load_programs(object, btf)?;
    for &(name, hook) in &programs {
        let program = program(object, name)?;
        let link = program.attach().and_then(|id| program.take_link(id)).map_err(failed(name))?;
        let link: FdLink = link.into();
        // (bpffs takes no dots in names.)
        let (at, old) = (directory.join(hook), directory.join(format!("{hook}_old")));
        if at.exists() {
            fs::rename(&at, &old).map_err(Error::file("moving", &at))?;
        }
        let pinned = |error| Error::Program {
            name,
            source: ProgramError::IOError(std::io::Error::other(error)),
        };
        link.pin(&at).map_err(pinned)?;
        if old.exists() {
            fs::remove_file(&old).map_err(Error::file("removing", &old))?;
        }
    }
    for path in pin::links(directory)? {
        let of = |&(_, hook): &(&str, &str)| path.file_name().is_some_and(|name| name == hook);
        if !programs.iter().any(of) {
            fs::remove_file(&path).map_err(Error::file("removing", &path))?;
        }
    }
    Ok(())
}

/// Makes a map hold these entries and no others; new ones come before old ones go.
fn fill(
    object: &mut Ebpf,
    name: &'static str,
    entries: &StdHashMap<InodeKey, u32>,
) -> Result<(), Error> {
    let failed = map_failed(name);
    // Lent, not taken: the programs that are yet to be loaded refer to it.
    let map = object.map_mut(name).ok_or(Error::Missing(name))?;
    let mut map: HashMap<&mut MapData, InodeKey, u32> = map.try_into().map_err(&failed)?;
    for (key, value) in entries {
        map.insert(key, value, 0).map_err(&failed)?;
    }
    let known: Vec<InodeKey> = map.keys().collect::<Result<_, _>>().map_err(&failed)?;
    for key in known.iter().filter(|key| !entries.contains_key(key)) {
        map.remove(key).map_err(&failed)?;
    }
    Ok(())
}

impl fmt::Debug for Armed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Armed").finish_non_exhaustive()
    }
}

impl Armed {
    fn take(object: &mut Ebpf) -> Result<Self, Error> {
        let mut take = |name| object.take_map(name).ok_or(Error::Missing(name));
        let (refusals, levels) = (take(map::REFUSALS)?, take(map::LEVELS)?);
        let refusals = refusals.try_into().map_err(map_failed(map::REFUSALS))?;
        let levels = levels.try_into().map_err(map_failed(map::LEVELS))?;
        let told = StdHashMap::new();
        Ok(Self {
            levels: Mutex::new(levels),
            refusals: Mutex::new(Counts { map: refusals, told }),
        })
    }

    /// Has the programs look for enrolled cgroups at this depth too.
    pub(crate) fn hold_at(&self, level: u32) -> Result<(), Error> {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let known = levels.get(&0, 0).map_err(map_failed(map::LEVELS))?;
        levels.set(0, known | 1 << level.min(31), 0).map_err(map_failed(map::LEVELS))
    }

    /// What was refused since the last time.
    pub(crate) fn take_refusals(&self) -> Result<Vec<Refusals>, Error> {
        let mut counts = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let Counts { map, told } = &mut *counts;
        let mut news = Vec::new();
        for entry in map.iter() {
            let (key, total) = entry.map_err(map_failed(map::REFUSALS))?;
            let before = told.insert(key, total).unwrap_or(0);
            let RefusalKey { agent, hook, pad: _ } = key;
            let hook = usize::try_from(hook).ok().and_then(|hook| Hook::NAMES.get(hook));
            if total > before
                && let Some(hook) = hook
            {
                let agent = (agent != 0).then_some(CgroupId(agent));
                news.push(Refusals { agent, hook, times: total - before });
            }
        }
        Ok(news)
    }

    /// Makes room: forgets the counts of an agent that has ended.
    pub(crate) fn forget(&self, agent: CgroupId) -> Result<(), Error> {
        let mut counts = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let Counts { map, told } = &mut *counts;
        for hook in 0..u32::try_from(Hook::NAMES.len()).unwrap_or(0) {
            let key = RefusalKey { agent: agent.0, hook, pad: 0 };
            maps::remove(map, &key).map_err(map_failed(map::REFUSALS))?;
            told.remove(&key);
        }
        Ok(())
    }
}

fn program<'a>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Lsm, Error> {
    let program = object.program_mut(name).ok_or(Error::Missing(name))?;
    program.try_into().map_err(failed(name))
}

fn failed(name: &'static str) -> impl Fn(ProgramError) -> Error {
    move |source| Error::Program { name, source }
}

fn map_failed(name: &'static str) -> impl Fn(MapError) -> Error {
    move |source| Error::Map { name, source }
}
