//! Names and attributes of files: what is protected stays as and where it is, and so do the
//! directories above it.

use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;
use redirect_common::guard::{FIXED, Hook};

use crate::caller::held;
use crate::protected::{PROC, magic, protection, steers_kernel};
use crate::read::{offset, read};
use crate::verdict::{ALLOW, unless};

const MAY_WRITE: i32 = 2;

/// Whether an inode may be written, asked before it is opened, for `access`, and for a cgroup
/// that a process is to be moved or cloned into. procfs is decided at `file_open`, which knows
/// the name.
#[lsm(hook = "inode_permission")]
pub fn inode_permission(ctx: LsmContext) -> i32 {
    let mask: i32 = ctx.arg(1);
    if mask & MAY_WRITE == 0 || !held() {
        return ALLOW;
    }
    let magic = magic(ctx.arg::<*const u8>(0) as u64);
    unless(magic.map(|magic| magic == PROC || !steers_kernel(magic)), Hook::InodePermission)
}

/// Programs that look at one entry, the Nth argument. `stays` entries may not go either where a
/// protected directory lies below them.
macro_rules! entry {
    ($($name:ident $hook:tt $as:ident $which:literal $limit:expr;)*) => {
        $(
            #[lsm(hook = $hook)]
            pub fn $name(ctx: LsmContext) -> i32 {
                if !held() {
                    return ALLOW;
                }
                unless(may_change(ctx.arg::<*const u8>($which) as u64, $limit), Hook::$as)
            }
        )*
    };
}

entry! {
    inode_create "inode_create" InodeCreate 1 FIXED;
    inode_symlink "inode_symlink" InodeSymlink 1 FIXED;
    inode_mkdir "inode_mkdir" InodeMkdir 1 FIXED;
    inode_mknod "inode_mknod" InodeMknod 1 FIXED;
    inode_unlink "inode_unlink" InodeUnlink 1 0;
    inode_rmdir "inode_rmdir" InodeRmdir 1 0;
    // Until Linux 6.1 the entry comes first; then the mount's id map does.
    inode_setattr "inode_setattr" InodeSetattr 0 FIXED;
    inode_setattr_idmap "inode_setattr" InodeSetattr 1 FIXED;
    inode_setxattr "inode_setxattr" InodeSetxattr 1 FIXED;
    inode_removexattr "inode_removexattr" InodeRemovexattr 1 FIXED;
    inode_set_acl "inode_set_acl" InodeSetAcl 1 FIXED;
    inode_remove_acl "inode_remove_acl" InodeRemoveAcl 1 FIXED;
    inode_file_setattr "inode_file_setattr" InodeFileSetattr 0 FIXED;
}

/// Another name for what is protected, or a name in a protected directory.
#[lsm(hook = "inode_link")]
pub fn inode_link(ctx: LsmContext) -> i32 {
    if !held() {
        return ALLOW;
    }
    let (old, new) = (ctx.arg::<*const u8>(0) as u64, ctx.arg::<*const u8>(2) as u64);
    unless(both(may_change(old, FIXED), may_change(new, FIXED)), Hook::InodeLink)
}

/// Either entry may be replaced by the other.
#[lsm(hook = "inode_rename")]
pub fn inode_rename(ctx: LsmContext) -> i32 {
    if !held() {
        return ALLOW;
    }
    let (old, new) = (ctx.arg::<*const u8>(1) as u64, ctx.arg::<*const u8>(3) as u64);
    unless(both(may_change(old, 0), may_change(new, 0)), Hook::InodeRename)
}

/// Whether an entry is protected no more than `limit`, and is none of the kernel's controls.
#[inline(always)]
fn may_change(entry: u64, limit: u32) -> Result<bool, i32> {
    let super_block: u64 = read(entry, offset!(dentry_d_sb))?;
    if steers_kernel(read(super_block, offset!(super_block_s_magic))?) {
        return Ok(false);
    }
    Ok(protection(entry) <= limit)
}

#[inline(always)]
fn both(one: Result<bool, i32>, other: Result<bool, i32>) -> Result<bool, i32> {
    Ok(one? && other?)
}
