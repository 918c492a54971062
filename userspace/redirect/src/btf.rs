//! Member offsets of the running kernel's structures, from its own type information.
//!
//! The format is the kernel's Documentation/bpf/btf.rst. Only structures' and unions' members are
//! looked at; members of anonymous ones count as their parent's.

use std::collections::HashMap;
use std::fs;

use redirect_common::{NO_MEMBER, Offsets};

use crate::Error;

/// The running kernel's BTF.
pub(crate) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u32 = 0xeb9f;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const POINTER: u32 = 2;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNCTION: u32 = 12;
/// Anonymous members within anonymous members, at most.
const MAX_DEPTH: u32 = 8;

/// Offsets of every member that the programs read; an error if the kernel has not all of them.
pub(crate) fn offsets() -> Result<Offsets, Error> {
    let data = read()?;
    let btf = Btf::parse(&data)?;
    Ok(Offsets {
        task_group_leader: btf.offset("task_struct", "group_leader")?,
        task_real_parent: btf.offset("task_struct", "real_parent")?,
        task_tgid: btf.offset("task_struct", "tgid")?,
        task_start_boottime: btf.offset("task_struct", "start_boottime")?,
        task_mm: btf.offset("task_struct", "mm")?,
        task_comm: btf.offset("task_struct", "comm")?,
        mm_exe_file: btf.offset("mm_struct", "exe_file")?,
        file_f_inode: btf.offset("file", "f_inode")?,
        inode_i_ino: btf.offset("inode", "i_ino")?,
        inode_i_sb: btf.offset("inode", "i_sb")?,
        super_block_s_dev: btf.offset("super_block", "s_dev")?,
        task_cred: btf.offset("task_struct", "cred")?,
        cred_euid: btf.offset("cred", "euid")?,
        cred_cap_effective: btf.offset("cred", "cap_effective")?,
        task_atomic_flags: btf.offset("task_struct", "atomic_flags")?,
        task_seccomp_mode: seccomp_mode(&btf)?,
        task_loginuid: optional(btf.offset("task_struct", "loginuid"))?,
        task_sessionid: optional(btf.offset("task_struct", "sessionid"))?,
        task_signal: btf.offset("task_struct", "signal")?,
        signal_live: btf.offset("signal_struct", "live")?,
        mm_arg_start: btf.offset("mm_struct", "arg_start")?,
        mm_arg_end: btf.offset("mm_struct", "arg_end")?,
        binprm_filename: btf.offset("linux_binprm", "filename")?,
        pad: 0,
    })
}

/// `task_struct.seccomp.mode`; a kernel without seccomp has an empty `struct seccomp`.
fn seccomp_mode(btf: &Btf<'_>) -> Result<u32, Error> {
    match (btf.offset("task_struct", "seccomp"), btf.offset("seccomp", "mode")) {
        (Ok(structure), Ok(mode)) => Ok(structure + mode),
        (Err(error), _) | (_, Err(error)) => optional(Err(error)),
    }
}

/// The offset of what a kernel may be built without: login uid and session (`CONFIG_AUDIT`),
/// seccomp (`CONFIG_SECCOMP`).
fn optional(offset: Result<u32, Error>) -> Result<u32, Error> {
    match offset {
        Err(Error::NoMember(_)) => Ok(NO_MEMBER),
        found => found,
    }
}

/// Byte offset of `sock_common.skc_flags`, which is also its offset in every kind of socket.
pub(crate) fn sock_flags() -> Result<u32, Error> {
    Btf::parse(&read()?)?.offset("sock_common", "skc_flags")
}

/// The running kernel's BTF, for [`Btf::parse`].
pub(crate) fn read() -> Result<Vec<u8>, Error> {
    fs::read(VMLINUX).map_err(Error::file("reading", VMLINUX))
}

/// Type information, taken apart.
pub(crate) struct Btf<'a> {
    data: &'a [u8],
    strings: usize,
    /// Where each type begins; the id is the index plus one.
    types: Vec<usize>,
}

impl<'a> Btf<'a> {
    /// Finds where types begin.
    pub(crate) fn parse(data: &'a [u8]) -> Result<Self, Error> {
        let mut btf = Self { data, strings: 0, types: Vec::new() };
        if btf.word(0)? & 0xffff != MAGIC {
            return Err(Error::Btf(0));
        }
        let header = btf.word(4)? as usize;
        let mut at = header + btf.word(8)? as usize;
        let end = at + btf.word(12)? as usize;
        btf.strings = header + btf.word(16)? as usize;
        while at < end {
            btf.types.push(at);
            at += 12 + extra(btf.word(at + 4)?).ok_or(Error::Btf(at))?;
        }
        Ok(btf)
    }

