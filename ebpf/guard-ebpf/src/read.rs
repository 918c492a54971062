//! Reads of kernel structures, at the offsets that the daemon found in this kernel's BTF.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use redirect_common::guard::GuardOffsets;

/// Set by the daemon before it loads the programs.
#[unsafe(no_mangle)]
static GUARD_OFFSETS: GuardOffsets = GuardOffsets {
    task_cgroups: 0,
    task_pid_links: 0,
    css_set_dfl_cgrp: 0,
    cgroup_level: 0,
    cgroup_ancestors: 0,
    cgroup_kn: 0,
    kernfs_node_id: 0,
    proc_inode_pid: 0,
    proc_inode_vfs_inode: 0,
    pid_tasks: 0,
    socket_sk: 0,
    sock_family: 0,
    sock_cgroup: 0,
    unix_sock_dentry: 0,
    dentry_d_parent: 0,
    dentry_d_inode: 0,
    dentry_d_sb: 0,
    dentry_name: 0,
    super_block_s_root: 0,
    super_block_s_magic: 0,
    super_block_s_dev: 0,
    inode_i_mode: 0,
    inode_i_rdev: 0,
    inode_i_ino: 0,
    inode_i_sb: 0,
    file_f_mode: 0,
    file_f_inode: 0,
    file_dentry: 0,
    file_private_data: 0,
    pad: 0,
};

/// One offset, by the place that the daemon put it; a volatile read, so that the compiler does
/// not fold in the zero.
macro_rules! offset {
    ($member:ident) => {
        $crate::read::volatile(&raw const $crate::read::offsets().$member)
    };
}
pub(crate) use offset;

/// The offsets, to be read through [`offset!`] only.
#[inline(always)]
pub fn offsets() -> &'static GuardOffsets {
    &GUARD_OFFSETS
}

#[inline(always)]
pub fn volatile(at: *const u32) -> u32 {
    // SAFETY: a field of a static.
    unsafe { core::ptr::read_volatile(at) }
}

/// What lies at an offset from a kernel address. An error refuses, as all do here.
#[inline(always)]
pub fn read<T>(base: u64, offset: u32) -> Result<T, i32> {
    // SAFETY: the helper checks the address; `T` is an integer or an array of bytes.
    unsafe { bpf_probe_read_kernel(base.wrapping_add(u64::from(offset)) as *const T) }
}
