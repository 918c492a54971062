//! What agents may not touch: protected directories, and file systems that are the kernel's own
//! controls.

use redirect_common::guard::{HIDDEN, InodeKey, MAX_DEPTH};

use crate::maps::PROTECTED;
use crate::read::{offset, read};

/// `PROC_SUPER_MAGIC` (include/uapi/linux/magic.h, as those below).
pub const PROC: u64 = 0x9fa0;

/// Whether a file system's files steer the kernel: agents write to none of them.
#[inline(always)]
pub fn steers_kernel(magic: u64) -> bool {
    matches!(
        magic,
        PROC | 0x6265_6572 // sysfs
            | 0x6367_7270 // cgroup2
            | 0x0027_e0eb // cgroup
            | 0xcafe_4a11 // bpf
            | 0x6462_6720 // debugfs
            | 0x7472_6163 // tracefs
            | 0x7363_6673 // securityfs
            | 0x5a3c_69f0 // apparmorfs
            | 0xf97c_ff8c // selinuxfs
            | 0x4341_5d53 // smackfs
            | 0xde5e_81e4 // efivarfs
            | 0x6265_6570 // configfs
            | 0x4249_4e4d // binfmt_misc
            | 0x6165_676c // pstore
            | 0x6573_5543 // fusectl
            | 0x0765_5821 // resctrl
    )
}

/// The magic of the file system that an inode is on.
#[inline(always)]
pub fn magic(inode: u64) -> Result<u64, i32> {
    let super_block: u64 = read(inode, offset!(inode_i_sb))?;
    read(super_block, offset!(super_block_s_magic))
}

/// How a directory entry is protected: 0, `FIXED` (itself), `READ_ONLY` or `HIDDEN` (itself or by
/// a directory above). What can't be told is `HIDDEN`. Mounts do not matter: the walk is that of
/// the file system's own tree.
#[inline(never)]
pub fn protection(entry: u64) -> u32 {
    walk(entry).unwrap_or(HIDDEN)
}

/// The key of an inode.
#[inline(always)]
pub fn key(inode: u64) -> Result<InodeKey, i32> {
    let super_block: u64 = read(inode, offset!(inode_i_sb))?;
    let dev = read(super_block, offset!(super_block_s_dev))?;
    Ok(InodeKey { ino: read(inode, offset!(inode_i_ino))?, dev, pad: 0 })
}

#[inline(always)]
fn walk(entry: u64) -> Result<u32, i32> {
    let super_block: u64 = read(entry, offset!(dentry_d_sb))?;
    let dev: u32 = read(super_block, offset!(super_block_s_dev))?;
    if mode(0, dev) == 0 {
        return Ok(0);
    }
    let own = entry_mode(entry, dev)?;
    if own > redirect_common::guard::FIXED {
        return Ok(own);
    }
    let mut at = entry;
    let mut depth = 0;
    while depth < MAX_DEPTH {
        let parent: u64 = read(at, offset!(dentry_d_parent))?;
        if parent == at {
            // A tree that does not end at the root is a file opened by its handle: unknown where.
            let root: u64 = read(super_block, offset!(super_block_s_root))?;
            return Ok(if at == root { own } else { HIDDEN });
        }
        at = parent;
        let above = entry_mode(at, dev)?;
        if above > redirect_common::guard::FIXED {
            return Ok(above);
        }
        depth += 1;
    }
    Ok(HIDDEN)
}

/// How this very entry is marked.
#[inline(always)]
fn entry_mode(entry: u64, dev: u32) -> Result<u32, i32> {
    let inode: u64 = read(entry, offset!(dentry_d_inode))?;
    if inode == 0 {
        // It names nothing yet.
        return Ok(0);
    }
    Ok(mode(read(inode, offset!(inode_i_ino))?, dev))
}

#[inline(always)]
fn mode(ino: u64, dev: u32) -> u32 {
    // SAFETY: the value is one word, written whole by the daemon.
    unsafe { PROTECTED.get(InodeKey { ino, dev, pad: 0 }) }.copied().unwrap_or(0)
}