    /// Byte offset of a structure's member.
    pub(crate) fn offset(&self, structure: &str, member: &'static str) -> Result<u32, Error> {
        for &at in &self.types {
            let info = self.word(at + 4)?;
            if kind(info) == STRUCT && self.name_is(self.word(at)?, structure) {
                let bits = self.member_bits(at, member, MAX_DEPTH)?;
                return bits.map(|bits| bits / 8).ok_or(Error::NoMember(member));
            }
        }
        Err(Error::NoMember(member))
    }

    /// Functions whose names begin so, and the types of their parameters: a structure's or
    /// number's name, without `const` and `*`.
    pub(crate) fn functions(&self, prefix: &str) -> Result<HashMap<&'a str, Vec<&'a str>>, Error> {
        let mut found = HashMap::new();
        for &at in &self.types {
            let name = self.name(self.word(at)?);
            if kind(self.word(at + 4)?) != FUNCTION || !name.starts_with(prefix) {
                continue;
            }
            let prototype = self.at(self.word(at + 8)?).ok_or(Error::Btf(at))?;
            let count = (self.word(prototype + 4)? & 0xffff) as usize;
            let parameter = |index| self.named(self.word(prototype + 16 + index * 8)?);
            found.insert(name, (0..count).map(parameter).collect::<Result<_, _>>()?);
        }
        Ok(found)
    }

    /// The name of the type that pointers and qualifiers lead to; empty for `void`.
    fn named(&self, mut id: u32) -> Result<&'a str, Error> {
        for _ in 0..MAX_DEPTH {
            let Some(at) = self.at(id) else { return Ok("") };
            if !matches!(kind(self.word(at + 4)?), POINTER | VOLATILE | CONST | RESTRICT) {
                return Ok(self.name(self.word(at)?));
            }
            id = self.word(at + 8)?;
        }
        Ok("")
    }

    /// Where a type begins; none for `void`.
    fn at(&self, id: u32) -> Option<usize> {
        (id as usize).checked_sub(1).and_then(|index| self.types.get(index)).copied()
    }

    /// The string there; empty if there is none.
    fn name(&self, offset: u32) -> &'a str {
        let text = self.data.get(self.strings + offset as usize..).unwrap_or_default();
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }

    fn member_bits(&self, at: usize, member: &str, depth: u32) -> Result<Option<u32>, Error> {
        let info = self.word(at + 4)?;
        for index in 0..(info & 0xffff) as usize {
            let entry = at + 12 + index * 12;
            let (name, id) = (self.word(entry)?, self.word(entry + 4)?);
            // With the kind flag, the upper eight bits are a bit field's width.
            let mask = if info >> 31 == 1 { 0x00ff_ffff } else { u32::MAX };
            let bits = self.word(entry + 8)? & mask;
            if self.name_is(name, member) {
                return Ok(Some(bits));
            }
            if self.name_is(name, "")
                && depth > 0
                && let Some(&inner) = (id as usize).checked_sub(1).and_then(|id| self.types.get(id))
                && matches!(kind(self.word(inner + 4)?), STRUCT | UNION)
                && let Some(within) = self.member_bits(inner, member, depth - 1)?
            {
                return Ok(Some(bits + within));
            }
        }
        Ok(None)
    }

    fn name_is(&self, offset: u32, name: &str) -> bool {
        let found = self.data.get(self.strings + offset as usize..).unwrap_or_default();
        found.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    fn word(&self, at: usize) -> Result<u32, Error> {
        let bytes = self.data.get(at..).and_then(|data| data.first_chunk::<4>());
        bytes.map(|bytes| u32::from_ne_bytes(*bytes)).ok_or(Error::Btf(at))
    }
}

fn kind(info: u32) -> u32 {
    (info >> 24) & 0x1f
}

/// Bytes after a type's first twelve; none for a kind this version does not know.
fn extra(info: u32) -> Option<usize> {
    let count = (info & 0xffff) as usize;
    match kind(info) {
        2 | 7..=12 | 16 | 18 => Some(0),
        1 | 14 | 17 => Some(4),
        3 => Some(12),
        6 | 13 => Some(count * 8),
        STRUCT | UNION | 15 | 19 => Some(count * 12),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_every_member() {
        let offsets = offsets().unwrap();
        assert!(offsets.task_start_boottime > 0 && offsets.task_tgid > 0);
        assert_ne!(offsets.task_group_leader, offsets.task_real_parent);
    }

    #[test]
    fn truncated_type_information_is_an_error() {
        let data = fs::read(VMLINUX).unwrap();
        let header = 24;
        for cut in [0, 3, 11, header, header + 1000] {
            assert!(Btf::parse(&data[..cut]).is_err(), "{cut}");
        }
        let whole = Btf::parse(&data).unwrap();
        assert!(matches!(whole.offset("task_struct", "no_such"), Err(Error::NoMember(_))));
    }
}
