//! The calling process: identity, parent, executable, enrolment.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_get_current_pid_tgid,
    bpf_get_current_task, bpf_get_current_uid_gid,
};
use redirect_common::{MAX_CGROUP_LEVEL, MODE_ENFORCE, Offsets, ProcessRecord};

use crate::maps::ENROLLED;

/// Set by the daemon before it loads the programs.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets {
    task_group_leader: 0,
    task_real_parent: 0,
    task_tgid: 0,
    task_start_boottime: 0,
    task_mm: 0,
    task_comm: 0,
    mm_exe_file: 0,
    file_f_inode: 0,
    inode_i_ino: 0,
    inode_i_sb: 0,
    super_block_s_dev: 0,
    pad: 0,
};

/// The nearest enrolled cgroup at or above the caller's, if connections from it are to be
/// redirected. None where none is enrolled, the nearest is revoked, or the caller is too deep.
#[inline(always)]
pub fn enrolled() -> Option<u64> {
    if ancestor(MAX_CGROUP_LEVEL) != 0 {
        return None;
    }
    let mut level = MAX_CGROUP_LEVEL - 1;
    while level >= 0 {
        let id = ancestor(level);
        if id != 0 {
            // SAFETY: the value is one word, written whole by the daemon.
            if let Some(mode) = unsafe { ENROLLED.get(id) } {
                return if *mode == MODE_ENFORCE { Some(id) } else { None };
            }
        }
        level -= 1;
    }
    None
}

/// The nearest enrolled cgroup in whatever mode, or the caller's own: for telling, not deciding.
#[inline(always)]
pub fn enrolled_or_own() -> u64 {
    let mut level = MAX_CGROUP_LEVEL - 1;
    while level >= 0 {
        let id = ancestor(level);
        // SAFETY: only whether there is a value is looked at.
        if id != 0 && unsafe { ENROLLED.get(id) }.is_some() {
            return id;
        }
        level -= 1;
    }
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_current_cgroup_id() }
}

/// The caller's thread group id in the initial pid namespace.
#[inline(always)]
pub fn tgid() -> u32 {
    // SAFETY: a helper without arguments.
    unsafe { (bpf_get_current_pid_tgid() >> 32) as u32 }
}

/// Fills in who calls. The group leader stands for the process: the current task may be any of
/// its threads or an io_uring worker. An error means that an identity could not be read.
#[inline(always)]
pub fn describe(process: &mut ProcessRecord) -> Result<(), i32> {
    // SAFETY: a read_volatile of a static, so that the compiler does not fold in the zeros.
    let at = unsafe { core::ptr::read_volatile(&raw const OFFSETS) };
    // SAFETY: helpers without arguments.
    let (task, ids, cgroup) =
        unsafe { (bpf_get_current_task(), bpf_get_current_uid_gid(), bpf_get_current_cgroup_id()) };
    process.cgroup = cgroup;
    process.uid = ids as u32;
    process.gid = (ids >> 32) as u32;

    let leader: u64 = read(task, at.task_group_leader)?;
    process.tgid = read(leader, at.task_tgid)?;
    process.start_ns = read(leader, at.task_start_boottime)?;
    process.comm = read(leader, at.task_comm)?;

    let parent: u64 = read(leader, at.task_real_parent)?;
    let parent: u64 = read(parent, at.task_group_leader)?;
    process.parent_tgid = read(parent, at.task_tgid)?;
    process.parent_start_ns = read(parent, at.task_start_boottime)?;

    let (dev, ino) = executable(leader, &at).unwrap_or((0, 0));
    process.exe_dev = dev;
    process.exe_ino = ino;
    process.pad = 0;
    Ok(())
}

/// Device and inode of the executable; an error for a leader that has ended (its threads live on).
#[inline(always)]
fn executable(leader: u64, at: &Offsets) -> Result<(u32, u64), i32> {
    let mm: u64 = read(leader, at.task_mm)?;
    let file: u64 = read(mm, at.mm_exe_file)?;
    let inode: u64 = read(file, at.file_f_inode)?;
    let super_block: u64 = read(inode, at.inode_i_sb)?;
    Ok((read(super_block, at.super_block_s_dev)?, read(inode, at.inode_i_ino)?))
}

#[inline(always)]
fn read<T>(base: u64, offset: u32) -> Result<T, i32> {
    // SAFETY: the helper checks the address; `T` is an integer or an array of bytes.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const T) }
}

#[inline(always)]
fn ancestor(level: i32) -> u64 {
    // SAFETY: any level may be asked for; 0 answers a level below the caller's own.
    unsafe { bpf_get_current_ancestor_cgroup_id(level) }
}
