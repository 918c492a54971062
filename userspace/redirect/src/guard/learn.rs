//! How the kernel names inodes: asked by opening them under a program that notes what it sees.
//!
//! The device that `stat` tells is another on btrfs and overlayfs, and a number in another
//! encoding everywhere. It is also the proof that the kernel runs LSM programs, and does not only
//! take them.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aya::maps::{Array, MapData, MapError};
use aya::programs::lsm::LsmLink;
use aya::programs::{Lsm, ProgramError};
use aya::{Btf, Ebpf};
use redirect_common::guard::{InodeKey, LEARNED_MAX, Learned, map};

use crate::{Error, sys};

/// The program's name.
pub(super) const LEARN: &str = "learn";

/// The program, attached until this is dropped.
pub(super) struct Learner {
    seen: Array<MapData, Learned>,
    _link: LsmLink,
}

impl Learner {
    /// Loads and attaches the program: the first of all, so that an error here is the kernel's
    /// refusal of LSM programs.
    pub(super) fn attach(object: &mut Ebpf, btf: &Btf) -> Result<Self, Error> {
        let failed = |source| Error::Program { name: LEARN, source };
        let program: &mut Lsm = object
            .program_mut(LEARN)
            .ok_or(Error::Missing(LEARN))?
            .try_into()
            .map_err(|source: ProgramError| failed(source))?;
        program.load("file_open", btf).map_err(failed)?;
        let link = program.attach().and_then(|id| program.take_link(id)).map_err(failed)?;
        let seen = object.take_map(map::LEARNED).ok_or(Error::Missing(map::LEARNED))?;
        Ok(Self { seen: seen.try_into().map_err(map_failed)?, _link: link })
    }

    /// The inodes that opening a path opens, the outermost first: several on stacked file
    /// systems. A socket can be asked for too.
    pub(super) fn inodes(&mut self, path: &Path) -> Result<Vec<InodeKey>, Error> {
        let Learned { count, inodes, .. } = self.open(path)?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        inodes
            .get(..count)
            .map(<[InodeKey]>::to_vec)
            .ok_or_else(|| Error::Stacked { path: path.to_owned(), most: LEARNED_MAX })
    }

    /// The depth of this process' cgroup, as the kernel counts it.
    pub(super) fn cgroup_level(&mut self) -> Result<u32, Error> {
        self.open(Path::new("/")).map(|seen| seen.level)
    }

    fn open(&mut self, path: &Path) -> Result<Learned, Error> {
        let mine = Learned { thread: sys::thread(), ..Learned::default() };
        self.seen.set(0, mine, 0).map_err(map_failed)?;
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path);
        let seen = self.seen.get(&0, 0).map_err(map_failed)?;
        self.seen.set(0, Learned::default(), 0).map_err(map_failed)?;
        if seen.count > 0 {
            // A socket can't be opened, but the kernel asks the program first.
            return Ok(seen);
        }
        opened.map_err(Error::file("opening", path))?;
        Err(Error::LsmIdle)
    }
}

fn map_failed(source: MapError) -> Error {
    Error::Map { name: map::LEARNED, source }
}
